//! What a verifier is given and what it answers. Everything is borrowed from the request: a header list costs one
//! allocation, a body none.

use bytes::Bytes;
use rustls::pki_types::CertificateDer;

use crate::clock::Timestamp;
use crate::limits;

/// One request as it came off the wire, before anything has parsed it.
#[derive(Debug, Clone)]
pub struct Inbound<'a> {
    /// The method in capitals, such as `POST`.
    pub method: &'a str,
    /// The path as received: no query, still percent-encoded.
    pub path: &'a str,
    /// The query as received, without `?`; empty when there is none.
    pub query: &'a str,
    /// The whole URL as the sender knows it, when the door can tell; the `url` parameter wins over it.
    pub url: Option<&'a str>,
    /// The headers in their order, repeats kept.
    pub headers: &'a Headers<'a>,
    /// The raw bytes: never decoded, trimmed or re-serialised.
    pub body: &'a [u8],
    /// The certificates that the client proved to hold in the TLS handshake, its own first; usually none. Nobody has judged
    /// them yet.
    pub client_chain: &'a [CertificateDer<'static>],
    /// The moment that signed times are held against.
    pub received_at: Timestamp,
    /// Fresh random bytes, for schemes whose answer is encrypted.
    pub random: [u8; RANDOM_BYTES],
}

/// Random bytes that an answer may need: 16 before what is encrypted, 8 for its nonce.
pub const RANDOM_BYTES: usize = 24;

/// The headers of a request, in order, repeats kept. Names are compared without regard to case.
#[derive(Debug, Clone, Default)]
pub struct Headers<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> FromIterator<(&'a str, &'a [u8])> for Headers<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}

impl<'a> Headers<'a> {
    /// Every value of the header, in order, without the spaces and tabs around it (RFC 9110, section 5.5).
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| trimmed(value))
    }

    /// All headers, in order, repeats kept.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0.iter().copied()
    }

    /// The one value of the header; refuses a header that occurs twice, even when both copies are equal.
    pub fn unique(&self, name: &str) -> Result<Option<&'a [u8]>, Reject> {
        let mut values = self.get_all(name);
        let first = values.next();
        if values.next().is_some() { Err(Reject::RepeatedHeader { name: name.into() }) } else { Ok(first) }
    }

    /// The one value of a header that must be there.
    pub fn required(&self, name: &str) -> Result<&'a [u8], Reject> {
        self.unique(name)?.ok_or_else(|| Reject::MissingHeader { name: name.into() })
    }
}

fn trimmed(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// What a request that passed is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A delivery: accept it.
    Deliver(Proof),
    /// Several deliveries in one request, at least one: accept all of them or none.
    DeliverAll(Vec<Part>),
    /// The platform tries the address: answer this and run nothing.
    Handshake(Answer),
    /// The same, and when it is answered `get` is called, once for this message's `id`.
    HandshakeThen { answer: Answer, get: String, id: String },
}

/// One of several deliveries in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What is known about it.
    pub proof: Proof,
    /// Its own bytes, in place of the request's body.
    pub body: Bytes,
}

/// What is known about a delivery because its signature holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// The id that the platform gives this delivery, at most [`limits::DELIVERY_ID_BYTES_MAX`] bytes. When there
    /// is none, only the body's digest can tell two deliveries apart.
    pub delivery_id: Option<String>,
    /// The signature covers the id, so nobody else can put a new id on an old body.
    pub id_is_signed: bool,
    /// The platform may give one id to two deliveries: the delivery key needs the body's digest as well.
    pub id_may_collide: bool,
    /// The signature covers the body; a password or token does not.
    pub body_is_signed: bool,
    /// The signed time, when the scheme has one; it lies inside the window.
    pub signed_at: Option<Timestamp>,
    /// The place, from 0, of the configured key that fits: above 0 means that a rotation is not over yet.
    pub key_index: usize,
    /// What the request carried in an envelope, opened: everything behind the verifier sees this instead of the body.
    pub message: Option<Message>,
    /// What the platform counts as success, where a status of the route's choice is not enough.
    pub answer: Option<Answer>,
}

