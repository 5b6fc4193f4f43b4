//! The subscriptions of three platforms, each behind its own API: what is kept is the same, what is asked and answered is
//! each platform's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::standin::{Answer, Business, Recorded, Standin};

/// What proves a call.
pub(crate) const TOKEN: &str = "hush-platform-token";
/// What WooCommerce knows us by.
pub(crate) const CONSUMER: &str = "ck_4711";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Shopify,
    Woocommerce,
    Walmart,
}

/// A subscription as the platform keeps it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hook {
    pub(crate) id: String,
    /// In the platform's spelling.
    pub(crate) topic: String,
    pub(crate) url: String,
    pub(crate) on: bool,
    /// What was said of it beside that: name, secret, format, `authDetails`.
    pub(crate) said: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) hooks: Vec<Hook>,
    /// Calls that changed something.
    pub(crate) changed: usize,
    /// The next calls are throttled, with status 200.
    pub(crate) throttled: u32,
    /// The next change is refused in these words.
    pub(crate) refusal: Option<&'static str>,
    made: u32,
    correlations: BTreeSet<String>,
}

/// A platform that listens.
pub(crate) struct Far {
    standin: Standin<Front>,
    inner: Arc<Mutex<Inner>>,
}

struct Front {
    kind: Kind,
    inner: Arc<Mutex<Inner>>,
}

impl Far {
    pub(crate) fn start(kind: Kind) -> Self {
        let inner = Arc::<Mutex<Inner>>::default();
        let standin = Standin::open(0, Front { kind, inner: Arc::clone(&inner) }).unwrap();
        Self { standin, inner }
    }

    pub(crate) fn url(&self) -> String {
        self.standin.url()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(self.standin.wrongs(), Vec::<String>::new());
    }
}

impl Inner {
    fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}", 1000 + self.made)
    }

    fn find(&mut self, id: &str) -> Result<&mut Hook, Answer> {
        self.changed += 1;
        self.hooks.iter_mut().find(|hook| hook.id == id).ok_or_else(|| Answer::wrong(404, format!("no hook {id}")))
    }

    fn remove(&mut self, id: &str) -> Result<(), Answer> {
        self.find(id)?;
        self.hooks.retain(|hook| hook.id != id);
        Ok(())
    }
}

impl Business for Front {
    fn answer(&mut self, request: &Recorded) -> Answer {
        let inner = Arc::clone(&self.inner);
        let inner = &mut *inner.lock().unwrap();
        let answered = match self.kind {
            Kind::Shopify => shopify(inner, request),
            Kind::Woocommerce => woocommerce(inner, request),
            Kind::Walmart => walmart(inner, request),
        };
        answered.unwrap_or_else(|refused| refused)
    }

    fn forget(&mut self) {}
}

fn sent_json(request: &Recorded) -> Result<Value, Answer> {
    if request.header("content-type").is_none_or(|kind| !kind.starts_with("application/json")) {
        return Err(Answer::wrong(415, "the body is no JSON"));
    }
    request.json().ok_or_else(|| Answer::wrong(400, "the body is no JSON"))
}

fn called(request: &Recorded) -> (&str, &str) {
    (request.method.as_str(), request.path.as_str())
}

fn text(value: &Value, name: &str) -> Result<String, Answer> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| Answer::wrong(400, format!("`{name}` is wanted")))
}

/// Status 200 whatever happens; errors stand beside the data, and beside the result of a mutation.
fn shopify(inner: &mut Inner, request: &Recorded) -> Result<Answer, Answer> {
    if request.header("x-shopify-access-token") != Some(TOKEN) {
        let said = "[API] Invalid API key or access token (unrecognized login or wrong password)";
        return Err(Answer { wrong: Some("no token".to_owned()), ..Answer::new(401, &json!({ "errors": said })) });
    }
    if called(request) != ("POST", "/admin/api/2026-10/graphql.json") {
        return Err(Answer::wrong(404, "Not Found"));
    }
    let body = sent_json(request)?;
    let (query, variables) = (text(&body, "query")?, &body["variables"]);
    let bucket = |left: u32| json!({ "maximumAvailable": 2000.0, "currentlyAvailable": left, "restoreRate": 100.0 });
    if inner.throttled > 0 {
        inner.throttled -= 1;
        return Ok(Answer::new(
            200,
            &json!({
                "errors": [{ "message": "Throttled", "extensions": { "code": "THROTTLED" } }],
                "extensions": { "cost": { "requestedQueryCost": 20, "actualQueryCost": null, "throttleStatus": bucket(10) } },
            }),
        ));
    }
    let data = shopify_data(inner, &query, variables)?;
    let cost = json!({ "requestedQueryCost": 12, "actualQueryCost": 10, "throttleStatus": bucket(1990) });
    Ok(Answer::new(200, &json!({ "data": data, "extensions": { "cost": cost } })))
}

