//! How often people are told, against a far end that counts, on a clock of the test: floods, restarts, a channel that
//! is down, problems that end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clawhook::channels::alerts::{Alert, Alerts, Fate, Report, Status, Told};
use clawhook::channels::message::{Level, Mention, Message};
use clawhook::channels::words::Language;
use clawhook::channels::{
    AlertBook, BookError, Channel, ChannelPlan, Channels, Notice, Sending, Trouble, Verdict, Wire,
};
use clawhook::clock::{Clock, TestClock, Timestamp};
use clawhook::domain::failure::{Failure, Fault};
use clawhook::domain::secret::SecretRef;
use clawhook::id::ChannelName;
use clawhook::limits;
use clawhook::outbound::{Client, Egress};
use serde_json::Value;

use crate::kit::{OneSecret, START};

const MINUTE: Duration = Duration::from_mins(1);

/// A far end that takes 20 messages a minute and says so when there is one more.
#[derive(Debug)]
struct Far {
    clock: TestClock,
    seen: Mutex<Vec<(Timestamp, Message, Mention)>>,
    /// Messages over the rate.
    over: Mutex<usize>,
    trouble: Mutex<Option<Verdict>>,
    /// A text that it never takes.
    poison: Option<&'static str>,
    /// A text that it never answers to.
    stuck: Option<&'static str>,
}

impl Far {
    fn new(clock: &TestClock) -> Arc<Self> {
        let clock = clock.clone();
        Arc::new(Self {
            clock,
            seen: Mutex::default(),
            over: Mutex::default(),
            trouble: Mutex::default(),
            poison: None,
            stuck: None,
        })
    }

    fn titles(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, message, _)| message.title.clone()).collect()
    }

    fn texts(&self) -> String {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(_, message, _)| format!("{}\n{}\n", message.title, message.text)).collect::<Vec<_>>().concat()
    }

    #[track_caller]
    fn check_rate(&self) {
        assert_eq!(*self.over.lock().unwrap(), 0, "more than 20 in a minute");
        let seen = self.seen.lock().unwrap();
        for (place, (first, _, _)) in seen.iter().enumerate() {
            let within = seen[place..].iter().take_while(|(at, _, _)| at.since(*first) < MINUTE).count();
            assert!(within <= 20, "{within} in the minute from {first}");
        }
    }

    fn set(&self, trouble: Option<Verdict>) {
        *self.trouble.lock().unwrap() = trouble;
    }
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
        if self.stuck.is_some_and(|stuck| notice.message.text.contains(stuck)) {
            return std::future::pending().await;
        }
        let now = self.clock.now();
        let refuse = |verdict| {
            let failure = Box::new(Failure::new("notify.refused", Fault::Far, "no"));
            Sending { result: Err(Trouble { verdict, failure }), exchange: None }
        };
        if let Some(verdict) = *self.trouble.lock().unwrap() {
            return refuse(verdict);
        }
        if self.poison.is_some_and(|poison| notice.message.text.contains(poison)) {
            return refuse(Verdict::Refused);
        }
        let mut seen = self.seen.lock().unwrap();
        if seen.iter().filter(|(at, _, _)| now.since(*at) < MINUTE).count() >= 20 {
            *self.over.lock().unwrap() += 1;
            return refuse(Verdict::Busy { wait: Duration::from_mins(10) });
        }
        seen.push((now, notice.message.clone(), notice.mention.clone()));
        Sending { result: Ok(Value::Null), exchange: None }
    }
}

#[derive(Debug, Default)]
struct Shelf(Mutex<BTreeMap<String, String>>);

#[async_trait]
impl AlertBook for Shelf {
    async fn read(&self, prefix: &str) -> Result<Vec<(String, String)>, BookError> {
        let texts = self.0.lock().unwrap();
        Ok(texts.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(n, t)| (n.clone(), t.clone())).collect())
    }

    async fn write(&self, name: &str, text: Option<&str>) -> Result<(), BookError> {
        let mut texts = self.0.lock().unwrap();
        match text {
            Some(text) => texts.insert(name.to_owned(), text.to_owned()),
            None => texts.remove(name),
        };
        Ok(())
    }
}

/// Tasks that bring alerts, as the engine would: each comes again when it is told to.
struct World {
    clock: TestClock,
    book: Arc<Shelf>,
    alerts: Alerts,
    channels: Channels,
    tasks: Vec<Task>,
}

