//! Amazon SQS: messages are received by long poll, accepted, and only then deleted. Until then they are hidden from
//! others, again and again, so that nothing but a crash here makes one come twice; and one that comes twice is known.
//!
//! A message that cannot be read is kept as a refusal and left to the queue: its redrive policy moves it to a queue for
//! dead letters, where it is whole. We never delete what nobody took.

mod message;
mod queue;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::message::delivery;
use self::queue::{Message, Queue, Trouble};
use super::Parts;
use super::pace::Pace;
use crate::clock::Timestamp;
use crate::gateway::{Gateway, RefusalKind};
use crate::id::SourceName;
use crate::limits;
use crate::tasks::plan::Sqs;

/// Receives and accepts until `stop`; what was received by then is brought to its end.
pub(super) fn run(
    parts: Parts,
    name: SourceName,
    settings: Arc<Sqs>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let gateway = parts.gateway.clone();
    let fetch = Fetch {
        gateway,
        clock: Arc::clone(&parts.clock),
        name,
        queue: Queue::new(parts, Arc::clone(&settings)),
        settings,
        stop,
    };
    async move { fetch.run().await }
}

/// The loop of one queue.
struct Fetch {
    gateway: Gateway,
    clock: Arc<dyn crate::clock::Clock>,
    name: SourceName,
    queue: Queue,
    settings: Arc<Sqs>,
    stop: CancellationToken,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its runs are on disk, or nobody wants it: it can go.
    Done,
    /// It cannot be read: it stays in the queue.
    Unreadable,
    /// It cannot be accepted yet.
    Later,
}

impl Fetch {
    async fn run(&self) {
        tracing::info!(source = %self.name, "source {} fetches from {}", self.name, self.settings.queue_url);
        let mut pace = Pace::default();
        while !self.stop.is_cancelled() {
            // What arrives in an answer that nobody waits for any more is hidden for a while, and comes again.
            let Some(received) = self.stop.run_until_cancelled(self.queue.receive()).await else { break };
            match received {
                Ok(messages) => {
                    pace.well();
                    self.count(if messages.is_empty() { "empty" } else { "messages" });
                    self.gateway.source_answered(&self.name, messages.len()).await;
                    if !messages.is_empty() {
                        self.work_off(messages).await;
                    }
                }
                Err(trouble) => {
                    self.count(trouble.code());
                    let failures = pace.failed();
                    if failures >= limits::SOURCE_FAILURES_TOLD || is_ours(&trouble) {
                        self.gateway.source_fails(&self.name, trouble.code(), &trouble.to_string()).await;
                    } else {
                        tracing::warn!(source = %self.name, error = %trouble, "source {} did not answer: {trouble}", self.name);
                    }
                    self.stop.run_until_cancelled(tokio::time::sleep(pace.pause())).await;
                }
            }
        }
        tracing::info!(source = %self.name, "source {} fetches no more", self.name);
    }

    /// Brings every message of one answer to its end: accepted and deleted, left to the queue, or given back.
    async fn work_off(&self, messages: Vec<Message>) {
        let (began, mut hidden_at) = (Instant::now(), Instant::now());
        let mut held = messages;
        loop {
            let fates = join_all(held.iter().map(|message| self.accept(message))).await;
            let of =
                |fate: Fate| held.iter().zip(&fates).filter(move |(_, its)| **its == fate).map(|(message, _)| message);
            let done: Vec<_> = of(Fate::Done).collect();
            let unreadable: Vec<_> = of(Fate::Unreadable).map(|message| (message, pause_of(message))).collect();
            let later: Vec<_> = of(Fate::Later).cloned().collect();
            self.delete(done).await;
            self.hide(&unreadable, "messages that cannot be read could not be put off").await;
            held = later;
            self.gateway.source_holds(&self.name, held.len());
            if held.is_empty() {
                return;
            }
            let stopped = self.stop.run_until_cancelled(tokio::time::sleep(limits::SOURCE_HELD_PAUSE)).await.is_none();
            if stopped || began.elapsed() > limits::SQS_HELD_MAX {
                tracing::warn!(source = %self.name, count = held.len(), "{} messages of source {} go back unaccepted", held.len(), self.name);
                let back: Vec<_> = held.iter().map(|message| (message, Duration::ZERO)).collect();
                self.hide(&back, "messages could not be given back; they come again by themselves").await;
                self.gateway.source_holds(&self.name, 0);
                return;
            }
            if hidden_at.elapsed() > self.settings.visibility / 3 {
                let again: Vec<_> = held.iter().map(|message| (message, self.settings.visibility)).collect();
                self.hide(&again, "messages could not be held; they may come again").await;
                hidden_at = Instant::now();
            }
        }
    }

