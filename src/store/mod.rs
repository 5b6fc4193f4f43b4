//! Where runs are kept. Two conditional writes carry every guarantee: `accept` inserts if absent, `append` adds at the
//! sequence number just read. The rest only helps to find work and to show it; it may lag behind the logs and can be
//! rebuilt from them. No backend knows the rules of a run: it is given heads that were folded elsewhere.

/// Runs in a container of Azure Blob Storage.
pub mod azure_blob;
/// A file with everything that a store keeps.
pub mod backup;
/// A store that fails on purpose, by a seeded plan: for tests.
pub mod faulty;
/// A store in memory: for tests and for `clawhook run`.
pub mod memory;
/// PostgreSQL: any number of gateways on one database.
pub mod postgres;
/// Exports the records of finished runs to Blob Storage.
pub mod records;
/// The embedded store: one SQLite file, one writer.
pub mod sqlite;
/// What a store keeps, in pieces that any other can take.
pub mod transfer;

mod class;
mod folder;
mod ready;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use self::transfer::{Dump, Piece};
use crate::azure::Azure;
use crate::clock::{Clock, Timestamp};
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::{Accepted, Entry, Event};
use crate::domain::journal::{JournalEntry, JournalKind, JournalRow};
use crate::domain::run::RunHead;
use crate::domain::secret::{SecretRef, Secrets};
use crate::domain::state::State;
use crate::domain::trigger::TriggerKind;
use crate::id::{Revision, RunId, Seq, WorkflowName};

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Somebody else wrote first. Normal: read again and decide again.
    #[error("the log of {run} went on past event {after}", after = after.0)]
    Conflict { run: RunId, after: Seq },
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// The store cannot take more for now: its queue or its disk is full.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store did not do it, or did not say in time whether it did.
    #[error("the store failed while {doing}: {why}")]
    Failed { doing: &'static str, why: String },
    /// Another process has it open.
    #[error(
        "cannot open the store at `{place}`: another Clawhook process has it open; stop that one, or give this one its own `storage.path`"
    )]
    Locked { place: String },
    /// The files are not ours to open.
    #[error("cannot open the store at `{place}`: {why}")]
    Open { place: String, why: String },
}

/// A delivery, slot or call to accept: all of its runs, or none.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// Absent before, present after: the dedupe.
    pub key: DeliveryKey,
    /// How long the key is remembered.
    pub window: Duration,
    /// A second key, of the body: when it was seen before under another id, the runs are flagged, not refused.
    pub replay_guard: Option<DeliveryKey>,
    pub at: Timestamp,
    /// What each run's first event says, with the raw body; at least one.
    pub runs: Vec<NewRun>,
}

/// The first event of a run that has no id yet.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub accepted: Accepted,
    pub body: Bytes,
}

/// What became of an acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// These runs are on disk now.
    New(Vec<RunId>),
    /// The key was known; these are the runs that it made then.
    Duplicate(Vec<RunId>),
}

/// Events to add to a run's log.
#[derive(Debug, Clone)]
pub struct Append {
    pub run: RunId,
    /// Where the first of `events` goes: the place after the last event that was read.
    pub after: Seq,
    pub at: Timestamp,
    pub events: Vec<Event>,
    /// The run's head with these events in it.
    pub head: RunHead,
    /// State of the workflow to commit with these events: members to set; null removes one.
    pub state: Option<Map<String, Value>>,
}

/// Which runs a list wants, newest first.
#[derive(Debug, Clone, Default)]
pub struct RunQuery {
    pub workflow: Option<WorkflowName>,
    /// Any of these; all when empty.
    pub states: Vec<State>,
    pub trigger: Option<TriggerKind>,
    /// The route, schedule or person behind the trigger.
    pub source: Option<String>,
    /// Accepted at or after, by the time in the run's id.
    pub since: Option<Timestamp>,
    /// Accepted before, by the time in the run's id.
    pub until: Option<Timestamp>,
    /// Each of these labels with this value.
    pub labels: Vec<(String, String)>,
    pub cause: Option<String>,
    /// Only runs older than this one: the last of the page before.
    pub before: Option<RunId>,
    pub limit: usize,
}

impl RunQuery {
    /// Whether a run belongs on the list. Backends find candidates by index and keep those that match.
    pub fn matches(&self, head: &RunHead) -> bool {
        self.workflow.as_ref().is_none_or(|workflow| *workflow == head.workflow)
            && (self.states.is_empty() || self.states.contains(&head.state))
            && self.trigger.is_none_or(|trigger| trigger == head.trigger)
            && self.source.as_ref().is_none_or(|source| *source == head.source)
            && self.labels.iter().all(|(name, value)| head.labels.get(name) == Some(value))
            && self.cause.as_ref().is_none_or(|cause| head.cause.as_ref() == Some(cause))
            && self.ids().contains(&head.id.as_u64())
    }

