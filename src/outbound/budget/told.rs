//! What an answer tells of the far end's own count. Each platform has its own words; all are read from every answer, so
//! that a connection needs no word for which platform it is.

use std::time::Duration;

use serde::Deserialize;

use crate::clock::Timestamp;
use crate::outbound::{Glance, retry_after};

/// What an answer tells. All parts are absent in most answers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    /// The far end refused the call for its quota: status 429, or `THROTTLED` in a GraphQL answer with status 200.
    pub(super) throttled: Option<Throttled>,
    /// Requests a second for this operation (`x-amzn-RateLimit-Limit`, Amazon SP-API).
    pub(super) per_second: Option<f64>,
    /// Requests used, and how many there are (`X-Shopify-Shop-Api-Call-Limit: 32/40`).
    pub(super) used: Option<(f64, f64)>,
    /// The points of a GraphQL API that counts costs (Shopify's `extensions.cost`).
    pub(super) points: Option<Points>,
    /// Requests left, and when there are more again (Walmart).
    pub(super) window: Option<(f64, Timestamp)>,
}

/// How a call was refused for its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Throttled {
    pub(super) retry_after: Option<Duration>,
}

/// A bucket of points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Points {
    /// What the query costs before it runs.
    pub(super) requested: f64,
    pub(super) available: f64,
    pub(super) max: f64,
    pub(super) per_second: f64,
}

/// How much of the end of a body is looked at for a cost: it is the last member.
const COST_BYTES_MAX: usize = 64 * 1024;

/// Reads all that an answer tells.
pub(super) fn read(answer: &Glance<'_>, now: Timestamp) -> Told {
    let number = |name: &str| number(answer.header(name)?);
    let mut told = Told {
        per_second: number("x-amzn-ratelimit-limit").filter(|rate| *rate > 0.0),
        used: answer.header("x-shopify-shop-api-call-limit").and_then(used),
        ..Told::default()
    };
    if let Some(left) = number("x-current-token-count") {
        let next = number("x-next-replenish-time").or_else(|| number("x-next-replenishment-time"));
        told.window = next.and_then(epoch).map(|at| (left, at));
    }
    if answer.status.as_u16() == 429 {
        let after = answer.header("retry-after").and_then(|text| retry_after(text, now));
        told.throttled = Some(Throttled { retry_after: after });
    }
    let (points, refused) = cost(answer.body);
    told.points = points;
    if refused && told.throttled.is_none() {
        told.throttled = Some(Throttled { retry_after: None });
    }
    told
}

/// A number that is not negative and not beyond all sense.
fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| (0.0..1e15).contains(number))
}

fn used(text: &str) -> Option<(f64, f64)> {
    let (used, total) = text.split_once('/')?;
    Some((number(used)?, number(total)?)).filter(|(_, total)| *total >= 1.0)
}

/// Walmart sends milliseconds since the epoch; seconds are told by their size.
#[expect(clippy::cast_possible_truncation, reason = "the number is below 1e15")]
fn epoch(number: f64) -> Option<Timestamp> {
    let millis = if number < 1e11 { number * 1000.0 } else { number };
    (millis > 0.0).then(|| Timestamp::from_millis(millis as i64))
}

#[derive(Deserialize)]
struct Answer {
    extensions: Option<Extensions>,
    errors: Option<Vec<QueryError>>,
}

