//! How often people are told. All runs of a process share one [`Alerts`]; it keeps each channel inside the rate of its
//! platform, counts alerts of one group instead of repeating them, puts together what had to wait, says once that a
//! problem is over, and turns to another channel when one cannot be used.
//!
//! Nothing is lost over a crash. A notice that has to wait stays an open task of its run and comes again; what was
//! counted instead of sent stands in the [`AlertBook`] before its task ends. What may happen instead is that people are
//! told twice: a process that dies between a message and its note of it sends it again.
//!
//! Each gateway keeps the rates by itself. Groups are shared by all gateways of a store.

mod groups;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

use super::book::{AlertBook, Group, Moments};
use super::line::{Line, Waiting, digest};
use super::message::{Mention, Message};
use super::{ChannelPlan, Channels, Notice, Trouble, Verdict, Wire};
use crate::clock::{Clock, Timestamp};
use crate::domain::attempt::{Exchange, Pause};
use crate::domain::failure::{Failure, Fault};
use crate::domain::secret::Secrets;
use crate::id::ChannelName;
use crate::limits;
use crate::outbound::Client;

/// Something to tell on a channel.
#[derive(Debug, Clone)]
pub struct Alert<'a> {
    /// The same at every attempt.
    pub key: &'a str,
    pub message: Message,
    /// Whom to call by name beside those of the channel.
    pub mention: Mention,
    /// Alerts of one group are counted for as long as this, once people were told.
    pub group: Option<(String, Duration)>,
    pub status: Status,
    /// It was brought before, and had to wait.
    pub again: bool,
    /// When it was first tried.
    pub since: Timestamp,
    /// How long this attempt may take.
    pub time_limit: Duration,
}

/// What an alert says of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Nothing: it is over with the message.
    #[default]
    Passing,
    /// It is there, until somebody says otherwise.
    Problem,
    /// It is over.
    Recovered,
}

/// What became of an alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub result: Fate,
    /// Who took the message, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// The channel that should have taken it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<ChannelName>,
    /// Messages that this task sent.
    pub messages: u32,
    /// Notices in that message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notices: Option<usize>,
    /// Alerts of the group so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What the platform said.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub said: Value,
}

/// How an alert ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// People were told by a message of its own.
    Sent,
    /// It was counted; a summary follows.
    Grouped,
    /// It went out with others in one message.
    Digested,
    /// Nobody was told: there was no such problem.
    NothingOpen,
}

/// How one attempt at an alert ended.
#[derive(Debug)]
pub struct Telling {
    pub result: Result<Told, Failure>,
    /// The call it made, secrets masked.
    pub exchange: Option<Box<Exchange>>,
}

/// How far an alert has come.
#[derive(Debug, PartialEq)]
pub enum Told {
    /// It is dealt with.
    Over(Report),
    /// It waits in line and must be brought again at this moment.
    Later { at: Timestamp, why: Pause },
}

/// The alerts of one process. Cheap to clone.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    client: Arc<Client>,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    book: Arc<dyn AlertBook>,
    lines: Mutex<HashMap<ChannelName, Arc<AsyncMutex<Line>>>>,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alerts")
    }
}

/// A message that did not go out, or may not have.
struct Miss {
    failure: Box<Failure>,
    /// It may be tried again then, and why not now.
    again: Option<(Timestamp, String)>,
    verdict: Verdict,
    /// Another channel should be used.
    gives_way: bool,
}

/// A message on its way.
struct Letter<'a> {
    id: &'a str,
    message: &'a Message,
    mention: &'a Mention,
    time_limit: Duration,
}

/// What came of a letter.
struct HandedOver {
    /// The channel that took it, and what was said there.
    result: Result<(ChannelName, Value), Miss>,
    exchange: Option<Box<Exchange>>,
}

impl Alerts {
    /// Alerts of a process that has told nobody anything yet.
    pub fn new(
        client: Arc<Client>,
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
        book: Arc<dyn AlertBook>,
    ) -> Self {
        Self(Arc::new(Inner { client, secrets, clock, book, lines: Mutex::default() }))
    }

