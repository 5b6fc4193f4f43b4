//! A fixture and a test made of a real run, as the control door shows it. Secrets are masked in the record already;
//! what a route redacts is not in it; what else is to go is blanked here, wherever it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use url::{Url, form_urlencoded};

use super::actor::ELSEWHERE;
use super::yaml;
use crate::clock::Timestamp;
use crate::domain::duration;
use crate::domain::step::StepId;
use crate::expr::JsonPath;
use crate::outbound::connection::BaseUrl;

/// A run on record, and what must be known of it.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The run, as `GET /v1/runs/{id}` shows it.
    pub run: Value,
    /// Its events, as `GET /v1/runs/{id}/events` lists them.
    pub events: Value,
    /// The kinds of its tasks, by id.
    pub kinds: BTreeMap<String, String>,
    /// The runs that it started.
    pub children: Vec<Taken>,
}

/// How a test is to be made.
#[derive(Debug)]
pub struct Wanted {
    /// The name of the fixture, without its folder and `.yaml`.
    pub name: String,
    /// The connections, by which calls are named.
    pub connections: Vec<(String, BaseUrl)>,
    /// What of bodies, inputs and outputs is to go.
    pub redact: Vec<JsonPath>,
}

/// Two files, and what people must know about them.
#[derive(Debug)]
pub struct Recorded {
    pub test: String,
    /// None when the run called nobody.
    pub fixture: Option<String>,
    /// What could not be taken, and what to do about it.
    pub warnings: Vec<String>,
}

/// Kinds that call nobody but channels.
const TELLING: &[&str] = &["notify", "approval"];

/// Headers of an answer that workflows look at. No others are taken: some carry credentials.
const HEADERS_KEPT: &[&str] =
    &["content-type", "link", "location", "retry-after", "x-amzn-ratelimit-limit", "x-shopify-shop-api-call-limit"];

/// Parts of names of delivery headers that say nothing to a workflow: proofs, and what belongs to the connection.
const HEADERS_DROPPED: &[&str] = &[
    "signature",
    "hmac",
    "token",
    "secret",
    "authorization",
    "cookie",
    "key",
    "accept",
    "user-agent",
    "host",
    "content-length",
    "connection",
    "forwarded",
    "trace",
    "sign",
];

/// Makes the files.
pub fn record(taken: &Taken, wanted: &Wanted) -> Recorded {
    let mut maker = Maker { wanted, gone: BTreeSet::new(), ids: BTreeSet::new(), warnings: Vec::new() };
    maker.look_through(taken);
    let exchanges = maker.exchanges(taken);
    let test = maker.test(taken, !exchanges.is_empty());
    let id = text(&taken.run, "id");
    let head = format!(
        "# Recorded from {id}. Read it through before you keep it: names and numbers of people may be in it.\n"
    );
    let fixture = (!exchanges.is_empty())
        .then(|| format!("{head}{}", yaml::write(&maker.without(json!({ "version": 1, "exchanges": exchanges })))));
    Recorded { test: format!("{head}{}", yaml::write(&maker.without(test))), fixture, warnings: maker.warnings }
}

struct Maker<'w> {
    wanted: &'w Wanted,
    /// Texts that were blanked, and must stand nowhere else.
    gone: BTreeSet<String>,
    /// Ids of the runs: they are others when the test is played.
    ids: BTreeSet<String>,
    warnings: Vec<String>,
}

/// What stands where something was blanked.
const BLANK: &str = "[redacted]";
/// Shorter texts are not looked for elsewhere: they would be found everywhere.
const GONE_CHARS_MIN: usize = 4;

