//! Connections that trade credentials for tokens, against token endpoints that count, expire, refuse and fail.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex as StdMutex;

use serde_json::{Value as Json, json};

use super::*;
use crate::clock::{Clock, TestClock, Timestamp};
use crate::domain::failure::{Failure, Retry};
use crate::domain::secret::{self, SecretRef, SecretValue};
use crate::id::{ConnectionName, RunId};
use crate::outbound::call::{Called, Caller, Outcome};
use crate::outbound::connection::{BaseUrl, Connection};

/// What the platform does next with who asks for a token.
#[derive(Clone, Copy, Default, PartialEq)]
enum Mood {
    #[default]
    Gives,
    Revoked,
    Down,
}

#[derive(Default)]
struct State {
    mood: Mood,
    tokens: usize,
    /// The only token that the API takes.
    valid: String,
    /// The refresh token that it wants, when it replaces them.
    refresh: Option<String>,
    refuses_all: bool,
    calls: usize,
    seen_ids: HashSet<String>,
    wrongs: Vec<String>,
}

/// A platform: `/token` gives tokens, everything else wants one.
struct Platform {
    far: FarEnd,
    state: Arc<StdMutex<State>>,
}

fn header<'r>(request: &'r str, name: &str) -> Option<&'r str> {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn told(status: u16, body: &Json) -> Reply {
    Reply::Keep(answer(status, "content-type: application/json\r\n", body.to_string().as_bytes()))
}

impl Platform {
    async fn start() -> Self {
        let state = Arc::new(StdMutex::new(State::default()));
        let shared = Arc::clone(&state);
        let far = FarEnd::http(move |_, request| shared.lock().unwrap().answer(request)).await;
        Self { far, state }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Tokens that were asked for, and calls that came.
    fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.tokens, state.calls)
    }

    fn connection(&self, kind: &str, extra: &Json) -> Arc<Connection> {
        let mut settings = json!({
            "token_url": self.far.url("/token"),
            "client_id": "the-client",
            "client_secret": { "secret_ref": "client-secret" },
        });
        settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let auth = auth::kind(kind).unwrap().parse(settings, &Arc::default()).unwrap();
        Arc::new(Connection {
            name: ConnectionName::new("shop").unwrap(),
            base_url: BaseUrl::new(&self.far.url("")).unwrap(),
            auth: Some(auth),
            headers: Vec::new(),
            timeout: None,
            tls: Tls::default(),
            rate_limit: budget::Settings::default(),
            circuit_breaker: None,
        })
    }
}

impl State {
    fn answer(&mut self, request: &str) -> Reply {
        if request.starts_with("POST /token ") {
            return self.token(request);
        }
        self.calls += 1;
        let token = ["x-amz-access-token", "wm_sec.access_token"].iter().find_map(|name| header(request, name));
        let token = token.or_else(|| header(request, "authorization")?.strip_prefix("Bearer "));
        if let Some(id) = header(request, "wm_qos.correlation_id")
            && !self.seen_ids.insert(id.to_owned())
        {
            self.wrongs.push(format!("the correlation id {id} was used twice"));
        }
        if self.refuses_all || token != Some(self.valid.as_str()) {
            let status = if header(request, "x-amz-access-token").is_some() { 403 } else { 401 };
            let details = "The access token you provided has expired.";
            return told(status, &json!({"errors": [{"code": "Unauthorized", "details": details}]}));
        }
        told(200, &json!({"echo": token}))
    }

    fn token(&mut self, request: &str) -> Reply {
        self.tokens += 1;
        let body = request.split("\r\n\r\n").nth(1).unwrap_or_default();
        let form: BTreeMap<_, _> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        if header(request, "content-type") != Some("application/x-www-form-urlencoded") {
            self.wrongs.push("no form".to_owned());
        }
        if header(request, "accept") != Some("application/json") {
            return Reply::Keep(answer(200, "content-type: application/xml\r\n", b"<token/>"));
        }
        match self.mood {
            Mood::Revoked => {
                return told(400, &json!({"error": "invalid_grant", "error_description": "not the-refresh-token"}));
            }
            Mood::Down => return told(503, &json!({})),
            Mood::Gives => {}
        }
        let mut given = json!({"access_token": format!("access-{}", self.tokens), "expires_in": 3600});
        if let Some(wanted) = &self.refresh {
            if form.get("refresh_token") != Some(wanted) {
                return told(400, &json!({"error": "invalid_grant"}));
            }
            let next = format!("refresh-{}", self.tokens);
            given["refresh_token"] = json!(next);
            self.refresh = Some(next);
        }
        self.valid = format!("access-{}", self.tokens);
        told(200, &given)
    }
}

