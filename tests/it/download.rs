//! `http_download` against a far end that misbehaves over real sockets, and the artifacts that come of it.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::app::{App, Folder, OPEN};
use crate::process::Process;

/// What the far end does with one request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// This head and this body; the connection closes after it.
    Bytes(String, Vec<u8>),
    /// A head, and this many bytes made on the fly.
    Flood(String, u64),
    /// A table in gzip, made on the fly: [`table_rows`] this many times over, without a length.
    Packed(u64),
}

impl Reply {
    pub(crate) fn ok(headers: &str, body: &[u8]) -> Self {
        Self::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}", body.len()), body.to_vec())
    }
}

/// A far end with a script: each connection takes one request and gets the next reply.
pub(crate) struct FarEnd {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FarEnd {
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for reply in replies {
                let (mut stream, _) = listener.accept().await.unwrap();
                let head = read_head(&mut stream).await;
                seen.lock().unwrap().push(head);
                // Who hangs up in the middle is what some of these tests are about.
                let _ = answer(&mut stream, reply).await;
            }
        });
        Self { url, requests }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

async fn answer(stream: &mut TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Bytes(head, body) => {
            stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Reply::Flood(head, mut bytes) => {
            stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await?;
            let piece: Vec<u8> = line().repeat(4096);
            while bytes > 0 {
                let now = bytes.min(piece.len() as u64);
                stream.write_all(&piece[..usize::try_from(now).unwrap()]).await?;
                bytes -= now;
            }
        }
        Reply::Packed(times) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/tab-separated-values\r\nconnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            let (mut packed, rows) = (GzEncoder::new(Vec::new(), Compression::fast()), table_rows());
            for _ in 0..times {
                packed.write_all(&rows)?;
                stream.write_all(&std::mem::take(packed.get_mut())).await?;
            }
            stream.write_all(&packed.finish()?).await?;
        }
    }
    stream.shutdown().await
}

/// Rows of [`table_rows`].
pub(crate) const ROWS: u64 = 4096;

/// Rows of a table, no two the same.
pub(crate) fn table_rows() -> Vec<u8> {
    let row = |n| format!("SKU-{n:06}\tlamp of oak no. {n}\t{}\t{}.{:02}\ttrue\n", n % 97, n * 31 % 2000, n % 100);
    (0..ROWS).flat_map(|n| row(n).into_bytes()).collect()
}

/// 32 bytes of a table.
pub(crate) fn line() -> Vec<u8> {
    b"A-1,lamp of oak,42,1299.50,true\n".to_vec()
}

pub(crate) fn settings(url: &str) -> String {
    format!(
        "{OPEN}egress: {{ allow: [\"127.0.0.0/8\"] }}\nconnections: {{ far: {{ base_url: \"{url}\", \
         auth: {{ type: bearer, secret_ref: far-key }} }} }}\n"
    )
}

async fn app(far: &FarEnd, task: &str) -> (Folder, App) {
    let folder = Folder::new(&settings(&far.url), None);
    folder.secret("far-key", "s3cr3t-of-the-far-end");
    folder.write(
        "workflows/get.yaml",
        &format!(
            "version: 1\nname: get\ninputs: {{ url: {{ type: string, default: \"{}\" }} }}\ntasks:\n  - {task}\n",
            far.url
        ),
    );
    let app = folder.start().await;
    (folder, app)
}

pub(crate) async fn run(app: &App, workflow: &str) -> Value {
    let trigger = json!({ "workflow": workflow, "inputs": {} });
    let run = app.control.post("/v1/workflows/trigger", &trigger).await.run();
    app.control.ended(&run).await
}

/// What the one task of a run gave.
fn output(run: &Value) -> &Value {
    assert_eq!(run["status"], "succeeded", "{run}");
    &run["tasks"][0]["attempts"][0]["output"]
}