impl Maker<'_> {
    /// Finds out what must be nowhere in the files.
    fn look_through(&mut self, taken: &Taken) {
        self.ids.insert(text(&taken.run, "id").to_owned());
        let run = &taken.run;
        let mut documents = vec![run["inputs"].clone(), run["outputs"].clone(), run["state"].clone()];
        documents.extend(delivered(run));
        for (_, attempt) in attempts(run) {
            documents.push(attempt["output"].clone());
            documents.push(attempt["output"]["body"].clone());
            documents.extend(sent(&attempt["exchange"]["request"]["body"]));
            documents.extend(sent(&attempt["exchange"]["response"]["body"]));
        }
        for document in documents {
            let mut blanked = document.clone();
            for path in &self.wanted.redact {
                path.blank(&mut blanked);
            }
            missing(&document, &blanked, &mut self.gone);
        }
        for child in &taken.children {
            self.look_through(child);
        }
    }

    /// A document without what is to go.
    fn clean(&self, document: &Value) -> Value {
        let mut document = document.clone();
        for path in &self.wanted.redact {
            path.blank(&mut document);
        }
        document
    }

    /// The value without what was blanked elsewhere.
    fn without(&self, value: Value) -> Value {
        match value {
            Value::String(text) => {
                let text = self.gone.iter().fold(text, |text, gone| text.replace(gone.as_str(), BLANK));
                Value::String(text)
            }
            Value::Array(items) => items.into_iter().map(|item| self.without(item)).collect(),
            Value::Object(members) => {
                Value::Object(members.into_iter().map(|(name, value)| (name, self.without(value))).collect())
            }
            other => other,
        }
    }

    /// Whether a text is another at every run, or is to go, or was a secret.
    fn is_fleeting(&self, text: &str) -> bool {
        text.contains("[secret") || self.ids.iter().chain(&self.gone).any(|part| text.contains(part.as_str()))
    }

    /// The value without members that are others at every run; nothing when nothing is left.
    fn lasting(&self, value: &Value) -> Option<Value> {
        match value {
            Value::String(text) if self.is_fleeting(text) => None,
            Value::Object(members) => {
                let kept = members.iter().filter_map(|(name, value)| Some((name.clone(), self.lasting(value)?)));
                Some(Value::Object(kept.collect()))
            }
            // A list is compared item by item, so it is taken whole or not at all.
            Value::Array(items) => {
                let kept: Option<Vec<Value>> = items.iter().map(|item| self.lasting(item)).collect();
                kept.map(Value::Array)
            }
            other => Some(other.clone()),
        }
    }

    /// Every answer that the run and those that it started got, in order.
    fn exchanges(&mut self, taken: &Taken) -> Vec<Value> {
        let mut found = Vec::new();
        self.answers(taken, &mut found);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let mut exchanges: Vec<(Value, Value, Value, u32)> = Vec::new();
        for (_, request, body, respond) in found {
            match exchanges.iter_mut().find(|(r, b, a, _)| (r, b, a) == (&request, &body, &respond)) {
                Some((.., times)) => *times += 1,
                None => exchanges.push((request, body, respond, 1)),
            }
        }
        let several = |request: &Value| exchanges.iter().filter(|(other, ..)| other == request).count() > 1;
        let exchange = |(request, body, respond, times): &(Value, Value, Value, u32)| {
            let mut exchange = json!({ "request": request });
            // Calls to one place are told apart by what they say.
            if several(request) && !body.is_null() {
                exchange["json"] = body.clone();
            }
            exchange["respond"] = respond.clone();
            if *times > 1 {
                exchange["times"] = json!(times);
            }
            exchange
        };
        exchanges.iter().map(exchange).collect()
    }

    fn answers(&mut self, taken: &Taken, found: &mut Vec<(String, Value, Value, Value)>) {
        for (step, attempt) in attempts(&taken.run) {
            let kind = kind_of(taken, step);
            let exchange = &attempt["exchange"];
            if TELLING.contains(&kind) || exchange["response"].is_null() {
                continue;
            }
            let Some(request) = self.request(&exchange["request"]) else { continue };
            let body = sent(&exchange["request"]["body"]).map(|body| self.clean(&body));
            let body = body.and_then(|body| self.lasting(&body)).unwrap_or_default();
            let respond = self.respond(taken, step, attempt);
            found.push((text(attempt, "started_at").to_owned(), Value::String(request), body, respond));
        }
        for child in &taken.children {
            self.answers(child, found);
        }
    }

    /// `POST erp /orders?notify=1`, with what is another at every run left open.
    fn request(&self, request: &Value) -> Option<String> {
        let url = Url::parse(text(request, "url")).ok()?;
        let near = self.wanted.connections.iter().filter(|(_, base)| base.holds(&url));
        let near = near.max_by_key(|(_, base)| base.as_str().len());
        let part = |part: &str| if self.is_fleeting(&plain(part)) { "*".to_owned() } else { part.to_owned() };
        let path = |path: &str| path.split('/').map(part).collect::<Vec<_>>().join("/");
        let place = match near {
            Some((name, base)) => {
                let before = base.as_str().split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
                let rest = url.path().strip_prefix(before.unwrap_or_default().trim_end_matches('/'));
                let rest = rest.filter(|rest| !rest.is_empty()).unwrap_or("/");
                format!("{name} {}", path(rest))
            }
            None => format!("{}{}", url.origin().ascii_serialization(), path(url.path())),
        };
        let kept = url.query_pairs().filter(|(name, value)| !self.is_fleeting(name) && !self.is_fleeting(value));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
        let mark = if query.is_empty() { "" } else { "?" };
        Some(format!("{} {place}{mark}{query}", text(request, "method")))
    }

    fn respond(&mut self, taken: &Taken, step: &str, attempt: &Value) -> Value {
        let response = &attempt["exchange"]["response"];
        let mut respond = Map::new();
        respond.insert("status".to_owned(), response["status"].clone());
        let pairs = response["headers"].as_array().into_iter().flatten();
        let kept = pairs.filter_map(|pair| Some((pair[0].as_str()?.to_ascii_lowercase(), pair[1].clone())));
        let mut headers: Map<String, Value> = kept.filter(|(name, _)| HEADERS_KEPT.contains(&name.as_str())).collect();
        let is_json =
            headers.get("content-type").is_some_and(|kind| kind.as_str().is_some_and(|kind| kind.contains("json")));
        let copy = &response["body"];
        let (run, number) = (text(&taken.run, "id").to_owned(), attempt["attempt"].clone());
        let mut warn = |what: &str, help: &str| {
            self.warnings.push(format!("the answer to attempt {number} of `{step}` {what}: {help}"));
        };
        let by_hand = "write it into the fixture by hand, as `json`, `text` or `body_file`";
        let body = if copy["cut"] == true {
            warn("is cut in the record, because it is large", by_hand);
            None
        } else if copy["binary"] == true {
            Some(("base64", copy["text"].clone()))
        } else if let Some(read) = sent(copy) {
            Some(if is_json { ("json", read) } else { ("text", copy["text"].clone()) })
        } else if let Some(body) = attempt["output"].get("body") {
            if let Some(id) = body["artifact"].as_str() {
                let help = format!(
                    "fetch it with `clawhook runs artifact {run} {id} --out FILE`, put it beside the fixture, and write `body_file: FILE`"
                );
                warn("is too large for the record", &help);
                None
            } else {
                Some(if body.is_string() && !is_json { ("text", body.clone()) } else { ("json", body.clone()) })
            }
        } else {
            // A page, a look at what is not ready, a file: what was made of it is on record, it itself is not.
            warn("is not on record", by_hand);
            None
        };
        if is_json && body.as_ref().is_some_and(|(key, _)| *key == "json") {
            headers.remove("content-type");
        }
        if !headers.is_empty() {
            respond.insert("headers".to_owned(), Value::Object(headers));
        }
        if let Some((key, body)) = body.filter(|(_, body)| !body.is_null()) {
            respond.insert(key.to_owned(), self.clean(&body));
        }
        Value::Object(respond)
    }

    fn test(&mut self, taken: &Taken, has_fixture: bool) -> Value {
        let run = &taken.run;
        let mut test = Map::new();
        test.insert("name".to_owned(), json!(format!("as in {}", text(run, "id"))));
        test.insert("clock".to_owned(), run["accepted_at"].clone());
        self.start(run, &mut test);
        put(&mut test, "state", self.clean(&run["state"]));
        if has_fixture {
            test.insert("fixtures".to_owned(), json!(format!("fixtures/{}.yaml", self.wanted.name)));
        }
        put(&mut test, "faults", Self::faults(taken));
        put(&mut test, "decide", decisions(taken));
        put(&mut test, "stub", self.stubs(taken));
        test.insert("expect".to_owned(), self.expect(taken, has_fixture));
        json!({ "version": 1, "workflow": run["workflow"], "tests": [test] })
    }

    fn start(&mut self, run: &Value, test: &mut Map<String, Value>) {
        let delivery = &run["delivery"];
        match text(run, "trigger") {
            "delivery" if delivery["body"]["cut"] != true && delivery["body"]["binary"] != true => {
                let pairs = delivery["headers"].as_array().into_iter().flatten();
                let kept = pairs.filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)));
                let kept = kept.filter(|(name, value)| {
                    !HEADERS_DROPPED.iter().any(|part| name.to_ascii_lowercase().contains(part))
                        && !self.is_fleeting(value)
                });
                let mut given = json!({ "route": run["source"] });
                let headers: Map<String, Value> = kept.map(|(name, value)| (name.to_owned(), json!(value))).collect();
                if !headers.is_empty() {
                    given["headers"] = Value::Object(headers);
                }
                if let Some(query) = delivery["query"].as_str().filter(|query| !query.is_empty()) {
                    given["query"] = json!(query);
                }
                match delivered(run) {
                    Some(body) => given["json"] = self.clean(&body),
                    None => given["text"] = delivery["body"]["text"].clone(),
                }
                if given["text"].is_null() && given.get("json").is_none() {
                    given["text"] = json!("");
                }
                test.insert("delivery".to_owned(), given);
            }
            "slot" => {
                test.insert("slot".to_owned(), json!({ "schedule": run["source"], "due": run["slot_due"] }));
            }
            kind => {
                if kind == "delivery" {
                    self.warnings.push("the body of the delivery is not whole in the record: the test begins with the inputs that were made of it".to_owned());
                }
                let inputs = if run["inputs"].is_object() { self.clean(&run["inputs"]) } else { json!({}) };
                test.insert("inputs".to_owned(), inputs);
            }
        }
    }

    /// Attempts that ended without an answer.
    fn faults(taken: &Taken) -> Value {
        let fault = |(step, attempt): (&str, &Value)| {
            let failure = &attempt["failure"];
            let silent = attempt["exchange"]["response"].is_null();
            let calls = !matches!(kind_of(taken, step), "notify" | "workflow" | "approval" | "wait" | "transform");
            let word = match failure["class"].as_str().filter(|_| silent && calls)? {
                "connect" if failure["sent"] == "no" => "connect",
                "timeout" => "timeout",
                "interrupted" => "crash",
                _ if !attempt["exchange"].is_null() => "lost",
                _ => return None,
            };
            Some(json!({ "task": step, "attempt": attempt["attempt"], "respond": word }))
        };
        attempts(&taken.run).filter_map(fault).collect()
    }

    fn stubs(&mut self, taken: &Taken) -> Value {
        let mut stubs = Map::new();
        for (step, attempt) in attempts(&taken.run) {
            let kind = kind_of(taken, step).to_owned();
            if ELSEWHERE.contains(&kind.as_str()) && !attempt["output"].is_null() {
                let output = self.clean(&attempt["output"]);
                if output.to_string().contains("\"artifact\"") {
                    self.warnings.push(format!(
                        "`{step}` gave something too large for the record: write its rows under `stub` by hand"
                    ));
                }
                stubs.insert(step.to_owned(), output);
            }
        }
        Value::Object(stubs)
    }

    fn expect(&self, taken: &Taken, has_fixture: bool) -> Value {
        let run = &taken.run;
        let mut expect = Map::new();
        expect.insert("run".to_owned(), run["status"].clone());
        if run["failure"].is_object() && run["status"] == "failed" {
            let mut failure = json!({ "code": run["failure"]["code"] });
            if run["failure"]["task"].is_string() {
                failure["task"] = run["failure"]["task"].clone();
            }
            expect.insert("failure".to_owned(), failure);
        }
        let tasks = run["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let steady = |task: &&Value| {
            let tries = task["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
            !tries.is_empty() && tries.iter().all(|attempt| attempt["paused"].is_null())
        };
        let counted = tasks
            .iter()
            .filter(steady)
            .map(|task| (text(task, "id").to_owned(), json!(task["attempts"].as_array().map_or(0, Vec::len))));
        put(&mut expect, "attempts", Value::Object(counted.collect()));
        let order = tasks.iter().filter(steady).map(|task| text(task, "id")).filter(|id| !id.contains('['));
        put(&mut expect, "order", order.map(|id| json!(id)).collect());
        if has_fixture {
            expect.insert("calls".to_owned(), json!({ "all_used": true }));
        }
        expect.extend(notices(taken).map(|notices| ("notify".to_owned(), notices)));
        if run["outputs"].is_object() && run["status"] == "succeeded" {
            put(&mut expect, "outputs", self.lasting(&self.clean(&run["outputs"])).unwrap_or_default());
        }
        Value::Object(expect)
    }
}

