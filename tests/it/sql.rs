//! `sql_query`, `sql_exec` and `sql_load` on a real PostgreSQL: digits, transactions, refused rows, and a gateway that is
//! killed in the middle.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::{App, Folder};
use crate::download::{FarEnd, ROWS, Reply, resident_mib, run, settings, table_rows};
use crate::process::Process;
use crate::store_contract::database::Database;
use crate::tables::output;

/// A folder with a database `shop`; each workflow is its name and its tasks.
fn folder(database: &Database, url: &str, workflows: &[(&str, &str)]) -> Folder {
    let place = database.keys(database.port());
    let folder = Folder::new(&format!("{}databases: {{ shop: {{ type: postgres, {place} }} }}\n", settings(url)), None);
    folder.secret("far-key", "k");
    folder.secret("postgres", &database.password());
    for (name, tasks) in workflows {
        folder.write(
            &format!("workflows/{name}.yaml"),
            &format!("version: 1\nname: {name}\ntimeout: 30m\ntasks:\n{tasks}"),
        );
    }
    folder
}

const MAKE: &str = r#"
  - id: make
    type: sql_exec
    with:
      database: shop
      statements:
        - sql: "CREATE TABLE stock (sku text PRIMARY KEY, name varchar(20), qty bigint NOT NULL, price numeric, sold boolean, at timestamptz)"
"#;

fn count(sql: &str) -> String {
    format!("  - {{ id: count, type: sql_query, with: {{ database: shop, sql: \"{sql}\" }} }}\n")
}

async fn rows(app: &App, workflow: &str) -> Value {
    output(&run(app, workflow).await, "count")["rows"].clone()
}

