//! Arguments, runtime, exit code.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    clawhook::cli::run(clawhook::cli::Arguments::parse()).await
}