    /// One attempt at an alert.
    pub async fn tell(&self, channels: &Channels, name: &ChannelName, alert: Alert<'_>) -> Telling {
        let quiet = |result| Telling { result, exchange: None };
        let Some(plan) = channels.get(name) else { return quiet(Err(no_channel(name))) };
        let now = self.now();
        let line = self.line(name);
        let Ok(mut line) = timeout(limits::CHANNEL_TURN_MAX, line.lock()).await else {
            return quiet(Ok(later(name, now.plus(limits::CHANNEL_TURN_MAX), "others are being told")));
        };
        self.restore(plan, &mut line).await;
        if let Some(done) = line.take_done(alert.key) {
            return quiet(done.map(Told::Over).map_err(|failure| *failure));
        }
        if alert.status == Status::Recovered {
            return self.recovered(channels, plan, &mut line, alert).await;
        }
        if let Some((group, window)) = &alert.group
            && !line.waits(alert.key)
            && let Some(telling) = self.counted(channels, plan, &mut line, (group, *window), &alert).await
        {
            return telling;
        }
        // After a restart all who waited come at one moment: they gather before the first one sends.
        let gathers = alert.again && !line.waits(alert.key) && !line.is_full();
        line.wait(Waiting {
            key: alert.key.to_owned(),
            message: alert.message.clone(),
            mention: alert.mention.clone(),
            group: alert.group.clone(),
            opens: alert.status == Status::Problem,
        });
        if let Some((at, why)) = line.not_before(plan.rate, self.now()) {
            return quiet(held(plan, &mut line, &alert, at, &why));
        }
        if gathers {
            return quiet(held(plan, &mut line, &alert, now.plus(TURN), "those who waited before the restart gather"));
        }
        self.send_batch(channels, plan, &mut line, &alert).await
    }

    /// Takes back what waits in line, because there is nothing to tell any more. True when it went out before; or the
    /// moment at which to try again, when others are being told for too long.
    pub async fn withdraw(&self, name: &ChannelName, key: &str) -> Result<bool, Timestamp> {
        let line = self.line(name);
        let Ok(mut line) = timeout(limits::CHANNEL_TURN_MAX, line.lock()).await else {
            return Err(self.now().plus(limits::CHANNEL_TURN_MAX));
        };
        line.leave(key);
        Ok(matches!(line.take_done(key), Some(Ok(_))))
    }

    /// Sends those who are first in line, in one message.
    async fn send_batch(&self, channels: &Channels, plan: &ChannelPlan, line: &mut Line, alert: &Alert<'_>) -> Telling {
        let batch = line.batch(plan.channel.text_bytes_max());
        let (message, mention) = digest(&batch, plan.words());
        let id = match batch.as_slice() {
            [one] => one.key.clone(),
            [first, ..] => format!("{}-and-{}", first.key, batch.len() - 1),
            // The line was full, and this one stands only in its run.
            [] => {
                return Telling {
                    result: held(plan, line, alert, self.now().plus(TURN), "others wait"),
                    exchange: None,
                };
            }
        };
        let letter = Letter { id: &id, message: &message, mention: &mention, time_limit: alert.time_limit };
        let handed = self.hand_over(channels, plan, line, &letter).await;
        let result = match handed.result {
            Ok((channel, said)) => self.went_out(plan, line, alert, batch, (channel, said)).await,
            Err(Miss { again: Some((at, why)), .. }) => {
                line.put_back(batch);
                held(plan, line, alert, at, &why)
            }
            // One of them may be what the platform does not take: each is tried by itself.
            Err(miss) if batch.len() > 1 && miss.verdict == Verdict::Refused => {
                line.part(batch);
                held(plan, line, alert, self.now().plus(TURN), "the digest was refused, so each is sent by itself")
            }
            Err(miss) => {
                for waiting in batch {
                    line.done(waiting.key, Err(miss.failure.clone()));
                }
                self.own(plan, line, alert)
            }
        };
        Telling { result, exchange: handed.exchange }
    }

