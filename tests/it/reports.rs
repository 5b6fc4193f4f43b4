//! Reports as one task, against platforms that count calls, take their time, let links expire, and refuse what is not
//! theirs. Time is the test's own; a process that dies is one that is never heard of again.

mod amazon;
mod far;
mod nightly;
mod others;
mod shop;
mod walmart;

use std::sync::Arc;
use std::time::Duration;

use clawhook::clock::TestClock;
use clawhook::domain::run::Run;
use clawhook::domain::state::State;
use clawhook::id::{ConnectionName, RunId};
use clawhook::outbound::auth;
use clawhook::outbound::connection::{BaseUrl, Connection, Value as HeaderValue};
use clawhook::outbound::{Tls, budget};
use serde_json::{Value, json};

use self::amazon::{ADS, Amazon, Ending, REPORTS};
use self::far::{Far, File, Platform};
use crate::kit::{Kit, START, check_state, output, standing};
use crate::standin::{Close, Fault};

/// A connection to a stand-in that proves itself so.
pub(crate) fn connection(name: &str, url: &str, proof: Value) -> Connection {
    let kind = proof["type"].as_str().unwrap().to_owned();
    let mut settings = proof;
    settings.as_object_mut().unwrap().remove("type");
    Connection {
        name: ConnectionName::new(name).unwrap(),
        base_url: BaseUrl::new(url).unwrap(),
        auth: Some(auth::kind(&kind).unwrap().parse(settings, &Arc::default()).unwrap()),
        headers: Vec::new(),
        timeout: None,
        tls: Tls::default(),
        rate_limit: budget::Settings::default(),
        circuit_breaker: None,
    }
}

/// The published rates of Amazon's operations.
fn rates() -> budget::Settings {
    let operations = [
        ("POST /reports/2021-06-30/reports", "1/m", 15),
        ("GET /reports/2021-06-30/reports", "1/m", 10),
        ("GET /reports/2021-06-30/reports/*", "2/s", 15),
        ("GET /reports/2021-06-30/documents/*", "1/m", 15),
    ];
    let limit =
        |rate: &str, burst: u32| budget::Limit { rate: rate.parse().unwrap(), burst: burst.try_into().unwrap() };
    budget::Settings {
        rest: None,
        operations: operations.map(|(of, rate, burst)| (of.parse().unwrap(), limit(rate, burst))).into(),
    }
}

fn far_ends(far: &Far<Amazon>) -> Vec<Connection> {
    let lwa = |api: &str| {
        json!({ "type": "lwa", "client_id": "amzn1.app", "client_secret": { "secret_ref": "lwa-secret" },
            "refresh_token": { "secret_ref": "lwa-token" }, "token_url": format!("{}/auth/o2/token", far.url()), "api": api })
    };
    let mut selling = connection("amazon", &far.url(), lwa("selling_partner"));
    selling.rate_limit = rates();
    let mut ads = connection("ads", &far.url(), lwa("ads"));
    ads.headers
        .push(("amazon-advertising-api-scope".parse().unwrap(), HeaderValue::Plain("1234567890".parse().unwrap())));
    vec![selling, ads]
}

/// A workflow with one report.
pub(crate) fn one(connection: &str, kind: &str, with: &str, words: &str) -> String {
    format!(
        "version: 1\nname: pull\ntasks:\n  - {{ id: report, type: {kind}, connection: {connection}, {words} with: {{ {with} }} }}\n"
    )
}

const ORDERS: &str = "report_type: GET_FLAT_FILE_ALL_ORDERS, marketplaces: [ATVPDKIKX0DER], \
                      start: 2026-11-21T00:00:00+08:00, end: 2026-11-22T00:00:00+08:00";
const CAMPAIGNS: &str = "api: ads, start: 2026-11-21, end: 2026-11-21, configuration: { adProduct: SPONSORED_PRODUCTS, \
                         groupBy: [campaign], columns: [date, campaignId, cost], reportTypeId: spCampaigns, \
                         timeUnit: DAILY, format: GZIP_JSON }";

struct Trial<P: Platform = Amazon> {
    far: Far<P>,
    kit: Kit,
    workflow: String,
}

