//! Slots: entered once, whatever restarts, second gateways and clocks do; and what was missed is seen.

use std::time::Duration;

use clawhook::clock::Timestamp;
use clawhook::domain::journal::{JournalEntry, JournalKind};
use clawhook::domain::run::Run;
use clawhook::domain::state::State;
use clawhook::domain::trigger::Trigger;
use clawhook::id::ScheduleName;
use clawhook::store::{JournalQuery, RunQuery};
use serde_json::{Value, json};

use crate::kit::{Kit, START, now};

const QUICK: &str = r#"
version: 1
name: quick
inputs: { due: { type: string, default: none } }
tasks: [{ id: t, type: transform, with: { input: "${{ inputs.due }}", jq: . } }]
"#;

/// Still goes on when the next hour strikes.
const LONG: &str = r"
version: 1
name: quick
inputs: { due: { type: string, default: none } }
tasks: [{ id: pause, type: wait, with: { for: 90m } }]
";

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

fn hourly(more: &str) -> String {
    schedule(&format!("cron: '0 * * * *', {more}"))
}

fn schedule(parts: &str) -> String {
    format!(
        "version: 1\nschedules:\n  - {{ name: s, {parts} workflow: quick, inputs: {{ due: '${{{{ slot.due }}}}' }} }}\n"
    )
}

