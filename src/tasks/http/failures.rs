//! What an `http_request` says when it fails, without secrets in it.

use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use super::printed;
use crate::azure;
use crate::clock::Timestamp;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::masking::Masker;
use crate::outbound;
use crate::tasks::{TaskContext, secret_failure};

/// Characters of an unwanted answer that its failure quotes.
const QUOTED_CHARS_MAX: usize = 200;

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, which some platforms send with a fraction, or a date.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Duration::try_from_secs_f64(text.parse().ok()?).ok();
    }
    DateTime::parse_from_rfc2822(text).ok().map(|at| Timestamp::from(at).since(now))
}

pub(super) fn quoted(body: &Value) -> String {
    if body.is_null() {
        return String::new();
    }
    let text = printed(body);
    let cut: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!(": {cut}{dots}")
}

pub(in crate::tasks) fn at_connection(failure: Failure, ctx: &TaskContext<'_>) -> Failure {
    match ctx.connection {
        Some(connection) => failure.at(connection.name.as_str()),
        None => failure,
    }
}

pub(in crate::tasks) fn masked(mut failure: Failure, masker: &Masker) -> Failure {
    failure.message = masker.mask(&failure.message).into_owned();
    failure
}

pub(super) fn unsendable(cause: &outbound::Cause) -> Failure {
    Failure::new(cause.code(), Fault::Config, cause.sentence()).help(cause.help())
}

pub(in crate::tasks) fn unproved(error: &outbound::auth::Error, ctx: &TaskContext<'_>) -> Failure {
    match error {
        outbound::auth::Error::Secret(error) => at_connection(secret_failure(error), ctx),
        // The identity may come back; settings that make no client do not mend themselves.
        outbound::auth::Error::Token(error @ azure::Error::Token { .. }) => {
            let failure = Failure::new("connection.auth", Fault::Here, error.to_string());
            at_connection(failure.retriable(Class::Connect, None), ctx)
        }
        other => at_connection(Failure::new("connection.auth", Fault::Config, other.to_string()), ctx),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_all_its_forms() {
        let now = Timestamp::from_secs(1_795_338_000);
        for (text, expected) in [
            ("3", Some(Duration::from_secs(3))),
            ("2.0", Some(Duration::from_secs(2))),
            ("Sun, 22 Nov 2026 09:00:30 GMT", Some(Duration::from_secs(30))),
            ("Sun, 22 Nov 2026 08:00:00 GMT", Some(Duration::ZERO)),
            ("-1", None),
            ("soon", None),
            ("1e400", None),
        ] {
            assert_eq!(retry_after(text, now), expected, "{text}");
        }
    }
}
