//! `clawhook runs`: find runs, look into one, cancel it, run it again, or let it go on.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api::{Api, Once, Place, Server};
use super::artifact::Artifact;
use super::error::Error;
use super::output::{self, Output};
use super::show;
use super::table::table;
use super::words::{Moment, age_of, between, list, text};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::domain::state::State;
use crate::domain::trigger::TriggerKind;

/// What to do with runs.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Runs {
    /// Lists runs, newest first
    List(List),
    /// Shows one run: what started it, every attempt, and why it stands where it does
    Show(Show),
    /// Shows the events of a run's log
    Events(One),
    /// Lists what of a run is too large for its record, or fetches one of it
    Artifact(Artifact),
    /// Asks a run to stop; what is in flight is cut off
    Cancel(Cancel),
    /// Starts a new run with the inputs of an old one, on the workflow as it stands now
    Replay(Replay),
    /// Lets a failed or cancelled run go on from the task that failed
    Resume(One),
}

/// Which runs to list.
#[derive(Debug, Clone, Args)]
pub(super) struct List {
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Runs on one page, at most 200
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Where the page begins: the `next` of the page before
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Print the gateway's answer as it came
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// What runs must be like.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Filter {
    /// Runs of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Runs in this state; may be given several times
    #[arg(long, value_name = "STATE", value_parser = state)]
    status: Vec<State>,
    /// Runs that were started this way: delivery, slot, manual or replay
    #[arg(long, value_name = "KIND", value_parser = trigger)]
    trigger: Option<TriggerKind>,
    /// Runs that this route, schedule, person or run started
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Runs accepted at or after this time, or in the time since this long ago
    #[arg(long, value_name = "TIME|AGO", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// Runs accepted before this time
    #[arg(long, value_name = "TIME|AGO", value_parser = Moment::parse)]
    until: Option<Moment>,
    /// Runs with this label; may be given several times
    #[arg(long, value_name = "K=V")]
    label: Vec<String>,
    /// Failed runs of this cause, as `runs show` names it
    #[arg(long, value_name = "CAUSE")]
    cause: Option<String>,
}

impl Filter {
    /// Writes it into the query of a list.
    pub(super) fn put(&self, place: &mut Place, now: Timestamp) {
        place.query("workflow", self.workflow.as_ref());
        let states: Vec<_> = self.status.iter().map(|state| state.as_str()).collect();
        place.query("status", (!states.is_empty()).then(|| states.join(",")));
        place.query("trigger", self.trigger.map(TriggerKind::as_str));
        place.query("source", self.source.as_ref());
        place.query("since", self.since.map(|moment| moment.at(now)));
        place.query("until", self.until.map(|moment| moment.at(now)));
        for label in &self.label {
            place.query("label", Some(label));
        }
        place.query("cause", self.cause.as_ref());
    }
}

/// A run to show.
#[derive(Debug, Clone, Args)]
pub(super) struct Show {
    /// The run
    run: String,
    /// Show bodies, inputs and outputs whole instead of their first lines
    #[arg(long)]
    full: bool,
    /// Print the gateway's answer as it came
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// A run.
#[derive(Debug, Clone, Args)]
pub(super) struct One {
    /// The run
    run: String,
    /// Print the gateway's answer as it came
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// A run to stop.
#[derive(Debug, Clone, Args)]
pub(super) struct Cancel {
    #[command(flatten)]
    one: One,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "from the command line")]
    reason: String,
}

