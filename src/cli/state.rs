//! `clawhook state`: what a workflow remembers from run to run, shown and set.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api::{Api, Place};
use super::error::Error;
use super::output;
use super::schedules::One;
use super::words::text;

/// What to do with the state of a workflow.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum States {
    /// Shows it
    Show(One),
    /// Sets members of it; the change is kept as a run, and in the audit
    Set(Set),
}

/// Members to set.
#[derive(Debug, Clone, Args)]
pub(super) struct Set {
    #[command(flatten)]
    one: One,
    /// A member and its value: JSON when it reads as JSON, else text; `null` removes it
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = super::inputs::member)]
    members: Vec<(String, Value)>,
}

pub(super) async fn run(state: &States) -> Result<ExitCode, Error> {
    match state {
        States::Show(one) => {
            let answer = Api::open(&one.at.server)?.get(&Place::new(&["workflows", &one.name, "state"])).await?;
            output::show(one.at.json, &answer, || pretty(&answer));
        }
        States::Set(Set { one, members }) => {
            let set: Map<String, Value> = members.iter().cloned().collect();
            let place = Place::new(&["workflows", &one.name, "state"]);
            let answer = Api::open(&one.at.server)?.post(&place, &json!({ "set": set })).await?;
            output::show(one.at.json, &answer, || {
                format!("set by {}; the state is now\n{}", text(&answer, "run_id"), pretty(&answer["state"]))
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn pretty(state: &Value) -> String {
    serde_json::to_string_pretty(state).unwrap_or_default()
}
