//! Answers that are too large for the log of a run: kept as artifacts, read back after `kill -9`, and missed in words.

use std::path::PathBuf;
use std::time::Duration;

use clawhook::clock::TestClock;
use clawhook::domain::attempt::AttemptResult;
use clawhook::domain::event::Event;
use clawhook::domain::run::Run;
use clawhook::domain::state::State;
use serde_json::{Value, json};

use crate::app::{Folder, OPEN};
use crate::kit::{self, Kit, check_state};
use crate::process::{Process, clawhook};
use crate::standin::{self, Fault, Standin};

/// Reads the whole stock, then books its last line; the end is told whatever becomes of it.
const WORKFLOW: &str = r#"
version: 1
name: whole-stock
tasks:
  - id: read
    type: http_request
    connection: erp
    with: { path: /stock }
  - id: book
    type: http_request
    connection: erp
    with:
      method: POST
      path: /orders
      json: { source: shop, source_id: "1", name: "${{ tasks.read.body.lines[2999].name }}" }
      idempotency_key: { header: Idempotency-Key }
finally:
  - id: tell
    type: transform
    with: { input: "${{ tasks.read.status }}", jq: "." }
outputs: { lines: "${{ tasks.read.body.lines | length }}" }
"#;

/// Three thousand lines, some 200 KiB.
fn stock() -> Value {
    let line =
        |number: u32| json!({ "sku": format!("SKU-{number:05}"), "name": format!("杯子 {number}"), "on_hand": number });
    json!({ "lines": (0..3000).map(line).collect::<Vec<_>>() })
}

fn answers(erp: &Standin, body: Value) {
    erp.fail(Fault { path: "/stock".to_owned(), status: Some(200), body: Some(body), times: 1, ..Fault::default() });
}

/// A run whose first task is through, and whose second hangs in its call when the gateway is killed.
struct HalfDone {
    erp: Standin,
    folder: Folder,
    run: String,
}

impl HalfDone {
    async fn new() -> Self {
        let erp = Standin::start(&standin::Settings::default()).unwrap();
        answers(&erp, stock());
        erp.fail(Fault { path: "/orders".to_owned(), delay_ms: 600_000, times: 1, ..Fault::default() });
        let folder = Folder::new(OPEN, Some(&erp));
        folder.write("workflows/stock.yaml", WORKFLOW);
        let first = Process::start(&folder, "info").await;
        let run = first.control.post("/v1/workflows/trigger", &json!({ "workflow": "whole-stock" })).await.run();
        let asked = |task: &Value| task["id"] == "book" && task["attempts"][0].is_object();
        let tasks = |run: &Value| run["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(asked));
        first.control.until(&format!("/v1/runs/{run}"), tasks).await;
        first.kill();
        Self { erp, folder, run }
    }

    /// The one file of the run's artifacts.
    fn artifact(&self) -> PathBuf {
        let folder = self.folder.path("data/artifacts").join(&self.run);
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }
}

#[tokio::test]
async fn a_large_answer_is_kept_aside_and_read_back_after_a_crash() {
    let half = HalfDone::new().await;
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(half.artifact()).unwrap()).unwrap(), stock());

    let second = Process::start(&half.folder, "info").await;
    let shown = second.control.ended(&half.run).await;
    assert_eq!((&shown["status"], &shown["outputs"]), (&json!("succeeded"), &json!({ "lines": 3000 })), "{shown}");
    let order = half.erp.requests_to("/orders").last().unwrap().json().unwrap();
    assert_eq!(order["name"], "杯子 2999");
    assert_eq!(half.erp.requests_to("/stock").len(), 1, "it was not asked for again");

    // The record names it, and holds nothing of it.
    let read = &shown["tasks"][0]["attempts"][0];
    assert_eq!((&read["kept"], &read["output"]["status"]), (&json!(["/body"]), &json!(200)));
    let events = second.control.get(&format!("/v1/runs/{}/events", half.run)).await;
    for text in [shown.to_string(), events.to_string()] {
        assert!(!text.contains("SKU-00007"), "{text}");
    }
    // Whoever wants it gets it, by the lines that are shown.
    let page = clawhook(
        &half.folder.path("."),
        &["runs", "show", &half.run, "--url", &second.control.url],
        Vec::<(String, String)>::new(),
    );
    let page = String::from_utf8(page.stdout).unwrap();
    let command = page.lines().find_map(|line| line.trim().strip_prefix("clawhook runs artifact "));
    let (run, artifact) = command.unwrap_or_else(|| panic!("{page}")).split_once(' ').unwrap();
    let fetched = second.control.get(&format!("/v1/runs/{run}/artifacts/{artifact}")).await;
    assert_eq!(fetched, stock());
}