    /// Notes that a batch went out, for its groups and for the runs that brought it.
    async fn went_out(
        &self,
        plan: &ChannelPlan,
        line: &mut Line,
        alert: &Alert<'_>,
        batch: Vec<Waiting>,
        (channel, said): (ChannelName, Value),
    ) -> Result<Told, Failure> {
        let now = self.now();
        let notices = (batch.len() > 1).then_some(batch.len());
        let said_bytes = said.to_string().len();
        let fate = if batch.len() > 1 { Fate::Digested } else { Fate::Sent };
        for waiting in batch {
            let mut count = None;
            if let Some((group, window)) = &waiting.group {
                let known = self.group_or_warn(&plan.name, group).await;
                let mut record = known.unwrap_or_else(|| Group::new(&plan.name, group, &waiting.message, *window, now));
                record.count(&waiting.message, now);
                record.window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
                record.open |= waiting.opens;
                record.told(now);
                count = Some(record.count);
                self.keep_group_or_warn(&record).await;
            }
            let messages = u32::from(waiting.key == alert.key);
            let base = Report { messages, notices, count, ..report(fate) };
            // Those who come for it later are many, and a platform may say much.
            let said = if waiting.key == alert.key || said_bytes <= limits::NOTICE_SAID_BYTES_MAX {
                said.clone()
            } else {
                Value::Null
            };
            line.done(waiting.key, Ok(by(plan, channel.clone(), said, base)));
        }
        self.own(plan, line, alert)
    }

    /// What became of this one when a message went out, or did not; it waits on when others were first.
    fn own(&self, plan: &ChannelPlan, line: &mut Line, alert: &Alert<'_>) -> Result<Told, Failure> {
        if let Some(done) = line.take_done(alert.key) {
            return done.map(Told::Over).map_err(|failure| *failure);
        }
        let now = self.now();
        let at = line.not_before(plan.rate, now).map_or_else(|| now.plus(TURN), |(at, _)| at);
        held(plan, line, alert, at, "others were first")
    }

    /// Hands a letter to the channel, or to those that stand in for it.
    async fn hand_over(
        &self,
        channels: &Channels,
        plan: &ChannelPlan,
        line: &mut Line,
        letter: &Letter<'_>,
    ) -> HandedOver {
        let (result, mut exchange) = self.send(plan, line, letter).await;
        let mut miss = match result {
            Ok(said) => return HandedOver { result: Ok((plan.name.clone(), said)), exchange },
            Err(miss) => miss,
        };
        let mut at = plan;
        while let Some(next) = at.fallback.as_ref().filter(|_| miss.gives_way).and_then(|name| channels.get(name)) {
            at = next;
            let other = self.line(&next.name);
            let turn = timeout(limits::CHANNEL_TURN_MAX, other.lock()).await;
            let (mut other, free) = match turn {
                Ok(mut other) => {
                    self.restore(next, &mut other).await;
                    let free = other.not_before(next.rate, self.now());
                    (Some(other), free)
                }
                Err(_) => (None, Some((self.now().plus(TURN), "others are being told".to_owned()))),
            };
            let Some(other) = other.as_mut().filter(|_| free.is_none()) else {
                // What may have arrived is not tried again; anything else waits for whoever is free first.
                if miss.verdict != Verdict::Unknown && miss.again.is_none() {
                    miss.again = free;
                }
                continue;
            };
            let (result, call) = self.send(next, other, letter).await;
            exchange = call.or(exchange);
            match result {
                Ok(said) => {
                    tracing::warn!(channel = %plan.name, "people were told by channel {}, because {}: {}", next.name, plan.name, miss.failure.message);
                    return HandedOver { result: Ok((next.name.clone(), said)), exchange };
                }
                Err(theirs) => {
                    if miss.verdict != Verdict::Unknown && miss.again.is_none() {
                        miss.again = theirs.again;
                    }
                    miss.failure.message =
                        format!("{}; and channel `{}`: {}", miss.failure.message, next.name, theirs.failure.message);
                }
            }
        }
        HandedOver { result: Err(miss), exchange }
    }

