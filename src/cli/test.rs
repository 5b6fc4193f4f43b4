//! `clawhook test`: plays the tests of workflows, offline, and says what was not as expected.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::json;
use tokio::time::Instant;

use super::check::render;
use super::config;
use super::error::Error;
use super::output::{self, Output, visible};
use super::words::{count, took};
use crate::settings::Settings;
use crate::spec::diagnostic::{Problem, Report};
use crate::spec::{Files, SourceFile, load};
use crate::trials::{self, Line, Outcome, Theatre, TrialFile, junit};

/// Which tests to play.
#[derive(Debug, Clone, Args)]
pub(super) struct Test {
    /// Files of tests, or folders of them; the folder of the workflows when none is named
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Settings file: where the files are, and what connections and channels there are
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Only tests whose file or name holds this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Write the results as JUnit XML into this file too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// How to print the results
    #[arg(long, value_enum, default_value = "text")]
    output: Form,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

/// Exit code when files are wrong, so that no test was played.
const FILES_ARE_WRONG: u8 = 2;

/// Tests that are played at one time.
const AT_ONCE: usize = 4;

pub(super) async fn run(wanted: &Test, output: Output) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let (theatre, files) = match open(wanted) {
        Ok(opened) => opened,
        Err(Stop::Files(problems)) => {
            let report = Report::new(problems);
            if wanted.output == Form::Json {
                output::print_json(&json!({ "problems": report.entries() }));
            } else {
                output::note(&format!("{}no test was played, because of the problems above", render(&report, output)));
            }
            return Ok(ExitCode::from(FILES_ARE_WRONG));
        }
        Err(Stop::Other(error)) => return Err(error),
    };
    let chosen = chosen(&files, wanted.filter.as_deref());
    if chosen.is_empty() {
        let what =
            wanted.filter.as_ref().map_or("there are no tests".to_owned(), |text| format!("no test holds `{text}`"));
        return Err(Error::new(what).help(
            "tests stand beside the workflows, in files such as `workflows/orders.test.yaml`; `clawhook record RUN` makes one",
        ));
    }
    let mut outcomes = Vec::new();
    let played = chosen.into_iter().map(|(file, number)| theatre.play(file, number));
    let mut played = stream::iter(played).buffered(AT_ONCE);
    while let Some(outcome) = played.next().await {
        let Some(outcome) = outcome else { continue };
        if wanted.output == Form::Text {
            let before = outcomes.last().map(|outcome: &Outcome| outcome.file.as_str());
            output::print(&line(&outcome, before, output));
        }
        outcomes.push(outcome);
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    if let Some(file) = &wanted.junit {
        std::fs::write(file, junit::report(&outcomes)).map_err(|error| Error::file("write", file, &error))?;
    }
    if wanted.output == Form::Json {
        output::print_json(&json!({ "tests": outcomes, "passed": outcomes.len() - failed, "failed": failed }));
    } else {
        let took = took(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        output::print(&summary(&outcomes, failed, &took, output));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why no test was played.
enum Stop {
    Files(Vec<Problem>),
    Other(Error),
}

fn open(wanted: &Test) -> Result<(Theatre, Vec<TrialFile>), Stop> {
    let settings = config::without_doors(&wanted.config, true).map_err(Stop::Files)?;
    let Some(settings) = settings else { return Err(Stop::Other(Error::new("there is no settings file"))) };
    let mut problems = Vec::new();
    let files = Files::read(&settings.routes, &settings.workflows, &settings.folder, &mut problems);
    let around = settings.around();
    let mut loaded = load(&files, &around);
    problems.append(&mut loaded.problems);
    let tests = tests(wanted, &settings).map_err(Stop::Other)?;
    let trials = trials::read(&tests, &settings.folder, &loaded.catalog, &around.connections, &mut problems);
    let report = Report::new(problems);
    if report.errors() > 0 {
        return Err(Stop::Files(report.problems().to_vec()));
    }
    Ok((Theatre::new(loaded.catalog, &settings), trials))
}

/// The files of tests that were asked for.
fn tests(wanted: &Test, settings: &Settings) -> Result<Vec<SourceFile>, Error> {
    if wanted.paths.is_empty() {
        return Ok(SourceFile::tests(&settings.workflows, &settings.folder));
    }
    let mut files = Vec::new();
    for path in &wanted.paths {
        let whole = std::path::absolute(path).map_err(|error| Error::file("find", path, &error))?;
        if whole.is_dir() {
            files.extend(SourceFile::tests(&whole, &settings.folder));
        } else {
            files.push(read(&whole, path, settings)?);
        }
    }
    Ok(files)
}

fn read(whole: &Path, path: &Path, settings: &Settings) -> Result<SourceFile, Error> {
    SourceFile::read(whole, &settings.folder).map_err(|error| Error::file("read", path, &error))
}

/// The tests whose file or name holds the text.
fn chosen<'f>(files: &'f [TrialFile], filter: Option<&str>) -> Vec<(&'f TrialFile, usize)> {
    let fits = |file: &TrialFile, name: &str| filter.is_none_or(|text| file.name.contains(text) || name.contains(text));
    let tests = files.iter().flat_map(|file| file.tests().enumerate().map(move |(number, name)| (file, number, name)));
    tests.filter(|(file, _, name)| fits(file, name)).map(|(file, number, _)| (file, number)).collect()
}

/// A test on its line, under its file when that is another than before.
fn line(outcome: &Outcome, before: Option<&str>, output: Output) -> String {
    let paint = output.paint();
    let head = if before == Some(outcome.file.as_str()) { String::new() } else { format!("{}\n", outcome.file) };
    let mark = if outcome.passed() { paint.good("✓") } else { paint.bad("✗") };
    let name = visible(&outcome.name);
    let mut lines = vec![format!("{head}  {mark} {name}")];
    for mismatch in &outcome.mismatches {
        let place = format!("{}:{}:{}", outcome.file, mismatch.at.0, mismatch.at.1);
        lines.push(format!("      {}  {}", paint.bold(&mismatch.subject), paint.dim(&place)));
        for line in mismatch.lines() {
            let line = match line {
                Line::Expected(text) => paint.bad(&format!("- {}", indented(&text))),
                Line::Actual(text) => paint.good(&format!("+ {}", indented(&text))),
                Line::Note(text) => indented(&text),
            };
            lines.push(format!("        {line}"));
        }
    }
    lines.join("\n")
}

fn indented(text: &str) -> String {
    visible(text).replace('\n', "\n          ")
}

fn summary(outcomes: &[Outcome], failed: usize, took: &str, output: Output) -> String {
    let paint = output.paint();
    let passed = outcomes.len() - failed;
    let failed = if failed == 0 { String::new() } else { format!("{}, ", paint.bad(&format!("{failed} failed"))) };
    format!("\n{}: {failed}{} in {took}", count(outcomes.len(), "test"), paint.good(&format!("{passed} passed")))
}