struct Task {
    key: String,
    channel: ChannelName,
    message: Message,
    group: Option<String>,
    status: Status,
    since: Timestamp,
    due: Timestamp,
    end: Option<Result<Report, Failure>>,
}

fn name(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn plan(called: &str, far: &Arc<Far>, fallback: Option<&str>) -> (ChannelName, Arc<ChannelPlan>) {
    let plan = ChannelPlan {
        name: name(called),
        kind: "wecom",
        channel: Arc::clone(far) as Arc<dyn Channel>,
        mention: Mention::default(),
        rate: "20/m".parse().unwrap(),
        fallback: fallback.map(name),
        language: Language::En,
    };
    (name(called), Arc::new(plan))
}

impl World {
    fn new(clock: &TestClock, channels: impl IntoIterator<Item = (ChannelName, Arc<ChannelPlan>)>) -> Self {
        let book = Arc::new(Shelf::default());
        let alerts = alerts(clock, &book);
        Self { clock: clock.clone(), book, alerts, channels: channels.into_iter().collect(), tasks: Vec::new() }
    }

    /// The process dies; the store stays.
    fn restart(&mut self) {
        self.alerts = alerts(&self.clock, &self.book);
    }

    fn add(&mut self, title: &str, text: &str, group: Option<&str>, status: Status) {
        let now = self.clock.now();
        let message =
            Message { title: title.to_owned(), text: text.to_owned(), level: Level::Error, ..Message::default() };
        self.tasks.push(Task {
            key: format!("run-{}", self.tasks.len()),
            channel: name("ops"),
            message,
            group: group.map(str::to_owned),
            status,
            since: now,
            due: now,
            end: None,
        });
    }

    /// Does everything that is due now.
    async fn step(&mut self) {
        loop {
            let now = self.clock.now();
            let due = self.tasks.iter_mut().find(|task| task.end.is_none() && task.due <= now);
            let Some(task) = due else { break };
            let alert = Alert {
                key: &task.key,
                message: task.message.clone(),
                mention: Mention::default(),
                group: task.group.clone().map(|group| (group, Duration::from_mins(10))),
                status: task.status,
                again: task.due > task.since,
                since: task.since,
                time_limit: MINUTE,
            };
            match self.alerts.tell(&self.channels, &task.channel, alert).await.result {
                Ok(Told::Over(report)) => task.end = Some(Ok(report)),
                Ok(Told::Later { at, .. }) => {
                    assert!(at > now, "it would come again at once");
                    task.due = at;
                }
                Err(failure) => task.end = Some(Err(failure)),
            }
        }
        self.alerts.look(&self.channels).await.unwrap();
    }

    /// Lets time pass, second by second.
    async fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.clock.advance(Duration::from_secs(1));
            self.step().await;
        }
    }

    fn fates(&self) -> Vec<Option<Fate>> {
        self.tasks.iter().map(|task| task.end.as_ref()?.as_ref().ok().map(|report| report.result)).collect()
    }

    fn report(&self, place: usize) -> &Report {
        self.tasks[place].end.as_ref().unwrap().as_ref().unwrap()
    }
}

fn alerts(clock: &TestClock, book: &Arc<Shelf>) -> Alerts {
    let client = Arc::new(Client::new(Egress::default()));
    Alerts::new(client, Arc::new(OneSecret), Arc::new(clock.clone()), Arc::clone(book) as Arc<dyn AlertBook>)
}

#[tokio::test]
async fn five_hundred_of_one_kind_are_one_message_and_summaries() {
    let clock = TestClock::at(START);
    let far = Far::new(&clock);
    let mut world = World::new(&clock, [plan("ops", &far, None)]);
    for number in 0..500 {
        world.add("ERP is down", &format!("order {number}"), Some("erp"), Status::Problem);
    }
    world.step().await;
    assert_eq!(world.tasks.iter().filter(|task| task.end.is_none()).count(), 0, "nobody is held up by a count");
    assert_eq!(world.fates()[0], Some(Fate::Sent));
    assert!(world.fates()[1..].iter().all(|fate| *fate == Some(Fate::Grouped)));
    assert_eq!(world.report(499).count, Some(500));
    world.pass(MINUTE * 12).await;
    let titles = far.titles();
    assert_eq!(titles[0], "ERP is down");
    // The eleventh, the hundred and tenth, and what is left at the end of the window.
    assert_eq!(titles.len(), 4, "{titles:?}");
    assert_eq!(titles[1], "ERP is down (1 second, 10 times)");
    assert_eq!(titles[2], "ERP is down (1 second, 99 times)");
    assert_eq!(titles[3], "ERP is down (10 minutes, 390 times)");
    assert!(far.texts().contains("order 499"), "{}", far.texts());
    world.pass(MINUTE * 30).await;
    assert_eq!(far.titles().len(), 4, "a quiet group is not told again");
}

