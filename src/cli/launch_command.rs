//! The hidden verb by which the gateway starts programs: it enters a control group and becomes the program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::tasks::command::launch::{FAILED_EXIT, Launch};

/// What to become.
#[derive(Debug, Clone, Args)]
pub(super) struct LaunchCommand {
    /// The control group to enter first
    #[arg(long)]
    group: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    line: Vec<OsString>,
}

/// Answers only when it failed.
pub(super) fn run(wanted: &LaunchCommand) -> ExitCode {
    let (program, args) =
        wanted.line.split_first().map_or_else(Default::default, |(program, args)| (program.clone(), args.to_vec()));
    let why = Launch { group: wanted.group.clone(), program, args }.exec();
    output::note(&why);
    ExitCode::from(FAILED_EXIT)
}
