//! Accepting a delivery: one blob, created only if there is none with this name. Before it come the markers of its runs,
//! so that no run exists that other gateways cannot find; a marker without a delivery is what a crash leaves, and is
//! taken away. Beside the markers goes the replay guard, which decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

use bytes::Bytes;
use futures_util::future::{join, try_join, try_join_all};
use tokio::sync::Mutex;

use super::super::{Acceptance, Error, NewRun, Receipt};
use super::container::{Blob, Only, Trouble};
use super::frames::{self, Frame};
use super::logs::marker_metadata;
use super::rows::{self, Place, Row};
use super::small::{self, Key};
use super::{Core, names};
use crate::clock::Timestamp;
use crate::domain::event::{Entry, Event};
use crate::domain::run::Run;
use crate::id::{RunId, Seq};
use crate::limits;

pub(super) const DOING: &str = "accepting a delivery";

/// The deliveries under way, by their names.
pub(super) type Turns = HashMap<String, Weak<Mutex<()>>>;

/// Runs that one delivery can start: their ids are metadata of its blob, which holds 8 KiB.
const RUNS_MAX: usize = 300;

impl Core {
    /// Inserts the runs of a delivery unless its key is known.
    pub(super) async fn accept(&self, acceptance: Acceptance) -> Result<Receipt, Error> {
        let Acceptance { key, window, replay_guard, at, runs } = acceptance;
        if runs.len() > RUNS_MAX {
            let why = format!("a delivery can start {RUNS_MAX} runs here, not {}", runs.len());
            return Err(Error::Failed { doing: DOING, why });
        }
        let name = names::delivery(key);
        let turn = self.turn_of(&name);
        let _turn = turn.lock().await;
        if let Some(known) = self.known(&name, at).await? {
            return Ok(Receipt::Duplicate(known.runs));
        }
        let (expires, guard) = (at.plus(window), replay_guard.map(names::guard));
        let marks = try_join_all(runs.iter().map(|_| self.mark_new(at, &name)));
        let guarding = async {
            match &guard {
                Some(guard) => self.guard(guard, &name, at, expires).await,
                None => Ok(Guard::default()),
            }
        };
        let (ids, Guard { seen, own_etag }) = try_join(marks, guarding).await?;
        let of = seen.as_ref().and_then(|seen| seen.runs.first().copied());
        let new = Delivery::new(&name, ids, at, runs, of)?;
        let (key, receipt) = match self.put_delivery(&name, &new, at, expires).await? {
            Put::New(etag) => {
                let key = Key { name: name.clone(), expires, runs: new.ids.clone(), etag };
                (key, Receipt::New(new.ids.clone()))
            }
            Put::Known(known) => {
                // Markers of runs that will never be: to delete is free, and what stays is found and deleted later.
                let gone = new
                    .ids
                    .iter()
                    .map(|id| async { self.container.delete(DOING, &names::marker(*id, Seq(0)), None).await });
                let _ = try_join_all(gone).await;
                let receipt = Receipt::Duplicate(known.runs.clone());
                (known, receipt)
            }
        };
        let fresh = matches!(receipt, Receipt::New(_));
        // The guard is known once the delivery that it points to is on record.
        let own_guard = guard.filter(|_| fresh).map(|name| Key { name, etag: own_etag, ..key.clone() });
        let rows = if fresh { new.rows } else { Vec::new() };
        let note = move |index: &rusqlite::Connection| {
            [Some(key), seen.or(own_guard)].iter().flatten().try_for_each(|key| small::put_key(index, key))?;
            rows.iter().try_for_each(|row| rows::put(index, row, None))
        };
        self.index.call(DOING, note).await?;
        Ok(receipt)
    }

