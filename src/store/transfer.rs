//! What a store keeps, in pieces that any other store can take: for verification, backup, restore and migration. Pieces
//! carry logs, not indexes; who takes a run folds its log and makes its own.

use std::fmt;

use data_encoding::BASE64;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Error;
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::{Entry, Event};
use crate::domain::journal::{JournalEntry, JournalKind, JournalRow};
use crate::domain::run::RunHead;
use crate::id::{Revision, RunId, WorkflowName};

/// What callers of `load` are told they were doing.
pub(super) const LOADING: &str = "taking pieces of another store";
/// What callers of `dump` are told they were doing.
pub(super) const DUMPING: &str = "reading the whole store";

/// Everything that a store keeps, as it was at one moment where the backend can tell.
pub struct Dump {
    /// Runs that will come, for progress; more may come while it goes on.
    pub runs: u64,
    /// Documents, marks, states and journals first, then runs from old to new, then keys.
    pub pieces: BoxStream<'static, Result<Piece, Error>>,
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dump({} runs)", self.runs)
    }
}

/// One thing that a store keeps.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// The text behind a content hash.
    Document {
        revision: Revision,
        text: String,
    },
    Mark {
        name: String,
        value: String,
    },
    /// The whole state of a workflow.
    State {
        workflow: WorkflowName,
        values: Map<String, Value>,
    },
    /// Entries of one journal come in their order, and keep their numbers.
    Journal(JournalRow),
    /// A run with its whole log, and what the store's indexes say of it.
    Run {
        id: RunId,
        log: Vec<Entry>,
        head: Box<RunHead>,
    },
    /// A delivery key or replay guard, with the runs that it made.
    Key {
        key: DeliveryKey,
        runs: Vec<RunId>,
        expires: Timestamp,
    },
}

/// A piece as one line of a backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Document {
        revision: Revision,
        text: String,
    },
    Mark {
        name: String,
        value: String,
    },
    State {
        workflow: WorkflowName,
        values: Map<String, Value>,
    },
    Journal {
        id: i64,
        kind: JournalKind,
        at: Timestamp,
        what: String,
        subject: String,
        cause: String,
        detail: Map<String, Value>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        body: String,
    },
    Run {
        id: RunId,
        log: Vec<LogLine>,
        head: Box<RunHead>,
    },
    Key {
        key: String,
        runs: Vec<RunId>,
        expires: Timestamp,
    },
}

/// An event of a run's log as it stands in a backup; its place is its place in the list.
#[derive(Debug, Serialize, Deserialize)]
struct LogLine {
    at: Timestamp,
    event: Event,
    /// Base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body: String,
}

impl Piece {
    /// The piece as one line of JSON, without its end.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        let line = match self.clone() {
            Self::Document { revision, text } => Line::Document { revision, text },
            Self::Mark { name, value } => Line::Mark { name, value },
            Self::State { workflow, values } => Line::State { workflow, values },
            Self::Journal(JournalRow { id, entry }) => {
                let JournalEntry { kind, at, what, subject, cause, detail, body } = entry;
                Line::Journal { id, kind, at, what, subject, cause, detail, body: BASE64.encode(&body) }
            }
            Self::Run { id, log, head } => {
                let line =
                    |entry: Entry| LogLine { at: entry.at, event: entry.event, body: BASE64.encode(&entry.body) };
                Line::Run { id, log: log.into_iter().map(line).collect(), head }
            }
            Self::Key { key, runs, expires } => {
                Line::Key { key: data_encoding::HEXLOWER.encode(key.as_bytes()), runs, expires }
            }
        };
        serde_json::to_string(&line)
    }

    /// Reads a line of a backup.
    pub fn from_line(line: &str) -> Result<Self, String> {
        let bytes = |text: String| BASE64.decode(text.as_bytes()).map_err(|error| error.to_string());
        Ok(match serde_json::from_str(line).map_err(|error| error.to_string())? {
            Line::Document { revision, text } => Self::Document { revision, text },
            Line::Mark { name, value } => Self::Mark { name, value },
            Line::State { workflow, values } => Self::State { workflow, values },
            Line::Journal { id, kind, at, what, subject, cause, detail, body } => {
                let body = bytes(body)?.into();
                Self::Journal(JournalRow { id, entry: JournalEntry { kind, at, what, subject, cause, detail, body } })
            }
            Line::Run { id, log, head } => {
                let mut entries = Vec::with_capacity(log.len());
                for (place, LogLine { at, event, body }) in log.into_iter().enumerate() {
                    let seq = crate::id::Seq::default().plus(place);
                    entries.push(Entry { seq, at, event, body: bytes(body)?.into() });
                }
                Self::Run { id, log: entries, head }
            }
            Line::Key { key, runs, expires } => {
                let hash = data_encoding::HEXLOWER.decode(key.as_bytes()).map_err(|error| error.to_string())?;
                let hash = hash.try_into().map_err(|_| format!("`{key}` is not a delivery key"))?;
                Self::Key { key: DeliveryKey::from_bytes(hash), runs, expires }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn pieces_are_written_and_read_back() {
        let pieces = [
            Piece::Document { revision: Revision::of(b"a"), text: "version: 1\n".into() },
            Piece::Mark { name: "paused/route/a".into(), value: "订单".into() },
            Piece::Key {
                key: DeliveryKey::of_body("/a", b"b"),
                runs: vec![RunId::from_u64(7)],
                expires: Timestamp::from_millis(9),
            },
            Piece::Journal(JournalRow {
                id: 3,
                entry: JournalEntry {
                    kind: JournalKind::Refusal,
                    at: Timestamp::from_millis(5),
                    what: "wrong_signature".into(),
                    subject: "orders".into(),
                    cause: "c".into(),
                    detail: Map::new(),
                    body: vec![0, 255].into(),
                },
            }),
        ];
        for piece in pieces {
            assert_eq!(Piece::from_line(&piece.to_line().unwrap()), Ok(piece));
        }
        for bad in ["", "{}", r#"{"mark":{"name":"a"}}"#, r#"{"key":{"key":"zz","runs":[],"expires":1}}"#] {
            assert!(Piece::from_line(bad).is_err(), "{bad}");
        }
    }
}
