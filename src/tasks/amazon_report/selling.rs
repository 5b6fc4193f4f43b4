//! Reports of the Selling Partner API, version 2021-06-30 (`reports_2021-06-30.json` of Amazon's models).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Restricted, WhenCancelled, With, given, want};
use crate::clock::Timestamp;
use crate::domain::failure::{Failure, Fault, Sent};
use crate::expr::{Mapping, Place};
use crate::limits;
use crate::tasks::download::Packing;
use crate::tasks::report::{
    Ask, Heard, Next, Pace, Pass, Platform, Step, given_up, is_computed, segment, text, unwanted,
};
use crate::tasks::{TaskContext, WithProblem, names_of, read_mapping};

const REPORTS: &str = "/reports/2021-06-30/reports";
const DOCUMENTS: &str = "/reports/2021-06-30/documents";
const TOKENS: &str = "/tokens/2021-03-01/restrictedDataToken";

#[derive(Debug)]
pub(super) struct Selling {
    wish: Mapping,
    restricted: Option<Restricted>,
    when_cancelled: WhenCancelled,
    media_type: &'static str,
}

impl Selling {
    pub(super) fn read(settings: &With, problems: &mut Vec<WithProblem>) -> Option<Self> {
        let help = "write `report_type: GET_…`, as Amazon's list of report types has it";
        want(settings.report_type.as_ref(), "report_type", help, problems);
        want(settings.marketplaces.as_ref(), "marketplaces", "write `marketplaces: [ATVPDKIKX0DER]`", problems);
        let wish = given([
            ("report_type", settings.report_type.clone().map(Value::String)),
            ("marketplaces", settings.marketplaces.clone()),
            ("start", settings.start.clone().map(Value::String)),
            ("end", settings.end.clone().map(Value::String)),
            ("options", settings.options.clone().map(Value::Object)),
        ]);
        check(&wish, problems);
        Some(Self {
            wish: read_mapping("", &wish).map_err(|found| problems.extend(found)).ok()?,
            restricted: settings.restricted.clone(),
            when_cancelled: settings.when_cancelled.unwrap_or_default(),
            media_type: media_type(settings.report_type.as_deref().unwrap_or_default()),
        })
    }

    /// The report of a list that is the same as the one that is wanted, if there is one but `id`.
    fn twin(heard: &Heard<'_>, since: Timestamp, id: &str) -> Option<String> {
        let wish = heard.wish;
        let same = |report: &&Value| {
            let created = time(report, "/createdTime").is_some_and(|created| created >= since);
            let window = [("/start", "/dataStartTime"), ("/end", "/dataEndTime")];
            // Without a time of its own a report gets Amazon's.
            let same_time =
                |(ours, theirs): (&str, &str)| time(wish, ours).is_none_or(|ours| time(report, theirs) == Some(ours));
            created
                && report["reportType"] == wish["report_type"]
                && names(&report["marketplaceIds"]) == names(&wish["marketplaces"])
                && window.into_iter().all(same_time)
        };
        let found = heard.list("/reports").iter().filter(same).filter_map(|report| text(report, "/reportId"));
        found.into_iter().find(|found| found != id)
    }

    fn cancelled(&self, id: &str, heard: &Heard<'_>) -> Next {
        if let Some(twin) = Self::twin(heard, heard.since.minus(limits::REPORT_TOO_OFTEN_WITHIN), id) {
            let message = format!("Amazon cancelled report {id}: the same one was asked for shortly before, as {twin}");
            return Next::Failed(
                Failure::new("report.too_often", Fault::Config, message)
                    .help("ask for this report less often; other programs that use the account count too")
                    .sent(Sent::Maybe),
            );
        }
        match self.when_cancelled {
            WhenCancelled::NoData => Next::NoData,
            WhenCancelled::Fail => {
                let message = format!("Amazon cancelled report {id} and does not say why: mostly there is no data");
                Next::Failed(
                    Failure::new("report.cancelled", Fault::Far, message)
                        .help("write `when_cancelled: no_data` where a time without data is normal; or ask again later")
                        .sent(Sent::Maybe),
                )
            }
        }
    }
}

/// What is wrong with a wish, as far as it is known.
fn check(wish: &Value, problems: &mut Vec<WithProblem>) {
    let marketplaces = &wish["marketplaces"];
    let is_id = |item: &Value| item.as_str().is_some_and(|id| !id.is_empty());
    let fits = is_computed(marketplaces)
        || marketplaces.is_null()
        || marketplaces.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_id));
    if !fits {
        let help = "write a list such as `[ATVPDKIKX0DER]`";
        problems.push(WithProblem::new("/marketplaces", "these are no ids of marketplaces").help(help));
    }
    for key in ["start", "end"] {
        let value = &wish[key];
        if !is_computed(value) && !value.is_null() && time(wish, &format!("/{key}")).is_none() {
            let told = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let problem = WithProblem::new(format!("/{key}"), format!("`{told}` is no time with its zone"));
            problems.push(problem.help("write one such as `2026-11-01T00:00:00+08:00`"));
        }
    }
    if let (Some(start), Some(end)) = (time(wish, "/start"), time(wish, "/end"))
        && end < start
    {
        problems.push(WithProblem::new("/end", "the data ends before it begins").help("exchange `start` and `end`"));
    }
}

fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(value.pointer(pointer)?.as_str()?)
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What the file of a report type is when nobody says: flat files have tabs, whatever their `Content-Type`.
fn media_type(report_type: &str) -> &'static str {
    let json = ["GET_SALES_AND_TRAFFIC", "GET_BRAND_ANALYTICS", "GET_VENDOR", "GET_COUPON", "GET_PROMOTION"];
    if report_type.contains("XML") {
        "application/xml"
    } else if json.iter().any(|start| report_type.starts_with(start)) {
        "application/json"
    } else {
        "text/tab-separated-values"
    }
}

impl Platform for Selling {
    fn pace(&self) -> Pace {
        // Small reports take half a minute, large ones hours; a look costs one of two a second.
        Pace {
            interval: Duration::from_secs(20),
            interval_max: Duration::from_mins(5),
            timeout: Duration::from_hours(6),
        }
    }

    fn media_type(&self) -> &'static str {
        self.media_type
    }

    fn names(&self) -> Vec<Place> {
        names_of("", &self.wish)
    }

    fn wish(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
        let wish = ctx.eval(&self.wish)?;
        let mut problems = Vec::new();
        check(&wish, &mut problems);
        if problems.is_empty() { Ok(wish) } else { Err(unwanted(&problems)) }
    }

    fn ask(&self, step: &Step, wish: &Value, since: Timestamp) -> Ask {
        let list = |since: Timestamp| {
            let marketplaces = names(&wish["marketplaces"]).into_iter().collect::<Vec<_>>().join(",");
            Ask::get(REPORTS).query([
                ("reportTypes", wish["report_type"].as_str().unwrap_or_default().to_owned()),
                ("marketplaceIds", marketplaces),
                ("processingStatuses", "IN_QUEUE,IN_PROGRESS,DONE".to_owned()),
                ("createdSince", since.to_string()),
                ("pageSize", "100".to_owned()),
            ])
        };
        match step {
            Step::Ask => {
                let mut body = json!({ "reportType": wish["report_type"], "marketplaceIds": wish["marketplaces"] });
                for (ours, theirs) in [("start", "dataStartTime"), ("end", "dataEndTime"), ("options", "reportOptions")]
                {
                    if let Some(value) = wish.get(ours).filter(|value| !value.is_null()) {
                        body[theirs] = value.clone();
                    }
                }
                Ask::post(REPORTS, body)
            }
            Step::Find => list(since),
            Step::Why { .. } => list(since.minus(limits::REPORT_TOO_OFTEN_WITHIN)),
            Step::Look { id } => Ask::get(format!("{REPORTS}/{}", segment(id))),
            Step::Fetch { document, id, .. } => {
                Ask::get(format!("{DOCUMENTS}/{}", segment(document.as_deref().unwrap_or(id))))
            }
            Step::Reason { document, .. } => Ask::get(format!("{DOCUMENTS}/{}", segment(document))),
        }
    }

    fn read(&self, step: &Step, heard: &Heard<'_>) -> Result<Next, Failure> {
        heard.judged.clone()?;
        match step {
            Step::Ask => {
                let id = heard.text("/reportId").ok_or_else(|| heard.odd("names no report"))?;
                Ok(Next::Taken { id })
            }
            // The list does not tell options, so a report with some cannot be told from one with others.
            Step::Find => {
                let known = heard.wish.get("options").is_none_or(Value::is_null);
                let found = Self::twin(heard, heard.since, "").filter(|_| known);
                Ok(found.map_or_else(not_found, |id| Next::Taken { id }))
            }
            Step::Look { id } => {
                let document = heard.text("/reportDocumentId");
                match heard.body["processingStatus"].as_str() {
                    Some(said @ ("IN_QUEUE" | "IN_PROGRESS")) => Ok(Next::Working { said: said.to_owned() }),
                    Some("DONE") if document.is_some() => Ok(Next::Ready { document, partial: false }),
                    Some("CANCELLED") => Ok(Next::Why),
                    Some("FATAL") => Ok(match document {
                        Some(document) => Next::Reason { document },
                        None => Next::Failed(given_up(id, None)),
                    }),
                    _ => Err(heard.odd("has no status that is known")),
                }
            }
            Step::Why { id } => Ok(self.cancelled(id, heard)),
            Step::Fetch { .. } | Step::Reason { .. } => {
                let url = heard.text("/url").ok_or_else(|| heard.odd("holds no link"))?;
                let packing = match heard.body["compressionAlgorithm"].as_str() {
                    Some("GZIP") => Packing::Gzip,
                    // What is not said to be compressed is not.
                    _ => Packing::None,
                };
                Ok(Next::Link { url, packing })
            }
        }
    }

    fn pass(&self, step: &Step) -> Option<Pass> {
        let restricted = self.restricted.as_ref()?;
        let document = match step {
            Step::Fetch { document, id, .. } => document.as_deref().unwrap_or(id),
            Step::Reason { document, .. } => document,
            _ => return None,
        };
        let mut resource = json!({ "method": "GET", "path": format!("{DOCUMENTS}/{}", segment(document)) });
        if !restricted.data_elements.is_empty() {
            resource["dataElements"] = json!(restricted.data_elements);
        }
        let ask = Ask::post(TOKENS, json!({ "restrictedResources": [resource] }));
        Some(Pass { ask, member: "restrictedDataToken", header: "x-amz-access-token" })
    }
}

fn not_found() -> Next {
    Next::Ask { after: Duration::ZERO, said: "it was not asked for yet".to_owned() }
}