/// Puts a member in unless it is empty.
fn put(members: &mut Map<String, Value>, name: &str, value: Value) {
    let empty = match &value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(inner) => inner.is_empty(),
        _ => false,
    };
    if !empty {
        members.insert(name.to_owned(), value);
    }
}

/// The messages, by their channels; nothing when alerts of other runs had a part in them, or approvals, whose reminders
/// come by the clock.
fn notices(taken: &Taken) -> Option<Value> {
    let mut notices = Vec::new();
    for (step, attempt) in attempts(&taken.run).filter(|(step, _)| TELLING.contains(&kind_of(taken, step))) {
        if kind_of(taken, step) != "notify" {
            if attempt["exchange"].is_null() {
                continue;
            }
            return None;
        }
        match attempt["output"]["result"].as_str() {
            Some("sent") => notices.push(json!({ "channel": attempt["output"]["channel"] })),
            None if attempt["output"].is_null() && attempt["paused"].is_null() => {}
            _ => return None,
        }
    }
    Some(Value::Array(notices))
}

/// What people decided, each so long after it was asked.
fn decisions(taken: &Taken) -> Value {
    let decided = |event: &Value| {
        let (step, decision) = (text(&event["detail"], "task"), &event["detail"]["decision"]);
        let asked = attempts(&taken.run).find(|(other, _)| *other == step)?.1;
        let moment = |value: &Value| {
            value.as_i64().map(Timestamp::from_millis).or_else(|| Timestamp::parse_rfc3339(value.as_str()?))
        };
        let waited = moment(&decision["at"])?.since(moment(&asked["started_at"])?);
        let mut made = json!({ "task": step, "decision": decision["verdict"], "by": decision["by"] });
        for key in ["comment", "form"] {
            if let Some(value) = decision.get(key).filter(|value| !value.is_null() && **value != json!({})) {
                made[key] = value.clone();
            }
        }
        let waited = Duration::from_secs(waited.as_secs());
        if !waited.is_zero() {
            made["after"] = json!(duration::format(waited));
        }
        Some(made)
    };
    let events = taken.events["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter(|event| event["event"] == "decided").filter_map(decided).collect()
}

/// Every attempt with its step, in the order of the record.
fn attempts(run: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let tasks = run["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    tasks.iter().flat_map(|task| {
        let attempts = task["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
        attempts.iter().map(move |attempt| (text(task, "id"), attempt))
    })
}

fn kind_of<'t>(taken: &'t Taken, step: &str) -> &'t str {
    let task = step.parse::<StepId>().map(|step| step.task().to_string()).unwrap_or_default();
    taken.kinds.get(&task).map(String::as_str).unwrap_or_default()
}

