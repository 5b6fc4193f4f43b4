//! Bodies as expressions see them.

use serde_json::{Map, Value};

/// A body as expressions see it: JSON when it is JSON, an object for a form, otherwise text; null when it is empty or
/// not text.
pub fn read(content_type: &str, body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    if content_type.starts_with("application/x-www-form-urlencoded") {
        return Value::Object(pairs(body));
    }
    // Some senders label JSON as text, and some put a byte order mark before it.
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(text)
        .unwrap_or_else(|_| std::str::from_utf8(body).map_or(Value::Null, |text| Value::String(text.to_owned())))
}

/// The pairs of a query or a form, decoded; of a name that stands twice the last counts.
pub fn pairs(text: &[u8]) -> Map<String, Value> {
    let pairs = url::form_urlencoded::parse(text);
    pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(content_type: &str, body: &[u8], expected: &Value) {
        assert_eq!(read(content_type, body), *expected);
    }

    #[test]
    fn bodies_are_read_by_what_they_are() {
        check("application/json", b"{\"a\": 1}", &json!({"a": 1}));
        check("text/plain; charset=UTF-8", b"\xef\xbb\xbf[1]", &json!([1]));
        check("application/x-www-form-urlencoded", b"a=1&b=%E8%AE%A2", &json!({"a": "1", "b": "订"}));
        check("text/plain", "你好".as_bytes(), &json!("你好"));
        check("application/octet-stream", &[0xff, 0x00], &Value::Null);
        check("application/json", b"", &Value::Null);
    }
}