    /// The numbers of the ids that the list may show.
    pub fn ids(&self) -> std::ops::Range<u64> {
        let first = self.since.map_or(0, |since| RunId::floor(since).as_u64());
        let until = self.until.map_or(u64::MAX >> 1, |until| RunId::floor(until).as_u64());
        first..until.min(self.before.map_or(u64::MAX >> 1, RunId::as_u64))
    }
}

/// Which journal entries a list wants, newest first.
#[derive(Debug, Clone)]
pub struct JournalQuery {
    pub kind: JournalKind,
    pub subject: Option<String>,
    pub cause: Option<String>,
    pub what: Option<String>,
    pub before: Option<i64>,
    pub limit: usize,
}

impl JournalQuery {
    /// The newest entries of a journal, whatever they say.
    pub fn all(kind: JournalKind, limit: usize) -> Self {
        Self { kind, subject: None, cause: None, what: None, before: None, limit }
    }
}

/// What retention lets go.
#[derive(Debug, Clone, Copy)]
pub struct Prune {
    pub now: Timestamp,
    /// Runs that ended well (or were cancelled) before this are deleted.
    pub runs_before: Timestamp,
    /// Failed runs that ended before this are deleted.
    pub failed_before: Timestamp,
    /// Payloads of runs that ended before this are stripped (`Entry::without_payloads`).
    pub payloads_before: Timestamp,
    /// Runs touched by one call, so that other writes get their turn.
    pub batch_max: usize,
}

/// What retention did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    pub runs_deleted: usize,
    pub runs_stripped: usize,
    pub keys_forgotten: usize,
    /// There is more to do.
    pub more: bool,
}

/// How the store is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Bytes on disk, where that means something.
    pub disk_bytes: u64,
    /// Writes waiting for the writer.
    pub writes_queued: usize,
    /// Time of the last commit, milliseconds.
    pub commit_ms: u64,
}

/// A run that wants a worker, with its log.
#[derive(Debug, Clone)]
pub struct Queued {
    pub id: RunId,
    pub log: Vec<Entry>,
}

/// Marks that begin so hold the names under which the store is known in the places of its artifacts; the name follows. A
/// store that is filled from a backup does not get them: it may be a second one, and what it does not know is not its own.
pub const ARTIFACT_NAME_MARK: &str = "artifacts/store/";

/// Where runs are kept.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    // The two conditional writes.

    /// Inserts the runs of a delivery unless its key is known. When this returns `Ok`, the runs are durable.
    async fn accept(&self, acceptance: Acceptance) -> Result<Receipt, Error>;

    /// Accepts several deliveries that came in one request, each under its own key, and says in their order what became
    /// of each. One write where the backend has transactions; elsewhere one after another, and when one fails the
    /// sender's repeat finds those before it as duplicates.
    async fn accept_all(&self, acceptances: Vec<Acceptance>) -> Result<Vec<Receipt>, Error> {
        let mut receipts = Vec::with_capacity(acceptances.len());
        for acceptance in acceptances {
            receipts.push(self.accept(acceptance).await?);
        }
        Ok(receipts)
    }

    /// Adds events at the place just read, or `Conflict`. When this returns `Ok`, they are durable.
    async fn append(&self, append: Append) -> Result<(), Error>;

    // Reading logs.

    /// The whole log of a run.
    async fn log(&self, run: RunId) -> Result<Vec<Entry>, Error>;

    // Finding work. These lag and decide nothing.

    /// Queued runs that are not parked, oldest first, with ids above `after`.
    async fn queued(&self, after: Option<RunId>, limit: usize) -> Result<Vec<Queued>, Error>;

    /// Waiting runs whose moment has come and driven runs whose lease has ended, soonest first; and when the next
    /// one comes after `now`. A run that is held until somebody lets it go has no such moment.
    async fn due(&self, now: Timestamp, limit: usize) -> Result<(Vec<RunHead>, Option<Timestamp>), Error>;

    /// Hides a queued run from `queued` until its lane is free. A run that is no longer queued stays as it is, and
    /// any append shows or moves a parked run as its new head says.
    async fn park(&self, run: RunId, lane: &str) -> Result<(), Error>;

    /// The oldest run parked in this lane, with its log.
    async fn parked(&self, lane: &str) -> Result<Option<Queued>, Error>;

    /// Shows all parked runs to `queued` again: at start, when lanes are not known yet.
    async fn unpark_all(&self) -> Result<(), Error>;

    // Showing.

    /// A page of runs, newest first.
    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunHead>, Error>;

    /// How many runs are in each state that has not ended.
    async fn open_counts(&self) -> Result<Vec<(State, u64)>, Error>;

    // Beside the runs.

    /// Adds entries to a journal; the oldest beyond its bound go.
    async fn journal_append(&self, entries: Vec<JournalEntry>) -> Result<(), Error>;

    /// A page of a journal, newest first.
    async fn journal(&self, query: &JournalQuery) -> Result<Vec<JournalRow>, Error>;

    /// Keeps a file's text under its content hash; doing it again changes nothing.
    async fn put_document(&self, revision: &Revision, text: &str) -> Result<(), Error>;

    /// The text behind a content hash.
    async fn document(&self, revision: &Revision) -> Result<Option<String>, Error>;

    /// Small named values of the gateway itself: what is paused, how far a schedule has come.
    async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, Error>;

    /// Sets a mark, or removes it.
    async fn set_mark(&self, name: &str, value: Option<&str>) -> Result<(), Error>;

    /// The state of a workflow.
    async fn state(&self, workflow: &WorkflowName) -> Result<Map<String, Value>, Error>;

    // Upkeep.

    /// Lets old runs, payloads and keys go, one bounded batch, and gives disk space back.
    async fn prune(&self, prune: &Prune) -> Result<Pruned, Error>;

    /// Takes pieces of another store, or of a backup. What is there already stays as it is. Only for a store that no
    /// gateway works with.
    async fn load(&self, pieces: Vec<Piece>) -> Result<(), Error>;

    /// What the backend itself finds wrong with what it holds; empty when nothing is.
    async fn verify(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// How the store is doing; an error when it does not work.
    async fn health(&self) -> Result<Health, Error>;

    /// True when only this process can write to the store, so a lease of another incarnation is dead.
    fn exclusive(&self) -> bool;

    /// Other gateways on this store that were heard of lately; 0 also where a backend cannot tell.
    async fn others(&self) -> Result<u64, Error> {
        Ok(0)
    }

    /// Comes back when another gateway may have left work here; never where only this process writes. It helps to look
    /// sooner, and may miss some: who waits looks by itself too.
    async fn work_came(&self) {
        std::future::pending::<()>().await;
    }

    /// Commits what is queued and closes; later calls fail.
    async fn close(&self);
}