    /// One at a time for each key: the second finds what the first wrote, and costs no call.
    fn turn_of(&self, name: &str) -> Arc<Mutex<()>> {
        let mut turns = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// What is known of a key without a call: a delivery that is on record never changes before it expires.
    async fn known(&self, name: &str, at: Timestamp) -> Result<Option<Key>, Error> {
        let name = name.to_owned();
        let known = self.index.call(DOING, move |index| small::key(index, &name)).await?;
        Ok(known.filter(|key| key.expires > at && !key.runs.is_empty()))
    }

    /// Marks a run that is about to be, under an id that no other run has.
    async fn mark_new(&self, at: Timestamp, delivery: &str) -> Result<RunId, Error> {
        let mut metadata = marker_metadata(Some(&delivery.to_owned()));
        metadata.insert(names::BY.to_owned(), format!("{:016x}", rand::random::<u64>()));
        for _ in 0..limits::BLOB_CONFLICTS_MAX {
            let id = self.ids.next(at);
            let name = names::marker(id, Seq(0));
            let log = names::log(id);
            let mark = self.container.put(DOING, &name, Bytes::new(), Only::New, metadata.clone());
            // A run that has ended has no marker any more, but a log.
            let (marked, log) = Box::pin(join(mark, self.container.head(DOING, &log))).await;
            let taken = log.map_err(|trouble| trouble.into_error(DOING))?.is_some();
            match marked {
                Ok(_) if taken => {
                    // Should this fail, whoever looks next finds an ended run with a marker, and takes it away.
                    let _ = self.container.delete(DOING, &name, None).await;
                }
                Ok(_) => return Ok(id),
                Err(Trouble::Exists) => {
                    // Our own, when only the answer was lost; else another gateway's of the same millisecond.
                    let found = self.container.head(DOING, &name).await.map_err(|trouble| trouble.into_error(DOING))?;
                    if !taken && found.is_some_and(|found| found.metadata == metadata) {
                        return Ok(id);
                    }
                }
                Err(trouble) => return Err(trouble.into_error(DOING)),
            }
        }
        Err(Error::Failed { doing: DOING, why: "no free run id was found".into() })
    }

    /// The run that came with this body under another id, if any. A guard that an earlier try of this very delivery
    /// left, or one whose delivery never came to be, flags nothing.
    async fn guard(&self, guard: &str, delivery: &str, at: Timestamp, expires: Timestamp) -> Result<Guard, Error> {
        let seen = |key: Key| Guard { seen: Some(key), own_etag: String::new() };
        let own = |own_etag: String| Guard { seen: None, own_etag };
        if let Some(known) = self.known(guard, at).await? {
            return Ok(seen(known));
        }
        let failed = |trouble: Trouble| trouble.into_error(DOING);
        let mut metadata = marker_metadata(Some(&delivery.to_owned()));
        metadata.insert(names::EXPIRES.to_owned(), expires.as_millis().to_string());
        let mut only = Only::New;
        for _ in 0..limits::BLOB_CONFLICTS_MAX {
            match self.container.put(DOING, guard, Bytes::new(), only.clone(), metadata.clone()).await {
                Ok(etag) => return Ok(own(etag)),
                Err(Trouble::Exists | Trouble::Unmet) => {}
                Err(trouble) => return Err(failed(trouble)),
            }
            only = Only::New;
            let Some(found) = self.container.head(DOING, guard).await.map_err(failed)? else { continue };
            let theirs = found.metadata.get(names::KEY).cloned().unwrap_or_default();
            if theirs == delivery {
                return Ok(own(found.etag));
            }
            let kept = key_of_blob(guard, &found);
            if kept.expires > at
                && let Some(first) = self.container.head(DOING, &theirs).await.map_err(failed)?
            {
                return Ok(seen(Key { runs: key_of_blob(&theirs, &first).runs, ..kept }));
            }
            only = Only::Same(found.etag);
        }
        // Many gateways fight for it: the flag is worth less than the delivery.
        Ok(Guard::default())
    }

    /// The conditional create. A delivery that is older than its window is replaced, once its runs need it no more.
    async fn put_delivery(&self, name: &str, new: &Delivery, at: Timestamp, expires: Timestamp) -> Result<Put, Error> {
        let metadata = HashMap::from([
            (names::EXPIRES.to_owned(), expires.as_millis().to_string()),
            (names::RUNS.to_owned(), small::join_ids(&new.ids)),
        ]);
        let failed = |trouble: Trouble| trouble.into_error(DOING);
        let mut only = Only::New;
        for _ in 0..limits::BLOB_CONFLICTS_MAX {
            match self.container.put(DOING, name, new.bytes.clone(), only.clone(), metadata.clone()).await {
                Ok(etag) => return Ok(Put::New(etag)),
                Err(Trouble::Exists | Trouble::Unmet) => {}
                Err(trouble) => return Err(failed(trouble)),
            }
            only = Only::New;
            let Some(found) = self.container.head(DOING, name).await.map_err(failed)? else { continue };
            let known = key_of_blob(name, &found);
            if known.runs == new.ids {
                return Ok(Put::New(found.etag));
            }
            if known.expires > at {
                return Ok(Put::Known(known));
            }
            self.move_out_of(name).await?;
            only = Only::Same(found.etag);
        }
        Err(Error::Failed { doing: DOING, why: "its blob changed under the writer time and again".into() })
    }

    /// Gives every run of a delivery that has not begun, and is still to run, a log of its own.
    pub(super) async fn move_out_of(&self, delivery: &str) -> Result<(), Error> {
        let failed = |trouble: Trouble| trouble.into_error(DOING);
        let Some(blob) = self.container.get(DOING, delivery, 0).await.map_err(failed)? else { return Ok(()) };
        for id in key_of_blob(delivery, &blob).runs {
            if self.container.head(DOING, &names::marker(id, Seq(0))).await.map_err(failed)?.is_none() {
                continue;
            }
            let read = self.read_with(id, Some(delivery.to_owned())).await?;
            if let Some(read) = read.filter(|read| read.place == Place::Delivery) {
                self.move_out(&read).await?;
                self.note_moved(id).await?;
            }
        }
        Ok(())
    }

    async fn note_moved(&self, run: RunId) -> Result<(), Error> {
        let Some(read) = self.read_with(run, None).await? else { return Ok(()) };
        let (row, now) = (read.row(Some(names::marker(run, Seq(0))))?, self.clock.now());
        self.index.call(DOING, move |index| rows::put(index, &row, Some(now))).await
    }
}

/// What a replay guard said.
#[derive(Debug, Default)]
struct Guard {
    /// The delivery that brought this body under another id.
    seen: Option<Key>,
    /// The tag of our own guard, when there was none.
    own_etag: String,
}

/// What became of the conditional create.
enum Put {
    New(String),
    Known(Key),
}

/// A delivery, ready to be written.
struct Delivery {
    ids: Vec<RunId>,
    bytes: Bytes,
    rows: Vec<Row>,
}

impl Delivery {
    fn new(
        name: &str,
        ids: Vec<RunId>,
        at: Timestamp,
        runs: Vec<NewRun>,
        replay_of: Option<RunId>,
    ) -> Result<Self, Error> {
        let broken = |why: String| Error::Failed { doing: DOING, why };
        let (mut bytes, mut rows) = (Vec::new(), Vec::with_capacity(ids.len()));
        for (id, NewRun { accepted, body }) in ids.iter().zip(runs) {
            let mut events = vec![Event::Accepted(Box::new(accepted))];
            events.extend(replay_of.map(|of| Event::SuspectedReplay { of }));
            let mut frame = Frame::new(*id, Seq(0), at, events, body);
            frame.line.key = Some(name.to_owned());
            let mut log = Vec::new();
            frame.write(&mut log).map_err(broken)?;
            bytes.extend_from_slice(&log);
            let entries: Vec<Entry> = frame.entries().collect();
            let run = Run::fold(*id, entries).map_err(|error| broken(error.to_string()))?;
            let row = Row {
                head: run.head(),
                next: run.next,
                place: Place::Delivery,
                length: 0,
                etag: String::new(),
                blocks: 0,
                stripped: false,
                key: Some(name.to_owned()),
                marker: Some(names::marker(*id, Seq(0))),
                log: Some(log.into()),
            };
            rows.push(row.lean());
        }
        Ok(Self { ids, bytes: bytes.into(), rows })
    }
}

/// What a delivery's or a guard's blob says of itself.
pub(super) fn key_of_blob(name: &str, blob: &Blob) -> Key {
    small::key_of(name, &blob.etag, &blob.metadata)
}

/// The delivery without the events of a run: what is left of it remembers the key.
pub(super) fn without_run(delivery: &Blob, run: RunId) -> Result<Option<Vec<u8>>, String> {
    let frames = frames::read(&delivery.bytes)?;
    if frames.iter().all(|frame| frame.line.run != run) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    for frame in frames.iter().filter(|frame| frame.line.run != run) {
        frame.write(&mut bytes)?;
    }
    Ok(Some(bytes))
}
