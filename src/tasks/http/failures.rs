//! What an `http_request` says when it fails, without secrets in it.

use serde_json::Value;

use super::printed;
use crate::azure;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::masking::Masker;
use crate::outbound;
use crate::tasks::{TaskContext, secret_failure};

/// Characters of an unwanted answer that its failure quotes.
const QUOTED_CHARS_MAX: usize = 200;

pub(super) fn quoted(body: &Value) -> String {
    if body.is_null() {
        return String::new();
    }
    let text = printed(body);
    let cut: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!(": {cut}{dots}")
}

pub(super) fn at_connection(failure: Failure, ctx: &TaskContext<'_>) -> Failure {
    match ctx.connection {
        Some(connection) => failure.at(connection.name.as_str()),
        None => failure,
    }
}

pub(in crate::tasks) fn masked(mut failure: Failure, masker: &Masker) -> Failure {
    failure.message = masker.mask(&failure.message).into_owned();
    failure
}

pub(in crate::tasks) fn unproved(error: &outbound::auth::Error, ctx: &TaskContext<'_>) -> Failure {
    match error {
        outbound::auth::Error::Secret(error) => at_connection(secret_failure(error), ctx),
        outbound::auth::Error::Grant(failure) => at_connection((**failure).clone(), ctx),
        // The identity may come back; settings that make no client do not mend themselves.
        outbound::auth::Error::Token(error @ azure::Error::Token { .. }) => {
            let failure = Failure::new("connection.auth", Fault::Here, error.to_string());
            at_connection(failure.retriable(Class::Connect, None), ctx)
        }
        other => at_connection(Failure::new("connection.auth", Fault::Config, other.to_string()), ctx),
    }
}
