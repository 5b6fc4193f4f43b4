//! `clawhook sources`: what is fetched instead of being sent here, and how it stands.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::api::{Api, Place};
use super::error::Error;
use super::output;
use super::schedules::Where;
use super::table::table;
use super::words::{list, number, text};

/// What to do with sources.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Sources {
    /// Lists the sources, and why one gives nothing
    List(Where),
}

pub(super) async fn run(Sources::List(at): &Sources) -> Result<ExitCode, Error> {
    let answer = Api::open(&at.server)?.get(&Place::new(&["sources"])).await?;
    output::show(at.json, &answer, || show_list(&answer));
    Ok(ExitCode::SUCCESS)
}

fn show_list(answer: &Value) -> String {
    let sources = list(answer, "items");
    if sources.is_empty() {
        return "no sources".to_owned();
    }
    let rows = sources.iter().map(|source| {
        let trouble = &source["trouble"];
        let why = match trouble["code"].as_str() {
            Some(code) => format!("{code} since {}: {}", text(trouble, "since"), text(trouble, "message")),
            None => String::new(),
        };
        let last = source["fetched_at"].as_str().unwrap_or("never").to_owned();
        let members = ["name", "kind", "state"].map(|member| text(source, member).to_owned());
        members.into_iter().chain([number(source, "held").to_string(), last, why]).collect()
    });
    table(&["SOURCE", "KIND", "STATE", "HELD", "LAST MESSAGE", "TROUBLE"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sources_and_how_they_stand() {
        let answer = json!({ "items": [
            { "name": "amazon-us", "kind": "sqs", "state": "fetching", "held": 0, "fetched_at": "2026-11-24T03:00:00.000Z" },
            { "name": "amazon-eu", "kind": "sqs", "state": "failing", "held": 2,
              "trouble": { "since": "2026-11-24T02:00:00.000Z", "code": "source.keys", "message": "the token is over" } },
        ] });
        let shown = show_list(&answer);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["amazon-us", "sqs", "fetching", "0", "2026-11-24T03:00:00.000Z"]);
        assert_eq!(lines[2][..5], ["amazon-eu", "sqs", "failing", "2", "never"]);
        assert!(shown.ends_with("source.keys since 2026-11-24T02:00:00.000Z: the token is over"), "{shown}");
        assert_eq!(show_list(&json!({ "items": [] })), "no sources");
    }
}
