//! What a task must leave no copy of: paths that are blanked in its requests and answers before anybody looks at them.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use url::Url;

use crate::expr::JsonPath;

/// What stands where a whole body was blanked.
const BLANK: &str = "[redacted]";

/// The paths of `redact`. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Redaction(Arc<[JsonPath]>);

impl Redaction {
    /// Blanks what these paths match.
    pub fn new(paths: Vec<JsonPath>) -> Self {
        Self(paths.into())
    }

    /// Whether nothing is to be blanked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Blanks a value in place.
    pub fn blank(&self, value: &mut Value) {
        for path in self.0.iter() {
            path.blank(value);
        }
    }

    /// A body with everything blanked that is named: members of JSON, fields of a form. JSON is written anew, so that
    /// nothing stays which a second member of the same name hid. Of any other body it is not known what to blank, so
    /// all of it is.
    pub fn body(&self, content_type: &str, body: &Bytes) -> Bytes {
        if self.is_empty() || body.is_empty() {
            return body.clone();
        }
        if content_type.starts_with("application/x-www-form-urlencoded") {
            return self.pairs(body).into();
        }
        let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let Ok(mut value) = serde_json::from_slice::<Value>(text) else { return Bytes::from_static(BLANK.as_bytes()) };
        self.blank(&mut value);
        value.to_string().into()
    }

    /// A URL whose query is blanked as a form is.
    pub fn url(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if let Some(query) = url.query().filter(|_| !self.is_empty()) {
            let blanked = self.pairs(query.as_bytes());
            url.set_query(Some(&blanked));
        }
        url
    }

    /// Each pair by itself, so that one that stands twice is blanked twice.
    fn pairs(&self, text: &[u8]) -> String {
        let mut out = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in url::form_urlencoded::parse(text) {
            let mut one = Value::Object(Map::from_iter([(name.to_string(), Value::from(&*value))]));
            self.blank(&mut one);
            let shown = one.get(&*name).unwrap_or(&one).as_str().unwrap_or(BLANK);
            out.append_pair(&name, shown);
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn redaction(paths: &[&str]) -> Redaction {
        Redaction::new(paths.iter().map(|path| JsonPath::parse(path).expect("a path")).collect())
    }

    #[track_caller]
    fn check(paths: &[&str], content_type: &str, body: &str, expected: &str) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        assert_eq!(redaction(paths).body(content_type, &body), expected);
    }

    #[test]
    fn bodies_lose_what_is_named() {
        let json = "application/json; charset=utf-8";
        check(&["$.a"], json, r#"{"a":"Li","b":1}"#, r#"{"a":"[redacted]","b":1}"#);
        check(&["$.a.b", "$..c"], json, r#"{"a":{"b":1,"c":[2]}}"#, r#"{"a":{"b":"[redacted]","c":"[redacted]"}}"#);
        check(&["$.a.b"], json, r#"{"a":{"b":"Li"},"a":1}"#, r#"{"a":1}"#);
        check(&["$.n"], json, r#"{"id":12345678901234567890.10}"#, r#"{"id":12345678901234567890.10}"#);
        check(&["$.a"], "text/plain", "\u{feff}{\"a\":1}", r#"{"a":"[redacted]"}"#);
        check(&["$.a"], "text/csv", "a\nLi", BLANK);
        check(&["$.a"], json, r#"{"a":"Li"#, BLANK);
        check(&["$.a"], json, "", "");
        check(&[], "text/csv", "a\nLi", "a\nLi");
    }

    #[test]
    fn forms_and_queries_lose_it_every_time() {
        let form = "application/x-www-form-urlencoded";
        check(&["$.mail"], form, "mail=a%40b&n=1&mail=c", "mail=%5Bredacted%5D&n=1&mail=%5Bredacted%5D");
        check(&["$"], form, "n=1", "n=%5Bredacted%5D");
        let url = Url::parse("https://erp.example/find?mail=li%40example.com&page=2").expect("a URL");
        let shown = redaction(&["$.mail"]).url(&url);
        assert_eq!(shown.as_str(), "https://erp.example/find?mail=%5Bredacted%5D&page=2");
        assert_eq!(redaction(&[]).url(&url), url);
    }
}
