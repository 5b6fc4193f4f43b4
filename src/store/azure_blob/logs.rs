//! Logs of runs: read, begun, continued, rewritten.
//!
//! The log of a run is where it was written last: in its append blob when that has bytes, else in the piece that it was
//! rewritten to, else in its delivery. An append blob always begins with everything before it, so whoever reads it needs
//! nothing else, and whoever begins it does so with one block at position 0: the second to try loses.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::{Append, Error};
use super::container::{Appended, Only, Trouble};
use super::frames::{self, Frame};
use super::rows::{self, Place, Row};
use super::{Core, names, small};
use crate::clock::Timestamp;
use crate::domain::event::Entry;
use crate::domain::run::Run;
use crate::id::{RunId, Seq, WorkflowName};

pub(super) const APPENDING: &str = "adding to a run's log";
pub(super) const READING: &str = "reading a run's log";

/// Tries of one write: only the version of the blob may have changed, and not what is in it.
const WRITES_TRIED_MAX: u32 = 3;

/// A log as it was read.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) run: RunId,
    pub(super) place: Place,
    pub(super) etag: String,
    pub(super) bytes: Bytes,
    pub(super) key: Option<String>,
    pub(super) entries: Vec<Entry>,
    /// State that was committed with events.
    pub(super) states: Vec<Committed>,
    writes: Vec<(Seq, u32)>,
}

/// State of a workflow that a run committed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Committed {
    pub(super) run: RunId,
    pub(super) seq: Seq,
    pub(super) at: Timestamp,
    pub(super) workflow: WorkflowName,
    pub(super) changes: Map<String, Value>,
}

impl Read {
    /// The row by which the run is found.
    pub(super) fn row(&self, marker: Option<String>) -> Result<Row, Error> {
        let run = Run::fold(self.run, self.entries.iter().cloned())
            .map_err(|error| Error::Failed { doing: READING, why: error.to_string() })?;
        let stripped =
            self.place == Place::Cold && self.entries.iter().all(|entry| *entry == entry.clone().without_payloads());
        let row = Row {
            head: run.head(),
            next: run.next,
            place: self.place,
            length: if self.place == Place::Log { self.bytes.len() as u64 } else { 0 },
            etag: self.etag.clone(),
            blocks: 0,
            stripped,
            key: self.key.clone(),
            marker,
            log: Some(self.bytes.clone()),
        };
        Ok(row.lean())
    }
}

/// The events in the bytes of a log.
pub(super) fn entries(run: RunId, bytes: &Bytes) -> Result<Vec<Entry>, Error> {
    let frames = frames::read(bytes).map_err(|why| damaged(run, &why))?;
    Ok(frames.into_iter().flat_map(Frame::entries).collect())
}

impl Core {
    /// Reads the log of a run from Blob Storage.
    pub(super) async fn read(&self, run: RunId) -> Result<Option<Read>, Error> {
        let known = self.index.call(READING, move |index| rows::get(index, run)).await?;
        let key = known.and_then(|row| row.key);
        self.read_with(run, key).await
    }

    /// Reads the log of a run, and lets the index know: a lease that another gateway renewed is asked for no more.
    pub(super) async fn read_and_note(&self, run: RunId) -> Result<Read, Error> {
        let known = self.index.call(READING, move |index| rows::get(index, run)).await?;
        let (key, marker) = known.as_ref().map_or((None, None), |row| (row.key.clone(), row.marker.clone()));
        let read = self.read_with(run, key).await?.ok_or(Error::NoRun(run))?;
        let last = read.entries.last().map_or(Seq(0), |entry| entry.seq.plus(1));
        if known.is_some_and(|known| known.next < last) {
            let (row, now) = (read.row(marker)?, self.clock.now());
            self.index.call(READING, move |index| rows::put(index, &row, Some(now))).await?;
        }
        Ok(read)
    }

    /// Reads the log of a run whose delivery may be known.
    pub(super) async fn read_with(&self, run: RunId, key: Option<String>) -> Result<Option<Read>, Error> {
        let failed = |trouble: Trouble| trouble.into_error(READING);
        for (place, name) in [(Place::Log, names::log(run)), (Place::Cold, names::cold(run))] {
            let found = self.container.get(READING, &name, 0).await.map_err(failed)?;
            // An append blob without bytes was created by somebody who came no further.
            if let Some(blob) = found.filter(|blob| !blob.bytes.is_empty()) {
                let frames = frames::read(&blob.bytes).map_err(|why| damaged(run, &why))?;
                let key = key.or_else(|| blob.metadata.get(names::KEY).cloned());
                return Ok(Some(read(run, place, blob.etag, blob.bytes, key, frames)));
            }
        }
        let key = if key.is_some() {
            key
        } else {
            let marker = self.container.head(READING, &names::marker(run, Seq(0))).await.map_err(failed)?;
            marker.and_then(|marker| marker.metadata.get(names::KEY).cloned())
        };
        let Some(key) = key else { return Ok(None) };
        let Some(blob) = self.container.get(READING, &key, 0).await.map_err(failed)? else { return Ok(None) };
        let frames = frames::read(&blob.bytes).map_err(|why| damaged(run, &why))?;
        let own: Vec<_> = frames.into_iter().filter(|frame| frame.line.run == run).collect();
        if own.is_empty() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        for frame in &own {
            frame.write(&mut bytes).map_err(|why| damaged(run, &why))?;
        }
        Ok(Some(read(run, Place::Delivery, String::new(), bytes.into(), Some(key), own)))
    }

