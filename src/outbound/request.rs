//! What is asked of a far end, with its bounds, and how it is kept for people to read.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use url::Url;

use super::body::Body;
use super::error::Cause;
use super::redaction::Redaction;
use crate::domain::attempt::{BodyCopy, ExchangeRequest};
use crate::domain::masking::Masker;
use crate::limits;

/// Headers that frame a message or belong to one connection (RFC 9110 sections 7.6.1 and 8.6, RFC 9113 section 8.2.2).
/// The client writes them; a second, different one is how requests are smuggled.
const OURS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// One call to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method, as written.
    pub method: Method,
    /// An absolute `http` or `https` URL without credentials in it.
    pub url: Url,
    /// Headers in the order they were added. A sensitive value is not sent to another origin and not shown by `Debug`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; it brings its `Content-Type` unless `headers` has one.
    pub body: Body,
    /// Longest that the whole call may take, redirects and body included.
    pub timeout: Duration,
    /// Longest that DNS, TCP and TLS may take together, for each connection.
    pub connect_timeout: Duration,
    /// Most bytes of the answer's body, as sent and after decompression.
    pub response_bytes_max: usize,
    /// Redirects to follow, at most `limits::REDIRECTS_MAX`; with 0 the redirect itself is the answer.
    pub redirects_max: usize,
    /// How the far end is trusted.
    pub tls: Tls,
    /// What its record must not hold.
    pub redact: Redaction,
}

/// How the far end is trusted. TLS 1.2 or later, always verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tls {
    /// Authorities in PEM that are trusted besides those of the machine.
    pub ca_pem: Option<Arc<[u8]>>,
}

impl Request {
    /// A call with the default bounds, no headers and no body.
    pub fn new(method: Method, url: &str) -> Result<Self, Cause> {
        Ok(Self {
            method,
            url: parse_url(url)?,
            headers: Vec::new(),
            body: Body::default(),
            timeout: limits::REQUEST_TIMEOUT,
            connect_timeout: limits::CONNECT_TIMEOUT,
            response_bytes_max: limits::RESPONSE_BYTES_MAX,
            redirects_max: limits::REDIRECTS_MAX,
            tls: Tls::default(),
            redact: Redaction::default(),
        })
    }

    /// Adds a header after those there are.
    pub fn header(&mut self, name: &str, value: &[u8]) -> Result<(), Cause> {
        self.add(name, value, false)
    }

    /// Adds a header that holds a secret.
    pub fn secret_header(&mut self, name: &str, value: &[u8]) -> Result<(), Cause> {
        self.add(name, value, true)
    }

    /// Whether the caller set this header.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|(there, _)| there == name)
    }

    /// The request as people see it: without what is redacted, secrets masked, the body cut at `limits::EXCHANGE_BODY_BYTES_MAX`.
    pub fn record(&self, masker: &Masker) -> ExchangeRequest {
        let headers = self.wire_headers();
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let body = &self.redact.body(content_type, &self.body.bytes);
        ExchangeRequest {
            method: self.method.to_string(),
            url: masker.mask(self.redact.url(&self.url).as_str()).into_owned(),
            headers: headers.iter().map(|(name, value)| (name.to_string(), shown(value, masker))).collect(),
            body: (!body.is_empty()).then(|| body_copy(body, masker)),
        }
    }

    /// The headers to send: the caller's, and ours where the caller set none.
    pub(super) fn wire_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 4);
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if let Some(content_type) = &self.body.content_type {
            headers.entry(header::CONTENT_TYPE).or_insert_with(|| content_type.clone());
        }
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("gzip"));
        headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
        headers
    }

    fn add(&mut self, name: &str, value: &[u8], sensitive: bool) -> Result<(), Cause> {
        let bad = |why| Cause::BadHeader { name: name.to_owned(), why };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("the name is not a header name"))?;
        if OURS.contains(&key) {
            return Err(bad("it is written by the gateway"));
        }
        let mut value = HeaderValue::from_bytes(value).map_err(|_| bad("the value holds a control character"))?;
        value.set_sensitive(sensitive);
        self.headers.push((key, value));
        Ok(())
    }
}

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("clawhook/", env!("CARGO_PKG_VERSION")));

