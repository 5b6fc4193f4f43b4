//! One channel's line: what it may send and when, who waits, and what became of those who waited.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::alerts::Report;
use super::book::Moments;
use super::message::{Mention, Message};
use super::words::Words;
use crate::clock::Timestamp;
use crate::domain::failure::Failure;
use crate::domain::rate::Rate;
use crate::limits;

/// The state of one channel in this process.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// What the book says was read.
    pub(super) restored: bool,
    /// When the last messages went out, oldest first.
    sent: VecDeque<Timestamp>,
    /// The platform takes nothing before this, and why.
    closed: Option<(Timestamp, String)>,
    /// It cannot be reached since, and how often that was tried.
    down: Option<(Timestamp, u32)>,
    waiting: VecDeque<Waiting>,
    /// So many from the front go out one by one.
    parted: usize,
    done: BTreeMap<String, Result<Report, Box<Failure>>>,
}

/// A notice that could not go out when it came.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    /// Of the task that brought it.
    pub(super) key: String,
    pub(super) message: Message,
    pub(super) mention: Mention,
    /// The group it belongs to, with its window.
    pub(super) group: Option<(String, Duration)>,
    /// It opens a problem.
    pub(super) opens: bool,
}

impl Waiting {
    /// What it takes of memory: its words.
    fn bytes(&self) -> usize {
        let group = self.group.as_ref().map_or(0, |(name, _)| name.len());
        let people: usize = self.mention.people.iter().chain(&self.mention.phones).map(String::len).sum();
        self.key.len() + group + people + self.message.bytes()
    }
}

impl Line {
    /// Takes over what an earlier process did.
    pub(super) fn restore(&mut self, moments: Moments) {
        self.restored = true;
        self.sent = moments.sent.into();
        self.closed = moments.closed_until.map(|until| (until, "the platform shut it before the restart".to_owned()));
    }

    /// For the process that comes after this one.
    pub(super) fn moments(&self) -> Moments {
        Moments { sent: self.sent.iter().copied().collect(), closed_until: self.closed.as_ref().map(|(at, _)| *at) }
    }

    /// The moment before which nothing may be sent, and why; `None` when it may be sent now.
    pub(super) fn not_before(&mut self, rate: Rate, now: Timestamp) -> Option<(Timestamp, String)> {
        if let Some((until, why)) = &self.closed
            && *until > now
        {
            return Some((*until, why.clone()));
        }
        self.closed = None;
        let per = rate.per();
        // A clock that was set back must not close the line for longer than its rate says.
        self.sent.retain(|at| *at > now.minus(per) && *at <= now.plus(per));
        let count = usize::try_from(rate.count().get()).unwrap_or(usize::MAX);
        let excess = self.sent.len().checked_sub(count)?;
        let free = self.sent.get(excess)?.plus(per);
        Some((free, format!("its rate of {rate} is used up")))
    }

    /// A message went out, or may have.
    pub(super) fn sent(&mut self, now: Timestamp) {
        self.sent.push_back(now);
        while self.sent.len() > limits::CHANNEL_MOMENTS_MAX {
            self.sent.pop_front();
        }
    }

    /// The message that `sent` was told of arrived at this moment at the latest: the far end counts from there.
    pub(super) fn arrived(&mut self, now: Timestamp) {
        if let Some(last) = self.sent.back_mut() {
            *last = (*last).max(now);
        }
    }

    /// The platform takes nothing for this long.
    pub(super) fn close(&mut self, now: Timestamp, wait: Duration, why: &str) -> Timestamp {
        let until = now.plus(wait);
        self.closed = Some((until, why.to_owned()));
        until
    }

