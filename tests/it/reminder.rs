//! Approvals that people are told of: asked, reminded, told how it ended, on a clock of the test; over restarts, with a
//! channel that refuses, is busy, or takes its time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clawhook::channels::message::{Mention, Message};
use clawhook::channels::words::Language;
use clawhook::channels::{Channel, ChannelPlan, Channels, Notice, Sending, Trouble, Verdict as Taken, Wire};
use clawhook::clock::{Clock, TestClock};
use clawhook::domain::approval::{Decision, Verdict};
use clawhook::domain::failure::{Failure, Fault};
use clawhook::domain::secret::SecretRef;
use clawhook::domain::state::State;
use clawhook::id::{ChannelName, RunId};
use clawhook::tasks::approval::Question;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::kit::{Kit, OneSecret, START, Telling, check_state, output, step};

const ASK: &str = r#"
version: 1
name: refund
inputs: { total: { type: number, required: true } }
tasks:
  - id: ask
    type: approval
    with:
      title: "Refund ${{ inputs.total }}?"
      text: The line is **damaged**.
      form: { reason: { type: string, required: true } }
      quorum: 2
      expires: 2h
      channel: ops
      remind: 30m
"#;
const HALF_AN_HOUR: Duration = Duration::from_mins(30);

/// A place where people are told, that does as it is bid.
#[derive(Debug, Default)]
struct Far {
    seen: Mutex<Vec<Message>>,
    trouble: Mutex<Option<Taken>>,
    /// A message is being handed over, and waits here for its release.
    slow: AtomicBool,
    entered: AtomicBool,
    release: Notify,
}

#[async_trait]
impl Channel for Far {
    fn secrets(&self) -> Vec<&SecretRef> {
        Vec::new()
    }

    fn text_bytes_max(&self) -> usize {
        4096
    }

    async fn send(&self, _: &Wire<'_>, notice: &Notice<'_>) -> Sending {
        if let Some(verdict) = *self.trouble.lock().unwrap() {
            let failure = Box::new(Failure::new("notify.refused", Fault::Far, "no such robot"));
            return Sending { result: Err(Trouble { verdict, failure }), exchange: None };
        }
        if self.slow.swap(false, Ordering::SeqCst) {
            self.entered.store(true, Ordering::SeqCst);
            self.release.notified().await;
        }
        self.seen.lock().unwrap().push(notice.message.clone());
        Sending { result: Ok(Value::Null), exchange: None }
    }
}

impl Far {
    fn set(&self, trouble: Option<Taken>) {
        *self.trouble.lock().unwrap() = trouble;
    }

    #[track_caller]
    fn check(&self, titles: &[&str]) {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.iter().map(|message| message.title.as_str()).collect::<Vec<_>>(), titles);
    }

    fn last(&self) -> String {
        self.seen.lock().unwrap().last().unwrap().text.clone()
    }
}

/// A run that asks, once all that can be done is done.
async fn asked(far: &Arc<Far>) -> (Kit, RunId) {
    let (kit, id) = asking(far, Language::En).await;
    kit.settle().await;
    (kit, id)
}

/// A run that is about to ask.
async fn asking(far: &Arc<Far>, language: Language) -> (Kit, RunId) {
    let name = ChannelName::new("ops").unwrap();
    let plan = ChannelPlan {
        name: name.clone(),
        kind: "wecom",
        channel: Arc::clone(far) as Arc<dyn Channel>,
        mention: Mention::default(),
        rate: "20/m".parse().unwrap(),
        fallback: None,
        language,
    };
    let telling = Telling { channels: Channels::from([(name, Arc::new(plan))]), secrets: Arc::new(OneSecret) };
    let kit = Kit::with_channels(&[ASK], "", TestClock::at(START), telling);
    let id = kit.trigger("refund", json!({ "total": 500 })).await;
    (kit, id)
}

async fn say(kit: &Kit, id: RunId, by: &str, verdict: Verdict) {
    let form = Map::from_iter([("reason".to_owned(), json!("damaged"))]);
    let comment = (verdict == Verdict::Reject).then(|| "not ours".to_owned());
    let decision = Decision { by: by.to_owned(), at: kit.clock.now(), verdict, comment, form };
    kit.engine.decide(id, &step("ask"), decision).await.unwrap();
}

