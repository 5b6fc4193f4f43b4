//! Arguments, runtime, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use clawhook::cli::{self, Arguments};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::launch(&arguments).unwrap_or_else(|| run(arguments))
}

#[tokio::main]
async fn run(arguments: Arguments) -> ExitCode {
    cli::run(arguments).await
}
