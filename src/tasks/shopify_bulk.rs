//! `shopify_bulk`: a bulk query of Shopify's Admin API, from the mutation to the file of JSON lines. A shop makes one of
//! an application at a time; what another one makes is waited for, and never taken for ours.

use std::time::Duration;

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};

use super::download::Packing;
use super::http::joined_schema;
use super::report::{Ask, Heard, Next, Pace, Platform, RawReport, Report, Step, given_up, text};
use super::{Task, TaskContext, TaskKind, WithProblem, names_of, printed, read_mapping, read_with};
use crate::clock::Timestamp;
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::expr::{Mapping, Place};

pub(super) const KIND: TaskKind = TaskKind {
    name: "shopify_bulk",
    summary: "Runs a bulk query of Shopify and fetches its rows; the output is `{ report, no_data, file }`.",
    connects: true,
    failures: &["report", "http", "connection", "token", "download", "secret"],
    schema: || joined_schema("Settings of a `shopify_bulk` task.", [schema_for!(With), schema_for!(RawReport)]),
    parse,
};

/// Settings of a `shopify_bulk` task.
#[derive(Debug, Deserialize, JsonSchema)]
struct With {
    /// The query in GraphQL, with one connection at its top, such as `{ orders { edges { node { id name } } } }`.
    query: String,
    /// The version of the Admin API, such as `2026-10`. Left out where `base_url` of the connection has it.
    api_version: Option<String>,
    /// What to do while the shop makes another bulk query; waits when left out.
    #[serde(default)]
    when_busy: WhenBusy,
    /// Takes the part of a query that failed, if there is one; the output then says `partial: true`.
    #[serde(default)]
    partial: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WhenBusy {
    /// Waits until it is through.
    #[default]
    Wait,
    /// The task fails.
    Fail,
}

#[derive(Debug)]
struct Bulk {
    query: Mapping,
    path: String,
    when_busy: WhenBusy,
    partial: bool,
}

fn parse(with: &Value, connected: bool) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let settings: With = read_with(with)?;
    let raw: RawReport = read_with(with)?;
    let mut problems = Vec::new();
    let query = settings.query.trim();
    if query.starts_with("mutation") || query.is_empty() {
        let problem = WithProblem::new("/query", "this is no query that reads");
        problems.push(problem.help("write a query such as `{ orders { edges { node { id } } } }`"));
    }
    let version = settings.api_version.as_deref();
    let is_version = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if let Some(version) = version.filter(|version| version.is_empty() || !is_version(version)) {
        let problem = WithProblem::new("/api_version", format!("`{version}` is no version of the Admin API"));
        problems.push(problem.help("write one such as `2026-10`"));
    }
    let path = version.map_or("/graphql.json".to_owned(), |version| format!("/admin/api/{version}/graphql.json"));
    let query = read_mapping("/query", &with["query"]).map_err(|found| problems.extend(found)).ok();
    let (when_busy, partial) = (settings.when_busy, settings.partial);
    Report::read(&raw, connected, query.map(|query| Bulk { query, path, when_busy, partial }), problems)
}

const START: &str = "mutation($query: String!) { bulkOperationRunQuery(query: $query) \
                     { bulkOperation { id status } userErrors { field message } } }";
const CURRENT: &str = "{ currentBulkOperation { id status createdAt query } }";
const LOOK: &str = "query($id: ID!) { node(id: $id) { ... on BulkOperation \
                    { id status errorCode objectCount fileSize url partialDataUrl } } }";
/// How long to leave a shop alone that makes another bulk query.
const BUSY_PAUSE: Duration = Duration::from_secs(30);

impl Bulk {
    /// Errors beside the data, which come with status 200.
    fn errors(heard: &Heard<'_>) -> Result<(), Failure> {
        heard.judged.clone()?;
        let Some(errors) = heard.body.get("errors").filter(|errors| !errors.is_null()) else { return Ok(()) };
        let code = text(errors, "/0/extensions/code").unwrap_or_default();
        let said = text(errors, "/0/message").unwrap_or_else(|| errors.to_string().chars().take(300).collect());
        let failure = Failure::new("report.refused", Fault::Config, format!("Shopify refused the call: {said}"));
        Err(match code.as_str() {
            // Nothing was done.
            "THROTTLED" => failure.retriable(Class::Status(429), None),
            "INTERNAL_SERVER_ERROR" => failure.retriable(Class::Status(500), None).sent(Sent::Maybe),
            _ => failure
                .help("look at the query, and at what the application may see")
                .retriable(Class::Status(400), None),
        })
    }

    /// Whether the operation that is or was last made is ours, or in our way.
    fn find(&self, heard: &Heard<'_>) -> Next {
        let current = &heard.body["data"]["currentBulkOperation"];
        let created = text(current, "/createdAt").and_then(|at| Timestamp::parse_rfc3339(&at));
        let same = text(current, "/query").is_some_and(|query| plain(&query) == plain(&printed(heard.wish)));
        let ours = heard.doubt && same && created.is_some_and(|created| created >= heard.since);
        let id = text(current, "/id");
        let status = current["status"].as_str().unwrap_or_default();
        if let Some(id) = id.clone().filter(|_| ours && !["FAILED", "CANCELED", "EXPIRED"].contains(&status)) {
            return Next::Taken { id };
        }
        let id = id.unwrap_or_default();
        if ["CREATED", "RUNNING", "CANCELING"].contains(&status) {
            let said = format!("the shop makes another bulk query, {id}");
            return match self.when_busy {
                WhenBusy::Wait => Next::Ask { after: BUSY_PAUSE, said },
                WhenBusy::Fail => Next::Failed(
                    Failure::new("report.busy", Fault::Far, said)
                        .help("write `when_busy: wait`, or run it at another time")
                        .retriable(Class::Status(429), None),
                ),
            };
        }
        match heard.said {
            // It refused, nothing is in the way, and it refused again.
            Some(said) if heard.refused > 0 => Next::Failed(
                Failure::new("report.refused", Fault::Config, format!("Shopify refused the query: {said}"))
                    .help("try the query in Shopify's GraphiQL, and look at what the application may see"),
            ),
            _ => Next::Ask { after: Duration::ZERO, said: "nothing is in its way".to_owned() },
        }
    }