#[tokio::test]
async fn an_answer_that_is_gone_or_damaged_fails_the_run_in_words() {
    let half = HalfDone::new().await;
    let file = half.artifact();
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[1000] ^= 1;
    let booked = || half.erp.requests_to("/orders").len();
    for (bytes, code) in [(None, "artifact.missing"), (Some(&damaged), "artifact.damaged")] {
        match bytes {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let before = booked();
        let gateway = Process::start(&half.folder, "info").await;
        let run = format!("/v1/runs/{}", half.run);
        // The second time the run has failed already, and is asked to go on.
        gateway.control.post(&format!("{run}/resume"), &json!({})).await;
        let failed = |shown: &Value| shown["status"] == "failed" && shown["failure"]["code"] == code;
        let shown = gateway.control.until(&run, failed).await;
        let failure = &shown["failure"];
        assert_eq!((&failure["task"], &failure["sent"]), (&json!("read"), &json!("no")), "{failure}");
        assert!(failure["help"].as_str().unwrap().contains("put the artifact back"), "{failure}");
        let tell = shown["tasks"].as_array().unwrap().iter().find(|task| task["id"] == "tell").unwrap();
        assert_eq!(tell["status"], "succeeded", "handlers run: {shown}");
        assert_eq!(booked(), before, "nothing was sent that was not known");
        gateway.stop();
    }
    // It is put back, and the run goes on where it stood.
    std::fs::write(&file, &whole).unwrap();
    let gateway = Process::start(&half.folder, "info").await;
    gateway.control.post(&format!("/v1/runs/{}/resume", half.run), &json!({})).await.expect(200);
    let shown = gateway.control.until(&format!("/v1/runs/{}", half.run), |run| run["status"] == "succeeded").await;
    assert_eq!(shown["outputs"], json!({ "lines": 3000 }));
    assert_eq!(half.erp.requests_to("/orders").last().unwrap().json().unwrap()["name"], "杯子 2999");
}

/// What succeeded, with what of it was kept aside.
async fn kept(kit: &Kit, run: &Run) -> Vec<(String, Vec<String>)> {
    let ended = kit.log(run.id).await.into_iter().filter_map(|entry| match entry.event {
        Event::AttemptEnded(ended) if matches!(ended.result, AttemptResult::Succeeded { .. }) => {
            Some((ended.task.to_string(), ended.kept))
        }
        _ => None,
    });
    ended.filter(|(_, kept)| !kept.is_empty()).collect()
}

/// Runs a workflow whose tasks are followed by a pause, so that what they gave is read back.
async fn check_kept(tasks: &str, sum: &str, bodies: Vec<Value>, expected: &[(&str, &str)], total: u64) {
    let workflow = format!(
        "version: 1\nname: large\ntasks:\n{tasks}  - {{ id: pause, type: wait, with: {{ for: 1h }} }}\n  \
         - {{ id: sum, type: transform, with: {{ input: '${{{{ tasks.many }}}}', jq: '{sum}' }} }}\n\
         outputs: {{ total: '${{{{ tasks.sum }}}}' }}\n"
    );
    let kit = Kit::with_far_ends(&[&workflow], TestClock::at(kit::START), Vec::new());
    for body in bodies {
        answers(&kit.erp, body);
    }
    let id = kit.trigger("large", json!({})).await;
    kit.settle().await;
    for _ in 0..8 {
        kit.pass(Duration::from_mins(20)).await;
    }
    let run = kit.read(id).await;
    check_state(&run, State::Succeeded);
    assert_eq!(run.outputs.as_ref().unwrap()["total"], json!(total));
    let expected: Vec<_> = expected.iter().map(|(task, part)| ((*task).to_owned(), vec![(*part).to_owned()])).collect();
    assert_eq!(kept(&kit, &run).await, expected);
}

/// An answer of two bytes for each row.
fn rows(count: usize) -> Value {
    json!({ "rows": vec![1; count], "done": true })
}

#[tokio::test]
async fn items_of_loops_and_pages_and_looks_are_kept_too() {
    let call = "type: http_request, connection: erp, with: { path: /stock";
    // Small ones stay.
    check_kept(
        &format!("  - {{ id: many, for_each: [1, 2, 3], {call} }} }}\n"),
        "[.items[].output.body.rows | add] | add",
        vec![rows(60_000), rows(100), rows(70_000)],
        &[("many[0]", "/body"), ("many[2]", "/body")],
        130_100,
    )
    .await;
    check_kept(
        &format!(
            "  - {{ id: many, {call}, paginate: {{ style: page, items: '${{{{ response.body.rows }}}}' }} }} }}\n"
        ),
        ".items | add",
        vec![rows(20_000), rows(20_000), rows(0)],
        &[("many", "/items")],
        40_000,
    )
    .await;
    let waiting = json!({ "rows": vec![1; 40_000], "done": false });
    check_kept(
        &format!("  - {{ id: many, {call} }}, poll: {{ until: '${{{{ response.body.done }}}}', interval: 1m }} }}\n"),
        ".body.rows | add",
        vec![waiting.clone(), waiting, rows(40_000)],
        &[("many", "/body")],
        40_000,
    )
    .await;
    // A transform's list has no members, and is kept whole.
    check_kept(
        "  - { id: many, type: transform, with: { input: 40000, jq: '[range(.) | 1]' } }\n",
        "add",
        Vec::new(),
        &[("many", "")],
        40_000,
    )
    .await;
}

#[tokio::test]
async fn a_run_waits_while_its_place_for_artifacts_is_away() {
    let workflow =
        WORKFLOW.replace("  - id: book\n", "  - { id: pause, type: wait, with: { for: 1h } }\n  - id: book\n");
    let kit = Kit::with_far_ends(&[&workflow], TestClock::at(kit::START), Vec::new());
    answers(&kit.erp, stock());
    let id = kit.trigger("whole-stock", json!({})).await;
    kit.settle().await;
    // A file where the folder was: it is not gone, it cannot be looked at.
    let (place, aside) = (kit.artifacts(), kit.artifacts().with_extension("aside"));
    std::fs::rename(&place, &aside).unwrap();
    std::fs::write(&place, "").unwrap();
    for _ in 0..3 {
        kit.pass(Duration::from_hours(1)).await;
        let why = kit.engine.why_waiting(id).await.unwrap().unwrap();
        assert!(why.starts_with("what task `read` gave is kept beside the record and cannot be read"), "{why}");
    }
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    kit.pass(Duration::from_hours(1)).await;
    let run = kit.read(id).await;
    check_state(&run, State::Succeeded);
    assert_eq!(run.outputs.unwrap()["lines"], json!(3000));
}

/// Artifacts that cannot be written are no reason to fail: the answer stays in the record.
#[tokio::test]
async fn an_answer_stays_in_the_record_when_no_artifact_takes_it() {
    let kit = Kit::new(&[WORKFLOW], "");
    answers(&kit.erp, stock());
    let run = kit.run("whole-stock", json!({})).await;
    check_state(&run, State::Succeeded);
    assert_eq!(kit::output(&run, "read")["body"], stock());
    assert_eq!(kept(&kit, &run).await, []);
}
