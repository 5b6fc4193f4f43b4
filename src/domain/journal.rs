//! What is kept beside the runs: who did what (audit), what was refused and why, and what happened to the gateway
//! itself. Bounded, newest kept; no guarantee about a run rests on it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::limits;

/// The three journals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalKind {
    /// Every control action: who, what, on what, from where.
    Audit,
    /// Requests that were not accepted.
    Refusal,
    /// Start, stop, reload, missed and skipped slots.
    Gateway,
}

impl JournalKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Audit, Self::Refusal, Self::Gateway];

    /// Entries that a store keeps of it; the oldest beyond go.
    pub const fn kept_max(self) -> usize {
        match self {
            Self::Refusal => limits::REFUSALS_KEPT_MAX,
            Self::Audit | Self::Gateway => limits::JOURNAL_KEPT_MAX,
        }
    }

    /// The word under which it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Refusal => "refusal",
            Self::Gateway => "gateway",
        }
    }
}

/// One entry, not yet stored.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    pub kind: JournalKind,
    pub at: Timestamp,
    /// What happened: `run.cancel`, `signature.mismatch`, `gateway.started`.
    pub what: String,
    /// On what: a run id, a route's name, a schedule's name.
    pub subject: String,
    /// Groups refusals of one cause; empty elsewhere.
    pub cause: String,
    /// The rest, for people.
    pub detail: Map<String, Value>,
    /// Kept bytes of a refused body, redacted and cut.
    pub body: Bytes,
}

/// A stored entry.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalRow {
    /// Grows with time within its journal.
    pub id: i64,
    pub entry: JournalEntry,
}
