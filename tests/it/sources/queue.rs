//! A stand-in for Amazon SQS: standard queues with visibility, reception counts and redelivery, on a clock that the test
//! moves. It checks the signature of every call by itself, throttles, refuses keys that have ended, and can be told to
//! do what it is asked and lose its answer, or to hold a call until the test is done with something else.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aws_lc_rs::{digest, hmac};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The keys that are right.
pub(crate) const KEY_ID: &str = "AKIATESTTESTTEST0001";
pub(crate) const SECRET: &str = "hush/secret+access/key-of-the-queue";
/// Looks of a call that waits, and the pause between two of them.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A queue that runs; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Queue {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: ServerHandle,
}

#[derive(Debug)]
struct State {
    began: Instant,
    /// How far the test has moved the clock.
    moved: Duration,
    messages: Vec<Message>,
    sent: usize,
    calls: Vec<Call>,
    wrongs: Vec<String>,
    faults: Vec<(String, Fault, usize)>,
    held: Option<String>,
    secret: String,
}

/// A call as it came, by the name of its action.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) action: String,
    pub(crate) asked: Value,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Throttled,
    ExpiredToken,
    /// It is done, and the answer is an error of the server.
    AnswerLost,
}

#[derive(Debug, Clone)]
struct Message {
    id: String,
    body: String,
    receptions: u32,
    visible_at: Duration,
}

impl Queue {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            began: Instant::now(),
            moved: Duration::ZERO,
            messages: Vec::new(),
            sent: 0,
            calls: Vec::new(),
            wrongs: Vec::new(),
            faults: Vec::new(),
            held: None,
            secret: SECRET.to_owned(),
        }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let app = move || App::new().app_data(web::Data::new(Arc::clone(&shared))).default_service(web::to(answer));
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(0);
                let server = server.listen(listener).unwrap().run();
                ready.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { address, state, server: started.recv().unwrap() }
    }

    /// The URL of the queue.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/123456789012/spapi", self.address)
    }

    /// Puts a message into the queue, under an id of its own.
    pub(crate) fn send(&self, body: &str) {
        let mut state = self.state();
        state.sent += 1;
        let id = format!("00000000-0000-4000-8000-{:012}", state.sent);
        state.messages.push(Message { id, body: body.to_owned(), receptions: 0, visible_at: Duration::ZERO });
    }

    /// Moves the clock of the queue: what was hidden is visible again.
    pub(crate) fn pass(&self, time: Duration) {
        self.state().moved += time;
    }

    /// Lets the next calls of an action fail.
    pub(crate) fn fail(&self, action: &str, fault: Fault, times: usize) {
        self.state().faults.push((action.to_owned(), fault, times));
    }

    /// Holds calls of an action, undone, until `release`; those that were held are lost then.
    pub(crate) fn hold(&self, action: &str) {
        self.state().held = Some(action.to_owned());
    }

    pub(crate) fn release(&self) {
        self.state().held = None;
    }

    /// Exchanges the secret key.
    pub(crate) fn exchange(&self, secret: &str) {
        secret.clone_into(&mut self.state().secret);
    }

    /// Messages that are in the queue, hidden or not, with how often each was received.
    pub(crate) fn inside(&self) -> Vec<(String, u32)> {
        self.state().messages.iter().map(|message| (message.body.clone(), message.receptions)).collect()
    }

    /// Calls of an action so far.
    pub(crate) fn calls(&self, action: &str) -> Vec<Call> {
        self.state().calls.iter().filter(|call| call.action == action).cloned().collect()
    }

    /// What was wrong with the calls; a test asserts that this is empty.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.state().wrongs.clone()
    }

    /// Waits until the queue is as wanted: a bounded number of looks.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        for _ in 0..12_000 {
            if wanted(self) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("{what}: {:?}", self.state());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

async fn answer(request: HttpRequest, body: web::Bytes, state: web::Data<Arc<Mutex<State>>>) -> HttpResponse {
    let locked = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let target = header(&request, "x-amz-target");
    let action = target.strip_prefix("AmazonSQS.").unwrap_or(&target).to_owned();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let fault = {
        let mut state = locked();
        state.calls.push(Call { action: action.clone(), asked: asked.clone() });
        let secret = state.secret.clone();
        if let Err(why) = proved(&request, &body, &secret) {
            return error(403, "SignatureDoesNotMatch", &why);
        }
        let wrong = wrong(&request, &action, &asked);
        state.wrongs.extend(wrong);
        state.fault(&action)
    };
    while locked().held.as_deref() == Some(action.as_str()) {
        tokio::time::sleep(LOOK_EVERY).await;
        if locked().held.is_none() {
            return error(503, "ServiceUnavailable", "it was held");
        }
    }
    match fault {
        Some(Fault::Throttled) => return error(400, "RequestThrottled", "too many"),
        Some(Fault::ExpiredToken) => return error(403, "ExpiredTokenException", "the token is over"),
        Some(Fault::AnswerLost) | None => {}
    }
    let done = match action.as_str() {
        "ReceiveMessage" => receive(&locked, &asked).await,
        "DeleteMessageBatch" => locked().each(&asked, |messages, place, _| {
            messages.remove(place);
        }),
        "ChangeMessageVisibilityBatch" => locked().each(&asked, |messages, place, until| {
            messages[place].visible_at = until;
        }),
        _ => return error(400, "InvalidAction", &action),
    };
    if fault == Some(Fault::AnswerLost) {
        return error(500, "InternalError", "something went wrong");
    }
    HttpResponse::Ok().content_type("application/x-amz-json-1.0").body(done.to_string())
}

