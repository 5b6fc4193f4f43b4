//! `blob_put` and `blob_get`, on a folder and on Azurite: what goes up comes back, once, whatever breaks; links open one
//! file and end; nobody else's file is touched.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use clawhook::clock::{Clock, SystemClock, TestClock};
use serde_json::{Value, json};

use crate::app::Folder;
use crate::download::{FarEnd, Reply, line, resident_mib, run, settings};
use crate::emulators::wanted;
use crate::process::Process;
use crate::store_contract::azurite::Account;
use crate::tables::output;

/// The account that every Azurite has. Its key is published and protects nothing.
/// <https://learn.microsoft.com/azure/storage/common/storage-connect-azurite>
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

type ByHand = Box<dyn Fn(&Folder, &str, &str, &str) + Send>;

/// A place as the settings name it, and what opens it.
struct Shelf {
    /// The value of `blobs.reports`.
    place: String,
    secret: String,
    /// Whether links are served by somebody else.
    foreign: bool,
    /// Writes a file beside the gateway: path, text, and whom a container is told that it is by.
    by_hand: ByHand,
}

fn in_folder() -> Shelf {
    Shelf {
        place: "{ folder: ./reports }".to_owned(),
        secret: String::new(),
        foreign: false,
        by_hand: Box::new(|folder, path, text, _| {
            let file = folder.path("reports").join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }),
    }
}

/// A container of Azurite, entered by the key of the account; it is made here.
async fn in_container() -> Option<Shelf> {
    let endpoint = wanted("CLAWHOOK_TEST_AZURITE_HTTP_URL")?;
    let sas = wanted("CLAWHOOK_TEST_AZURITE_SAS")?;
    let container = Account::by_signature()?.container();
    let kept = tempfile::tempdir().unwrap();
    container.open(kept.path()).await.close().await;
    let name = container.name.clone();
    let url = format!("{endpoint}/{name}");
    Some(Shelf {
        place: format!("{{ endpoint: \"{endpoint}\", container: {name}, key: {{ secret_ref: account-key }} }}"),
        secret: format!("DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={KEY};"),
        foreign: true,
        by_hand: Box::new(move |_, path, text, by| {
            let (url, text, by) = (format!("{url}/{path}?{sas}"), text.to_owned(), by.to_owned());
            // The hand is another program: it has a thread and a runtime of its own.
            let put = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let put = reqwest::Client::new().put(url).header("x-ms-blob-type", "BlockBlob");
                    let put = put.header("x-ms-meta-clawhook_key", by).body(text);
                    assert_eq!(put.send().await.unwrap().status(), 201);
                });
            });
            put.join().unwrap();
        }),
    })
}

async fn shelves() -> Vec<Shelf> {
    [Some(in_folder()), in_container().await].into_iter().flatten().collect()
}

fn folder(shelf: &Shelf, url: &str, more: &str, workflows: &[(&str, &str)]) -> Folder {
    let folder = Folder::new(&format!("{}blobs: {{ reports: {} }}\n{more}", settings(url), shelf.place), None);
    folder.secret("far-key", "k");
    folder.secret("account-key", &shelf.secret);
    for (name, tasks) in workflows {
        let text = format!("version: 1\nname: {name}\ntimeout: 30m\ntasks:\n{tasks}");
        folder.write(&format!("workflows/{name}.yaml"), &text);
    }
    folder
}

fn put(id: &str, with: &str) -> String {
    format!("  - {{ id: {id}, type: blob_put, with: {{ place: reports, {with} }} }}\n")
}

