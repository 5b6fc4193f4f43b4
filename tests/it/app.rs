//! A whole gateway in a folder of its own: real files, the embedded store, both doors on free ports, real sockets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use clawhook::boot::{self, Running};
use clawhook::clock::{Clock, SystemClock};
use data_encoding::BASE64;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::standin::Standin;

/// What signs deliveries in these tests.
pub(crate) const KEY: &str = "hush-shop-webhook-key-0451";
/// Looks at a run that is waited for, and the pause between two of them.
const LOOKS_MAX: usize = 6_000;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the doors of a test look like when nothing is said about them.
pub(crate) const OPEN: &str = r#"
version: 1
listen: { hooks: { address: "127.0.0.1:0" }, control: { address: "127.0.0.1:0" } }
auth: none
secrets: { source: file, path: ./secrets }
"#;

/// A workflow that pushes an order and is done.
pub(crate) const PUSH: &str = r#"
version: 1
name: push
labels: { order: "${{ inputs.order.name | default('none') }}" }
inputs: { order: { type: object, required: true } }
tasks:
  - id: push
    type: http_request
    connection: erp
    with: { method: POST, path: /orders, json: "${{ inputs.order }}", idempotency_key: { header: Idempotency-Key } }
outputs: { id: "${{ tasks.push.body.id }}" }
"#;

/// A route that hands signed orders to `push`; `more` lines are added to it, indented by four.
pub(crate) fn orders_route(more: &str) -> String {
    format!(
        r#"
version: 1
routes:
  - name: orders
    path: /hooks/orders
    verify: {{ preset: shopify, secret_ref: shop-key }}
    workflow: push
    inputs: {{ order: "${{{{ body }}}}" }}
{more}"#
    )
}

/// The files and the environment of a gateway; they outlive it.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: Arc<TempDir>,
    pub(crate) env: BTreeMap<String, String>,
}

impl Folder {
    /// A folder with these settings, and with the connection `erp` when there is an ERP.
    pub(crate) fn new(settings: &str, erp: Option<&Standin>) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        for folder in ["routes", "workflows", "secrets"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let folder = Self { dir, env: BTreeMap::new() };
        folder.secret("shop-key", KEY);
        let erp = erp.map_or_else(String::new, |erp| {
            let url = erp.url();
            format!("egress: {{ allow: [\"127.0.0.0/8\"] }}\nconnections: {{ erp: {{ base_url: \"{url}\" }} }}\n")
        });
        folder.write("clawhook.yaml", &format!("{settings}\n{erp}"));
        folder
    }

    /// A folder with one route that takes signed orders, and the workflow behind it.
    pub(crate) fn with_orders(erp: &Standin, route: &str) -> Self {
        let folder = Self::new(OPEN, Some(erp));
        folder.write("workflows/push.yaml", PUSH);
        folder.write("routes/orders.yaml", &orders_route(route));
        folder
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn secret(&self, name: &str, value: &str) {
        self.write(&format!("secrets/{name}"), value);
    }

    /// Starts a gateway on these files.
    pub(crate) async fn start(&self) -> App {
        self.start_at(Arc::new(SystemClock)).await
    }

    pub(crate) async fn start_at(&self, clock: Arc<dyn Clock>) -> App {
        let start = boot::Start { config: self.path("clawhook.yaml"), env: self.env.clone(), clock };
        let running = boot::start(start).await.unwrap_or_else(|error| panic!("the gateway does not start: {error}"));
        App {
            control: Control::new(&running.control_url),
            hooks: running.hooks_url.clone(),
            running,
            _dir: Arc::clone(&self.dir),
        }
    }

    /// Every byte that the gateway keeps on disk.
    pub(crate) fn stored_bytes(&self) -> Vec<u8> {
        fn below(path: &Path) -> Vec<u8> {
            if path.is_dir() {
                let entries = std::fs::read_dir(path).unwrap();
                return entries.flat_map(|entry| below(&entry.unwrap().path())).collect();
            }
            std::fs::read(path).unwrap()
        }
        below(&self.path("data"))
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) running: Running,
    pub(crate) hooks: String,
    pub(crate) control: Control,
    /// Its files stay as long as it runs.
    _dir: Arc<TempDir>,
}

impl App {
    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }

    /// Sends a signed order, as a shop does.
    pub(crate) async fn deliver(&self, id: &str, body: &str) -> Answer {
        self.post("/hooks/orders", &shopify(KEY, id, body), body).await
    }

    /// Sends anything to the hooks door.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, String)], body: &str) -> Answer {
        let mut request = self.control.http.post(format!("{}{path}", self.hooks)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        Answer::of(request.send().await.unwrap()).await
    }
}

/// The control door, as a program uses it.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    authorization: Option<String>,
}

impl Control {
    pub(crate) fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url: url.to_owned(), http, authorization: None }
    }

    /// The same door for a caller who proves something.
    pub(crate) fn with(&self, authorization: &str) -> Self {
        Self { authorization: Some(authorization.to_owned()), ..self.clone() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }

    pub(crate) async fn ask(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// What a GET shows; it must succeed.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> impl Future<Output = Value> {
        let (asked, path) = (self.clone(), path.to_owned());
        async move { asked.ask(&path).await.expect(200) }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(body).send().await.unwrap()).await
    }

    /// The same, under an `Idempotency-Key`.
    pub(crate) async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path).header("idempotency-key", key).json(body);
        Answer::of(request.send().await.unwrap()).await
    }

    /// Waits until a run has ended, and shows it.
    pub(crate) async fn ended(&self, run: &str) -> Value {
        self.until(&format!("/v1/runs/{run}"), |run| {
            ["succeeded", "failed", "cancelled"].iter().any(|end| run["status"] == *end)
        })
        .await
    }

    /// Looks until what is shown is as wanted: a bounded number of times.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut shown = Value::Null;
        for _ in 0..LOOKS_MAX {
            shown = self.get(path).await;
            if wanted(&shown) {
                return shown;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("{path} does not become what is waited for: {shown}");
    }
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| json!({ "not json": self.text }))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// The one run that was made; a short one may have ended before it was answered.
    #[track_caller]
    pub(crate) fn run(&self) -> String {
        let run = self.expect(if self.status == 200 { 200 } else { 202 });
        run["run_id"].as_str().unwrap_or_else(|| panic!("no run: {run}")).to_owned()
    }

    /// A problem by RFC 9457 with this code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(body["status"].to_string(), status.to_string());
        assert_eq!(body["type"], format!("/docs/errors/{code}"));
        assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    }
}

/// The base64 signature of a body.
pub(crate) fn signature(key: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    BASE64.encode(hmac::sign(&key, body.as_bytes()).as_ref())
}

/// The headers of a delivery by Shopify.
pub(crate) fn shopify(key: &str, id: &str, body: &str) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", "application/json".to_owned()),
        ("x-shopify-hmac-sha256", signature(key, body)),
        ("x-shopify-webhook-id", id.to_owned()),
        ("x-shopify-topic", "orders/create".to_owned()),
        ("x-shopify-shop-domain", "demo.myshopify.com".to_owned()),
    ]
}
