//! Tests that users write, played by the real binary: those that are shipped pass, and what is not as expected is told.

use std::path::Path;

use serde_json::{Value, json};

use crate::app::shopify;
use crate::examples;
use crate::process::clawhook;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const NO_ENVIRONMENT: [(&str, &str); 0] = [];

/// A folder with one workflow that calls an ERP, and these tests for it.
struct Bench(tempfile::TempDir);

const SETTINGS: &str = r#"version: 1
auth: none
connections:
  erp: { base_url: "https://erp.example.com/api", auth: { type: bearer, secret_ref: erp-key } }
  shop:
    base_url: https://shop.example.com
    auth: { type: oauth2_client_credentials, token_url: "https://shop.example.com/token", client_id: me, client_secret: { secret_ref: shop-key } }
    rate_limit: { rate: 1/s, burst: 1 }
databases:
  erp: { type: postgres, host: db.example.com, database: erp, user: me, password: { secret_ref: db } }
channels:
  ops: { type: slack, url: { secret_ref: slack-url } }
"#;

const WORKFLOW: &str = r#"version: 1
name: sync
inputs: { ids: { type: array, default: [1, 2] } }
tasks:
  - { id: list, type: http_request, connection: shop, with: { path: /orders, query: { page: "1" } }, retry: 2, retry_delay: 1m }
  - id: push
    type: http_request
    for_each: ${{ inputs.ids }}
    connection: erp
    with: { method: POST, path: "/orders/${{ item }}", json: { id: "${{ item }}", from: "${{ tasks.list.body.from }}" }, idempotency_key: { header: Idempotency-Key } }
    retry: 3
    retry_delay: 10m
  - { id: keep, type: sql_exec, if: "${{ inputs.ids | length > 2 }}", with: { database: erp, statements: [{ sql: select 1 }] } }
  - { id: tell, type: notify, with: { channel: ops, title: "${{ inputs.ids | length }} orders", table: { rows: "${{ inputs.ids }}" } } }
  - { id: remember, type: set_state, with: { last: "${{ inputs.ids }}" } }
outputs: { from: "${{ tasks.list.body.from }}" }
"#;

impl Bench {
    fn new(tests: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.write("clawhook.yaml", SETTINGS);
        bench.write("routes/none.yaml", "version: 1\n");
        bench.write("workflows/sync.yaml", WORKFLOW);
        bench.write("workflows/sync.test.yaml", tests);
        bench
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Exit code, stdout and stderr in one text. How long it took is filtered.
    fn says(&self, arguments: &[&str]) -> String {
        let output = clawhook(self.0.path(), arguments, NO_ENVIRONMENT);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        let (before, last) = out.trim_end().rsplit_once('\n').unwrap_or_default();
        let last = last.split(" in ").next().unwrap();
        without_ids(&format!("exit {}\n{before}\n{last}\n{err}", output.status.code().unwrap()))
    }
}

/// Ids of runs are others each time.
fn without_ids(text: &str) -> String {
    let mut parts = text.split("run_");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "RUN" + part.trim_start_matches(|c: char| c.is_ascii_alphanumeric()))
}

