//! Journals: append blobs, one a day for each kind and writer, so that gateways do not meet there. Audit and gateway
//! entries stand in a blob before their writer is answered. Refused requests are many and cheap to send for whoever
//! wishes us ill, so they wait in the index and are sent in one call a look; the last of them go with the machine.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::super::Error;
use super::container::{Item, Trouble};
use super::{Core, names, small};
use crate::clock::Timestamp;
use crate::domain::journal::{JournalEntry, JournalKind, JournalRow};
use crate::limits;

pub(super) const WRITING: &str = "writing a journal";

/// Bits of an entry's id that tell entries of one millisecond and writers apart.
const ID_BITS: u32 = 20;
/// Bits that tell writers apart.
const WRITER_BITS: u32 = 8;

/// What this gateway writes.
#[derive(Debug, Default)]
pub(super) struct Journals {
    last_id: Mutex<i64>,
    /// The blob of each kind that is written to.
    tails: Mutex<HashMap<JournalKind, Tail>>,
}

/// The end of a blob.
#[derive(Debug, Clone)]
struct Tail {
    day: String,
    name: String,
    length: u64,
    blocks: u32,
}

/// An entry as a line of its blob.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: i64,
    at: Timestamp,
    what: String,
    subject: String,
    #[serde(default)]
    cause: String,
    detail: Map<String, Value>,
    /// Base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    body: String,
}

impl Core {
    /// Adds entries to their journals.
    pub(super) async fn journal_append(&self, entries: Vec<JournalEntry>) -> Result<(), Error> {
        for kind in JournalKind::ALL {
            let own: Vec<_> = entries.iter().filter(|entry| entry.kind == kind).cloned().collect();
            if own.is_empty() {
                continue;
            }
            let rows = self.number(kind, own).await?;
            let sent = kind != JournalKind::Refusal;
            if sent {
                self.send(kind, &rows).await?;
            }
            self.index.call(WRITING, move |index| small::put_journal(index, kind, &rows, sent)).await?;
        }
        Ok(())
    }

    /// Sends the refused requests that wait.
    pub(super) async fn send_refusals(&self) -> Result<(), Error> {
        let kind = JournalKind::Refusal;
        let rows = self.index.call(WRITING, move |index| small::unsent(index, kind, limits::REFUSALS_KEPT_MAX)).await?;
        if rows.is_empty() {
            return Ok(());
        }
        self.send(kind, &rows).await?;
        self.index.call(WRITING, move |index| small::put_journal(index, kind, &rows, true)).await
    }

    /// Gives entries ids that grow, and that no other gateway gives.
    async fn number(&self, kind: JournalKind, entries: Vec<JournalEntry>) -> Result<Vec<JournalRow>, Error> {
        let mut last = self.journals.last_id.lock().await;
        if *last == 0 {
            let (newest, _) = self.index.call(WRITING, move |index| small::journal_ends(index, kind)).await?;
            *last = newest;
        }
        let floor = self.clock.now().as_millis() << ID_BITS;
        let (step, writer) = (1 << WRITER_BITS, i64::from(self.writer));
        let rows = entries.into_iter().map(|entry| {
            *last = ((*last | (step - 1)) - (step - 1) + step).max(floor) | writer;
            JournalRow { id: *last, entry }
        });
        Ok(rows.collect())
    }