#[tokio::test]
async fn five_hundred_different_ones_all_arrive_within_the_rate() {
    let clock = TestClock::at(START);
    let far = Far::new(&clock);
    let mut world = World::new(&clock, [plan("ops", &far, None)]);
    for number in 0..500 {
        world.add(
            &format!("Order #{number:04} failed"),
            "the ERP said no",
            Some(&format!("o-{number}")),
            Status::Passing,
        );
    }
    world.step().await;
    assert_eq!(far.titles().len(), 20, "as many as the platform takes go out at once");
    world.pass(MINUTE * 5).await;
    far.check_rate();
    let texts = far.texts();
    let missing: Vec<_> = (0..500).filter(|number| !texts.contains(&format!("Order #{number:04} failed"))).collect();
    assert!(missing.is_empty(), "these never arrived: {missing:?}");
    assert!(far.titles().len() < 40, "the rest came together: {:?}", far.titles());
    let fates: BTreeSet<_> = world.fates().into_iter().map(|fate| format!("{fate:?}")).collect();
    assert_eq!(fates, ["Some(Digested)".to_owned(), "Some(Sent)".to_owned()].into());
}

/// A question that was answered is taken back without waiting for ever for a message that hangs.
#[tokio::test(start_paused = true)]
async fn who_takes_a_notice_back_waits_for_a_bounded_time() {
    let clock = TestClock::at(START);
    let far = Arc::new(Far { stuck: Some("for ever"), ..Arc::into_inner(Far::new(&clock)).unwrap() });
    let mut world = World::new(&clock, [plan("ops", &far, None)]);
    world.add("Order #1 failed", "for ever", None, Status::Passing);
    let alerts = world.alerts.clone();
    let ops = name("ops");
    tokio::select! {
        biased;
        () = world.step() => panic!("the message hangs"),
        taken = alerts.withdraw(&ops, "run-7") => {
            // It waited as long, and says to come again as much later.
            assert_eq!(taken, Err(START.plus(limits::CHANNEL_TURN_MAX * 2)));
        }
    }
    // The message was given up with its attempt, so the line is free.
    assert_eq!(alerts.withdraw(&ops, "run-7").await, Ok(false));
}

#[tokio::test]
async fn a_crash_in_the_middle_loses_nothing_and_keeps_the_rate() {
    let clock = TestClock::at(START);
    let far = Far::new(&clock);
    let mut world = World::new(&clock, [plan("ops", &far, None)]);
    for number in 0..60 {
        world.add(&format!("Order #{number:04} failed"), "", Some(&format!("o-{number}")), Status::Passing);
    }
    world.add("Order #0000 failed", "again, number one", Some("o-0"), Status::Passing);
    world.step().await;
    assert_eq!(far.titles().len(), 20);
    assert_eq!(world.fates()[60], Some(Fate::Grouped));
    world.restart();
    // The new process knows what the old one sent.
    world.add("Order #9999 failed", "", None, Status::Passing);
    world.pass(MINUTE * 3).await;
    far.check_rate();
    let texts = far.texts();
    for number in (0..60).chain([9999]) {
        assert!(texts.contains(&format!("Order #{number:04} failed")), "{number} never arrived");
    }
    world.restart();
    world.pass(MINUTE * 12).await;
    assert!(far.texts().contains("again, number one"), "what was counted before the crash is told after it");
}

