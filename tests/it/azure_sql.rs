//! `sql_query` and `sql_exec` on Azure SQL, against a stand-in that speaks TDS: what is sent at the door and after it, what
//! becomes of types and errors, and a connection that breaks. No real server takes part: that its SQL is understood is not
//! shown here.

use serde_json::{Value, json};

use crate::app::{App, Folder};
use crate::download::{FarEnd, Reply as Http, run, settings};
use crate::process::Process;
use crate::tables::output;
use crate::tds::{Asked, Door, Reply, Tds, wide};

const PASSWORD: &str = "auth: password, user: clawhook, password: { secret_ref: sql }";

/// A folder with a database `shop` behind the stand-in, and one workflow of this task.
fn folder(tds: &Tds, auth: &str, more: &str, task: &str) -> Folder {
    let place = format!("host: localhost, port: {}, database: orders, {auth}, ca: ca.pem", tds.port);
    let databases = format!("databases: {{ shop: {{ type: azure-sql, {place} }} }}\n");
    let folder = Folder::new(&format!("{}{databases}{more}", settings("http://127.0.0.1:1")), None);
    folder.secret("far-key", "k");
    folder.secret("sql", "geheim & 密码");
    folder.write("ca.pem", &tds.authority);
    folder.write("workflows/get.yaml", &format!("version: 1\nname: get\ntasks:\n{task}"));
    folder
}

async fn app(tds: &Tds, task: &str) -> App {
    folder(tds, PASSWORD, "", task).start().await
}

fn query(sql: &str, more: &str) -> String {
    format!("  - {{ id: get, type: sql_query, {more} with: {{ database: shop, sql: \"{sql}\" }} }}\n")
}