    /// Adds events at the place just read.
    pub(super) async fn append(&self, append: Append) -> Result<(), Error> {
        let Append { run, after, at, events, head, state } = append;
        let conflict = || Error::Conflict { run, after };
        let count = events.len();
        let mut frame = Frame::new(run, after, at, events, Bytes::new());
        frame.line.state = state.clone();
        let mut bytes = Vec::new();
        frame.write(&mut bytes).map_err(|why| Error::Failed { doing: APPENDING, why })?;
        let (bytes, write) = (Bytes::from(bytes), (after, frame.line.by));

        let known = self.index.call(APPENDING, move |index| rows::get(index, run)).await?;
        let mut fresh = known.is_none();
        let mut row = match known {
            Some(row) => row,
            None => self.refresh(run, None).await?.1,
        };
        let mut tries = 0;
        let (row, written) = loop {
            if row.next > after || (row.next < after && fresh) || tries == WRITES_TRIED_MAX {
                return Err(conflict());
            }
            if row.next == after {
                tries += 1;
                let marker = self.mark_open(&row, after, head.state.is_ended()).await?;
                row.marker = marker.or(row.marker);
                match self.write(&row, &bytes).await {
                    Ok(written) => break (row, written),
                    Err(Trouble::Other(error)) => return Err(error),
                    Err(_) => {}
                }
            }
            // Somebody else wrote, or we did and were not told.
            let (read, now) = self.refresh(run, row.marker.clone()).await?;
            if read.writes.contains(&write) {
                let appended = Appended { etag: read.etag, blocks: row.blocks };
                let length = read.bytes.len() as u64;
                break (now, Written { appended, length, log: Some(read.bytes) });
            }
            (fresh, row) = (true, now);
        };
        let row = Row {
            head,
            next: after.plus(count),
            place: Place::Log,
            length: written.length,
            etag: written.appended.etag,
            blocks: written.appended.blocks,
            stripped: false,
            log: written.log,
            ..row
        };
        let owed = state.map(|changes| Committed { run, seq: after, at, workflow: row.head.workflow.clone(), changes });
        self.note_append(row, owed).await
    }

    /// Puts an append that is written into the index, and does what follows from it.
    async fn note_append(&self, row: Row, owed: Option<Committed>) -> Result<(), Error> {
        let (ended, marker) = (!row.is_open(), row.marker.clone());
        // Whatever becomes of its marker, an ended run needs it no more: who finds it takes it away.
        let kept = Row { marker: row.marker.clone().filter(|_| !ended), ..row.lean() };
        let noted = owed.clone();
        let note = move |index: &rusqlite::Connection| {
            rows::put(index, &kept, None)?;
            noted.map_or(Ok(()), |owed| small::owe_state(index, &owed))
        };
        self.index.call(APPENDING, note).await?;
        if let Some(owed) = owed
            && let Err(error) = self.pay_state(&owed).await
        {
            // It is committed in the log; until it stands in its blob, this gateway adds it to what it reads there.
            tracing::warn!(run.id = %owed.run, %error, "the state that run {} committed is written later", owed.run);
            return Ok(());
        }
        if ended
            && let Some(marker) = marker
            && let Err(trouble) = self.container.delete(APPENDING, &marker, None).await
        {
            tracing::debug!(%marker, error = %trouble.into_error(APPENDING), "a marker is taken away later");
        }
        Ok(())
    }

    /// Marks a run as open before the event that resumes it, so that other gateways find it whatever happens here.
    async fn mark_open(&self, row: &Row, since: Seq, stays_ended: bool) -> Result<Option<String>, Error> {
        if row.is_open() || stays_ended {
            return Ok(None);
        }
        let name = names::marker(row.head.id, since);
        let put = self.container.put(APPENDING, &name, Bytes::new(), Only::Always, marker_metadata(row.key.as_ref()));
        put.await.map_err(|trouble| trouble.into_error(APPENDING))?;
        Ok(Some(name))
    }

    /// Reads a log again and puts it into the index.
    async fn refresh(&self, run: RunId, marker: Option<String>) -> Result<(Read, Row), Error> {
        let read = self.read(run).await?.ok_or(Error::NoRun(run))?;
        let row = read.row(marker)?;
        let (kept, now) = (row.clone(), self.clock.now());
        self.index.call(READING, move |index| rows::put(index, &kept, Some(now))).await?;
        Ok((read, row))
    }