#[tokio::test]
async fn a_problem_that_is_over_is_told_once_and_only_if_it_was_told() {
    let clock = TestClock::at(START);
    let far = Far::new(&clock);
    let mut world = World::new(&clock, [plan("ops", &far, None)]);
    world.add("ERP", "", Some("erp"), Status::Recovered);
    world.step().await;
    assert_eq!((world.fates()[0], far.titles().len()), (Some(Fate::NothingOpen), 0));
    world.add("ERP is down", "", Some("erp"), Status::Problem);
    world.step().await;
    world.pass(MINUTE * 15).await;
    world.restart();
    for _ in 0..2 {
        world.add("ERP", "", Some("erp"), Status::Recovered);
        world.step().await;
    }
    assert_eq!(far.titles(), ["ERP is down", "Recovered: ERP"]);
    assert_eq!(world.fates()[2..], [Some(Fate::Sent), Some(Fate::NothingOpen)]);
    assert!(far.texts().contains("it lasted 15 minutes and was seen once"), "{}", far.texts());
}

#[tokio::test]
async fn the_other_channel_is_used_when_the_first_refuses_or_stays_down() {
    let clock = TestClock::at(START);
    let (far, mail) = (Far::new(&clock), Far::new(&clock));
    let mut world = World::new(&clock, [plan("ops", &far, Some("mail")), plan("mail", &mail, None)]);
    for (verdict, count) in [(Verdict::Refused, 1), (Verdict::Unknown, 2)] {
        far.set(Some(verdict));
        world.add("first", "", None, Status::Passing);
        world.step().await;
        assert_eq!(mail.titles().len(), count);
        let report = world.report(count - 1);
        assert_eq!((report.channel.clone(), report.instead_of.clone()), (Some(name("mail")), Some(name("ops"))));
    }
    // A short outage is waited for.
    far.set(Some(Verdict::Down));
    world.add("second", "", None, Status::Passing);
    world.step().await;
    world.pass(Duration::from_secs(30)).await;
    far.set(None);
    world.pass(MINUTE).await;
    assert_eq!((far.titles(), mail.titles().len()), (vec!["second".to_owned()], 2));
    // A long one is not.
    far.set(Some(Verdict::Down));
    world.add("third", "", None, Status::Passing);
    world.step().await;
    world.pass(MINUTE * 5).await;
    assert_eq!(mail.titles(), ["first", "first", "third"]);
}

#[tokio::test]
async fn a_channel_that_is_down_for_too_long_fails_the_task() {
    let clock = TestClock::at(START);
    let far = Far::new(&clock);
    let mut world = World::new(&clock, [plan("ops", &far, None)]);
    far.set(Some(Verdict::Down));
    world.add("lost", "", None, Status::Passing);
    world.step().await;
    world.pass(MINUTE * 61).await;
    let failure = world.tasks[0].end.as_ref().unwrap().as_ref().unwrap_err();
    assert_eq!(failure.code, "notify.held");
    assert!(failure.message.contains("out of reach since"), "{}", failure.message);
}

#[tokio::test]
async fn one_that_the_platform_refuses_does_not_take_the_others_along() {
    let clock = TestClock::at(START);
    let far = Far { poison: Some("badword"), ..Arc::into_inner(Far::new(&clock)).unwrap() };
    let far = Arc::new(far);
    let mut world = World::new(&clock, [plan("ops", &far, None)]);
    for number in 0..25 {
        world.add(&format!("n-{number:02}"), if number == 22 { "badword" } else { "fine" }, None, Status::Passing);
    }
    world.step().await;
    world.pass(MINUTE * 3).await;
    let failed: Vec<usize> = (0..25).filter(|place| world.tasks[*place].end.as_ref().unwrap().is_err()).collect();
    assert_eq!(failed, [22]);
    let texts = far.texts();
    assert!((0..25).filter(|number| *number != 22).all(|number| texts.contains(&format!("n-{number:02}"))));
    far.check_rate();
}

#[tokio::test]
async fn what_the_gateway_itself_has_to_say_outlives_it() {
    let clock = TestClock::at(START);
    let far = Far::new(&clock);
    let mut world = World::new(&clock, [plan("ops", &far, None)]);
    far.set(Some(Verdict::Down));
    let message = Message { title: "slots were missed".to_owned(), ..Message::default() };
    world.alerts.post(&name("ops"), "schedule.missed/s", message.clone()).await.unwrap();
    world.step().await;
    assert_eq!(far.titles(), Vec::<String>::new());
    world.restart();
    far.set(None);
    world.pass(MINUTE).await;
    assert_eq!(far.titles(), ["slots were missed"]);
    world.alerts.post(&name("ops"), "schedule.missed/s", message).await.unwrap();
    world.pass(MINUTE).await;
    assert_eq!(far.titles().len(), 1, "it was told a minute ago");
}
