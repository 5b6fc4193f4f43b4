//! The control door: everything that the API lists, asked for over a real socket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clawhook::clock::{Clock as _, TestClock};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Answer, App, Control, Folder, PUSH, orders_route};
use crate::kit::START;
use crate::standin::{self, Fault, Standin};

const PAUSE: &str = r"
version: 1
name: pause
tasks: [{ id: pause, type: wait, with: { for: 1h } }]
";

const YEARLY: &str = r#"
version: 1
schedules: [{ name: yearly, cron: "@yearly", overlap: allow, workflow: pause }]
"#;

fn erp() -> Standin {
    Standin::start(&standin::Settings::default()).unwrap()
}

fn folder(erp: &Standin) -> Folder {
    let folder = Folder::with_orders(erp, "");
    folder.write("workflows/pause.yaml", PAUSE);
    folder.write("routes/schedules.yaml", YEARLY);
    folder
}

fn push(number: u32) -> Value {
    json!({ "workflow": "push", "inputs": { "order": { "id": number, "name": format!("#{number}") } } })
}

async fn trigger(control: &Control, body: &Value) -> String {
    control.post("/v1/workflows/trigger", body).await.run()
}

#[tokio::test]
async fn runs_are_found() {
    let erp = erp();
    let clock = TestClock::at(START);
    let app = folder(&erp).start_at(Arc::new(clock.clone())).await;
    let control = &app.control;
    let mut times = Vec::new();
    let mut next = || {
        clock.advance(Duration::from_mins(1));
        times.push(clock.now().to_string());
    };
    next();
    let delivered = app.deliver("d-1", r##"{"id":1,"name":"#1"}"##).await.run();
    next();
    let manual = trigger(control, &push(2)).await;
    next();
    for run in [&delivered, &manual] {
        assert_eq!(control.ended(run).await["status"], "succeeded");
    }
    erp.fail(Fault { path: "/orders".into(), status: Some(422), ..Fault::default() });
    let failed = trigger(control, &push(3)).await;
    let failed_one = control.ended(&failed).await;
    assert_eq!(failed_one["status"], "failed", "{failed_one}");
    next();
    let range = json!({ "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z" });
    let slot = control.post("/v1/schedules/yearly/backfill", &range).await.expect(200);
    let slot = slot["entered"][0]["run_id"].as_str().unwrap().to_owned();
    next();
    let replay = control.post(&format!("/v1/runs/{delivered}/replay"), &json!({})).await.run();
    // The ERP has this order already, and does not know the new run's key.
    assert_eq!(control.ended(&replay).await["status"], "failed");

    let cause = failed_one["cause"].as_str().unwrap();
    let all = [&replay, &slot, &failed, &manual, &delivered];
    check_list(control, "", &all).await;
    check_list(control, "workflow=pause", &[&slot]).await;
    check_list(control, "status=failed", &[&replay, &failed]).await;
    check_list(control, "status=failed,waiting", &[&replay, &slot, &failed]).await;
    check_list(control, "status=failed&status=waiting", &[&replay, &slot, &failed]).await;
    check_list(control, "trigger=delivery", &[&delivered]).await;
    check_list(control, "trigger=manual", &[&failed, &manual]).await;
    check_list(control, "trigger=slot", &[&slot]).await;
    check_list(control, "trigger=replay", &[&replay]).await;
    check_list(control, "source=orders", &[&delivered]).await;
    check_list(control, "source=yearly", &[&slot]).await;
    check_list(control, "label=order%3D%231", &[&replay, &delivered]).await;
    check_list(control, "label=order%3D%239", &[]).await;
    check_list(control, &format!("cause={cause}"), &[&failed]).await;
    check_list(control, &format!("since={}", times[2]), &[&replay, &slot, &failed]).await;
    check_list(control, &format!("until={}", times[1]), &[&delivered]).await;
    check_list(control, &format!("since={}&until={}", times[1], times[3]), &[&failed, &manual]).await;
    check_list(control, "workflow=push&status=succeeded&trigger=manual", &[&manual]).await;
    control.ask("/v1/runs?status=done").await.problem(400, "http.parameter");
    control.ask("/v1/runs?colour=red").await.problem(400, "http.parameter");
    control.ask("/v1/runs?limit=201").await.problem(400, "http.parameter");
    app.stop().await;
}

/// The list, and the same list two at a time.
async fn check_list(control: &Control, query: &str, expected: &[&String]) {
    let ids = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    let page = control.get(&format!("/v1/runs?{query}")).await;
    assert_eq!(ids(&page).iter().collect::<Vec<_>>(), expected, "{query}");
    assert_eq!(page["next"], Value::Null);
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = control.get(&format!("/v1/runs?limit=2&{query}{cursor}")).await;
        paged.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged.iter().collect::<Vec<_>>(), expected, "{query}, two at a time");
}

