//! `clawhook refusals` and `clawhook audit`: what was not let in, and who did what.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::api::{Api, Place};
use super::error::Error;
use super::output;
use super::schedules::Where;
use super::show::shortened;
use super::table::table;
use super::words::{age_of, list, text};
use crate::clock::{Clock, SystemClock, Timestamp};

/// What to do with refused requests.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Refusals {
    /// Lists refused requests, newest first
    List(RefusalList),
}

/// Which refused requests to list.
#[derive(Debug, Clone, Args)]
pub(super) struct RefusalList {
    /// Requests to this route, or to this path when no route has it
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Requests refused for this cause
    #[arg(long, value_name = "CAUSE")]
    cause: Option<String>,
    #[command(flatten)]
    page: Page,
}

/// Which control actions to list.
#[derive(Debug, Clone, Args)]
pub(super) struct Audit {
    /// What was done to this run, route, schedule or workflow
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Actions of this kind, such as `run.cancel`
    #[arg(long, value_name = "WHAT")]
    what: Option<String>,
    #[command(flatten)]
    page: Page,
}

/// A page of a journal.
#[derive(Debug, Clone, Args)]
struct Page {
    /// Entries on one page, at most 200
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Where the page begins: the `next` of the page before
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    at: Where,
}

pub(super) async fn refusals(Refusals::List(wanted): &Refusals) -> Result<ExitCode, Error> {
    let mut place = Place::new(&["refusals"]);
    place.query("route", wanted.route.as_ref());
    place.query("cause", wanted.cause.as_ref());
    show_page(place, &wanted.page, show_refusals).await
}

pub(super) async fn audit(wanted: &Audit) -> Result<ExitCode, Error> {
    let mut place = Place::new(&["audit"]);
    place.query("subject", wanted.subject.as_ref());
    place.query("what", wanted.what.as_ref());
    show_page(place, &wanted.page, show_audit).await
}

async fn show_page(mut place: Place, page: &Page, words: fn(&[Value], Timestamp) -> String) -> Result<ExitCode, Error> {
    place.query("limit", page.limit);
    place.query("cursor", page.cursor.as_ref());
    let answer = Api::open(&page.at.server)?.get(&place).await?;
    output::show(page.at.json, &answer, || words(list(&answer, "items"), SystemClock.now()));
    if let (false, Some(next)) = (page.at.json, answer["next"].as_str()) {
        output::note(&format!("there are more: add `--cursor {next}`"));
    }
    Ok(ExitCode::SUCCESS)
}

fn show_refusals(refusals: &[Value], now: Timestamp) -> String {
    if refusals.is_empty() {
        return "no request was refused".to_owned();
    }
    let rows = refusals.iter().map(|refusal| {
        vec![
            age_of(text(refusal, "at"), now),
            text(refusal, "code").to_owned(),
            text(refusal, "subject").to_owned(),
            text(&refusal["detail"], "remote").to_owned(),
            text(&refusal["detail"], "why").to_owned(),
        ]
    });
    table(&["WHEN", "CODE", "ROUTE OR PATH", "FROM", "WHY"], rows)
}

/// Characters of an entry's detail in a table; `--json` has all of it.
const DETAIL_CHARS: usize = 100;

fn show_audit(entries: &[Value], now: Timestamp) -> String {
    if entries.is_empty() {
        return "nothing was done yet".to_owned();
    }
    let rows = entries.iter().map(|entry| {
        let mut detail = entry["detail"].clone();
        if let Some(members) = detail.as_object_mut() {
            members.retain(|name, _| name != "by" && name != "from");
        }
        let detail =
            if detail.as_object().is_some_and(serde_json::Map::is_empty) { String::new() } else { detail.to_string() };
        vec![
            age_of(text(entry, "at"), now),
            text(&entry["detail"], "by").to_owned(),
            text(entry, "what").to_owned(),
            text(entry, "subject").to_owned(),
            shortened(&detail, DETAIL_CHARS),
        ]
    });
    table(&["WHEN", "WHO", "WHAT", "ON", "DETAIL"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_338_000);

    #[test]
    fn refused_requests() {
        let refusal = json!({ "id": 7, "at": "2026-11-22T08:59:00.000Z", "code": "wrong_signature",
            "subject": "shopify-us-orders", "cause": "wrong_signature/shopify-us-orders",
            "detail": { "remote": "203.0.113.9", "why": "no signature of the request holds" } });
        insta::assert_snapshot!(show_refusals(&[refusal], NOW));
    }

    #[test]
    fn who_did_what() {
        let entry = json!({ "id": 7, "at": "2026-11-22T08:00:00.000Z", "what": "run.cancel",
            "subject": "run_01k4q8zr5m2c7", "detail": { "reason": "wrong shop", "by": "ops", "from": "127.0.0.1" } });
        insta::assert_snapshot!(show_audit(&[entry], NOW));
    }
}
