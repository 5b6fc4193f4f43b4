//! What can go wrong between here and the server, and what callers are told.

use tokio_postgres::error::SqlState;

use super::super::Error;
use crate::limits;

/// Why a piece of work stopped.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The answer is no, and nothing was written.
    Refused(Error),
    /// There is no connection, and why.
    Away(String),
    /// The server did not answer in time.
    Slow,
    /// The server said no, or the connection broke.
    Sql(tokio_postgres::Error),
    /// A stored value does not read back.
    Broken(String),
}

pub(super) type Outcome<T> = Result<T, Trouble>;

impl Trouble {
    /// What a caller is told.
    pub(super) fn to_error(&self, doing: &'static str) -> Error {
        let failed = |why| Error::Failed { doing, why };
        match self {
            Self::Refused(error) => error.clone(),
            Self::Away(why) => failed(format!("there is no connection to PostgreSQL: {why}")),
            Self::Slow => failed("PostgreSQL did not answer in time".to_owned()),
            Self::Sql(error) if is_full(error) => Error::Full(format!(
                "PostgreSQL has no room left: {}; free some, or let retention keep less",
                sentence(error)
            )),
            Self::Sql(error) => failed(sentence(error)),
            Self::Broken(why) => failed(why.clone()),
        }
    }

    /// The transaction met another one and was undone whole: it can be done again as it is.
    pub(super) fn met_another(&self) -> bool {
        self.is(&[SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE])
    }

    /// A row with this key is there already.
    pub(super) fn is_taken(&self) -> bool {
        self.is(&[SqlState::UNIQUE_VIOLATION])
    }

    /// There is no partition for a row; that is told as a failed check.
    pub(super) fn lacks_partition(&self) -> bool {
        self.is(&[SqlState::CHECK_VIOLATION])
    }

    /// The server is a standby now.
    pub(super) fn is_read_only(&self) -> bool {
        self.is(&[SqlState::READ_ONLY_SQL_TRANSACTION])
    }

    /// Somebody else holds the lock.
    pub(super) fn is_locked(&self) -> bool {
        self.is(&[SqlState::LOCK_NOT_AVAILABLE]) || self.met_another()
    }

    /// The server undid it because of what it was given; something else in the batch may be fine. Everything that the
    /// whole server suffers from (classes 53, 57, 58) is not. <https://www.postgresql.org/docs/14/errcodes-appendix.html>
    pub(super) fn is_of_the_batch(&self) -> bool {
        let code = if let Self::Sql(error) = self { error.code() } else { None };
        code.is_some_and(|code| matches!(code.code().get(..2), Some("21" | "22" | "23" | "54" | "55")))
    }

    fn is(&self, codes: &[SqlState]) -> bool {
        matches!(self, Self::Sql(error) if error.code().is_some_and(|code| codes.contains(code)))
    }
}

/// Whether room is what the server lacks.
fn is_full(error: &tokio_postgres::Error) -> bool {
    [SqlState::DISK_FULL, SqlState::OUT_OF_MEMORY].iter().any(|full| error.code() == Some(full))
}

/// An error with its cause: the driver's own text is often only `db error`.
pub(super) fn sentence(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => {
            let hint = told.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}{hint} [{}]", told.message(), told.code().code())
        }
        None => crate::azure::chain(error),
    }
}

/// A call that may take at most `limit`.
pub(super) async fn within<T>(limit: std::time::Duration, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Trouble::Slow))
}

/// Calls of the engine may take this long.
pub(super) const CALL_MAX: std::time::Duration = limits::POSTGRES_CALL_MAX;

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        Self::Broken(format!("stored JSON does not read back: {error}"))
    }
}
