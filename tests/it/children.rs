//! Runs that other runs start, and who is told of an end.

use std::time::Duration;

use clawhook::domain::run::Run;
use clawhook::domain::signing;
use clawhook::domain::state::State;
use clawhook::domain::trigger::Trigger;
use clawhook::id::RunId;
use clawhook::store::RunQuery;
use serde_json::{Value, json};

use crate::kit::{Kit, check_state, output, standing};
use crate::standin::Fault;

const BATCH: &str = r#"
version: 1
name: batch
inputs: { orders: { type: array, required: true } }
tasks:
  - id: one
    type: workflow
    for_each: ${{ inputs.orders }}
    max_parallel: 2
    with: { workflow: single, inputs: { order: "${{ item }}" } }
outputs: { ids: "${{ tasks.one.items }}" }
"#;

const SINGLE: &str = r#"
version: 1
name: single
inputs: { order: { type: integer, required: true } }
tasks:
  - id: push
    type: http_request
    connection: erp
    with: { method: POST, path: /echo, json: { order: "${{ inputs.order }}" }, idempotency_key: { header: Idempotency-Key } }
    retry: 1
    retry_delay: 1m
outputs: { pushed: "${{ tasks.push.status }}" }
"#;

async fn all(kit: &Kit) -> Vec<Run> {
    let heads = kit.engine.store().runs(&RunQuery { limit: 100, ..RunQuery::default() }).await.unwrap();
    let mut runs = Vec::new();
    for head in heads {
        runs.push(kit.read(head.id).await);
    }
    runs
}

async fn named(kit: &Kit, workflow: &str) -> Vec<Run> {
    all(kit).await.into_iter().filter(|run| run.accepted.workflow.as_str() == workflow).collect()
}

#[tokio::test]
async fn a_run_starts_others_and_waits_for_them() {
    let kit = Kit::new(&[BATCH, SINGLE], "");
    let run = kit.run("batch", json!({"orders": [1, 2, 3]})).await;
    check_state(&run, State::Succeeded);
    let items = &run.outputs.as_ref().unwrap()["ids"];
    assert_eq!(items[2]["output"]["outputs"], json!({"pushed": 200}));
    let children = named(&kit, "single").await;
    assert_eq!(children.len(), 3);
    assert!(children.iter().all(
        |child| matches!(&child.accepted.trigger, Trigger::Parent { run: parent, depth: 1, .. } if *parent == run.id)
    ));
    assert_eq!(kit.engine.active(), 0);
}

#[tokio::test]
async fn a_parent_holds_no_worker_and_is_woken_by_its_child() {
    let kit = Kit::new(&[BATCH, SINGLE], "");
    kit.erp.fail(Fault { path: "/echo".to_owned(), times: 1, status: Some(503), ..Fault::default() });
    let id = kit.trigger("batch", json!({"orders": [1]})).await;
    kit.settle().await;
    let run = kit.read(id).await;
    check_state(&run, State::Waiting);
    let why = kit.engine.why_waiting(id).await.unwrap().unwrap();
    assert!(why.contains("has not ended"), "{why}");
    kit.pass(Duration::from_mins(1)).await;
    check_state(&kit.read(id).await, State::Succeeded);
    let nudged = kit.events(id).await.iter().filter(|event| **event == "nudged").count();
    assert_eq!(nudged, 1);
}

#[tokio::test]
async fn a_failed_child_fails_its_parent_and_both_can_be_resumed() {
    let kit = Kit::new(&[BATCH, SINGLE], "");
    kit.erp.fail(Fault { path: "/echo".to_owned(), times: 1, status: Some(422), ..Fault::default() });
    let run = kit.run("batch", json!({"orders": [7]})).await;
    check_state(&run, State::Failed);
    assert_eq!(run.failure.as_ref().unwrap().code, "run.child_failed");
    let child = named(&kit, "single").await[0].id;
    kit.engine.resume(child, "test").await.unwrap();
    kit.settle().await;
    check_state(&kit.read(child).await, State::Succeeded);
    kit.engine.resume(run.id, "test").await.unwrap();
    kit.settle().await;
    check_state(&kit.read(run.id).await, State::Succeeded);
    assert_eq!(named(&kit, "single").await.len(), 1, "the same child, not another");
}

#[tokio::test]
async fn a_cancel_reaches_the_children() {
    let kit = Kit::new(&[BATCH, SINGLE], "");
    kit.erp.fail(Fault { path: "/echo".to_owned(), times: 1, status: Some(503), ..Fault::default() });
    let id = kit.trigger("batch", json!({"orders": [1]})).await;
    kit.settle().await;
    kit.engine.cancel(id, "test", "enough").await.unwrap();
    kit.settle().await;
    let states: Vec<_> = all(&kit).await.iter().map(|run| run.state).collect();
    assert_eq!(states, [State::Cancelled, State::Cancelled]);
}

#[tokio::test]
async fn a_workflow_that_starts_itself_is_stopped() {
    let ring = "version: 1\nname: ring\ntasks:\n- { id: again, type: workflow, with: { workflow: ring } }\n";
    let kit = Kit::new(&[ring], "");
    let run = kit.run("ring", json!({})).await;
    check_state(&run, State::Failed);
    let runs = all(&kit).await;
    assert_eq!(runs.len(), 9);
    assert!(runs.iter().any(|run| run.failure.as_ref().is_some_and(|failure| failure.code == "run.too_deep")));
}

