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

use crate::gateway::Error;
use crate::limits;

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
    /// A signed link that does not hold.
    LINK = 403 "blob.link" "The link does not hold";
    /// There is nothing at this path.
    NOT_FOUND = 404 "http.not_found" "There is nothing here";
    /// The path is there, but not for this method.
    METHOD = 405 "http.method" "The method is not allowed here";
    /// The key came before, with something else.
    KEY_REUSED = 422 "http.idempotency_key_reused" "The idempotency key belongs to another request";
    /// The first request with this key is not answered yet.
    KEY_BUSY = 409 "http.idempotency_key_busy" "The first request with this key is under way";
    /// There is no room for this now.
    BUSY = 503 "http.busy" "The gateway is busy";
}

impl From<Error> for Problem {
    /// The one place where what the gateway says becomes a status.
    fn from(error: Error) -> Self {
        let code = error.code();
        let kind = |status, title| Kind { code, status, title };
        let detail = error.to_string();
        match error {
            Error::Forbidden { scope, .. } => {
                let help = format!("use a token made with `clawhook token create --scope {scope}`");
                let challenge = format!(r#"Bearer realm="clawhook", error="insufficient_scope", scope="{scope}""#);
                let problem = Self::new(AUTH_FORBIDDEN, detail).help(help);
                // Scopes are plain words, so the challenge is a header value (RFC 6750, section 3.1).
                HeaderValue::from_str(&challenge).map_or(problem.clone(), |challenge| problem.challenge(challenge))
            }
            Error::NotFound { .. } => Self::new(kind(404, "There is no such thing"), detail),
            Error::Invalid { help, .. } => {
                let problem = Self::new(kind(422, "It does not fit"), detail);
                Self { help: help.map(Cow::Owned), ..problem }
            }
            Error::Conflict { .. } => Self::new(kind(409, "It cannot be done now"), detail),
            Error::Unavailable(_) => {
                let wait = Duration::from_secs(u64::from(limits::RETRY_AFTER_SECS));
                Self::new(kind(503, "The gateway cannot do it for now"), detail).retry_after(wait)
            }
            Error::Broken(_) => Self::new(kind(500, "What is stored is not what it should be"), detail)
                .help("look into the gateway's log for the cause"),
        }
    }
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
    pub fn allow(mut self, methods: HeaderValue) -> Self {
        self.headers.push((ALLOW, methods));
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use actix_web::body::MessageBody;
    use actix_web::http::header;

    use super::*;
    use crate::gateway::Scope;

    fn check(problem: impl Into<Problem>, status: u16, code: &str, headers: &[(&str, &str)]) {
        let answer = problem.into().answer(Some("/v1/runs"));
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers().get(header::CONTENT_TYPE).unwrap(), MEDIA_TYPE);
        for (name, value) in headers {
            assert_eq!(answer.headers().get(*name).unwrap(), value, "{name}");
        }
        let body: serde_json::Value = serde_json::from_slice(&answer.into_body().try_into_bytes().unwrap()).unwrap();
        assert_eq!((&body["code"], &body["instance"]), (&code.into(), &"/v1/runs".into()));
        assert_eq!(body["type"], format!("/docs/errors/{code}"));
        assert_eq!(body["status"].to_string(), status.to_string());
        assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    }

    #[test]
    fn what_the_gateway_says() {
        let forbidden = Error::Forbidden { caller: "ci".into(), scope: Scope::RunsWrite };
        let challenge = r#"Bearer realm="clawhook", error="insufficient_scope", scope="runs:write""#;
        check(forbidden, 403, "auth.forbidden", &[("www-authenticate", challenge)]);
        check(Error::NotFound { what: "run", name: "x".into() }, 404, "api.not_found", &[]);
        check(Error::invalid("inputs.misfit", "no"), 422, "inputs.misfit", &[]);
        check(Error::Conflict { code: "run.state", message: "no".into() }, 409, "run.state", &[]);
        check(Error::Unavailable("full".into()), 503, "store.unavailable", &[("retry-after", "5")]);
        check(Error::Broken("gap".into()), 500, "store.broken", &[]);
    }

    #[test]
    fn kinds_are_told_apart() {
        let codes: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.code).collect();
        assert_eq!(codes.len(), KINDS.len());
        for kind in KINDS {
            check(Problem::new(*kind, "it happened"), kind.status, kind.code, &[]);
        }
    }

    #[test]
    fn waits_are_whole_seconds() {
        let check = |millis, secs: &str| assert_eq!(whole_secs(Duration::from_millis(millis)), secs);
        check(0, "1");
        check(1, "1");
        check(1000, "1");
        check(1001, "2");
        check(86_400_000, "86400");
    }
}
