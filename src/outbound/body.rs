//! Bodies of requests, each with the `Content-Type` that goes with it. It holds bytes, never streams: a body that
//! may be sent again must be there again.

use std::fmt;

use bytes::Bytes;
use http::header::HeaderValue;
use url::form_urlencoded;

use super::error::Cause;

/// The bytes of a request and what they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Body {
    pub bytes: Bytes,
    /// Sent as `Content-Type` unless the request has one.
    pub content_type: Option<HeaderValue>,
    /// It holds a secret: a redirect to another origin that would send it there is not followed.
    pub sensitive: bool,
}

impl Body {
    /// JSON, numbers as they were written.
    pub fn json(value: &serde_json::Value) -> Self {
        Self::of(value.to_string(), "application/json")
    }

    /// Plain text in UTF-8.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(text.into(), "text/plain; charset=utf-8")
    }

    /// Bytes as they are; `content_type` may be any that fits a header.
    pub fn raw(bytes: impl Into<Bytes>, content_type: Option<&str>) -> Result<Self, Cause> {
        let content_type = content_type.map(header_value).transpose()?;
        Ok(Self { bytes: bytes.into(), content_type, sensitive: false })
    }

    /// Pairs as an HTML form sends them (`application/x-www-form-urlencoded`, WHATWG URL Standard section 5).
    pub fn form<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(pairs);
        Self::of(form.finish(), "application/x-www-form-urlencoded")
    }

    /// Fields and files (`multipart/form-data`, RFC 7578), in their order.
    pub fn multipart(parts: &[Part]) -> Result<Self, Cause> {
        let boundary = boundary(parts);
        let mut bytes = Vec::new();
        for part in parts {
            part.write(&boundary, &mut bytes)?;
        }
        bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        Self::raw(bytes, Some(&format!("multipart/form-data; boundary={boundary}")))
    }

    /// The same body, marked as holding a secret.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    fn of(text: String, content_type: &'static str) -> Self {
        Self { bytes: text.into(), content_type: Some(HeaderValue::from_static(content_type)), sensitive: false }
    }
}

/// Says how large it is and what it is, not what is in it.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes, {:?})", self.bytes.len(), self.content_type)
    }
}

/// One field or file of a multipart body.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    /// The field's name.
    pub name: String,
    /// The file's name; makes the part a file.
    pub file_name: Option<String>,
    /// The part's own type. A field has none by default, a file `application/octet-stream`.
    pub content_type: Option<String>,
    pub bytes: Bytes,
}

impl Part {
    /// A field with a value.
    pub fn field(name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), file_name: None, content_type: None, bytes: value.into() }
    }

    /// A file with its name and content.
    pub fn file(name: impl Into<String>, file_name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { name: name.into(), file_name: Some(file_name.into()), content_type: None, bytes: bytes.into() }
    }

    fn write(&self, boundary: &str, out: &mut Vec<u8>) -> Result<(), Cause> {
        out.extend_from_slice(
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", quoted(&self.name)).as_bytes(),
        );
        if let Some(file_name) = &self.file_name {
            out.extend_from_slice(format!("; filename=\"{}\"", quoted(file_name)).as_bytes());
        }
        let content_type = match (&self.content_type, &self.file_name) {
            (Some(content_type), _) => Some(content_type.as_str()),
            (None, Some(_)) => Some("application/octet-stream"),
            (None, None) => None,
        };
        if let Some(content_type) = content_type {
            out.extend_from_slice(b"\r\nContent-Type: ");
            out.extend_from_slice(header_value(content_type)?.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.bytes);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// A name inside the quotes of a `Content-Disposition`, escaped as browsers do (WHATWG HTML, multipart form data).
fn quoted(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '"' => quoted.push_str("%22"),
            control if control.is_ascii_control() => {
                quoted.push('%');
                quoted.push_str(&data_encoding::HEXUPPER.encode(&[control as u8]));
            }
            plain => quoted.push(plain),
        }
    }
    quoted
}

/// A random line that occurs in no part.
fn boundary(parts: &[Part]) -> String {
    loop {
        let boundary = format!("clawhook-{:032x}", rand::random::<u128>());
        let finder = |part: &Part| part.bytes.windows(boundary.len()).any(|window| window == boundary.as_bytes());
        if !parts.iter().any(finder) {
            return boundary;
        }
    }
}

fn header_value(content_type: &str) -> Result<HeaderValue, Cause> {
    HeaderValue::from_str(content_type)
        .map_err(|_| Cause::BadHeader { name: "content-type".into(), why: "the value holds a control character" })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[track_caller]
    fn check(body: &Body, content_type: &str, expected: &str) {
        assert_eq!(body.content_type.as_ref().unwrap(), content_type);
        assert_eq!(std::str::from_utf8(&body.bytes).unwrap(), expected);
    }

    #[test]
    fn bodies_bring_their_type() {
        let exact: serde_json::Value = serde_json::from_str(r#"{"id":12345678901234567890123,"p":1.10}"#).unwrap();
        check(&Body::json(&exact), "application/json", r#"{"id":12345678901234567890123,"p":1.10}"#);
        check(&Body::text("订单"), "text/plain; charset=utf-8", "订单");
        let form = Body::form([("a b", "1&2"), ("ü", "~*")]);
        check(&form, "application/x-www-form-urlencoded", "a+b=1%262&%C3%BC=%7E*");
        assert!(Body::raw("x", Some("a\r\nb")).is_err());
    }

    #[test]
    fn parts_cannot_break_out() {
        let mut file = Part::file("f\"; x=\"", "订单\r\nX: 1.csv", "a,b\r\n");
        let parts = [Part::field("note", "--clawhook-"), file.clone()];
        let body = Body::multipart(&parts).unwrap();
        let content_type = body.content_type.as_ref().unwrap().to_str().unwrap();
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let expected = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n--clawhook-\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"f%22; x=%22\"; filename=\"订单%0D%0AX: 1.csv\"\r\n\
             Content-Type: application/octet-stream\r\n\r\na,b\r\n\r\n--{boundary}--\r\n"
        );
        assert_eq!(std::str::from_utf8(&body.bytes).unwrap(), expected);
        file.content_type = Some("text/csv\r\nX: 1".into());
        assert!(Body::multipart(&[file]).is_err());
    }
}
