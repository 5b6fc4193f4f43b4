//! `clawhook serve`: opens the doors and runs what comes in.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::config;
use super::error::Error;

/// What to serve.
#[derive(Debug, Clone, Args)]
pub(super) struct Serve {
    /// Settings file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub(super) config: PathBuf,
}

pub(super) async fn run(serve: Serve) -> Result<ExitCode, Error> {
    Err(Error::new(format!("`{}` cannot be served by this build yet", serve.config.display())))
}
