//! `clawhook trigger`: starts a workflow on a gateway.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::api::{Api, Once, Place, Server};
use super::error::Error;
use super::inputs::{self, Given};
use super::output;
use super::show;
use super::words::{list, text};
use crate::domain::duration;

/// What to start, and with what.
#[derive(Debug, Clone, Args)]
pub(super) struct Trigger {
    /// The workflow
    workflow: String,
    #[command(flatten)]
    given: Given,
    /// The same key again gives the same run
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait this long for the end, at most 1m
    #[arg(long, value_name = "DURATION", value_parser = wait)]
    wait: Option<Duration>,
    /// Print the gateway's answer as it came
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

fn wait(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

pub(super) async fn run(trigger: &Trigger) -> Result<ExitCode, Error> {
    let api = Api::open(&trigger.server)?;
    let workflow = declaration(&api, &trigger.workflow).await?;
    let declared: Vec<_> =
        list(&workflow, "inputs").iter().map(|input| (text(input, "name"), text(input, "type"))).collect();
    let inputs = inputs::read(&trigger.given, |name| {
        declared.iter().find(|(declared, _)| *declared == name).map(|(_, of)| (*of).to_owned())
    })?;
    let mut body = json!({ "workflow": trigger.workflow, "inputs": inputs });
    if let Some(key) = &trigger.idempotency_key {
        body["idempotency_key"] = json!(key);
    }
    if let Some(wait) = trigger.wait {
        body["wait"] = json!(duration::format(wait));
    }
    let once = Once { key: None, wait: trigger.wait.unwrap_or_default() };
    let done = api.post_once(&Place::new(&["workflows", "trigger"]), &body, &once).await?;
    output::show(trigger.json, &done, || show::triggered(&done));
    let failed = matches!(text(&done, "status"), "failed" | "cancelled");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The workflow as the gateway has it: only it knows the declared types, by which text is read. A caller who may start
/// workflows and not look at them gets none, and types its values as JSON.
async fn declaration(api: &Api, workflow: &str) -> Result<Value, Error> {
    match api.get(&Place::new(&["workflows", workflow])).await {
        Err(error) if error.code.as_deref() == Some("auth.forbidden") => Ok(Value::Null),
        other => other,
    }
}
