//! What happens when an attempt fails.

use std::time::Duration;

use clawhook::domain::state::State;
use serde_json::json;

use crate::kit::{Kit, check_state, now, standing};
use crate::standin::Fault;

fn workflow(with: &str, words: &str) -> String {
    format!(
        "version: 1\nname: calling\ntasks:\n  - id: call\n    type: http_request\n    connection: erp\n    with: {with}\n    retry_delay: 2s\n{words}"
    )
}

fn fault(path: &str, status: u16, times: u32) -> Fault {
    Fault { path: path.to_owned(), status: Some(status), times, ..Fault::default() }
}

#[tokio::test]
async fn an_outage_is_ridden_out_under_one_key() {
    let order = "{ method: POST, path: /orders, json: { source: s, source_id: '1' }, idempotency_key: { header: Idempotency-Key } }";
    let kit = Kit::new(&[&workflow(order, "    retry: 3\n")], "");
    kit.erp.fail(fault("/orders", 503, 2));
    let id = kit.trigger("calling", json!({})).await;
    kit.settle().await;
    let run = kit.until_ended(id).await;
    check_state(&run, State::Succeeded);
    let keys = kit.keys(id, "call").await;
    assert_eq!(keys, vec![format!("{id}-call"); 3]);
    assert!(run.retried);
}

#[tokio::test]
async fn retry_3_means_at_most_four_attempts() {
    let kit = Kit::new(&[&workflow("{ path: /stock }", "    retry: 3\n")], "");
    kit.erp.fail(fault("/stock", 500, 100));
    let id = kit.trigger("calling", json!({})).await;
    kit.settle().await;
    let run = kit.until_ended(id).await;
    check_state(&run, State::Failed);
    assert_eq!(run.attempts, 4);
    assert_eq!(kit.erp.requests_to("/stock").len(), 4);
    assert_eq!(run.failure.unwrap().cause(), "http.status/erp/500");
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_again_without_a_key() {
    let kit = Kit::new(&[&workflow("{ method: POST, path: /alerts, json: { text: hello } }", "    retry: 3\n")], "");
    kit.erp.fail(fault("/alerts", 502, 1));
    let run = kit.run("calling", json!({})).await;
    check_state(&run, State::Failed);
    assert_eq!(run.attempts, 1);
    let help = run.failure.unwrap().help.unwrap();
    assert!(help.starts_with("it may have arrived, and repeating it could do it twice"), "{help}");
}

#[tokio::test]
async fn retry_unsafe_sends_it_again() {
    let kit = Kit::new(
        &[&workflow(
            "{ method: POST, path: /alerts, json: { text: hello } }",
            "    retry: 3\n    retry_unsafe: true\n",
        )],
        "",
    );
    kit.erp.fail(fault("/alerts", 502, 1));
    let id = kit.trigger("calling", json!({})).await;
    kit.settle().await;
    check_state(&kit.until_ended(id).await, State::Succeeded);
}

#[tokio::test]
async fn a_status_outside_retry_on_is_final() {
    let kit = Kit::new(&[&workflow("{ path: /stock }", "    retry: 3\n    retry_on: [connect, 429]\n")], "");
    kit.erp.fail(fault("/stock", 500, 1));
    let run = kit.run("calling", json!({})).await;
    check_state(&run, State::Failed);
    assert_eq!(run.attempts, 1);
}

#[tokio::test]
async fn retry_after_wins_over_our_own_delay() {
    let kit = Kit::new(&[&workflow("{ path: /stock }", "    retry: 3\n")], "");
    let headers = [("Retry-After".to_owned(), "120".to_owned())].into();
    kit.erp.fail(Fault { headers, ..fault("/stock", 429, 1) });
    let start = now(&kit);
    let id = kit.trigger("calling", json!({})).await;
    kit.settle().await;
    let run = kit.read(id).await;
    check_state(&run, State::Waiting);
    let waits = run.wait.unwrap().until.since(start);
    assert!((Duration::from_secs(119)..Duration::from_secs(130)).contains(&waits), "{waits:?}");
    let why = kit.engine.why_waiting(id).await.unwrap().unwrap();
    assert!(why.starts_with("attempt 1 of task `call` failed (`GET /stock` was answered 429"), "{why}");
    kit.pass(Duration::from_mins(1)).await;
    assert_eq!(kit.erp.requests_to("/stock").len(), 1, "not before the far end said so");
    check_state(&kit.until_ended(id).await, State::Succeeded);
}

#[tokio::test]
async fn an_api_that_says_200_and_means_failure() {
    let with = "{ path: /stock, fail_if: \"${{ response.body.errcode | default(0) != 0 }}\" }";
    let kit = Kit::new(&[&workflow(with, "    retry: 2\n    retry_on: [200]\n")], "");
    kit.erp
        .fail(Fault { body: Some(json!({"errcode": 40014, "errmsg": "invalid token"})), ..fault("/stock", 200, 100) });
    let id = kit.trigger("calling", json!({})).await;
    kit.settle().await;
    let run = kit.until_ended(id).await;
    check_state(&run, State::Failed);
    assert_eq!(run.attempts, 3);
    let failure = run.failure.unwrap();
    assert_eq!(failure.code, "http.fail_if");
    assert!(failure.message.contains("invalid token"), "{}", failure.message);
}

#[tokio::test]
async fn a_task_past_its_time_limit_counts_as_a_timeout() {
    let kit = Kit::new(&[&workflow("{ path: /slow, query: { ms: 2000 } }", "    timeout: 200ms\n")], "");
    let run = kit.run("calling", json!({})).await;
    check_state(&run, State::Failed);
    assert_eq!(standing(&run, "call"), "failed");
    let failure = run.failure.unwrap();
    assert_eq!(failure.code, "http.timeout");
    assert_eq!(failure.fault, clawhook::domain::failure::Fault::Far);
}

#[tokio::test]
async fn no_workflow_reaches_the_metadata_service() {
    let kit = Kit::new(
        &[
            "version: 1\nname: sneaky\ntasks:\n  - { id: peek, type: http_request, with: { url: 'http://169.254.169.254/metadata/identity' } }\n",
        ],
        "",
    );
    let run = kit.run("sneaky", json!({})).await;
    check_state(&run, State::Failed);
    assert_eq!(run.failure.unwrap().code, "http.egress");
}

#[tokio::test]
async fn secrets_are_masked_in_what_is_kept() {
    let with = "{ path: /echo, headers: { Authorization: { secret_ref: erp, prefix: 'Bearer ' } } }";
    let kit = Kit::new(&[&workflow(with, "")], "");
    let run = kit.run("calling", json!({})).await;
    check_state(&run, State::Succeeded);
    let sent = &kit.erp.requests_to("/echo")[0];
    assert_eq!(sent.header("authorization"), Some("Bearer s3cret-value"));
    let log = format!("{:?}", kit.log(run.id).await);
    assert!(!log.contains("s3cret-value"), "the secret is in the log");
    assert!(log.contains("[secret:erp]"), "what stands in its place is not there");
}
