//! Signature Version 4 of Amazon Web Services: a call is proved by an HMAC over method, path, query, headers and body,
//! with a key that is made of the secret key, the day, the region and the service. The secret key is never sent.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use data_encoding::HEXLOWER;
use http::header::{self, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Position;

use super::error::Cause;
use super::request::Request;
use crate::clock::Timestamp;
use crate::domain::masking::Masker;
use crate::domain::secret::SecretValue;
use crate::id::SecretName;

/// Who signs.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Sent along, and not a secret by itself.
    pub access_key_id: String,
    /// The secret access key.
    pub secret: SecretValue,
    /// The token that goes with keys that end.
    pub session_token: Option<SecretValue>,
    /// What the secret is called where it is masked.
    pub name: SecretName,
}

/// What the signature is good for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'s> {
    /// Such as `eu-west-1`.
    pub region: &'s str,
    /// Such as `sqs`. Amazon S3, which reads paths in another way, is not meant.
    pub service: &'s str,
}

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Signs a call as it stands, all its headers included; a signature that is there already is replaced. The signature
/// is told to the masker: whoever reads it could make this call again within minutes.
///
/// # Errors
/// When a key cannot stand in a header.
pub fn sign(
    request: &mut Request,
    keys: &Keys,
    scope: Scope<'_>,
    now: Timestamp,
    masker: &mut Masker,
) -> Result<(), Cause> {
    request.headers.retain(|(name, _)| ![header::AUTHORIZATION, DATE, TOKEN].contains(name));
    let time = now.to_utc().format("%Y%m%dT%H%M%SZ").to_string();
    request.header(DATE.as_str(), time.as_bytes())?;
    if let Some(token) = &keys.session_token {
        request.secret_header(TOKEN.as_str(), token.expose())?;
    }
    let (canonical, signed) = canonical(request);
    let (day, Scope { region, service }) = (&time[..8], scope);
    let place = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("{ALGORITHM}\n{time}\n{place}\n{}", hash(canonical.as_bytes()));
    let first = [b"AWS4", keys.secret.expose()].concat();
    let key = [day, region, service, "aws4_request"].iter().fold(first, |key, part| mac(&key, part));
    let signature = HEXLOWER.encode(&mac(&key, &text));
    masker.add(&keys.name, &SecretValue::new(signature.clone()));
    let id = &keys.access_key_id;
    let proof = format!("{ALGORITHM} Credential={id}/{place}, SignedHeaders={signed}, Signature={signature}");
    request.secret_header(header::AUTHORIZATION.as_str(), proof.as_bytes())
}

/// The call in the one way that both sides write it, and the names of its headers.
fn canonical(request: &Request) -> (String, String) {
    let url = &request.url;
    let host = url[Position::BeforeHost..Position::AfterPort].to_owned();
    let mut headers: Vec<(String, String)> = vec![("host".to_owned(), host)];
    let text = |value: &[u8]| String::from_utf8_lossy(value).split_whitespace().collect::<Vec<_>>().join(" ");
    headers.extend(request.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))));
    if let (Some(kind), false) = (&request.body.content_type, request.has(&header::CONTENT_TYPE)) {
        headers.push((header::CONTENT_TYPE.to_string(), text(kind.as_bytes())));
    }
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (mut lines, mut names) = (String::new(), Vec::<&str>::new());
    for same in headers.chunk_by(|(a, _), (b, _)| a == b) {
        let values: Vec<&str> = same.iter().map(|(_, value)| value.as_str()).collect();
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{}:{}", same[0].0, values.join(","));
        names.push(&same[0].0);
    }
    let names = names.join(";");
    // The path as it is sent, each part encoded once more.
    let path: Vec<_> = url.path().split('/').map(encoded).collect();
    let (path, query, body) = (path.join("/"), query(url.query().unwrap_or_default()), hash(&request.body.bytes));
    (format!("{}\n{path}\n{query}\n{lines}\n{names}\n{body}", request.method), names)
}

/// The pairs of a query, sorted as they are encoded.
fn query(text: &str) -> String {
    let piece = |text: &str| encoded(&percent_decode_str(text).decode_utf8_lossy());
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (piece(name), piece(value))
    };
    let mut pairs: Vec<_> = text.split('&').filter(|text| !text.is_empty()).map(pair).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn hash(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use http::Method;
    use serde_json::Value;

    use super::*;
    use crate::outbound::Body;

    fn check(vector: &Value) {
        let text = |key: &str| vector[key].as_str().unwrap_or_default();
        let mut request = Request::new(Method::from_bytes(text("method").as_bytes()).unwrap(), text("url")).unwrap();
        for header in vector["headers"].as_array().into_iter().flatten() {
            request.header(header[0].as_str().unwrap(), header[1].as_str().unwrap().as_bytes()).unwrap();
        }
        request.body = Body::raw(text("body").to_owned(), None).unwrap();
        let keys = Keys {
            access_key_id: text("access_key_id").to_owned(),
            secret: SecretValue::new(text("secret_access_key")),
            session_token: vector["session_token"].as_str().map(SecretValue::new),
            name: SecretName::new("aws").unwrap(),
        };
        let now = Timestamp::parse_rfc3339(text("time")).unwrap();
        let scope = Scope { region: text("region"), service: text("service") };
        let mut masker = Masker::new();
        // A second signature takes the place of the first.
        for _ in 0..2 {
            sign(&mut request, &keys, scope, now, &mut masker).unwrap();
        }
        let (name, value) = request.headers.last().unwrap();
        assert_eq!(
            (name.as_str(), value.to_str().unwrap()),
            ("authorization", text("authorization")),
            "{}",
            text("id")
        );
        assert!(value.is_sensitive());
        assert!(masker.mask(value.to_str().unwrap()).ends_with("Signature=[secret:aws]"));
        assert_eq!(request.headers.iter().filter(|(name, _)| *name == DATE).count(), 1);
    }

    /// Amazon's own test suite, as far as it speaks of what we send, and calls as botocore signs them.
    #[test]
    fn signatures_are_as_others_make_them() {
        let vectors = include_str!("../../tests/vectors/outbound/aws_sigv4.json");
        let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
        assert_eq!(vectors.len(), 9);
        vectors.iter().for_each(check);
    }
}