#[tokio::test]
async fn a_run_is_shown_with_all_that_is_on_record() {
    let erp = erp();
    let app = folder(&erp).start().await;
    let run = app.deliver("d-1", r##"{"id":1,"name":"#1"}"##).await.run();
    let mut shown = app.control.ended(&run).await;
    let exchange = shown["tasks"][0]["attempts"][0]["exchange"].take();
    let delivery = shown["delivery"].take();
    assert_eq!(
        without_times(shown, &run),
        json!({
            "id": "RUN", "workflow": "push", "revision": "REVISION", "status": "succeeded", "trigger": "delivery",
            "source": "orders", "accepted_at": "TIME", "started_at": "TIME", "ended_at": "TIME",
            "labels": { "order": "#1" }, "attempts": 1, "retried": false, "delivery": null,
            "inputs": { "order": { "id": 1, "name": "#1" } }, "outputs": { "id": "ERP-1001" },
            "tasks": [{
                "id": "push", "status": "succeeded",
                "attempts": [{
                    "attempt": 1, "idempotency_key": "RUN-push", "started_at": "TIME", "ended_at": "TIME",
                    "duration_ms": 0, "exchange": null,
                    "output": {
                        "status": 201, "headers": "HEADERS",
                        "body": { "id": "ERP-1001", "source": "shopify", "source_id": "1", "status": "open", "name": "#1", "total": null },
                    },
                }],
            }],
            "payloads_gone": false,
        })
    );
    assert_eq!((&delivery["path"], &delivery["remote"]), (&json!("/hooks/orders"), &json!("127.0.0.1")));
    assert_eq!((&exchange["request"]["method"], &exchange["response"]["status"]), (&json!("POST"), &json!(201)));
    app.control.ask("/v1/runs/run_01k4q8zr5m2c7").await.problem(404, "api.not_found");
    app.control.ask("/v1/runs/7").await.problem(400, "http.parameter");
    app.stop().await;
}

/// What differs from run to run, made the same.
fn without_times(value: Value, run: &str) -> Value {
    match value {
        Value::String(text) if text.len() == 24 && text.ends_with('Z') => json!("TIME"),
        Value::String(text) => json!(text.replace(run, "RUN")),
        Value::Array(items) => items.into_iter().map(|item| without_times(item, run)).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| match name.as_str() {
                "duration_ms" => (name, json!(0)),
                "revision" => (name, json!("REVISION")),
                "headers" => (name, json!("HEADERS")),
                _ => (name, without_times(value, run)),
            })
            .collect(),
        plain => plain,
    }
}

