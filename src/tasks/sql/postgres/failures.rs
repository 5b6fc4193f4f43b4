//! What a database says when it does not do what it was asked, and whether trying again can help.
//! <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::azure;
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::tasks::sql::{HELP, Stage, sql_failure};

/// The failure behind an error.
pub(super) fn failure(error: &Error, stage: Stage) -> Failure {
    let sent = if stage == Stage::Committing { Sent::Maybe } else { Sent::No };
    let Some(told) = error.as_db_error() else {
        if stage != Stage::Opening && !error.is_closed() && is_ours(error) {
            return sql_failure(azure::chain(error));
        }
        let code = if stage == Stage::Opening { "sql.connect" } else { "sql.lost" };
        let failure =
            Failure::new(code, Fault::Far, format!("the connection to the database broke: {}", azure::chain(error)));
        return failure.retriable(Class::Connect, None).sent(sent);
    };
    let code = told.code().code();
    let detail = told.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let message = format!("the database says: {}{detail} [{code}]", told.message());
    let far = |name| Failure::new(name, Fault::Far, message.clone()).retriable(Class::Connect, None).sent(sent);
    match told.code() {
        // The server goes down, or is not up yet.
        &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN | &SqlState::CANNOT_CONNECT_NOW => far("sql.lost"),
        &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::LOCK_NOT_AVAILABLE
        | &SqlState::TOO_MANY_CONNECTIONS => far("sql.busy"),
        &SqlState::QUERY_CANCELED => Failure::new("sql.timeout", Fault::Far, message)
            .help("raise the task's `timeout`, or help the query with an index")
            .retriable(Class::Timeout, None),
        &SqlState::UNIQUE_VIOLATION => Failure::new("sql.conflict", Fault::Config, message)
            .help("a row with this key is there already; use `upsert` of `sql_load`, or `ON CONFLICT`"),
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Failure::new("sql.connect", Fault::Config, message)
                .help("check `user` and `password` of the database in clawhook.yaml")
        }
        _ if code.starts_with("08") => far("sql.lost"),
        _ => Failure::new("sql.failed", Fault::Config, message).help(told.hint().unwrap_or(HELP)),
    }
}

/// Whether the driver itself refused what it was given.
fn is_ours(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.is::<std::io::Error>() {
            return false;
        }
        source = inner.source();
    }
    true
}