/// Reads a URL that may be called: `http` or `https`, with a host, without credentials, not too long. The fragment
/// is dropped. Odd spellings of an IP address (`0x7f.1`, `2130706433`) become the address (WHATWG URL Standard).
pub fn parse_url(text: &str) -> Result<Url, Cause> {
    let bad = |why: &str| Cause::BadUrl { url: place_of(text), why: why.to_owned() };
    if text.len() > limits::URL_BYTES_MAX {
        return Err(bad("it is too long"));
    }
    let mut url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("only `http` and `https` are spoken"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("credentials do not belong in it"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// `host:port` of a URL, the form in which it is named in messages.
pub(super) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The part of an unreadable URL that can be shown: no credentials, path or query.
fn place_of(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host: String = host.chars().take(100).collect();
    if scheme.is_empty() { host } else { format!("{scheme}://{host}") }
}

/// A header's value as people see it. One that is sensitive but not known to the masker is hidden whole.
fn shown(value: &HeaderValue, masker: &Masker) -> String {
    let text = latin1(value.as_bytes());
    match masker.mask(&text) {
        std::borrow::Cow::Borrowed(_) if value.is_sensitive() => "[secret]".to_owned(),
        shown => shown.into_owned(),
    }
}

/// Text of a header: UTF-8 when it is, else byte by byte (RFC 9110 section 5.5), so nothing is lost.
pub(super) fn latin1(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// The kept part of a body; masked first and cut after, so that no cut secret stays.
pub(super) fn body_copy(body: &[u8], masker: &Masker) -> BodyCopy {
    let kept = masker.mask_prefix(body, limits::EXCHANGE_BODY_BYTES_MAX);
    let copy = BodyCopy::of(&kept, limits::EXCHANGE_BODY_BYTES_MAX);
    BodyCopy { bytes: body.len() as u64, cut: copy.cut || body.len() > limits::EXCHANGE_BODY_BYTES_MAX, ..copy }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::domain::secret::SecretValue;
    use crate::id::SecretName;

    #[test]
    fn odd_addresses_are_addresses() {
        for (odd, host) in [
            ("http://2130706433/", "127.0.0.1"),
            ("http://0x7f.1/", "127.0.0.1"),
            ("http://0177.0.0.1/", "127.0.0.1"),
            ("http://127.1/", "127.0.0.1"),
            ("http://127。0。0。1/", "127.0.0.1"),
            ("http://[::ffff:127.0.0.1]/", "[::ffff:7f00:1]"),
            ("http:\\\\127.0.0.1\\x", "127.0.0.1"),
        ] {
            assert_eq!(parse_url(odd).unwrap().host_str().unwrap(), host, "{odd}");
        }
    }

    #[test]
    fn urls_that_cannot_be_called_are_refused_without_showing_secrets() {
        for bad in
            ["", "/x", "ftp://h/", "file:///etc/passwd", "http://", "https://u:s3cr3t@h/?s3cr3t", "http://[::1/s3cr3t"]
        {
            let message = parse_url(bad).unwrap_err().to_string();
            assert!(!message.contains("s3cr3t"), "{message}");
        }
        assert!(parse_url(&format!("http://h/{}", "a".repeat(limits::URL_BYTES_MAX))).is_err());
        assert_eq!(parse_url("http://h/a#b").unwrap().as_str(), "http://h/a");
    }

    #[test]
    fn framing_headers_are_ours() {
        let mut request = Request::new(Method::GET, "http://h/").unwrap();
        for name in ["Host", "content-length", "Transfer-Encoding", "Connection", "a b", ""] {
            assert!(request.header(name, b"x").is_err(), "{name}");
        }
        assert!(request.header("x", b"a\r\nb: c").is_err());
        assert!(request.header("x", "订单".as_bytes()).is_ok());
    }

    #[test]
    fn the_record_holds_no_secret() {
        let mut masker = Masker::new();
        masker.add(&SecretName::new("key").unwrap(), &SecretValue::new("s3cr3t"));
        let mut request = Request::new(Method::POST, "http://h/a?k=s3cr3t").unwrap();
        request.secret_header("authorization", b"Bearer s3cr3t").unwrap();
        request.secret_header("cookie", b"unknown").unwrap();
        request.body = Body::json(&serde_json::json!({"k": "s3cr3t"}));
        let record = request.record(&masker);
        assert_eq!(record.url, "http://h/a?k=[secret:key]");
        assert_eq!(record.headers[0], ("authorization".into(), "Bearer [secret:key]".into()));
        assert_eq!(record.headers[1], ("cookie".into(), "[secret]".into()));
        assert_eq!(record.body.unwrap().text, r#"{"k":"[secret:key]"}"#);
        assert!(!format!("{request:?}").contains("Bearer"));
    }
}