fn name() -> ScheduleName {
    ScheduleName::new("s").unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

impl Kit {
    /// Enters what is due, and does it.
    async fn tick(&self) -> Option<Timestamp> {
        let next = self.engine.run_schedules().await.unwrap();
        self.settle().await;
        next
    }

    /// A gateway that has seen its schedule.
    async fn seen(workflow: &str, routes: &str) -> Self {
        let kit = Self::new(&[workflow], routes);
        kit.tick().await;
        kit
    }

    async fn later(&self, time: Duration) {
        self.clock.advance(time);
        self.tick().await;
    }

    /// The runs of the schedule, oldest slot first.
    async fn slots(&self) -> Vec<(String, Run)> {
        let query = RunQuery { source: Some("s".to_owned()), limit: 200, ..RunQuery::default() };
        let mut slots = Vec::new();
        for head in self.engine.store().runs(&query).await.unwrap() {
            let run = self.read(head.id).await;
            let Trigger::Slot { due, .. } = &run.accepted.trigger else { panic!("{run:?}") };
            slots.push((due.to_string().replace(":00.000Z", "").replace("2026-11-22T", ""), run));
        }
        slots.sort_by(|a, b| a.0.cmp(&b.0));
        slots
    }

    async fn dues(&self) -> Vec<String> {
        self.slots().await.into_iter().map(|(due, _)| due).collect()
    }

    async fn told(&self, what: &str) -> Vec<JournalEntry> {
        let query = JournalQuery {
            kind: JournalKind::Gateway,
            subject: Some("s".to_owned()),
            cause: None,
            what: Some(what.to_owned()),
            before: None,
            limit: 100,
        };
        self.engine.store().journal(&query).await.unwrap().into_iter().map(|row| row.entry).collect()
    }
}

#[tokio::test]
async fn a_slot_enters_once_and_knows_its_time() {
    let kit = Kit::new(&[QUICK], &hourly(""));
    assert_eq!(kit.tick().await, Some(START.plus(HOUR)), "a schedule that is new has missed nothing");
    kit.later(59 * MINUTE + Duration::from_secs(59)).await;
    assert_eq!(kit.dues().await, Vec::<String>::new());
    for _ in 0..3 {
        kit.later(Duration::from_secs(1)).await;
    }
    let slots = kit.slots().await;
    assert_eq!(slots.len(), 1);
    assert_eq!((slots[0].0.as_str(), slots[0].1.state), ("10:00", State::Succeeded));
    let inputs = &slots[0].1.prepared.as_ref().unwrap().inputs;
    let due = inputs["due"].as_str().unwrap();
    assert_eq!(Timestamp::parse_rfc3339(due), Some(START.plus(HOUR)), "{due}");
    kit.later(2 * HOUR).await;
    assert_eq!(kit.dues().await, ["10:00", "12:00"], "the newest is entered, and the one before is missed");
}

#[tokio::test]
async fn two_gateways_make_one_run_of_a_slot() {
    let kit = Kit::seen(QUICK, &hourly("overlap: allow,")).await;
    let other = kit.restarted(&[QUICK], &hourly("overlap: allow,"));
    for _ in 0..5 {
        kit.clock.advance(HOUR);
        let (one, two) = tokio::join!(kit.engine.run_schedules(), other.engine.run_schedules());
        assert_eq!(one.unwrap(), two.unwrap());
        kit.settle().await;
        other.settle().await;
    }
    assert_eq!(kit.dues().await, ["10:00", "11:00", "12:00", "13:00", "14:00"]);
}

/// A gateway that is killed when the slot is on disk and the mark is not enters the slot again.
#[tokio::test]
async fn a_kill_between_a_slot_and_its_mark_changes_nothing() {
    for overlap in ["skip", "queue", "allow", "cancel_running"] {
        let kit = Kit::seen(LONG, &hourly(&format!("overlap: {overlap},"))).await;
        kit.later(HOUR).await;
        kit.engine.store().set_mark("schedule/s", Some(&START.as_millis().to_string())).await.unwrap();
        let kit = kit.restarted(&[LONG], &hourly(&format!("overlap: {overlap},")));
        kit.tick().await;
        let slots = kit.slots().await;
        let states: Vec<_> = slots.iter().map(|(due, run)| (due.as_str(), run.state)).collect();
        assert_eq!(states, [("10:00", State::Waiting)], "overlap: {overlap}");
        assert_eq!(kit.told("schedule.skipped").await, [], "overlap: {overlap}: the slot was not skipped");
    }
}

/// Runs of two slots of which the first takes longer than an hour.
async fn overlap(overlap: &str) -> Kit {
    let kit = Kit::seen(LONG, &hourly(&format!("overlap: {overlap}, alert_if_missed: ops-dingtalk,"))).await;
    kit.later(HOUR).await;
    kit.later(HOUR).await;
    kit
}

async fn states(kit: &Kit) -> Vec<(String, State)> {
    kit.slots().await.into_iter().map(|(due, run)| (due, run.state)).collect()
}

#[tokio::test]
async fn overlap_skip() {
    let kit = overlap("skip").await;
    assert_eq!(states(&kit).await, [("10:00".to_owned(), State::Waiting)]);
    let told = kit.told("schedule.skipped").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].detail["due"], START.plus(2 * HOUR).to_string());
    assert_eq!(told[0].detail["alert"], "ops-dingtalk");
    assert_eq!(told[0].detail["running"], kit.slots().await[0].1.id.to_string());
    kit.pass(30 * MINUTE).await;
    kit.later(30 * MINUTE).await;
    assert_eq!(kit.dues().await, ["10:00", "12:00"], "at noon it is over, and the next slot runs");
}

#[tokio::test]
async fn overlap_allow() {
    let kit = overlap("allow").await;
    assert_eq!(states(&kit).await, [("10:00".to_owned(), State::Waiting), ("11:00".to_owned(), State::Waiting)]);
}

#[tokio::test]
async fn overlap_queue() {
    let kit = overlap("queue").await;
    assert_eq!(states(&kit).await, [("10:00".to_owned(), State::Waiting), ("11:00".to_owned(), State::Queued)]);
    kit.pass(30 * MINUTE).await;
    assert_eq!(states(&kit).await, [("10:00".to_owned(), State::Succeeded), ("11:00".to_owned(), State::Waiting)]);
}

#[tokio::test]
async fn overlap_cancel_running() {
    let kit = overlap("cancel_running").await;
    assert_eq!(states(&kit).await, [("10:00".to_owned(), State::Cancelled), ("11:00".to_owned(), State::Waiting)]);
}

