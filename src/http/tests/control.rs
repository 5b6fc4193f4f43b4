use serde_json::{Value, json};

use super::fixture::{Doors, doors, shown};
use crate::gateway::Scope;

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_may_ask() {
    let doors = doors().await;
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/openapi.json", 200),
        ("/v1/runs", 401),
        ("/v1/audit", 401),
        ("/nothing", 404),
    ] {
        let answer = doors.http.get(format!("{}{path}", doors.control)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers().get("cache-control").unwrap(), "no-store", "{path}");
        assert_eq!(answer.headers().get("x-content-type-options").unwrap(), "nosniff", "{path}");
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{path}");
    }
    let head = doors.http.head(format!("{}/healthz", doors.control)).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.text().await.unwrap().as_str()), (200, ""));
    let proxied = doors.http.get(format!("{}/metrics", doors.control)).header("x-forwarded-for", "203.0.113.9");
    assert_eq!(proxied.send().await.unwrap().status(), 401);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_wants_its_scope() {
    let doors = doors().await;
    let (read, write) = (&[Scope::RunsRead][..], &[Scope::RunsWrite][..]);
    let run = "run_01k4q8zr5m2c7";
    for (method, path, scopes) in [
        ("GET", "/v1/workflows".to_owned(), read),
        ("GET", "/v1/workflows/double".to_owned(), read),
        ("POST", "/v1/workflows/trigger".to_owned(), &[Scope::WorkflowsTrigger][..]),
        ("GET", "/v1/runs".to_owned(), read),
        ("GET", format!("/v1/runs/{run}"), read),
        ("GET", format!("/v1/runs/{run}/events"), read),
        ("POST", format!("/v1/runs/{run}/cancel"), write),
        ("POST", format!("/v1/runs/{run}/replay"), write),
        ("POST", format!("/v1/runs/{run}/resume"), write),
        ("GET", "/v1/routes".to_owned(), read),
        ("POST", "/v1/routes/orders/pause".to_owned(), write),
        ("POST", "/v1/routes/orders/resume".to_owned(), write),
        ("GET", "/v1/schedules".to_owned(), read),
        ("POST", "/v1/schedules/nightly/pause".to_owned(), write),
        ("POST", "/v1/schedules/nightly/resume".to_owned(), write),
        ("POST", "/v1/schedules/nightly/backfill".to_owned(), write),
        ("GET", "/v1/refusals".to_owned(), read),
        ("GET", "/v1/audit".to_owned(), &[Scope::Admin]),
        ("GET", "/v1/events".to_owned(), read),
        ("POST", "/v1/reload".to_owned(), &[Scope::Admin]),
    ] {
        let body = match path.as_str() {
            "/v1/workflows/trigger" => json!({ "workflow": "double", "inputs": { "n": 1 } }),
            "/v1/schedules/nightly/backfill" => json!({ "since": "2026-11-21T00:00:00Z" }),
            _ => json!({}),
        };
        let others: Vec<_> =
            Scope::ALL.into_iter().filter(|scope| !scopes.contains(scope) && *scope != Scope::Admin).collect();
        for (token, refused) in [(Doors::token(&others), true), (Doors::token(scopes), false)] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = doors.http.request(method.clone(), format!("{}{path}", doors.control)).bearer_auth(token);
            if method == reqwest::Method::POST {
                request = request.json(&body);
            }
            let answer = request.send().await.unwrap();
            let wants = answer.headers().get("www-authenticate").map(|way| way.to_str().unwrap().to_owned());
            let (status, body) = shown(answer).await;
            assert_eq!(status == 403, refused, "{method} {path}: {body}");
            let scope = scopes[0];
            let way = format!(r#"Bearer realm="clawhook", error="insufficient_scope", scope="{scope}""#);
            assert_eq!(wants, refused.then_some(way), "{method} {path}");
        }
    }
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly() {
    let doors = doors().await;
    let check = async |path: &str, status: u16, code: &str| {
        let (found, body) = doors.get(path).await;
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{path}: {body}");
        assert_eq!(body["instance"], path.split('?').next().unwrap(), "{path}");
    };
    check("/v1/runs?staus=failed", 400, "http.parameter").await;
    check("/v1/runs?limit=0", 400, "http.parameter").await;
    check("/v1/runs/x", 400, "http.parameter").await;
    check("/v1/runs/run_01k4q8zr5m2c7", 404, "api.not_found").await;
    check("/v1/runs/run_01k4q8zr5m2c7/events?from=-1", 400, "http.parameter").await;
    check("/v1/workflows/none", 404, "api.not_found").await;
    check("/v1/workflows/none?x=1", 400, "http.parameter").await;
    check("/v1/reload", 405, "http.method").await;
    check("/", 404, "http.not_found").await;

    let check = async |path: &str, body: Value, status: u16, code: &str| {
        let (found, told) = doors.post(path, &body).await;
        assert_eq!((found, &told["code"]), (status, &json!(code)), "{path} {body}: {told}");
    };
    let trigger = "/v1/workflows/trigger";
    check(trigger, json!({}), 400, "http.body").await;
    check(trigger, json!([]), 400, "http.body").await;
    check(trigger, json!({ "workflow": "double", "input": {} }), 400, "http.body").await;
    check(trigger, json!({ "workflow": "double", "wait": "2h" }), 400, "http.body").await;
    check(trigger, json!({ "workflow": "none" }), 404, "api.not_found").await;
    check(trigger, json!({ "workflow": "double", "inputs": { "n": "x" } }), 422, "inputs.misfit").await;
    check("/v1/routes/none/pause", json!({}), 404, "api.not_found").await;
    check("/v1/schedules/none/backfill", json!({ "since": "now" }), 400, "http.body").await;

    let post = || doors.http.post(format!("{}{trigger}", doors.control)).bearer_auth(&doors.admin);
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    assert_eq!(status(post().body(r#"{"workflow":"double"}"#)).await, 415);
    assert_eq!(status(post().header("content-type", "application/json").body("{")).await, 400);
    assert_eq!(status(post().json(&"x".repeat(3 << 20))).await, 413);
    assert_eq!(status(post().header("host", "evil.example")).await, 421);
    assert_eq!(status(post().header("origin", "https://evil.example")).await, 403);
    assert_eq!(status(post().header("idempotency-key", "")).await, 400);
    let deleted = doors.http.delete(format!("{}{trigger}", doors.control)).send().await.unwrap();
    assert_eq!(deleted.headers().get("allow").unwrap(), "POST");
    assert_eq!(shown(deleted).await.0, 405);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand() {
    let doors = doors().await;
    let body = json!({ "workflow": "double", "inputs": { "n": 9_007_199_254_740_993_i64 }, "wait": true, "idempotency_key": "k" });
    let (status, first) = doors.post("/v1/workflows/trigger", &body).await;
    assert_eq!((status, &first["status"]), (200, &json!("succeeded")), "{first}");
    assert_eq!(first["outputs"]["twice"].to_string(), "18014398509481986");
    let (_, again) = doors.post("/v1/workflows/trigger", &body).await;
    assert_eq!((&again["run_id"], &again["duplicate"]), (&first["run_id"], &json!(true)));

    let run = first["run_id"].as_str().unwrap();
    let (status, replayed) = doors.post(&format!("/v1/runs/{run}/replay"), &json!({})).await;
    assert_eq!(status, 202, "{replayed}");
    assert_ne!(replayed["run_id"], first["run_id"]);
    let (status, told) = doors.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await;
    assert_eq!((status, &told["code"]), (409, &json!("run.state")));
    let (_, list) = doors.get("/v1/runs?workflow=double&limit=1").await;
    assert_eq!(list["items"][0]["id"], replayed["run_id"], "{list}");
    let next = list["next"].as_str().unwrap();
    let (_, list) = doors.get(&format!("/v1/runs?workflow=double&limit=1&cursor={next}")).await;
    assert_eq!(list["items"][0]["id"], first["run_id"], "{list}");
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_is_repeated() {
    let doors = doors().await;
    let (status, started) = doors.post("/v1/workflows/trigger", &json!({ "workflow": "long" })).await;
    assert_eq!(status, 202, "{started}");
    let path = format!("{}/v1/runs/{}/cancel", doors.control, started["run_id"].as_str().unwrap());
    let cancel = |key: Option<&str>, reason: &str| {
        let request = doors.http.post(&path).basic_auth("ops", Some("pass")).json(&json!({ "reason": reason }));
        let request = key.map_or_else(
            || request.try_clone().unwrap(),
            |key| request.try_clone().unwrap().header("idempotency-key", key),
        );
        async { shown(request.send().await.unwrap()).await }
    };
    let first = cancel(Some("a"), "wrong order").await;
    assert_eq!(first.0, 200, "{}", first.1);
    assert_eq!(cancel(Some("a"), "wrong order").await, first);
    assert_eq!(cancel(Some("a"), "another reason").await.0, 422);
    let (_, audit) = doors.get("/v1/audit?what=run.cancel").await;
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "{audit}");
    assert_eq!(audit["items"][0]["detail"]["by"], "ops", "{audit}");
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_and_lists() {
    let doors = doors().await;
    let (status, route) = doors.post("/v1/routes/orders/pause", &json!({ "reason": "stock count" })).await;
    assert_eq!((status, &route["paused"]), (200, &json!(true)), "{route}");
    let (status, receipt) = shown(doors.deliver("/hooks/orders", r#"{"n":1}"#).send().await.unwrap()).await;
    assert_eq!(status, 202);
    let (_, run) = doors.get(&format!("/v1/runs/{}", receipt["run_id"].as_str().unwrap())).await;
    assert_eq!(run["status"], "waiting", "{run}");
    let (_, resumed) = doors.post("/v1/routes/orders/resume", &json!({})).await;
    assert_eq!(resumed["released"], 1, "{resumed}");
    let (_, schedules) = doors.get("/v1/schedules").await;
    assert_eq!(schedules["items"][0]["next"].as_array().map(Vec::len), Some(5), "{schedules}");
    let (status, reloaded) = doors.post("/v1/reload", &json!({})).await;
    assert_eq!((status, &reloaded["routes"]), (200, &json!(7)), "{reloaded}");
    doors.close().await;
}