    async fn accept(&self, message: &Message) -> Fate {
        let now = self.clock.now();
        let fetched = match delivery(message, self.settings.unwrap, now) {
            Ok(fetched) => fetched,
            Err((unreadable, raw)) => {
                let count = receive_count(message);
                let why = format!("{unreadable}; received {count} times");
                tracing::warn!(source = %self.name, "message {} of source {} stays in the queue: {why}", message.id, self.name);
                self.gateway.refuse_fetched(&self.name, &raw, "source.unreadable", why).await;
                return Fate::Unreadable;
            }
        };
        match self.gateway.take(&self.name, &fetched).await {
            Ok(_) => {
                if let Some(age) = age(message, now) {
                    metrics::histogram!("clawhook_source_age_seconds", "source" => self.name.to_string())
                        .record(age.as_secs_f64());
                }
                Fate::Done
            }
            Err(refusal) => {
                if let RefusalKind::Unavailable { .. } = refusal.kind {
                    self.count(refusal.code);
                }
                tracing::debug!(source = %self.name, code = refusal.code, "a message is held: {}", refusal.code);
                Fate::Later
            }
        }
    }

    /// Deletes what was accepted. What cannot be deleted comes again and is known then.
    async fn delete(&self, mut done: Vec<&Message>) {
        for tried in 1..=limits::SQS_DELETE_TRIES {
            if done.is_empty() {
                return;
            }
            match self.queue.delete(&done).await {
                Ok(failed) => {
                    let mut place = 0..;
                    done.retain(|_| place.next().is_some_and(|place| failed.contains(&place)));
                }
                Err(trouble) => {
                    tracing::warn!(source = %self.name, error = %trouble, tried, "accepted messages could not be deleted: {trouble}");
                }
            }
            if !done.is_empty() && tried < limits::SQS_DELETE_TRIES {
                tokio::time::sleep(limits::SOURCE_PAUSE).await;
            }
        }
        if !done.is_empty() {
            let count = done.len();
            tracing::warn!(source = %self.name, count, "{count} accepted messages of source {} stay in the queue; they will be known when they come again", self.name);
        }
    }

    async fn hide(&self, messages: &[(&Message, Duration)], otherwise: &str) {
        if messages.is_empty() {
            return;
        }
        if let Err(trouble) = self.queue.hide(messages).await {
            tracing::warn!(source = %self.name, error = %trouble, "{otherwise}");
        }
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!("clawhook_source_answers_total", "source" => self.name.to_string(), "outcome" => outcome)
            .increment(1);
    }
}

/// Whether the trouble is one that waiting does not mend, so that nobody need wait to be told.
fn is_ours(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Refused { .. } | Trouble::Unfit(_)) && !trouble.is_busy()
}

/// How long a message that cannot be read is hidden: longer each time, so that it does not come all the time where no
/// redrive policy takes it away.
fn pause_of(message: &Message) -> Duration {
    let doubled = 1_u32.checked_shl(receive_count(message).saturating_sub(1)).unwrap_or(u32::MAX);
    limits::SQS_UNREADABLE_PAUSE.saturating_mul(doubled).min(limits::SQS_UNREADABLE_PAUSE_MAX)
}

fn receive_count(message: &Message) -> u32 {
    message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// How long ago the message was sent.
fn age(message: &Message, now: Timestamp) -> Option<Duration> {
    let sent = message.attributes.get("SentTimestamp")?.parse().ok()?;
    Some(now.since(Timestamp::from_millis(sent)))
}