#[tokio::test]
async fn events_as_a_list_and_as_a_stream() {
    let erp = erp();
    let app = folder(&erp).start().await;
    let run = trigger(&app.control, &push(1)).await;
    let stream = |last: Option<&'static str>| {
        let mut request = app.control.request(Method::GET, &format!("/v1/runs/{run}/events"));
        request = request.header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        async move { Answer::of(request.send().await.unwrap()).await }
    };
    // It follows the run to its end.
    let followed = stream(None).await;
    assert_eq!(followed.header("content-type"), Some("text/event-stream"));
    let list = app.control.get(&format!("/v1/runs/{run}/events")).await;
    assert_eq!(list["status"], "succeeded");
    let items = list["items"].as_array().unwrap();
    let names: Vec<_> = items.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["accepted", "claimed", "prepared", "attempt_started", "attempt_ended", "finished"]);
    let lines = |wanted: &str, text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(wanted)).map(str::to_owned).collect()
    };
    assert_eq!(lines("event: ", &followed.text), [names.as_slice(), &["end"]].concat());
    assert_eq!(lines("id: ", &followed.text), ["0", "1", "2", "3", "4", "5"]);
    assert!(followed.text.ends_with("event: end\ndata: {\"status\":\"succeeded\"}\n\n"), "{}", followed.text);
    assert_eq!(lines("id: ", &stream(Some("3")).await.text), ["4", "5"]);
    let tail = app.control.get(&format!("/v1/runs/{run}/events?from=4")).await;
    assert_eq!(tail["items"].as_array().unwrap().as_slice(), &items[4..]);
    app.stop().await;
}

#[tokio::test]
async fn runs_are_cancelled_replayed_and_resumed_once() {
    let erp = erp();
    let app = folder(&erp).start().await;
    let control = &app.control;
    let waiting = trigger(control, &json!({ "workflow": "pause" })).await;
    control.until(&format!("/v1/runs/{waiting}"), |run| run["status"] == "waiting").await;
    let cancel = format!("/v1/runs/{waiting}/cancel");
    let reason = json!({ "reason": "not needed" });
    let first = control.post_once(&cancel, "key-1", &reason).await;
    assert_eq!(first.expect(200), json!({ "run_id": waiting, "status": "cancelled" }));
    assert_eq!(control.post_once(&cancel, "key-1", &reason).await.expect(200), first.json());
    control.post_once(&cancel, "key-1", &json!({})).await.problem(422, "http.idempotency_key_reused");
    control.post(&cancel, &reason).await.problem(409, "run.state");

    erp.fail(Fault { path: "/orders".into(), status: Some(422), ..Fault::default() });
    let failed = trigger(control, &push(1)).await;
    assert_eq!(control.ended(&failed).await["status"], "failed");
    let resume = format!("/v1/runs/{failed}/resume");
    let resumed = control.post_once(&resume, "key-2", &json!({})).await;
    assert_eq!(resumed.expect(200)["again"], json!(["push"]));
    assert_eq!(control.ended(&failed).await["status"], "succeeded");
    assert_eq!(control.post_once(&resume, "key-2", &json!({})).await.expect(200), resumed.json());
    control.post_once(&resume, "key-3", &json!({})).await.problem(409, "run.state");

    let replay = format!("/v1/runs/{failed}/replay");
    let once = control.post_once(&replay, "key-4", &json!({})).await.expect(202);
    let twice = control.post_once(&replay, "key-4", &json!({})).await.expect(202);
    assert_eq!((&twice["run_id"], &twice["duplicate"]), (&once["run_id"], &json!(true)));
    let other = control.post_once(&replay, "key-5", &json!({})).await.expect(202);
    assert_ne!(other["run_id"], once["run_id"]);
    for run in [once, other] {
        assert_eq!(control.ended(run["run_id"].as_str().unwrap()).await["source"], failed.as_str());
    }
    app.stop().await;
}

