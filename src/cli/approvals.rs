//! `clawhook approvals`: what waits for people, shown and decided.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api::{Api, Place};
use super::error::Error;
use super::output;
use super::schedules::{One, Where};
use super::table::table;
use super::words::{age_of, list, number, text};
use crate::clock::{Clock, SystemClock, Timestamp};

/// What to do with approvals.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Approvals {
    /// Lists what waits for people
    List(Where),
    /// Shows a question, open or decided
    Show(One),
    /// Says yes
    Approve(Decide),
    /// Says no
    Reject(Decide),
}

/// A decision.
#[derive(Debug, Clone, Args)]
pub(super) struct Decide {
    #[command(flatten)]
    one: One,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// A field of the form: text, or JSON when it reads as JSON; may be repeated
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = super::inputs::member)]
    fields: Vec<(String, Value)>,
}

pub(super) async fn run(approvals: &Approvals) -> Result<ExitCode, Error> {
    let now = SystemClock.now();
    match approvals {
        Approvals::List(at) => {
            let answer = Api::open(&at.server)?.get(&Place::new(&["approvals"])).await?;
            output::show(at.json, &answer, || show_list(&answer, now));
        }
        Approvals::Show(one) => {
            let answer = Api::open(&one.at.server)?.get(&Place::new(&["approvals", &one.name])).await?;
            output::show(one.at.json, &answer, || show_one(&answer, now));
        }
        Approvals::Approve(decide) => decided(decide, "approve", now).await?,
        Approvals::Reject(decide) => decided(decide, "reject", now).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn decided(decide: &Decide, decision: &str, now: Timestamp) -> Result<(), Error> {
    let Decide { one, comment, fields } = decide;
    let form: Map<String, Value> = fields.iter().cloned().collect();
    let body = json!({ "decision": decision, "comment": comment, "form": form });
    let answer = Api::open(&one.at.server)?.post(&Place::new(&["approvals", &one.name]), &body).await?;
    output::show(one.at.json, &answer, || show_one(&answer, now));
    Ok(())
}

fn show_list(answer: &Value, now: Timestamp) -> String {
    let approvals = list(answer, "items");
    if approvals.is_empty() {
        return "nothing waits for people".to_owned();
    }
    let rows = approvals.iter().map(|approval| {
        vec![
            text(approval, "id").to_owned(),
            text(approval, "workflow").to_owned(),
            text(approval, "title").to_owned(),
            format!("{} of {}", yes(approval), number(approval, "quorum")),
            age_of(text(approval, "expires_at"), now),
        ]
    });
    table(&["APPROVAL", "WORKFLOW", "QUESTION", "YES", "EXPIRES"], rows)
}

fn show_one(approval: &Value, now: Timestamp) -> String {
    let mut lines =
        vec![format!("{}  {}", text(approval, "id"), text(approval, "status")), text(approval, "title").to_owned()];
    lines.extend(approval["text"].as_str().map(str::to_owned));
    if !approval["details"].is_null() {
        lines.push(approval["details"].to_string());
    }
    for field in list(approval, "form") {
        let required = if field["required"] == true { ", required" } else { "" };
        lines.push(format!("  field {} ({}{required})", text(field, "name"), text(field, "type")));
    }
    lines.extend(
        approval["not_told"].as_str().map(|why| format!("  channel {} was not told: {why}", text(approval, "channel"))),
    );
    for decision in list(approval, "decisions") {
        let comment = decision["comment"].as_str().map(|comment| format!(": {comment}")).unwrap_or_default();
        let at = age_of(text(decision, "at"), now);
        lines.push(format!("  {} said {} ({at}){comment}", text(decision, "by"), text(decision, "verdict")));
    }
    if text(approval, "status") == "open" {
        let (yes, quorum) = (yes(approval), number(approval, "quorum"));
        lines.push(format!("{yes} of {quorum} said yes; it expires {}", age_of(text(approval, "expires_at"), now)));
    }
    lines.join("\n")
}

fn yes(approval: &Value) -> usize {
    let said_yes = list(approval, "decisions").iter().filter(|decision| decision["verdict"] == "approve");
    said_yes.map(|decision| text(decision, "by")).collect::<std::collections::BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_was_said() {
        let approval = json!({ "id": "run_01k4q8zr5m2c7:returns:3:ask", "workflow": "returns", "title": "Refund 120.00?",
            "status": "open", "quorum": 2, "expires_at": "2026-11-22T10:00:00.000Z", "text": "Line damaged",
            "form": [{ "name": "reason", "type": "string", "required": true }],
            "decisions": [{ "by": "li", "at": "2026-11-22T08:59:00.000Z", "verdict": "approve", "comment": "seen" }] });
        let now = Timestamp::from_secs(1_795_338_000);
        insta::assert_snapshot!(format!(
            "{}\n\n{}",
            show_list(&json!({ "items": [approval] }), now),
            show_one(&approval, now)
        ));
    }
}
