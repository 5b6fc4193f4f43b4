//! `walmart_report`: an on-request report of the Walmart Marketplace, from the request to the table in its zip. Walmart
//! takes one request for a type of report an hour.

use std::time::Duration;

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::download::Packing;
use super::http::joined_schema;
use super::report::{Ask, Heard, Next, Pace, Platform, RawReport, Report, Step, given_up, segment, text};
use super::{Task, TaskContext, TaskKind, WithProblem, names_of, read_mapping, read_with};
use crate::clock::Timestamp;
use crate::domain::failure::{Class, Failure, Fault};
use crate::expr::{Mapping, Place};

pub(super) const KIND: TaskKind = TaskKind {
    name: "walmart_report",
    summary: "Asks Walmart for a report, waits for it and fetches it; the output is `{ report, no_data, file }`.",
    connects: true,
    failures: &["report", "http", "connection", "token", "download", "secret"],
    schema: || joined_schema("Settings of a `walmart_report` task.", [schema_for!(With), schema_for!(RawReport)]),
    parse,
};

/// Settings of a `walmart_report` task.
#[derive(Debug, Deserialize, JsonSchema)]
struct With {
    /// The type of report, such as `ITEM`.
    report_type: String,
    /// Its version, such as `v4`.
    report_version: String,
    /// What the report is to hold, as Walmart wants it: `rowFilters`, `excludeColumns`, `dataStartTime`, `dataEndTime`.
    options: Option<Map<String, Value>>,
    /// What to do when a report of this type was asked for within the hour; waits when left out.
    #[serde(default)]
    when_busy: WhenBusy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WhenBusy {
    /// Waits until the hour is over.
    #[default]
    Wait,
    /// Takes the report that was asked for, at most an hour old; not with `options`, which it may not have.
    TakeOver,
    /// The task fails.
    Fail,
}

#[derive(Debug)]
struct OnRequest {
    wish: Mapping,
    when_busy: WhenBusy,
}

fn parse(with: &Value, connected: bool) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let settings: With = read_with(with)?;
    let raw: RawReport = read_with(with)?;
    let mut problems = Vec::new();
    if settings.when_busy == WhenBusy::TakeOver && settings.options.is_some() {
        let message = "a report that is taken over may have other `options`";
        let help = "write `when_busy: wait`, or remove `options`";
        problems.push(WithProblem::new("/when_busy", message).help(help));
    }
    let mut members = json!({ "report_type": settings.report_type, "report_version": settings.report_version });
    if let Some(options) = settings.options {
        members["options"] = Value::Object(options);
    }
    let mapping = read_mapping("", &members).map_err(|found| problems.extend(found)).ok();
    let when_busy = settings.when_busy;
    Report::read(&raw, connected, mapping.map(|wish| OnRequest { wish, when_busy }), problems)
}

const REQUESTS: &str = "/v3/reports/reportRequests";
/// Walmart takes one request for a type of report in this time.
const HOUR: Duration = Duration::from_hours(1);
/// How long to wait when it refused and its list does not say since when.
const UNKNOWN_PAUSE: Duration = Duration::from_mins(15);

/// A request of Walmart's list.
struct Listed {
    id: String,
    submitted: Timestamp,
}

impl OnRequest {
    /// The newest request of this type, failed ones left out.
    fn newest(heard: &Heard<'_>) -> Option<Listed> {
        let of_type = |request: &&Value| {
            request["reportType"] == heard.wish["report_type"]
                && request["reportVersion"] == heard.wish["report_version"]
                && request["requestStatus"] != "ERROR"
        };
        let read = |request: &Value| {
            Some(Listed {
                id: text(request, "/requestId")?,
                submitted: when(&text(request, "/requestSubmissionDate")?)?,
            })
        };
        let requests = heard.list("/requests").iter().filter(of_type).filter_map(read);
        requests.max_by_key(|request| request.submitted)
    }

    fn find(&self, heard: &Heard<'_>) -> Next {
        let newest = Self::newest(heard);
        let refused = heard.said.is_some();
        // The list does not tell options, so a report with some cannot be told from one with others.
        let known = heard.wish.get("options").is_none_or(Value::is_null);
        let ours = |request: &Listed| heard.doubt && known && request.submitted >= heard.since;
        match newest {
            Some(request) if ours(&request) || (refused && known && self.when_busy == WhenBusy::TakeOver) => {
                Next::Taken { id: request.id }
            }
            _ if !refused => Next::Ask { after: Duration::ZERO, said: "it was not asked for yet".to_owned() },
            newest => {
                let said = "a report of this type was asked for within the hour";
                let after = newest.map_or(UNKNOWN_PAUSE, |request| request.submitted.plus(HOUR).since(heard.now));
                match self.when_busy {
                    WhenBusy::Wait | WhenBusy::TakeOver => {
                        Next::Ask { after: after.max(Duration::from_mins(1)), said: said.to_owned() }
                    }
                    WhenBusy::Fail => Next::Failed(
                        Failure::new("report.busy", Fault::Config, said)
                            .help("write `when_busy: wait` or `take_over`, or ask less often")
                            .retriable(Class::Status(429), Some(after)),
                    ),
                }
            }
        }
    }
}

