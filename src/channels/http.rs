//! What channels over HTTP share: one POST of JSON to an address that is a secret, and what its answer means.

use std::time::Duration;

use ::http::Method;
use serde_json::Value;

use super::{Sending, Text, Trouble, Wire};
use crate::domain::attempt::{Exchange, ExchangeRequest};
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretRef, SecretValue};
use crate::id::SecretName;
use crate::limits;
use crate::outbound::connection::BaseUrl;
use crate::outbound::{self, Body, Request, Response, Tls};

/// How an HTTP channel reaches its platform.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    pub(super) tls: Tls,
    pub(super) timeout: Duration,
}

impl Reach {
    pub(super) fn new(tls: Tls, timeout: Option<Duration>) -> Self {
        Self { tls, timeout: timeout.unwrap_or(limits::CHANNEL_TIMEOUT) }
    }
}

/// A POST that is ready to go.
#[derive(Debug)]
pub(super) struct Post {
    /// The whole address; nothing behind its host is ever shown.
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Value,
}

/// What the answer of a platform means, once it is one: its words when it refused.
pub(super) type Judge = fn(&Response) -> Result<Value, Said>;

/// A platform's "no".
#[derive(Debug)]
pub(super) enum Said {
    Refused { what: String, help: &'static str },
    Busy { what: String, wait: Duration },
    Down { what: String },
    Unknown { what: String },
}

/// Sends `post` once. Redirects are not followed: a message would be lost in a GET.
pub(super) async fn send(wire: &Wire<'_>, reach: &Reach, post: Post, masker: &Masker, judge: Judge) -> Sending {
    let request = match request(wire, reach, &post) {
        Ok(request) => request,
        Err(cause) => {
            return Trouble::refused(masked(cause.unsendable(), masker)).into();
        }
    };
    let record = record(&request, masker);
    let host = request.url.host_str().unwrap_or_default().to_owned();
    match wire.client.send(request).await {
        Ok(response) => {
            let result = judged(&response, &host, judge).map_err(|trouble| mask_trouble(trouble, masker));
            let result = result.map(|said| masker.mask_json(said));
            let timings = response.timings;
            let response = Some(response.record(masker, true));
            Sending { result, exchange: Some(Box::new(Exchange { request: record, response, timings })) }
        }
        Err(error) => {
            let exchange = Exchange { request: record, response: None, timings: error.timings };
            Sending { result: Err(mask_trouble(lost(&error), masker)), exchange: Some(Box::new(exchange)) }
        }
    }
}

fn request(wire: &Wire<'_>, reach: &Reach, post: &Post) -> Result<Request, outbound::Cause> {
    let mut request = Request::new(Method::POST, &post.url)?;
    request.timeout = reach.timeout.min(wire.time_limit);
    request.response_bytes_max = limits::CHANNEL_ANSWER_BYTES_MAX;
    request.redirects_max = 0;
    request.tls = reach.tls.clone();
    request.body = Body::json(&post.body);
    for (name, value) in &post.headers {
        request.secret_header(name, value.as_bytes())?;
    }
    Ok(request)
}

/// The call as people see it: of the address only where it goes.
fn record(request: &Request, masker: &Masker) -> ExchangeRequest {
    let shown = format!("{}/…", request.url.origin().ascii_serialization());
    ExchangeRequest { url: shown, ..request.record(masker) }
}

/// Statuses first, because proxies and overloaded servers answer without the platform's form.
fn judged(response: &Response, host: &str, judge: Judge) -> Result<Value, Trouble> {
    let status = response.status.as_u16();
    let far = |code, what: String| {
        let failure = Failure::new(code, Fault::Far, what).at(host).sent(Sent::Maybe);
        Failure { class: Class::Status(status), ..failure }
    };
    let said = match status {
        429 => Err(Said::Busy { what: "429 Too Many Requests".to_owned(), wait: retry_after(response) }),
        500..=599 => Err(Said::Down { what: response.status.to_string() }),
        300..=399 => Err(Said::Refused {
            what: format!("{}, a redirect, which is not followed", response.status),
            help: "name the final address",
        }),
        _ => judge(response),
    };
    said.map_err(|said| match said {
        Said::Refused { what, help } => {
            let fault = if matches!(status, 200 | 400..=499) { Fault::Config } else { Fault::Far };
            let failure = far("notify.refused", format!("`{host}` refused the message: {what}"));
            Trouble::refused(Failure { fault, ..failure }.help(help))
        }
        Said::Busy { what, wait } => {
            Trouble::busy(wait, far("notify.held", format!("`{host}` takes no message now: {what}")))
        }
        Said::Down { what } => Trouble::down(far("notify.held", format!("`{host}` is out of order: {what}"))),
        Said::Unknown { what } => Trouble::unknown(&format!("`{host}` {what}")),
    })
}

/// A call without an answer.
fn lost(error: &outbound::Error) -> Trouble {
    let failure = error.failure();
    match (error.sent, error.cause.class()) {
        (Sent::Maybe, _) => Trouble::unknown(&failure.message),
        (Sent::No, Class::Connect | Class::Timeout) => Trouble::down(failure),
        (Sent::No, _) => Trouble::refused(failure),
    }
}

/// `Retry-After` in whole seconds (RFC 9110 section 10.2.3), as these platforms send it; a minute without one.
fn retry_after(response: &Response) -> Duration {
    let seconds = response.header("retry-after").and_then(|text| text.trim().parse().ok());
    seconds.map_or(Duration::from_mins(1), Duration::from_secs).min(limits::RETRY_AFTER_MAX)
}

/// The answer as a JSON object, of a platform that says everything there. Anything else is from somebody else.
pub(super) fn object(response: &Response) -> Result<Value, Said> {
    let unexpected = || {
        let start: String = String::from_utf8_lossy(&response.body).chars().take(QUOTED_CHARS_MAX).collect();
        let start = super::message::one_line(&start);
        Said::Unknown { what: format!("answered {} with something that is not its JSON: `{start}`", response.status) }
    };
    match serde_json::from_slice::<Value>(&response.body) {
        Ok(value) if value.is_object() => Ok(value),
        _ => Err(unexpected()),
    }
}

/// The code of an answer under `key`, and its words.
pub(super) fn code_of(answer: &Value, key: &str, words: &str) -> Result<(i64, String), Said> {
    let code = answer.get(key).and_then(Value::as_i64).ok_or_else(|| Said::Unknown {
        what: format!("answered without `{key}`: `{}`", quoted(&answer.to_string())),
    })?;
    let said = answer.get(words).and_then(Value::as_str).unwrap_or_default();
    Ok((code, format!("{key} {code}: {}", quoted(said))))
}

/// The first part of a plain answer.
pub(super) fn body_text(response: &Response) -> String {
    quoted(&String::from_utf8_lossy(&response.body))
}

fn quoted(text: &str) -> String {
    super::message::one_line(&text.chars().take(QUOTED_CHARS_MAX).collect::<String>())
}

/// Characters of an answer that a failure quotes.
const QUOTED_CHARS_MAX: usize = 200;

/// An address that is a secret, or holds none.
pub(super) async fn address(wire: &Wire<'_>, url: &Text, masker: &mut Masker) -> Result<String, Trouble> {
    match url {
        Text::Plain(url) => Ok(url.clone()),
        Text::Secret(reference) => {
            let url = wire.secret_text(reference, masker).await?;
            hide_parts(&url, &reference.name, masker);
            Ok(url)
        }
    }
}

/// Every part of a secret address that is long enough to be one by itself: platforms echo them.
fn hide_parts(url: &str, name: &SecretName, masker: &mut Masker) {
    let Ok(url) = outbound::parse_url(url) else { return };
    let mut hide = |part: &str| {
        if part.len() >= PART_BYTES_MIN {
            masker.add(name, &SecretValue::new(part));
        }
    };
    hide(url.as_str());
    hide(&url[url::Position::BeforePath..]);
    hide(url.path());
    url.path_segments().into_iter().flatten().for_each(&mut hide);
    url.query_pairs().for_each(|(_, value)| hide(&value));
}

/// Shorter parts of an address are words such as `hooks`.
const PART_BYTES_MIN: usize = 8;

/// A base URL with a path and a secret parameter behind it.
pub(super) fn with_parameter(base: &BaseUrl, path: &str, name: &str, value: &str) -> Result<String, Trouble> {
    let query = [(name.to_owned(), value.to_owned())];
    let url = base.join(path, &query).map_err(|cause| Trouble::refused(cause.unsendable()))?;
    Ok(url.to_string())
}

/// HMAC-SHA256 in base64, as robots sign.
pub(super) fn hmac(key: &[u8], text: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    data_encoding::BASE64.encode(aws_lc_rs::hmac::sign(&key, text).as_ref())
}

/// A signature is as good as its secret until its time is over.
pub(super) fn hide(masker: &mut Masker, reference: &SecretRef, value: &str) {
    masker.add(&reference.name, &SecretValue::new(value));
}

fn masked(mut failure: Failure, masker: &Masker) -> Failure {
    failure.message = masker.mask(&failure.message).into_owned();
    failure
}

fn mask_trouble(trouble: Trouble, masker: &Masker) -> Trouble {
    Trouble { failure: Box::new(masked(*trouble.failure, masker)), ..trouble }
}
