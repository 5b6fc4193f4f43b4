//! People are told: the task kind `notify` through the real engine, against stand-ins of the platforms over real
//! sockets, with the settings as people write them.

mod governor;
mod mail;
mod platform;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawhook::clock::TestClock;
use clawhook::domain::failure::{Failure, Sent};
use clawhook::domain::masking::Masker;
use clawhook::domain::run::Run;
use clawhook::domain::secret::{Error, SecretRef, SecretValue, Secrets};
use clawhook::domain::state::State;
use clawhook::settings::Settings;
use serde_json::{Value, json};

use crate::kit::{Kit, START, Telling, check_state, output, standing};
use platform::{KEY, Platform, Plays, Reply, SIGN, WHSEC};

/// The secrets of the channels.
#[derive(Debug)]
struct Drawer(BTreeMap<String, String>);

#[async_trait]
impl Secrets for Drawer {
    async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, Error> {
        let name = reference.name.clone();
        let help = "put it there".to_owned();
        let found = self.0.get(name.as_str()).ok_or(Error::Missing { name, source_name: "drawer", help })?;
        Ok(SecretValue::new(found.as_str()))
    }

    fn known(&self) -> Arc<Masker> {
        Arc::default()
    }
}

/// Channels as `clawhook.yaml` has them; the settings must have no problem.
#[track_caller]
fn telling(channels: &str, secrets: &[(&str, &str)]) -> Telling {
    let text = format!("version: 1\nauth: none\negress: {{ allow: [\"127.0.0.0/8\"] }}\nchannels:\n{channels}\n");
    let (settings, problems) = Settings::resolve("clawhook.yaml", text.as_bytes(), Path::new("/"), []);
    assert!(problems.is_empty(), "{problems:?}");
    let own = [("key", KEY), ("sign", SIGN), ("whsec", WHSEC)];
    let secrets = own.iter().chain(secrets).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Telling { channels: settings.unwrap().channels, secrets: Arc::new(Drawer(secrets)) }
}

/// A workflow with one notice, whose `with` is this.
fn tells(with: &str) -> String {
    format!(
        "version: 1\nname: tell\ninputs: {{ rows: {{ type: array, default: [] }}, order: {{ type: string, default: '#1042' }} }}\n\
         tasks:\n  - {{ id: tell, type: notify, with: {with} }}\n"
    )
}

const PLAIN: &str = "{ channel: ops, title: 'Order ${{ inputs.order }} failed', text: 'the **ERP** said no', level: error, group: '${{ inputs.order }}' }";

#[track_caller]
fn failure(run: &Run) -> &Failure {
    check_state(run, State::Failed);
    run.failure.as_ref().unwrap()
}

fn settings_of(plays: Plays, url: &str) -> String {
    match plays {
        Plays::Wecom => format!("  ops: {{ type: wecom, key: {{ secret_ref: key }}, base_url: '{url}' }}"),
        Plays::Dingtalk => format!(
            "  ops: {{ type: dingtalk, access_token: {{ secret_ref: key }}, sign: {{ secret_ref: sign }}, base_url: '{url}' }}"
        ),
        Plays::Feishu => format!(
            "  ops: {{ type: feishu, hook: {{ secret_ref: key }}, sign: {{ secret_ref: sign }}, base_url: '{url}' }}"
        ),
        Plays::Slack => "  ops: { type: slack, url: { secret_ref: url } }".to_owned(),
        Plays::Teams => "  ops: { type: teams, url: { secret_ref: url } }".to_owned(),
        Plays::Webhook => "  ops: { type: webhook, url: { secret_ref: url }, sign: { secret_ref: whsec } }".to_owned(),
    }
}

const SECRET_PATH: &str = "/services/T0HUSH/B0HUSHHUSH/hush-hush-hush";

async fn kit_of(plays: Plays, workflow: &str) -> (Kit, Platform) {
    let clock = TestClock::at(START);
    let platform = Platform::start(plays, &clock).await;
    let url = format!("{}{SECRET_PATH}?sig=hush%2Bhush%2Fhush", platform.url());
    let telling = telling(&settings_of(plays, &platform.url()), &[("url", &url)]);
    (Kit::with_channels(&[workflow], "", clock, telling), platform)
}

