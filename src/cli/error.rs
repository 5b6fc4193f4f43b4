//! Why a command did not do what it was asked, as it is shown: `error:`, `help:`, and the code when there is one.

use std::path::Path;

/// One sentence about what went wrong, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Error {
    pub(super) message: String,
    /// The stable code, with a page in `docs/errors/`.
    pub(super) code: Option<String>,
    pub(super) help: Option<String>,
}

impl Error {
    /// An error without a code.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: None, help: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the stable code.
    #[must_use]
    pub(super) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// A file that could not be read or written.
    pub(super) fn file(doing: &str, path: &Path, cause: &std::io::Error) -> Self {
        Self::new(format!("cannot {doing} `{}`: {cause}", path.display()))
    }
}
