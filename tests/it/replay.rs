//! Running an old run again: as a new one, or on from where it failed.

use clawhook::domain::delivery::DeliveryKey;
use clawhook::domain::state::State;
use clawhook::domain::trigger::Trigger;
use clawhook::engine::Error;
use clawhook::store::Receipt;
use serde_json::json;

use crate::kit::{Kit, check_state, output, standing, step};
use crate::standin::Fault;

const TWO_STEPS: &str = r#"
version: 1
name: two-steps
inputs:
  n: { type: integer, required: true }
tasks:
  - { id: look, type: http_request, connection: erp, with: { path: /stock } }
  - id: push
    type: http_request
    connection: erp
    with: { method: POST, path: /orders, json: { source: s, source_id: "${{ inputs.n }}" }, idempotency_key: { header: Idempotency-Key } }
  - { id: remember, type: set_state, with: { n: "${{ inputs.n }}" } }
on_failure:
  - { id: tell, type: transform, with: { input: "${{ failure.code }}", jq: . } }
outputs: { before: "${{ state.n | default(0) }}" }
"#;

fn broken(times: u32) -> Fault {
    Fault { path: "/orders".to_owned(), status: Some(422), times, ..Fault::default() }
}

#[tokio::test]
async fn a_resumed_run_goes_on_from_the_task_that_failed() {
    let kit = Kit::new(&[TWO_STEPS], "");
    kit.erp.fail(broken(1));
    let run = kit.run("two-steps", json!({"n": 1})).await;
    check_state(&run, State::Failed);
    let resumed = kit.engine.resume(run.id, "zhou").await.unwrap();
    assert_eq!(resumed.again, ["push", "tell"].map(step));
    kit.settle().await;
    let run = kit.read(run.id).await;
    check_state(&run, State::Succeeded);
    assert_eq!(kit.erp.requests_to("/stock").len(), 1, "the finished step did not run again");
    assert_eq!(kit.keys(run.id, "push").await, vec![format!("{}-push", run.id); 2], "the key stayed the same");
    assert_eq!(standing(&run, "tell"), "again", "the failure handler is not needed any more");
}

#[tokio::test]
async fn a_resumed_run_that_fails_again_tells_again() {
    let kit = Kit::new(&[TWO_STEPS], "");
    kit.erp.fail(broken(2));
    let run = kit.run("two-steps", json!({"n": 1})).await;
    kit.engine.resume(run.id, "zhou").await.unwrap();
    kit.settle().await;
    let run = kit.read(run.id).await;
    check_state(&run, State::Failed);
    assert_eq!(*output(&run, "tell"), json!("http.status"));
    assert_eq!(kit.keys(run.id, "tell").await.len(), 2);
}

#[tokio::test]
async fn a_succeeded_run_cannot_be_resumed() {
    let kit = Kit::new(&[TWO_STEPS], "");
    let run = kit.run("two-steps", json!({"n": 1})).await;
    let error = kit.engine.resume(run.id, "zhou").await.unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error}");
}

#[tokio::test]
async fn a_replay_is_a_new_run_that_sees_the_old_state() {
    let kit = Kit::new(&[TWO_STEPS], "");
    let first = kit.run("two-steps", json!({"n": 1})).await;
    let second = kit.run("two-steps", json!({"n": 2})).await;
    assert_eq!(second.outputs.as_ref().unwrap()["before"], json!(1));
    // The ERP holds this order under the old run's key; a replay is a new run with a new one.
    kit.erp.fail(Fault { path: "/orders".to_owned(), status: Some(201), ..Fault::default() });
    let key = DeliveryKey::of_call("zhou", "replay", "once");
    let Receipt::New(runs) = kit.engine.replay(second.id, "zhou", key).await.unwrap() else { panic!("it is new") };
    kit.settle().await;
    let replay = kit.read(runs[0]).await;
    check_state(&replay, State::Succeeded);
    assert!(matches!(replay.accepted.trigger, Trigger::Replay { of, .. } if of == second.id));
    assert_eq!(replay.outputs.unwrap()["before"], json!(1), "it saw what the old run saw, not {}", second.id);
    assert_eq!(kit.read(first.id).await, first, "the old runs stay as they were");
    let again = kit.engine.replay(second.id, "zhou", key).await.unwrap();
    assert_eq!(again, Receipt::Duplicate(runs), "the same key is the same replay");
}