    /// Appends lines to the blob of today.
    async fn send(&self, kind: JournalKind, rows: &[JournalRow]) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for row in rows {
            let line = line_of(row);
            serde_json::to_writer(&mut bytes, &line)
                .map_err(|error| Error::Failed { doing: WRITING, why: error.to_string() })?;
            bytes.push(b'\n');
        }
        let bytes = Bytes::from(bytes);
        let day = self.clock.now().to_utc().format("%Y%m%d").to_string();
        let mut tails = self.journals.tails.lock().await;
        let known = tails.remove(&kind).filter(|tail| tail.day == day && tail.blocks < self.blocks_max);
        let mut tail = match known {
            Some(tail) => tail,
            None => self.new_tail(kind, day).await?,
        };
        let done = self.container.append(WRITING, &tail.name, bytes.clone(), tail.length, None).await;
        match done {
            Ok(done) => tail.blocks = done.blocks,
            // Nobody else writes there: it was us, and the answer was lost.
            Err(Trouble::Unmet) => {
                let found = self.container.get(WRITING, &tail.name, tail.length).await;
                let found = found.map_err(|trouble| trouble.into_error(WRITING))?;
                if found.is_none_or(|found| found.bytes != bytes) {
                    return Err(Trouble::Unmet.into_error(WRITING));
                }
            }
            Err(trouble) => return Err(trouble.into_error(WRITING)),
        }
        tail.length += bytes.len() as u64;
        let (name, length, last) = (tail.name.clone(), tail.length, rows.last().map_or(0, |row| row.id));
        tails.insert(kind, tail);
        self.index.call(WRITING, move |index| small::put_journal_blob(index, &name, length, last)).await
    }

    async fn new_tail(&self, kind: JournalKind, day: String) -> Result<Tail, Error> {
        let name = format!("{}{}/{day}/{:016x}", names::JOURNALS, kind.as_str(), rand::random::<u64>());
        match self.container.create_log(WRITING, &name).await {
            Ok(_) | Err(Trouble::Exists) => Ok(Tail { day, name, length: 0, blocks: 0 }),
            Err(trouble) => Err(trouble.into_error(WRITING)),
        }
    }

    /// Reads what other gateways wrote, and after a lost disk what we did.
    pub(super) async fn read_journals(&self) -> Result<(), Error> {
        let doing = "reading journals";
        let blobs = self.container.list(doing, names::JOURNALS, false).await;
        let blobs = blobs.map_err(|trouble| trouble.into_error(doing))?;
        let reads = stream::iter(blobs).map(|blob| self.read_journal(doing, blob));
        reads.buffer_unordered(limits::BLOB_UPKEEP_CALLS_MAX).try_collect::<Vec<()>>().await.map(drop)
    }

    async fn read_journal(&self, doing: &'static str, blob: Item) -> Result<(), Error> {
        let kind = blob
            .name
            .split('/')
            .nth(1)
            .and_then(|kind| JournalKind::ALL.into_iter().find(|known| known.as_str() == kind));
        let name = blob.name.clone();
        let read = self.index.call(doing, move |index| small::journal_blob(index, &name)).await?;
        let Some(kind) = kind.filter(|_| blob.length > read) else { return Ok(()) };
        let found = self.container.get(doing, &blob.name, read).await.map_err(|trouble| trouble.into_error(doing))?;
        let Some(found) = found else { return Ok(()) };
        let lines = found.bytes.split_inclusive(|byte| *byte == b'\n');
        let rows: Vec<_> = lines.filter_map(|line| row_of(kind, line)).collect();
        let (length, last) = (read + found.bytes.len() as u64, rows.last().map_or(0, |row| row.id));
        self.index
            .call(doing, move |index| {
                small::put_journal(index, kind, &rows, true)?;
                small::put_journal_blob(index, &blob.name, length, last)
            })
            .await
    }

    /// Deletes the blobs of which no entry is kept.
    pub(super) async fn prune_journals(&self) -> Result<(), Error> {
        let doing = "pruning journals";
        for kind in JournalKind::ALL {
            let prefix = format!("{}{}/", names::JOURNALS, kind.as_str());
            let old = self.index.call(doing, move |index| match small::journal_ends(index, kind)? {
                (_, Some(oldest)) => small::old_journal_blobs(index, &prefix, oldest),
                _ => Ok(Vec::new()),
            });
            let current = self.journals.tails.lock().await.get(&kind).map(|tail| tail.name.clone());
            for name in old.await?.into_iter().filter(|name| Some(name) != current.as_ref()) {
                self.container.delete(doing, &name, None).await.map_err(|trouble| trouble.into_error(doing))?;
                self.index.call(doing, move |index| small::forget_journal_blob(index, &name)).await?;
            }
        }
        Ok(())
    }
}

fn line_of(row: &JournalRow) -> Line {
    let JournalRow { id, entry } = row;
    Line {
        id: *id,
        at: entry.at,
        what: entry.what.clone(),
        subject: entry.subject.clone(),
        cause: entry.cause.clone(),
        detail: entry.detail.clone(),
        body: data_encoding::BASE64.encode(&entry.body),
    }
}

/// An entry; a line that cannot be read is passed over, so that one does not hide the others.
fn row_of(kind: JournalKind, line: &[u8]) -> Option<JournalRow> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let entry = JournalEntry {
        kind,
        at: line.at,
        what: line.what,
        subject: line.subject,
        cause: line.cause,
        detail: line.detail,
        body: data_encoding::BASE64.decode(line.body.as_bytes()).ok()?.into(),
    };
    Some(JournalRow { id: line.id, entry })
}