    fn look(&self, step: &Step, heard: &Heard<'_>) -> Result<Next, Failure> {
        let node = &heard.body["data"]["node"];
        let (url, part) = (text(node, "/url"), text(node, "/partialDataUrl"));
        let (id, fetching) = (step.id(), matches!(step, Step::Fetch { .. }));
        let part = part.filter(|_| self.partial);
        match (node["status"].as_str(), url) {
            (Some("COMPLETED"), Some(url)) if fetching => Ok(Next::Link { url, packing: Packing::None }),
            (Some("COMPLETED"), Some(_)) => Ok(Next::Ready { document: None, partial: false }),
            (Some("COMPLETED"), None) => Ok(Next::NoData),
            (Some(said @ ("CREATED" | "RUNNING" | "CANCELING")), _) => {
                let objects = text(node, "/objectCount").unwrap_or_else(|| "0".to_owned());
                Ok(Next::Working { said: format!("{said}, {objects} objects") })
            }
            (Some("FAILED" | "CANCELED" | "EXPIRED"), _) if part.is_some() => match part {
                Some(url) if fetching => Ok(Next::Link { url, packing: Packing::None }),
                _ => Ok(Next::Ready { document: None, partial: true }),
            },
            (Some(status @ ("FAILED" | "CANCELED" | "EXPIRED")), _) => {
                let code = text(node, "/errorCode");
                let why = code.as_ref().map_or_else(|| status.to_owned(), |code| format!("{status}, {code}"));
                let failure = given_up(id, Some(&why));
                Ok(Next::Failed(match code.as_deref() {
                    // Another one would fail the same way.
                    Some("ACCESS_DENIED") => failure
                        .help("give the application the scopes that the query wants")
                        .retriable(Class::Status(403), None),
                    _ if text(node, "/partialDataUrl").is_some() => failure
                        .help("a part of the rows is there: `partial: true` takes it; a retry asks for all again"),
                    _ => failure,
                }))
            }
            _ => Err(heard.odd("has no status that is known")),
        }
    }
}

/// A query as it is compared: Shopify may set its spaces anew.
fn plain(query: &str) -> String {
    query.split_whitespace().collect()
}

impl Platform for Bulk {
    fn pace(&self) -> Pace {
        Pace {
            interval: Duration::from_secs(5),
            interval_max: Duration::from_mins(1),
            timeout: Duration::from_hours(12),
        }
    }

    fn media_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn names(&self) -> Vec<Place> {
        names_of("/query", &self.query)
    }

    fn wish(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
        let query = ctx.eval(&self.query)?;
        Ok(Value::String(printed(&query)))
    }

    fn ask(&self, step: &Step, wish: &Value, _: Timestamp) -> Ask {
        let body = match step {
            Step::Ask => json!({ "query": START, "variables": { "query": wish } }),
            Step::Find => json!({ "query": CURRENT }),
            Step::Look { id } | Step::Why { id } | Step::Fetch { id, .. } | Step::Reason { id, .. } => {
                json!({ "query": LOOK, "variables": { "id": id } })
            }
        };
        Ask::post(self.path.clone(), body)
    }

    fn read(&self, step: &Step, heard: &Heard<'_>) -> Result<Next, Failure> {
        Self::errors(heard)?;
        match step {
            Step::Ask => {
                let run = &heard.body["data"]["bulkOperationRunQuery"];
                let said: Vec<_> = run["userErrors"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|error| text(error, "/message"))
                    .collect();
                match text(run, "/bulkOperation/id") {
                    Some(id) if said.is_empty() => Ok(Next::Taken { id }),
                    _ if !said.is_empty() => Ok(Next::Find { said: said.join("; ") }),
                    _ => Err(heard.odd("names no bulk operation")),
                }
            }
            Step::Find => Ok(self.find(heard)),
            Step::Look { .. } | Step::Why { .. } | Step::Fetch { .. } | Step::Reason { .. } => self.look(step, heard),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_together() {
        for (with, expected) in [
            (json!({ "query": "{ orders { edges { node { id } } } }", "api_version": "2026-10" }), vec![]),
            (
                json!({ "query": "mutation { x }", "api_version": "v/1" }),
                vec!["/query: this is no query that reads", "/api_version: `v/1` is no version of the Admin API"],
            ),
            (json!({ "query": "{ x(a: ${{ " }), vec!["/query: this expression is never closed"]),
        ] {
            let problems = parse(&with, true).err().unwrap_or_default();
            let told: Vec<_> = problems.iter().map(|one| format!("{}: {}", one.pointer, one.message)).collect();
            assert_eq!(told, expected, "{with}");
        }
    }
}
