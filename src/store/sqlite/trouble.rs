//! What can go wrong inside the store, and what its callers are told.

use rusqlite::ErrorCode;

use super::super::Error;

/// Why a piece of work stopped.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The answer is no, and nothing was written.
    Refused(Error),
    /// SQLite did not do it; what was written is undone.
    Sql(rusqlite::Error),
    /// A stored value does not read back.
    Broken(String),
}

pub(super) type Outcome<T> = Result<T, Trouble>;

impl Trouble {
    /// What the caller is told.
    pub(super) fn into_error(self, doing: &'static str) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Sql(error) => sql_error(doing, &error),
            Self::Broken(why) => Error::Failed { doing, why },
        }
    }
}

/// What the caller is told of an SQLite error.
pub(super) fn sql_error(doing: &'static str, error: &rusqlite::Error) -> Error {
    if is_full(error) {
        Error::Full("there is no room left on its disk; free some, or let retention keep less".into())
    } else {
        Error::Failed { doing, why: error.to_string() }
    }
}

/// Whether all that wait suffer from it alike: the file cannot be written, whatever is to be written.
pub(super) fn is_of_the_file(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    let of_the_file = [ErrorCode::DatabaseBusy, ErrorCode::SystemIoFailure, ErrorCode::ReadOnly, ErrorCode::CannotOpen];
    is_full(error) || code.is_some_and(|code| of_the_file.contains(&code))
}

/// Whether the disk, or the bound that was set on the file, is what stopped it.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<rusqlite::types::FromSqlError> for Trouble {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sql(error.into())
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
