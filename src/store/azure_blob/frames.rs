//! How events stand in a blob: a line of JSON that says what follows, then the raw bytes of the body, then a line feed.
//! A person can read it, any tool can cut it, and bodies stay as they came.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::domain::event::{Entry, Event};
use crate::id::{RunId, Seq};

/// Events that were written in one go.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    pub(super) line: Line,
    /// Body of the first event.
    pub(super) body: Bytes,
}

/// The line before the bytes. Members are added with a default and never renamed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) run: RunId,
    pub(super) seq: Seq,
    pub(super) at: Timestamp,
    pub(super) events: Vec<Event>,
    /// Whose write it is: a number that no other write has, so that a writer whose answer was lost knows its own.
    #[serde(default)]
    pub(super) by: u32,
    /// Members of the workflow's state that these events commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<Map<String, Value>>,
    /// The blob of the delivery that the run came with, beside its first event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// Bytes of the body.
    #[serde(default)]
    pub(super) body: usize,
}

impl Frame {
    pub(super) fn new(run: RunId, seq: Seq, at: Timestamp, events: Vec<Event>, body: Bytes) -> Self {
        let line = Line { run, seq, at, events, by: rand::random(), state: None, key: None, body: body.len() };
        Self { line, body }
    }

    /// Adds the frame to bytes.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) -> Result<(), String> {
        serde_json::to_writer(&mut *bytes, &self.line).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        bytes.push(b'\n');
        Ok(())
    }

    /// The events one by one.
    pub(super) fn entries(self) -> impl Iterator<Item = Entry> {
        let Self { line: Line { seq, at, events, .. }, body } = self;
        let mut body = Some(body);
        let entry =
            move |(place, event)| Entry { seq: seq.plus(place), at, event, body: body.take().unwrap_or_default() };
        events.into_iter().enumerate().map(entry)
    }
}

/// The frames of entries, one each.
pub(super) fn of_entries(run: RunId, key: Option<&String>, entries: &[Entry]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut frame = Frame::new(run, entry.seq, entry.at, vec![entry.event.clone()], entry.body.clone());
        frame.line.key = key.filter(|_| entry.seq == Seq(0)).cloned();
        frame.write(&mut bytes)?;
    }
    Ok(bytes)
}

/// Reads frames; an error says where they break.
pub(super) fn read(bytes: &Bytes) -> Result<Vec<Frame>, String> {
    let mut frames = Vec::new();
    let mut place = 0;
    while place < bytes.len() {
        let broken = |why: &str| format!("at byte {place}: {why}");
        let line =
            bytes[place..].iter().position(|byte| *byte == b'\n').ok_or_else(|| broken("the line has no end"))?;
        let line_end = place + line;
        let line: Line = serde_json::from_slice(&bytes[place..line_end]).map_err(|error| broken(&error.to_string()))?;
        let body_end = line_end.saturating_add(1).saturating_add(line.body);
        if bytes.get(body_end) != Some(&b'\n') {
            return Err(broken("the body is cut off"));
        }
        frames.push(Frame { body: bytes.slice(line_end + 1..body_end), line });
        place = body_end + 1;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn frames_are_read_as_written() {
        let run = RunId::from_u64(7);
        let body = Bytes::from_static(b"{\n}\xff\n\n");
        let first = Frame::new(run, Seq(0), Timestamp::from_secs(1), vec![Event::Woken, Event::Stopped], body.clone());
        let second = Frame::new(run, Seq(2), Timestamp::from_secs(2), vec![Event::LeaseExpired], Bytes::new());
        let mut bytes = Vec::new();
        first.write(&mut bytes).unwrap();
        second.write(&mut bytes).unwrap();
        let read = super::read(&bytes.clone().into()).unwrap();
        assert_eq!(read, [first, second]);
        let entries: Vec<_> = read.into_iter().flat_map(Frame::entries).collect();
        assert_eq!(entries.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((&entries[0].body, entries[1].body.len()), (&body, 0));
        for cut in [1, bytes.len() / 2, bytes.len() - 1] {
            assert!(super::read(&Bytes::copy_from_slice(&bytes[..cut])).is_err(), "{cut}");
        }
    }
}