/// The message out of an envelope: decrypted, or rewritten as JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The bytes, in place of the request's body.
    pub body: Bytes,
    /// What they are, in place of the request's `Content-Type`.
    pub content_type: &'static str,
    /// The platform puts one of the route's secrets into it, which has to be masked before anything is kept.
    pub holds_secret: bool,
}

impl Message {
    /// A text that is JSON for all that is known.
    pub(super) fn json(text: impl Into<Bytes>) -> Self {
        Self { body: text.into(), content_type: "application/json", holds_secret: false }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// The answer to a handshake, or to a delivery when the platform wants one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`, when there is a body.
    pub content_type: Option<&'static str>,
    /// The body, often empty.
    pub body: String,
    /// Headers beside these, names in lower case.
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// 200 and nothing else.
    pub(super) fn empty() -> Self {
        Self { status: 200, content_type: None, body: String::new(), headers: Vec::new() }
    }

    /// 200 and a JSON text.
    pub(super) fn json(body: &serde_json::Value) -> Self {
        Self { content_type: Some("application/json"), body: body.to_string(), ..Self::empty() }
    }

    /// 200 and a plain text.
    pub(super) fn text(body: String) -> Self {
        Self { content_type: Some("text/plain; charset=utf-8"), body, ..Self::empty() }
    }

    /// 200 and an XML text.
    pub(super) fn xml(body: String) -> Self {
        Self { content_type: Some("application/xml; charset=utf-8"), body, ..Self::empty() }
    }
}

/// Why a request is refused. This is for our log and counters: the sender hears 401 and nothing else, and no text
/// here repeats what was sent as a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// A header that the scheme needs is not there.
    #[error("the request has no `{name}` header")]
    MissingHeader { name: String },
    /// A header that decides occurs more than once.
    #[error("the `{name}` header occurs more than once")]
    RepeatedHeader { name: String },
    /// A query parameter that the scheme needs is not there.
    #[error("the request has no `{name}` query parameter")]
    MissingParameter { name: String },
    /// A query parameter that decides occurs more than once.
    #[error("the `{name}` query parameter occurs more than once")]
    RepeatedParameter { name: String },
    /// A value does not have the form that the scheme gives it.
    #[error("`{what}` is not {wanted}")]
    Malformed { what: String, wanted: &'static str },
    /// The platform never sends an empty body.
    #[error("the body is empty")]
    EmptyBody,
    /// The door does not know the URL that the text to sign holds.
    #[error("the signed text holds the URL, and neither the route nor the request tells it")]
    UnknownUrl,
    /// There are signatures, but none of a version that we hold a key for.
    #[error("`{what}` holds no signature of a version that a key is configured for")]
    UnknownVersion { what: String },
    /// No configured key fits.
    #[error("no configured key fits")]
    WrongSignature,
    /// The signed time lies outside the window.
    #[error("the signed time is {skew_ms} ms from ours, more than the tolerance of {tolerance_ms} ms")]
    Stale { skew_ms: i128, tolerance_ms: u128 },
    /// The certificate that a message is signed with, or that a client has, proves nothing.
    #[error("the certificate is not trusted: {why}")]
    UntrustedCertificate { why: &'static str },
    /// A member of a token's head is not acceptable.
    #[error("the token's `{member}` is not one that the route accepts")]
    TokenHead { member: &'static str },
    /// A claim of a verified token is not acceptable.
    #[error("the token's `{claim}` claim is not one that the route accepts")]
    TokenClaim { claim: &'static str },
    /// The connection has no certificate of the client, or ends at a proxy.
    #[error("the connection brought no client certificate; one does not come through a proxy that ends TLS")]
    NoClientCertificate,
    /// The client's certificate is good, and for somebody else.
    #[error("the client's certificate has no name or fingerprint that the route expects")]
    UnknownClient,
    /// A token endpoint says no, in a word of RFC 6749, section 5.2.
    #[error("the request for a token is refused as `{error}`")]
    TokenRequest { error: &'static str, challenge: bool },
    /// The signature fits, but the envelope does not open with the key that belongs to it.
    #[error("the encrypted message cannot be opened with the key that belongs to its signature")]
    Undecipherable,
    /// The message was encrypted for another corp, app or suite.
    #[error("the message is for another receiver than `receive_id` names")]
    OtherReceiver,
    /// A body in clear, although the platform was told to encrypt.
    #[error("the body is not encrypted, although a key for that is configured")]
    NotEncrypted,
}

impl Reject {
    /// The stable word for counters and for the cause of a refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingHeader { .. } => "missing_header",
            Self::RepeatedHeader { .. } => "repeated_header",
            Self::MissingParameter { .. } => "missing_parameter",
            Self::RepeatedParameter { .. } => "repeated_parameter",
            Self::Malformed { .. } => "malformed",
            Self::EmptyBody => "empty_body",
            Self::UnknownUrl => "unknown_url",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::WrongSignature => "wrong_signature",
            Self::Stale { .. } => "stale",
            Self::UntrustedCertificate { .. } => "untrusted_certificate",
            Self::TokenHead { .. } => "token_head",
            Self::TokenClaim { .. } => "token_claim",
            Self::NoClientCertificate => "no_client_certificate",
            Self::UnknownClient => "unknown_client",
            Self::TokenRequest { .. } => "token_request",
            Self::Undecipherable => "undecipherable",
            Self::OtherReceiver => "other_receiver",
            Self::NotEncrypted => "not_encrypted",
        }
    }

    /// What the sender is told, where a protocol has words for it; otherwise it hears 401 and nothing else.
    pub fn answer(&self) -> Option<Answer> {
        let Self::TokenRequest { error, challenge } = self else { return None };
        let mut answer = Answer::json(&serde_json::json!({ "error": error }));
        answer.status = if *error == "invalid_client" { 401 } else { 400 };
        answer.headers = vec![("cache-control", "no-store".to_owned()), ("pragma", "no-cache".to_owned())];
        if *challenge {
            answer.headers.push(("www-authenticate", r#"Basic realm="token", charset="UTF-8""#.to_owned()));
        }
        Some(answer)
    }

    pub(super) fn malformed(what: &str, wanted: &'static str) -> Self {
        Self::Malformed { what: what.into(), wanted }
    }
}

/// Reads a delivery id: text, not empty, short enough to be a key.
pub(super) fn delivery_id(what: &str, value: &[u8]) -> Result<String, Reject> {
    let text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty());
    text.filter(|text| text.len() <= limits::DELIVERY_ID_BYTES_MAX)
        .map(Into::into)
        .ok_or_else(|| Reject::malformed(what, "an id: text that is not empty and not longer than 512 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_any_case_and_trimmed() {
        let headers: Headers<'_> =
            [("X-Sig", &b" \ta b \t"[..]), ("x-blank", b"  "), ("X-TWO", b"1"), ("x-two", b"1")].into_iter().collect();
        assert_eq!(headers.unique("x-sig"), Ok(Some(&b"a b"[..])));
        assert_eq!(headers.unique("X-BLANK"), Ok(Some(&b""[..])));
        assert_eq!(headers.unique("x-none"), Ok(None));
        assert_eq!(headers.required("x-none").map_err(|r| r.code()), Err("missing_header"));
        assert_eq!(headers.unique("x-two").map_err(|r| r.code()), Err("repeated_header"));
    }

    #[test]
    fn ids_are_short_text() {
        assert_eq!(delivery_id("x", "订单-1".as_bytes()).as_deref(), Ok("订单-1"));
        for bad in [&b""[..], b"\xff", &[b'a'; limits::DELIVERY_ID_BYTES_MAX + 1]] {
            assert!(delivery_id("x", bad).is_err(), "{bad:?}");
        }
    }
}
