//! Reports of the Amazon Ads API, reporting version 3.

use std::time::Duration;

use chrono::NaiveDate;
use serde_json::{Value, json};

use super::{With, given, want};
use crate::clock::Timestamp;
use crate::domain::failure::Failure;
use crate::expr::{Mapping, Place};
use crate::limits;
use crate::tasks::download::Packing;
use crate::tasks::report::{Ask, Heard, Next, Pace, Platform, Step, given_up, is_computed, segment, unwanted};
use crate::tasks::{TaskContext, WithProblem, names_of, read_mapping};

const REPORTS: &str = "/reporting/reports";
/// The Ads API takes a request for a report under this type only, and answers 415 to others.
const CONTENT_TYPE: &[(&str, &str)] = &[("content-type", "application/vnd.createasyncreportrequest.v3+json")];

#[derive(Debug)]
pub(super) struct Ads {
    wish: Mapping,
}

impl Ads {
    pub(super) fn read(settings: &With, problems: &mut Vec<WithProblem>) -> Option<Self> {
        want(settings.start.as_ref(), "start", "write a day such as `2026-11-01`", problems);
        want(settings.end.as_ref(), "end", "write a day such as `2026-11-01`", problems);
        let help = "write `configuration: { adProduct: …, reportTypeId: …, columns: […] }`";
        want(settings.configuration.as_ref(), "configuration", help, problems);
        let wish = given([
            ("name", settings.name.clone().map(Value::String)),
            ("start", settings.start.clone().map(Value::String)),
            ("end", settings.end.clone().map(Value::String)),
            ("configuration", settings.configuration.clone().map(Value::Object)),
        ]);
        check(&wish, problems);
        Some(Self { wish: read_mapping("", &wish).map_err(|found| problems.extend(found)).ok()? })
    }
}

/// What is wrong with a wish, as far as it is known.
fn check(wish: &Value, problems: &mut Vec<WithProblem>) {
    for key in ["start", "end"] {
        let value = &wish[key];
        if !is_computed(value) && !value.is_null() && day(value).is_none() {
            let told = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let problem = WithProblem::new(format!("/{key}"), format!("`{told}` is no day"));
            problems.push(problem.help("write one such as `2026-11-01`"));
        }
    }
    if let (Some(start), Some(end)) = (day(&wish["start"]), day(&wish["end"])) {
        let days = (end - start).num_days() + 1;
        if days < 1 {
            let problem = WithProblem::new("/end", "the data ends before it begins");
            problems.push(problem.help("exchange `start` and `end`"));
        } else if days > limits::ADS_REPORT_DAYS_MAX {
            let most = limits::ADS_REPORT_DAYS_MAX;
            let problem = WithProblem::new("/end", format!("this is {days} days, and a report holds {most} at most"));
            problems.push(problem.help("ask for several reports, with `for_each` for example"));
        }
    }
    let configuration = &wish["configuration"];
    let columns = configuration["columns"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let unit = configuration["timeUnit"].as_str().filter(|unit| !unit.contains("${{"));
    for column in columns {
        let wants = match column {
            "date" => "DAILY",
            "startDate" | "endDate" => "SUMMARY",
            _ => continue,
        };
        if unit.is_some_and(|unit| unit != wants) {
            let message = format!("`{column}` goes with `timeUnit: {wants}` only");
            let problem = WithProblem::new("/configuration/columns", message);
            problems.push(problem.help(format!("leave the column out, or write `timeUnit: {wants}`")));
        }
    }
}

fn day(value: &Value) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(value.as_str()?, "%Y-%m-%d").ok()
}

impl Platform for Ads {
    fn pace(&self) -> Pace {
        // Reports take minutes to three hours.
        Pace {
            interval: Duration::from_secs(30),
            interval_max: Duration::from_mins(5),
            timeout: Duration::from_hours(6),
        }
    }

    fn media_type(&self) -> &'static str {
        "application/json"
    }

    fn names(&self) -> Vec<Place> {
        names_of("", &self.wish)
    }

    fn wish(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
        let mut wish = ctx.eval(&self.wish)?;
        let mut problems = Vec::new();
        check(&wish, &mut problems);
        if wish.get("name").is_none_or(Value::is_null) {
            wish["name"] = json!(ctx.task.to_string());
        }
        if problems.is_empty() { Ok(wish) } else { Err(unwanted(&problems)) }
    }

    fn ask(&self, step: &Step, wish: &Value, _: Timestamp) -> Ask {
        match step {
            // There is no list; but a request for a report that is being made is answered with its id.
            Step::Ask | Step::Find => {
                let body = json!({
                    "name": wish["name"],
                    "startDate": wish["start"],
                    "endDate": wish["end"],
                    "configuration": wish["configuration"],
                });
                Ask { headers: CONTENT_TYPE, ..Ask::post(REPORTS, body) }
            }
            Step::Look { id } | Step::Why { id } | Step::Fetch { id, .. } | Step::Reason { id, .. } => {
                Ask::get(format!("{REPORTS}/{}", segment(id)))
            }
        }
    }

    fn read(&self, step: &Step, heard: &Heard<'_>) -> Result<Next, Failure> {
        match step {
            Step::Ask | Step::Find => {
                let id = if heard.status == 425 {
                    heard.text("/detail").or_else(|| heard.text("/message")).and_then(|told| twin(&told))
                } else {
                    heard.judged.clone()?;
                    heard.text("/reportId")
                };
                Ok(Next::Taken { id: id.ok_or_else(|| heard.odd("names no report"))? })
            }
            Step::Look { id } | Step::Why { id } | Step::Fetch { id, .. } | Step::Reason { id, .. } => {
                heard.judged.clone()?;
                match (heard.body["status"].as_str(), heard.text("/url")) {
                    (Some(said @ ("PENDING" | "PROCESSING")), _) => Ok(Next::Working { said: said.to_owned() }),
                    (Some("COMPLETED"), Some(url)) if matches!(step, Step::Fetch { .. }) => {
                        Ok(Next::Link { url, packing: Packing::Auto })
                    }
                    (Some("COMPLETED"), Some(_)) => Ok(Next::Ready { document: None, partial: false }),
                    (Some("FAILED" | "FAILURE" | "CANCELLED"), _) => {
                        Ok(Next::Failed(given_up(id, heard.text("/failureReason").as_deref())))
                    }
                    _ => Err(heard.odd("has no status that is known")),
                }
            }
        }
    }
}

/// The id in `The Request is a duplicate of : <id>`.
fn twin(told: &str) -> Option<String> {
    let id = told.rsplit(':').next()?.trim().trim_end_matches('.');
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!id.is_empty() && id.chars().all(plain)).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twin_of_a_report_is_named_in_words() {
        for (told, id) in [
            ("The Request is a duplicate of : 3b7b1c9e-0a61-4f07", Some("3b7b1c9e-0a61-4f07")),
            ("duplicate of: 9007199254740993.", Some("9007199254740993")),
            ("The Request is a duplicate", None),
            ("", None),
        ] {
            assert_eq!(twin(told).as_deref(), id, "{told}");
        }
    }
}