#[tokio::test]
async fn values_keep_their_digits_both_ways() {
    let Some(database) = Database::create().await else { return };
    let tasks = format!(
        "{MAKE}{}",
        r#"
  - id: add
    type: sql_exec
    with:
      database: shop
      once: true
      statements:
        - sql: "INSERT INTO stock VALUES ($1, $2, $3, $4, $5, $6)"
          params: [ A-1, "橡木灯 'x'", 9007199254740993, 12345678901234567890.123456789, true, "2026-11-22T17:00:00+08:00" ]
        - { sql: "UPDATE stock SET qty = qty + 1 WHERE sku = ANY($1)", params: [ [ A-1, "B\"2" ] ] }
  - id: count
    type: sql_query
    with: { database: shop, sql: "SELECT *, NULL::int AS none FROM stock WHERE price > $1 -- all", params: [ 1.5 ] }
"#
    );
    let folder = folder(&database, "http://127.0.0.1:1", &[("get", &tasks)]);
    let app = folder.start().await;
    let run = run(&app, "get").await;
    assert_eq!(output(&run, "add")["statements"], json!([{ "affected": 1 }, { "affected": 1 }]));
    let text = output(&run, "count")["rows"][0].to_string();
    assert!(text.contains("9007199254740994") && text.contains("12345678901234567890.123456789"), "{text}");
    assert!(
        text.contains("2026-11-22T09:00:00+00:00") && text.contains("橡木灯 'x'") && text.contains("\"none\":null"),
        "{text}"
    );
    app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_told_and_undone() {
    let Some(database) = Database::create().await else { return };
    let exec = |statements: &str| {
        format!("  - {{ id: x, type: sql_exec, with: {{ database: shop, statements: [ {statements} ] }} }}\n")
    };
    let workflows = [
        ("make", MAKE.to_owned(), ""),
        ("twice", exec("{ sql: \"INSERT INTO stock (sku, qty) VALUES ('a', 1)\" }, { sql: \"INSERT INTO stock (sku, qty) VALUES ('a', 1)\" }"), "sql.conflict"),
        ("wrong", exec("{ sql: \"INSERT INTO nothing VALUES (1)\" }"), "sql.failed"),
        ("params", exec("{ sql: \"SELECT $1::int\", params: [] }"), "sql.failed"),
        ("writes", count("WITH a AS (INSERT INTO stock (sku, qty) VALUES ('b', 1) RETURNING 1) SELECT * FROM a"), "sql.failed"),
        ("many", "  - { id: x, type: sql_query, with: { database: shop, sql: \"SELECT generate_series(1, 10) AS n\", max_rows: 9 } }\n".into(), "sql.rows"),
        ("slow", "  - { id: x, type: sql_query, timeout: 300ms, with: { database: shop, sql: \"SELECT pg_sleep(20)::text AS s\" } }\n".into(), "task.timeout"),
        ("left", count("SELECT count(*) AS n FROM stock"), ""),
    ];
    let all: Vec<_> = workflows.iter().map(|(name, tasks, _)| (*name, tasks.as_str())).collect();
    let folder = folder(&database, "http://127.0.0.1:1", &all);
    let app = folder.start().await;
    for (name, _, code) in &workflows {
        let run = run(&app, name).await;
        assert_eq!(run["failure"]["code"].as_str().unwrap_or_default(), *code, "{name}: {run}");
    }
    assert_eq!(rows(&app, "left").await, json!([{ "n": 0 }]), "a transaction is all or nothing");
    app.stop().await;
}

#[tokio::test]
async fn a_private_database_wants_to_be_allowed() {
    let Some(database) = Database::create().await else { return };
    let folder = folder(&database, "http://127.0.0.1:1", &[("get", &count("SELECT 1 AS one"))]);
    let text = std::fs::read_to_string(folder.path("clawhook.yaml")).unwrap();
    folder.write(
        "clawhook.yaml",
        &text.replace("egress: { allow: [\"127.0.0.0/8\"] }\nconnections", "connections").replace(
            "connections: { far: { base_url: \"http://127.0.0.1:1\",",
            "connections: { far: { base_url: \"https://far.example\",",
        ),
    );
    let app = folder.start().await;
    let run = run(&app, "get").await;
    assert_eq!(run["failure"]["code"], "http.egress", "{run}");
    app.stop().await;
}

fn load(more: &str) -> String {
    format!(
        "  - {{ id: file, type: http_download, connection: far, with: {{ path: /stock.csv }} }}\n  - id: load\n    type: sql_load\n    with: {{ database: shop, table: stock, source: {{ from: \"${{{{ tasks.file.file }}}}\" }}, {more} }}\n"
    )
}

#[tokio::test]
async fn good_rows_are_loaded_and_bad_ones_are_told() {
    let Some(database) = Database::create().await else { return };
    let first = "sku,name,qty,price,sold,at\r\nA,lamp,1,1.50,yes,2026-11-22\r\nB,\"back\\slash\ttab\",2,,,\r\nA,lamp 2,3,1.75,no,\r\n";
    let second = "sku,name,qty,price,sold,at\nB,b,20,,,\nC,c,many,,,\nD,d\nE,a name that is too long,5,,,\nF,f,,,,\nG,g,7,7.7,,\n";
    let body = |text: &str| Reply::ok("content-type: text/csv\r\n", text.as_bytes());
    let far = FarEnd::start(vec![body(first), body(second), body(second)]).await;
    let upsert = "upsert: { keys: [sku] }";
    let folder = folder(
        &database,
        &far.url,
        &[
            ("make", MAKE),
            ("first", &load(upsert)),
            ("strict", &load(&format!("{upsert}, reject_threshold: 3"))),
            ("loose", &load(&format!("{upsert}, reject_threshold: 70%"))),
            ("left", &count("SELECT sku, name, qty, price, sold FROM stock ORDER BY sku")),
        ],
    );
    let app = folder.start().await;
    run(&app, "make").await;
    let done = run(&app, "first").await;
    let loaded = output(&done, "load");
    assert_eq!(
        (&loaded["read"], &loaded["inserted"], &loaded["updated"]),
        (&json!(3), &json!(2), &json!(0)),
        "the last of A counts"
    );
    let before = rows(&app, "left").await;
    assert_eq!(before[1]["name"], "back\\slash\ttab");
    assert_eq!((&before[0]["qty"], &before[0]["sold"]), (&json!(3), &json!(false)));

    let refused = run(&app, "strict").await;
    assert_eq!(refused["failure"]["code"], "sql.rejects", "{refused}");
    assert!(refused["failure"]["message"].as_str().unwrap().contains("4 of 6 rows"), "{refused}");
    assert_eq!(rows(&app, "left").await, before, "nothing was loaded");
    let id = refused["id"].as_str().unwrap();
    let listed = app.control.get(&format!("/v1/runs/{id}/artifacts")).await;
    let rejects = listed["items"].as_array().unwrap().iter().find(|item| item["name"] == "rejects.jsonl").unwrap();
    let text =
        app.control.ask(&format!("/v1/runs/{id}/artifacts/{}", rejects["artifact"].as_str().unwrap())).await.text;
    for says in [
        "\"line\":3,\"reason\":\"`qty` is no bigint: many\"",
        "\"line\":4,\"reason\":\"it has 2 fields where there are 6 columns\"",
        "\"line\":5,\"reason\":\"`name` has more than 20 characters\"",
        "\"line\":6,\"reason\":\"`qty` is missing\"",
    ] {
        assert!(text.contains(says), "{says} in {text}");
    }

    let done = run(&app, "loose").await;
    let loaded = output(&done, "load");
    assert_eq!(
        (&loaded["rejected"], &loaded["inserted"], &loaded["updated"]),
        (&json!(4), &json!(1), &json!(1)),
        "{loaded}"
    );
    let after = rows(&app, "left").await;
    assert_eq!((&after[1]["qty"], &after[2]["price"]), (&json!(20), &serde_json::from_str("7.7").unwrap()));
    app.stop().await;
}

#[tokio::test]
async fn rows_without_their_key_are_refused() {
    let Some(database) = Database::create().await else { return };
    let text = "sku,name,qty\nA,a,1\n,b,2\n,c,3\n";
    let far = FarEnd::start(vec![Reply::ok("content-type: text/csv\r\n", text.as_bytes()); 3]).await;
    let folder = folder(
        &database,
        &far.url,
        &[
            ("make", &MAKE.replace("PRIMARY KEY", "UNIQUE")),
            ("strict", &load("upsert: { keys: [sku] }")),
            ("loose", &load("upsert: { keys: [sku] }, reject_threshold: 2")),
            ("left", &count("SELECT sku, qty FROM stock")),
        ],
    );
    let app = folder.start().await;
    run(&app, "make").await;
    let refused = run(&app, "strict").await;
    assert_eq!(refused["failure"]["code"], "sql.rejects", "{refused}");
    for inserted in [1, 0] {
        let done = run(&app, "loose").await;
        let loaded = output(&done, "load");
        assert_eq!((&loaded["rejected"], &loaded["inserted"]), (&json!(2), &json!(inserted)), "{loaded}");
        let place = format!(
            "/v1/runs/{}/artifacts/{}",
            done["id"].as_str().unwrap(),
            loaded["rejects"]["artifact"].as_str().unwrap()
        );
        let rejects = app.control.ask(&place).await.text;
        for line in [3, 4] {
            let says = format!("\"line\":{line},\"reason\":\"the key `sku` is missing\"");
            assert!(rejects.contains(&says), "{says} in {rejects}");
        }
    }
    assert_eq!(rows(&app, "left").await, json!([{ "sku": "A", "qty": 1 }]));
    app.stop().await;
}

/// A table of this many rows, each with a number of its own.
fn numbered(rows: u32) -> Vec<u8> {
    let mut text = b"sku,qty\n".to_vec();
    for row in 0..rows {
        text.extend(format!("S-{row},{row}\n").bytes());
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_killed_is_done_once() {
    const ROWS: u32 = 60_000;
    const KILLS: u32 = 4;
    let Some(database) = Database::create().await else { return };
    let table = Reply::ok("content-type: text/csv\r\n", &numbered(ROWS));
    let far = FarEnd::start(vec![table; 12]).await;
    // Without keys: a second load would show.
    let folder = folder(
        &database,
        &far.url,
        &[
            ("make", &MAKE.replace("PRIMARY KEY", "")),
            ("load", &load("once: true")),
            ("left", &count("SELECT count(*) AS n, sum(qty) AS total FROM stock")),
        ],
    );
    let process = Process::start(&folder, "warn").await;
    let made = process.control.post("/v1/workflows/trigger", &json!({ "workflow": "make", "inputs": {} })).await.run();
    process.control.ended(&made).await;
    let run = process.control.post("/v1/workflows/trigger", &json!({ "workflow": "load", "inputs": {} })).await.run();
    let mut process = Some(process);
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rand::random_range(50..900))).await;
        process.take().unwrap().kill();
        process = Some(Process::start(&folder, "warn").await);
    }
    let process = process.unwrap();
    let done = process.control.until(&format!("/v1/runs/{run}"), |run| run["ended_at"].is_string()).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    let left = process.control.post("/v1/workflows/trigger", &json!({ "workflow": "left", "inputs": {} })).await.run();
    let left = process.control.ended(&left).await;
    let total: u64 = (0..u64::from(ROWS)).sum();
    assert_eq!(output(&left, "count")["rows"], json!([{ "n": ROWS, "total": total }]));
    process.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "the reading is what the test is run for by hand")]
