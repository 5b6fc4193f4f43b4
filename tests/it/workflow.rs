//! What a workflow does: order, conditions, handlers, outputs, state, limits. Each test is a workflow and what became
//! of it.

use std::time::Duration;

use clawhook::domain::state::State;
use serde_json::json;

use crate::kit::{Kit, check_state, output, standing};

const ORDER: &str = r#"
version: 1
name: order
labels: { order: "${{ inputs.order.name }}", size: "${{ inputs.order.lines | length }}" }
inputs:
  order: { type: object, required: true }
tasks:
  - id: known
    type: http_request
    connection: erp
    with: { path: /orders/by-source, query: { source: shopify, source_id: "${{ inputs.order.id }}" }, accept_status: [200, 404] }
  - id: push
    if: ${{ tasks.known.status == 404 }}
    type: http_request
    connection: erp
    with: { method: POST, path: /orders, json: "${{ inputs.order }}", idempotency_key: { header: Idempotency-Key } }
outputs:
  status: ${{ tasks.known.status }}
  erp_order_id: ${{ tasks.push.body.id }}
"#;

fn order() -> serde_json::Value {
    // An id beyond 2^53 and an amount with a zero at its end: both must arrive as they are.
    serde_json::from_str(r##"{"order": {"source": "shopify", "source_id": "9007199254740993", "id": 9007199254740993, "name": "#1042", "total": 12.50, "lines": [{"sku": "A-1"}]}}"##).unwrap()
}

#[tokio::test]
async fn an_order_goes_to_the_erp() {
    let kit = Kit::new(&[ORDER], "");
    let run = kit.run("order", order()).await;
    check_state(&run, State::Succeeded);
    assert_eq!(output(&run, "known")["status"], json!(404));
    assert_eq!(output(&run, "push")["status"], json!(201));
    let outputs = run.outputs.clone().unwrap();
    assert_eq!(outputs["status"], json!(404));
    assert!(!outputs["erp_order_id"].is_null());
    let prepared = run.prepared.as_ref().unwrap();
    assert_eq!(prepared.labels["order"], "#1042");
    assert_eq!(prepared.labels["size"], "1");
    let sent = &kit.erp.requests_to("/orders")[0];
    let text = String::from_utf8(sent.body.clone()).unwrap();
    assert!(text.contains("\"id\":9007199254740993") && text.contains("\"total\":12.50"), "{text}");
    assert_eq!(sent.header("idempotency-key"), Some(format!("{}-push", run.id).as_str()));
}

#[tokio::test]
async fn a_short_run_costs_three_writes() {
    let kit = Kit::new(&[ORDER], "");
    let run = kit.run("order", order()).await;
    let events = kit.events(run.id).await;
    assert_eq!(
        events,
        [
            "accepted",
            "claimed",
            "prepared",
            "attempt_started",
            "attempt_ended",
            "attempt_started",
            "attempt_ended",
            "finished"
        ]
    );
}

#[tokio::test]
async fn an_output_of_a_skipped_task_is_null() {
    let kit = Kit::new(&[ORDER], "");
    kit.run("order", order()).await;
    let run = kit.run("order", order()).await;
    check_state(&run, State::Succeeded);
    assert_eq!(standing(&run, "push"), "skipped");
    assert_eq!(run.outputs.unwrap()["erp_order_id"], json!(null));
}

#[tokio::test]
async fn inputs_that_do_not_fit_fail_the_run_and_say_why() {
    let kit = Kit::new(&[ORDER], "");
    let run = kit.run("order", json!({"order": "text", "more": 1})).await;
    check_state(&run, State::Failed);
    let failure = run.failure.unwrap();
    assert_eq!(failure.code, "inputs.misfit");
    assert_eq!(
        failure.message,
        "the inputs do not fit the workflow: input `order` is to be of type `object`, and is text; \
         there is no input `more`; the inputs are `order`"
    );
}

const HANDLED: &str = r#"
version: 1
name: handled
inputs:
  path: { type: string, required: true }
tasks:
  - id: first
    type: http_request
    connection: erp
    with: { path: "${{ inputs.path }}" }
  - id: second
    type: transform
    with: { input: 1, jq: . + 1 }
on_failure:
  - id: tell
    type: transform
    with: { input: "${{ failure }}", jq: "{task, code, status}" }
on_success:
  - { id: cheer, type: transform, with: { input: 1, jq: . } }
finally:
  - { id: tidy, type: transform, with: { input: 2, jq: . } }
"#;

#[tokio::test]
async fn handlers_run_by_how_it_went() {
    let kit = Kit::new(&[HANDLED], "");
    let run = kit.run("handled", json!({"path": "/stock"})).await;
    check_state(&run, State::Succeeded);
    assert_eq!(
        ["second", "cheer", "tidy", "tell"].map(|task| standing(&run, task)),
        ["succeeded", "succeeded", "succeeded", "untouched"]
    );

    let run = kit.run("handled", json!({"path": "/nowhere"})).await;
    check_state(&run, State::Failed);
    assert_eq!(
        ["second", "cheer", "tidy", "tell"].map(|task| standing(&run, task)),
        ["untouched", "untouched", "succeeded", "succeeded"]
    );
    assert_eq!(*output(&run, "tell"), json!({"task": "first", "code": "http.status", "status": 404}));
    assert_eq!(run.failure.unwrap().cause(), "http.status/erp/404");
}

#[tokio::test]
async fn continue_on_error_goes_on_and_shows_the_failure() {
    let kit = Kit::new(
        &[r#"
version: 1
name: lenient
tasks:
  - { id: try, type: http_request, connection: erp, continue_on_error: true, with: { path: /nowhere } }
  - { id: see, type: transform, with: { input: "${{ tasks.try.failure.status }}", jq: . } }
"#],
        "",
    );
    let run = kit.run("lenient", json!({})).await;
    check_state(&run, State::Succeeded);
    assert_eq!(*output(&run, "see"), json!(404));
}

#[tokio::test]
async fn state_is_written_when_the_run_succeeds_and_not_before() {
    let kit = Kit::new(
        &[r#"
version: 1
name: counting
inputs:
  path: { type: string, required: true }
tasks:
  - { id: remember, type: set_state, with: { seen: "${{ (state.seen | default(0)) + 1 }}" } }
  - { id: call, type: http_request, connection: erp, with: { path: "${{ inputs.path }}" } }
outputs: { before: "${{ state.seen | default(0) }}" }
"#],
        "",
    );
    for (path, state, before) in [
        ("/stock", State::Succeeded, json!(0)),
        ("/nowhere", State::Failed, json!(null)),
        ("/stock", State::Succeeded, json!(1)),
        ("/stock", State::Succeeded, json!(2)),
    ] {
        let run = kit.run("counting", json!({"path": path})).await;
        check_state(&run, state);
        assert_eq!(run.outputs.map_or(json!(null), |outputs| outputs["before"].clone()), before);
    }
}

#[tokio::test]
async fn a_wait_holds_no_worker() {
    let kit = Kit::with_room(
        &[r#"
version: 1
name: patient
tasks:
  - { id: pause, type: wait, with: { for: 10m } }
  - { id: then, type: transform, with: { input: "${{ tasks.pause.until }}", jq: . } }
"#],
        "",
        1,
    );
    let first = kit.trigger("patient", json!({})).await;
    let second = kit.trigger("patient", json!({})).await;
    kit.settle().await;
    for id in [first, second] {
        check_state(&kit.read(id).await, State::Waiting);
    }
    let why = kit.engine.why_waiting(first).await.unwrap().unwrap();
    assert!(why.starts_with("task `pause` waits until 2026-11-22T09:10:00"), "{why}");
    kit.pass(Duration::from_mins(11)).await;
    for id in [first, second] {
        check_state(&kit.read(id).await, State::Succeeded);
    }
}

#[tokio::test]
async fn a_stop_ends_the_run_and_handlers_still_run() {
    let workflow = |status: &str| {
        format!(
            r#"
version: 1
name: stopping
tasks:
  - {{ id: enough, type: stop, with: {{ status: {status}, message: "nothing new in ${{{{ 1 + 1 }}}} shops" }} }}
  - {{ id: never, type: transform, with: {{ input: 1, jq: . }} }}
finally:
  - {{ id: tidy, type: transform, with: {{ input: 1, jq: . }} }}
"#
        )
    };
    for (status, state) in [("succeeded", State::Succeeded), ("failed", State::Failed)] {
        let kit = Kit::new(&[&workflow(status)], "");
        let run = kit.run("stopping", json!({})).await;
        check_state(&run, state);
        assert_eq!((standing(&run, "never"), standing(&run, "tidy")), ("untouched", "succeeded"));
        let message = run.failure.map(|failure| failure.message);
        assert_eq!(message, (state == State::Failed).then(|| "nothing new in 2 shops".to_owned()));
    }
}

const KEYED: &str = r#"
version: 1
name: keyed
inputs:
  key: { type: string, required: true }
concurrency: { key: "${{ inputs.key }}", limit: 1 }
tasks:
  - { id: pause, type: wait, with: { for: 5m } }
"#;

#[tokio::test]
async fn runs_of_one_key_go_in_arrival_order() {
    use State::{Queued, Succeeded, Waiting};
    let kit = Kit::new(&[KEYED], "");
    let mut ids = Vec::new();
    for key in ["a", "a", "b", "a"] {
        ids.push(kit.trigger("keyed", json!({"key": key})).await);
    }
    kit.settle().await;
    let states = |kit: &Kit| {
        let (engine, ids) = (kit.engine.clone(), ids.clone());
        async move {
            let mut states = Vec::new();
            for id in ids {
                states.push(clawhook::domain::run::Run::fold(id, engine.store().log(id).await.unwrap()).unwrap().state);
            }
            states
        }
    };
    assert_eq!(states(&kit).await, [Waiting, Queued, Waiting, Queued]);
    let why = kit.engine.why_waiting(ids[1]).await.unwrap().unwrap();
    assert_eq!(why, format!("it stands behind {} in `workflow/keyed/a`, which has room for 1", ids[0]));
    kit.pass(Duration::from_mins(6)).await;
    assert_eq!(states(&kit).await, [Succeeded, Waiting, Succeeded, Queued]);
    kit.pass(Duration::from_mins(6)).await;
    assert_eq!(states(&kit).await, [Succeeded, Succeeded, Succeeded, Waiting]);
    kit.pass(Duration::from_mins(6)).await;
    assert_eq!(states(&kit).await, [Succeeded; 4]);
}

#[tokio::test]
async fn a_run_past_its_time_limit_fails_and_its_handlers_run() {
    let kit = Kit::new(
        &[r#"
version: 1
name: slow
timeout: 20m
tasks:
  - { id: pause, type: wait, with: { for: 2h } }
on_failure:
  - { id: tell, type: transform, with: { input: "${{ failure.code }}", jq: . } }
"#],
        "",
    );
    let id = kit.trigger("slow", json!({})).await;
    kit.settle().await;
    kit.pass(Duration::from_mins(21)).await;
    let run = kit.read(id).await;
    check_state(&run, State::Failed);
    assert_eq!(*output(&run, "tell"), json!("run.timeout"));
    assert_eq!(run.failure.unwrap().message, "the run took longer than its limit of 20m");
}

#[tokio::test]
async fn a_run_stays_on_the_revision_it_was_accepted_with() {
    let version = |answer: u32| {
        format!(
            "version: 1\nname: versioned\ntasks:\n  - {{ id: pause, type: wait, with: {{ for: 1m }} }}\noutputs: {{ answer: {answer} }}\n"
        )
    };
    let kit = Kit::new(&[&version(1)], "");
    let old = kit.trigger("versioned", json!({})).await;
    kit.settle().await;
    kit.put(&version(2));
    let new = kit.trigger("versioned", json!({})).await;
    kit.settle().await;
    kit.pass(Duration::from_mins(2)).await;
    assert_eq!(kit.read(old).await.outputs.unwrap()["answer"], json!(1));
    assert_eq!(kit.read(new).await.outputs.unwrap()["answer"], json!(2));
}

#[tokio::test]
async fn a_person_can_mend_the_state_and_it_is_on_record() {
    let remember = "version: 1\nname: remember\ntasks:\n- { id: it, type: set_state, with: { n: 1, m: 2 } }\n";
    let kit = Kit::new(&[remember], "");
    kit.run("remember", json!({})).await;
    let name = "remember".parse().unwrap();
    let changes = serde_json::Map::from_iter([("n".to_owned(), json!(7)), ("m".to_owned(), json!(null))]);
    let id = kit.engine.edit_state(&name, changes, "li").await.unwrap();
    assert_eq!(kit.engine.store().state(&name).await.unwrap(), *json!({"n": 7}).as_object().unwrap());
    let run = kit.read(id).await;
    check_state(&run, State::Succeeded);
    assert_eq!((run.accepted.trigger.kind().as_str(), run.accepted.trigger.source()), ("edit", "li".to_owned()));
    kit.settle().await;
    let replayed = kit.engine.replay(id, "li", clawhook::domain::delivery::DeliveryKey::unique()).await;
    assert!(replayed.unwrap_err().to_string().contains("ran no tasks"));
    let nobody = kit.engine.edit_state(&"nobody".parse().unwrap(), serde_json::Map::new(), "li").await;
    assert!(nobody.is_err());
}
