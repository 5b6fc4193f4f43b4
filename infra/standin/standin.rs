//! A stand-in for the systems that workflows call: a small ERP on loopback, for the examples, the tests and the demo.
//!
//! It records every request, keeps a list of what was wrong with them, and fails by path as it is told. It checks what
//! it is sent and never takes a call just because the JSON parses. It keeps nothing on disk and listens nowhere but
//! on 127.0.0.1.
//!
//! Paths that start with `/_` steer it and are neither recorded nor failed:
//!
//! | Call | Does |
//! |---|---|
//! | `GET /_health` | answers once it runs |
//! | `GET /_requests` | what was received, what was wrong, how many repeats an idempotency key answered |
//! | `DELETE /_requests` | forgets requests, wrongs, faults and orders |
//! | `GET /_faults`, `POST /_faults` | faults still to come; adds one (`Fault`) |

#[path = "erp.rs"]
mod erp;
#[path = "fault.rs"]
mod fault;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::ServerHandle;
use actix_web::http::{Method, StatusCode};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use clawhook::clock::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

pub(crate) use erp::Erp;
pub(crate) use fault::{Close, Fault};

/// Requests kept; older ones are forgotten first, so that a load test cannot eat the memory.
const REQUESTS_KEPT_MAX: usize = 20_000;
/// Bytes of one request body.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest that `/slow` and a fault may hold a request back.
const DELAY_MAX: Duration = Duration::from_mins(1);

/// How a stand-in is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub(crate) port: u16,
    /// When set, business paths want it in `X-Api-Key`.
    pub(crate) api_key: Option<String>,
}

/// One request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    pub(crate) path: String,
    /// After the `?`, as it came; empty without one.
    pub(crate) query: String,
    /// Names in lower case; a header sent twice is here twice.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Timestamp,
}

impl Recorded {
    /// Every value of a header, by its name in lower case.
    pub(crate) fn header_all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that was sent exactly once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        match self.header_all(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    fn to_json(&self) -> Value {
        let body = match std::str::from_utf8(&self.body) {
            Ok(text) => json!({ "body": text }),
            Err(_) => json!({ "body_base64": data_encoding::BASE64.encode(&self.body) }),
        };
        let mut shown = json!({
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "at": self.at.to_string(),
        });
        merge(&mut shown, body);
        shown
    }
}

/// What a stand-in does behind the requests that reach it.
pub(crate) trait Business: Send + 'static {
    /// Does what a request wants.
    fn answer(&mut self, request: &Recorded) -> Answer;

    /// Forgets what was done.
    fn forget(&mut self);

    /// Calls that were answered again under a known idempotency key.
    fn repeats(&self) -> usize {
        0
    }
}

/// A stand-in that runs; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Standin<B: Business = Erp> {
    address: SocketAddr,
    desk: Arc<Desk<B>>,
    server: ServerHandle,
}

impl Standin {
    /// Starts an ERP.
    pub(crate) fn start(settings: &Settings) -> io::Result<Self> {
        Self::open(settings.port, Erp::new(settings.api_key.clone()))
    }

    /// Orders that were created.
    pub(crate) fn orders(&self) -> Vec<Value> {
        self.desk.lock().business.orders.clone()
    }

    /// Returns that were refunded.
    pub(crate) fn refunds(&self) -> Vec<Value> {
        self.desk.lock().business.refunds.clone()
    }
}

impl<B: Business> Standin<B> {
    /// Starts one on its own thread, so that it answers whatever runtime the caller uses and whatever its clock does.
    pub(crate) fn open(port: u16, business: B) -> io::Result<Self> {
        let inner = Inner { requests: VecDeque::new(), wrongs: Vec::new(), faults: Vec::new(), business };
        let desk = Arc::new(Desk { inner: Mutex::new(inner) });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let shared = Arc::clone(&desk);
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("standin".into()).spawn(move || serve(listener, &shared, &ready))?;
        let server = started.recv().map_err(|_| io::Error::other("the stand-in's thread ended at once"))?;
        Ok(Self { address, desk, server })
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it received, oldest first.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.desk.lock().requests.iter().cloned().collect()
    }

    /// What it received on one path, oldest first.
    pub(crate) fn requests_to(&self, path: &str) -> Vec<Recorded> {
        self.desk.lock().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// What was wrong with it; a test asserts that this is empty.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.desk.lock().wrongs.clone()
    }

    /// How many calls were answered again under a known idempotency key.
    pub(crate) fn repeats(&self) -> usize {
        self.desk.lock().business.repeats()
    }

    /// Adds a fault behind those still to come.
    pub(crate) fn fail(&self, fault: Fault) {
        self.desk.lock().faults.push(fault);
    }
}

impl<B: Business> Drop for Standin<B> {
    fn drop(&mut self) {
        // The command is sent by the call itself; nobody has to wait for the answer.
        drop(self.server.stop(false));
    }
}

/// What the workers share.
#[derive(Debug)]
struct Desk<B> {
    inner: Mutex<Inner<B>>,
}

#[derive(Debug)]
struct Inner<B> {
    requests: VecDeque<Recorded>,
    wrongs: Vec<String>,
    faults: Vec<Fault>,
    business: B,
}

