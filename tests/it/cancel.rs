//! Cancelling runs wherever they stand.

use std::time::Duration;

use clawhook::domain::state::State;
use clawhook::engine::{Cancelled, Error};
use serde_json::json;

use crate::kit::{Kit, check_state, standing};

const SLOW: &str = r"
version: 1
name: slow
tasks:
  - { id: call, type: http_request, connection: erp, with: { path: /slow, query: { ms: 30000 } } }
finally:
  - { id: tidy, type: transform, with: { input: 1, jq: . } }
";

const PATIENT: &str = "version: 1\nname: patient\ntasks:\n  - { id: pause, type: wait, with: { for: 1h } }\n";

#[tokio::test]
async fn a_queued_run_is_cancelled_at_once() {
    let kit = Kit::new(&[PATIENT], "");
    let id = kit.trigger("patient", json!({})).await;
    assert_eq!(kit.engine.cancel(id, "zhou", "not needed").await.unwrap(), Cancelled::Now);
    kit.settle().await;
    check_state(&kit.read(id).await, State::Cancelled);
    assert_eq!(kit.events(id).await, ["accepted", "cancel_requested"]);
}

#[tokio::test]
async fn a_waiting_run_is_cancelled_at_once() {
    let kit = Kit::new(&[PATIENT], "");
    let id = kit.trigger("patient", json!({})).await;
    kit.settle().await;
    assert_eq!(kit.engine.cancel(id, "zhou", "not needed").await.unwrap(), Cancelled::Now);
    kit.pass(Duration::from_hours(2)).await;
    check_state(&kit.read(id).await, State::Cancelled);
}

#[tokio::test]
async fn what_is_in_flight_is_cut_off_and_no_handler_runs() {
    let kit = Kit::new(&[SLOW], "");
    let id = kit.trigger("slow", json!({})).await;
    let (engine, erp) = (kit.engine.clone(), &kit.erp);
    let cancel = async {
        while erp.requests_to("/slow").is_empty() {
            tokio::task::yield_now().await;
        }
        engine.cancel(id, "zhou", "wrong shop").await.unwrap()
    };
    let ((), cancelled) = tokio::join!(kit.settle(), cancel);
    assert_eq!(cancelled, Cancelled::Soon);
    let run = kit.read(id).await;
    check_state(&run, State::Cancelled);
    assert_eq!((standing(&run, "call"), standing(&run, "tidy")), ("failed", "untouched"));
    assert_eq!(run.cancel.unwrap().by, "zhou");
}

#[tokio::test]
async fn what_has_ended_cannot_be_cancelled() {
    let kit =
        Kit::new(&["version: 1\nname: quick\ntasks:\n  - { id: t, type: transform, with: { input: 1, jq: . } }\n"], "");
    let run = kit.run("quick", json!({})).await;
    let error = kit.engine.cancel(run.id, "zhou", "late").await.unwrap_err();
    assert!(matches!(error, Error::State { state: State::Succeeded, .. }), "{error}");
}

#[tokio::test]
async fn a_cancelled_run_lets_the_next_of_its_key_go() {
    let keyed = "version: 1\nname: keyed\nconcurrency: { limit: 1 }\ntasks:\n  - { id: pause, type: wait, with: { for: 1h } }\n";
    let kit = Kit::new(&[keyed], "");
    let first = kit.trigger("keyed", json!({})).await;
    let second = kit.trigger("keyed", json!({})).await;
    kit.settle().await;
    check_state(&kit.read(second).await, State::Queued);
    kit.engine.cancel(first, "zhou", "stuck").await.unwrap();
    kit.settle().await;
    check_state(&kit.read(second).await, State::Waiting);
}

/// A worker that writes all the time: whoever reads the log and appends to it comes too late each time.
#[tokio::test]
async fn a_busy_loop_can_be_cancelled() {
    let erp = crate::standin::Standin::start(&crate::standin::Settings::default()).unwrap();
    let text = "version: 1\nname: busy\ntasks:\n- id: each\n  type: http_request\n  connection: erp\n  for_each: \
                ${{ inputs.items }}\n  max_parallel: 32\n  with: { path: /echo }\ninputs: { items: { type: array } }\n";
    let folder = crate::app::Folder::new(crate::app::OPEN, Some(&erp));
    folder.write("workflows/busy.yaml", text);
    let app = folder.start().await;
    let items: Vec<_> = (0..10_000).collect();
    let trigger = json!({ "workflow": "busy", "inputs": { "items": items } });
    let run = app.control.post("/v1/workflows/trigger", &trigger).await.run();
    let path = format!("/v1/runs/{run}");
    while erp.requests_to("/echo").len() < 1_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = app.control.post(&format!("{path}/cancel"), &json!({ "reason": "enough" })).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    let shown = app.control.until(&path, |run| run["status"] == "cancelled").await;
    assert_eq!(shown["cancel"]["reason"], "enough");
    app.stop().await;
}
