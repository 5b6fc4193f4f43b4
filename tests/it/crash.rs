//! The real program on the real store, killed at any moment: what was answered with a 2xx is there and ends, what was
//! finished does not happen again, and what was in flight happens again under the same key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::app::{Answer, Control, Folder, KEY, OPEN, orders_route, shopify};
use crate::process::Process;
use crate::standin::{self, Standin};

const ROUNDS: u32 = 5;
/// Deliveries of one round.
const BATCH: u32 = 16;
/// The moment of the kill lies somewhere in here: before, in and after the first steps.
const KILL_WITHIN_MS: u64 = 700;

/// The first step takes a while, so that a kill finds it in flight.
pub(crate) const WORKFLOW: &str = r#"
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_loses_nothing_and_repeats_nothing() {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let settings = OPEN.replace("secrets: { source: file, path: ./secrets }", "");
    let mut folder = Folder::new(&settings, Some(&erp));
    folder.env.insert("CLAWHOOK_SECRET_SHOP_KEY".to_owned(), KEY.to_owned());
    folder.write("workflows/push.yaml", WORKFLOW);
    folder.write("routes/orders.yaml", &orders_route(""));

    let mut answered = BTreeMap::new();
    for round in 0..ROUNDS {
        let process = Process::start(&folder, "warn").await;
        // What was not answered is sent again, as every platform does.
        let unanswered = (0..(round + 1) * BATCH).filter(|number| !answered.contains_key(number));
        let sending: Vec<_> = unanswered.map(|number| send_later(&process, number)).collect();
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..KILL_WITHIN_MS))).await;
        process.kill();
        for sent in sending {
            let (number, answer) = sent.await.unwrap();
            answered.extend(answer.map(|answer| (number, answer.run())));
        }
    }

    let process = Process::start(&folder, "warn").await;
    for number in 0..ROUNDS * BATCH {
        let answer = send(&process.control, &process.hooks, number).await.unwrap();
        let known = answered.entry(number).or_insert_with(|| answer.run()).clone();
        assert_eq!(answer.run(), known, "delivery {number} got another run after the restart");
    }
    let open = "/v1/runs?status=queued,running,waiting,cancelling&limit=1";
    process.control.until(open, |page| page["items"] == Value::Array(Vec::new())).await;
    let runs = all_runs(&process.control).await;
    assert_eq!(runs.len(), answered.len(), "a run too many or too few");
    assert_eq!(answered.values().collect::<BTreeSet<_>>().len(), answered.len(), "two deliveries share a run");
    let mut in_flight = 0;
    for run in answered.values() {
        assert_eq!(runs.get(run).map(String::as_str), Some("succeeded"), "{run}");
        let log = process.control.get(&format!("/v1/runs/{run}/events")).await;
        in_flight += check_log(run, log["items"].as_array().unwrap());
    }
    check_far_end(&erp, answered.values());
    assert!(in_flight > 0, "no kill found a step in flight: this test shows nothing");
    process.stop();
}

pub(crate) fn send_later(process: &Process, number: u32) -> tokio::task::JoinHandle<(u32, Option<Answer>)> {
    let (control, hooks) = (process.control.clone(), process.hooks.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..KILL_WITHIN_MS / 2))).await;
        (number, send(&control, &hooks, number).await)
    })
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

/// Every run with how it stands.
pub(crate) async fn all_runs(control: &Control) -> BTreeMap<String, String> {
    let mut runs = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = control.get(&format!("/v1/runs?limit=50{cursor}")).await;
        for run in page["items"].as_array().unwrap() {
            runs.insert(text(run, "id"), text(run, "status"));
        }
        let Some(next) = page["next"].as_str() else { return runs };
        cursor = format!("&cursor={next}");
    }
}

/// Checks that no task started again after it had ended, and that tries share a key. Answers how many tries were cut
/// off by a kill.
pub(crate) fn check_log(run: &str, log: &[Value]) -> usize {
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
