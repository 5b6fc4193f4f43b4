//! Tables: read, asked with SQL, written down.

use serde_json::{Value, json};

use crate::app::{App, Folder};
use crate::download::{FarEnd, Reply, run, settings};

/// What task `id` of a run gave.
pub(crate) fn output<'r>(run: &'r Value, id: &str) -> &'r Value {
    assert_eq!(run["status"], "succeeded", "{run}");
    let task = run["tasks"].as_array().unwrap().iter().find(|task| task["id"] == id).unwrap();
    &task["attempts"].as_array().unwrap().last().unwrap()["output"]
}

pub(crate) async fn app(url: &str, more: &str, tasks: &str) -> App {
    let folder = Folder::new(&format!("{}{more}", settings(url)), None);
    folder.secret("far-key", "k");
    folder.write("workflows/get.yaml", &format!("version: 1\nname: get\ntasks:\n{tasks}"));
    folder.start().await
}

#[tokio::test]
async fn tables_of_all_kinds_meet_in_one_query() {
    // 2^53 + 1 and 28 digits: what a float would lose.
    let report = "sku;已售;总额\nA-1;9007199254740993;123456789012345678901234.5678\nB-2;2;0.10\nB-2;3;0.20\n";
    let far = FarEnd::start(vec![Reply::ok(
        "content-type: text/csv; charset=gb18030\r\n",
        &encoding_rs::GB18030.encode(report).0,
    )])
    .await;
    let app = app(
        &far.url,
        "limits: { inline_max: 100B }\n",
        r#"
  - { id: report, type: http_download, connection: far, with: { path: /report } }
  - id: sold
    type: table_query
    with:
      tables:
        report: { from: "${{ tasks.report.file }}", delimiter: ";", types: { 已售: integer, 总额: decimal } }
        shop: [ { sku: A-1, on_hand: 4, name: "橡木灯, 大" }, { sku: B-2, on_hand: 7 } ]
      params: { least: "${{ 1 + 1 }}" }
      sql: >-
        SELECT sku, name, sum(已售) AS sold, decimal_sum(总额) AS total, on_hand
        FROM report JOIN shop USING (sku) WHERE 已售 >= :least GROUP BY sku ORDER BY sku
  - id: file
    type: table_query
    with: { tables: { s: "${{ tasks.sold.rows }}" }, sql: "SELECT sku, total, name FROM s", file: { format: csv, name: sold.csv } }
  - id: again
    type: table_query
    with: { tables: { f: "${{ tasks.file.file }}", none: [] }, sql: "SELECT count(*) AS n, (SELECT count(*) FROM none) AS z FROM f" }
"#,
    )
    .await;
    let run = run(&app, "get").await;
    let sold = output(&run, "sold");
    assert_eq!((&sold["rows"]["rows"], &sold["rows"]["media_type"]), (&json!(2), &json!("application/x-ndjson")));
    assert_eq!(output(&run, "again")["rows"], json!([{ "n": 2, "z": 0 }]));
    let fetch = async |handle: &Value| {
        let (id, artifact) = (run["id"].as_str().unwrap(), handle["artifact"].as_str().unwrap());
        app.control.ask(&format!("/v1/runs/{id}/artifacts/{artifact}")).await.text
    };
    let rows = fetch(&sold["rows"]).await;
    assert_eq!(
        rows.lines().next().unwrap(),
        r#"{"sku":"A-1","name":"橡木灯, 大","sold":9007199254740993,"total":"123456789012345678901234.5678","on_hand":4}"#
    );
    assert_eq!(
        fetch(&output(&run, "file")["file"]).await,
        "sku,total,name\r\nA-1,123456789012345678901234.5678,\"橡木灯, 大\"\r\nB-2,0.30,\r\n"
    );
    let listed = app.control.get(&format!("/v1/runs/{}/artifacts", run["id"].as_str().unwrap())).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    app.stop().await;
}

#[tokio::test]
async fn a_query_reads_its_tables_and_nothing_else() {
    for (sql, says) in [
        ("SELECT load_extension('/tmp/x.so')", "no"),
        ("SELECT * FROM pragma_database_list", "more than to read"),
        ("WITH a AS (SELECT 1) DELETE FROM t", "more than to read"),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "more than to read"),
        ("SELECT length(zeroblob(1000000000))", "too large"),
        ("SELECT x FROM t WHERE x > :least", "no value for `:least`"),
        ("SELECT 1 AS a, 2 AS a", "the same name"),
        ("SELECT missing FROM t", "no such column"),
        ("SELECT decimal_add('1', 'x')", "no decimal"),
    ] {
        let task = format!(
            "  - {{ id: q, type: table_query, with: {{ tables: {{ t: [ {{ x: 1 }} ] }}, sql: \"{sql}\" }} }}\n"
        );
        let app = app("http://127.0.0.1:1", "", &task).await;
        let run = run(&app, "get").await;
        let message = run["failure"]["message"].as_str().unwrap_or_default();
        assert!(run["failure"]["code"] == "table.query" && message.contains(says), "{sql}: {run}");
        app.stop().await;
    }
}

#[tokio::test]
async fn a_query_without_an_end_ends_with_its_attempt_and_gives_its_thread_back() {
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) AS n FROM c";
    // More of them than there are threads.
    let endless = |number| {
        format!(
            "  - {{ id: q{number}, type: table_query, timeout: 200ms, continue_on_error: true, \
             with: {{ tables: {{}}, sql: \"{endless}\" }} }}\n"
        )
    };
    let mut tasks: String = (0..6).map(endless).collect();
    tasks.push_str("  - { id: last, type: table_query, with: { tables: {}, sql: SELECT 1 AS one } }\n");
    let app = app("http://127.0.0.1:1", "", &tasks).await;
    let run = run(&app, "get").await;
    assert_eq!(output(&run, "last")["rows"], json!([{ "one": 1 }]));
    assert_eq!(run["tasks"][0]["attempts"][0]["failure"]["code"], "task.timeout", "{run}");
    app.stop().await;
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_told_by_its_line() {
    for (report, says) in [
        ("sku,qty\nA,1\nB\n", "line 3: it has 1 field where there are 2 columns"),
        ("sku,qty\nA,1\n\nB,many\n", "line 4: `qty`: `many` is no whole number"),
    ] {
        let far = FarEnd::start(vec![Reply::ok("content-type: text/csv\r\n", report.as_bytes())]).await;
        let app = app(
            &far.url,
            "",
            "  - { id: f, type: http_download, connection: far, with: { path: /r } }\n  - { id: q, type: table_query, with: { tables: { t: { from: \"${{ tasks.f.file }}\", types: { qty: integer } } }, sql: SELECT * FROM t } }\n",
        )
        .await;
        let run = run(&app, "get").await;
        assert_eq!(run["failure"]["code"], "table.unreadable", "{run}");
        assert!(run["failure"]["message"].as_str().unwrap().contains(says), "{run}");
        app.stop().await;
    }
}