#[derive(Deserialize)]
struct Extensions {
    cost: Option<Cost>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cost {
    requested_query_cost: Option<f64>,
    throttle_status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    maximum_available: f64,
    currently_available: f64,
    restore_rate: f64,
}

#[derive(Deserialize)]
struct QueryError {
    extensions: Option<ErrorExtensions>,
}

#[derive(Deserialize)]
struct ErrorExtensions {
    code: Option<String>,
}

/// The cost in a GraphQL answer, and whether the query was refused for it.
fn cost(body: &[u8]) -> (Option<Points>, bool) {
    const MARK: &[u8] = b"\"throttleStatus\"";
    let end = &body[body.len().saturating_sub(COST_BYTES_MAX)..];
    if !end.windows(MARK.len()).any(|part| part == MARK) {
        return (None, false);
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return (None, false) };
    let refused = answer.errors.iter().flatten().any(|error| {
        error.extensions.as_ref().is_some_and(|extensions| extensions.code.as_deref() == Some("THROTTLED"))
    });
    let points = answer.extensions.and_then(|extensions| extensions.cost).and_then(|cost| {
        let status = cost.throttle_status?;
        Some(Points {
            requested: cost.requested_query_cost.unwrap_or(1.0).max(0.0),
            available: status.currently_available.max(0.0),
            max: status.maximum_available,
            per_second: status.restore_rate,
        })
    });
    (points.filter(|points| points.max >= 1.0 && points.per_second > 0.0), refused)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::domain::attempt::Timings;
    use crate::outbound::Response;

    #[track_caller]
    fn check(status: u16, headers: &[(&str, &str)], body: &str, expected: &Told) {
        let response = Response {
            status: http::StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.to_owned().into(),
            version: http::Version::HTTP_11,
            url: "https://h/".parse().unwrap(),
            redirects: Vec::new(),
            timings: Timings::default(),
            remote: None,
        };
        assert_eq!(&read(&response.glance(), Timestamp::from_secs(1_795_338_000)), expected, "{headers:?} {body}");
    }

    fn throttled(after: Option<u64>) -> Throttled {
        Throttled { retry_after: after.map(Duration::from_millis) }
    }

    #[test]
    fn every_platform_is_understood() {
        let none = Told::default;
        check(200, &[], "{}", &none());
        check(429, &[], "", &Told { throttled: Some(throttled(None)), ..none() });
        check(429, &[("Retry-After", "2.0")], "", &Told { throttled: Some(throttled(Some(2000))), ..none() });
        check(429, &[("retry-after", "0.5")], "", &Told { throttled: Some(throttled(Some(500))), ..none() });
        check(200, &[("x-amzn-RateLimit-Limit", "0.0167")], "", &Told { per_second: Some(0.0167), ..none() });
        check(200, &[("X-Shopify-Shop-Api-Call-Limit", "32/40")], "", &Told { used: Some((32.0, 40.0)), ..none() });
        let replenish = Told { window: Some((0.0, Timestamp::from_millis(1_795_338_060_000))), ..none() };
        for (name, value) in [
            ("X-Next-Replenish-Time", "1795338060000"),
            ("x-next-replenishment-time", "1795338060000"),
            ("X-Next-Replenish-Time", "1795338060"),
        ] {
            check(200, &[("X-Current-Token-Count", "0"), (name, value)], "", &replenish);
        }
        for nonsense in ["", "-1", "a", "NaN", "inf", "1/0", "/", "1e99"] {
            let names = ["x-amzn-ratelimit-limit", "x-shopify-shop-api-call-limit", "x-current-token-count"];
            check(200, &names.map(|name| (name, nonsense)), "", &none());
        }
    }

    #[test]
    fn the_cost_of_a_query_is_read_from_its_answer() {
        let status = r#"{"maximumAvailable":2000.0,"currentlyAvailable":120,"restoreRate":100.0}"#;
        let cost = format!(r#"{{"requestedQueryCost":752,"actualQueryCost":null,"throttleStatus":{status}}}"#);
        let points = Some(Points { requested: 752.0, available: 120.0, max: 2000.0, per_second: 100.0 });
        let body = format!(r#"{{"data":{{"n":1}},"extensions":{{"cost":{cost}}}}}"#);
        check(200, &[], &body, &Told { points, ..Told::default() });
        let errors = r#"[{"message":"Throttled","extensions":{"code":"THROTTLED"}}]"#;
        let body = format!(r#"{{"errors":{errors},"extensions":{{"cost":{cost}}}}}"#);
        check(200, &[], &body, &Told { points, throttled: Some(throttled(None)), ..Told::default() });
        let errors = r#"[{"message":"too much","extensions":{"code":"MAX_COST_EXCEEDED"}}]"#;
        let body = format!(r#"{{"errors":{errors},"extensions":{{"cost":{cost}}}}}"#);
        check(200, &[], &body, &Told { points, ..Told::default() });
    }
}