async fn bytes_of(app: &App, run: &Value, handle: &Value) -> Vec<u8> {
    let path = format!("/v1/runs/{}/artifacts/{}", run["id"].as_str().unwrap(), handle["artifact"].as_str().unwrap());
    let answer = app.control.request(reqwest::Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert!(answer.headers()["content-disposition"].to_str().unwrap().starts_with("attachment;"));
    answer.bytes().await.unwrap().to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn head(status: &str, length: usize, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{more}")
}

#[tokio::test]
async fn a_file_that_broke_off_goes_on_where_it_was() {
    let table = line().repeat(5_000);
    let packed = gzip(&table);
    let (first, rest) = packed.split_at(packed.len() / 2);
    let tag = "etag: \"v1\"\r\ncontent-disposition: attachment; filename=orders.csv.gz\r\n";
    let range = format!("{tag}content-range: bytes {}-{}/{}\r\n", first.len(), packed.len() - 1, packed.len());
    let far = FarEnd::start(vec![
        Reply::Bytes(head("200 OK", packed.len(), tag), first.to_vec()),
        Reply::Bytes(head("206 Partial Content", rest.len(), &range), rest.to_vec()),
    ])
    .await;
    let (_folder, app) = app(&far, "{ id: file, type: http_download, connection: far, with: { path: /orders } }").await;
    let run = run(&app, "get").await;
    let file = &output(&run)["file"];
    assert_eq!(file["bytes"], table.len());
    assert_eq!((&file["name"], &file["media_type"]), (&json!("orders.csv"), &json!("text/csv")));
    assert!(bytes_of(&app, &run, file).await == table);
    let requests = far.requests();
    assert!(requests[0].contains("authorization: bearer s3cr3t"), "{requests:?}");
    assert!(
        requests[1].contains(&format!("range: bytes={}-", first.len())) && requests[1].contains("if-range: \"v1\"")
    );
    app.stop().await;
}

/// The rest of a file waits for its turn in the budget; what came so far is not thrown away.
#[tokio::test]
async fn a_file_that_broke_off_keeps_to_the_budget() {
    let table = line().repeat(100);
    let (first, rest) = table.split_at(1_000);
    let range = format!("etag: \"v1\"\r\ncontent-range: bytes {}-{}/{}\r\n", first.len(), table.len() - 1, table.len());
    let far = FarEnd::start(vec![
        Reply::Bytes(head("200 OK", table.len(), "etag: \"v1\"\r\n"), first.to_vec()),
        Reply::Bytes(head("206 Partial Content", rest.len(), &range), rest.to_vec()),
    ])
    .await;
    let folder =
        Folder::new(&settings(&far.url).replace("auth: {", "rate_limit: { rate: 40/m, burst: 1 }, auth: {"), None);
    folder.secret("far-key", "s3cr3t-of-the-far-end");
    let task = "{ id: file, type: http_download, connection: far, with: { path: /orders } }";
    folder.write("workflows/get.yaml", &format!("version: 1\nname: get\ntasks:\n  - {task}\n"));
    let app = folder.start().await;
    let run = run(&app, "get").await;
    assert!(bytes_of(&app, &run, &output(&run)["file"]).await == table, "{run}");
    assert_eq!(run["attempts"], 1, "it waited in place: {run}");
    assert!(far.requests()[1].contains("range: bytes=1000-"), "{:?}", far.requests());
    app.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_go_on_begins_anew() {
    let table = line().repeat(100);
    let far = FarEnd::start(vec![
        Reply::Bytes(head("200 OK", table.len(), ""), table[..999].to_vec()),
        Reply::Bytes(head("200 OK", table.len(), "etag: \"v1\"\r\n"), table[..999].to_vec()),
        // Another file by now: the whole of it comes instead of the rest, and is not stitched to the first part.
        Reply::ok("etag: \"v2\"\r\n", &line()),
        Reply::ok("etag: \"v2\"\r\n", &line()),
    ])
    .await;
    let (folder, app) = app(&far, "{ id: file, type: http_download, connection: far, with: { path: /orders } }").await;
    let run = run(&app, "get").await;
    assert!(bytes_of(&app, &run, &output(&run)["file"]).await == line());
    assert_eq!(far.requests().len(), 4);
    let left = std::fs::read_dir(folder.path("data/artifacts/unfinished")).unwrap().count();
    assert_eq!(left, 0, "what was given up is gone");
    app.stop().await;
}

#[tokio::test]
async fn a_part_is_not_the_rest_and_another_version_is_not_stitched() {
    let table: Vec<u8> = (0..300).flat_map(|row| format!("A-{row},lamp\n").into_bytes()).collect();
    let other: Vec<u8> = table.iter().map(u8::to_ascii_uppercase).collect();
    let tag = "etag: \"v1\"\r\nlast-modified: Mon, 23 Nov 2026 10:00:00 GMT\r\n";
    let first = || Reply::Bytes(head("200 OK", table.len(), tag), table[..500].to_vec());
    let part = |bytes: &[u8], from: usize, to: usize, total: &str, tag: &str| {
        let range = format!("{tag}content-range: bytes {from}-{}/{total}\r\n", to - 1);
        Reply::Bytes(head("206 Partial Content", to - from, &range), bytes[from..to].to_vec())
    };
    let (end, total) = (table.len(), table.len().to_string());
    let longer = (table.len() + 1).to_string();
    let stale = |total: &str, tag: &str| vec![first(), part(&other, 500, end, total, tag), Reply::ok("", &other)];
    for (what, replies, expected) in [
        ("parts", vec![first(), part(&table, 500, 900, &total, tag), part(&table, 900, end, &total, "")], &table),
        (
            "parts without the whole length",
            vec![first(), part(&table, 500, 900, "*", ""), part(&table, 900, end, "*", "")],
            &table,
        ),
        ("another tag", stale(&total, "etag: \"v2\"\r\n"), &other),
        ("another time", stale(&total, "last-modified: Mon, 23 Nov 2026 10:00:01 GMT\r\n"), &other),
        ("another length", stale(&longer, tag), &other),
    ] {
        let far = FarEnd::start(replies).await;
        let task = "{ id: file, type: http_download, connection: far, with: { path: /orders.csv } }";
        let (_folder, app) = app(&far, task).await;
        let run = run(&app, "get").await;
        assert!(bytes_of(&app, &run, &output(&run)["file"]).await == *expected, "{what}");
        assert_eq!(far.requests().len(), 3, "{what}");
        app.stop().await;
    }
}

/// A zip with two files, stored, as far as a reader from the front looks.
fn workbook() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in [("[Content_Types].xml", "<Types/>"), ("xl/workbook.xml", "<workbook/>")] {
        let size = u32::try_from(content.len()).unwrap().to_le_bytes();
        bytes.extend(b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend([size, size].concat());
        bytes.extend([u16::try_from(name.len()).unwrap().to_le_bytes(), [0; 2]].concat());
        bytes.extend(format!("{name}{content}").bytes());
    }
    bytes
}

#[tokio::test]
async fn a_workbook_stays_as_it_is_unless_it_is_to_be_unpacked() {
    let book = workbook();
    let reply = || Reply::ok("content-disposition: attachment; filename=orders.xlsx\r\n", &book);
    let far = FarEnd::start(vec![reply(), reply()]).await;
    let (folder, kept) = app(&far, "{ id: file, type: http_download, connection: far, with: { path: /orders } }").await;
    let done = run(&kept, "get").await;
    let file = &output(&done)["file"];
    assert_eq!(file["name"], "orders.xlsx");
    assert!(bytes_of(&kept, &done, file).await == book);
    assert_eq!(std::fs::read_dir(folder.path("data/artifacts/unfinished")).unwrap().count(), 0);
    kept.stop().await;
    for with in ["{ path: /orders, decompress: zip }", "{ path: /orders, method: POST, json: {} }"] {
        let far = FarEnd::start(vec![reply()]).await;
        let task = format!("{{ id: file, type: http_download, connection: far, retry: 2, with: {with} }}");
        let (_folder, app) = app(&far, &task).await;
        let run = run(&app, "get").await;
        assert_eq!(run["failure"]["code"], "download.damaged", "{run}");
        assert_eq!(far.requests().len(), 1, "another try would give the same: {with}");
        app.stop().await;
    }
}

#[tokio::test]
async fn a_link_that_expired_is_asked_for_again_and_gets_no_proof_of_ours() {
    let link = |url: &str, name: &str| {
        Reply::ok(
            "content-type: application/json\r\n",
            json!({ "url": format!("{url}/{name}?sig=abc") }).to_string().as_bytes(),
        )
    };
    let store = FarEnd::start(vec![
        Reply::Bytes(head("403 Forbidden", 7, ""), b"expired".to_vec()),
        Reply::ok("content-type: text/csv\r\n", &line()),
    ])
    .await;
    let far = FarEnd::start(vec![link(&store.url, "one.csv"), link(&store.url, "two.csv")]).await;
    let task = "{ id: file, type: http_download, connection: far, with: { refresh: { path: /reports/7, link: \"${{ response.body.url }}\" } } }";
    let (_folder, app) = app(&far, task).await;
    let run = run(&app, "get").await;
    assert_eq!(output(&run)["file"]["name"], "two.csv");
    assert!(far.requests().iter().all(|request| request.contains("authorization: bearer")), "{:?}", far.requests());
    assert!(store.requests().iter().all(|request| !request.contains("s3cr3t")), "{:?}", store.requests());
    assert!(!run.to_string().contains("sig=abc"), "a link that opens a file is not on record: {run}");
    app.stop().await;
}

#[tokio::test]
async fn what_is_not_whole_fails_and_leaves_nothing() {
    let packed = gzip(&line().repeat(5_000));
    let half = &packed[..packed.len() / 2];
    for (replies, with, code) in [
        (vec![Reply::ok("", half)], "{ path: /orders }", "download.damaged"),
        (vec![Reply::ok("", &line().repeat(10))], "{ path: /orders, max_size: 100B }", "download.too_large"),
        // It says nothing of its size before it is unpacked.
        (vec![Reply::ok("", &packed)], "{ path: /orders, max_size: 100KiB }", "download.too_large"),
        (vec![Reply::Bytes(head("404 Not Found", 4, ""), b"gone".to_vec())], "{ path: /orders }", "http.status"),
        (vec![Reply::Bytes(head("200 OK", 10, ""), b"a".to_vec()); 9], "{ path: /orders }", "download.cut"),
    ] {
        let far = FarEnd::start(replies).await;
        let task = format!("{{ id: file, type: http_download, connection: far, with: {with} }}");
        let (folder, app) = app(&far, &task).await;
        let run = run(&app, "get").await;
        assert_eq!((&run["status"], &run["failure"]["code"]), (&json!("failed"), &json!(code)), "{run}");
        app.stop().await;
        let mut left = walk(&folder.path("data/artifacts"));
        left.retain(|path| !path.starts_with(folder.path("data/artifacts/stores")));
        assert_eq!(left, Vec::<std::path::PathBuf>::new(), "{code}");
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn an_artifact_that_was_touched_is_not_handed_out_whole() {
    let far = FarEnd::start(vec![Reply::ok("", &line())]).await;
    let (folder, app) =
        app(&far, "{ id: file, type: http_download, with: { url: \"${{ inputs.url }}/a.csv\" } }").await;
    let run = run(&app, "get").await;
    let file = output(&run)["file"].clone();
    let (id, artifact) = (run["id"].as_str().unwrap(), file["artifact"].as_str().unwrap());
    let path = folder.path(&format!("data/artifacts/{id}/{artifact}"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let place = format!("/v1/runs/{id}/artifacts/{artifact}");
    let answer = app.control.request(reqwest::Method::GET, &place).send().await.unwrap();
    assert!(answer.bytes().await.is_err(), "the connection breaks before the end");
    std::fs::remove_file(&path).unwrap();
    app.control.ask(&place).await.problem(404, "api.not_found");
    app.control.ask(&place.replace("art_", "art_x")).await.problem(404, "api.not_found");
    app.stop().await;
}

/// What a process holds in memory now, and what it held at most: MiB.
pub(crate) fn resident_mib(id: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Bytes that the memory test streams; `DOWNLOAD_MIB` moves it, see bench/README.md.
fn flood_bytes() -> u64 {
    std::env::var("DOWNLOAD_MIB").ok().map_or(256, |text| text.parse().unwrap()) * 1024 * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_however_large_the_file_is() {
    let bytes = flood_bytes();
    let far = FarEnd::start(vec![Reply::Flood(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n"), bytes)]).await;
    let folder = Folder::new(&settings(&far.url), None);
    folder.secret("far-key", "k");
    let task =
        "{ id: file, type: http_download, connection: far, timeout: 10m, with: { path: /flood, max_size: 4GiB } }";
    folder.write("workflows/get.yaml", &format!("version: 1\nname: get\ntasks:\n  - {task}\n"));
    let process = Process::start(&folder, "warn").await;
    let (before, _) = resident_mib(process.id());
    let trigger = json!({ "workflow": "get", "inputs": {} });
    let run = process.control.post("/v1/workflows/trigger", &trigger).await.run();
    let run = process.control.until(&format!("/v1/runs/{run}"), |run| run["ended_at"].is_string()).await;
    assert_eq!(output(&run)["file"]["bytes"], bytes);
    let (_, most) = resident_mib(process.id());
    assert!(most < before + 48, "it held {most} MiB, {before} before, for a file of {} MiB", bytes / 1024 / 1024);
    process.stop();
}
