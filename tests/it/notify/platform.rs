//! Stand-ins for the platforms: one small server over real sockets that checks what it is sent as they do and refuses
//! as they do, and keeps a list of what was wrong.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use clawhook::clock::{Clock, TestClock, Timestamp};
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Timestamp,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn query(&self, name: &str) -> &str {
        self.query.iter().find(|(there, _)| there == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(there, _)| there == name).map_or("", |(_, value)| value)
    }

    /// The text that people see, wherever the platform has it.
    pub(crate) fn text(&self) -> String {
        let body = self.json();
        for pointer in [
            "/markdown/content",
            "/markdown_v2/content",
            "/markdown/text",
            "/card/elements/0/content",
            "/text",
            "/attachments/0/content/body/1/text",
        ] {
            if let Some(text) = body.pointer(pointer).and_then(Value::as_str) {
                return text.to_owned();
            }
        }
        panic!("no text in {body}");
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Json(Value),
    Text(u16, &'static str, &'static [(&'static str, &'static str)]),
    /// The request was read; no answer comes.
    Silence,
    /// The request was read, then the connection is closed.
    Close,
}

/// Which platform it plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plays {
    Wecom,
    Dingtalk,
    Feishu,
    Slack,
    Teams,
    Webhook,
}

#[derive(Debug)]
pub(crate) struct Platform {
    address: SocketAddr,
    inner: Arc<Inner>,
    stop: tokio_util::sync::CancellationToken,
}

#[derive(Debug)]
struct Inner {
    plays: Plays,
    clock: TestClock,
    got: Mutex<Vec<Got>>,
    taken: Mutex<Vec<Got>>,
    wrongs: Mutex<Vec<String>>,
    faults: Mutex<Vec<Reply>>,
    blocked_until: Mutex<Option<Timestamp>>,
}

pub(crate) const KEY: &str = "robot-key-0451-hush";
pub(crate) const SIGN: &str = "SEC7f3a9hush";
pub(crate) const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

