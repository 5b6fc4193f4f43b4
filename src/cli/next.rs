//! `clawhook next`: when the schedules are due, and what a change of the clocks does to it.

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::SecondsFormat;
use clap::Args;
use serde_json::{Value, json};

use super::config;
use super::error::Error;
use super::output;
use super::table::table;
use super::words::{age, count, text};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::domain::schedule::{Schedule, State};
use crate::spec::diagnostic::Report;

/// Which slots to show.
#[derive(Debug, Clone, Args)]
pub(super) struct Next {
    /// Settings file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Slots of each schedule
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// Slots of this schedule only
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// Slots after this time instead of now
    #[arg(long, value_name = "TIME", value_parser = from)]
    from: Option<Timestamp>,
    /// Print the slots as JSON
    #[arg(long)]
    json: bool,
}

fn from(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text)
        .ok_or_else(|| "write a time with a zone, such as `2026-11-01T08:00:00+08:00`".to_owned())
}

pub(super) fn run(next: &Next) -> Result<ExitCode, Error> {
    let gathered = config::gather(&next.config, &config::environment());
    let errors = Report::new(gathered.problems).errors();
    if errors > 0 {
        output::note(&format!("the files have {}: see them with `clawhook check`", count(errors, "problem")));
    }
    let now = SystemClock.now();
    let schedules = &gathered.loaded.catalog.schedules;
    let wanted: Vec<_> = schedules
        .values()
        .map(|plan| &plan.schedule)
        .filter(|schedule| next.schedule.as_ref().is_none_or(|name| schedule.name.as_str() == name))
        .collect();
    if let (Some(name), true) = (&next.schedule, wanted.is_empty()) {
        let known: Vec<_> = schedules.keys().map(|name| format!("`{name}`")).collect();
        let help = if known.is_empty() {
            "no schedule is healthy".to_owned()
        } else {
            format!("the schedules are {}", known.join(", "))
        };
        return Err(Error::new(format!("there is no schedule `{name}`")).help(help));
    }
    let after = next.from.unwrap_or(now);
    let slots: Vec<_> = wanted.iter().flat_map(|schedule| coming(schedule, after, usize::from(next.count))).collect();
    if next.json {
        output::print_json(&Value::Array(slots));
    } else {
        output::print(&show(&slots, now));
    }
    Ok(ExitCode::SUCCESS)
}

fn coming(schedule: &Schedule, after: Timestamp, count: usize) -> Vec<Value> {
    let zone = schedule.rule.zone().unwrap_or(chrono_tz::UTC);
    let state = match schedule.state {
        State::Active => None,
        State::Paused => Some("paused by its file"),
        State::Disabled => Some("disabled"),
    };
    let slots = schedule.rule.after(after).take(count);
    slots
        .map(|slot| {
            let local = slot.due.to_utc().with_timezone(&zone).to_rfc3339_opts(SecondsFormat::AutoSi, false);
            let mut shown = json!({
                "schedule": schedule.name, "due": slot.due.to_string(), "local": local, "timezone": zone.name(),
            });
            let note = state.map(str::to_owned).or_else(|| slot.note.map(|note| note.to_string()));
            if let Some(note) = note {
                shown["note"] = json!(note);
            }
            shown
        })
        .collect()
}

fn show(slots: &[Value], now: Timestamp) -> String {
    if slots.is_empty() {
        return "no schedules".to_owned();
    }
    let rows = slots.iter().map(|slot| {
        let due = text(slot, "due");
        let age = Timestamp::parse_rfc3339(due).map(|due| age(due, now)).unwrap_or_default();
        let zoned = format!("{} {}", text(slot, "local"), text(slot, "timezone"));
        vec![text(slot, "schedule").to_owned(), zoned, due.to_owned(), age, text(slot, "note").to_owned()]
    });
    table(&["SCHEDULE", "LOCAL", "UTC", "WHEN", "NOTE"], rows)
}