fn shopify_data(inner: &mut Inner, query: &str, variables: &Value) -> Result<Value, Answer> {
    /// Fewer than are asked for, so that there are pages.
    const PAGE: usize = 2;
    if query.starts_with("query") && query.contains("webhookSubscriptions(first:") {
        let after: usize = variables["after"].as_str().and_then(|after| after.parse().ok()).unwrap_or(0);
        let nodes: Vec<_> = inner.hooks.iter().skip(after).take(PAGE).collect();
        let nodes = nodes
            .iter()
            .map(|hook| json!({ "id": hook.id, "topic": hook.topic, "uri": hook.url, "format": hook.said["format"] }));
        let nodes: Vec<_> = nodes.collect();
        let page = json!({ "hasNextPage": after + PAGE < inner.hooks.len(), "endCursor": (after + PAGE).to_string() });
        return Ok(json!({ "webhookSubscriptions": { "nodes": nodes, "pageInfo": page } }));
    }
    let errors = |message: &str| json!([{ "field": ["webhookSubscription"], "message": message }]);
    let refusal = inner.refusal.take();
    let hook = &variables["hook"];
    if query.contains("webhookSubscriptionDelete(") {
        let id = text(variables, "id")?;
        inner.remove(&id)?;
        return Ok(json!({ "webhookSubscriptionDelete": { "deletedWebhookSubscriptionId": id, "userErrors": [] } }));
    }
    let (url, format) = (text(hook, "uri")?, text(hook, "format")?);
    let (name, id, topic) = if query.contains("webhookSubscriptionCreate(") {
        ("webhookSubscriptionCreate", None, text(variables, "topic")?)
    } else if query.contains("webhookSubscriptionUpdate(") {
        let id = text(variables, "id")?;
        let topic = inner.hooks.iter().find(|hook| hook.id == id).map(|hook| hook.topic.clone());
        let topic = topic.ok_or_else(|| Answer::wrong(200, format!("no hook {id}")))?;
        ("webhookSubscriptionUpdate", Some(id), topic)
    } else {
        return Err(Answer::wrong(200, format!("an unknown query: {query}")));
    };
    let taken =
        inner.hooks.iter().any(|other| other.topic == topic && other.url == url && Some(&other.id) != id.as_ref());
    let message = refusal.or(taken.then_some("Address for this topic has already been taken"));
    if let Some(message) = message {
        return Ok(json!({ name: { "webhookSubscription": null, "userErrors": errors(message) } }));
    }
    let id = if let Some(id) = id {
        let there = inner.find(&id)?;
        (there.url, there.said) = (url, json!({ "format": format }));
        id
    } else {
        inner.changed += 1;
        let id = inner.id("gid://shopify/WebhookSubscription/");
        inner.hooks.push(Hook { id: id.clone(), topic, url, on: true, said: json!({ "format": format }) });
        id
    };
    Ok(json!({ name: { "webhookSubscription": { "id": id }, "userErrors": [] } }))
}

/// REST with Basic; the secret goes in and never comes out.
fn woocommerce(inner: &mut Inner, request: &Recorded) -> Result<Answer, Answer> {
    const PATH: &str = "/wp-json/wc/v3/webhooks";
    let expected = format!("Basic {}", BASE64.encode(format!("{CONSUMER}:{TOKEN}").as_bytes()));
    if request.header("authorization") != Some(expected.as_str()) {
        return Err(Answer::wrong(401, "woocommerce_rest_cannot_view"));
    }
    let query: BTreeMap<String, String> = url::form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
    let shown = |hook: &Hook| {
        let status = if hook.on { "active" } else { "disabled" };
        json!({ "id": hook.id.parse::<u32>().unwrap(), "name": hook.said["name"], "status": status, "topic": hook.topic, "delivery_url": hook.url })
    };
    let id = request.path.strip_prefix(PATH).and_then(|rest| rest.strip_prefix('/'));
    match (request.method.as_str(), id) {
        ("GET", None) if request.path == PATH => {
            let number = |name: &str, default: usize| query.get(name).map_or(default, |text| text.parse().unwrap_or(0));
            let (page, per_page) = (number("page", 1), number("per_page", 10));
            if page == 0 || !(1..=100).contains(&per_page) {
                return Err(Answer::wrong(400, "rest_invalid_param"));
            }
            let hooks: Vec<_> = inner.hooks.iter().skip((page - 1) * per_page).take(per_page).map(shown).collect();
            Ok(Answer::new(200, &json!(hooks)))
        }
        ("POST", None) if request.path == PATH => {
            let body = sent_json(request)?;
            if let Some(refusal) = inner.refusal.take() {
                return Ok(Answer::new(400, &json!({ "code": "woocommerce_rest_invalid_topic", "message": refusal })));
            }
            inner.changed += 1;
            let id = inner.id("");
            let (topic, url) = (text(&body, "topic")?, text(&body, "delivery_url")?);
            text(&body, "secret")?;
            let hook = Hook { id, topic, url, on: body["status"] == "active", said: body };
            inner.hooks.push(hook.clone());
            Ok(Answer::new(201, &shown(&hook)))
        }
        ("PUT", Some(id)) => {
            let body = sent_json(request)?;
            let hook = inner.find(id)?;
            hook.url = text(&body, "delivery_url")?;
            hook.on = body["status"] == "active";
            hook.said = body;
            Ok(Answer::new(200, &shown(&hook.clone())))
        }
        ("DELETE", Some(id)) => {
            if query.get("force").map(String::as_str) != Some("true") {
                return Err(Answer::wrong(501, "woocommerce_rest_trash_not_supported"));
            }
            inner.remove(id)?;
            Ok(Answer::new(200, &json!({})))
        }
        _ => Err(Answer::wrong(404, "rest_no_route")),
    }
}