impl Trial {
    fn new(platform: Amazon, with: &str, words: &str) -> Self {
        let connection = if with.starts_with("api: ads") { "ads" } else { "amazon" };
        Self::on(platform, far_ends, &one(connection, "amazon_report", with, words))
    }
}

impl<P: Platform> Trial<P> {
    fn on(platform: P, connections: impl Fn(&Far<P>) -> Vec<Connection>, workflow: &str) -> Self {
        let clock = TestClock::at(START);
        let far = Far::start(Arc::new(clock.clone()), platform);
        let kit = Kit::with_far_ends(&[workflow], clock, connections(&far));
        Self { far, kit, workflow: workflow.to_owned() }
    }

    async fn pull(&self) -> Run {
        let id = self.kit.trigger("pull", json!({})).await;
        self.kit.settle().await;
        self.kit.until_ended(id).await
    }

    /// The gateway is gone at this moment, and another one comes.
    async fn dies(&mut self) {
        let next = self.kit.restarted(&[&self.workflow], "");
        // It is gone, with the run that it drove.
        std::mem::forget(std::mem::replace(&mut self.kit, next));
        self.kit.engine.take_over().await.unwrap();
    }

    /// The gateway is gone as soon as the far end has done something, before it hears of it.
    async fn dies_when(&mut self, done: impl Fn(&P) -> bool) {
        let there = async {
            while !done(&self.far.lock().platform) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = self.kit.settle() => panic!("the answer came"),
            () = there => {}
        }
        self.dies().await;
    }

    /// What the report's file holds.
    async fn text(&self, run: &Run) -> String {
        let handle = output(run, "report")["file"].clone();
        let handle = clawhook::artifacts::Handle::read(&handle).unwrap().unwrap();
        let mut reader = self.kit.engine.artifacts().reader(&handle).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            bytes.extend_from_slice(&piece);
        }
        let label = handle.charset.unwrap_or_default();
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap_or(encoding_rs::UTF_8);
        encoding.decode(&bytes).0.into_owned()
    }
}

/// A fault that lets the work be done and the answer come in drops.
fn drips(path: &str) -> Fault {
    Fault { path: path.to_owned(), times: 1, trickle_ms: 5_000, ..Fault::default() }
}

fn lost(path: &str) -> Fault {
    Fault { path: path.to_owned(), times: 1, close: Some(Close::After), ..Fault::default() }
}

fn fails(path: &str, status: u16, times: u32) -> Fault {
    Fault { path: path.to_owned(), times, status: Some(status), ..Fault::default() }
}

const ROWS: &str = "order-id\tsku\tname\r\n111-1\tA-1\t2\" lamp\r\n111-2\tB-7\tdesk\r\n";

#[tokio::test]
async fn a_report_is_asked_for_once_waited_for_and_fetched() {
    let trial = Trial::new(Amazon::new(3, Ending::rows(ROWS)), ORDERS, "");
    let id = trial.kit.trigger("pull", json!({})).await;
    trial.kit.settle().await;
    assert_eq!(standing(&trial.kit.read(id).await, "report"), "paused");
    let why = trial.kit.engine.why_waiting(id).await.unwrap().unwrap();
    assert!(why.contains("report 50001 is asked for"), "{why}");
    let run = trial.kit.until_ended(id).await;
    check_state(&run, State::Succeeded);
    let given = output(&run, "report");
    assert_eq!((&given["report"], &given["no_data"]), (&json!("50001"), &json!(false)));
    assert_eq!(given["file"]["media_type"], "text/tab-separated-values");
    assert_eq!(trial.text(&run).await, ROWS);
    assert!(!run.retried, "waiting is no failure");
    let asked = trial.far.standin.requests_to(REPORTS)[0].json().unwrap();
    let body = json!({ "reportType": "GET_FLAT_FILE_ALL_ORDERS", "marketplaceIds": ["ATVPDKIKX0DER"],
        "dataStartTime": "2026-11-21T00:00:00+08:00", "dataEndTime": "2026-11-22T00:00:00+08:00" });
    assert_eq!((asked, trial.far.count("POST", REPORTS)), (body, 1));
    let log = format!("{:?}", trial.kit.log(run.id).await);
    assert!(!log.contains("5ig") && !log.contains("Atza|"), "no link and no token is on record");
    assert_eq!(trial.far.lock().platform.token_calls, 1);
    trial.far.check();
}

