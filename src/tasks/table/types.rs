//! What a column of text is to be read as.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Number, Value};

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::tasks) enum ColumnType {
    /// Text as it is.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// An exact decimal; stays text, see the `decimal_…` functions.
    Decimal,
    /// `true` or `false`, `yes` or `no`, `1` or `0`.
    Boolean,
}

impl ColumnType {
    /// Reads a cell as this type; text without anything in it is null, but for `text`. The error says what it is not.
    pub(in crate::tasks) fn read(self, cell: Value) -> Result<Value, String> {
        let text = match &cell {
            Value::Null => return Ok(cell),
            Value::String(text) if self == Self::Text => return Ok(Value::String(text.clone())),
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            other => other.to_string(),
        };
        if text.is_empty() {
            return Ok(Value::Null);
        }
        let shown = || format!("`{}`", text.chars().take(40).collect::<String>());
        match self {
            Self::Text => Ok(Value::String(text)),
            Self::Integer => match text.parse::<i64>() {
                Ok(number) => Ok(Value::Number(Number::from(number))),
                Err(_) => Err(format!("{} is no whole number of 64 bits", shown())),
            },
            Self::Decimal if is_decimal(&text) => Ok(Value::String(text)),
            Self::Decimal => Err(format!("{} is no decimal", shown())),
            Self::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" | "t" | "y" => Ok(Value::Bool(true)),
                "false" | "no" | "0" | "f" | "n" => Ok(Value::Bool(false)),
                _ => Err(format!("{} is neither true nor false", shown())),
            },
        }
    }
}

/// Digits with at most one point among them, and a sign before them.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    plain(whole) && plain(rest) && whole.len() + rest.len() > 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_read_exactly_or_not_at_all() {
        use ColumnType::{Boolean, Decimal, Integer, Text};
        for (of, text, expected) in [
            (Integer, " 9007199254740993 ", Some(json!(9_007_199_254_740_993_i64))),
            (Integer, "9223372036854775808", None),
            (Integer, "1.0", None),
            (Integer, "", Some(Value::Null)),
            (Decimal, "-0012345678901234567890.10", Some(json!("-0012345678901234567890.10"))),
            (Decimal, "1e5", None),
            (Decimal, ".", None),
            (Boolean, "YES", Some(json!(true))),
            (Boolean, "perhaps", None),
            (Text, " a ", Some(json!(" a "))),
            (Text, "", Some(json!(""))),
        ] {
            assert_eq!(of.read(json!(text)).ok(), expected, "{of:?} {text}");
        }
        assert_eq!(Text.read(json!([1])), Ok(json!("[1]")));
    }
}