#[tokio::test]
async fn a_login_goes_through_tls_and_rows_keep_their_digits() {
    let collation = [9, 4, 0xd0, 0, 0x34];
    let columns = vec![
        ("id", vec![0x26, 8]),
        ("price", vec![0x6a, 17, 38, 10]),
        ("fee", vec![0x6e, 8]),
        ("name", [&[0xe7, 40, 0][..], &collation].concat()),
        ("note", [&[0xe7, 0xff, 0xff][..], &collation].concat()),
        ("sold", vec![0x68, 1]),
        ("key", vec![0x24, 16]),
        ("raw", vec![0xa5, 8, 0]),
        ("day", vec![0x28]),
        ("at", vec![0x2a, 7]),
        ("seen", vec![0x2b, 0]),
        ("none", vec![0x26, 4]),
    ];
    let price: u128 = 12_345_678_901_234_567_890_123_456_789;
    let name = wide("橡木灯 'x'");
    let day = 739_941_u32.to_le_bytes();
    let row = [
        &[8][..],
        &9_007_199_254_740_993_i64.to_le_bytes(),
        &[17, 0],
        &price.to_le_bytes(),
        // Money: the high half first. 3 × 2^32 + 70,000 ten-thousandths.
        &[8],
        &3_u32.to_le_bytes(),
        &70_000_u32.to_le_bytes(),
        &u16::try_from(name.len()).unwrap().to_le_bytes(),
        &name,
        // In two pieces.
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &2_u32.to_le_bytes(),
        &wide("a"),
        &4_u32.to_le_bytes(),
        &wide("bc"),
        &[0; 4],
        &[1, 1],
        &[16, 0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff],
        &[2, 0, 0, 255],
        &[3],
        &day[..3],
        &[8],
        &612_000_000_001_u64.to_le_bytes()[..5],
        &day[..3],
        &[8],
        &72_000_u32.to_le_bytes()[..3],
        &day[..3],
        &480_i16.to_le_bytes(),
        &[0],
    ]
    .concat();
    let tds = Tds::start(Door::Open, move |sql| {
        sql.contains("FROM stock").then(|| Reply::Table(columns.clone(), vec![row.clone()]))
    })
    .await;
    let task = r#"
  - id: get
    type: sql_query
    with:
      database: shop
      sql: "SELECT * FROM stock WHERE sku = @P1 AND qty > @P2 AND price < @P3 AND sold = @P4 AND gone = @P5 AND more = @P6"
      params: [ "A-1 '; DROP", 9007199254740993, 12345678901234567890.50, true, null, { a: [ 1 ] } ]
"#;
    let app = app(&tds, task).await;
    let run = run(&app, "get").await;
    let rows = output(&run, "get")["rows"][0].to_string();
    assert_eq!(
        rows,
        concat!(
            r#"{"id":9007199254740993,"price":-1234567890123456789.0123456789,"fee":1288497.1888,"name":"橡木灯 'x'","#,
            r#""note":"abc","sold":true,"key":"00112233-4455-6677-8899-aabbccddeeff","raw":"AP8=","day":"2026-11-22","#,
            r#""at":"2026-11-22T17:00:00.0000001","seen":"2026-11-23T04:00:00+08:00","none":null}"#
        )
    );
    let asked = tds.asked();
    let login = json!({ "user": "clawhook", "password": "geheim & 密码", "app": "clawhook task", "database": "orders", "token": null });
    assert_eq!(asked[0], Asked::Login(login));
    let Asked::Batch(set_up) = &asked[1] else { panic!("{asked:?}") };
    assert!(set_up.contains("SET XACT_ABORT ON") && set_up.contains("SET LOCK_TIMEOUT "), "{set_up}");
    assert_eq!(asked[2], Asked::Batch("BEGIN TRANSACTION".to_owned()));
    let Asked::Call(sql, types, values) = &asked[3] else { panic!("{asked:?}") };
    assert!(sql.ends_with("more = @P6"), "{sql}");
    let expected = "@P1 nvarchar(4000),@P2 bigint,@P3 numeric(22,2),@P4 bit,@P5 nvarchar(4000),@P6 nvarchar(4000)";
    assert_eq!(types, expected);
    assert_eq!(
        *values,
        [
            json!("A-1 '; DROP"),
            json!(9_007_199_254_740_993_i64),
            json!("12345678901234567890.50"),
            json!(true),
            Value::Null,
            json!("{\"a\":[1]}")
        ]
    );
    assert_eq!(asked.last(), Some(&Asked::Batch("ROLLBACK TRANSACTION".to_owned())), "a query writes nothing");
    app.stop().await;
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let number = || vec![("n", vec![0x26, 4])];
    let one = || vec![vec![4, 1, 0, 0, 0]];
    for (door, reply, sql, code, says) in [
        (
            Door::Refused(18456, "Login failed for user 'clawhook'."),
            Reply::Met(0),
            "SELECT 1 AS n",
            "sql.connect",
            "[18456]",
        ),
        (
            Door::Refused(40615, "Client with IP address '1.2.3.4' is not allowed."),
            Reply::Met(0),
            "SELECT 1 AS n",
            "sql.connect",
            "[40615]",
        ),
        (Door::Plain, Reply::Met(0), "SELECT 1 AS n", "sql.connect", "encryption"),
        (
            Door::Open,
            Reply::Error(208, "Invalid object name 'stok'."),
            "SELECT * FROM stok",
            "sql.failed",
            "Invalid object name 'stok'. [208]",
        ),
        (Door::Open, Reply::Error(1205, "You are the victim."), "SELECT 2 AS n", "sql.busy", "[1205]"),
        (Door::Open, Reply::Error(40613, "Not currently available."), "SELECT 2 AS n", "sql.lost", "[40613]"),
        (Door::Open, Reply::Broken(number(), one()), "SELECT 3 AS n", "sql.lost", "broke"),
        (Door::Open, Reply::Met(1), "DELETE FROM stock", "sql.failed", "gives no rows"),
        (
            Door::Open,
            Reply::Table([number(), number()].concat(), vec![]),
            "SELECT 1 AS n, 1 AS n",
            "sql.failed",
            "the same name",
        ),
        (Door::Open, Reply::Table(vec![("", vec![0x26, 4])], one()), "SELECT 1", "sql.failed", "has no name"),
        (Door::Open, Reply::Table(number(), one()), "SELECT $1 AS n WHERE 1 = @P1", "sql.failed", "has 1 parameters"),
    ] {
        let tds = Tds::start(door.clone(), move |asked| asked.starts_with(&sql[..8]).then(|| reply.clone())).await;
        let app = app(&tds, &query(sql, "")).await;
        let run = run(&app, "get").await;
        let text = run["failure"].to_string();
        assert_eq!(run["failure"]["code"], code, "{sql}: {text}");
        assert!(text.contains(says) && text.contains("shop"), "{sql}: {text}");
        if matches!(door, Door::Plain) {
            assert!(tds.asked().is_empty(), "no password goes over an open line");
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn a_broken_connection_is_tried_again() {
    let table = || vec![("n", vec![0x26, 4])];
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let tds = Tds::start(Door::Open, move |sql| {
        sql.starts_with("SELECT 7").then(|| match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Reply::Broken(table(), vec![vec![4, 7, 0, 0, 0]]),
            _ => Reply::Table(table(), vec![vec![4, 7, 0, 0, 0]]),
        })
    })
    .await;
    let app = app(&tds, &query("SELECT 7 AS n", "retry: 1, retry_delay: 1ms,")).await;
    let run = run(&app, "get").await;
    assert_eq!(output(&run, "get")["rows"], json!([{ "n": 7 }]), "half an answer is none");
    app.stop().await;
}

const EXEC: &str = r#"
  - id: put
    type: sql_exec
    with:
      database: shop
      once: true
      statements:
        - { sql: "UPDATE stock SET qty = qty - @P1 WHERE sku = @P2", params: [ 3, A-1 ] }
        - { sql: "DELETE FROM stock WHERE qty = 0" }
"#;

#[tokio::test]
async fn statements_are_one_transaction_with_their_mark() {
    let tds = Tds::start(Door::Open, |sql| match sql {
        sql if sql.starts_with("UPDATE stock") => Some(Reply::Met(2)),
        sql if sql.starts_with("DELETE") => Some(Reply::Met(5)),
        _ => None,
    })
    .await;
    let app = app(&tds, EXEC).await;
    let done = run(&app, "get").await;
    let expected = json!({ "affected": 7, "statements": [ { "affected": 2 }, { "affected": 5 } ], "repeated": false });
    assert_eq!(*output(&done, "put"), expected);
    let statements: Vec<_> =
        tds.statements().iter().map(|sql| sql.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        statements,
        [
            "SET XACT_ABORT ON;",
            "SELECT OBJECT_ID(N'clawhook_once', N'U')",
            "CREATE TABLE clawhook_once",
            "BEGIN TRANSACTION",
            "INSERT INTO clawhook_once",
            "UPDATE stock SET",
            "DELETE FROM stock",
            "UPDATE clawhook_once SET",
            "SELECT @@TRANCOUNT AS",
            "COMMIT TRANSACTION"
        ]
    );
    let kept = tds.asked().into_iter().find_map(|asked| match asked {
        Asked::Call(sql, _, values) if sql.starts_with("UPDATE clawhook_once") => Some(values),
        _ => None,
    });
    let kept = kept.unwrap();
    assert_eq!(kept[1], expected.to_string());
    assert!(kept[0].as_str().unwrap().contains("put"), "{kept:?}");
    app.stop().await;
}

#[tokio::test]
async fn what_was_done_is_not_done_again() {
    let tds = Tds::start(Door::Open, |sql| match sql {
        sql if sql.starts_with("INSERT INTO clawhook_once") => Some(Reply::Met(0)),
        sql if sql.starts_with("SELECT output") => {
            let text = wide("{\"affected\":4,\"repeated\":false}");
            let row = [&u16::try_from(text.len()).unwrap().to_le_bytes()[..], &text].concat();
            Some(Reply::Table(vec![("output", vec![0xe7, 200, 0, 9, 4, 0xd0, 0, 0x34])], vec![row]))
        }
        _ => None,
    })
    .await;
    let app = app(&tds, EXEC).await;
    let done = run(&app, "get").await;
    assert_eq!(*output(&done, "put"), json!({ "affected": 4, "repeated": true }));
    let statements = tds.statements();
    assert!(!statements.iter().any(|sql| sql.starts_with("UPDATE") || sql.starts_with("COMMIT")), "{statements:?}");
    app.stop().await;
}

#[tokio::test]
async fn a_statement_that_ends_the_transaction_is_told() {
    let tds = Tds::start(Door::Open, |sql| {
        let state = || vec![("open_ones", vec![0x26, 4]), ("state", vec![0x26, 2])];
        sql.contains("@@TRANCOUNT").then(|| Reply::Table(state(), vec![vec![4, 0, 0, 0, 0, 2, 0, 0]]))
    })
    .await;
    let app = app(&tds, EXEC).await;
    let done = run(&app, "get").await;
    assert_eq!(done["failure"]["code"], "sql.failed", "{done}");
    assert!(!tds.statements().contains(&"COMMIT TRANSACTION".to_owned()));
    app.stop().await;
}

#[tokio::test]
async fn a_commit_that_breaks_is_not_done_again_by_itself() {
    let tds = Tds::start(Door::Open, |sql| (sql == "COMMIT TRANSACTION").then(|| Reply::Broken(vec![], vec![]))).await;
    let task =
        EXEC.replace("      once: true\n", "").replace("    with:", "    retry: 3\n    retry_delay: 1ms\n    with:");
    let app = app(&tds, &task).await;
    let done = run(&app, "get").await;
    assert_eq!(done["failure"]["code"], "sql.lost", "{done}");
    assert_eq!(
        tds.statements().iter().filter(|sql| sql.starts_with("COMMIT")).count(),
        1,
        "whether it was done is not known"
    );
    app.stop().await;
}

#[tokio::test]
async fn a_redirect_is_followed_through_the_guard() {
    let there = Tds::start(Door::Open, |sql| {
        sql.starts_with("SELECT 1").then(|| Reply::Table(vec![("n", vec![0x26, 4])], vec![vec![4, 1, 0, 0, 0]]))
    })
    .await;
    let here = Tds::start(Door::Elsewhere("localhost\\shop".to_owned(), there.port), |_| None).await;
    let both = folder(&here, PASSWORD, "", &query("SELECT 1 AS n", ""));
    both.write("ca.pem", &format!("{}{}", here.authority, there.authority));
    let app = both.start().await;
    let done = run(&app, "get").await;
    assert_eq!(output(&done, "get")["rows"], json!([{ "n": 1 }]));
    assert_eq!((here.asked().len(), matches!(there.asked()[0], Asked::Login(_))), (1, true));
    app.stop().await;

    // An address that nobody allowed: it is the guard that says no, and nobody is called.
    for (door, code) in [
        (Door::Elsewhere("10.99.0.1".to_owned(), 1433), "http.egress"),
        (Door::Elsewhere("localhost".to_owned(), 1), "sql.connect"),
    ] {
        let tds = Tds::start(door, |_| None).await;
        let app = self::app(&tds, &query("SELECT 1 AS n", "")).await;
        let done = run(&app, "get").await;
        assert_eq!(done["failure"]["code"], code, "{done}");
        app.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_no_password() {
    let (tds, other) = (Tds::start(Door::Open, |_| None).await, Tds::start(Door::Open, |_| None).await);
    let folder = folder(&tds, PASSWORD, "", &query("SELECT 1 AS n", ""));
    folder.write("ca.pem", &other.authority);
    let app = folder.start().await;
    let done = run(&app, "get").await;
    assert_eq!(done["failure"]["code"], "sql.connect", "{done}");
    assert!(done["failure"].to_string().contains("cannot be trusted"), "{done}");
    assert!(tds.asked().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn an_identity_signs_in_with_its_token() {
    let tds = Tds::start(Door::Open, |sql| {
        sql.starts_with("SELECT 1").then(|| Reply::Table(vec![("n", vec![0x26, 4])], vec![vec![4, 1, 0, 0, 0]]))
    })
    .await;
    let token = json!({ "access_token": "t0ken.of.the.machine", "expires_on": "4102444800", "token_type": "Bearer",
        "resource": "https://database.windows.net", "client_id": "c" });
    let far =
        FarEnd::start(vec![Http::ok("content-type: application/json\r\n", token.to_string().as_bytes()); 2]).await;
    let mut folder = folder(&tds, "auth: entra", "azure: { identity: managed }\n", &query("SELECT 1 AS n", ""));
    folder.env.insert("IDENTITY_ENDPOINT".to_owned(), format!("{}/token", far.url));
    folder.env.insert("IDENTITY_HEADER".to_owned(), "h".to_owned());
    // Where the identity is, is read from the environment of the process itself.
    let process = Process::start(&folder, "info").await;
    let trigger = json!({ "workflow": "get", "inputs": {} });
    let id = process.control.post("/v1/workflows/trigger", &trigger).await.run();
    let done = process.control.ended(&id).await;
    assert_eq!(output(&done, "get")["count"], 1);
    let Asked::Login(login) = &tds.asked()[0] else { panic!("{:?}", tds.asked()) };
    assert_eq!((&login["token"], &login["user"]), (&json!("t0ken.of.the.machine"), &json!("")));
    let asked = far.requests().concat();
    assert!(asked.contains("resource=https%3a%2f%2fdatabase.windows.net"), "{asked}");
    let said = process.stop();
    assert!(!said.contains("t0ken.of.the.machine"), "{said}");
}

#[tokio::test]
async fn a_load_is_for_a_later_version() {
    let tds = Tds::start(Door::Open, |_| None).await;
    let task = "  - { id: load, type: sql_load, with: { database: shop, table: stock, source: { from: \"${{ [ { a: 1 } ] }}\" } } }\n";
    let folder = folder(&tds, PASSWORD, "", task);
    let config = folder.path("clawhook.yaml");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_clawhook"));
    let output = command.arg("check").arg("--config").arg(config).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && text.contains("spec.later") && text.contains("OPENJSON(@P1)"), "{text}");
}
