//! Reads the small XML of chat platforms into JSON: no DTD, no entities but the five of XML itself, and bounded in depth and
//! number, because it runs before a signature can be checked.
//!
//! The form: the root's name is dropped. An element that holds elements is an object of them; any other is its text,
//! always a string, so that no digit of an id is lost. An element that stands more than once under one parent is a list.
//! Attributes are members with an `@` before their name; text beside elements or attributes is `#text`, unless it is blank.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::{Map, Value};

use crate::limits;

/// What kept a text from being read; there is nothing to say about it to a sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl<E: std::error::Error> From<E> for Unreadable {
    fn from(_: E) -> Self {
        Self
    }
}

/// An element that is not closed yet.
struct Element {
    name: String,
    members: Map<String, Value>,
    text: String,
}

/// The root element as JSON.
pub(super) fn read(text: &str) -> Result<Value, Unreadable> {
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0;
    loop {
        match reader.read_event()? {
            Event::Start(start) => {
                elements += 1;
                let allowed = open.len() < limits::XML_DEPTH_MAX && elements <= limits::XML_ELEMENTS_MAX;
                if !allowed || root.is_some() {
                    return Err(Unreadable);
                }
                open.push(begun(&start)?);
            }
            Event::End(_) => {
                let Element { name, members, text } = open.pop().ok_or(Unreadable)?;
                let value = value(members, text);
                match open.last_mut() {
                    Some(parent) => add(&mut parent.members, name, value),
                    None => root = Some(value),
                }
            }
            Event::Text(piece) => write(&mut open, &piece.xml10_content()?)?,
            Event::CData(piece) => write(&mut open, &piece.xml10_content()?)?,
            Event::GeneralRef(name) => write(&mut open, resolved(&name)?.encode_utf8(&mut [0; 4]))?,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            // Empty elements were expanded, so there are none.
            Event::DocType(_) | Event::Empty(_) => return Err(Unreadable),
            Event::Eof => return root.filter(|_| open.is_empty()).ok_or(Unreadable),
        }
    }
}

/// A text of the root's child of this name, which stands there once.
pub(super) fn child(root: &Value, name: &str) -> Option<String> {
    root.get(name).and_then(Value::as_str).map(Into::into)
}

fn begun(start: &BytesStart<'_>) -> Result<Element, Unreadable> {
    let name = str::from_utf8(start.name().into_inner())?.to_owned();
    let mut members = Map::new();
    // Checked here and not by the reader, whose check costs the square of their number.
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute?;
        let name = format!("@{}", str::from_utf8(attribute.key.into_inner())?);
        let value = attribute.normalized_value(XmlVersion::Implicit1_0)?.into_owned();
        if members.len() == limits::XML_ATTRIBUTES_MAX || members.insert(name, Value::String(value)).is_some() {
            return Err(Unreadable);
        }
    }
    Ok(Element { name, members, text: String::new() })
}

/// Adds text to the innermost element; outside the root only blanks may stand.
fn write(open: &mut [Element], text: &str) -> Result<(), Unreadable> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(Unreadable),
    }
    Ok(())
}

fn resolved(name: &BytesRef<'_>) -> Result<char, Unreadable> {
    if let Some(char) = name.resolve_char_ref()? {
        return Ok(char);
    }
    match &*name.decode()? {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(Unreadable),
    }
}

fn value(mut members: Map<String, Value>, text: String) -> Value {
    if members.is_empty() {
        return Value::String(text);
    }
    if !text.trim().is_empty() {
        members.insert("#text".to_owned(), Value::String(text));
    }
    Value::Object(members)
}

fn add(members: &mut Map<String, Value>, name: String, value: Value) {
    match members.get_mut(&name) {
        None => drop(members.insert(name, value)),
        Some(Value::Array(list)) => list.push(value),
        Some(one) => *one = Value::Array(vec![one.take(), value]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Value) {
        assert_eq!(read(text).as_ref(), Ok(expected), "{text}");
    }

    #[test]
    fn every_part_has_its_place() {
        check("<xml><A>1</A><B><![CDATA[<b>&amp;]]></B></xml>", &json!({ "A": "1", "B": "<b>&amp;" }));
        check("\u{feff}<?xml version=\"1.0\"?>\n<xml>\n  <A>007</A>\n</xml>\n", &json!({ "A": "007" }));
        check("<xml><A/><B></B><C> x </C></xml>", &json!({ "A": "", "B": "", "C": " x " }));
        check(
            "<xml><I><a>1</a></I><I><a>2</a></I><J>1</J></xml>",
            &json!({ "I": [{ "a": "1" }, { "a": "2" }], "J": "1" }),
        );
        check("<xml><L>1</L><L/><L>3</L></xml>", &json!({ "L": ["1", "", "3"] }));
        check("<xml><A b='1&amp;2' c=\"\">t</A></xml>", &json!({ "A": { "@b": "1&2", "@c": "", "#text": "t" } }));
        check("<xml>&#35746;&#x5355;&lt;&gt;&amp;&quot;&apos;</xml>", &json!("订单<>&\"'"));
        check("<xml>a<!-- no --><![CDATA[b]]>c</xml>", &json!("abc"));
        check("<订单><号>一</号></订单>", &json!({ "号": "一" }));
    }

    #[test]
    fn what_is_not_plain_xml_is_not_read() {
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(read(&deep(limits::XML_DEPTH_MAX)).is_ok());
        let many = |count: usize| format!("<xml>{}</xml>", "<a/>".repeat(count));
        assert!(read(&many(limits::XML_ELEMENTS_MAX - 1)).is_ok());
        let attributes = |count: usize| {
            let list: Vec<_> = (0..count).map(|place| format!("a{place}=''")).collect();
            format!("<xml {}/>", list.join(" "))
        };
        assert!(read(&attributes(limits::XML_ATTRIBUTES_MAX)).is_ok());
        for bad in [
            "",
            " ",
            "text",
            "<xml>",
            "<xml></lmx>",
            "</xml>",
            "<xml></xml><xml></xml>",
            "<xml></xml>text",
            "<!DOCTYPE xml><xml/>",
            "<!DOCTYPE xml [<!ENTITY a \"b\">]><xml>&a;</xml>",
            "<xml>&a;</xml>",
            "<xml>&#0;</xml>",
            "<xml>& </xml>",
            "<xml><a b='&c;'/></xml>",
            "<xml a='1' a='1'/>",
            "<xml><![CDATA[x</xml>",
            &deep(limits::XML_DEPTH_MAX + 1),
            &many(limits::XML_ELEMENTS_MAX),
            &attributes(limits::XML_ATTRIBUTES_MAX + 1),
        ] {
            assert_eq!(read(bad), Err(Unreadable), "{bad:.60}");
        }
    }
}