impl Platform {
    pub(crate) async fn start(plays: Plays, clock: &TestClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            plays,
            clock: clock.clone(),
            got: Mutex::default(),
            taken: Mutex::default(),
            wrongs: Mutex::default(),
            faults: Mutex::default(),
            blocked_until: Mutex::default(),
        });
        let stop = tokio_util::sync::CancellationToken::new();
        let (serving, until) = (Arc::clone(&inner), stop.clone());
        drop(tokio::spawn(async move {
            while let Some(Ok((stream, _))) = until.run_until_cancelled(listener.accept()).await {
                drop(tokio::spawn(Arc::clone(&serving).serve(stream)));
            }
        }));
        Self { address, inner, stop }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next answers, before the platform is itself again.
    pub(crate) fn fail(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inner.faults.lock().unwrap().extend(replies);
    }

    /// Every request.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.inner.got.lock().unwrap().clone()
    }

    /// The messages that people see.
    pub(crate) fn taken(&self) -> Vec<Got> {
        self.inner.taken.lock().unwrap().clone()
    }

    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.inner.wrongs.lock().unwrap().clone()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Inner {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let Some(got) = read(&mut stream, self.clock.now()).await else { return };
        self.got.lock().unwrap().push(got.clone());
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            if faults.is_empty() { None } else { Some(faults.remove(0)) }
        };
        let reply = fault.unwrap_or_else(|| self.judge(&got));
        let (status, kind, body, more) = match reply {
            Reply::Json(value) => (200, "application/json", value.to_string(), [].as_slice()),
            Reply::Text(status, text, headers) => (status, "text/plain", text.to_owned(), headers),
            Reply::Silence => return tokio::time::sleep(Duration::from_secs(30)).await,
            Reply::Close => return,
        };
        let more = more.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat();
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.ok();
        stream.write_all(body.as_bytes()).await.ok();
        stream.shutdown().await.ok();
    }

    fn wrong(&self, what: impl Into<String>) {
        self.wrongs.lock().unwrap().push(what.into());
    }

    fn judge(&self, got: &Got) -> Reply {
        let signed = |window_ms: i64, sent_ms: i64| (got.at.as_millis() - sent_ms).abs() <= window_ms;
        if got.header("content-type") != "application/json" {
            self.wrong(format!("content type {}", got.header("content-type")));
        }
        let body = got.json();
        let refused = match self.plays {
            Plays::Wecom => {
                let content = body.pointer("/markdown/content").or(body.pointer("/markdown_v2/content"));
                let content = content.and_then(Value::as_str).unwrap_or_default();
                match () {
                    () if got.path != "/cgi-bin/webhook/send" || got.query("key") != KEY => {
                        Some(json!({ "errcode": 93000, "errmsg": "invalid webhook url" }))
                    }
                    () if content.is_empty() => Some(json!({ "errcode": 44004, "errmsg": "empty content" })),
                    () if content.len() > 4096 => {
                        Some(json!({ "errcode": 40058, "errmsg": "content exceed max length" }))
                    }
                    () if self.too_many(got.at) => Some(json!({ "errcode": 45009, "errmsg": "api freq out of limit" })),
                    () => None,
                }
            }
            Plays::Dingtalk => {
                let timestamp = got.query("timestamp");
                let expected = sign(SIGN.as_bytes(), &format!("{timestamp}\n{SIGN}"));
                match () {
                    () if got.path != "/robot/send" || got.query("access_token") != KEY => {
                        Some(json!({ "errcode": 300_005, "errmsg": "token is not exist" }))
                    }
                    () if got.query("sign") != expected => {
                        Some(json!({ "errcode": 310_000, "errmsg": "sign not match" }))
                    }
                    () if !signed(3_600_000, timestamp.parse().unwrap_or(0)) => {
                        Some(json!({ "errcode": 310_000, "errmsg": "invalid timestamp" }))
                    }
                    () if body["markdown"]["title"].as_str().is_none_or(str::is_empty) || got.body.len() > 20_000 => {
                        Some(json!({ "errcode": 40035, "errmsg": "缺少参数 json" }))
                    }
                    () if self.shut(got.at) => {
                        Some(json!({ "errcode": 130_101, "errmsg": "send too fast, exceed 20 times per minute" }))
                    }
                    () => None,
                }
            }
            Plays::Feishu => {
                let timestamp = body["timestamp"].as_str().unwrap_or_default();
                let expected = sign(format!("{timestamp}\n{SIGN}").as_bytes(), "");
                match () {
                    () if got.path != format!("/open-apis/bot/v2/hook/{KEY}") => {
                        Some(json!({ "code": 19001, "msg": "param invalid: incoming webhook access token invalid" }))
                    }
                    () if body["sign"] != expected || !signed(3_600_000, timestamp.parse().unwrap_or(0) * 1000) => {
                        Some(json!({ "code": 19021, "msg": "sign match fail or timestamp is not within one hour" }))
                    }
                    () if got.body.len() > 20 * 1024 => Some(json!({ "code": 9499, "msg": "Bad Request" })),
                    () => None,
                }
            }
            Plays::Slack if body["text"].as_str().is_none_or(str::is_empty) => return Reply::Text(400, "no_text", &[]),
            Plays::Teams if body["type"] != "message" => return Reply::Text(400, "TriggerInputSchemaMismatch", &[]),
            Plays::Teams if body.pointer("/attachments/0/content/type") != Some(&json!("AdaptiveCard")) => {
                return Reply::Text(400, "TriggerInputSchemaMismatch", &[]);
            }
            Plays::Teams if got.body.len() > 28 * 1024 => return Reply::Text(413, "too large", &[]),
            Plays::Webhook => {
                let key = BASE64.decode(WHSEC.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
                let text = String::from_utf8(got.body.clone()).unwrap();
                let text = format!("{}.{}.{text}", got.header("webhook-id"), got.header("webhook-timestamp"));
                if got.header("webhook-signature") != format!("v1,{}", sign(&key, &text)) {
                    self.wrong("webhook-signature");
                    return Reply::Text(401, "signature", &[]);
                }
                None
            }
            Plays::Slack | Plays::Teams => None,
        };
        if let Some(refused) = refused {
            self.wrong(refused.to_string());
            return Reply::Json(refused);
        }
        self.taken.lock().unwrap().push(got.clone());
        match self.plays {
            Plays::Wecom | Plays::Dingtalk => Reply::Json(json!({ "errcode": 0, "errmsg": "ok" })),
            Plays::Feishu => Reply::Json(json!({ "code": 0, "msg": "success", "data": {}, "StatusCode": 0 })),
            Plays::Slack => Reply::Text(200, "ok", &[]),
            Plays::Teams => Reply::Text(202, "", &[]),
            Plays::Webhook => Reply::Text(204, "", &[]),
        }
    }

    /// The 21st in a minute.
    fn too_many(&self, now: Timestamp) -> bool {
        let taken = self.taken.lock().unwrap();
        taken.iter().filter(|got| got.at > now.minus(Duration::from_mins(1))).count() >= 20
    }

    /// The 21st in a minute shuts the robot for ten.
    fn shut(&self, now: Timestamp) -> bool {
        let mut until = self.blocked_until.lock().unwrap();
        if until.is_none_or(|until| until <= now) {
            *until = self.too_many(now).then(|| now.plus(Duration::from_mins(10)));
        }
        until.is_some()
    }
}

/// HMAC-SHA256 in base64.
fn sign(key: &[u8], text: &str) -> String {
    BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref())
}

async fn read(stream: &mut TcpStream, at: Timestamp) -> Option<Got> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let url = url::Url::parse(&format!("http://h{target}")).ok()?;
    let query = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    Some(Got { path: url.path().to_owned(), query, headers, body, at })
}
