//! `standin`: the stand-in ERP as a program, for the demo and for trying things by hand.

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "standin.rs"]
mod standin;

use std::process::ExitCode;

use clap::Parser;
use standin::{Settings, Standin};

/// A small ERP that records what it is sent and fails when told to. Loopback only, nothing is kept on disk.
#[derive(Debug, Parser)]
#[command(name = "standin")]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one and prints it
    #[arg(long, default_value_t = 9400)]
    port: u16,
    /// Ask for this key in `X-Api-Key`
    #[arg(long)]
    api_key: Option<String>,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to a person")]
fn main() -> ExitCode {
    let Arguments { port, api_key } = Arguments::parse();
    let standin = match Standin::start(&Settings { port, api_key }) {
        Ok(standin) => standin,
        Err(error) => {
            eprintln!("error: cannot listen on `127.0.0.1:{port}`: {error}\nhelp: choose another port: --port 0");
            return ExitCode::FAILURE;
        }
    };
    println!("standin listening on {}", standin.url());
    // No handler for signals: in a terminal Ctrl-C ends it, and beside the demo's gateway it outlives the drain.
    loop {
        std::thread::park();
    }
}
