//! Numbered deliveries to a workflow of two steps, and what must hold of them whatever was killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::app::{Answer, Control, Folder, KEY, OPEN, orders_route, shopify};
use crate::standin::Standin;

/// Longest that a run may take to end whose gateway was killed, or lost its store: its lease has to run out first.
pub(crate) const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(90);
/// Pause between two looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The first step takes a while, so that a kill finds it in flight.
const WORKFLOW: &str = r#"
version: 1
name: push
inputs: { order: { type: object } }
tasks:
  - id: slow
    type: http_request
    connection: erp
    with: { method: POST, path: /slow, query: { ms: "200" }, json: "${{ inputs.order }}", idempotency_key: { header: Idempotency-Key } }
  - id: push
    type: http_request
    connection: erp
    with: { method: POST, path: /orders, json: "${{ inputs.order }}", idempotency_key: { header: Idempotency-Key } }
outputs: { id: "${{ tasks.push.body.id }}" }
"#;

/// A folder with the workflow and its route, on this store, for which these secrets are in the environment.
pub(crate) fn folder_on(storage: &str, secrets: &[(&str, String)], erp: &Standin) -> Folder {
    let mut folder = Folder::new(&OPEN.replace("secrets: { source: file, path: ./secrets }", storage), Some(erp));
    folder.env.insert("CLAWHOOK_SECRET_SHOP_KEY".to_owned(), KEY.to_owned());
    folder.env.extend(secrets.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    folder.write("workflows/push.yaml", WORKFLOW);
    folder.write("routes/orders.yaml", &orders_route(""));
    folder
}

/// What the gateway answered, when it could.
pub(crate) async fn send(control: &Control, hooks: &str, number: u32) -> Option<Answer> {
    let body = format!(r#"{{"id":{number},"name":"order {number}"}}"#);
    let mut request = control.http.post(format!("{hooks}/hooks/orders")).body(body.clone());
    for (name, value) in shopify(KEY, &format!("delivery-{number}"), &body) {
        request = request.header(name, value);
    }
    let response = request.send().await.ok()?;
    // Killed between the head and the body: the status stands, and what it promised with it.
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.ok()?;
    Some(Answer { status, headers, text })
}

/// Every run that the filter lets through, with how it stands.
pub(crate) async fn all_runs(control: &Control, filter: &str) -> BTreeMap<String, String> {
    let mut runs = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = control.get(&format!("/v1/runs?limit=50{filter}{cursor}")).await;
        for run in page["items"].as_array().unwrap() {
            runs.insert(text(run, "id"), text(run, "status"));
        }
        let Some(next) = page["next"].as_str() else { return runs };
        cursor = format!("&cursor={next}");
    }
}

/// Waits until all of these have succeeded.
pub(crate) async fn all_end<'r>(control: &Control, runs: impl Iterator<Item = &'r String>) {
    let began = Instant::now();
    for run in runs {
        loop {
            let shown = control.get(&format!("/v1/runs/{run}")).await;
            if shown["status"] == "succeeded" {
                break;
            }
            assert!(began.elapsed() < TAKEN_OVER_WITHIN, "{run} does not end: {shown}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Checks the log of each run. Answers how many tries were cut off by a kill.
pub(crate) async fn check_logs<'r>(control: &Control, runs: impl Iterator<Item = &'r String>) -> usize {
    let mut cut_off = 0;
    for run in runs {
        let log = control.get(&format!("/v1/runs/{run}/events")).await;
        cut_off += check_log(run, log["items"].as_array().unwrap());
    }
    cut_off
}

/// Checks that no task started again after it had ended, and that tries share a key. Answers how many tries were cut
/// off by a kill.
fn check_log(run: &str, log: &[Value]) -> usize {
    let mut ended = BTreeSet::new();
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut cut_off = 0;
    for event in log {
        let (detail, task) = (&event["detail"], || text(&event["detail"], "task"));
        match event["event"].as_str().unwrap() {
            "attempt_started" => {
                assert!(!ended.contains(&task()), "{run}: {} had ended and started again: {log:?}", task());
                keys.entry(task()).or_default().insert(text(detail, "key"));
            }
            "attempt_ended" if detail["result"]["succeeded"].is_object() => {
                assert!(ended.insert(task()), "{run}: {} ended twice: {log:?}", task());
            }
            "attempt_ended" => {
                let code = &detail["result"]["failed"]["failure"]["code"];
                assert_eq!(code, "attempt.interrupted", "{run}: {log:?}");
                cut_off += 1;
            }
            _ => {}
        }
    }
    assert_eq!(ended.len(), 2, "{run}: {log:?}");
    for (task, keys) in keys {
        assert_eq!(keys, BTreeSet::from([format!("{run}-{task}")]), "the key of a step stays the same");
    }
    cut_off
}

/// Each run had its effect once, whatever was sent twice.
pub(crate) fn check_far_end<'r>(erp: &Standin, runs: impl Iterator<Item = &'r String>) {
    let runs: BTreeSet<_> = runs.collect();
    assert_eq!(erp.orders().len(), runs.len());
    assert_eq!(erp.wrongs(), Vec::<String>::new());
    let mut orders: BTreeMap<String, usize> = BTreeMap::new();
    for request in erp.requests_to("/orders") {
        *orders.entry(request.header("idempotency-key").unwrap().to_owned()).or_default() += 1;
    }
    let expected: BTreeSet<_> = runs.iter().map(|run| format!("{run}-push")).collect();
    assert_eq!(orders.keys().cloned().collect::<BTreeSet<_>>(), expected);
    let repeated = orders.values().filter(|times| **times > 1).count();
    assert!(repeated <= erp.repeats(), "a repeat that the ERP did not know as one");
}

#[track_caller]
fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {value}")).to_owned()
}