    /// One message on one channel.
    async fn send(
        &self,
        plan: &ChannelPlan,
        line: &mut Line,
        letter: &Letter<'_>,
    ) -> (Result<Value, Miss>, Option<Box<Exchange>>) {
        let name = &plan.name;
        line.sent(self.now());
        // On record first: a restart in the middle must not send more than the platform takes.
        self.keep_moments(name, line).await;
        let inner = &self.0;
        let wire = Wire {
            client: &inner.client,
            secrets: inner.secrets.as_ref(),
            clock: inner.clock.as_ref(),
            time_limit: letter.time_limit,
        };
        let mention = plan.mention.and(letter.mention);
        let notice = Notice { id: letter.id, message: letter.message, mention: &mention, words: plan.words() };
        let sending = plan.channel.send(&wire, &notice).await;
        let now = self.now();
        line.arrived(now);
        let outcome = if sending.result.is_ok() { "sent" } else { "failed" };
        metrics::counter!("clawhook_messages_total", "channel" => name.to_string(), "outcome" => outcome).increment(1);
        let result = match sending.result {
            Ok(said) => {
                line.rose();
                Ok(said)
            }
            Err(Trouble { verdict, mut failure }) => {
                failure.place = Some(name.to_string());
                tracing::warn!(channel = %name, code = %failure.code, "channel {name}: {}", failure.message);
                let (again, gives_way) = match verdict {
                    Verdict::Busy { wait } => (Some(line.close(now, wait, &failure.message)), false),
                    Verdict::Down => {
                        let (until, since) = line.fell(now, &failure.message);
                        (Some(until), now.since(since) >= limits::CHANNEL_DOWN_MAX)
                    }
                    Verdict::Refused | Verdict::Unknown => (None, true),
                };
                if again.is_some() {
                    self.keep_moments(name, line).await;
                }
                let again = again.map(|at| (at, failure.message.clone()));
                Err(Miss { failure, again, verdict, gives_way })
            }
        };
        (result, sending.exchange)
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn line(&self, name: &ChannelName) -> Arc<AsyncMutex<Line>> {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lines.entry(name.clone()).or_default())
    }

    async fn restore(&self, plan: &ChannelPlan, line: &mut Line) {
        if line.restored {
            return;
        }
        let key = Moments::key(&plan.name);
        match self.0.book.read(&key).await {
            Ok(found) => {
                let text = found.into_iter().find(|(name, _)| *name == key).map(|(_, text)| text);
                line.restore(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default());
            }
            Err(error) => tracing::warn!(%error, "what channel {} sent before the restart is not known", plan.name),
        }
    }

    async fn keep_moments(&self, name: &ChannelName, line: &Line) {
        let Ok(text) = serde_json::to_string(&line.moments()) else { return };
        if let Err(error) = self.0.book.write(&Moments::key(name), Some(&text)).await {
            tracing::warn!(%error, "what channel {name} sent could not be put on record");
        }
    }
}

/// A little later: after whoever is first now.
const TURN: Duration = Duration::from_secs(1);

fn later(channel: &ChannelName, at: Timestamp, why: &str) -> Told {
    let why = super::message::cut(why, limits::ALERT_SAMPLE_BYTES_MAX, "…").into_owned();
    Told::Later { at, why: Pause::Channel { name: channel.to_string(), why } }
}

/// It waits, unless it has waited for too long.
fn held(plan: &ChannelPlan, line: &mut Line, alert: &Alert<'_>, at: Timestamp, why: &str) -> Result<Told, Failure> {
    if at.since(alert.since) < limits::NOTICE_HELD_MAX {
        return Ok(later(&plan.name, at, why));
    }
    line.leave(alert.key);
    let down = line.down_since().map(|since| format!(", and it is out of reach since {since}")).unwrap_or_default();
    let message = format!("channel `{}` took no message for too long{down}: {why}", plan.name);
    let help = "mend the channel, or give it a `fallback`; then resume the run";
    Err(Failure::new("notify.held", Fault::Far, message).help(help).at(plan.name.as_str()))
}

fn report(result: Fate) -> Report {
    Report { result, channel: None, instead_of: None, messages: 0, notices: None, count: None, said: Value::Null }
}

/// The report, with who took the message.
fn by(plan: &ChannelPlan, channel: ChannelName, said: Value, mut report: Report) -> Report {
    report.instead_of = (channel != plan.name).then(|| plan.name.clone());
    report.channel = Some(channel);
    report.said = said;
    report
}

fn no_channel(name: &ChannelName) -> Failure {
    Failure::new("notify.channel", Fault::Config, format!("there is no channel `{name}` any more"))
        .help("add it to `channels` in clawhook.yaml, reload, then resume the run")
        .at(name.as_str())
}