#[tokio::test]
async fn files_keep_their_charset_and_packing() {
    let file = |encoding: &'static encoding_rs::Encoding, text: &str, content_type| File {
        bytes: encoding.encode(text).0.into_owned(),
        content_type,
    };
    for (text, file, gzip) in [
        ("a\r\nJosé\r\n", file(encoding_rs::WINDOWS_1252, "a\r\nJosé\r\n", "text/plain; charset=Cp1252"), true),
        (
            "商品\r\nランプ\r\n",
            file(encoding_rs::SHIFT_JIS, "商品\r\nランプ\r\n", "text/plain;charset=Shift_JIS"),
            false,
        ),
    ] {
        let trial = Trial::new(Amazon::new(1, Ending::Done { file, gzip }), ORDERS, "");
        assert_eq!(trial.text(&trial.pull().await).await, text);
        trial.far.check();
    }
}

#[tokio::test]
async fn a_link_that_expired_is_asked_for_again_and_the_report_is_not() {
    let trial = Trial::new(Amazon::new(1, Ending::rows(ROWS)), ORDERS, "");
    trial.far.lock().desk.files.stale = 2;
    let run = trial.pull().await;
    assert_eq!(trial.text(&run).await, ROWS);
    let documents = trial.far.standin.requests().iter().filter(|one| one.path.contains("/documents/")).count();
    assert_eq!((documents, trial.far.count("POST", REPORTS)), (3, 1));
    trial.far.check();
}

#[tokio::test]
async fn nothing_in_a_report_is_no_failure() {
    for (platform, more, bytes) in [
        (Amazon::new(1, Ending::Cancelled), ", when_cancelled: no_data", 0),
        (Amazon::new(1, Ending::rows("order-id\tsku\r\n")), "", 14),
    ] {
        let trial = Trial::new(platform, &format!("{ORDERS}{more}"), "");
        let run = trial.pull().await;
        let given = output(&run, "report");
        assert_eq!((&given["no_data"], &given["file"]["bytes"]), (&json!(true), &json!(bytes)));
        trial.far.check();
    }
}

#[tokio::test]
async fn a_cancelled_report_is_told_apart_as_far_as_can_be() {
    let trial = Trial::new(Amazon::new(1, Ending::Cancelled), ORDERS, "");
    let failure = trial.pull().await.failure.unwrap();
    assert_eq!(failure.code, "report.cancelled", "{failure:?}");
    assert!(failure.help.unwrap().contains("when_cancelled: no_data"));
    trial.far.check();

    let mut platform = Amazon::new(1, Ending::Cancelled);
    platform.endings.insert(0, Ending::rows(ROWS));
    let trial = Trial::new(platform, &format!("{ORDERS}, when_cancelled: no_data"), "");
    check_state(&trial.pull().await, State::Succeeded);
    let failure = trial.pull().await.failure.unwrap();
    assert_eq!(failure.code, "report.too_often", "{failure:?}");
    assert!(failure.message.contains("50001"), "{failure:?}");
    trial.far.check();
}

#[tokio::test]
async fn a_report_that_failed_says_why_and_a_retry_asks_for_another() {
    let reason = "The report could not be made: the end is in the future.";
    let trial = Trial::new(Amazon::new(1, Ending::Fatal { reason: Some(reason) }), ORDERS, "");
    let failure = trial.pull().await.failure.unwrap();
    assert_eq!(failure.code, "report.failed");
    assert!(failure.message.contains(reason), "{failure:?}");
    trial.far.check();

    let mut platform = Amazon::new(1, Ending::rows(ROWS));
    platform.endings.insert(0, Ending::Fatal { reason: None });
    let trial = Trial::new(platform, ORDERS, "retry: 1, retry_delay: 1m,");
    let run = trial.pull().await;
    assert_eq!(output(&run, "report")["report"], "50002");
    trial.far.check();
}