    /// Writes a block where the row says that the log ends.
    async fn write(&self, row: &Row, bytes: &Bytes) -> Result<Written, Trouble> {
        let run = row.head.id;
        if row.place != Place::Log {
            return self.begin(row, bytes).await;
        }
        if row.blocks >= self.blocks_max {
            return self.rewrite(run, bytes).await;
        }
        let name = names::log(run);
        let done = self.container.append(APPENDING, &name, bytes.clone(), row.length, Some(&row.etag)).await;
        let appended = match done {
            Err(Trouble::Blocks) => return self.rewrite(run, bytes).await,
            done => done?,
        };
        let log = row.log.as_ref().map(|log| join(log, bytes));
        Ok(Written { appended, length: row.length + bytes.len() as u64, log })
    }

    /// Begins the append blob of a run with all that is known of it.
    async fn begin(&self, row: &Row, bytes: &Bytes) -> Result<Written, Trouble> {
        let base = if let Some(log) = &row.log {
            log.clone()
        } else {
            let read = self.read_with(row.head.id, row.key.clone()).await.map_err(Trouble::Other)?;
            read.filter(|read| read.place == row.place).ok_or(Trouble::Unmet)?.bytes
        };
        self.begin_with(row.head.id, join(&base, bytes)).await
    }

    /// Begins a log with all that is known of a run; one that was begun already stays as it is.
    pub(super) async fn begin_once(&self, run: RunId, log: Bytes) -> Result<(), Trouble> {
        match self.begin_with(run, log).await {
            Ok(_) | Err(Trouble::Unmet) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    async fn begin_with(&self, run: RunId, log: Bytes) -> Result<Written, Trouble> {
        let name = names::log(run);
        let etag = match self.container.create_log(APPENDING, &name).await {
            Ok(etag) => Some(etag),
            Err(Trouble::Exists) => None,
            Err(trouble) => return Err(trouble),
        };
        let appended = self.container.append(APPENDING, &name, log.clone(), 0, etag.as_deref()).await?;
        Ok(Written { appended, length: log.len() as u64, log: Some(log) })
    }

    /// Gives the log of a run a blob of its own, so that its delivery may go.
    pub(super) async fn move_out(&self, read: &Read) -> Result<(), Error> {
        // When somebody else began it, then with the same start.
        self.begin_once(read.run, read.bytes.clone()).await.map_err(|trouble| trouble.into_error(APPENDING))
    }

    /// Rewrites a log with too many blocks into one piece, and goes on in a new append blob.
    async fn rewrite(&self, run: RunId, bytes: &Bytes) -> Result<Written, Trouble> {
        let read = self.read(run).await.map_err(Trouble::Other)?.filter(|read| read.place == Place::Log);
        let read = read.ok_or(Trouble::Unmet)?;
        self.container
            .put(APPENDING, &names::cold(run), read.bytes.clone(), Only::Always, marker_metadata(read.key.as_ref()))
            .await?;
        self.container.delete(APPENDING, &names::log(run), Some(&read.etag)).await?;
        self.begin_with(run, join(&read.bytes, bytes)).await
    }
}

/// What is in a log after a write.
struct Written {
    appended: Appended,
    length: u64,
    /// All of it, when it was at hand.
    log: Option<Bytes>,
}

fn read(run: RunId, place: Place, etag: String, bytes: Bytes, key: Option<String>, frames: Vec<Frame>) -> Read {
    let writes = frames.iter().map(|frame| (frame.line.seq, frame.line.by)).collect();
    let key = key.or_else(|| frames.iter().find_map(|frame| frame.line.key.clone()));
    let mut states = Vec::new();
    for frame in &frames {
        if let (Some(changes), Some(workflow)) = (&frame.line.state, &workflow_of(&frames)) {
            let (seq, at) = (frame.line.seq, frame.line.at);
            states.push(Committed { run, seq, at, workflow: workflow.clone(), changes: changes.clone() });
        }
    }
    let entries = frames.into_iter().flat_map(Frame::entries).collect();
    Read { run, place, etag, bytes, key, entries, states, writes }
}

fn workflow_of(frames: &[Frame]) -> Option<WorkflowName> {
    frames.first()?.line.events.iter().find_map(|event| match event {
        crate::domain::event::Event::Accepted(accepted) => Some(accepted.workflow.clone()),
        _ => None,
    })
}

/// What a marker says of its run.
pub(super) fn marker_metadata(key: Option<&String>) -> std::collections::HashMap<String, String> {
    key.map(|key| (names::KEY.to_owned(), key.clone())).into_iter().collect()
}

fn join(first: &Bytes, second: &Bytes) -> Bytes {
    [first.as_ref(), second.as_ref()].concat().into()
}

fn damaged(run: RunId, why: &str) -> Error {
    Error::Failed { doing: READING, why: format!("the log of {run} is damaged {why}") }
}