#[tokio::test]
async fn workflows_are_listed_and_triggered() {
    let erp = erp();
    let app = folder(&erp).start().await;
    let control = &app.control;
    let listed = control.get("/v1/workflows").await;
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
    assert_eq!(names, ["pause", "push"]);
    let shown = control.get("/v1/workflows/push").await;
    assert_eq!((&shown["yaml"], &shown["inputs"][0]["name"]), (&json!(PUSH), &json!("order")));
    control.ask("/v1/workflows/nothing").await.problem(404, "api.not_found");

    let path = "/v1/workflows/trigger";
    let mut waited = push(1);
    waited["wait"] = json!("30s");
    let done = control.post(path, &waited).await;
    assert_eq!(done.expect(200)["outputs"], json!({ "id": "ERP-1001" }));
    assert_eq!(done.json()["duplicate"], false);
    let accepted = control.post_once(path, "order-2", &push(2)).await;
    let run = accepted.run();
    assert_eq!(accepted.header("location"), Some(format!("/v1/runs/{run}").as_str()));
    control.ended(&run).await;
    // The key in the body says the same as in the header.
    let mut keyed = push(2);
    keyed["idempotency_key"] = json!("order-2");
    let again = control.post(path, &keyed).await.expect(200);
    assert_eq!((&again["run_id"], &again["duplicate"]), (&json!(run), &json!(true)));
    assert_eq!(erp.requests_to("/orders").len(), 2);

    control.post(path, &json!({ "workflow": "nothing" })).await.problem(404, "api.not_found");
    control.post(path, &json!({ "workflow": "push" })).await.problem(422, "inputs.misfit");
    control.post(path, &json!({ "workflow": "push", "input": {} })).await.problem(400, "http.body");
    let form = control.request(Method::POST, path).body("workflow=push");
    Answer::of(form.send().await.unwrap()).await.problem(415, "http.media_type");
    Answer::of(control.request(Method::DELETE, "/v1/runs").send().await.unwrap()).await.problem(405, "http.method");
    control.ask("/v2/runs").await.problem(404, "http.not_found");
    app.stop().await;
}

#[tokio::test]
async fn schedules_are_listed_paused_and_backfilled() {
    let erp = erp();
    let clock = TestClock::at(START);
    let app = folder(&erp).start_at(Arc::new(clock)).await;
    let control = &app.control;
    let listed = control.get("/v1/schedules").await;
    let schedule = &listed["items"][0];
    assert_eq!((&schedule["name"], &schedule["enabled"]), (&json!("yearly"), &json!(true)));
    assert_eq!(schedule["next"][0]["due"], "2027-01-01T00:00:00.000Z");
    let paused = control.post("/v1/schedules/yearly/pause", &json!({ "reason": "moving" })).await.expect(200);
    assert_eq!((&paused["paused"], &paused["next"]), (&json!("local: moving"), &json!([])));
    let resumed = control.post("/v1/schedules/yearly/resume", &json!({})).await.expect(200);
    assert_eq!((&resumed["paused"], resumed["next"].as_array().unwrap().len()), (&Value::Null, 5));
    let range = json!({ "since": "2025-06-01T08:00:00+08:00" });
    let filled = control.post("/v1/schedules/yearly/backfill", &range).await.expect(200);
    assert_eq!(filled["entered"][0]["due"], "2026-01-01T00:00:00.000Z");
    let run = control.get(&format!("/v1/runs/{}", filled["entered"][0]["run_id"].as_str().unwrap())).await;
    assert_eq!(run["slot_due"], "2026-01-01T00:00:00.000Z");
    let again = control.post("/v1/schedules/yearly/backfill", &range).await.expect(200);
    assert_eq!(again, json!({ "entered": [], "known": ["2026-01-01T00:00:00.000Z"], "more": false }));
    control.post("/v1/schedules/yearly/backfill", &json!({ "since": "yesterday" })).await.problem(400, "http.body");
    for verb in ["pause", "resume"] {
        control.post(&format!("/v1/schedules/never/{verb}"), &json!({})).await.problem(404, "api.not_found");
        control.post(&format!("/v1/routes/never/{verb}"), &json!({})).await.problem(404, "api.not_found");
    }
    let routes = control.get("/v1/routes").await;
    let route = &routes["items"][0];
    assert_eq!(
        (&route["name"], &route["verify"], &route["workflow"]),
        (&json!("orders"), &json!("shopify"), &json!("push"))
    );
    app.stop().await;
}

