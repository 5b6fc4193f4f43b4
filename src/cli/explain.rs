//! `clawhook explain`: what a code means.
use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::output::Output;

/// The code to explain.
#[derive(Debug, Clone, Args)]
pub(super) struct Explain {
    /// The code, such as `http.status`; without it, all codes are listed
    code: Option<String>,
}

/// Every code, and its page.
pub static CODES: &[(&str, &str)] = &[];

pub(super) fn run(_: &Explain, _: &Output) -> Result<ExitCode, Error> {
    Ok(ExitCode::SUCCESS)
}