const ALL: [Plays; 6] = [Plays::Wecom, Plays::Dingtalk, Plays::Feishu, Plays::Slack, Plays::Teams, Plays::Webhook];

#[tokio::test]
async fn every_platform_takes_what_it_is_sent() {
    let with = "{ channel: ops, title: 'Order ${{ inputs.order }} failed', text: 'the **ERP** said no', level: error, \
                table: { columns: [sku, gap], rows: '${{ inputs.rows }}', max_rows: 2 } }";
    for plays in ALL {
        let (kit, platform) = kit_of(plays, &tells(with)).await;
        let rows = json!([{ "sku": "A-1", "gap": 5 }, { "sku": "B-2", "gap": 6 }, { "sku": "C-3", "gap": 7 }]);
        let run = kit.run("tell", json!({ "rows": rows })).await;
        check_state(&run, State::Succeeded);
        let told = output(&run, "tell");
        assert_eq!(
            (&told["result"], &told["rows"], &told["messages"]),
            (&json!("sent"), &json!(2), &json!(1)),
            "{told}"
        );
        assert_eq!(platform.wrongs(), Vec::<String>::new(), "{plays:?}");
        let taken = platform.taken();
        let body = String::from_utf8(taken[0].body.clone()).unwrap();
        for text in ["#1042 failed", "ERP", "A-1", "B-2"] {
            assert!(body.contains(text), "{plays:?}: no {text} in {body}");
        }
        assert!(!body.contains("C-3"), "{plays:?}: {body}");
        if plays != Plays::Webhook {
            assert!(body.contains("and 1 more"), "{plays:?}: {body}");
        }
    }
}

