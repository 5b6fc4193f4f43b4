//! A store with one promise taken away, to show that the simulation notices.

use async_trait::async_trait;
use clawhook::clock::Timestamp;
use clawhook::domain::delivery::DeliveryKey;
use clawhook::domain::event::{Entry, Event};
use clawhook::domain::journal::{JournalEntry, JournalRow};
use clawhook::domain::run::RunHead;
use clawhook::domain::state::State;
use clawhook::id::{Revision, RunId, Seq, WorkflowName};
use clawhook::store::memory::Memory;
use clawhook::store::transfer::Piece;
use clawhook::store::{
    Acceptance, Append, Error, Health, JournalQuery, Prune, Pruned, Queued, Receipt, RunQuery, Store,
};
use serde_json::{Map, Value};

/// The promise that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    /// `append` writes wherever the log ends now, whatever was read.
    NoSequenceCheck,
    /// `accept` does not look whether the key is known.
    NoDedupe,
    /// `accept` answers now and then without writing.
    NotDurable,
    /// `append` says that the start of an attempt is on record when it is not.
    StartNotDurable,
    /// The place for artifacts says that it has what it has not.
    ArtifactsForgotten,
}

#[derive(Debug)]
pub(super) struct Sabotaged {
    inner: Memory,
    sabotage: Sabotage,
    seed: u64,
}

impl Sabotaged {
    pub(super) fn new(inner: Memory, sabotage: Sabotage, seed: u64) -> Self {
        Self { inner, sabotage, seed }
    }
}

#[async_trait]
impl Store for Sabotaged {
    async fn accept(&self, mut acceptance: Acceptance) -> Result<Receipt, Error> {
        match self.sabotage {
            Sabotage::NoDedupe => acceptance.key = DeliveryKey::unique(),
            Sabotage::NotDurable if acceptance.key.as_bytes()[0] % 4 == (self.seed % 4) as u8 => {
                return Ok(Receipt::New(vec![RunId::from_u64(7)]));
            }
            _ => {}
        }
        self.inner.accept(acceptance).await
    }

    async fn append(&self, mut append: Append) -> Result<(), Error> {
        match self.sabotage {
            Sabotage::NoSequenceCheck => append.after = Seq(0).plus(self.inner.log(append.run).await?.len()),
            Sabotage::StartNotDurable if matches!(append.events.last(), Some(Event::AttemptStarted { .. })) => {
                append.events.pop();
                self.inner.append(append.clone()).await?;
                // The writer believes that its event is there; room is made for it when the next ones come.
                return Ok(());
            }
            Sabotage::StartNotDurable => {
                let end = Seq(0).plus(self.inner.log(append.run).await?.len());
                if end < append.after {
                    // Fill up what was left out, as a log that was cached and written late would.
                    append.after = end;
                }
            }
            _ => {}
        }
        self.inner.append(append).await
    }

    async fn log(&self, run: RunId) -> Result<Vec<Entry>, Error> {
        self.inner.log(run).await
    }

    async fn queued(&self, after: Option<RunId>, limit: usize) -> Result<Vec<Queued>, Error> {
        self.inner.queued(after, limit).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<(Vec<RunHead>, Option<Timestamp>), Error> {
        self.inner.due(now, limit).await
    }

    async fn park(&self, run: RunId, lane: &str) -> Result<(), Error> {
        self.inner.park(run, lane).await
    }

    async fn parked(&self, lane: &str) -> Result<Option<Queued>, Error> {
        self.inner.parked(lane).await
    }

    async fn unpark_all(&self) -> Result<(), Error> {
        self.inner.unpark_all().await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunHead>, Error> {
        self.inner.runs(query).await
    }

    async fn open_counts(&self) -> Result<Vec<(State, u64)>, Error> {
        self.inner.open_counts().await
    }

    async fn journal_append(&self, entries: Vec<JournalEntry>) -> Result<(), Error> {
        self.inner.journal_append(entries).await
    }

    async fn journal(&self, query: &JournalQuery) -> Result<Vec<JournalRow>, Error> {
        self.inner.journal(query).await
    }

    async fn put_document(&self, revision: &Revision, text: &str) -> Result<(), Error> {
        self.inner.put_document(revision, text).await
    }

    async fn document(&self, revision: &Revision) -> Result<Option<String>, Error> {
        self.inner.document(revision).await
    }

    async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        self.inner.marks(prefix).await
    }

    async fn set_mark(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        self.inner.set_mark(name, value).await
    }

    async fn state(&self, workflow: &WorkflowName) -> Result<Map<String, Value>, Error> {
        self.inner.state(workflow).await
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned, Error> {
        self.inner.prune(prune).await
    }

    async fn load(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        self.inner.load(pieces).await
    }

    async fn health(&self) -> Result<Health, Error> {
        self.inner.health().await
    }

    fn exclusive(&self) -> bool {
        false
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