impl<B> Desk<B> {
    fn lock(&self) -> MutexGuard<'_, Inner<B>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a business path says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// What was wrong with the request, if something was.
    pub(crate) wrong: Option<String>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: body.to_string().into_bytes(), wrong: None }
    }

    pub(crate) fn wrong(status: u16, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { wrong: Some(why.clone()), ..Self::new(status, &json!({ "error": why })) }
    }
}

/// Serves until it is told to stop, and gives out the handle that tells it.
fn serve<B: Business>(listener: TcpListener, desk: &Arc<Desk<B>>, ready: &Sender<ServerHandle>) -> io::Result<()> {
    let desk = Arc::clone(desk);
    let app = move || {
        App::new()
            .app_data(web::Data::from(Arc::clone(&desk)))
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .default_service(web::to(receive::<B>))
    };
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(1).listen(listener)?.run();
        if ready.send(server.handle()).is_err() {
            return Ok(());
        }
        server.await
    })
}

async fn receive<B: Business>(request: HttpRequest, body: web::Bytes, desk: web::Data<Desk<B>>) -> HttpResponse {
    if request.path().starts_with("/_") {
        return steer(&request, &body, &desk);
    }
    let recorded = record(&request, &body);
    let fault = take_in(&desk, &recorded);
    let delay = fault.as_ref().map_or(Duration::ZERO, |fault| Duration::from_millis(fault.delay_ms));
    actix_web::rt::time::sleep((delay + slow(&recorded)).min(DELAY_MAX)).await;
    match fault {
        Some(fault) if fault.close == Some(Close::Before) => fault::cut_off(),
        Some(fault) if fault.answers() => fault.answer(),
        fault => {
            let response = work(&desk, &recorded);
            fault.unwrap_or_default().spoil(response)
        }
    }
}

fn record(request: &HttpRequest, body: &[u8]) -> Recorded {
    let text = |value: &actix_web::http::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Recorded {
        method: request.method().to_string(),
        path: request.path().to_owned(),
        query: request.query_string().to_owned(),
        headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.to_vec(),
        at: SystemClock.now(),
    }
}

/// Keeps the request and takes the fault that it meets.
fn take_in<B>(desk: &Desk<B>, recorded: &Recorded) -> Option<Fault> {
    let mut inner = desk.lock();
    if inner.requests.len() == REQUESTS_KEPT_MAX {
        inner.requests.pop_front();
    }
    inner.requests.push_back(recorded.clone());
    let place = inner.faults.iter().position(|fault| fault.meets(&recorded.method, &recorded.path))?;
    let fault = inner.faults[place].clone();
    if fault.times <= 1 {
        inner.faults.remove(place);
    } else {
        inner.faults[place].times -= 1;
    }
    Some(fault)
}

fn slow(recorded: &Recorded) -> Duration {
    if recorded.path != "/slow" {
        return Duration::ZERO;
    }
    let ms = erp::query(&recorded.query, "ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    Duration::from_millis(ms)
}

/// The business answer; what was wrong is written down.
fn work<B: Business>(desk: &Desk<B>, recorded: &Recorded) -> fault::Response {
    let mut inner = desk.lock();
    let answer = match recorded.path.as_str() {
        "/slow" => Answer::new(200, &json!({ "slept_ms": u64::try_from(slow(recorded).as_millis()).unwrap_or(0) })),
        "/echo" => Answer::new(200, &recorded.to_json()),
        _ => inner.business.answer(recorded),
    };
    if let Some(wrong) = &answer.wrong {
        inner.wrongs.push(format!("{} {}: {wrong}", recorded.method, recorded.path));
    }
    let headers = answer.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    fault::Response { status: answer.status, headers, body: answer.body }
}

/// The paths of the test, not of the business.
fn steer<B: Business>(request: &HttpRequest, body: &[u8], desk: &Desk<B>) -> HttpResponse {
    let mut inner = desk.lock();
    match (request.method(), request.path()) {
        (&Method::GET, "/_health") => HttpResponse::Ok().json(json!({ "status": "ok" })),
        (&Method::GET, "/_requests") => HttpResponse::Ok().json(json!({
            "requests": inner.requests.iter().map(Recorded::to_json).collect::<Vec<_>>(),
            "wrong": inner.wrongs,
            "repeats": inner.business.repeats(),
        })),
        (&Method::DELETE, "/_requests") => {
            inner.requests.clear();
            inner.wrongs.clear();
            inner.faults.clear();
            inner.business.forget();
            HttpResponse::NoContent().finish()
        }
        (&Method::GET, "/_faults") => HttpResponse::Ok().json(&inner.faults),
        (&Method::POST, "/_faults") => match serde_json::from_slice::<Fault>(body) {
            Ok(fault) => {
                inner.faults.push(fault);
                HttpResponse::NoContent().finish()
            }
            Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (method, path) => problem(StatusCode::NOT_FOUND, &format!("nothing is steered by {method} {path}")),
    }
}

fn problem(status: StatusCode, why: &str) -> HttpResponse<BoxBody> {
    HttpResponse::build(status).json(json!({ "error": why }))
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
