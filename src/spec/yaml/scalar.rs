//! What an unquoted scalar means: the YAML 1.2 core schema, made a little safer.
//!
//! Source of the rules: YAML 1.2.2, section 10.3.2. One departure: a number with a leading zero stays text,
//! so that `012`, a phone number or an order number with zeros in front keeps every digit.

use serde_json::{Number, Value};

/// What an unquoted scalar turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar {
    Value(Value),
    /// `.inf` or `.nan`, which JSON does not have.
    NotFinite,
}

/// Reads an unquoted scalar.
pub(super) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Value(Value::Null),
        "true" | "True" | "TRUE" => Scalar::Value(Value::Bool(true)),
        "false" | "False" | "FALSE" => Scalar::Value(Value::Bool(false)),
        _ if is_not_finite(text) => Scalar::NotFinite,
        _ => Scalar::Value(number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)),
    }
}

fn is_not_finite(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// The number that `text` is, with all its digits. `None` for everything that stays text.
fn number(text: &str) -> Option<Number> {
    let radix = |digits: &str, radix| Some(u128::from_str_radix(digits, radix).ok()?.to_string());
    let json = match text.as_bytes() {
        [b'0', b'x', first, ..] if first.is_ascii_hexdigit() => radix(&text[2..], 16)?,
        [b'0', b'o', first, ..] if first.is_ascii_digit() => radix(&text[2..], 8)?,
        _ => decimal(text)?,
    };
    json.parse().ok()
}

/// Checks `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?` and writes it as JSON.
fn decimal(text: &str) -> Option<String> {
    let sign = if text.starts_with('-') { "-" } else { "" };
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let has_digits = !whole.is_empty() || fraction.is_some_and(|fraction| !fraction.is_empty());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if !has_digits || leading_zero || !digits(whole) || !fraction.is_none_or(digits) {
        return None;
    }
    if let Some(exponent) = exponent {
        let power = exponent[1..].strip_prefix(['-', '+']).unwrap_or(&exponent[1..]);
        if power.is_empty() || !digits(power) {
            return None;
        }
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = match fraction {
        None => String::new(),
        Some("") => ".0".to_owned(),
        Some(fraction) => format!(".{fraction}"),
    };
    Some(format!("{sign}{whole}{fraction}{}", exponent.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        for text in [
            "NO",
            "no",
            "on",
            "yes",
            "y",
            "off",
            "012",
            "-07",
            "12:30",
            "1_000",
            "0x",
            "0o9",
            "1.2.3",
            "1e",
            "e5",
            ".",
            "-",
            "+",
            "0xZZ",
            "١٢",
            "2026-11-01",
            "00.5",
            "=",
            "nan",
            "inf",
            "tRUE",
        ] {
            assert_eq!(resolve(text), Scalar::Value(Value::String(text.to_owned())));
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        for (text, json) in [
            ("0", "0"),
            ("-0", "-0"),
            ("+12", "12"),
            ("9007199254740993123", "9007199254740993123"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("1.10", "1.10"),
            (".5", "0.5"),
            ("5.", "5.0"),
            ("-1.5e-3", "-1.5e-3"),
            ("0o17", "15"),
            ("0x1F", "31"),
        ] {
            let Scalar::Value(Value::Number(number)) = resolve(text) else { panic!("{text} is no number") };
            assert_eq!(number.to_string(), json);
        }
    }

    #[test]
    fn words_of_the_core_schema() {
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(resolve(text), Scalar::Value(Value::Null));
        }
        for (text, bool) in [("true", true), ("True", true), ("FALSE", false)] {
            assert_eq!(resolve(text), Scalar::Value(Value::Bool(bool)));
        }
        for text in [".inf", "-.INF", "+.Inf", ".nan", ".NaN"] {
            assert_eq!(resolve(text), Scalar::NotFinite);
        }
    }
}