/// A source whose refresh token can be replaced.
#[derive(Debug)]
struct Source(StdMutex<String>);

#[async_trait]
impl Secrets for Source {
    async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, secret::Error> {
        Ok(SecretValue::new(match reference.name.as_str() {
            "refresh" => self.0.lock().unwrap().clone(),
            name => format!("the-{name}"),
        }))
    }
}

struct Desk {
    client: Client,
    clock: TestClock,
    secrets: Source,
}

impl Desk {
    fn new() -> Self {
        let clock = TestClock::at(Timestamp::from_secs(1_795_338_000));
        Self { client: local(), clock, secrets: Source(StdMutex::new("the-refresh-token".to_owned())) }
    }

    fn caller<'c>(&'c self, connection: &'c Connection) -> Caller<'c> {
        Caller {
            stead: None,
            connection: Some(connection),
            run: RunId::floor(self.clock.now()),
            ticket: "ticket",
            secrets: &self.secrets,
            clock: &self.clock,
            time_limit: Duration::from_mins(1),
        }
    }

    /// A call whose answer streams: its status, and its body.
    async fn open(&self, connection: &Connection) -> (u16, String) {
        let request = connection.request(Method::GET, "/orders", &[]).unwrap();
        let mut masker = Masker::over(self.client.known(&self.secrets));
        let idle = Duration::from_secs(10);
        let ended = self.client.call_open(&self.caller(connection), request, idle, &mut masker).await;
        let Outcome::Answered(opened) = ended.outcome else { panic!("{ended:?}") };
        let announced = opened.body.announced();
        let (status, body) = (opened.status.as_u16(), opened.body.words(10_000).await);
        assert_eq!(announced, Some(body.len() as u64), "what was read ahead is still there");
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn call(&self, connection: &Connection) -> Called {
        let request = connection.request(Method::POST, "/orders", &[]).unwrap();
        let mut masker = Masker::over(self.client.known(&self.secrets));
        let caller = self.caller(connection);
        let ended = self.client.call(&caller, request, &mut masker).await;
        let record = format!("{:?}", ended.request);
        assert!(!record.contains("the-client-secret") && !record.contains(": access-"), "{record}");
        let token = record.replace("[secret:access-token]", "");
        assert!(!token.contains("access-1") && !token.contains("access-2"), "{record}");
        ended
    }

    async fn status(&self, connection: &Connection) -> u16 {
        match self.call(connection).await.outcome {
            Outcome::Answered(response) => response.status.as_u16(),
            other => panic!("{other:?}"),
        }
    }

    async fn refusal(&self, connection: &Connection) -> Failure {
        match self.call(connection).await.outcome {
            Outcome::Unproved(auth::Error::Grant(failure)) => (*failure).clone(),
            other => panic!("{other:?}"),
        }
    }

    /// This many calls at one time; their statuses.
    async fn crowd(&self, connection: &Connection, count: usize) -> Vec<u16> {
        futures_util::future::join_all((0..count).map(|_| self.status(connection))).await
    }
}

fn lwa(platform: &Platform) -> Arc<Connection> {
    platform.connection("lwa", &json!({"refresh_token": {"secret_ref": "refresh"}}))
}

#[tokio::test]
async fn a_call_that_streams_replaces_a_refused_token_once() {
    for (kind, extra, status) in [
        ("lwa", json!({"refresh_token": {"secret_ref": "refresh"}}), 403),
        ("oauth2_client_credentials", json!({}), 401),
    ] {
        let (platform, desk) = (Platform::start().await, Desk::new());
        let connection = platform.connection(kind, &extra);
        assert_eq!(desk.open(&connection).await, (200, r#"{"echo":"access-1"}"#.to_owned()));
        desk.clock.advance(limits::TOKEN_FRESH);
        platform.lock().valid = "gone".to_owned();
        assert_eq!(desk.open(&connection).await, (200, r#"{"echo":"access-2"}"#.to_owned()));
        assert_eq!(platform.counts(), (2, 3));
        // One that is always refused is not replaced for ever, and the words of the refusal are whole.
        desk.clock.advance(limits::TOKEN_FRESH);
        platform.lock().refuses_all = true;
        let (refused, words) = desk.open(&connection).await;
        assert!(refused == status && words.contains("The access token you provided has expired."), "{refused} {words}");
        assert_eq!(platform.counts(), (3, 5));
    }
}

#[tokio::test]
async fn a_crowd_asks_for_one_token_now_and_after_it_ended() {
    let (platform, desk) = (Platform::start().await, Desk::new());
    let connection = lwa(&platform);
    assert_eq!(desk.crowd(&connection, 50).await, [200; 50]);
    assert_eq!(platform.lock().tokens, 1);
    desk.clock.advance(Duration::from_secs(3601));
    assert_eq!(desk.crowd(&connection, 50).await, [200; 50]);
    // Another connection with the same credentials needs no token of its own.
    assert_eq!(desk.status(&lwa(&platform)).await, 200);
    let state = platform.lock();
    assert_eq!((state.tokens, state.calls, state.wrongs.len()), (2, 101, 0));
}

#[tokio::test]
async fn a_token_is_replaced_early_while_it_serves_on() {
    let (platform, desk) = (Platform::start().await, Desk::new());
    let connection = lwa(&platform);
    desk.status(&connection).await;
    desk.clock.advance(Duration::from_secs(3600 * 84 / 100));
    desk.status(&connection).await;
    assert_eq!(platform.lock().tokens, 1, "no sooner than it must be");
    platform.lock().mood = Mood::Down;
    desk.clock.advance(Duration::from_secs(3600 * 8 / 100));
    assert_eq!(desk.status(&connection).await, 200, "the old one serves while no new one is to be had");
    desk.client.close().await;
    assert_eq!(platform.lock().tokens, 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all() {
    let (platform, desk) = (Platform::start().await, Desk::new());
    for (kind, extra) in [("lwa", json!({"refresh_token": {"secret_ref": "refresh"}})), ("walmart", json!({}))] {
        let connection = platform.connection(kind, &extra);
        desk.status(&connection).await;
        let tokens = platform.lock().tokens;
        desk.clock.advance(limits::TOKEN_FRESH);
        platform.lock().valid = "none of ours".to_owned();
        assert_eq!(desk.crowd(&connection, 10).await, [200; 10], "{kind}");
        assert_eq!(platform.lock().tokens, tokens + 1, "{kind}");
        let calls = platform.lock().calls;
        desk.clock.advance(limits::TOKEN_FRESH);
        platform.lock().refuses_all = true;
        assert!(matches!(desk.status(&connection).await, 401 | 403));
        assert_eq!(platform.lock().calls, calls + 2, "once more, and not for ever");
        platform.lock().refuses_all = false;
    }
    assert_eq!(platform.lock().wrongs, Vec::<String>::new());
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_is_not_replaced() {
    let (platform, desk) = (Platform::start().await, Desk::new());
    let connection = lwa(&platform);
    platform.lock().refuses_all = true;
    assert_eq!(desk.crowd(&connection, 20).await, [403; 20]);
    assert_eq!(platform.counts(), (1, 20), "each call is made once, with the one token there is");
    desk.clock.advance(limits::TOKEN_FRESH.saturating_sub(Duration::from_secs(1)));
    assert_eq!((desk.status(&connection).await, platform.counts()), (403, (1, 21)));
    desk.clock.advance(Duration::from_secs(1));
    assert_eq!((desk.status(&connection).await, platform.counts()), (403, (2, 23)), "then another is asked for, once");
    assert_eq!((desk.status(&connection).await, platform.counts()), (403, (2, 24)));
    platform.lock().refuses_all = false;
    assert_eq!(
        (desk.status(&connection).await, platform.counts()),
        (200, (2, 25)),
        "and it serves when the platform takes it"
    );
}

#[tokio::test]
async fn a_revoked_seller_is_told_and_not_asked_again() {
    let (platform, desk) = (Platform::start().await, Desk::new());
    let connection = lwa(&platform);
    platform.lock().mood = Mood::Revoked;
    let failures = futures_util::future::join_all((0..20).map(|_| desk.refusal(&connection))).await;
    assert_eq!(platform.lock().tokens, 1, "twenty who wait for one failure ask once");
    let failure = &failures[19];
    assert_eq!((failure.code.as_str(), failure.retry, failure.sent), ("token.refused", Retry::Never, Sent::No));
    assert!(failure.message.ends_with("400 Bad Request (invalid_grant: not [secret:refresh])"), "{failure:?}");
    assert!(failure.help.as_deref().unwrap().starts_with("the seller has revoked the authorization"));
    assert_eq!(platform.lock().calls, 0);
    platform.lock().mood = Mood::Gives;
    desk.clock.advance(Duration::from_secs(2));
    assert_eq!(desk.status(&connection).await, 200);
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_worth_a_retry() {
    let (platform, desk) = (Platform::start().await, Desk::new());
    platform.lock().mood = Mood::Down;
    let failure = desk.refusal(&lwa(&platform)).await;
    assert_eq!((failure.code.as_str(), failure.class), ("token.unavailable", Class::Status(503)));
    assert_eq!((failure.retry, failure.sent), (Retry::Backoff, Sent::No));
    let gone = json!({"token_url": "http://127.0.0.1:9/token", "refresh_token": {"secret_ref": "refresh"}});
    let failure = desk.refusal(&platform.connection("lwa", &gone)).await;
    assert_eq!((failure.code.as_str(), failure.class), ("token.unavailable", Class::Connect));
    assert_eq!((failure.retry, failure.sent), (Retry::Backoff, Sent::No));
}

#[tokio::test]
async fn a_replaced_refresh_token_is_kept_until_the_source_has_another() {
    let (platform, desk) = (Platform::start().await, Desk::new());
    let connection = platform.connection("oauth2_refresh_token", &json!({"refresh_token": {"secret_ref": "refresh"}}));
    platform.lock().refresh = Some("the-refresh-token".to_owned());
    for _ in 0..3 {
        assert_eq!(desk.status(&connection).await, 200);
        desk.clock.advance(Duration::from_secs(3601));
    }
    assert_eq!(platform.lock().refresh.as_deref(), Some("refresh-3"));
    // Somebody authorizes again and puts the new token into the source.
    *desk.secrets.0.lock().unwrap() = "authorized-again".to_owned();
    platform.lock().refresh = Some("authorized-again".to_owned());
    assert_eq!(desk.status(&connection).await, 200);
}

#[tokio::test]
async fn every_way_sends_what_its_platform_wants() {
    let (platform, desk) = (Platform::start().await, Desk::new());
    let walmart = platform.connection("walmart", &json!({"channel_type": {"secret_ref": "channel"}}));
    assert_eq!(desk.crowd(&walmart, 3).await, [200; 3]);
    let ads = json!({"api": "ads", "refresh_token": {"secret_ref": "refresh"}});
    assert_eq!(desk.status(&platform.connection("lwa", &ads)).await, 200);
    let machine = json!({"client_auth": "post", "audience": "erp", "params": {"resource": {"secret_ref": "extra"}}});
    assert_eq!(desk.status(&platform.connection("oauth2_client_credentials", &machine)).await, 200);
    let requests = platform.far.requests();
    let holds = |place: usize, parts: &[&str]| {
        for part in parts {
            assert!(requests[place].contains(part), "{part} is not in {}", requests[place]);
        }
    };
    // base64("the-client:the-client-secret")
    let basic = "authorization: Basic dGhlLWNsaWVudDp0aGUtY2xpZW50LXNlY3JldA==\r\n";
    let channel = "wm_consumer.channel.type: the-channel\r\n";
    holds(0, &[basic, channel, "wm_svc.name: Walmart Marketplace\r\n", "\r\n\r\ngrant_type=client_credentials"]);
    holds(1, &["wm_sec.access_token: access-1\r\n", channel, "accept: application/json\r\n"]);
    holds(4, &["grant_type=refresh_token&refresh_token=the-refresh-token&client_id=the-client&client_secret=the-c"]);
    holds(5, &["authorization: Bearer access-2\r\n", "amazon-advertising-api-clientid: the-client\r\n"]);
    holds(6, &["grant_type=client_credentials&audience=erp&resource=the-extra&client_id=the-client"]);
    assert!(!requests[1].contains("\r\nauthorization: ") && !requests[6].contains("\r\nauthorization: "));
    assert_eq!(platform.lock().wrongs, Vec::<String>::new());
}

#[tokio::test]
async fn what_one_task_got_another_does_not_show() {
    let (platform, desk) = (Platform::start().await, Desk::new());
    let connection = lwa(&platform);
    let Outcome::Answered(response) = desk.call(&connection).await.outcome else { panic!("no answer") };
    let echo = String::from_utf8(response.body.to_vec()).unwrap();
    assert_eq!(echo, r#"{"echo":"access-1"}"#);
    let known = desk.client.known(&desk.secrets);
    assert_eq!(known.mask(&echo), r#"{"echo":"[secret:access-token]"}"#);
    assert!(desk.clock.now() > Timestamp::from_secs(0));
}