    /// It could not be reached: closed for a while that doubles each time. Answers until when, and since when it is down.
    pub(super) fn fell(&mut self, now: Timestamp, why: &str) -> (Timestamp, Timestamp) {
        let (since, tries) = self.down.unwrap_or((now, 0));
        self.down = Some((since, tries.saturating_add(1)));
        let pause = limits::CHANNEL_PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(tries.min(16)));
        (self.close(now, pause.min(limits::CHANNEL_PAUSE_MAX), why), since)
    }

    /// Since when it cannot be reached.
    pub(super) fn down_since(&self) -> Option<Timestamp> {
        self.down.map(|(since, _)| since)
    }

    /// It answered.
    pub(super) fn rose(&mut self) {
        self.down = None;
    }

    /// Puts a notice at the end of the line, unless it stands there already or there are too many.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        if !self.waits(&waiting.key) && !self.is_full() {
            self.waiting.push_back(waiting);
        }
    }

    /// Whether no more can wait here; they wait in their runs.
    pub(super) fn is_full(&self) -> bool {
        let bytes: usize = self.waiting.iter().map(Waiting::bytes).sum();
        self.waiting.len() >= limits::NOTICES_WAITING_MAX || bytes >= limits::NOTICES_WAITING_BYTES_MAX
    }

    pub(super) fn waits(&self, key: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.key == key)
    }

    /// Whether an alert of this group waits.
    pub(super) fn waits_of(&self, group: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.group.as_ref().is_some_and(|(name, _)| name == group))
    }

    /// Takes those out of the line who go with the next message: the first alone, or as many from the front as fit.
    pub(super) fn batch(&mut self, bytes_max: usize) -> Vec<Waiting> {
        if self.waiting.len() <= 1 || self.parted > 0 {
            self.parted = self.parted.saturating_sub(1);
            return self.waiting.pop_front().into_iter().collect();
        }
        let mut bytes = DIGEST_HEAD_BYTES;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.message.line(limits::DIGEST_LINE_BYTES_MAX).len() + LINE_FRAME_BYTES;
            bytes <= bytes_max
        };
        // One notice always fits: its line is bounded far below what any platform takes.
        let count = self.waiting.iter().take_while(fits).count().max(1);
        self.waiting.drain(..count).collect()
    }

    /// Puts those back whose message did not go out.
    pub(super) fn put_back(&mut self, batch: Vec<Waiting>) {
        for waiting in batch.into_iter().rev() {
            self.waiting.push_front(waiting);
        }
    }

    /// Puts those back whose digest was refused; they go out one by one.
    pub(super) fn part(&mut self, batch: Vec<Waiting>) {
        self.parted = batch.len();
        self.put_back(batch);
    }

    /// Takes one out whose run waits no longer.
    pub(super) fn leave(&mut self, key: &str) {
        self.waiting.retain(|waiting| waiting.key != key);
    }

    /// What became of a notice that went out with another one.
    pub(super) fn take_done(&mut self, key: &str) -> Option<Result<Report, Box<Failure>>> {
        self.done.remove(key)
    }

    /// Keeps it for the run that comes for it.
    pub(super) fn done(&mut self, key: String, outcome: Result<Report, Box<Failure>>) {
        self.done.insert(key, outcome);
        if self.done.len() > limits::NOTICES_DONE_MAX {
            self.done.pop_first();
        }
    }
}

/// Title of a digest and what platforms put around it.
const DIGEST_HEAD_BYTES: usize = 200;
/// `- `, a line break, and room for ` ×500`.
const LINE_FRAME_BYTES: usize = 12;

