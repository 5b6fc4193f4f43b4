//! `clawhook export`: the whole record of a run, or of many, as JSON files that need no gateway to be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::api::{Api, Place, Server};
use super::error::Error;
use super::output::{self, Output, pretty};
use super::runs::Filter;
use super::words::{count, list, text};
use crate::clock::{Clock, SystemClock};
use crate::limits;

/// What to export.
#[derive(Debug, Clone, Args)]
pub(super) struct Export {
    /// The run; without it, all runs that the filters let through
    #[arg(conflicts_with_all = ["workflow", "status", "trigger", "source", "since", "until", "label", "cause"])]
    run: Option<String>,
    /// Where to write: a file for one run (stdout when left out), a folder for many
    #[arg(long, value_name = "PATH", required_unless_present = "run")]
    out: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(export: &Export, output: Output) -> Result<ExitCode, Error> {
    let api = Api::open(&export.server)?;
    match (&export.run, &export.out) {
        (Some(run), None) => output::print_json(&record(&api, run).await?),
        (Some(run), Some(file)) => {
            write(file, &record(&api, run).await?)?;
            output::note(&format!("wrote {}", file.display()));
        }
        (None, Some(folder)) => many(&api, &export.filter, folder, output).await?,
        (None, None) => {
            return Err(Error::new("nothing says what to export").help("name a run, or a folder with `--out`"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A run with its log.
async fn record(api: &Api, id: &str) -> Result<Value, Error> {
    let run = api.get(&Place::new(&["runs", id])).await?;
    let mut events = api.get(&Place::new(&["runs", id, "events"])).await?;
    Ok(json!({ "version": 1, "run": run, "events": events["items"].take() }))
}

async fn many(api: &Api, filter: &Filter, folder: &Path, output: Output) -> Result<(), Error> {
    let now = SystemClock.now();
    let bar = progress(output);
    let (mut cursor, mut written) = (None, 0);
    loop {
        let mut place = Place::new(&["runs"]);
        filter.put(&mut place, now);
        place.query("limit", Some(limits::PAGE_MAX));
        place.query("cursor", cursor.as_ref());
        let page = api.get(&place).await?;
        for run in list(&page, "items") {
            write(&folder.join(place_of(run)), &record(api, text(run, "id")).await?)?;
            written += 1;
            bar.inc(1);
        }
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    bar.finish_and_clear();
    output::note(&format!("wrote {} into {}", count(written, "run"), folder.display()));
    Ok(())
}

fn progress(output: Output) -> ProgressBar {
    let target = if output.watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    // How many there will be is not known: pages are read one after another.
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} runs exported, {per_sec}") {
        bar.set_style(style);
    }
    bar
}

/// `runs/{workflow}/{yyyy}/{mm}/{dd}/{run_id}.json`, by the day (UTC) on which it was accepted. All parts are names of
/// ours, which cannot leave the folder; what does not look like one is replaced.
fn place_of(run: &Value) -> PathBuf {
    let accepted = text(run, "accepted_at");
    let day: Vec<_> = accepted.get(..10).unwrap_or_default().split('-').map(name).collect();
    let mut place = PathBuf::from("runs").join(name(text(run, "workflow")));
    place.extend(day);
    place.join(format!("{}.json", name(text(run, "id"))))
}

fn name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = text.chars().map(plain).collect();
    if name.trim_matches('.').is_empty() { "_".to_owned() } else { name }
}

/// Writes beside the file first, so that a file that is there is whole.
fn write(path: &Path, value: &Value) -> Result<(), Error> {
    let told = |error: std::io::Error| Error::file("write", path, &error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(told)?;
    }
    let part = path.with_extension("part");
    fs::write(&part, pretty(value) + "\n").map_err(told)?;
    fs::rename(&part, path).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(workflow: &str, accepted_at: &str, expected: &str) {
        let run = json!({ "id": "run_01k4q8zr5m2c7", "workflow": workflow, "accepted_at": accepted_at });
        assert_eq!(place_of(&run), Path::new(expected));
    }

    #[test]
    fn places_are_by_workflow_and_day() {
        check("orders", "2026-11-22T08:50:00.000Z", "runs/orders/2026/11/22/run_01k4q8zr5m2c7.json");
        check("../../etc", "../..", "runs/.._.._etc/_/run_01k4q8zr5m2c7.json");
        check("..", "", "runs/_/_/run_01k4q8zr5m2c7.json");
    }
}