/// A kept body as JSON, when it is whole and JSON.
fn sent(copy: &Value) -> Option<Value> {
    if copy["cut"] == true || copy["binary"] == true {
        return None;
    }
    let text = copy["text"].as_str()?;
    Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
}

/// The body of the delivery as JSON.
fn delivered(run: &Value) -> Option<Value> {
    serde_json::from_str(run["delivery"]["body"]["text"].as_str()?).ok()
}

/// The texts and numbers of a document that are not in the other.
fn missing(document: &Value, blanked: &Value, gone: &mut BTreeSet<String>) {
    match (document, blanked) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                missing(value, after.get(name).unwrap_or(&Value::Null), gone);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (place, value) in before.iter().enumerate() {
                missing(value, after.get(place).unwrap_or(&Value::Null), gone);
            }
        }
        (before, after) if before != after => leaves(before, gone),
        _ => {}
    }
}

fn leaves(value: &Value, gone: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => members.values().for_each(|value| leaves(value, gone)),
        Value::Array(items) => items.iter().for_each(|value| leaves(value, gone)),
        Value::String(text) if text.chars().count() >= GONE_CHARS_MIN => drop(gone.insert(text.clone())),
        Value::Number(number) if number.to_string().len() >= GONE_CHARS_MIN => drop(gone.insert(number.to_string())),
        _ => {}
    }
}

fn plain(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_default()
}
