//! Reads what callers send: JSON bodies, cursors, page sizes. Strict, and every refusal says what would have been right.

use std::time::Duration;

use actix_web::http::header::{CONTENT_TYPE, HeaderName};
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::http::body;
use crate::http::control::Control;
use crate::http::problem::{self, Problem};
use crate::http::query::{Query, misread};
use crate::id::RunId;
use crate::limits;

/// The header of the IETF draft `draft-ietf-httpapi-idempotency-key-header`.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What a moment looks like.
pub(super) const INSTANT: &str = "a time with a zone, such as `2026-11-01T08:00:00Z`";

/// A JSON body, read and still raw.
pub(super) struct Json<T> {
    pub(super) value: T,
    pub(super) raw: Bytes,
}

/// The body of an action that wants to know why.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// Why, for the audit and for whoever asks later.
    #[serde(default)]
    pub(super) reason: String,
}

/// The body of an action that there is nothing more to say about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

/// Reads a JSON body; none at all counts as `{}`.
pub(super) async fn json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    control: &Control,
) -> Result<Json<T>, Problem> {
    let body = body::read(payload, request.headers(), limits::API_BODY_BYTES_MAX, &control.budget).await?;
    let empty = body.bytes.is_empty();
    if !empty && !is_json(request) {
        let detail = "the body is not marked as JSON";
        return Err(Problem::new(problem::MEDIA_TYPE_UNKNOWN, detail).help("send `Content-Type: application/json`"));
    }
    let raw = if empty { Bytes::from_static(b"{}") } else { body.bytes.clone() };
    let value = serde_json::from_slice(&raw)
        .map_err(|error| Problem::new(problem::BODY, format!("the body cannot be read: {error}")))?;
    Ok(Json { value, raw })
}

/// A page of another site can send other types without asking first; this one it cannot.
fn is_json(request: &HttpRequest) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

impl From<body::Error> for Problem {
    fn from(error: body::Error) -> Self {
        let kind = match error {
            body::Error::TooLarge { .. } => problem::BODY_TOO_LARGE,
            body::Error::TooSlow => problem::BODY_TIMEOUT,
            body::Error::Broken => problem::BODY,
            body::Error::Full => problem::BUSY,
        };
        let told = Self::new(kind, error.to_string());
        let wait = Duration::from_secs(u64::from(limits::RETRY_AFTER_SECS));
        if error == body::Error::Full { told.retry_after(wait) } else { told }
    }
}

/// The `Idempotency-Key` of a request, when it has one.
pub(super) fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut values = request.headers().get_all(&IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    let alone = values.next().is_none();
    let text = value.to_str().ok().map(str::trim).filter(|_| alone).ok_or_else(wrong_key)?;
    // The draft writes it as a quoted string, and most programs do not.
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    checked_key(bare).map(Some)
}

/// A key that was sent in the header or in the body.
pub(super) fn checked_key(text: &str) -> Result<String, Problem> {
    let fits = (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len());
    if fits { Ok(text.to_owned()) } else { Err(wrong_key()) }
}

fn wrong_key() -> Problem {
    let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
    Problem::new(problem::HEADER, format!("an idempotency key is one text of 1 to {max} bytes"))
        .help("send something that only this request has, such as a UUID")
}

/// The run that a path names.
pub(super) fn run_id(text: &str) -> Result<RunId, Problem> {
    text.parse().map_err(|_| misread("id", text, "a run id, such as `run_01k4q8zr5m2c7`"))
}

/// The entries that a page wants.
pub(super) fn limit(query: &Query<'_>) -> Result<Option<usize>, Problem> {
    let wanted = format!("a number from 1 to {}", limits::PAGE_MAX);
    query.parsed("limit", &wanted, |text| text.parse().ok().filter(|limit| (1..=limits::PAGE_MAX).contains(limit)))
}

/// Where a page of a journal begins.
pub(super) fn journal_cursor(query: &Query<'_>) -> Result<Option<i64>, Problem> {
    query.parsed("cursor", "the `next` of another page", |text| text.parse().ok())
}

/// A moment.
pub(super) fn instant(query: &Query<'_>, name: &str) -> Result<Option<Timestamp>, Problem> {
    query.parsed(name, INSTANT, Timestamp::parse_rfc3339)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn keys() {
        let check = |values: &[&str], expected: Result<Option<&str>, &str>| {
            let mut request = TestRequest::default();
            for value in values {
                request = request.append_header((IDEMPOTENCY_KEY, *value));
            }
            let found = idempotency_key(&request.to_http_request()).map_err(|problem| problem.kind().code);
            assert_eq!(found, expected.map(|key| key.map(ToOwned::to_owned)), "{values:?}");
        };
        check(&[], Ok(None));
        check(&["a-1"], Ok(Some("a-1")));
        check(&["\"a-1\""], Ok(Some("a-1")));
        check(&[""], Err("http.header"));
        check(&["\"\""], Err("http.header"));
        check(&["a", "a"], Err("http.header"));
        check(&["订单"], Err("http.header"));
        check(&[&"a".repeat(255)], Ok(Some(&"a".repeat(255))));
        check(&[&"a".repeat(256)], Err("http.header"));
    }

    #[test]
    fn types() {
        let check = |kind: &str, json: bool| {
            let request = TestRequest::default().insert_header((CONTENT_TYPE, kind)).to_http_request();
            assert_eq!(is_json(&request), json, "{kind}");
        };
        check("application/json", true);
        check("Application/JSON; charset=utf-8", true);
        check("text/plain", false);
        check("application/json-seq", false);
        check("", false);
    }
}
