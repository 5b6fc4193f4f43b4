//! What a caller of the control door is told when something is not done: problem details by RFC 9457, with a stable
//! code. The one place where errors become HTTP statuses; no other file of this door names a status for an error.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of RFC 9457, section 6.1.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Where the pages of the codes lie; a reference relative to this door (RFC 9457, section 3.1.1).
const PAGES: &str = "/docs/errors/";

/// A kind of problem: what does not change between two occurrences of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The stable code, with a page in `docs/errors/`.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// A few words for people.
    pub title: &'static str,
}

/// Declares the kinds, and the list of them all.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $title:literal;)*) => {
        $($(#[$doc])* pub const $name: Kind = Kind { code: $code, status: $status, title: $title };)*
        /// Every kind that this door makes, for the list of codes.
        pub static KINDS: &[Kind] = &[$($name),*];
    };
}

kinds! {
    /// No credentials were sent.
    AUTH_MISSING = 401 "auth.missing" "Credentials are missing";
    /// The credentials do not hold.
    AUTH_INVALID = 401 "auth.invalid" "Credentials are not valid";
    /// The credentials hold, but not for this.
    AUTH_FORBIDDEN = 403 "auth.forbidden" "A scope is missing";
    /// Too many wrong credentials from one address.
    AUTH_THROTTLED = 429 "auth.throttled" "Too many failed sign-ins";
    /// The request is addressed to a name that is not ours.
    HOST = 421 "http.host" "The host name is not served here";
    /// A page of another site made a browser send this.
    ORIGIN = 403 "http.origin" "A page of another site may not do this";
    /// A query or path parameter cannot be read.
    PARAMETER = 400 "http.parameter" "A parameter is not understood";
    /// A header cannot be read.
    HEADER = 400 "http.header" "A header is not understood";
    /// The body cannot be read.
    BODY = 400 "http.body" "The body is not understood";
    /// The body is longer than is taken here.
    BODY_TOO_LARGE = 413 "http.body_too_large" "The body is too large";
    /// The body did not arrive in time.
    BODY_TIMEOUT = 408 "http.body_timeout" "The body took too long";
    /// The body is not of a type that is read here.
    MEDIA_TYPE_UNKNOWN = 415 "http.media_type" "The media type is not read here";
    /// There is nothing at this path.
    NOT_FOUND = 404 "http.not_found" "There is nothing here";
    /// The path is there, but not for this method.
    METHOD = 405 "http.method" "The method is not allowed here";
    /// Too many streams are open.
    BUSY = 503 "http.busy" "The gateway is busy";
}

/// One problem, ready to be told.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    help: Option<Cow<'static, str>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this kind; `detail` is one sentence about this occurrence.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), help: None, headers: Vec::new() }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<Cow<'static, str>>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says after how long to try again (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.headers.push((RETRY_AFTER, whole_secs(wait)));
        self
    }

    /// Names a way to authenticate (RFC 9110, section 11.6.1).
    #[must_use]
    pub fn challenge(mut self, challenge: HeaderValue) -> Self {
        self.headers.push((WWW_AUTHENTICATE, challenge));
        self
    }

    /// Names the methods that are allowed (RFC 9110, section 10.2.1).
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.headers.push((ALLOW, HeaderValue::from_static(methods)));
        self
    }

    /// The kind of the problem.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The answer, for a request to the path `instance`.
    pub fn answer(&self, instance: Option<&str>) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)));
        for header in &self.headers {
            response.append_header(header.clone());
        }
        let body = ProblemBody {
            r#type: format!("{PAGES}{}", self.kind.code),
            title: self.kind.title.to_owned(),
            status: self.kind.status,
            code: self.kind.code.to_owned(),
            detail: self.detail.as_ref().to_owned(),
            help: self.help.as_deref().map(ToOwned::to_owned),
            instance: instance.map(ToOwned::to_owned),
        };
        // Text and numbers only: this cannot fail, and an empty body would still carry the status.
        response.body(serde_json::to_vec(&body).unwrap_or_default())
    }
}

/// A wait as `Retry-After` wants it: whole seconds, at least one, never less than the wait.
pub(super) fn whole_secs(wait: Duration) -> HeaderValue {
    let up = u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(wait.as_secs().saturating_add(up).max(1))
}

/// The body of every answer that is not a success (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// The page of the code.
    #[schema(example = "/docs/errors/auth.forbidden")]
    r#type: String,
    /// A few words, the same for every problem of this code.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable code; `clawhook explain CODE` prints its page.
    #[schema(example = "auth.forbidden")]
    code: String,
    /// What happened this time.
    detail: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    /// The path that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.answer(None)
    }
}
