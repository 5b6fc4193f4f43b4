//! Flow: tasks that run together, loops, groups, switches, polls. Each test is a workflow and what became of it.

use std::time::Duration;

use clawhook::domain::event::Event;
use clawhook::domain::run::{Run, TaskState};
use clawhook::domain::state::State;
use serde_json::{Value, json};

use crate::kit::{Kit, check_state, output, standing};
use crate::standin::{Close, Fault};

/// What a loop or a handler gave, as later tasks see it: the output named `it`.
fn it(run: &Run) -> &Value {
    &run.outputs.as_ref().unwrap_or_else(|| panic!("no outputs: {:?}", run.failure))["it"]
}

fn fault(path: &str, times: u32, status: u16) -> Fault {
    Fault {
        path: path.to_owned(),
        times,
        status: Some(status),
        body: Some(json!({ "state": "at work" })),
        ..Fault::default()
    }
}

/// The names of the steps that a run began, in order.
async fn began(kit: &Kit, run: &Run) -> Vec<String> {
    let step = |entry: clawhook::domain::event::Entry| match entry.event {
        Event::AttemptStarted { task, .. } => Some(task.to_string()),
        _ => None,
    };
    kit.log(run.id).await.into_iter().filter_map(step).collect()
}

const DIAMOND: &str = r#"
version: 1
name: diamond
inputs: { ms: { type: integer, required: true } }
tasks:
  - { id: join, needs: [left, right], type: transform, with: { input: ["${{ tasks.left.status }}", "${{ tasks.right.status }}"], jq: "add" } }
  - { id: left, needs: [top], type: http_request, connection: erp, with: { path: /slow, query: { ms: "${{ inputs.ms }}" } } }
  - { id: right, needs: [top], type: http_request, connection: erp, with: { path: /slow, query: { ms: "${{ inputs.ms }}" } } }
  - { id: top, type: transform, with: { input: 1, jq: . } }
outputs: { it: "${{ tasks.join }}" }
"#;

#[tokio::test]
async fn independent_tasks_run_together() {
    let kit = Kit::new(&[DIAMOND], "");
    let run = kit.run("diamond", json!({"ms": 40})).await;
    check_state(&run, State::Succeeded);
    assert_eq!(*it(&run), json!(400));
    let events = kit.events(run.id).await;
    let both = ["attempt_started", "attempt_started", "attempt_ended", "attempt_ended"];
    assert!(events.windows(4).any(|four| four == both), "{events:?}");
    assert_eq!(began(&kit, &run).await, ["top", "left", "right", "join"]);
}

#[tokio::test]
async fn when_one_fails_what_is_under_way_ends_and_nothing_new_begins() {
    let text = DIAMOND.replace(
        "path: /slow, query: { ms: \"${{ inputs.ms }}\" } } }\n  - { id: right",
        "path: /nowhere } }\n  - { id: right",
    );
    let kit = Kit::new(&[&text], "");
    let run = kit.run("diamond", json!({"ms": 60})).await;
    check_state(&run, State::Failed);
    assert_eq!(run.failure.as_ref().unwrap().task.as_ref().unwrap().to_string(), "left");
    assert_eq!(["left", "right", "join"].map(|task| standing(&run, task)), ["failed", "succeeded", "untouched"]);
}

const EACH: &str = r#"
version: 1
name: each
inputs: { lines: { type: array, required: true } }
tasks:
  - id: push
    for_each: ${{ inputs.lines }}
    max_parallel: 2
    if: ${{ item.sku != "skip" }}
    type: http_request
    connection: erp
    with: { method: POST, path: /echo, json: { sku: "${{ item.sku }}", place: "${{ index }}" }, idempotency_key: { header: Idempotency-Key } }
    retry: 2
    retry_delay: 10s
  - id: sum
    type: transform
    with: { input: "${{ tasks.push }}", jq: "{count, succeeded, failed, skipped, items: [.items[] | {index, sku: .item.sku, status, place: (if .output then .output.body.body | fromjson | .place else null end)}]}" }
outputs: { it: "${{ tasks.sum }}" }
"#;