#[tokio::test]
async fn a_reload_is_all_or_nothing() {
    let erp = erp();
    let folder = folder(&erp);
    let app = folder.start().await;
    let control = &app.control;
    let same = control.post("/v1/reload", &json!({})).await.expect(200);
    assert_eq!(same, json!({ "workflows": 2, "routes": 1, "schedules": 1, "changed": [] }));
    folder.write("workflows/push.yaml", &PUSH.replace("name: push\n", "name: push\ndescription: Another\n"));
    let changed = control.post("/v1/reload", &json!({})).await.expect(200);
    assert_eq!(changed["changed"], json!(["push"]));
    // One file is better, another is broken: neither is taken.
    folder.write("workflows/push.yaml", PUSH);
    folder.write("routes/orders.yaml", &orders_route("    filters: nonsense"));
    let refused = control.post("/v1/reload", &json!({})).await;
    refused.problem(422, "files.invalid");
    let help = refused.json()["help"].as_str().unwrap().to_owned();
    assert!(help.contains("routes/orders.yaml") && help.contains("filters"), "{help}");
    assert_eq!(control.get("/v1/workflows/push").await["description"], "Another");
    assert_eq!(app.deliver("d-1", r#"{"id":1}"#).await.status, 202, "the route before stays open");
    // Mended files are noticed without a call.
    folder.write("routes/orders.yaml", &orders_route("    enabled: false"));
    control.until("/v1/routes", |routes| routes["items"][0]["enabled"] == false).await;
    assert_eq!(control.get("/v1/workflows/push").await["description"], Value::Null);
    assert_eq!(app.deliver("d-2", "{}").await.status, 404);
    app.stop().await;
}

#[tokio::test]
async fn everything_that_people_do_is_on_record() {
    let erp = erp();
    let folder = folder(&erp);
    let app = folder.start().await;
    let control = &app.control;
    let act = async |path: &str, body: Value| {
        let answer = control.post(path, &body).await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
        answer.json()
    };
    act("/v1/routes/orders/pause", json!({ "reason": "why" })).await;
    act("/v1/routes/orders/resume", json!({})).await;
    act("/v1/schedules/yearly/pause", json!({ "reason": "why" })).await;
    act("/v1/schedules/yearly/resume", json!({})).await;
    act("/v1/schedules/yearly/backfill", json!({ "since": "2026-06-01T00:00:00Z" })).await;
    let run = act("/v1/workflows/trigger", json!({ "workflow": "pause" })).await;
    let run = run["run_id"].as_str().unwrap();
    act(&format!("/v1/runs/{run}/cancel"), json!({ "reason": "why" })).await;
    control.ended(run).await;
    act(&format!("/v1/runs/{run}/resume"), json!({})).await;
    act(&format!("/v1/runs/{run}/replay"), json!({})).await;
    act("/v1/reload", json!({})).await;
    folder.write("workflows/pause.yaml", "version: 1");
    assert_eq!(control.post("/v1/reload", &json!({})).await.status, 422);
    let audit = control.get("/v1/audit").await;
    let entries = audit["items"].as_array().unwrap();
    let whats: Vec<_> = entries.iter().rev().map(|entry| entry["what"].as_str().unwrap()).collect();
    let expected = [
        "route.pause",
        "route.resume",
        "schedule.pause",
        "schedule.resume",
        "schedule.backfill",
        "workflow.trigger",
        "run.cancel",
        "run.resume",
        "run.replay",
        "gateway.reload",
        "gateway.reload_refused",
    ];
    assert_eq!(whats, expected);
    for entry in entries {
        assert_eq!(
            (&entry["detail"]["by"], &entry["detail"]["from"]),
            (&json!("local"), &json!("127.0.0.1")),
            "{entry}"
        );
    }
    let of_run = control.get(&format!("/v1/audit?subject={run}&limit=2")).await;
    assert_eq!(of_run["items"].as_array().unwrap().len(), 2);
    let next = of_run["next"].as_str().unwrap();
    assert_eq!(control.get(&format!("/v1/audit?subject={run}&cursor={next}")).await["items"][0]["what"], "run.cancel");
    assert_eq!(control.get("/v1/audit?what=run.cancel").await["items"][0]["detail"]["reason"], "why");
    let events = control.get("/v1/events").await;
    let whats: Vec<_> = events["items"].as_array().unwrap().iter().map(|entry| &entry["what"]).collect();
    assert_eq!(whats, ["gateway.reloaded", "gateway.started"]);
    app.stop().await;
}

#[tokio::test]
async fn machines_ask_how_it_is() {
    let erp = erp();
    let app = folder(&erp).start().await;
    assert_eq!(app.control.get("/healthz").await, json!({ "status": "ok" }));
    let ready = app.control.get("/readyz").await;
    assert_eq!(ready["status"], "ready");
    assert!(ready["disk_bytes"].as_u64().unwrap() > 0, "{ready}");
    app.control.ended(&app.deliver("d-1", r#"{"id":1}"#).await.run()).await;
    let metrics = app.control.ask("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    assert!(
        metrics.text.contains(r#"clawhook_deliveries_total{route="orders",outcome="accepted"}"#),
        "{}",
        metrics.text
    );
    app.stop().await;
}

#[tokio::test]
async fn the_description_lists_the_whole_api() {
    let erp = erp();
    let app = folder(&erp).start().await;
    let described = app.control.get("/openapi.json").await;
    let operations: BTreeSet<_> = described["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |verb| format!("{verb} {path}")))
        .collect();
    let expected = [
        "get /healthz",
        "get /metrics",
        "get /openapi.json",
        "get /readyz",
        "get /v1/approvals",
        "get /v1/approvals/{id}",
        "get /v1/audit",
        "get /v1/blobs/{place}",
        "get /v1/events",
        "get /v1/refusals",
        "get /v1/routes",
        "get /v1/runs",
        "get /v1/runs/{id}",
        "get /v1/runs/{id}/artifacts",
        "get /v1/runs/{id}/artifacts/{artifact}",
        "get /v1/runs/{id}/events",
        "get /v1/schedules",
        "get /v1/settings",
        "get /v1/sources",
        "get /v1/workflows",
        "get /v1/workflows/{name}",
        "get /v1/workflows/{name}/state",
        "post /v1/approvals/{id}",
        "post /v1/reload",
        "post /v1/routes/{name}/pause",
        "post /v1/routes/{name}/resume",
        "post /v1/runs/{id}/cancel",
        "post /v1/runs/{id}/replay",
        "post /v1/runs/{id}/resume",
        "post /v1/schedules/{name}/backfill",
        "post /v1/schedules/{name}/pause",
        "post /v1/schedules/{name}/resume",
        "post /v1/workflows/trigger",
        "post /v1/workflows/{name}/state",
    ];
    assert_eq!(operations, expected.map(str::to_owned).into());
    app.stop().await;
}

/// Settings that let nobody in without proof.
const CLOSED: &str = r#"
version: 1
listen: { hooks: { address: "127.0.0.1:0" }, control: { address: "127.0.0.1:0" } }
auth: { jwt: { secret_env: JWT_SECRET }, basic: { users: { ops: { secret_ref: ops-password } } } }
secrets: { source: file, path: ./secrets }
"#;
const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";

async fn closed() -> App {
    let mut folder = Folder::new(CLOSED, None);
    folder.secret("ops-password", "correct horse");
    folder.env.insert("JWT_SECRET".to_owned(), SECRET.to_owned());
    folder.write("workflows/pause.yaml", PAUSE);
    folder.start().await
}

/// A token with these claims, signed with this key.
fn token(algorithm: &str, key: &str, claims: &Value) -> String {
    use data_encoding::BASE64URL_NOPAD as BASE64;
    let head = BASE64.encode(json!({ "alg": algorithm, "typ": "JWT" }).to_string().as_bytes());
    let body = BASE64.encode(claims.to_string().as_bytes());
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
    let signed = format!("{head}.{body}");
    let tag = if algorithm == "none" {
        String::new()
    } else {
        BASE64.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref())
    };
    format!("Bearer {signed}.{tag}")
}

fn claims(scope: &str, expires_in: i64) -> Value {
    let now = clawhook::clock::SystemClock.now().as_secs();
    json!({ "sub": "ci", "scope": scope, "iat": now, "exp": now + expires_in })
}

#[tokio::test]
async fn who_gets_in() {
    let app = closed().await;
    let basic = |user: &str, password: &str| {
        format!("Basic {}", data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes()))
    };
    let good = claims("runs:read", 60);
    let mut nobody = good.clone();
    nobody.as_object_mut().unwrap().remove("sub");
    let mut for_ever = good.clone();
    for_ever.as_object_mut().unwrap().remove("exp");
    for (authorization, status, code) in [
        (token("HS256", SECRET, &good), 200, ""),
        (token("HS256", SECRET, &claims("admin", 60)), 200, ""),
        (basic("ops", "correct horse"), 200, ""),
        (token("none", SECRET, &good), 401, "auth.invalid"),
        (token("HS512", SECRET, &good), 401, "auth.invalid"),
        (token("HS256", "another-secret-of-thirty-two-bytes-or-so", &good), 401, "auth.invalid"),
        (token("HS256", SECRET, &claims("runs:read", -60)), 401, "auth.invalid"),
        (token("HS256", SECRET, &nobody), 401, "auth.invalid"),
        (token("HS256", SECRET, &for_ever), 401, "auth.invalid"),
        (token("HS256", SECRET, &claims("workflows:trigger", 60)), 403, "auth.forbidden"),
        (token("HS256", SECRET, &claims("", 60)), 403, "auth.forbidden"),
        (basic("ops", "wrong"), 401, "auth.invalid"),
        (basic("nobody", "correct horse"), 401, "auth.invalid"),
        ("Digest x".to_owned(), 401, "auth.invalid"),
    ] {
        let answer = app.control.with(&authorization).ask("/v1/runs").await;
        if status == 200 {
            answer.expect(200);
        } else {
            answer.problem(status, code);
            assert!(answer.header("www-authenticate").is_some(), "{authorization}");
        }
    }
    app.control.ask("/v1/runs").await.problem(401, "auth.missing");
    app.stop().await;
}

#[tokio::test]
async fn every_operation_wants_proof_and_its_scope() {
    let app = closed().await;
    let admin = app.control.with(&token("HS256", SECRET, &claims("admin", 60)));
    let run = trigger(&admin, &json!({ "workflow": "pause" })).await;
    let described = app.control.get("/openapi.json").await;
    let useless = |scope| app.control.with(&token("HS256", SECRET, &claims(scope, 60)));
    let (approver, reader) = (useless("approvals"), useless("runs:read"));
    let mut asked = 0;
    for (path, item) in described["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            if operation["security"] == json!([]) || operation["security"] == json!([{}]) || path == "/metrics" {
                continue;
            }
            let path = path.replace("{id}", &run).replace("{name}", "pause").replace("{artifact}", "art_x");
            let body = match path.rsplit('/').next() {
                Some("trigger") => json!({ "workflow": "pause" }),
                Some("state") => json!({ "set": { "seen": 1 } }),
                Some("backfill") => json!({ "since": "2026-01-01T00:00:00Z" }),
                _ if path.starts_with("/v1/approvals/") => json!({ "decision": "approve" }),
                _ => json!({}),
            };
            let ask = async |control: &Control| {
                let request = match verb.as_str() {
                    "post" => control.request(Method::POST, &path).json(&body),
                    _ => control.request(Method::GET, &path),
                };
                Answer::of(request.send().await.unwrap()).await
            };
            ask(&app.control).await.problem(401, "auth.missing");
            let useless = if path.starts_with("/v1/approvals") { &reader } else { &approver };
            ask(useless).await.problem(403, "auth.forbidden");
            asked += 1;
        }
    }
    assert_eq!(asked, 29, "operations that want proof");
    assert_eq!(admin.get("/v1/audit").await["items"].as_array().unwrap().len(), 1, "and nothing of it was done");
    app.stop().await;
}