#[tokio::test]
async fn a_report_that_never_comes_ends_the_wait() {
    let trial = Trial::new(Amazon::new(1, Ending::Never), &format!("{ORDERS}, poll: {{ timeout: 30m }}"), "");
    let failure = trial.pull().await.failure.unwrap();
    assert_eq!(failure.code, "report.timeout");
    assert!(failure.message.contains("report 50001 was not there within 30m: IN_PROGRESS"), "{failure:?}");
    trial.far.check();
}

#[tokio::test]
async fn data_of_buyers_is_fetched_by_a_token_of_its_own() {
    let restricted = || {
        let mut platform = Amazon::new(1, Ending::rows(ROWS));
        platform.restricted.push("GET_FLAT_FILE_ALL_ORDERS");
        platform
    };
    let trial = Trial::new(restricted(), ORDERS, "");
    assert_eq!(trial.pull().await.failure.unwrap().code, "http.status");
    let more = ", restricted: { data_elements: [buyerInfo] }";
    let trial = Trial::new(restricted(), &format!("{ORDERS}{more}"), "");
    let run = trial.pull().await;
    assert_eq!(trial.text(&run).await, ROWS);
    let log = format!("{:?}", trial.kit.log(run.id).await);
    assert!(!log.contains("sprdt"), "the token is not on record");
    trial.far.check();
}

/// Whatever the moment at which the gateway is gone: one report, fetched once.
#[tokio::test]
async fn a_gateway_that_dies_asks_for_no_second_report() {
    let document = "/reports/2021-06-30/documents/amzn1.spdoc.1%2F50001";
    for (stage, path) in [
        ("asked, not heard", REPORTS),
        ("looked, not heard", "/reports/2021-06-30/reports/50001"),
        ("a link, not heard", document),
        ("half of the file", "/storage/0"),
    ] {
        let mut trial = Trial::new(Amazon::new(2, Ending::rows(ROWS)), ORDERS, "");
        let id = trial.kit.trigger("pull", json!({})).await;
        if path != REPORTS {
            trial.kit.settle().await;
        }
        for _ in 0..if path == document || path.starts_with("/storage") { 2 } else { 0 } {
            trial.kit.pass(Duration::from_secs(45)).await;
        }
        trial.far.standin.fail(drips(path));
        trial.kit.clock.advance(Duration::from_mins(2));
        trial.dies_when_called(path).await;
        trial.kit.settle().await;
        let run = trial.kit.until_ended(id).await;
        assert_eq!(trial.text(&run).await, ROWS, "{stage}");
        assert_eq!(trial.far.count("POST", REPORTS), 1, "{stage}");
        trial.far.check();
    }
}

impl Trial {
    /// The gateway is gone when a path was called once more, before its answer is whole.
    async fn dies_when_called(&mut self, path: &str) {
        let path = path.to_owned();
        let before = self.far.standin.requests_to(&path).len();
        let asked = path == REPORTS;
        let called = async {
            while self.far.standin.requests_to(&path).len() == before
                || (asked && self.far.lock().platform.reports.is_empty())
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = self.kit.settle() => panic!("the answer of {path} came"),
            () = called => {}
        }
        self.dies().await;
    }
}