/// The slots that are entered after a downtime from nine to half past three, and those that are told as missed.
async fn check_catchup(more: &str, entered: &[&str], missed: Option<(usize, &str, &str)>) {
    let routes = hourly(&format!("overlap: allow, alert_if_missed: ops-dingtalk, {more}"));
    let kit = Kit::seen(QUICK, &routes).await;
    kit.clock.advance(Duration::from_mins(390));
    let kit = kit.restarted(&[QUICK], &routes);
    kit.tick().await;
    kit.tick().await;
    assert_eq!(kit.dues().await, entered, "{more}");
    let told = kit.told("schedule.missed").await;
    let told: Vec<_> = told.iter().map(|entry| &entry.detail).collect();
    let Some((count, first, last)) = missed else { return assert!(told.is_empty(), "{told:?}") };
    assert_eq!(told.len(), 1, "{more}: told once: {told:?}");
    let detail = Value::Object(told[0].clone());
    assert_eq!((&detail["count"], &detail["alert"]), (&json!(count), &json!("ops-dingtalk")), "{more}");
    let times = [&detail["first"], &detail["last"]].map(|time| time.as_str().unwrap()[11..16].to_owned());
    assert_eq!(times, [first, last], "{more}");
    assert!(detail["help"].as_str().unwrap().starts_with("clawhook schedules backfill s --since "), "{detail}");
}

#[tokio::test]
async fn a_downtime_is_caught_up_as_the_schedule_says() {
    check_catchup("catchup: none,", &[], Some((6, "10:00", "15:00"))).await;
    check_catchup("catchup: latest, catchup_window: 2h,", &["15:00"], Some((5, "10:00", "14:00"))).await;
    check_catchup("catchup: latest, catchup_window: 20m,", &[], Some((6, "10:00", "15:00"))).await;
    check_catchup("catchup: all, catchup_window: 2h,", &["14:00", "15:00"], Some((4, "10:00", "13:00"))).await;
    let all = ["10:00", "11:00", "12:00", "13:00", "14:00", "15:00"];
    check_catchup("catchup: all, catchup_window: 1d,", &all, None).await;
}

#[tokio::test]
async fn a_clock_that_goes_back_repeats_nothing() {
    let kit = Kit::seen(QUICK, &hourly("overlap: allow, catchup: all,")).await;
    kit.later(2 * HOUR).await;
    assert_eq!(kit.dues().await, ["10:00", "11:00"]);
    kit.clock.set(START.plus(30 * MINUTE));
    for _ in 0..4 {
        kit.later(30 * MINUTE).await;
        assert_eq!(kit.dues().await.len(), 2);
    }
    kit.clock.set(START.plus(3 * HOUR));
    kit.tick().await;
    assert_eq!(kit.dues().await, ["10:00", "11:00", "12:00"]);
    assert_eq!(kit.told("schedule.missed").await, []);
}

#[tokio::test]
async fn jitter_delays_the_run_and_not_the_slot() {
    let kit = Kit::new(&[QUICK], &hourly("jitter: 30m,"));
    let fires = kit.tick().await.unwrap();
    let delay = fires.since(START.plus(HOUR));
    assert!(delay > Duration::ZERO && delay < 30 * MINUTE, "{delay:?}");
    kit.clock.set(fires.minus(Duration::from_secs(1)));
    assert_eq!(kit.tick().await, Some(fires));
    assert_eq!(kit.dues().await, Vec::<String>::new());
    kit.clock.set(fires);
    kit.tick().await;
    assert_eq!(kit.dues().await, ["10:00"]);
    let other = kit.restarted(&[QUICK], &hourly("jitter: 30m,"));
    assert_eq!(other.tick().await, kit.tick().await, "every gateway has the same");
}

#[tokio::test]
async fn a_paused_schedule_enters_nothing_until_it_goes_on() {
    let kit = Kit::seen(QUICK, &hourly("")).await;
    kit.engine.pause_schedule(&name(), Some("ops: stocktaking")).await.unwrap();
    let kit = kit.restarted(&[QUICK], &hourly(""));
    kit.later(3 * HOUR + MINUTE).await;
    assert_eq!(kit.dues().await, Vec::<String>::new());
    let status = kit.engine.schedule_status(&name()).await.unwrap();
    assert_eq!(status.paused.as_deref(), Some("ops: stocktaking"));
    kit.engine.pause_schedule(&name(), None).await.unwrap();
    kit.tick().await;
    assert_eq!(kit.dues().await, ["12:00"], "`catchup: latest` is the default");
    assert_eq!(kit.told("schedule.missed").await.len(), 1);
    // By its file.
    let kit = kit.restarted(&[QUICK], &hourly("paused: true,"));
    kit.later(HOUR).await;
    assert_eq!(kit.dues().await, ["12:00"]);
    // One that is switched off misses nothing.
    let kit = kit.restarted(&[QUICK], &hourly("enabled: false,"));
    kit.later(HOUR).await;
    let kit = kit.restarted(&[QUICK], &hourly(""));
    kit.later(HOUR).await;
    assert_eq!(kit.dues().await, ["12:00", "15:00"]);
    assert_eq!(kit.told("schedule.missed").await.len(), 1);
}

