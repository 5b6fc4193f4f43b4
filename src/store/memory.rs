//! A store in memory, plain and obviously right: the model that the other backends are held against, and what
//! `clawhook run` uses. Nothing outlives the process; nothing waits, so it works under paused time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::transfer::Piece;
use super::{Acceptance, Append, Error, Health, JournalQuery, NewRun, Prune, Pruned, Queued, Receipt, RunQuery, Store};
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::{Entry, Event};
use crate::domain::journal::{JournalEntry, JournalKind, JournalRow};
use crate::domain::run::{Run, RunHead};
use crate::domain::state::State;
use crate::id::{Revision, RunId, RunIds, Seq, WorkflowName};

/// Keeps everything in memory.
#[derive(Debug, Default)]
pub struct Memory {
    ids: RunIds,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    closed: bool,
    keys: HashMap<DeliveryKey, Known>,
    runs: BTreeMap<RunId, Stored>,
    journals: HashMap<JournalKind, Journal>,
    documents: HashMap<Revision, String>,
    marks: BTreeMap<String, String>,
    states: HashMap<WorkflowName, Map<String, Value>>,
}

#[derive(Debug)]
struct Known {
    runs: Vec<RunId>,
    expires: Timestamp,
}

#[derive(Debug)]
struct Stored {
    log: Vec<Entry>,
    head: RunHead,
    lane: Option<String>,
    stripped: bool,
}

#[derive(Debug, Default)]
struct Journal {
    last: i64,
    rows: BTreeMap<i64, JournalEntry>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn open(&self, doing: &'static str) -> Result<MutexGuard<'_, Inner>, Error> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.closed { Err(Error::Failed { doing, why: "the store is closed".into() }) } else { Ok(inner) }
    }
}

impl Inner {
    fn known(&self, key: DeliveryKey, at: Timestamp) -> Option<&Known> {
        self.keys.get(&key).filter(|known| known.expires > at)
    }

    fn insert(&mut self, id: RunId, at: Timestamp, new: NewRun, replay_of: Option<RunId>) -> Result<(), Error> {
        let first = Event::Accepted(Box::new(new.accepted));
        let mut log = vec![Entry { seq: Seq(0), at, event: first, body: new.body }];
        if let Some(of) = replay_of {
            let event = Event::SuspectedReplay { of };
            log.push(Entry { seq: Seq(1), at, event, body: bytes::Bytes::new() });
        }
        let head = Run::fold(id, log.iter().cloned())
            .map_err(|error| Error::Failed { doing: "accepting a delivery", why: error.to_string() })?
            .head();
        self.runs.insert(id, Stored { log, head, lane: None, stripped: false });
        Ok(())
    }

    fn accept(&mut self, run_ids: &RunIds, acceptance: Acceptance) -> Result<Receipt, Error> {
        let Acceptance { key, window, replay_guard, at, runs } = acceptance;
        if let Some(known) = self.known(key, at) {
            return Ok(Receipt::Duplicate(known.runs.clone()));
        }
        let replay_of =
            replay_guard.and_then(|guard| self.known(guard, at)).and_then(|known| known.runs.first().copied());
        let mut ids = Vec::with_capacity(runs.len());
        for new in runs {
            let id = run_ids.next(at);
            self.insert(id, at, new, replay_of)?;
            ids.push(id);
        }
        let expires = at.plus(window);
        if let Some(guard) = replay_guard.filter(|_| replay_of.is_none()) {
            self.keys.insert(guard, Known { runs: ids.clone(), expires });
        }
        self.keys.insert(key, Known { runs: ids.clone(), expires });
        Ok(Receipt::New(ids))
    }

    fn load(&mut self, piece: Piece, ids: &RunIds) -> Result<(), Error> {
        match piece {
            Piece::Document { revision, text } => drop(self.documents.entry(revision).or_insert(text)),
            Piece::Mark { name, value } => drop(self.marks.insert(name, value)),
            Piece::State { workflow, values } => self.set_state(&workflow, values),
            Piece::Journal(JournalRow { id, entry }) => {
                let journal = self.journals.entry(entry.kind).or_default();
                journal.last = journal.last.max(id);
                journal.rows.entry(id).or_insert(entry);
            }
            Piece::Run { id, log, .. } => {
                let head = Run::fold(id, log.iter().cloned())
                    .map_err(|error| Error::Failed { doing: "taking a run", why: error.to_string() })?
                    .head();
                let stripped =
                    matches!(log.first(), Some(Entry { event: Event::Accepted(first), .. }) if first.stripped);
                ids.skip_to(id);
                self.runs.entry(id).or_insert(Stored { log, head, lane: None, stripped });
            }
            Piece::Key { key, runs, expires } => drop(self.keys.entry(key).or_insert(Known { runs, expires })),
        }
        Ok(())
    }