/// A run to start again.
#[derive(Debug, Clone, Args)]
pub(super) struct Replay {
    #[command(flatten)]
    one: One,
    /// The same key again gives the same new run
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

fn state(word: &str) -> Result<State, String> {
    let known = || State::ALL.map(State::as_str).join(", ");
    State::parse(word).ok_or_else(|| format!("a state is one of {}", known()))
}

fn trigger(word: &str) -> Result<TriggerKind, String> {
    let known = || TriggerKind::ALL.map(TriggerKind::as_str).join(", ");
    TriggerKind::parse(word).ok_or_else(|| format!("a trigger is one of {}", known()))
}

pub(super) async fn run(runs: Runs, output: Output) -> Result<ExitCode, Error> {
    match runs {
        Runs::List(list) => self::list_runs(&list).await?,
        Runs::Show(show) => {
            let run = Api::open(&show.server)?.get(&Place::new(&["runs", &show.run])).await?;
            let cut = if show.full { show::Cut::Whole } else { show::Cut::First };
            output::show(show.json, &run, || show::run(&run, SystemClock.now(), cut, output.paint()));
        }
        Runs::Events(one) => {
            let events = Api::open(&one.server)?.get(&Place::new(&["runs", &one.run, "events"])).await?;
            output::show(one.json, &events, || show_events(&events));
        }
        Runs::Artifact(artifact) => artifact.run().await?,
        Runs::Cancel(Cancel { one, reason }) => {
            let place = Place::new(&["runs", &one.run, "cancel"]);
            let done = Api::open(&one.server)?.post(&place, &json!({ "reason": reason })).await?;
            output::show(one.json, &done, || match text(&done, "status") {
                "cancelling" => format!("{} was told to stop; `clawhook runs show {0}` says when it has", one.run),
                status => format!("{} is {status}", one.run),
            });
        }
        Runs::Replay(Replay { one, idempotency_key }) => {
            let place = Place::new(&["runs", &one.run, "replay"]);
            let api = Api::open(&one.server)?;
            let once = Once { key: idempotency_key.as_deref(), ..Once::default() };
            let done = api.post_once(&place, &json!({}), &once).await?;
            output::show(one.json, &done, || show::triggered(&done));
        }
        Runs::Resume(one) => {
            let done = Api::open(&one.server)?.post(&Place::new(&["runs", &one.run, "resume"]), &json!({})).await?;
            output::show(one.json, &done, || {
                let again: Vec<_> = list(&done, "again").iter().filter_map(Value::as_str).collect();
                let what =
                    if again.is_empty() { "from the start".to_owned() } else { format!("with {}", again.join(", ")) };
                format!("{} goes on {what}\nsee it with `clawhook runs show {0}`", one.run)
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list_runs(list: &List) -> Result<(), Error> {
    let now = SystemClock.now();
    let mut place = Place::new(&["runs"]);
    list.filter.put(&mut place, now);
    place.query("limit", list.limit);
    place.query("cursor", list.cursor.as_ref());
    let page = Api::open(&list.server)?.get(&place).await?;
    output::show(list.json, &page, || show_page(&page, now));
    if let (false, Some(next)) = (list.json, page["next"].as_str()) {
        output::note(&format!("there are more: add `--cursor {next}`"));
    }
    Ok(())
}

fn show_page(page: &Value, now: Timestamp) -> String {
    let rows = list(page, "items").iter().map(|run| row(run, now));
    if rows.len() == 0 {
        return "no runs".to_owned();
    }
    table(&["RUN", "WORKFLOW", "STATUS", "STARTED BY", "ACCEPTED", "TOOK", "ABOUT"], rows)
}

fn row(run: &Value, now: Timestamp) -> Vec<String> {
    let took = run["started_at"].as_str().zip(run["ended_at"].as_str()).and_then(|(start, end)| between(start, end));
    vec![
        text(run, "id").to_owned(),
        text(run, "workflow").to_owned(),
        text(run, "status").to_owned(),
        format!("{} {}", text(run, "trigger"), text(run, "source")),
        age_of(text(run, "accepted_at"), now),
        took.unwrap_or_default(),
        about(run, now),
    ]
}

/// The one thing that most wants to be known of a run in a list.
fn about(run: &Value, now: Timestamp) -> String {
    if let Some(cause) = run["cause"].as_str() {
        return cause.to_owned();
    }
    if let Some(wakes) = run["wakes_at"].as_str() {
        return format!("goes on {}", age_of(wakes, now));
    }
    if let Some(first) = run["suspected_replay_of"].as_str() {
        return format!("suspected replay of {first}");
    }
    show::labels(run)
}

fn show_events(events: &Value) -> String {
    let rows = list(events, "items").iter().map(|event| {
        let detail = match &event["detail"] {
            Value::Null => String::new(),
            detail => show::shortened(&detail.to_string(), EVENT_CHARS),
        };
        vec![
            super::words::number(event, "seq").to_string(),
            text(event, "at").to_owned(),
            text(event, "event").to_owned(),
            detail,
        ]
    });
    table(&["SEQ", "AT", "EVENT", "DETAIL"], rows)
}

/// Characters of an event's detail in a table; `--json` has all of it.
const EVENT_CHARS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_338_000);

    #[test]
    fn a_page_of_runs() {
        let page = json!({ "items": [
            { "id": "run_01k4q8zr5m2c7", "workflow": "shopify-order-to-erp", "status": "failed", "trigger": "delivery",
              "source": "shopify-us-orders", "accepted_at": "2026-11-22T08:50:00.000Z",
              "started_at": "2026-11-22T08:50:00.002Z", "ended_at": "2026-11-22T08:50:12.402Z",
              "labels": { "order": "#1042" }, "cause": "http.status/erp/500" },
            { "id": "run_01k4q8zr5m2c6", "workflow": "inventory-reconcile", "status": "waiting", "trigger": "slot",
              "source": "inventory-every-2h", "accepted_at": "2026-11-22T08:00:00.000Z",
              "wakes_at": "2026-11-22T09:05:00.000Z", "labels": {} },
            { "id": "run_01k4q8zr5m2c5", "workflow": "shopify-order-to-erp", "status": "queued", "trigger": "manual",
              "source": "cli:ops", "accepted_at": "2026-11-22T08:59:59.000Z", "labels": { "order": "#1041", "team": "a" } },
        ] });
        insta::assert_snapshot!(show_page(&page, NOW));
        assert_eq!(show_page(&json!({ "items": [] }), NOW), "no runs");
    }

    #[test]
    fn events_of_a_run() {
        let events = json!({ "items": [
            { "seq": 0, "at": "2026-11-22T08:50:00.000Z", "event": "accepted", "detail": { "workflow": "w" } },
            { "seq": 1, "at": "2026-11-22T08:50:00.002Z", "event": "woken", "detail": null },
        ] });
        insta::assert_snapshot!(show_events(&events));
    }

    #[test]
    fn filters_go_into_the_query() {
        let filter = Filter {
            status: vec![State::Failed, State::Waiting],
            since: Some(Moment::Ago(std::time::Duration::from_hours(2))),
            label: vec!["order=#1042".to_owned(), "team=ops".to_owned()],
            ..Filter::default()
        };
        let mut place = Place::new(&["runs"]);
        filter.put(&mut place, NOW);
        insta::assert_snapshot!(place.text());
    }
}