/// What a plain client gets.
async fn follow(url: &str) -> (u16, Vec<u8>) {
    let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

fn url(run: &Value, id: &str) -> String {
    output(run, id)["link"]["url"].as_str().unwrap().to_owned()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

#[tokio::test]
async fn what_goes_up_comes_back_in_every_form() {
    let rows = "[ { sku: A-1, 名称: \"橡木灯, 大\", n: 9007199254740993 }, { sku: B-2, price: \"0.10\" } ]";
    let csv = "sku,名称,n,price\r\nA-1,\"橡木灯, 大\",9007199254740993,\r\nB-2,,,0.10\r\n";
    for shelf in shelves().await {
        let tasks = [
            put("excel", &format!("path: 报表/十一月 1.csv, format: csv, bom: true, source: {{ from: {rows} }}, link: {{}}")),
            put(
                "packed",
                &format!(
                    "path: r/sales.csv.gz, compress: gzip, source: {{ from: {rows} }}, metadata: {{ shop: us }}, link: {{ expires: 1h }}"
                ),
            ),
            put("lines", &format!("path: r/sales.jsonl, source: {{ from: {rows} }}, link: {{}}")),
            put("value", "path: r/value, source: { from: { a: [1.10, null] } }, link: {}"),
            put("text", "path: r/note.txt, source: { from: 你好 }, link: {}"),
            "  - { id: back, type: blob_get, with: { place: reports, path: r/sales.csv.gz } }\n".to_owned(),
            "  - { id: none, type: blob_get, with: { place: reports, path: r/none.csv, if_missing: none } }\n".to_owned(),
            put("copy", "path: r/copy.csv, source: { from: \"${{ tasks.back.file }}\" }, link: {}"),
            "  - { id: count, type: table_query, with: { tables: { t: \"${{ tasks.back.file }}\" }, sql: \"SELECT sku, n FROM t\" } }\n"
                .to_owned(),
            put("all", "path: r/all.tsv, source: { from: \"${{ tasks.count.rows }}\" }, link: {}"),
        ];
        let folder = folder(&shelf, "http://127.0.0.1:1", "limits: { inline_max: 10B }\n", &[("get", &tasks.concat())]);
        let app = folder.start().await;
        let run = run(&app, "get").await;
        let excel = follow(&url(&run, "excel")).await;
        assert_eq!(excel, (200, format!("\u{feff}{csv}").into_bytes()), "{run}");
        let packed = follow(&url(&run, "packed")).await.1;
        assert_eq!(String::from_utf8(gunzip(&packed)).unwrap(), csv);
        let told = output(&run, "packed");
        assert_eq!((&told["bytes"], &told["content_type"]), (&json!(packed.len()), &json!("application/gzip")));
        let lines = String::from_utf8(follow(&url(&run, "lines")).await.1).unwrap();
        assert_eq!(lines.lines().nth(1).unwrap(), r#"{"sku":"B-2","price":"0.10"}"#);
        assert_eq!(follow(&url(&run, "value")).await.1, b"{\"a\":[1.10,null]}\n");
        assert_eq!(follow(&url(&run, "text")).await.1, "你好".as_bytes());
        let back = output(&run, "back");
        assert_eq!((&back["metadata"], &back["found"]), (&json!({ "shop": "us" }), &json!(true)), "{back}");
        let file = (&back["file"]["name"], &back["file"]["media_type"], &back["file"]["bytes"]);
        assert_eq!(file, (&json!("sales.csv"), &json!("text/csv"), &json!(csv.len())));
        assert_eq!(output(&run, "none"), &json!({ "found": false, "file": null }));
        assert_eq!(String::from_utf8(follow(&url(&run, "copy")).await.1).unwrap(), csv);
        let all = follow(&url(&run, "all")).await.1;
        assert_eq!(String::from_utf8(all).unwrap(), "sku\tn\r\nA-1\t9007199254740993\r\nB-2\t\r\n");
        app.stop().await;
    }
}

#[tokio::test]
async fn links_open_one_file_and_end() {
    for shelf in shelves().await {
        let tasks = [
            put("a", "path: r/a.txt, source: { from: a }, link: { expires: 1h }"),
            put("b", "path: r/b.txt, source: { from: b }"),
        ];
        let folder = folder(&shelf, "http://127.0.0.1:1", "", &[("get", &tasks.concat())]);
        // Whoever serves the links looks at the real time; a folder's are served by the gateway, whose clock is moved.
        let clock = TestClock::at(if shelf.foreign {
            SystemClock.now().minus(Duration::from_hours(2))
        } else {
            SystemClock.now()
        });
        let app = folder.start_at(Arc::new(clock.clone())).await;
        let run = run(&app, "get").await;
        let good = url(&run, "a");
        if shelf.foreign {
            assert_eq!(follow(&good).await.0, 403, "it has ended: {good}");
            let folder = self::folder(
                &shelf,
                "http://127.0.0.1:1",
                "",
                &[("get", &put("a", "path: r/c.txt, source: { from: a }, link: {}"))],
            );
            let app = folder.start().await;
            let run = self::run(&app, "get").await;
            altered(&url(&run, "a"), "c.txt", "b.txt").await;
            app.stop().await;
        } else {
            altered(&good, "a.txt", "b.txt").await;
            clock.advance(Duration::from_mins(59));
            assert_eq!(follow(&good).await.0, 200);
            clock.advance(Duration::from_mins(1));
            let (status, body) = follow(&good).await;
            assert_eq!(
                (status, serde_json::from_slice::<Value>(&body).unwrap()["code"].clone()),
                (403, json!("blob.link"))
            );
            // What is ours in the folder has no link, whoever signs.
            let ours = good.replace("r/a.txt", ".clawhook/link-key");
            assert_eq!(follow(&ours).await.0, 403);
        }
        app.stop().await;
    }
}

/// A link that works, and everything that may not work instead of it.
async fn altered(good: &str, name: &str, other: &str) {
    assert_eq!(follow(good).await.0, 200, "{good}");
    let flipped = |at: usize| {
        let mut bytes = good.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        String::from_utf8(bytes).unwrap()
    };
    let signature = good.find("sig=").map(|at| at + 5).or_else(|| good.find("signature=").map(|at| at + 11)).unwrap();
    let end = good.find("se=").map(|at| at + 6).or_else(|| good.find("until=").map(|at| at + 8)).unwrap();
    for bad in [flipped(signature), flipped(end), good.replace(name, other), good.split('?').next().unwrap().to_owned()]
    {
        let status = follow(&bad).await.0;
        assert!(matches!(status, 401 | 403 | 404 | 409), "{status}: {bad}");
    }
}

#[tokio::test]
async fn nobody_elses_file_is_touched() {
    for shelf in shelves().await {
        let with = |more: &str| put("put", &format!("path: r/theirs.txt, source: {{ from: ours }}, {more} link: {{}}"));
        let workflows =
            [("fails", with("")), ("keeps", with("if_exists: keep,")), ("replaces", with("if_exists: overwrite,"))];
        let workflows: Vec<_> = workflows.iter().map(|(name, tasks)| (*name, tasks.as_str())).collect();
        let folder = folder(&shelf, "http://127.0.0.1:1", "", &workflows);
        (shelf.by_hand)(&folder, "r/theirs.txt", "theirs", "somebody");
        let app = folder.start().await;
        let failed = run(&app, "fails").await;
        assert_eq!(failed["failure"]["code"], "blob.exists", "{failed}");
        let kept = run(&app, "keeps").await;
        assert_eq!(output(&kept, "put")["written"], false, "{kept}");
        assert_eq!(follow(&url(&kept, "put")).await.1, b"theirs");
        let replaced = run(&app, "replaces").await;
        assert_eq!(output(&replaced, "put")["written"], true, "{replaced}");
        assert_eq!(follow(&url(&replaced, "put")).await.1, b"ours");
        // Now it is another run's.
        assert_eq!(run(&app, "fails").await["failure"]["code"], "blob.exists");
        app.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_told() {
    for shelf in shelves().await {
        let workflows = [
            ("path", put("p", "path: \"a/${{ '../' }}b\", source: { from: x }"), "blob.path"),
            ("none", put("p", "path: a, source: { from: \"${{ none }}\" }"), "blob.content"),
            ("table", put("p", "path: a.csv, format: csv, source: { from: [1] }"), "blob.content"),
            ("words", put("p", "path: a, source: { from: x }, metadata: { a: 你好 }"), "blob.content"),
            ("missing", "  - { id: g, type: blob_get, with: { place: reports, path: none } }\n".into(), "blob.missing"),
            (
                "large",
                format!(
                    "{}{}",
                    put("p", "path: large, source: { from: 12345 }"),
                    "  - { id: g, type: blob_get, with: { place: reports, path: large, max_size: 4B } }\n"
                ),
                "download.too_large",
            ),
            (
                "packed",
                format!(
                    "{}{}",
                    put("p", "path: p.gz, source: { from: 12345 }"),
                    "  - { id: g, type: blob_get, with: { place: reports, path: p.gz, decompress: gzip } }\n"
                ),
                "blob.damaged",
            ),
        ];
        let all: Vec<_> = workflows.iter().map(|(name, tasks, _)| (*name, tasks.as_str())).collect();
        let folder = folder(&shelf, "http://127.0.0.1:1", "", &all);
        let app = folder.start().await;
        for (name, _, code) in &workflows {
            let run = run(&app, name).await;
            assert_eq!(run["failure"]["code"], *code, "{name}: {run}");
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn a_container_that_is_not_there_or_not_ours_is_told() {
    let Some(shelf) = in_container().await else { return };
    let name = shelf.place.split("container: ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    for (place, secret) in [
        (shelf.place.replace(&name, "not-there"), shelf.secret.clone()),
        (shelf.place.clone(), "d3Jvbmc=".to_owned()),
        (shelf.place.clone(), "no key".to_owned()),
    ] {
        let wrong = Shelf { place, secret, ..in_folder() };
        let folder =
            folder(&wrong, "http://127.0.0.1:1", "", &[("get", &put("p", "path: a, source: { from: x }, link: {}"))]);
        let app = folder.start().await;
        let run = run(&app, "get").await;
        assert_eq!(run["failure"]["code"], "blob.refused", "{run}");
        assert!(!run.to_string().contains("sig="), "{run}");
        app.stop().await;
    }
}

#[tokio::test]
async fn what_was_written_before_the_record_of_it_is_known_again() {
    for shelf in shelves().await {
        let tasks = [
            "  - { id: ask, type: approval, with: { title: go, expires: 5m } }\n".to_owned(),
            put("put", "path: r/a.txt, source: { from: ours }, link: {}"),
        ];
        let folder = folder(&shelf, "http://127.0.0.1:1", "", &[("get", &tasks.concat())]);
        let app = folder.start().await;
        let trigger = json!({ "workflow": "get", "inputs": {} });
        let run = app.control.post("/v1/workflows/trigger", &trigger).await.run();
        let open = app.control.until("/v1/approvals", |open| open["items"].as_array().unwrap().len() == 1).await;
        if shelf.foreign {
            // As the process before it left it: the file is there, and says by whom.
            (shelf.by_hand)(&folder, "r/a.txt", "ours", &format!("{run}-put"));
        } else {
            // The file goes up, and then the link cannot be signed: nothing of it is on record.
            std::fs::create_dir_all(folder.path("reports/.clawhook")).unwrap();
            folder.write("reports/.clawhook/link-key", "no key");
        }
        let approval = format!("/v1/approvals/{}", open["items"][0]["id"].as_str().unwrap());
        app.control.post(&approval, &json!({ "decision": "approve" })).await.expect(200);
        let mut done = app.control.ended(&run).await;
        if !shelf.foreign {
            assert_eq!(done["failure"]["code"], "blob.failed", "{done}");
            assert_eq!(std::fs::read(folder.path("reports/r/a.txt")).unwrap(), b"ours");
            std::fs::remove_file(folder.path("reports/.clawhook/link-key")).unwrap();
            app.control.post(&format!("/v1/runs/{run}/resume"), &json!({})).await.expect(200);
            done = app.control.ended(&run).await;
        }
        assert_eq!(output(&done, "put")["written"], true, "{done}");
        assert_eq!(follow(&url(&done, "put")).await.1, b"ours");
        // For another run it is somebody else's.
        (shelf.by_hand)(&folder, "r/a.txt", "theirs", "somebody");
        let other = app.control.post("/v1/workflows/trigger", &trigger).await.run();
        let open = app
            .control
            .until("/v1/approvals", |open| {
                open["items"][0]["run"] == other.as_str()
                    || open["items"][0]["id"].as_str().is_some_and(|id| id.starts_with(&other))
            })
            .await;
        let approval = format!("/v1/approvals/{}", open["items"][0]["id"].as_str().unwrap());
        app.control.post(&approval, &json!({ "decision": "approve" })).await.expect(200);
        assert_eq!(app.control.ended(&other).await["failure"]["code"], "blob.exists");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_up_whole_and_once_however_often_the_gateway_is_killed() {
    const BYTES: u64 = 24 * 1024 * 1024;
    const KILLS: u32 = 3;
    for shelf in shelves().await {
        let far = FarEnd::start(vec![
            Reply::Flood(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n"), BYTES);
            1 + KILLS as usize
        ])
        .await;
        let tasks = [
            "  - { id: file, type: http_download, connection: far, with: { path: /flood } }\n".to_owned(),
            put("plain", "path: r/flood.csv, source: { from: \"${{ tasks.file.file }}\" }, link: {}"),
            put(
                "packed",
                "path: r/flood.csv.gz, compress: gzip, source: { from: \"${{ tasks.file.file }}\" }, link: {}",
            ),
            put(
                "table",
                "path: r/flood.jsonl, format: jsonl, source: { from: \"${{ tasks.file.file }}\", format: csv, header: false }",
            ),
        ];
        let folder = folder(&shelf, &far.url, "", &[("get", &tasks.concat())]);
        let process = Process::start(&folder, "warn").await;
        let trigger = json!({ "workflow": "get", "inputs": {} });
        let run = process.control.post("/v1/workflows/trigger", &trigger).await.run();
        let mut process = Some(process);
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(rand::random_range(50..1500))).await;
            process.take().unwrap().kill();
            process = Some(Process::start(&folder, "warn").await);
        }
        let process = process.unwrap();
        let done = process.control.until(&format!("/v1/runs/{run}"), |run| run["ended_at"].is_string()).await;
        assert_eq!(output(&done, "plain")["written"], true, "{done}");
        assert_eq!(output(&done, "plain")["bytes"], BYTES);
        let whole = line().repeat(usize::try_from(BYTES / 32).unwrap());
        if shelf.foreign {
            assert!(follow(&url(&done, "plain")).await.1 == whole);
            assert!(gunzip(&follow(&url(&done, "packed")).await.1) == whole);
        } else {
            // The door has another port since.
            let read = |path: &str| std::fs::read(folder.path("reports").join(path)).unwrap();
            assert!(read("r/flood.csv") == whole && gunzip(&read("r/flood.csv.gz")) == whole);
            assert_eq!(std::fs::read_dir(folder.path("reports/r")).unwrap().count(), 3);
        }
        let log = process.stop();
        assert!(!log.contains("sig=") && !log.contains("signature="), "{log}");
    }
}

/// A container of Azurite over TLS, entered by the identity, and what its gateway needs of the environment.
async fn by_identity() -> Option<(Shelf, String, Vec<(String, String)>)> {
    let endpoint = wanted("CLAWHOOK_TEST_AZURITE_URL")?;
    let ca = wanted("CLAWHOOK_TEST_CA")?;
    let container = Account::by_identity()?.container();
    let kept = tempfile::tempdir().unwrap();
    container.open(kept.path()).await.close().await;
    let place = format!("{{ endpoint: \"{endpoint}\", container: {} }}", container.name);
    let env = ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"]
        .map(|name| (name.to_owned(), wanted(&format!("CLAWHOOK_TEST_{name}")).unwrap()));
    Some((Shelf { place, foreign: true, ..in_folder() }, ca, env.into()))
}

#[tokio::test]
async fn an_identity_signs_links_and_no_log_has_a_signature() {
    let (Some((identity, ca, env)), Some(key)) = (by_identity().await, in_container().await) else { return };
    let root = reqwest::Certificate::from_pem(&std::fs::read(&ca).unwrap()).unwrap();
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let azure = format!("azure: {{ ca: {ca} }}\n");
    for (shelf, more) in [(identity, azure.as_str()), (key, "")] {
        let tasks = [
            put("put", "path: 报表/a b.txt, source: { from: a }, link: { expires: 1h }"),
            put("b", "path: b.txt, source: { from: b }"),
        ];
        let mut folder = folder(&shelf, "http://127.0.0.1:1", more, &[("get", &tasks.concat())]);
        folder.env.extend(env.clone());
        let process = Process::start(&folder, "trace").await;
        let run =
            process.control.post("/v1/workflows/trigger", &json!({ "workflow": "get", "inputs": {} })).await.run();
        let run = process.control.ended(&run).await;
        let good = url(&run, "put");
        let status = async |url: &str| http.get(url).send().await.unwrap().status().as_u16();
        assert_eq!(status(&good).await, 200, "{good}");
        let other = good.replace("%E6%8A%A5%E8%A1%A8/a%20b.txt", "b.txt");
        assert_eq!(status(&other).await, 403, "{other}");
        let at = good.find("sig=").unwrap() + 5;
        let other = if &good[at..=at] == "1" { "2" } else { "1" };
        assert_eq!(status(&format!("{}{other}{}", &good[..at], &good[at + 1..])).await, 403);
        let signature =
            reqwest::Url::parse(&good).unwrap().query_pairs().find(|(name, _)| name == "sig").unwrap().1.into_owned();
        let log = process.stop();
        assert!(!log.contains(&signature) && !log.contains(&good[at - 1..]), "{log}");
        let told: Vec<_> = log.lines().filter(|line| line.contains("sig=") && !line.contains("sig=REDACTED")).collect();
        assert!(told.is_empty(), "{told:#?}");
        let doctor = crate::process::clawhook(&folder.path(""), &["doctor", "--json"], &folder.env);
        let said = String::from_utf8(doctor.stdout).unwrap();
        assert!(said.contains("it can be read, and signs links"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_while_a_large_file_goes_up_and_comes_back() {
    const MIB: u64 = 160;
    for shelf in shelves().await {
        let bytes = MIB * 1024 * 1024;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n");
        let far = FarEnd::start(vec![Reply::Flood(head, bytes)]).await;
        let tasks = [
            "  - { id: file, type: http_download, connection: far, with: { path: /flood } }\n".to_owned(),
            put("put", "path: flood.csv, source: { from: \"${{ tasks.file.file }}\" }"),
            "  - { id: back, type: blob_get, with: { place: reports, path: flood.csv } }\n".to_owned(),
        ];
        let folder = folder(&shelf, &far.url, "", &[("get", &tasks.concat())]);
        let process = Process::start(&folder, "warn").await;
        let (before, _) = resident_mib(process.id());
        let trigger = json!({ "workflow": "get", "inputs": {} });
        let run = process.control.post("/v1/workflows/trigger", &trigger).await.run();
        let done = process.control.until(&format!("/v1/runs/{run}"), |run| run["ended_at"].is_string()).await;
        assert_eq!(
            (&output(&done, "put")["bytes"], &output(&done, "back")["file"]["bytes"]),
            (&json!(bytes), &json!(bytes))
        );
        let (_, most) = resident_mib(process.id());
        assert!(most < before + 96, "it held {most} MiB, {before} before, for a file of {MIB} MiB");
        process.stop();
    }
}
