//! Reads a few top-level members of a body that has been verified: an event's id, a handshake's challenge.
//! It builds nothing else of the body and never fails: a body that is not a JSON object has no members.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The named members, as text; numbers keep their digits, anything else counts as absent.
pub(super) fn read<const N: usize>(body: &[u8], names: [&str; N]) -> [Option<String>; N] {
    // Some .NET senders put a byte order mark before the JSON; it is signed like everything else.
    let json = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let members = Members(names).deserialize(&mut deserializer);
    members.ok().filter(|_| deserializer.end().is_ok()).unwrap_or_else(|| names.map(|_| None))
}

struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<String>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<String>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = self.0.map(|_| None);
        while let Some(name) = map.next_key::<String>()? {
            match self.0.iter().position(|wanted| *wanted == name) {
                Some(place) => found[place] = text_of(map.next_value::<&RawValue>()?.get()),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

fn text_of(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok(),
        b'-' | b'0'..=b'9' => Some(json.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, id: Option<&str>, kind: Option<&str>) {
        let [found_id, found_kind] = read(body.as_bytes(), ["id", "type"]);
        assert_eq!((found_id.as_deref(), found_kind.as_deref()), (id, kind), "{body}");
    }

    #[test]
    fn only_top_level_text_and_numbers_are_read() {
        check(r#"{"id":"evt_1","type":"a","data":{"id":"no","type":["no"]}}"#, Some("evt_1"), Some("a"));
        check(r#" {"data":{"id":"no"},"id":90071992547409931234.50} "#, Some("90071992547409931234.50"), None);
        check("\u{feff}{\"id\":\"\\u8ba2\\u5355\"}", Some("订单"), None);
        check(r#"{"id":null,"type":{"a":1}}"#, None, None);
        check(r#"{"id":"a"} x"#, None, None);
        check(r#"{"id":"a""#, None, None);
        check(r#"[{"id":"a"}]"#, None, None);
        check(r#"{"id":"\ud800"}"#, None, None);
        check("id=a&type=b", None, None);
        check("", None, None);
        // Depth costs no stack: what is not wanted is skipped without recursion.
        let deep = format!("{{\"x\":{}1{},\"id\":\"a\"}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(deep.as_bytes(), ["id"]), [Some("a".to_owned())]);
    }
}
