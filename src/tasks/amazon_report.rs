//! `amazon_report`: one report of the Selling Partner API or of the Ads API, from the request to the file.

mod ads;
mod selling;

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::ads::Ads;
use self::selling::Selling;
use super::http::joined_schema;
use super::report::{RawReport, Report};
use super::{Task, TaskKind, WithProblem, read_with};

pub(super) const KIND: TaskKind = TaskKind {
    name: "amazon_report",
    summary: "Asks Amazon for a report, waits for it and fetches it; the output is `{ report, no_data, file }`.",
    connects: true,
    failures: &["report", "http", "connection", "token", "download", "secret"],
    schema: || joined_schema("Settings of an `amazon_report` task.", [schema_for!(With), schema_for!(RawReport)]),
    parse,
};

/// Settings of an `amazon_report` task.
#[derive(Debug, Deserialize, JsonSchema)]
struct With {
    /// The Selling Partner API (`sp`, when left out) or the Ads API (`ads`).
    #[serde(default)]
    api: Api,
    /// `sp`: the type of report, such as `GET_FLAT_FILE_ALL_ORDERS_DATA_BY_ORDER_DATE_GENERAL`.
    report_type: Option<String>,
    /// `sp`: the ids of marketplaces, such as `[ATVPDKIKX0DER]`, or an expression that gives a list.
    marketplaces: Option<Value>,
    /// Where the data begins: a time with its zone for `sp`, a day such as `2026-11-01` for `ads`.
    start: Option<String>,
    /// Where the data ends, in the same form; for `ads` the last day.
    end: Option<String>,
    /// `sp`: what the report type takes besides (`reportOptions`).
    options: Option<Map<String, Value>>,
    /// `sp`: asks for a restricted data token, which reports with data of buyers want.
    restricted: Option<Restricted>,
    /// `sp`: what it means that Amazon cancelled the report and nothing says why. The task fails when left out.
    when_cancelled: Option<WhenCancelled>,
    /// `ads`: what the report is called; the id of the task when left out.
    name: Option<String>,
    /// `ads`: `adProduct`, `groupBy`, `columns`, `reportTypeId`, `timeUnit` and `format`, as the Ads API wants them.
    configuration: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Api {
    /// The Selling Partner API, reports 2021-06-30.
    #[default]
    Sp,
    /// The Ads API, reporting version 3.
    Ads,
}

/// A restricted data token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Restricted {
    /// Kinds of personal data, such as `buyerInfo` and `shippingAddress`; none where the report type asks for none.
    #[serde(default)]
    data_elements: Vec<String>,
}

/// What a cancelled report means. Amazon cancels a report without data, and one that was asked for too often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WhenCancelled {
    /// The task fails: a day of data that is missing must not look like a day without data.
    #[default]
    Fail,
    /// There is no data. Say so where a time without data is normal.
    NoData,
}

fn parse(with: &Value, connected: bool) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let settings: With = read_with(with)?;
    let raw: RawReport = read_with(with)?;
    let (sp, ads) =
        (["report_type", "marketplaces", "options", "restricted", "when_cancelled"], ["name", "configuration"]);
    let (foreign, whose) = if settings.api == Api::Sp { (&ads[..], "ads") } else { (&sp[..], "sp") };
    let mut problems: Vec<_> = foreign
        .iter()
        .filter(|key| with.get(**key).is_some())
        .map(|key| {
            WithProblem::new(format!("/{key}"), format!("`{key}` belongs to the other API"))
                .help(format!("remove it, or write `api: {whose}`"))
        })
        .collect();
    match settings.api {
        Api::Sp => {
            let platform = Selling::read(&settings, &mut problems);
            Report::read(&raw, connected, platform, problems)
        }
        Api::Ads => {
            let platform = Ads::read(&settings, &mut problems);
            Report::read(&raw, connected, platform, problems)
        }
    }
}

/// The wish of a report: the settings that were given, under their own names, so that a problem finds its place.
fn given<const N: usize>(settings: [(&str, Option<Value>); N]) -> Value {
    Value::Object(settings.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

/// A setting without which there is no report.
fn want<T>(setting: Option<&T>, key: &str, help: &str, problems: &mut Vec<WithProblem>) {
    if setting.is_none() {
        problems.push(WithProblem::new("", format!("`{key}` is missing")).help(help));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(with: &Value, connected: bool, expected: &[&str]) {
        let problems = parse(with, connected).err().unwrap_or_default();
        let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
        assert_eq!(told, expected, "{with}");
    }

    #[test]
    fn settings_of_the_selling_partner_api_are_checked() {
        check(&json!({ "report_type": "GET_X", "marketplaces": ["A"] }), true, &[]);
        check(&json!({ "report_type": "GET_X", "marketplaces": "${{ inputs.m }}", "start": "${{ slot }}" }), true, &[]);
        check(
            &json!({ "name": "x" }),
            false,
            &[
                "/name: `name` belongs to the other API",
                ": `report_type` is missing",
                ": `marketplaces` is missing",
                ": a report wants a connection",
            ],
        );
        check(
            &json!({ "report_type": "GET_X", "marketplaces": [], "start": "2026-11-02", "end": "2026-11-01T00:00:00Z" }),
            true,
            &["/marketplaces: these are no ids of marketplaces", "/start: `2026-11-02` is no time with its zone"],
        );
        check(
            &json!({ "report_type": "GET_X", "marketplaces": ["A"], "start": "2026-11-02T00:00:00Z",
                "end": "2026-11-01T00:00:00Z", "poll": { "interval": "0s", "timeout": "x" }, "max_size": "x" }),
            true,
            &[
                "/end: the data ends before it begins",
                "/max_size: `x` is not a size",
                "/poll/timeout: `x` is not a duration: write a number and a unit, as in `90s`, `20m` or `1h30m`",
                "/poll/interval: without a pause the platform would be asked all the time",
            ],
        );
    }

    #[test]
    fn settings_of_the_ads_api_are_checked() {
        let with = |start: &str, end: &str, unit: &str, columns: &[&str]| {
            json!({ "api": "ads", "start": start, "end": end,
                "configuration": { "adProduct": "SPONSORED_PRODUCTS", "reportTypeId": "spCampaigns",
                    "timeUnit": unit, "columns": columns, "groupBy": ["campaign"], "format": "GZIP_JSON" } })
        };
        check(&with("2026-11-01", "2026-11-30", "DAILY", &["date", "cost"]), true, &[]);
        check(&with("${{ inputs.day }}", "${{ inputs.day }}", "SUMMARY", &["startDate", "cost"]), true, &[]);
        check(
            &with("2026-10-01", "2026-11-01", "SUMMARY", &["date", "cost"]),
            true,
            &[
                "/end: this is 32 days, and a report holds 31 at most",
                "/configuration/columns: `date` goes with `timeUnit: DAILY` only",
            ],
        );
        check(
            &with("2026-11-01T00:00:00Z", "2026-11-01", "DAILY", &["endDate"]),
            true,
            &[
                "/start: `2026-11-01T00:00:00Z` is no day",
                "/configuration/columns: `endDate` goes with `timeUnit: SUMMARY` only",
            ],
        );
        check(
            &json!({ "api": "ads", "report_type": "x" }),
            true,
            &[
                "/report_type: `report_type` belongs to the other API",
                ": `start` is missing",
                ": `end` is missing",
                ": `configuration` is missing",
            ],
        );
    }
}