const FIXTURES: &str = "fixtures:
  - { request: GET shop /orders?page=1, respond: { json: { from: s } }, times: any }
  - { request: POST erp /orders/*, respond: { status: 201, json: {} }, times: any }
";

#[test]
fn the_shipped_tests_pass() {
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("junit.xml");
    let output = clawhook(root(), &["test", "--output", "json", "--junit", junit.to_str().unwrap()], NO_ENVIRONMENT);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["failed"]), (Some(0), &Value::from(0)), "{report:#}");
    let files: std::collections::BTreeSet<_> =
        report["tests"].as_array().unwrap().iter().map(|test| test["file"].as_str().unwrap()).collect();
    for workflow in std::fs::read_dir(root().join("workflows")).unwrap() {
        let name = workflow.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".yaml").filter(|name| !name.contains('.')) else { continue };
        assert!(files.contains(format!("workflows/{name}.test.yaml").as_str()), "the example {name} has no tests");
    }
    let junit = std::fs::read_to_string(junit).unwrap();
    assert_eq!(junit.matches("<testcase ").count(), report["tests"].as_array().unwrap().len());
}

/// Those of the examples that want more than this machine has to start.
#[test]
fn the_tests_of_the_other_examples_pass() {
    let mut examples = 0;
    for example in std::fs::read_dir(root().join("examples")).unwrap() {
        let output = clawhook(&example.unwrap().path(), &["test"], NO_ENVIRONMENT);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        examples += 1;
    }
    assert!(examples > 0, "there are no examples");
}

/// Every expectation that there is, right.
#[test]
fn what_is_as_expected_passes() {
    let bench = Bench::new(&format!(
        "version: 1\nworkflow: sync\n{FIXTURES}{}",
        r#"tests:
  - name: everything
    clock: 2026-11-01T08:00:00+08:00
    state: { last: [9] }
    faults:
      - { task: list, respond: timeout }
      - { task: "push[1]", respond: lost }
      - { task: tell, respond: 429 }
    expect:
      run: succeeded
      attempts: { list: 2, "push[0]": 1, "push[1]": 2, tell: 2 }
      order: [list, GET shop /orders, "push[0]", POST erp /orders/1, "push[1]", tell]
      calls:
        count: { GET shop: 2, POST erp: 3, POST https://erp.example.com/api/orders/2: 2 }
        none_to: [PUT erp, GET https://other.example.com]
        all_used: true
        to:
          - { request: POST erp /orders/2, times: 2, json: { id: 2, from: s }, headers: { Authorization: Bearer made-up-erp-key }, same: [Idempotency-Key] }
          - { request: GET shop, headers: { Authorization: Bearer made-up-token-1 } }
      notify: [{ channel: ops, title: 2 orders, rows: 2, level: info, contains: "2" }]
      state: { last: [1, 2] }
      outputs: { from: s }
      tasks: { keep: { status: skipped }, list: { status: succeeded, output: { status: 200 } } }
  - name: a stub
    inputs: { ids: [1, 2, 3] }
    stub: { keep: { rows: 1 } }
    faults: [{ task: keep, respond: 500 }, { task: push, attempt: 1, respond: connect, times: 2 }]
    expect: { failure: { task: keep, code: trial.fault }, attempts: { push: 9 } }
"#
    ));
    insta::assert_snapshot!("trials_pass", bench.says(&["test"]));
}

/// Every expectation that there is, wrong: a test that cannot fail shows nothing.
#[test]
fn what_is_not_as_expected_is_told() {
    let bench = Bench::new(&format!(
        "version: 1\nworkflow: sync\n{FIXTURES}{}",
        r#"tests:
  - name: everything is wrong
    state: { last: [9] }
    faults: [{ task: list, attempt: 3, respond: 503 }]
    decide: [{ task: list, decision: approve }]
    expect:
      run: failed
      failure: { task: push, code: http.status }
      attempts: { list: 2, push: 2 }
      order: [push, list]
      calls:
        count: { POST erp: 1 }
        none_to: [POST erp /orders/2]
        all_used: true
        to:
          - { request: POST erp /orders/1, json: { id: 2, more: true } }
          - { request: DELETE erp /orders/1 }
          - { request: POST erp, times: 2, same: [Idempotency-Key] }
      notify: [{ channel: other, title: 3 orders, rows: 3, level: error, contains: nobody }, { channel: ops }]
      state: { last: [1, 3], gone: true }
      outputs: { from: t, to: u }
      labels: { team: ops }
      tasks: { keep: { status: succeeded }, list: { status: failed, output: { body: { from: t } }, failure: http.status } }
  - name: it should have succeeded
    faults: [{ task: "push[1]", respond: { status: 404, text: nobody here } }]
  - name: no stub
    inputs: { ids: [1, 2, 3] }
"#
    ));
    insta::assert_snapshot!("trials_fail", bench.says(&["test"]));
    insta::assert_snapshot!("trials_fail_json", bench.says(&["test", "--filter", "it should", "--output", "json"]));
}

#[test]
fn a_call_that_nobody_expects_fails_the_test() {
    let bench = Bench::new(
        r"version: 1
workflow: sync
tests:
  - name: nothing is recorded
  - name: nearly
    fixtures:
      - { request: GET shop /orders?page=2, respond: { json: {} } }
      - { request: POST shop /orders, respond: { json: {} } }
      - { request: GET erp /orders, respond: { json: {} } }
  - name: once too often
    fixtures:
      - { request: GET shop /orders, respond: { json: { from: s } } }
      - { request: POST erp /orders/*, respond: { status: 201 } }
",
    );
    insta::assert_snapshot!("trials_unexpected", bench.says(&["test"]));
}

#[test]
fn files_that_are_wrong_play_nothing() {
    let bench = Bench::new(
        r#"version: 1
workflow: sync
clock: yesterday
fixtures: fixtures/gone.yaml
tests:
  - name: one
    inputs: {}
    slot: { schedule: nightly }
    fixtures: [{ request: GET erp }]
    faults: [{ task: pusch, respond: 503 }, { task: "push[x]", respond: explode }]
    decide: [{ task: list, decision: maybe }]
  - name: one
    delivery: { route: nowhere }
    expect:
      atempts: { list: 1 }
  - name: two
    inputs: {}
    slot: { schedule: nightly }
    fixtures: [fixtures/bad.yaml, { request: GET erp, respond: { json: 1, text: a } }, ../outside.yaml]
    stub: { keeep: 1 }
    faults: [{ task: pusch, respond: 503 }]
    expect:
      attempts: { lst: 1 }
      order: [tel, GET oms /x]
      calls: { count: { GETerp: 1 }, none_to: [POST erp orders] }
"#,
    );
    bench.write(
        "workflows/fixtures/bad.yaml",
        "version: 1\nexchanges:\n  - { request: GET epr /a, respond: { staus: 200 } }\n  - { request: GET erp, respond: { base64: '*' } }\n",
    );
    insta::assert_snapshot!("trials_problems", bench.says(&["test"]));
    // `check` tells the same.
    let json: Value = {
        let output = clawhook(bench.0.path(), &["check", "--json"], NO_ENVIRONMENT);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let about = |file: &str| json["problems"].as_array().unwrap().iter().filter(|one| one["file"] == file).count();
    assert!(about("workflows/sync.test.yaml") > 5 && about("workflows/fixtures/bad.yaml") > 0, "{json:#}");
    let none = bench.says(&["test", "--filter", "nothing"]);
    assert!(none.starts_with("exit 2"), "{none}");
}

/// Runs of a real gateway, made into tests that pass at once.
#[tokio::test]
async fn what_was_recorded_passes() {
    let erp = examples::erp();
    let folder = examples::shipped_folder(&erp).await;
    let app = folder.start().await;
    let order = r##"{"id":5123456789012345678,"name":"#1042","note":"call ann@example.com","email":"ann@example.com","customer":{"first_name":"Annabel"}}"##;
    let order = app.post("/hooks/shopify/us/orders", &shopify(examples::KEY, "d-1", order), order).await.run();
    app.control.ended(&order).await;
    let stock = app.control.post("/v1/workflows/trigger", &json!({ "workflow": "inventory-reconcile" })).await.run();
    app.control.ended(&stock).await;
    let returns = app.control.post("/v1/workflows/trigger", &json!({ "workflow": "returns-batch" })).await.run();
    let open = app.control.until("/v1/approvals", |page| page["items"].as_array().unwrap().len() == 2).await;
    for (item, decision) in open["items"].as_array().unwrap().iter().zip(["approve", "reject"]) {
        let answer = json!({ "decision": decision, "form": { "reason": "damaged" } });
        app.control.post(&format!("/v1/approvals/{}", item["id"].as_str().unwrap()), &answer).await.expect(200);
    }
    app.control.ended(&returns).await;

    let (url, out) = (app.running.control_url.clone(), folder.path("recorded"));
    let env = folder.env.clone();
    let (at, out_text) = (folder.path(""), out.to_str().unwrap().to_owned());
    let runs = [(order, "order"), (stock, "stock"), (returns, "returns")];
    let says = tokio::task::spawn_blocking(move || {
        let mut says = String::new();
        for (run, name) in &runs {
            let arguments = ["record", run, "--url", &url, "--out", &out_text, "--name", name, "--redact", "$.email"];
            let made = clawhook(&at, &arguments, env.clone());
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let again = clawhook(&at, &arguments, env.clone());
            assert_eq!(again.status.code(), Some(1), "nothing is written over");
        }
        let played = clawhook(&at, &["test", "recorded"], env);
        says.push_str(&String::from_utf8(played.stdout).unwrap());
        says.push_str(&String::from_utf8(played.stderr).unwrap());
        assert_eq!(played.status.code(), Some(0), "{says}");
        says
    });
    let says = says.await.unwrap();
    assert_eq!(says.matches('✓').count(), 3, "{says}");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let all: String = ["order", "stock", "returns"]
        .iter()
        .flat_map(|name| [format!("{name}.test.yaml"), format!("fixtures/{name}.yaml")])
        .map(|name| read(&name))
        .collect();
    for gone in [examples::KEY, examples::ERP_KEY, "ann@example.com", "Annabel"] {
        assert!(!all.contains(gone), "`{gone}` is in what was recorded:\n{all}");
    }
    assert!(all.contains("5123456789012345678") && all.contains("decision: reject"), "{all}");
    app.stop().await;
}