async fn receive<'s>(locked: &impl Fn() -> MutexGuard<'s, State>, asked: &Value) -> Value {
    let until = Instant::now() + Duration::from_secs(asked["WaitTimeSeconds"].as_u64().unwrap_or(0));
    loop {
        let messages = locked().receive(asked);
        if !messages.is_empty() {
            return json!({ "Messages": messages });
        }
        // An empty answer has no member at all.
        if Instant::now() > until {
            return json!({});
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl State {
    fn now(&self) -> Duration {
        self.began.elapsed() + self.moved
    }

    fn fault(&mut self, action: &str) -> Option<Fault> {
        let place = self.faults.iter().position(|(its, _, times)| its == action && *times > 0)?;
        self.faults[place].2 -= 1;
        Some(self.faults[place].1)
    }

    fn receive(&mut self, asked: &Value) -> Vec<Value> {
        let (now, most) = (self.now(), asked["MaxNumberOfMessages"].as_u64().unwrap_or(1));
        let hidden = Duration::from_secs(asked["VisibilityTimeout"].as_u64().unwrap_or(30));
        let visible = self.messages.iter_mut().filter(|message| message.visible_at <= now);
        let give = |message: &mut Message| {
            message.receptions += 1;
            message.visible_at = now + hidden;
            json!({
                "MessageId": message.id,
                "ReceiptHandle": format!("{}/{}", message.id, message.receptions),
                "Body": message.body,
                "Attributes": { "ApproximateReceiveCount": message.receptions.to_string(), "SentTimestamp": "1795338000000" },
            })
        };
        visible.take(usize::try_from(most).unwrap()).map(give).collect()
    }

    /// Does something to each message of a batch; a handle of an earlier reception is good as long as nobody received
    /// the message since.
    fn each(&mut self, asked: &Value, act: impl Fn(&mut Vec<Message>, usize, Duration)) -> Value {
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in asked["Entries"].as_array().unwrap() {
            let until = self.now() + Duration::from_secs(entry["VisibilityTimeout"].as_u64().unwrap_or(0));
            let handle = entry["ReceiptHandle"].as_str().unwrap_or_default();
            let known = |message: &Message| format!("{}/{}", message.id, message.receptions) == handle;
            if let Some(place) = self.messages.iter().position(known) {
                act(&mut self.messages, place, until);
                successful.push(json!({ "Id": entry["Id"] }));
            } else {
                failed.push(json!({ "Id": entry["Id"], "SenderFault": true, "Code": "ReceiptHandleIsInvalid" }));
            }
        }
        json!({ "Successful": successful, "Failed": failed })
    }
}

fn error(status: u16, code: &str, message: &str) -> HttpResponse {
    let status = actix_web::http::StatusCode::from_u16(status).unwrap();
    HttpResponse::build(status).json(json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": message }))
}

fn header(request: &HttpRequest, name: &str) -> String {
    request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// What the real service would not mind and we do.
fn wrong(request: &HttpRequest, action: &str, asked: &Value) -> Option<String> {
    let entries = asked["Entries"].as_array();
    if header(request, "content-type") != "application/x-amz-json-1.0" {
        return Some(format!("{action}: the content type"));
    }
    if request.path() != "/" || asked["QueueUrl"].as_str().is_none_or(|url| !url.ends_with("/123456789012/spapi")) {
        return Some(format!("{action}: the queue"));
    }
    let ids: BTreeSet<_> = entries.into_iter().flatten().map(|entry| entry["Id"].to_string()).collect();
    if entries.is_some_and(|entries| entries.is_empty() || entries.len() > 10 || ids.len() != entries.len()) {
        return Some(format!("{action}: the entries"));
    }
    if action == "ReceiveMessage" && (asked["WaitTimeSeconds"] != 20 || asked["MaxNumberOfMessages"] != 10) {
        return Some(format!("{action}: no long poll for ten"));
    }
    None
}

/// Checks the signature (version 4) of a call without a query, by what the call says that it signed.
fn proved(request: &HttpRequest, body: &[u8], secret: &str) -> Result<(), String> {
    let proof = header(request, "authorization");
    let part = |name: &str| {
        let (_, rest) = proof.split_once(&format!("{name}=")).ok_or_else(|| format!("no {name} in {proof}"))?;
        Ok::<_, String>(rest.split(',').next().unwrap_or_default().to_owned())
    };
    let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let scope = credential.strip_prefix(&format!("{KEY_ID}/")).ok_or("InvalidClientTokenId")?;
    if !["host", "x-amz-date", "x-amz-target", "content-type"]
        .iter()
        .all(|name| signed.split(';').any(|its| its == *name))
    {
        return Err(format!("not all is signed: {signed}"));
    }
    let hex = |bytes: &[u8]| HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref());
    let lines: Vec<_> = signed.split(';').map(|name| format!("{name}:{}", header(request, name).trim())).collect();
    let (method, path, lines) = (request.method(), request.path(), lines.join("\n"));
    let canonical = format!("{method}\n{path}\n\n{lines}\n\n{signed}\n{}", hex(body));
    let date = header(request, "x-amz-date");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(canonical.as_bytes()));
    let sign =
        |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| sign(&key, part));
    if !date.starts_with(scope.split('/').next().unwrap_or_default()) || !scope.ends_with("/us-east-1/sqs/aws4_request")
    {
        return Err(format!("the scope {scope}"));
    }
    if HEXLOWER.encode(&sign(&key, &text)) == signature { Ok(()) } else { Err("SignatureDoesNotMatch".to_owned()) }
}
