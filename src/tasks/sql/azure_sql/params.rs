//! Values of JSON as parameters `@P1`, `@P2`: numbers with all their digits, text as text, which the server reads as what
//! the statement wants.

use serde_json::{Number, Value};
use tiberius::ColumnData;
use tiberius::numeric::Numeric;

/// Most digits of a `decimal`.
const DIGITS_MAX: u32 = 38;

/// Values for the parameters of a statement, in order.
pub(super) fn bind(sql: &str, values: &[Value]) -> Result<Vec<ColumnData<'static>>, String> {
    let wanted = wanted(sql);
    if wanted != values.len() {
        return Err(format!(
            "the statement has {wanted} parameters, written `@P1`, `@P2` and so on, and `params` has {} values",
            values.len()
        ));
    }
    Ok(values.iter().map(param).collect())
}

fn param(value: &Value) -> ColumnData<'static> {
    match value {
        Value::Null => ColumnData::String(None),
        Value::Bool(value) => ColumnData::Bit(Some(*value)),
        Value::Number(number) => self::number(number),
        Value::String(text) => ColumnData::String(Some(text.clone().into())),
        Value::Array(_) | Value::Object(_) => ColumnData::String(Some(value.to_string().into())),
    }
}

/// A number as the narrowest of `bigint` and `decimal` that has all of it; as text when none has.
fn number(number: &Number) -> ColumnData<'static> {
    if let Some(whole) = number.as_i64() {
        return ColumnData::I64(Some(whole));
    }
    let text = number.to_string();
    match decimal(&text) {
        Some(exact) => ColumnData::Numeric(Some(exact)),
        None => ColumnData::String(Some(text.into())),
    }
}

/// Reads a number of JSON, with or without an exponent.
fn decimal(text: &str) -> Option<Numeric> {
    let (mantissa, exponent) =
        text.split_once(['e', 'E']).map_or((text, "0"), |(mantissa, exponent)| (mantissa, exponent));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut value: i128 = format!("{whole}{part}").parse().ok()?;
    let mut scale = i32::try_from(part.len()).ok()?.checked_sub(exponent)?;
    if scale < 0 {
        value = value.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
        scale = 0;
    }
    let scale = u8::try_from(scale).ok().filter(|scale| u32::from(*scale) < DIGITS_MAX)?;
    (value.unsigned_abs() < 10_u128.pow(DIGITS_MAX)).then(|| Numeric::new_with_scale(value, scale))
}

/// How many parameters a statement has: the highest number behind `@P`, outside of texts, names and comments.
fn wanted(sql: &str) -> usize {
    let bytes = sql.as_bytes();
    let (mut place, mut highest) = (0, 0);
    while let Some(byte) = bytes.get(place) {
        let rest = &bytes[place..];
        place += match byte {
            b'\'' | b'"' => 1 + until(&rest[1..], &[*byte]),
            b'[' => bracketed(rest),
            b'-' if rest.starts_with(b"--") => until(rest, b"\n"),
            b'/' if rest.starts_with(b"/*") => comment(rest),
            b'@' => {
                let name = rest[1..].iter().take_while(|byte| is_of_name(**byte)).count();
                if let [b'P' | b'p', digits @ ..] = &rest[1..=name]
                    && let Some(number) = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok())
                {
                    highest = highest.max(number);
                }
                1 + name
            }
            // A name may have `@` inside.
            byte if is_of_name(*byte) => rest.iter().take_while(|byte| is_of_name(**byte)).count(),
            _ => 1,
        };
    }
    highest
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'@' | b'#' | b'$') || !byte.is_ascii()
}

/// How many bytes there are until the end of what ends so, that included.
fn until(bytes: &[u8], end: &[u8]) -> usize {
    bytes.windows(end.len()).position(|found| found == end).map_or(bytes.len(), |place| place + end.len())
}

/// The length of a name in brackets; two closing ones are one that belongs to the name.
fn bracketed(bytes: &[u8]) -> usize {
    let mut place = 1;
    loop {
        place += until(&bytes[place..], b"]");
        if bytes.get(place) != Some(&b']') {
            return place;
        }
        place += 1;
    }
}

/// The length of a comment, which may hold others.
fn comment(bytes: &[u8]) -> usize {
    let (mut place, mut depth) = (0, 0_usize);
    while place < bytes.len() {
        if bytes[place..].starts_with(b"/*") {
            depth += 1;
            place += 2;
        } else if bytes[place..].starts_with(b"*/") {
            depth -= 1;
            place += 2;
            if depth == 0 {
                return place;
            }
        } else {
            place += 1;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        for (json, value, scale) in [
            ("12345678901234567890.123456789", 12_345_678_901_234_567_890_123_456_789, 9),
            ("-0.50", -50, 2),
            ("1.5e3", 1500, 0),
            ("1e-3", 1, 3),
            ("18446744073709551615", 18_446_744_073_709_551_615, 0),
        ] {
            let number: Number = serde_json::from_str(json).unwrap();
            let ColumnData::Numeric(Some(found)) = super::number(&number) else { panic!("{json}") };
            assert_eq!((found.value(), found.scale()), (value, scale), "{json}");
        }
        assert_eq!(param(&Value::from(-9_007_199_254_740_993_i64)), ColumnData::I64(Some(-9_007_199_254_740_993)));
        for json in ["1e400", "0.1e-60", "123456789012345678901234567890123456789"] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert!(matches!(param(&value), ColumnData::String(Some(_))), "{json}");
        }
    }

    #[test]
    fn parameters_are_counted() {
        for (sql, expected) in [
            ("SELECT @P1, @P2, @P1", 2),
            ("SELECT $1", 0),
            ("SELECT '@P1', \"@P2\", [@P3] -- @P4\n, @p5 /* @P6 /* @P7 */ @P8 */", 5),
            ("SELECT @Price, @@ROWCOUNT, @P1x, a@P2", 0),
            ("SELECT 'it''s @P9', N'@P8', @P1", 1),
            ("SELECT '@P1", 0),
            ("SELECT [a]]@P3], @P1 --", 1),
            ("SELECT [a]]]@P3, [@P9]]", 3),
            ("SELECT [", 0),
            ("SELECT [a]]", 0),
        ] {
            assert_eq!(wanted(sql), expected, "{sql}");
        }
        assert!(bind("SELECT $1", &[Value::Null]).is_err());
        assert_eq!(bind("SELECT @P1", &[Value::Null]).unwrap(), [ColumnData::String(None)]);
    }
}
