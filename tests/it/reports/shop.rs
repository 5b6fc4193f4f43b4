//! Shopify as bulk queries see it: GraphQL that always answers 200, one bulk query at a time, and files of JSON lines.

use std::time::Duration;

use clawhook::clock::Timestamp;
use serde_json::{Value, json};

use super::far::{Desk, File, Platform, json_body, once};
use crate::kit::KEY;
use crate::standin::{Answer, Recorded};

pub(crate) const GRAPHQL: &str = "/admin/api/2026-10/graphql.json";

#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) query: String,
    created: Timestamp,
    looks: u32,
    /// Looks before it is through.
    pub(crate) until: u32,
    /// The lines of its file, or none; or the code of its failure, and whether a part is there.
    pub(crate) ending: Result<&'static str, (&'static str, bool)>,
}

pub(crate) struct Shop {
    pub(crate) operations: Vec<Operation>,
    /// What the next operations come to.
    pub(crate) ending: Result<&'static str, (&'static str, bool)>,
    /// The next calls are throttled, with status 200.
    pub(crate) throttled: u32,
    /// The query is refused whatever else runs.
    pub(crate) refusal: Option<&'static str>,
}

impl Shop {
    pub(crate) fn new(ending: Result<&'static str, (&'static str, bool)>) -> Self {
        Self { operations: Vec::new(), ending, throttled: 0, refusal: None }
    }

    /// A bulk query of somebody else.
    pub(crate) fn foreign(&mut self, query: &str, until: u32, now: Timestamp) {
        self.operations.push(Operation { query: query.to_owned(), created: now, looks: 0, until, ending: Ok("{}\n") });
    }

    fn shown(&self, place: usize, desk: &mut Desk) -> Value {
        let operation = &self.operations[place];
        let mut shown = json!({
            "id": format!("gid://shopify/BulkOperation/{place}"),
            "createdAt": operation.created.to_string(),
            "query": operation.query,
            "errorCode": null,
            "objectCount": "0",
            "fileSize": null,
            "url": null,
            "partialDataUrl": null,
        });
        let through = operation.looks > operation.until;
        shown["status"] = json!(match (operation.looks, through, operation.ending) {
            (_, true, Ok(_)) => "COMPLETED",
            (_, true, Err(_)) => "FAILED",
            (0, ..) => "CREATED",
            _ => "RUNNING",
        });
        let (now, week) = (desk.now(), Duration::from_hours(24 * 7));
        let mut link = |text: &str| {
            json!(desk.files.link(&File { bytes: text.into(), content_type: "application/jsonl" }, now, week))
        };
        match operation.ending {
            Ok(lines) if through && !lines.is_empty() => {
                shown["objectCount"] = json!(lines.lines().count().to_string());
                shown["url"] = link(lines);
            }
            Err((code, part)) if through => {
                shown["errorCode"] = json!(code);
                if part {
                    shown["partialDataUrl"] = link("{\"id\":\"gid://shopify/Order/1\"}\n");
                }
            }
            _ => {}
        }
        shown
    }

    fn data(&mut self, body: &Value, desk: &mut Desk) -> Result<Value, Answer> {
        let text = body["query"].as_str().unwrap_or_default();
        if text.starts_with("mutation") && text.contains("bulkOperationRunQuery") {
            let query = body["variables"]["query"].as_str().filter(|query| query.contains("edges"));
            let Some(query) = query else { return Err(Answer::wrong(200, format!("no bulk query: {body}"))) };
            let running = self.operations.iter_mut().enumerate().next_back();
            let running = running.and_then(|(place, operation)| {
                operation.looks += 1;
                (operation.looks <= operation.until).then_some(place)
            });
            let refused = match (self.refusal, running) {
                (Some(refusal), _) => refusal.to_owned(),
                (None, Some(place)) => format!(
                    "A bulk query operation for this app and shop is already in progress: gid://shopify/BulkOperation/{place}."
                ),
                (None, None) => {
                    let ending = self.ending;
                    let query = query.to_owned();
                    self.operations.push(Operation { query, created: desk.now(), looks: 0, until: 2, ending });
                    let id = format!("gid://shopify/BulkOperation/{}", self.operations.len() - 1);
                    let made = json!({ "bulkOperation": { "id": id, "status": "CREATED" }, "userErrors": [] });
                    return Ok(json!({ "bulkOperationRunQuery": made }));
                }
            };
            let errors = json!([{ "field": null, "message": refused }]);
            return Ok(json!({ "bulkOperationRunQuery": { "bulkOperation": null, "userErrors": errors } }));
        }
        if text.contains("currentBulkOperation") {
            let current = self.operations.len().checked_sub(1).map(|place| self.shown(place, desk));
            return Ok(json!({ "currentBulkOperation": current }));
        }
        let id = body["variables"]["id"].as_str().and_then(|id| id.rsplit('/').next()).and_then(|id| id.parse().ok());
        let Some(place) = id.filter(|place: &usize| *place < self.operations.len() && text.contains("node(")) else {
            return Err(Answer::wrong(200, format!("what is this: {body}")));
        };
        self.operations[place].looks += 1;
        Ok(json!({ "node": self.shown(place, desk) }))
    }
}

impl Platform for Shop {
    fn answer(&mut self, request: &Recorded, desk: &mut Desk) -> Answer {
        let mut answered = || -> Result<Answer, Answer> {
            if once(request, "x-shopify-access-token")? != KEY {
                let errors = json!({ "errors": "[API] Invalid API key or access token" });
                return Err(Answer::new(401, &errors));
            }
            if (request.method.as_str(), request.path.as_str()) != ("POST", GRAPHQL) {
                return Err(Answer::wrong(404, "no such path"));
            }
            let body = json_body(request, "application/json")?;
            if self.throttled > 0 {
                self.throttled -= 1;
                let status = json!({ "maximumAvailable": 2000.0, "currentlyAvailable": 0, "restoreRate": 100.0 });
                let cost = json!({ "requestedQueryCost": 10, "actualQueryCost": null, "throttleStatus": status });
                let errors = json!([{ "message": "Throttled", "extensions": { "code": "THROTTLED" } }]);
                return Ok(Answer::new(200, &json!({ "errors": errors, "extensions": { "cost": cost } })));
            }
            let data = self.data(&body, desk)?;
            let status = json!({ "maximumAvailable": 2000.0, "currentlyAvailable": 1990, "restoreRate": 100.0 });
            let cost = json!({ "requestedQueryCost": 10, "actualQueryCost": 10, "throttleStatus": status });
            Ok(Answer::new(200, &json!({ "data": data, "extensions": { "cost": cost } })))
        };
        answered().unwrap_or_else(|refusal| refusal)
    }
}