fn lines(skus: &[&str]) -> Value {
    json!({ "lines": skus.iter().map(|sku| json!({ "sku": sku })).collect::<Vec<_>>() })
}

#[tokio::test]
async fn a_loop_does_its_task_for_each_item() {
    let kit = Kit::new(&[EACH], "");
    let run = kit.run("each", lines(&["a", "skip", "c", "d"])).await;
    check_state(&run, State::Succeeded);
    let it = it(&run);
    assert_eq!(["count", "succeeded", "failed", "skipped"].map(|name| it[name].clone()), [4, 3, 0, 1].map(Value::from));
    assert_eq!(it["items"][2], json!({"index": 2, "sku": "c", "status": "succeeded", "place": 2}));
    assert_eq!(it["items"][1]["status"], "skipped");
    assert_eq!(kit.keys(run.id, "push[3]").await, [format!("{}-push:3", run.id)]);
    let sent: Vec<_> =
        kit.erp.requests_to("/echo").iter().map(|r| r.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(sent.len(), 3);
}

#[tokio::test]
async fn an_empty_list_and_one_that_is_not_there_are_done_at_once() {
    let kit = Kit::new(&[EACH], "");
    let run = kit.run("each", lines(&[])).await;
    assert_eq!(it(&run)["count"], json!(0));
    let text = EACH.replace("${{ inputs.lines }}", "${{ none }}");
    let kit = Kit::new(&[&text], "");
    let run = kit.run("each", lines(&["a"])).await;
    assert_eq!(it(&run)["count"], json!(0));
}

#[tokio::test]
async fn what_is_no_list_is_no_loop() {
    let kit = Kit::new(&[&EACH.replace("${{ inputs.lines }}", "${{ inputs.lines[0].sku }}")], "");
    let run = kit.run("each", lines(&["a"])).await;
    check_state(&run, State::Failed);
    let failure = run.failure.unwrap();
    assert_eq!((failure.code.as_str(), failure.task.unwrap().to_string().as_str()), ("loop.no_list", "push"));
}

#[tokio::test]
async fn an_item_is_tried_again_while_others_go_on() {
    let kit = Kit::new(&[EACH], "");
    kit.erp.fail(fault("/echo", 1, 503));
    let id = kit.trigger("each", lines(&["a", "b", "c"])).await;
    kit.settle().await;
    let run = kit.read(id).await;
    check_state(&run, State::Waiting);
    assert_eq!(
        ["push[0]", "push[1]", "push[2]"].map(|step| standing(&run, step)),
        ["retrying", "succeeded", "succeeded"]
    );
    let run = kit.until_ended(id).await;
    check_state(&run, State::Succeeded);
    assert_eq!(kit.keys(id, "push[0]").await.len(), 2);
    assert_eq!(kit.keys(id, "push[1]").await.len(), 1);
}

#[tokio::test]
async fn a_failed_item_stops_the_loop_and_a_resume_goes_on_there() {
    let kit = Kit::new(&[&EACH.replace("max_parallel: 2", "max_parallel: 1")], "");
    kit.erp.fail(Fault { path: "/echo".to_owned(), times: 1, ..Fault::default() });
    kit.erp.fail(fault("/echo", 1, 422));
    let run = kit.run("each", lines(&["a", "b", "c"])).await;
    check_state(&run, State::Failed);
    assert_eq!(run.failure.as_ref().unwrap().task.as_ref().unwrap().to_string(), "push[1]");
    assert_eq!(
        ["push", "push[0]", "push[1]", "push[2]"].map(|step| standing(&run, step)),
        ["closed after a failure", "succeeded", "failed", "untouched"]
    );
    kit.engine.resume(run.id, "test").await.unwrap();
    kit.settle().await;
    let run = kit.read(run.id).await;
    check_state(&run, State::Succeeded);
    assert_eq!(it(&run)["succeeded"], json!(3));
    assert_eq!(
        ["push[0]", "push[1]", "push[2]"].map(|step| run.tasks[&step.parse().unwrap()].attempt.unwrap().get()),
        [1, 2, 1]
    );
    let keys = kit.keys(run.id, "push[1]").await;
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn with_continue_on_error_each_item_stands_for_itself() {
    let kit =
        Kit::new(&[&EACH.replace("retry: 2\n", "continue_on_error: true\n").replace("    retry_delay: 10s\n", "")], "");
    kit.erp.fail(fault("/echo", 1, 422));
    let run = kit.run("each", lines(&["a", "b", "c"])).await;
    check_state(&run, State::Succeeded);
    assert_eq!((it(&run)["succeeded"].clone(), it(&run)["failed"].clone()), (json!(2), json!(1)));
}

const GROUPS: &str = r#"
version: 1
name: groups
inputs: { shops: { type: array, required: true } }
tasks:
  - id: shop
    type: group
    for_each: ${{ inputs.shops }}
    max_parallel: 3
    continue_on_error: true
    tasks:
      - { id: look, type: http_request, connection: erp, with: { path: /echo, query: { shop: "${{ item.name }}" } } }
      - id: line
        type: transform
        for_each: ${{ item.lines }}
        with: { input: ["${{ item }}", "${{ tasks.look.status }}"], jq: "add" }
      - { id: total, type: transform, with: { input: "${{ tasks.line.items }}", jq: "[.[].output] | add" } }
      - { id: check, if: "${{ tasks.total > 1000 }}", type: stop, with: { status: failed, message: "too much for ${{ item.name }}" } }
outputs: { it: "${{ tasks.shop.items }}" }
"#;

#[tokio::test]
async fn groups_and_loops_stand_inside_each_other() {
    let kit = Kit::new(&[GROUPS], "");
    let run =
        kit.run("groups", json!({"shops": [{"name": "us", "lines": [1, 2]}, {"name": "de", "lines": [3]}]})).await;
    check_state(&run, State::Succeeded);
    let totals: Vec<_> = it(&run).as_array().unwrap().iter().map(|row| row["output"]["total"].clone()).collect();
    assert_eq!(totals, [json!(403), json!(203)]);
    assert_eq!(standing(&run, "shop[1]/line[0]"), "succeeded");
    assert_eq!(standing(&run, "shop[0]"), "closed");
    assert_eq!(standing(&run, "shop[0]/check"), "skipped");
}

#[tokio::test]
async fn a_stop_inside_an_item_stops_the_run() {
    let kit = Kit::new(&[GROUPS], "");
    let run = kit.run("groups", json!({"shops": [{"name": "us", "lines": [900, 2]}]})).await;
    check_state(&run, State::Failed);
    assert_eq!(run.failure.unwrap().message, "too much for us");
}

#[tokio::test]
async fn a_run_goes_on_in_the_middle_of_a_loop_after_its_gateway_is_gone() {
    let kit = Kit::new(&[GROUPS], "");
    kit.erp.fail(Fault { path: "/echo".to_owned(), times: 1, ..Fault::default() });
    kit.erp.fail(fault("/echo", 1, 503));
    let text = GROUPS
        .replace("- { id: look, ", "- { id: look, retry: 1, retry_delay: 5m, ")
        .replace("max_parallel: 3", "max_parallel: 1");
    kit.put(&text);
    let id =
        kit.trigger("groups", json!({"shops": [{"name": "us", "lines": [1]}, {"name": "de", "lines": [3]}]})).await;
    kit.settle().await;
    let run = kit.read(id).await;
    assert_eq!((standing(&run, "shop[0]"), standing(&run, "shop[1]/look")), ("closed", "retrying"));
    let next = kit.restarted(&[&text], "");
    next.engine.take_over().await.unwrap();
    let run = next.until_ended(id).await;
    check_state(&run, State::Succeeded);
    assert_eq!(it(&run)[1]["output"]["total"], json!(203));
    assert_eq!(it(&run)[0]["output"]["total"], json!(201));
    assert_eq!(next.keys(id, "shop[0]/look").await.len(), 1);
}

const SWITCH: &str = r#"
version: 1
name: switch
inputs: { topic: { type: string, required: true } }
tasks:
  - id: by_topic
    type: switch
    cases:
      - if: ${{ inputs.topic == "create" }}
        tasks: [ { id: made, type: transform, with: { input: 1, jq: . } } ]
      - if: ${{ inputs.topic == "cancel" }}
        tasks: [ { id: gone, type: transform, with: { input: 2, jq: . } } ]
    else:
      - { id: other, type: transform, with: { input: 3, jq: . } }
  - id: both
    type: parallel
    tasks:
      - { id: one, type: http_request, connection: erp, with: { path: /slow, query: { ms: 30 } } }
      - { id: two, type: http_request, connection: erp, with: { path: /slow, query: { ms: 30 } } }
outputs: { it: ["${{ tasks.made }}", "${{ tasks.gone }}", "${{ tasks.other }}", "${{ tasks.one.status }}"] }
"#;

#[tokio::test]
async fn a_switch_does_one_case() {
    let kit = Kit::new(&[SWITCH], "");
    let skipped = json!({ "skipped": true });
    for (topic, expected) in [
        ("create", json!([1, skipped, skipped, 200])),
        ("cancel", json!([skipped, 2, skipped, 200])),
        ("update", json!([skipped, skipped, 3, 200])),
    ] {
        let run = kit.run("switch", json!({ "topic": topic })).await;
        check_state(&run, State::Succeeded);
        assert_eq!(*it(&run), expected);
        let events = kit.events(run.id).await;
        let both = ["attempt_started", "attempt_started", "attempt_ended", "attempt_ended"];
        assert!(events.windows(4).any(|four| four == both), "{events:?}");
    }
}

const POLL: &str = r#"
version: 1
name: poll
inputs: { until: { type: string, required: true } }
tasks:
  - id: ask
    type: http_request
    connection: erp
    with: { path: /stock, accept_status: [200, 202] }
    poll: { until: "${{ response.status == 200 }}", fail_if: "${{ response.body.state == 'broken' }}", interval: 10s, backoff: exponential, max_interval: 15s, timeout: 2m }
outputs: { it: "${{ tasks.ask.status }}" }
"#;

#[tokio::test]
async fn a_poll_holds_no_worker_and_ends_when_it_is_as_wanted() {
    let kit = Kit::new(&[POLL], "");
    kit.erp.fail(fault("/stock", 3, 202));
    let id = kit.trigger("poll", json!({"until": "x"})).await;
    kit.settle().await;
    let run = kit.read(id).await;
    check_state(&run, State::Waiting);
    assert_eq!((run.attempts, run.retried, kit.engine.active()), (1, false, 0));
    let why = kit.engine.why_waiting(id).await.unwrap().unwrap();
    assert!(why.starts_with("task `ask`: the far end is still at work"), "{why}");
    kit.pass(Duration::from_secs(9)).await;
    assert_eq!(kit.read(id).await.attempts, 1);
    kit.pass(Duration::from_secs(1)).await;
    assert_eq!(kit.read(id).await.attempts, 2);
    kit.pass(Duration::from_secs(15)).await;
    kit.pass(Duration::from_secs(15)).await;
    let run = kit.read(id).await;
    check_state(&run, State::Succeeded);
    assert_eq!((run.attempts, it(&run).clone()), (4, json!(200)));
}

#[tokio::test]
async fn a_poll_fails_when_told_so_and_when_it_takes_too_long() {
    let kit = Kit::new(&[POLL], "");
    kit.erp.fail(Fault { body: Some(json!({"state": "broken"})), ..fault("/stock", 1, 202) });
    let run = kit.run("poll", json!({"until": "x"})).await;
    check_state(&run, State::Failed);
    assert_eq!(run.failure.unwrap().code, "poll.failed");
    kit.erp.fail(fault("/stock", 100, 202));
    let id = kit.trigger("poll", json!({"until": "x"})).await;
    kit.settle().await;
    let run = kit.until_ended(id).await;
    assert_eq!(run.failure.unwrap().code, "poll.timeout");
}

#[tokio::test]
async fn a_cancel_cuts_off_all_that_is_under_way() {
    let kit = Kit::new(&[DIAMOND], "");
    let id = kit.trigger("diamond", json!({"ms": 5_000})).await;
    let engine = kit.engine.clone();
    let cancel = async {
        loop {
            let run = kit.read(id).await;
            let started = |task| matches!(run.task_named(task).map(|r| &r.state), Some(TaskState::Started { .. }));
            if started("left") && started("right") {
                break;
            }
            tokio::task::yield_now().await;
        }
        engine.cancel(id, "test", "enough").await.unwrap();
    };
    tokio::join!(kit.settle(), cancel);
    let run = kit.read(id).await;
    check_state(&run, State::Cancelled);
    assert_eq!(["left", "right"].map(|task| standing(&run, task)), ["failed", "failed"]);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_under_the_same_key() {
    let kit = Kit::new(&[EACH], "");
    kit.erp.fail(Fault { path: "/echo".to_owned(), times: 1, close: Some(Close::After), ..Fault::default() });
    let id = kit.trigger("each", lines(&["a", "b"])).await;
    kit.settle().await;
    let run = kit.until_ended(id).await;
    check_state(&run, State::Succeeded);
    let mut sent: Vec<_> =
        kit.erp.requests_to("/echo").iter().map(|r| r.header("idempotency-key").unwrap().to_owned()).collect();
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), 2);
    assert_eq!(output(&run, "push[0]")["status"], 200);
}

const TOLERANT: &str = r#"
version: 1
name: tolerant
tasks:
  - id: returns
    type: group
    for_each: [1, 2]
    max_parallel: 2
    tasks:
      - { id: look, continue_on_error: true, type: http_request, connection: erp, with: { path: /echo, query: { n: "${{ item }}" } } }
      - { id: book, type: transform, with: { input: "${{ item }}", jq: . } }
  - { id: again, for_each: "${{ tasks.returns.items }}", type: transform, with: { input: "${{ item.index }}", jq: . } }
  - { id: last, type: http_request, connection: erp, with: { path: /stock } }
outputs: { it: "${{ tasks.again.succeeded }}" }
"#;

#[tokio::test]
async fn a_resume_keeps_what_the_run_had_gone_on_from() {
    let kit = Kit::new(&[TOLERANT], "");
    kit.erp.fail(fault("/echo", 1, 422));
    kit.erp.fail(fault("/stock", 1, 500));
    let run = kit.run("tolerant", json!({})).await;
    check_state(&run, State::Failed);
    let asked = kit.erp.requests_to("/echo").len();
    let resumed = kit.engine.resume(run.id, "test").await.unwrap();
    assert_eq!(resumed.again, [crate::kit::step("last")]);
    kit.settle().await;
    let run = kit.read(run.id).await;
    check_state(&run, State::Succeeded);
    assert_eq!((it(&run).clone(), kit.erp.requests_to("/echo").len()), (json!(2), asked));
}

const BESIDE: &str = r"
version: 1
name: beside
tasks:
  - id: both
    type: parallel
    tasks:
      - { id: bad, type: http_request, connection: erp, with: { method: POST, path: /alerts, json: { text: x } } }
      - { id: refund, type: http_request, connection: erp, with: { method: POST, path: /slow, query: { ms: 60000 } } }
";

#[tokio::test]
async fn what_was_in_flight_beside_a_failure_is_on_record_after_a_crash() {
    let kit = Kit::new(&[BESIDE], "");
    kit.erp.fail(fault("/alerts", 1, 422));
    let id = kit.trigger("beside", json!({})).await;
    let failed_beside = async {
        while standing(&kit.read(id).await, "bad") != "failed" {
            tokio::task::yield_now().await;
        }
    };
    // The gateway is gone as soon as one has failed and the other is under way.
    tokio::select! {
        () = kit.settle() => panic!("the slow one ended"),
        () = failed_beside => {}
    }
    let next = kit.restarted(&[BESIDE], "");
    // It is gone, with the run that it drove.
    std::mem::forget(kit);
    next.engine.take_over().await.unwrap();
    next.settle().await;
    let run = next.read(id).await;
    check_state(&run, State::Failed);
    let Some(TaskState::Failed { failure }) = run.task_named("refund").map(|record| &record.state) else {
        panic!("{run:?}");
    };
    assert_eq!(failure.code, "attempt.interrupted");
    assert!(failure.help.as_ref().unwrap().contains("look at the far end"), "{failure:?}");
}