/// A time as Walmart writes it: RFC 3339, or milliseconds of the Unix epoch.
fn when(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text).or_else(|| text.parse().ok().map(Timestamp::from_millis))
}

impl Platform for OnRequest {
    fn pace(&self) -> Pace {
        // Reports take 15 to 45 minutes.
        Pace {
            interval: Duration::from_mins(2),
            interval_max: Duration::from_mins(5),
            timeout: Duration::from_hours(6),
        }
    }

    fn media_type(&self) -> &'static str {
        "text/csv"
    }

    fn names(&self) -> Vec<Place> {
        names_of("", &self.wish)
    }

    fn wish(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
        ctx.eval(&self.wish)
    }

    fn ask(&self, step: &Step, wish: &Value, since: Timestamp) -> Ask {
        let of_type = || {
            [("reportType", "report_type"), ("reportVersion", "report_version")]
                .map(|(theirs, ours)| (theirs, wish[ours].as_str().unwrap_or_default().to_owned()))
        };
        match step {
            Step::Ask => {
                let json = wish.get("options").cloned();
                Ask { json, ..Ask::post(REQUESTS, Value::Null) }.query(of_type())
            }
            Step::Find => {
                let from = since.minus(HOUR).to_utc().format("%Y-%m-%dT%H:%M:%SZ").to_string();
                Ask::get(REQUESTS).query(of_type()).query([("requestSubmissionStartDate", from)])
            }
            Step::Look { id } | Step::Why { id } | Step::Reason { id, .. } => {
                Ask::get(format!("{REQUESTS}/{}", segment(id)))
            }
            Step::Fetch { id, .. } => Ask::get("/v3/reports/downloadReport").query([("requestId", id.clone())]),
        }
    }

    fn read(&self, step: &Step, heard: &Heard<'_>) -> Result<Next, Failure> {
        match step {
            Step::Ask if heard.status == 429 => Ok(Next::Find { said: "Walmart takes no request now".to_owned() }),
            // Walmart answers 404 as long as there is nothing to fetch.
            Step::Fetch { .. } if heard.status == 404 => Ok(Next::Working { said: "there is no link yet".to_owned() }),
            // An empty list may be one.
            Step::Find if heard.status == 404 => Ok(self.find(heard)),
            _ => {
                heard.judged.clone()?;
                match step {
                    Step::Ask => {
                        let id = heard.text("/requestId").ok_or_else(|| heard.odd("names no request"))?;
                        Ok(Next::Taken { id })
                    }
                    Step::Find => Ok(self.find(heard)),
                    Step::Fetch { .. } => {
                        let url = heard.text("/downloadURL").ok_or_else(|| heard.odd("holds no link"))?;
                        Ok(Next::Link { url, packing: Packing::Auto })
                    }
                    Step::Look { id } | Step::Why { id } | Step::Reason { id, .. } => {
                        match heard.body["requestStatus"].as_str() {
                            Some(said @ ("RECEIVED" | "INPROGRESS")) => Ok(Next::Working { said: said.to_owned() }),
                            Some("READY") => Ok(Next::Ready { document: None, partial: false }),
                            Some("ERROR") => Ok(Next::Failed(given_up(id, None))),
                            _ => Err(heard.odd("has no status that is known")),
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_together() {
        for (with, expected) in [
            (json!({ "report_type": "ITEM", "report_version": "v4" }), vec![]),
            (
                json!({ "report_type": "ITEM", "report_version": "v4", "when_busy": "take_over", "options": {} }),
                vec!["/when_busy: a report that is taken over may have other `options`"],
            ),
        ] {
            let problems = parse(&with, true).err().unwrap_or_default();
            let told: Vec<_> = problems.iter().map(|one| format!("{}: {}", one.pointer, one.message)).collect();
            assert_eq!(told, expected, "{with}");
        }
    }

    #[test]
    fn times_in_both_forms() {
        let at = Timestamp::from_secs(1_795_338_000);
        for text in ["2026-11-22T09:00:00Z", "2026-11-22T09:00:00.000+00:00", "1795338000000"] {
            assert_eq!(when(text), Some(at), "{text}");
        }
        assert_eq!(when("soon"), None);
    }
}