async fn memory_stays_flat_from_the_far_end_to_the_database() {
    let Some(database) = Database::create().await else { return };
    let mib: u64 = std::env::var("DOWNLOAD_MIB").ok().map_or(48, |text| text.parse().unwrap());
    let times = (mib * 1024 * 1024).div_ceil(table_rows().len() as u64);
    let far = FarEnd::start(vec![Reply::Packed(times)]).await;
    let make = "  - { id: make, type: sql_exec, with: { database: shop, statements: [ { sql: \"CREATE UNLOGGED TABLE flood (a text, b text, c int, d numeric, e boolean)\" } ] } }\n";
    let tasks = format!(
        "{make}  - {{ id: file, type: http_download, connection: far, timeout: 20m, with: {{ path: /flood, max_size: 8GiB }} }}\n  - id: load\n    type: sql_load\n    timeout: 25m\n    with: {{ database: shop, table: flood, once: true, source: {{ from: \"${{{{ tasks.file.file }}}}\", header: false }}, columns: {{ a: column_1, b: column_2, c: column_3, d: column_4, e: column_5 }} }}\n"
    );
    let folder = folder(&database, &far.url, &[("get", &tasks)]);
    let process = Process::start(&folder, "warn").await;
    let (before, _) = resident_mib(process.id());
    let run = process.control.post("/v1/workflows/trigger", &json!({ "workflow": "get", "inputs": {} })).await.run();
    let mut done = Value::Null;
    // As long as the machine needs; the run has its own limit.
    while !done["ended_at"].is_string() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        done = process.control.get(&format!("/v1/runs/{run}")).await;
    }
    assert_eq!(output(&done, "load")["inserted"], times * ROWS);
    let (_, most) = resident_mib(process.id());
    eprintln!("{mib} MiB of table: {before} MiB resident before, {most} MiB at most");
    assert!(most < before + 64, "it held {most} MiB, {before} before, for {mib} MiB");
    process.stop();
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_tried_again() {
    let Some(database) = Database::create().await else { return };
    let make = "  - { id: make, type: sql_exec, with: { database: shop, statements: [ { sql: CREATE TABLE marks (n int) } ] } }\n";
    let victim = "  - id: count\n    type: sql_query\n    retry: 1\n    retry_delay: 1ms\n    with:\n      database: shop\n      sql: \"SELECT CASE WHEN EXISTS (SELECT FROM marks) THEN 'done' ELSE pg_sleep(60)::text END AS s\"\n";
    let end = "  - id: end\n    type: sql_exec\n    with:\n      database: shop\n      statements:\n        - { sql: INSERT INTO marks VALUES (1) }\n        - { sql: \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'\" }\n";
    let sleeping =
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let folder = folder(
        &database,
        "http://127.0.0.1:1",
        &[("make", make), ("victim", victim), ("end", end), ("sleeping", &count(sleeping))],
    );
    let app = folder.start().await;
    run(&app, "make").await;
    let trigger = json!({ "workflow": "victim", "inputs": {} });
    let id = app.control.post("/v1/workflows/trigger", &trigger).await.run();
    while rows(&app, "sleeping").await != json!([{ "n": 1 }]) {}
    run(&app, "end").await;
    let done = app.control.ended(&id).await;
    assert_eq!(output(&done, "count")["rows"], json!([{ "s": "done" }]));
    let attempts = done["tasks"][0]["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["failure"]["code"]), (2, &json!("sql.lost")), "{done}");
    app.stop().await;
}