/// A token of its own for 15 minutes, and a correlation id that never comes twice.
fn walmart(inner: &mut Inner, request: &Recorded) -> Result<Answer, Answer> {
    const PATH: &str = "/v3/webhooks/subscriptions";
    let correlation = request.header("wm_qos.correlation_id").unwrap_or_default();
    if correlation.is_empty() || !inner.correlations.insert(correlation.to_owned()) {
        return Err(Answer::wrong(400, format!("`WM_QOS.CORRELATION_ID` is missing or was used: `{correlation}`")));
    }
    if request.header("wm_svc.name").is_none() || request.header("accept") != Some("application/json") {
        return Err(Answer::wrong(400, "`WM_SVC.NAME` and `Accept` are wanted"));
    }
    if called(request) == ("POST", "/v3/token") {
        return Ok(Answer::new(200, &json!({ "access_token": TOKEN, "token_type": "Bearer", "expires_in": 900 })));
    }
    if request.header("wm_sec.access_token") != Some(TOKEN) {
        return Err(Answer::wrong(401, "UNAUTHORIZED.GMP_GATEWAY_API"));
    }
    let shown = |hook: &Hook| {
        let mut said = hook.said.clone();
        said["subscriptionId"] = json!(hook.id);
        said["partnerId"] = json!("10000000359");
        said["eventUrl"] = json!(hook.url);
        said["status"] = json!(if hook.on { "ACTIVE" } else { "INACTIVE" });
        said
    };
    let id = request.path.strip_prefix(PATH).and_then(|rest| rest.strip_prefix('/'));
    match (request.method.as_str(), id) {
        ("GET", None) if request.path == PATH => {
            Ok(Answer::new(200, &json!({ "events": inner.hooks.iter().map(shown).collect::<Vec<_>>() })))
        }
        ("POST", None) if request.path == PATH => {
            let body = sent_json(request)?;
            if let Some(refusal) = inner.refusal.take() {
                let error = json!({ "code": "INVALID_REQUEST", "message": refusal, "severity": "ERROR" });
                return Ok(Answer::new(400, &json!({ "errors": [error] })));
            }
            let events = body["events"].as_array().ok_or_else(|| Answer::wrong(400, "`events` is wanted"))?;
            for event in events {
                inner.changed += 1;
                let id = inner.id("243ba4d0-b322-11ea-b385-0127e9b8");
                inner.hooks.push(taken(id, event)?);
            }
            Ok(Answer::new(200, &json!({ "events": inner.hooks.iter().map(shown).collect::<Vec<_>>() })))
        }
        ("PATCH", Some(id)) => {
            let body = sent_json(request)?;
            let hook = inner.find(id)?;
            *hook = taken(id.to_owned(), &body)?;
            Ok(Answer::new(200, &shown(&hook.clone())))
        }
        ("DELETE", Some(id)) => {
            inner.remove(id)?;
            Ok(Answer::new(200, &json!({})))
        }
        _ => Err(Answer::wrong(404, "CONTENT_NOT_FOUND")),
    }
}

fn taken(id: String, event: &Value) -> Result<Hook, Answer> {
    let topic =
        format!("{}/{}/{}", text(event, "resourceName")?, text(event, "eventType")?, text(event, "eventVersion")?);
    text(&event["authDetails"], "authHeaderName")?;
    Ok(Hook { id, topic, url: text(event, "eventUrl")?, on: event["status"] == "ACTIVE", said: event.clone() })
}
