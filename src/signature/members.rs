//! Reads a few top-level members of a body that has been verified: an event's id, a handshake's challenge.
//! It builds nothing else of the body and never fails: a body that is not a JSON object has no members.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A way into a JSON object: the names of members from the outside in.
pub(super) type Place = &'static [&'static str];

/// The named members, as text; numbers keep their digits, anything else counts as absent.
pub(super) fn read<const N: usize>(body: &[u8], names: [&str; N]) -> [Option<String>; N] {
    raw(body, names).map(|found| found.and_then(|json| text_of(json.get())))
}

/// The named members of the object that is the member `outer`, as text.
pub(super) fn below<const N: usize>(body: &[u8], outer: &str, names: [&str; N]) -> [Option<String>; N] {
    let [object] = raw(body, [outer]);
    object.map_or_else(|| names.map(|_| None), |object| read(object.get().as_bytes(), names))
}

/// The text or number at a place.
pub(super) fn at(body: &[u8], place: &[&str]) -> Option<String> {
    let (last, outer) = place.split_last()?;
    let mut json = body;
    for name in outer {
        let [found] = raw(json, [name]);
        json = found?.get().as_bytes();
    }
    let [found] = read(json, [last]);
    found
}

/// What stands at all of these places, joined by `|`; nothing when one has nothing.
pub(super) fn joined(body: &[u8], places: &[Place]) -> Option<String> {
    places.iter().map(|place| at(body, place)).collect::<Option<Vec<_>>>().map(|found| found.join("|"))
}

/// The named members, as they are written.
pub(super) fn raw<'a, const N: usize>(body: &'a [u8], names: [&str; N]) -> [Option<&'a RawValue>; N] {
    // Some .NET senders put a byte order mark before the JSON; it is signed like everything else.
    let json = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let members = Members(names).deserialize(&mut deserializer);
    members.ok().filter(|_| deserializer.end().is_ok()).unwrap_or([None; N])
}

struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(name) = map.next_key::<String>()? {
            match self.0.iter().position(|wanted| *wanted == name) {
                Some(place) => found[place] = Some(map.next_value::<&RawValue>()?),
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
        assert_eq!(below(br#"{"id":"no","header":{"id":"a"}}"#, "header", ["id"]), [Some("a".to_owned())]);
        for none in ["{}", r#"{"header":1}"#, r#"{"header":"{}"}"#, r#"{"header":[{"id":"a"}]}"#] {
            assert_eq!(below(none.as_bytes(), "header", ["id"]), [None], "{none}");
        }
        let nested = r#"{"a":{"b":[1],"c":{"d":7}},"e":"x"}"#.as_bytes();
        assert_eq!(at(nested, &["a", "c", "d"]).as_deref(), Some("7"));
        assert_eq!(joined(nested, &[&["e"], &["a", "c", "d"]]).as_deref(), Some("x|7"));
        assert_eq!(
            (at(nested, &["a", "b", "0"]), at(nested, &[]), joined(nested, &[&["e"], &["z"]])),
            (None, None, None)
        );
        // Depth costs no stack: what is not wanted is skipped without recursion.
        let deep = format!("{{\"x\":{}1{},\"id\":\"a\"}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(deep.as_bytes(), ["id"]), [Some("a".to_owned())]);
    }
}
