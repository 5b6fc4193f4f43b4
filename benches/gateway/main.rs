//! All numbers that Clawhook publishes about its speed, by one command: `cargo bench --bench gateway`.
//!
//! Each number stands beside the same number of a bare actix handler that checks the same HMAC and answers 202, taken
//! in the same minutes on the same cores, so that a reader can judge the machine. `bench/README.md` says how each is
//! taken. Nothing here is called from outside: all servers and loads are on 127.0.0.1.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to a person")]

mod accept;
mod backends;
mod bare;
mod fill;
mod folder;
mod life;
mod list;
mod load;
mod outbound;
mod process;
mod report;
mod rounds;
mod runs;
mod schedule;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use report::Report;

/// Any failure of the bench: it ends it.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// What is measured, under the name that picks it.
const SECTIONS: [&str; 8] =
    ["accept", "accept-running", "backends", "runs", "memory", "cold-start", "schedule", "list"];

/// What every section knows.
struct Bench {
    /// Small counts, for a look and for trying the bench itself.
    quick: bool,
    /// The folder that gateways keep their data under: it decides which disk is measured.
    folder: PathBuf,
    report: Report,
}

impl Bench {
    /// One of two counts: the full one, or the quick one.
    fn count(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some(bare::ARGUMENT) => bare::serve(arguments.get(1).map(String::as_str)),
        Some("--help" | "-h") => {
            help();
            Ok(())
        }
        _ => measure(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn help() {
    println!("cargo bench --bench gateway -- [--quick] [--folder PATH] [SECTION …]");
    println!("sections: {}", SECTIONS.join(", "));
}

fn measure(arguments: &[String]) -> Result<()> {
    let mut bench =
        Bench { quick: false, folder: Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned(), report: Report::default() };
    let mut wanted: Vec<&str> = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => bench.quick = true,
            "--folder" => bench.folder = arguments.next().ok_or("`--folder` wants a path")?.into(),
            section if SECTIONS.contains(&section) => wanted.push(section),
            other => {
                help();
                return Err(format!("`{other}` is neither a flag nor a section").into());
            }
        }
    }
    if wanted.is_empty() {
        wanted = SECTIONS.to_vec();
    }
    std::fs::create_dir_all(&bench.folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        bench.report.machine(&bench.folder)?;
        for section in wanted {
            eprintln!("== {section}");
            match section {
                "accept" => accept::held(&mut bench).await?,
                "accept-running" => accept::running(&mut bench).await?,
                "backends" => backends::measure(&mut bench).await?,
                "runs" => runs::measure(&mut bench).await?,
                "memory" => life::memory(&mut bench).await?,
                "cold-start" => life::cold_start(&mut bench).await?,
                "schedule" => schedule::measure(&mut bench).await?,
                "list" => list::measure(&mut bench).await?,
                _ => unreachable!("sections were checked"),
            }
        }
        println!("{}", bench.report);
        Ok(())
    })
}
