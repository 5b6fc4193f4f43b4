//! Arguments, runtime, exit code.

use std::process::ExitCode;

use clap::Parser as _;

/// Requests are built on one thread and freed on another all day, which the C library's allocator does slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    clawhook::cli::run(clawhook::cli::Arguments::parse()).await
}
