//! `clawhook schedules`: what runs by the clock, paused, resumed and backfilled.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api::{Api, Place, Server};
use super::error::Error;
use super::output;
use super::table::table;
use super::words::{Moment, age_of, count, list, text};
use crate::clock::{Clock, SystemClock, Timestamp};

/// What to do with schedules.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Schedules {
    /// Lists the schedules and when each is due next
    List(Where),
    /// Enters no slot until it is resumed
    Pause(Pause),
    /// Lets a paused schedule go on; `catchup` rules what becomes of the slots that passed
    Resume(One),
    /// Runs the slots of a time that were missed; those that ran stay as they are
    Backfill(Backfill),
}

/// Which gateway, and in which form.
#[derive(Debug, Clone, Args)]
pub(super) struct Where {
    /// Print the gateway's answer as it came
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) server: Server,
}

/// A schedule or route by its name.
#[derive(Debug, Clone, Args)]
pub(super) struct One {
    /// Its name
    pub(super) name: String,
    #[command(flatten)]
    pub(super) at: Where,
}

/// A schedule or route to pause.
#[derive(Debug, Clone, Args)]
pub(super) struct Pause {
    #[command(flatten)]
    pub(super) one: One,
    /// Why, for the record and for whoever sees it paused
    #[arg(long, value_name = "TEXT", default_value = "from the command line")]
    pub(super) reason: String,
}

/// The time to fill.
#[derive(Debug, Clone, Args)]
pub(super) struct Backfill {
    #[command(flatten)]
    one: One,
    /// From this time on, or since this long ago
    #[arg(long, value_name = "TIME|AGO", value_parser = Moment::parse)]
    since: Moment,
    /// Before this time; now when left out
    #[arg(long, value_name = "TIME|AGO", value_parser = Moment::parse)]
    until: Option<Moment>,
}

pub(super) async fn run(schedules: &Schedules) -> Result<ExitCode, Error> {
    let now = SystemClock.now();
    match schedules {
        Schedules::List(at) => {
            let answer = Api::open(&at.server)?.get(&Place::new(&["schedules"])).await?;
            output::show(at.json, &answer, || show_list(&answer, now));
        }
        Schedules::Pause(Pause { one, reason }) => {
            let place = Place::new(&["schedules", &one.name, "pause"]);
            let answer = Api::open(&one.at.server)?.post(&place, &json!({ "reason": reason })).await?;
            output::show(one.at.json, &answer, || {
                format!("`{}` is paused: no slot is entered until it is resumed", one.name)
            });
        }
        Schedules::Resume(one) => {
            let place = Place::new(&["schedules", &one.name, "resume"]);
            let answer = Api::open(&one.at.server)?.post(&place, &json!({})).await?;
            output::show(one.at.json, &answer, || {
                let next = list(&answer, "next").first().map(|slot| format!("; next at {}", text(slot, "local")));
                format!("`{}` goes on{}", one.name, next.unwrap_or_default())
            });
        }
        Schedules::Backfill(Backfill { one, since, until }) => {
            let place = Place::new(&["schedules", &one.name, "backfill"]);
            let until = until.map_or(now, |until| until.at(now));
            let body = json!({ "since": since.at(now).to_string(), "until": until.to_string() });
            let answer = Api::open(&one.at.server)?.post(&place, &body).await?;
            output::show(one.at.json, &answer, || show_backfill(&answer));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_list(answer: &Value, now: Timestamp) -> String {
    let schedules = list(answer, "items");
    if schedules.is_empty() {
        return "no schedules".to_owned();
    }
    let rows = schedules.iter().map(|schedule| {
        let next = list(schedule, "next").first();
        let state = match schedule["paused"].as_str() {
            _ if schedule["enabled"] == false => "disabled".to_owned(),
            Some(why) => format!("paused ({why})"),
            None => "active".to_owned(),
        };
        vec![
            text(schedule, "name").to_owned(),
            text(schedule, "rule").to_owned(),
            text(schedule, "timezone").to_owned(),
            text(schedule, "workflow").to_owned(),
            state,
            next.map(|slot| format!("{} ({})", text(slot, "local"), age_of(text(slot, "due"), now)))
                .unwrap_or_default(),
        ]
    });
    table(&["SCHEDULE", "RULE", "ZONE", "WORKFLOW", "STATE", "NEXT"], rows)
}

fn show_backfill(answer: &Value) -> String {
    let entered = list(answer, "entered");
    let known = list(answer, "known").len();
    let first = format!("{} entered, {known} had been entered before", count(entered.len(), "missed slot"));
    let mut lines = vec![first];
    lines.extend(entered.iter().map(|slot| format!("{}  {}", text(slot, "due"), text(slot, "run_id"))));
    if answer["more"] == true {
        lines.push("there are more slots in that time: backfill again from the last one on".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_and_what_comes_next() {
        let answer = json!({ "items": [
            { "name": "inventory-every-2h", "rule": "0 */2 * * *", "timezone": "Asia/Shanghai", "workflow": "inventory-reconcile",
              "enabled": true, "next": [{ "due": "2026-11-22T10:00:00.000Z", "local": "2026-11-22T18:00:00+08:00" }] },
            { "name": "ping", "rule": "every 90s", "workflow": "ping", "enabled": true, "paused": "ops: ERP is down", "next": [] },
        ] });
        insta::assert_snapshot!(show_list(&answer, Timestamp::from_secs(1_795_338_000)));
    }

    #[test]
    fn what_a_backfill_did() {
        let answer = json!({ "entered": [{ "due": "2026-11-22T08:00:00.000Z", "run_id": "run_01k4q8zr5m2c7" }],
            "known": ["2026-11-22T06:00:00.000Z"], "more": true });
        insta::assert_snapshot!(show_backfill(&answer));
    }
}