#[tokio::test]
async fn no_secret_of_a_channel_is_on_record() {
    for plays in ALL {
        let (kit, platform) = kit_of(plays, &tells(PLAIN)).await;
        // A far end that says back what it was sent, in an answer that nobody understands.
        let echo = match plays {
            Plays::Wecom => format!("<html>{KEY}</html>"),
            Plays::Dingtalk | Plays::Feishu => format!("<html>{KEY} {SIGN}</html>"),
            Plays::Slack | Plays::Teams => format!("<html>{SECRET_PATH} hush+hush/hush</html>"),
            Plays::Webhook => format!("<html>{SECRET_PATH} {WHSEC} hush+hush/hush</html>"),
        };
        platform.fail([Reply::Text(502, Box::leak(echo.into_boxed_str()), &[])]);
        let id = kit.trigger("tell", json!({})).await;
        kit.settle().await;
        kit.pass(Duration::from_mins(1)).await;
        let log: Vec<Value> = kit.log(id).await.iter().map(|entry| json!(entry.event)).collect();
        let mut log = json!(log).to_string();
        for (_, text) in kit.engine.store().marks("").await.unwrap() {
            log.push_str(&text);
        }
        let signed = platform.got().iter().map(|got| got.query("sign").to_owned()).collect::<Vec<_>>();
        let hidden = ["hush", "HUSH", KEY, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
        for secret in hidden.into_iter().chain(signed.iter().map(String::as_str).filter(|sign| !sign.is_empty())) {
            assert!(!log.contains(secret), "{plays:?}: `{secret}` in {log}");
        }
        assert!(log.contains("127.0.0.1"), "where it was sent is on record: {log}");
        check_state(&kit.read(id).await, State::Succeeded);
    }
}

#[tokio::test]
async fn a_no_inside_a_200_is_a_no() {
    let cases = [
        (Plays::Wecom, json!({ "errcode": 93000, "errmsg": "invalid webhook url" }), "93000"),
        (
            Plays::Dingtalk,
            json!({ "errcode": 310_000, "errmsg": "keywords not in content" }),
            "keywords not in content",
        ),
        (Plays::Feishu, json!({ "code": 19024, "msg": "Key Words Not Found" }), "19024"),
        (Plays::Feishu, json!({ "StatusCode": 19001, "StatusMessage": "bad" }), "19001"),
    ];
    for (plays, answer, said) in cases {
        let (kit, platform) = kit_of(plays, &tells(PLAIN)).await;
        platform.fail([Reply::Json(answer)]);
        let run = kit.run("tell", json!({})).await;
        let failure = failure(&run);
        assert_eq!((failure.code.as_str(), platform.got().len()), ("notify.refused", 1), "{failure:?}");
        assert!(failure.message.contains(said) && failure.help.is_some(), "{failure:?}");
    }
    for (plays, status, text) in [(Plays::Slack, 404, "no_service"), (Plays::Teams, 400, "TriggerInputSchemaMismatch")]
    {
        let (kit, platform) = kit_of(plays, &tells(PLAIN)).await;
        platform.fail([Reply::Text(status, text, &[])]);
        let run = kit.run("tell", json!({})).await;
        assert!(failure(&run).message.contains(text), "{:?}", run.failure);
    }
}

#[tokio::test]
async fn what_may_have_arrived_is_said_and_not_sent_again() {
    let page = Reply::Text(200, "<html>please sign in</html>", &[]);
    for plays in ALL {
        let mut doubts = vec![Reply::Close];
        // A program of yours may answer what it likes.
        doubts.extend((plays != Plays::Webhook).then(|| page.clone()));
        for doubt in doubts {
            let workflow = tells(PLAIN).replace("type: notify,", "type: notify, retry: 3, retry_delay: 1s,");
            let (kit, platform) = kit_of(plays, &workflow).await;
            platform.fail([doubt]);
            let id = kit.trigger("tell", json!({})).await;
            let run = kit.until_ended(id).await;
            let failure = failure(&run);
            assert_eq!(
                (failure.code.as_str(), failure.sent),
                ("notify.unknown", Sent::Maybe),
                "{plays:?}: {failure:?}"
            );
            assert!(failure.message.starts_with("delivery unknown"), "{failure:?}");
            assert_eq!(platform.got().len(), 1, "{plays:?}");
        }
    }
    let clock = TestClock::at(START);
    let platform = Platform::start(Plays::Wecom, &clock).await;
    let slow = settings_of(Plays::Wecom, &platform.url()).replace("type: wecom,", "type: wecom, timeout: 200ms,");
    let kit = Kit::with_channels(&[&tells(PLAIN)], "", clock, telling(&slow, &[]));
    platform.fail([Reply::Silence]);
    let run = kit.run("tell", json!({})).await;
    assert_eq!(failure(&run).code, "notify.unknown");
}

#[tokio::test]
async fn a_platform_that_is_out_of_order_is_waited_for() {
    for plays in ALL {
        let (kit, platform) = kit_of(plays, &tells(PLAIN)).await;
        platform.fail([Reply::Text(503, "busy", &[]), Reply::Text(429, "rate_limited", &[("retry-after", "30")])]);
        let id = kit.trigger("tell", json!({})).await;
        kit.settle().await;
        assert_eq!(standing(&kit.read(id).await, "tell"), "paused", "{plays:?}");
        kit.pass(Duration::from_secs(6)).await;
        kit.pass(Duration::from_secs(29)).await;
        assert_eq!(platform.got().len(), 2, "it said when");
        kit.pass(Duration::from_secs(2)).await;
        check_state(&kit.read(id).await, State::Succeeded);
        assert_eq!(platform.taken().len(), 1);
    }
}

#[tokio::test]
async fn a_robot_is_never_sent_more_than_it_takes() {
    for plays in [Plays::Wecom, Plays::Dingtalk] {
        let (kit, platform) = kit_of(plays, &tells(PLAIN)).await;
        let mut runs = Vec::new();
        for number in 0..120 {
            runs.push(kit.trigger("tell", json!({ "order": format!("#{number:04}") })).await);
        }
        kit.settle().await;
        assert_eq!(platform.taken().len(), 20);
        // What comes next knows nothing of the process before but what is stored.
        let kit = kit.restarted(&[&tells(PLAIN)], "");
        for run in &runs {
            check_state(&kit.until_ended(*run).await, State::Succeeded);
        }
        assert_eq!(platform.wrongs(), Vec::<String>::new(), "{plays:?} was sent too much");
        let texts: String =
            platform.taken().iter().map(|got| got.text() + &got.json()["markdown"]["title"].to_string()).collect();
        let missing: Vec<_> =
            (0..120).map(|number| format!("#{number:04}")).filter(|order| !texts.contains(order)).collect();
        assert!(missing.is_empty(), "{plays:?}: {missing:?}");
        assert!(platform.taken().len() < 30, "the rest went out together: {}", platform.taken().len());
    }
}

#[tokio::test]
async fn a_robot_that_was_shut_by_others_is_left_alone() {
    let (kit, platform) = kit_of(Plays::Dingtalk, &tells(PLAIN)).await;
    platform.fail([Reply::Json(json!({ "errcode": 130_101, "errmsg": "send too fast, exceed 20 times per minute" }))]);
    let run = kit.trigger("tell", json!({})).await;
    kit.settle().await;
    for _ in 0..9 {
        kit.pass(Duration::from_mins(1)).await;
        assert_eq!(platform.got().len(), 1, "calls while it is shut do not help");
    }
    kit.pass(Duration::from_secs(61)).await;
    check_state(&kit.read(run).await, State::Succeeded);
}

#[tokio::test]
async fn handlers_tell_one_cause_once() {
    let workflow = "version: 1\nname: push\ntasks:\n  - { id: push, type: stop, with: { status: failed, message: no } }\n\
                    on_failure:\n  - { id: tell, type: notify, with: { channel: ops, title: 'push failed', text: '${{ failure.code }}' } }\n";
    let (kit, platform) = kit_of(Plays::Feishu, workflow).await;
    for place in 0..3 {
        let run = kit.run("push", json!({})).await;
        check_state(&run, State::Failed);
        let fate = if place == 0 { "sent" } else { "grouped" };
        assert_eq!(output(&run, "tell")["result"], fate);
    }
    kit.clock.advance(Duration::from_mins(10));
    kit.engine.look_at_alerts().await.unwrap();
    let told: Vec<_> = platform.taken().iter().map(|got| got.json()["card"]["header"].clone()).collect();
    assert_eq!(told.len(), 2);
    assert_eq!((&told[0]["title"]["content"], &told[0]["template"]), (&json!("push failed"), &json!("red")));
    assert_eq!(told[1]["title"]["content"], "push failed (10 minutes, 2 times)");
}

#[tokio::test]
async fn the_fallback_is_named_in_the_output() {
    let clock = TestClock::at(START);
    let (wecom, slack) = (Platform::start(Plays::Wecom, &clock).await, Platform::start(Plays::Slack, &clock).await);
    let channels = format!(
        "{}\n  other: {{ type: slack, url: {{ secret_ref: url }} }}",
        settings_of(Plays::Wecom, &wecom.url()).replace("type: wecom,", "type: wecom, fallback: other,")
    );
    let url = format!("{}{SECRET_PATH}", slack.url());
    let kit = Kit::with_channels(&[&tells(PLAIN)], "", clock, telling(&channels, &[("url", &url), ("key", "wrong")]));
    let run = kit.run("tell", json!({})).await;
    let told = output(&run, "tell");
    assert_eq!((&told["channel"], &told["instead_of"]), (&json!("other"), &json!("ops")), "{told}");
    assert_eq!((wecom.taken().len(), slack.taken().len()), (0, 1));
}

#[tokio::test]
async fn a_missed_slot_is_told() {
    let clock = TestClock::at(START);
    let platform = Platform::start(Plays::Wecom, &clock).await;
    let routes =
        "version: 1\nschedules:\n  - { name: stock, every: 1h, catchup: none, alert_if_missed: ops, workflow: tell }\n";
    let kit =
        Kit::with_channels(&[&tells(PLAIN)], routes, clock, telling(&settings_of(Plays::Wecom, &platform.url()), &[]));
    kit.engine.run_schedules().await.unwrap();
    kit.clock.advance(Duration::from_hours(5));
    kit.engine.run_schedules().await.unwrap();
    kit.engine.look_at_alerts().await.unwrap();
    kit.settle().await;
    let first = platform.taken()[0].text();
    assert!(first.contains("Schedule stock missed") && first.contains("schedules backfill stock"), "{first}");
}
