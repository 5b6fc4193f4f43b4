//! Values of JSON as parameters: every one goes as text, so the server reads it as what the statement wants, and no digit
//! is lost on the way.

use bytes::BytesMut;
use serde_json::Value;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

/// One parameter.
#[derive(Debug, Clone)]
pub(super) struct Param(Option<String>);

impl ToSql for Param {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// Values for the parameters of a statement, in order.
pub(super) fn bind(values: &[Value], types: &[Type]) -> Result<Vec<Param>, String> {
    if values.len() != types.len() {
        return Err(format!("the statement has {} parameters, and `params` has {} values", types.len(), values.len()));
    }
    Ok(values.iter().zip(types).map(|(value, of)| Param(text(value, of))).collect())
}

fn text(value: &Value, of: &Type) -> Option<String> {
    let json = matches!(*of, Type::JSON | Type::JSONB);
    match (value, of.kind()) {
        (Value::Null, _) => None,
        (value, _) if json => Some(value.to_string()),
        (Value::String(text), _) => Some(text.clone()),
        (Value::Array(items), Kind::Array(of)) => {
            let item = |item: &Value| match text(item, of) {
                None => "NULL".to_owned(),
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            };
            Some(format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(",")))
        }
        (other, _) => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn values_as_text() {
        let exact: Value = serde_json::from_str("12345678901234567890.10").unwrap();
        for (value, of, expected) in [
            (json!(null), Type::TEXT, None),
            (exact, Type::NUMERIC, Some("12345678901234567890.10")),
            (json!("a\"b"), Type::TEXT, Some("a\"b")),
            (json!(["a\"\\", null, "NULL"]), Type::TEXT_ARRAY, Some(r#"{"a\"\\",NULL,"NULL"}"#)),
            (json!("a"), Type::JSONB, Some("\"a\"")),
            (json!({ "a": [1] }), Type::TEXT, Some("{\"a\":[1]}")),
            (json!(true), Type::BOOL, Some("true")),
        ] {
            assert_eq!(bind(&[value], &[of]).unwrap()[0].0.as_deref(), expected);
        }
        assert!(bind(&[], &[Type::TEXT]).is_err());
    }
}