#[tokio::test]
async fn the_same_key_is_the_same_run_whoever_asks() {
    let shared = BATCH.replace(
        "inputs: { order: \"${{ item }}\" } }",
        "inputs: { order: 1 }, idempotency_key: \"day-${{ item }}\", wait: false }",
    );
    let kit = Kit::new(&[&shared, SINGLE], "");
    let first = kit.run("batch", json!({"orders": [1, 1, 2]})).await;
    let second = kit.run("batch", json!({"orders": [2]})).await;
    check_state(&first, State::Succeeded);
    assert_eq!(output(&first, "one[0]"), output(&first, "one[1]"));
    assert_eq!(output(&first, "one[2]"), output(&second, "one[0]"));
    assert_eq!(named(&kit, "single").await.len(), 2);
}

const TOLD: &str = r##"
version: 1
name: told
inputs: { status: { type: integer, required: true } }
labels: { order: "#1042" }
tasks:
  - { id: look, type: http_request, connection: erp, with: { path: /echo } }
  - { id: end, if: "${{ inputs.status == 0 }}", type: stop, with: { status: failed, message: "no good" } }
outputs: { it: "${{ tasks.look.status }}" }
callback: { url: "http://erp.test/slow?ms=0&s=${{ inputs.status }}", events: [succeeded, failed, cancelled], sign: { secret_ref: erp-api-key } }
"##;

async fn callbacks(kit: &Kit) -> Vec<Run> {
    all(kit).await.into_iter().filter(|run| matches!(run.accepted.trigger, Trigger::Callback { .. })).collect()
}

fn told(kit: &Kit, place: usize) -> (Value, String, bool) {
    let request = &kit.erp.requests_to("/slow")[place];
    let id = request.header("webhook-id").unwrap().to_owned();
    let timestamp: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
    let signature = signing::standard_webhook(crate::kit::KEY.as_bytes(), &id, timestamp, &request.body);
    let right = request.header("webhook-signature") == signature.as_deref();
    (serde_json::from_slice(&request.body).unwrap(), id, right)
}

async fn run_told(kit: &Kit, status: u16) -> RunId {
    kit.run("told", json!({ "status": status })).await.id
}

fn kit() -> Kit {
    Kit::new(&[TOLD], "")
}

#[tokio::test]
async fn an_end_is_told_signed() {
    let kit = kit();
    let id = run_told(&kit, 1).await;
    let (message, webhook_id, right) = told(&kit, 0);
    assert!(right, "the signature is that of the receiver's own computation");
    assert_eq!((message["type"].as_str(), webhook_id.as_str()), (Some("run.succeeded"), format!("{id}.0").as_str()));
    assert_eq!(message["data"]["outputs"], json!({"it": 200}));
    assert_eq!(message["data"]["labels"], json!({"order": "#1042"}));
    let callbacks = callbacks(&kit).await;
    check_state(&callbacks[0], State::Succeeded);
    assert_eq!(standing(&callbacks[0], "callback"), "succeeded");
}

#[tokio::test]
async fn a_receiver_that_is_down_is_told_later_under_the_same_id() {
    let kit = kit();
    kit.erp.fail(Fault { path: "/slow".to_owned(), times: 3, status: Some(503), ..Fault::default() });
    let id = run_told(&kit, 0).await;
    check_state(&kit.read(id).await, State::Failed);
    let callback = callbacks(&kit).await[0].id;
    check_state(&kit.read(callback).await, State::Waiting);
    let callback = kit.until_ended(callback).await;
    check_state(&callback, State::Succeeded);
    let ids: Vec<_> = (0..4).map(|place| told(&kit, place).1).collect();
    assert!(ids.iter().all(|told| *told == ids[0]), "{ids:?}");
    assert_eq!(told(&kit, 3).0["data"]["failure"]["message"], "no good");
    // A resume that fails again is another end, told once more.
    kit.engine.resume(id, "test").await.unwrap();
    kit.settle().await;
    assert_eq!(told(&kit, 4).1, format!("{id}.1"));
}

#[tokio::test]
async fn a_cancel_is_told_too() {
    let text = TOLD.replace("- { id: look", "- { id: rest, type: wait, with: { for: 1h } }\n  - { id: look");
    let kit = Kit::new(&[&text], "");
    let id = kit.trigger("told", json!({"status": 1})).await;
    kit.settle().await;
    kit.engine.cancel(id, "li", "no longer wanted").await.unwrap();
    kit.settle().await;
    let (message, _, right) = told(&kit, 0);
    assert!(right);
    assert_eq!(message["type"], "run.cancelled");
    assert_eq!(message["data"]["cancel"], json!({"by": "li", "reason": "no longer wanted"}));
}

#[tokio::test]
async fn a_cancel_spares_a_child_that_another_run_started() {
    let shared = BATCH.replace("inputs: { order: \"${{ item }}\" } }", "inputs: { order: 1 }, idempotency_key: one }");
    let kit = Kit::new(&[&shared, SINGLE], "");
    kit.erp.fail(Fault { path: "/echo".to_owned(), times: 1, status: Some(503), ..Fault::default() });
    let first = kit.trigger("batch", json!({"orders": [1]})).await;
    kit.settle().await;
    let second = kit.trigger("batch", json!({"orders": [1]})).await;
    kit.settle().await;
    kit.engine.cancel(second, "test", "enough").await.unwrap();
    let first = kit.until_ended(first).await;
    check_state(&first, State::Succeeded);
    assert_eq!(named(&kit, "single").await.len(), 1);
}

#[tokio::test]
async fn an_edit_that_was_left_half_made_never_runs_the_workflow() {
    let kit = Kit::new(&[SINGLE], "");
    let id = kit.engine.edit_state(&"single".parse().unwrap(), serde_json::Map::new(), "li").await.unwrap();
    let refused = kit.engine.resume(id, "li").await.unwrap_err().to_string();
    assert!(refused.contains("only sets the workflow's state"), "{refused}");
    assert_eq!(kit.erp.requests_to("/echo").len(), 0);
}