/// The one message for a batch, and who is called by name in it.
pub(super) fn digest(batch: &[Waiting], words: Words) -> (Message, Mention) {
    let mention = batch.iter().fold(Mention::default(), |all, waiting| all.and(&waiting.mention));
    let [first, others @ ..] = batch else { return (Message::default(), mention) };
    if others.is_empty() {
        return (first.message.clone(), mention);
    }
    let mut lines: Vec<(String, usize)> = Vec::new();
    for waiting in batch {
        let line = waiting.message.line(limits::DIGEST_LINE_BYTES_MAX);
        match lines.iter_mut().find(|(there, _)| *there == line) {
            Some((_, count)) => *count += 1,
            None => lines.push((line, 1)),
        }
    }
    let line = |(line, count): &(String, usize)| match count {
        1 => format!("- {line}"),
        count => format!("- {line} ×{count}"),
    };
    let message = Message {
        title: words.digest(batch.len()),
        text: lines.iter().map(line).collect::<Vec<_>>().join("\n"),
        level: batch.iter().map(|waiting| waiting.message.level).max().unwrap_or_default(),
        table: None,
    };
    (message, mention)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::words::Language;

    fn waiting(key: usize, text: &str) -> Waiting {
        let message = Message { title: format!("order {key}"), text: text.to_owned(), ..Message::default() };
        Waiting { key: key.to_string(), message, mention: Mention::default(), group: None, opens: false }
    }

    fn rate() -> Rate {
        "20/m".parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn never_more_than_the_rate_in_any_minute() {
        let mut line = Line::default();
        let mut sent: Vec<i64> = Vec::new();
        for millis in (0..600_000).step_by(37) {
            let now = Timestamp::from_millis(millis);
            if line.not_before(rate(), now).is_none() {
                line.sent(now);
                sent.push(millis);
            }
        }
        for (place, first) in sent.iter().enumerate() {
            let within = sent[place..].iter().take_while(|at| **at < first + 60_000).count();
            assert!(within <= 20, "{within} from {first}");
        }
        assert!(sent.len() >= 190, "{} in ten minutes", sent.len());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_close_the_line() {
        let mut line = Line::default();
        (0..20).for_each(|_| line.sent(Timestamp::from_secs(100_000)));
        assert!(line.not_before(rate(), Timestamp::from_secs(100_001)).is_some());
        assert_eq!(line.not_before(rate(), Timestamp::from_secs(50_000)), None);
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut line = Line::default();
        let at = Timestamp::from_secs(0);
        let pauses: Vec<u64> = (0..6).map(|_| line.fell(at, "down").0.since(at).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        line.rose();
        assert_eq!(line.fell(at, "down").0.since(at).as_secs(), 5);
    }

    #[test]
    fn a_digest_fits_and_loses_nothing() {
        let mut line = Line::default();
        (0..500).for_each(|key| line.wait(waiting(key, &"文".repeat(key % 90))));
        let mut keys = Vec::new();
        while line.waits("499") {
            let batch = line.batch(4096);
            let (message, _) = digest(&batch, Words::of(Language::Zh));
            assert!(message.title.len() + message.text.len() + 30 <= 4096, "{}", message.text.len());
            keys.extend(batch.into_iter().map(|waiting| waiting.key));
        }
        assert_eq!(keys, (0..500).map(|key| key.to_string()).collect::<Vec<_>>());
    }

    /// What is left out waits in its run, and finds room when those before it went out.
    #[test]
    fn the_line_is_bounded_by_bytes_too() {
        let mut line = Line::default();
        let text = "x".repeat(limits::NOTICE_TEXT_BYTES_MAX);
        let fit = limits::NOTICES_WAITING_BYTES_MAX / text.len();
        (0..fit * 4).for_each(|key| line.wait(waiting(key, &text)));
        assert!(line.is_full() && line.waits("0") && !line.waits(&fit.to_string()));
        let bytes: usize = line.waiting.iter().map(Waiting::bytes).sum();
        assert!(bytes < limits::NOTICES_WAITING_BYTES_MAX + 2 * text.len(), "{bytes}");
        assert!(!line.batch(4096).is_empty(), "those in line go on");
        assert!(!line.is_full());
        line.wait(waiting(fit, &text));
        assert!(line.waits(&fit.to_string()));
    }

    #[test]
    fn the_same_is_told_once() {
        let batch = [waiting(7, "down"), waiting(7, "down"), waiting(8, "up")];
        let (message, _) = digest(&batch, Words::of(Language::En));
        assert_eq!((message.title.as_str(), message.text.as_str()), ("3 notices", "- order 7: down ×2\n- order 8: up"));
    }
}