#[tokio::test]
async fn a_backfill_enters_what_was_missed() {
    let routes = hourly("catchup: none, overlap: allow,");
    let kit = Kit::seen(QUICK, &routes).await;
    kit.later(HOUR).await;
    kit.later(3 * HOUR + 30 * MINUTE).await;
    assert_eq!(kit.dues().await, ["10:00"]);
    let plan = kit.schedule();
    let done = kit.engine.backfill(&plan, START, START.plus(24 * HOUR)).await.unwrap();
    let entered: Vec<_> = done.entered.iter().map(|(due, _)| due.since(START) / 3600).collect();
    assert_eq!(entered, [0, 2, 3, 4].map(Duration::from_secs), "nine o'clock itself, and none of the future");
    assert_eq!(done.known, [START.plus(HOUR)]);
    kit.settle().await;
    assert_eq!(kit.dues().await, ["09:00", "10:00", "11:00", "12:00", "13:00"]);
    let again = kit.engine.backfill(&plan, START, START.plus(24 * HOUR)).await.unwrap();
    assert_eq!((again.entered, again.known.len()), (Vec::new(), 5));
}

/// What a day with a change of the clocks enters, looked at every ten minutes.
async fn check_day(parts: &str, from: &str, dues: &[&str]) {
    let kit = Kit::new(&[QUICK], &schedule(&format!("{parts}, overlap: allow,")));
    kit.clock.set(at(from));
    kit.tick().await;
    let until = at(from).plus(24 * HOUR);
    while now(&kit) < until {
        kit.later(10 * MINUTE).await;
    }
    assert_eq!(kit.dues().await, dues, "{parts}");
    assert_eq!(kit.told("schedule.missed").await, []);
}

#[tokio::test]
async fn days_on_which_the_clocks_change() {
    let daily = "cron: '30 2 * * *', timezone: Europe/Berlin";
    // In the gap: the first moment that there is, three o'clock.
    check_day(daily, "2027-03-27T12:00:00Z", &["2027-03-28T01:00"]).await;
    // Twice there: the first time.
    check_day(daily, "2027-10-30T12:00:00Z", &["2027-10-31T00:30"]).await;
    check_day("cron: '30 2 * * *', timezone: Asia/Shanghai", "2027-03-27T12:00:00Z", &["2027-03-27T18:30"]).await;
}

#[tokio::test]
async fn another_rule_goes_on_from_where_the_old_one_was() {
    let kit = Kit::seen(QUICK, &hourly("")).await;
    kit.later(HOUR).await;
    let kit = kit.restarted(&[QUICK], &schedule("cron: '30 * * * *',"));
    kit.later(45 * MINUTE).await;
    assert_eq!(kit.dues().await, ["10:00", "10:30"], "09:30 lies before the mark");
    assert_eq!(kit.told("schedule.missed").await, []);
}

#[tokio::test]
async fn a_slot_runs_on_the_files_of_its_time() {
    let kit = Kit::seen(LONG, &hourly("")).await;
    kit.later(HOUR).await;
    let revision = kit.slots().await[0].1.accepted.revision.clone();
    kit.put(QUICK);
    kit.pass(90 * MINUTE).await;
    kit.later(30 * MINUTE).await;
    let slots = kit.slots().await;
    assert_eq!(slots[0].1.accepted.revision, revision);
    assert_eq!(slots[0].1.state, State::Succeeded);
    assert_ne!(slots[1].1.accepted.revision, revision);
}