    fn set_state(&mut self, workflow: &WorkflowName, changes: Map<String, Value>) {
        let state = self.states.entry(workflow.clone()).or_default();
        for (name, value) in changes {
            if value.is_null() {
                state.shift_remove(&name);
            } else {
                state.insert(name, value);
            }
        }
    }
}

impl Journal {
    fn add(&mut self, entry: JournalEntry) {
        let oldest = Self::bound(entry.kind);
        self.last += 1;
        self.rows.insert(self.last, entry);
        self.rows = self.rows.split_off(&(self.last - oldest + 1));
    }

    fn bound(kind: JournalKind) -> i64 {
        i64::try_from(kind.kept_max()).unwrap_or(i64::MAX)
    }
}

impl Stored {
    fn is_parked(&self) -> bool {
        self.lane.is_some()
    }

    fn queued(&self, id: RunId) -> Queued {
        Queued { id, log: self.log.clone() }
    }
}

#[async_trait]
impl Store for Memory {
    async fn accept(&self, acceptance: Acceptance) -> Result<Receipt, Error> {
        self.open("accepting a delivery")?.accept(&self.ids, acceptance)
    }

    async fn accept_all(&self, acceptances: Vec<Acceptance>) -> Result<Vec<Receipt>, Error> {
        let mut inner = self.open("accepting deliveries")?;
        acceptances.into_iter().map(|acceptance| inner.accept(&self.ids, acceptance)).collect()
    }

    async fn append(&self, append: Append) -> Result<(), Error> {
        let mut inner = self.open("adding to a run's log")?;
        let stored = inner.runs.get_mut(&append.run).ok_or(Error::NoRun(append.run))?;
        if Seq(0).plus(stored.log.len()) != append.after {
            return Err(Error::Conflict { run: append.run, after: append.after });
        }
        for (place, event) in append.events.into_iter().enumerate() {
            let seq = append.after.plus(place);
            stored.log.push(Entry { seq, at: append.at, event, body: bytes::Bytes::new() });
        }
        let workflow = append.head.workflow.clone();
        stored.head = append.head;
        stored.lane = None;
        stored.stripped = false;
        if let Some(changes) = append.state {
            inner.set_state(&workflow, changes);
        }
        Ok(())
    }

    async fn log(&self, run: RunId) -> Result<Vec<Entry>, Error> {
        let inner = self.open("reading a run's log")?;
        inner.runs.get(&run).map(|stored| stored.log.clone()).ok_or(Error::NoRun(run))
    }