/// Between any two calls the gateway may go and another one come.
#[tokio::test]
async fn a_gateway_that_is_replaced_between_all_steps_goes_on() {
    let mut trial = Trial::new(Amazon::new(4, Ending::rows(ROWS)), ORDERS, "");
    let id = trial.kit.trigger("pull", json!({})).await;
    trial.kit.settle().await;
    let mut lives = 1;
    while !trial.kit.read(id).await.state.is_ended() {
        trial.dies().await;
        trial.kit.pass(Duration::from_mins(6)).await;
        lives += 1;
    }
    assert!(lives > 3, "{lives}");
    assert_eq!(trial.text(&trial.kit.read(id).await).await, ROWS);
    assert_eq!(trial.far.count("POST", REPORTS), 1);
    trial.far.check();
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_reason_to_ask_twice() {
    let trial = Trial::new(Amazon::new(1, Ending::rows(ROWS)), ORDERS, "retry: 3, retry_delay: 10s,");
    trial.far.standin.fail(lost(REPORTS));
    trial.far.standin.fail(fails("/reports/2021-06-30/reports/50001", 503, 1));
    let run = trial.pull().await;
    assert_eq!(trial.text(&run).await, ROWS);
    assert_eq!((trial.far.count("POST", REPORTS), trial.far.count("GET", REPORTS)), (1, 1));
    trial.far.check();
    // With options the list does not tell one from another: the right data is worth a second request.
    let trial = Trial::new(Amazon::new(1, Ending::rows(ROWS)), &format!("{ORDERS}, options: {{ a: b }}"), "retry: 1,");
    trial.far.standin.fail(lost(REPORTS));
    assert_eq!(output(&trial.pull().await, "report")["report"], "50002");
    trial.far.check();
}

#[tokio::test]
async fn a_resume_takes_the_report_over_that_was_asked_for() {
    let trial = Trial::new(Amazon::new(1, Ending::rows(ROWS)), ORDERS, "");
    trial.far.standin.fail(fails("/reports/2021-06-30/reports/50001", 500, 1));
    let failed = trial.pull().await;
    check_state(&failed, State::Failed);
    trial.kit.engine.resume(failed.id, "test").await.unwrap();
    trial.kit.settle().await;
    let run = trial.kit.until_ended(failed.id).await;
    assert_eq!((output(&run, "report")["report"].clone(), trial.far.count("POST", REPORTS)), (json!("50001"), 1));
    trial.far.check();
}

#[tokio::test]
async fn a_day_of_pulls_by_many_runs_meets_no_refusal() {
    let trial = Trial::new(Amazon::new(2, Ending::rows(ROWS)), ORDERS, "");
    let mut runs: Vec<RunId> = Vec::new();
    for _ in 0..24 {
        for _ in 0..6 {
            runs.push(trial.kit.trigger("pull", json!({})).await);
        }
        for _ in 0..60 {
            trial.kit.pass(Duration::from_mins(1)).await;
        }
    }
    for id in &runs {
        let run = trial.kit.until_ended(*id).await;
        check_state(&run, State::Succeeded);
    }
    let far = trial.far.lock();
    assert_eq!((far.desk.refused, far.platform.reports.len()), (0, runs.len()));
    // A token lives for an hour, and is asked for a little before that.
    assert!(far.platform.token_calls <= 29, "{}", far.platform.token_calls);
    drop(far);
    trial.far.check();
}

#[tokio::test]
async fn ads_reports_keep_their_digits_and_share_a_twin() {
    let trial = Trial::new(Amazon::new(2, Ending::Never), CAMPAIGNS, "");
    let runs = [trial.kit.trigger("pull", json!({})).await, trial.kit.trigger("pull", json!({})).await];
    trial.kit.settle().await;
    for id in runs {
        let run = trial.kit.until_ended(id).await;
        let text = trial.text(&run).await;
        assert!(text.contains("9007199254740993") && text.contains("1.10"), "{text}");
        assert_eq!(output(&run, "report")["report"], "ad-0");
    }
    assert_eq!(trial.far.lock().platform.ads.len(), 1, "the second run takes the report of the first");
    trial.far.check();
}

#[tokio::test]
async fn ads_reports_fail_with_their_reason_and_may_be_empty() {
    let mut platform = Amazon::new(1, Ending::Never);
    platform.ads_failure = Some("Report generation timed out");
    let trial = Trial::new(platform, CAMPAIGNS, "");
    let failure = trial.pull().await.failure.unwrap();
    assert!(failure.message.contains("Report generation timed out"), "{failure:?}");
    trial.far.check();

    let mut platform = Amazon::new(1, Ending::Never);
    "[]".clone_into(&mut platform.ads_rows);
    let trial = Trial::new(platform, CAMPAIGNS, "");
    trial.far.lock().desk.files.stale = 1;
    assert_eq!(output(&trial.pull().await, "report")["no_data"], true);
    assert_eq!(trial.far.count("POST", ADS), 1);
    trial.far.check();

    // What the files cannot know before is found before anything is asked for.
    let with = CAMPAIGNS.replace("end: 2026-11-21", "end: \"${{ '2026-12-31' }}\"");
    let trial = Trial::new(Amazon::new(1, Ending::Never), &with, "");
    let failure = trial.pull().await.failure.unwrap();
    assert_eq!((failure.code.as_str(), trial.far.count("POST", ADS)), ("report.wanted", 0));
}