#[tokio::test]
async fn people_are_asked_reminded_and_told_how_it_ended() {
    let far = Arc::new(Far::default());
    let (kit, id) = asked(&far).await;
    let run = kit.read(id).await;
    check_state(&run, State::Waiting);
    assert_eq!((run.head().approvals, kit.engine.active()), (1, 0), "nobody holds a worker");
    far.check(&["Decision wanted: Refund 500?"]);
    for wanted in [
        &format!("Approval `{id}:ask`, open until 2026-11-22T11:00:"),
        &"Z; 0 of 2 said yes\n\nThe line is **damaged**.\n\n".to_owned(),
        &format!("`clawhook approvals approve {id}:ask --field reason=…`"),
        &format!("`clawhook approvals reject {id}:ask`"),
        &format!("`POST /v1/approvals/{id}:ask` `{{\"decision\":\"approve\",\"form\":{{\"reason\":\"…\"}}}}`"),
    ] {
        assert!(far.last().contains(wanted), "no {wanted} in {}", far.last());
    }
    kit.pass(HALF_AN_HOUR / 2).await;
    say(&kit, id, "li", Verdict::Approve).await;
    kit.settle().await;
    far.check(&["Decision wanted: Refund 500?"]);
    // The process dies; the next one goes on where it was, and repeats nothing.
    let next = kit.restarted(&[ASK], "");
    next.engine.take_over().await.unwrap();
    next.settle().await;
    far.check(&["Decision wanted: Refund 500?"]);
    next.pass(HALF_AN_HOUR / 2).await;
    far.check(&["Decision wanted: Refund 500?", "Decision still wanted: Refund 500?"]);
    assert!(far.last().contains("1 of 2 said yes"), "{}", far.last());
    say(&next, id, "wang", Verdict::Approve).await;
    next.settle().await;
    let run = next.read(id).await;
    check_state(&run, State::Succeeded);
    assert_eq!(output(&run, "ask")["approved"], true);
    let all = ["Decision wanted: Refund 500?", "Decision still wanted: Refund 500?", "Approved: Refund 500?"];
    far.check(&all);
    assert_eq!(far.last(), format!("`{id}:ask`\n- li yes\n- wang yes"));
    next.pass(HALF_AN_HOUR * 8).await;
    far.check(&all);
}

#[tokio::test]
async fn one_reminder_stands_for_those_that_were_missed_and_an_end_is_told() {
    let far = Arc::new(Far::default());
    let (kit, id) = asked(&far).await;
    kit.pass(HALF_AN_HOUR * 3 + Duration::from_mins(5)).await;
    kit.pass(Duration::from_mins(24)).await;
    far.check(&["Decision wanted: Refund 500?", "Decision still wanted: Refund 500?"]);
    kit.pass(Duration::from_mins(1)).await;
    far.check(&["Decision wanted: Refund 500?", "Decision still wanted: Refund 500?", "Expired: Refund 500?"]);
    assert_eq!(kit.read(id).await.failure.unwrap().code, "approval.expired");
}

#[tokio::test]
async fn a_channel_that_refuses_decides_nothing() {
    let far = Arc::new(Far::default());
    far.set(Some(Taken::Refused));
    let (kit, id) = asked(&far).await;
    let run = kit.read(id).await;
    check_state(&run, State::Waiting);
    let question = Question::of(run.tasks[&step("ask")].checkpoint.as_ref()).unwrap();
    assert!(question.news.unwrap().trouble.unwrap().contains("no such robot"));
    far.set(None);
    kit.pass(Duration::from_mins(10)).await;
    far.check(&["Decision wanted: Refund 500?"]);
    // What went out late is not followed by a reminder at once, and one that cannot go out is passed over.
    far.set(Some(Taken::Refused));
    kit.pass(HALF_AN_HOUR).await;
    say(&kit, id, "li", Verdict::Reject).await;
    kit.settle().await;
    let run = kit.read(id).await;
    assert_eq!(run.failure.unwrap().message, "`li` said no: not ours", "the end waits for no message");
    far.check(&["Decision wanted: Refund 500?"]);
}

#[tokio::test]
async fn what_nobody_read_is_taken_back_when_it_is_decided() {
    let far = Arc::new(Far::default());
    far.set(Some(Taken::Busy { wait: HALF_AN_HOUR }));
    let (kit, id) = asked(&far).await;
    assert_eq!(kit.read(id).await.head().approvals, 1, "it is open while its message waits");
    far.set(None);
    for by in ["li", "wang"] {
        say(&kit, id, by, Verdict::Approve).await;
    }
    kit.settle().await;
    check_state(&kit.read(id).await, State::Succeeded);
    far.check(&[]);
}

#[tokio::test]
async fn people_can_decide_while_others_are_being_told() {
    let far = Arc::new(Far::default());
    far.slow.store(true, Ordering::SeqCst);
    let (kit, id) = asking(&far, Language::Zh).await;
    let decide = async {
        while !far.entered.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        for by in ["li", "wang"] {
            say(&kit, id, by, Verdict::Approve).await;
        }
        far.release.notify_one();
    };
    tokio::join!(kit.settle(), decide);
    kit.settle().await;
    check_state(&kit.read(id).await, State::Succeeded);
    far.check(&["待审批：Refund 500?", "已批准：Refund 500?"]);
}
