//! What is known of alerts that must outlive the process: groups that are open, and when messages went out.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::message::{Level, Message};
use super::words::Words;
use crate::clock::Timestamp;
use crate::id::ChannelName;
use crate::limits;

/// A small durable place for short texts by name.
#[async_trait]
pub trait AlertBook: Send + Sync + std::fmt::Debug {
    /// All texts whose names begin with `prefix`.
    async fn read(&self, prefix: &str) -> Result<Vec<(String, String)>, BookError>;
    /// Puts a text under a name, or removes it.
    async fn write(&self, name: &str, text: Option<&str>) -> Result<(), BookError>;
}

/// The book could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the book of alerts failed: {0}")]
pub struct BookError(pub String);

/// Names of groups begin with this; behind it come the channel and a hash of the group.
pub(super) const GROUPS: &str = "alert/";
/// Names of what a channel sent begin with this.
const MOMENTS: &str = "alerts-sent/";

/// Alerts of one group on one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) channel: ChannelName,
    pub(super) name: String,
    /// What the last message looked like.
    pub(super) title: String,
    pub(super) level: Level,
    /// The first alert.
    pub(super) since: Timestamp,
    /// The last alert.
    pub(super) last: Timestamp,
    /// All alerts so far.
    pub(super) count: u64,
    /// Those of them that people were told of.
    pub(super) told: u64,
    /// When the first one came that people were not told of.
    pub(super) untold_since: Option<Timestamp>,
    /// Until then alerts are counted instead of sent.
    pub(super) until: Timestamp,
    pub(super) window_ms: u64,
    /// A problem that was told and has not ended.
    pub(super) open: bool,
    /// Different texts that people were not told of, oldest first.
    pub(super) samples: Vec<String>,
    /// A message of the gateway itself that waits to be sent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<Message>,
}

impl Group {
    /// A group of which nothing is known yet.
    pub(super) fn new(channel: &ChannelName, name: &str, message: &Message, window: Duration, now: Timestamp) -> Self {
        Self {
            channel: channel.clone(),
            name: name.to_owned(),
            title: message.title.clone(),
            level: message.level,
            since: now,
            last: now,
            count: 0,
            told: 0,
            untold_since: None,
            until: now,
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            open: false,
            samples: Vec::new(),
            message: None,
        }
    }

    /// The name of a group in the book.
    pub(super) fn key(channel: &ChannelName, name: &str) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
        format!("{GROUPS}{channel}/{}", data_encoding::HEXLOWER.encode(&digest.as_ref()[..8]))
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn write(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }

    /// Alerts that people were not told of.
    pub(super) fn untold(&self) -> u64 {
        self.count.saturating_sub(self.told)
    }

    /// Whether one more alert is counted instead of sent.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        now < self.until || self.untold() > 0
    }

    /// One more alert.
    pub(super) fn count(&mut self, message: &Message, now: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last = now;
        self.level = self.level.max(message.level);
        self.title.clone_from(&message.title);
        self.untold_since.get_or_insert(now);
        let sample = message.line(limits::ALERT_SAMPLE_BYTES_MAX);
        if !self.samples.contains(&sample) {
            self.samples.push(sample);
            // The last ones tell most about how it stands now.
            if self.samples.len() > limits::ALERT_SAMPLES_MAX {
                self.samples.remove(0);
            }
        }
    }

    /// People were told of everything up to now; what follows is counted for another window.
    pub(super) fn told(&mut self, now: Timestamp) {
        self.told = self.count;
        self.untold_since = None;
        self.samples.clear();
        self.message = None;
        self.until = now.plus(self.window());
    }

    /// Whether so many have come that people should not wait for the end of the window: ten times as many as they know of.
    pub(super) fn is_steep(&self) -> bool {
        self.untold() >= STEEP_FROM && self.count / STEEP_FROM >= self.told
    }

    /// The one message for all that people were not told of.
    pub(super) fn summary(&self, words: Words, now: Timestamp) -> Message {
        if let Some(message) = &self.message {
            return message.clone();
        }
        let span = now.since(self.untold_since.unwrap_or(self.since));
        let text = self.samples.iter().map(|sample| format!("- {sample}")).collect::<Vec<_>>().join("\n");
        Message { title: words.again(&self.title, span, self.untold()), text, level: self.level, table: None }
    }
}

/// Fewer alerts than this wait for the end of their window.
const STEEP_FROM: u64 = 10;

/// When a channel sent, and until when it takes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moments {
    pub(super) sent: Vec<Timestamp>,
    pub(super) closed_until: Option<Timestamp>,
}

impl Moments {
    pub(super) fn key(channel: &ChannelName) -> String {
        format!("{MOMENTS}{channel}")
    }
}