/// What `storage` in clawhook.yaml says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `storage.backend`: a name in `BACKENDS`.
    pub backend: String,
    /// `storage.path`: the folder of an embedded store, or of a backend's index that can be lost.
    pub path: PathBuf,
    /// The container of `azure-blob`.
    pub blob: Option<BlobPlace>,
    /// The database of `postgres`.
    pub postgres: Option<PostgresPlace>,
    /// Where finished runs are exported to.
    pub records: Option<BlobPlace>,
}

/// A container of Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPlace {
    /// The storage account, such as `https://orders.blob.core.windows.net`, without a slash at its end.
    pub endpoint: String,
    pub container: String,
    /// A shared access signature; the identity of `azure` when absent.
    pub sas: Option<SecretRef>,
}

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresPlace {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub auth: PostgresAuth,
    /// Authorities of the server's certificate, PEM; those of the machine when absent.
    pub authorities: Option<Arc<[u8]>>,
}

/// How a PostgreSQL user proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresAuth {
    Password(SecretRef),
    /// By a token of the identity of `azure`.
    Entra,
}

/// What a backend is opened with.
#[derive(Debug, Clone)]
pub struct Parts {
    pub settings: Settings,
    pub azure: Arc<Azure>,
    pub secrets: Arc<dyn Secrets>,
    pub clock: Arc<dyn Clock>,
}

/// A backend on its way to being open.
pub type Opening = BoxFuture<'static, Result<Arc<dyn Store>, Error>>;

/// A backend, and how to open it.
#[derive(Clone, Copy)]
pub struct Backend {
    /// What `storage.backend` says.
    pub name: &'static str,
    /// One sentence for the documentation.
    pub summary: &'static str,
    /// Opens it, creating what is not there.
    pub open: fn(Parts) -> Opening,
    /// Begins to read all of it, without keeping a gateway from its work.
    pub dump: fn(Parts) -> BoxFuture<'static, Result<Dump, Error>>,
}

/// Every backend that `storage.backend` can name.
pub static BACKENDS: &[Backend] = &[sqlite::BACKEND, azure_blob::BACKEND, postgres::BACKEND];

/// Opens the store that the settings name, creating what is not there.
pub async fn open(parts: Parts) -> Result<Arc<dyn Store>, Error> {
    (backend(&parts.settings)?.open)(parts).await
}

/// Begins to read all of the store that the settings name.
pub async fn dump(parts: Parts) -> Result<Dump, Error> {
    (backend(&parts.settings)?.dump)(parts).await
}

fn backend(settings: &Settings) -> Result<&'static Backend, Error> {
    BACKENDS.iter().find(|backend| backend.name == settings.backend).ok_or_else(|| {
        let names: Vec<_> = BACKENDS.iter().map(|backend| format!("`{}`", backend.name)).collect();
        Error::Open {
            place: settings.path.display().to_string(),
            why: format!("there is no backend `{}`; `storage.backend` may be {}", settings.backend, names.join(", ")),
        }
    })
}