    async fn queued(&self, after: Option<RunId>, limit: usize) -> Result<Vec<Queued>, Error> {
        let inner = self.open("looking for queued runs")?;
        let above = inner.runs.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        let queued = above.filter(|(_, stored)| stored.head.state == State::Queued && !stored.is_parked());
        Ok(queued.take(limit).map(|(id, stored)| stored.queued(*id)).collect())
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<(Vec<RunHead>, Option<Timestamp>), Error> {
        let inner = self.open("looking for due runs")?;
        let moments = inner.runs.values().filter_map(|stored| Some((stored.head.due?, stored.head.id, &stored.head)));
        let mut moments: Vec<_> = moments.filter(|(due, ..)| due.as_millis() != i64::MAX).collect();
        moments.sort_by_key(|(due, id, _)| (*due, *id));
        let next = moments.iter().map(|(due, ..)| *due).find(|due| *due > now);
        let due = moments.iter().take_while(|(due, ..)| *due <= now).take(limit);
        Ok((due.map(|(.., head)| (*head).clone()).collect(), next))
    }

    async fn park(&self, run: RunId, lane: &str) -> Result<(), Error> {
        let mut inner = self.open("parking a run")?;
        let stored = inner.runs.get_mut(&run).ok_or(Error::NoRun(run))?;
        if stored.head.state == State::Queued {
            stored.lane = Some(lane.to_owned());
        }
        Ok(())
    }

    async fn parked(&self, lane: &str) -> Result<Option<Queued>, Error> {
        let inner = self.open("looking for parked runs")?;
        let first = inner.runs.iter().find(|(_, stored)| stored.lane.as_deref() == Some(lane));
        Ok(first.map(|(id, stored)| stored.queued(*id)))
    }

    async fn unpark_all(&self) -> Result<(), Error> {
        let mut inner = self.open("showing parked runs again")?;
        inner.runs.values_mut().for_each(|stored| stored.lane = None);
        Ok(())
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunHead>, Error> {
        let inner = self.open("listing runs")?;
        let heads = inner.runs.values().rev().map(|stored| &stored.head);
        Ok(heads.filter(|head| query.matches(head)).take(query.limit).cloned().collect())
    }

    async fn open_counts(&self) -> Result<Vec<(State, u64)>, Error> {
        let inner = self.open("counting runs")?;
        let count = |state| inner.runs.values().filter(|stored| stored.head.state == state).count() as u64;
        Ok(State::ALL.into_iter().filter(|state| !state.is_ended()).map(|state| (state, count(state))).collect())
    }

    async fn journal_append(&self, entries: Vec<JournalEntry>) -> Result<(), Error> {
        let mut inner = self.open("writing a journal")?;
        for entry in entries {
            inner.journals.entry(entry.kind).or_default().add(entry);
        }
        Ok(())
    }

    async fn journal(&self, query: &JournalQuery) -> Result<Vec<JournalRow>, Error> {
        let inner = self.open("reading a journal")?;
        let rows = inner.journals.get(&query.kind).map(|journal| journal.rows.iter().rev());
        let wanted = rows.into_iter().flatten().filter(|(id, entry)| {
            query.before.is_none_or(|before| **id < before)
                && query.subject.as_ref().is_none_or(|subject| *subject == entry.subject)
                && query.cause.as_ref().is_none_or(|cause| *cause == entry.cause)
                && query.what.as_ref().is_none_or(|what| *what == entry.what)
        });
        Ok(wanted.take(query.limit).map(|(id, entry)| JournalRow { id: *id, entry: entry.clone() }).collect())
    }

    async fn put_document(&self, revision: &Revision, text: &str) -> Result<(), Error> {
        let mut inner = self.open("keeping a document")?;
        inner.documents.entry(revision.clone()).or_insert_with(|| text.to_owned());
        Ok(())
    }

    async fn document(&self, revision: &Revision) -> Result<Option<String>, Error> {
        Ok(self.open("reading a document")?.documents.get(revision).cloned())
    }

    async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        let inner = self.open("reading marks")?;
        let marks = inner.marks.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(marks.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    async fn set_mark(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        let mut inner = self.open("setting a mark")?;
        match value {
            Some(value) => inner.marks.insert(name.to_owned(), value.to_owned()),
            None => inner.marks.remove(name),
        };
        Ok(())
    }

    async fn state(&self, workflow: &WorkflowName) -> Result<Map<String, Value>, Error> {
        Ok(self.open("reading a workflow's state")?.states.get(workflow).cloned().unwrap_or_default())
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned, Error> {
        let mut inner = self.open("pruning")?;
        let mut pruned = Pruned::default();
        let mut budget = prune.batch_max;
        let ended: Vec<_> = inner
            .runs
            .iter()
            .filter_map(|(id, stored)| Some((*id, stored.head.ended_at?, stored.head.state)))
            .collect();
        for (id, ended_at, state) in ended {
            let delete_before = if state == State::Failed { prune.failed_before } else { prune.runs_before };
            let strip = ended_at < prune.payloads_before && inner.runs.get(&id).is_some_and(|stored| !stored.stripped);
            if ended_at >= delete_before && !strip {
                continue;
            }
            if budget == 0 {
                pruned.more = true;
                break;
            }
            budget -= 1;
            if ended_at < delete_before {
                inner.runs.remove(&id);
                pruned.runs_deleted += 1;
            } else if let Some(stored) = inner.runs.get_mut(&id) {
                stored.log = std::mem::take(&mut stored.log).into_iter().map(Entry::without_payloads).collect();
                stored.stripped = true;
                pruned.runs_stripped += 1;
            }
        }
        let known = inner.keys.len();
        inner.keys.retain(|_, known| known.expires > prune.now);
        pruned.keys_forgotten = known - inner.keys.len();
        Ok(pruned)
    }

    async fn load(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        let mut inner = self.open("taking pieces of another store")?;
        for piece in pieces {
            inner.load(piece, &self.ids)?;
        }
        Ok(())
    }

    async fn health(&self) -> Result<Health, Error> {
        self.open("asking for its health").map(|_| Health::default())
    }

    fn exclusive(&self) -> bool {
        true
    }

    async fn close(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }
}
