//! Runs in a container of Azure Blob Storage: any number of gateways on one container, and a lost machine loses nothing.
//!
//! A delivery is one blob, named by the hash of its key and created only if there is none: that is `accept`. It holds the
//! first events of its runs. A run's log is an append blob that begins with those, and every `append` names the position
//! and the version of the blob that was read. A small blob under `open/` marks each run that has not ended; their list
//! is how gateways find each other's work. The index, a SQLite file, can be lost. What this costs, in operations, and
//! what it promises is in `docs/decisions/azure-blob.md`.
//!
//! It knows no rule of a run, and it does not trust the index: whatever decides, decides in Blob Storage.

mod accept;
pub(crate) mod container;
mod frames;
mod index;
mod journals;
mod logs;
mod names;
mod prune;
mod rows;
mod shared;
mod small;
mod sync;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use azure_core::http::policies::Policy;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::container::Container;
use self::index::Index;
use self::journals::Journals;
use self::rows::Found;
use self::shared::Marks;
use super::transfer::Piece;
use super::{
    Acceptance, Append, Backend, Error, Health, JournalQuery, Parts, Prune, Pruned, Queued, Receipt, RunQuery, Store,
};
use crate::clock::{Clock, Timestamp};
use crate::domain::event::Entry;
use crate::domain::journal::{JournalEntry, JournalRow};
use crate::domain::run::RunHead;
use crate::domain::state::State;
use crate::id::{Revision, RunId, RunIds, WorkflowName};
use crate::limits;

/// Azure Blob Storage.
pub const BACKEND: Backend = Backend {
    name: "azure-blob",
    summary: "Logs in a container of Azure Blob Storage, an index that can be lost under `storage.path`; several gateways.",
    open: |parts| {
        Box::pin(async move { Ok(Arc::new(AzureBlob::open(parts, Options::default()).await?) as Arc<dyn Store>) })
    },
    dump: |parts| Box::pin(transfer::dump(parts)),
};

/// What tests set.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// They see every try of every request.
    pub policies: Vec<Arc<dyn Policy>>,
    /// The store looks for what other gateways did only when [`AzureBlob::look`] is called.
    pub by_hand: bool,
    /// Appends after which a log is rewritten, instead of [`limits::BLOB_BLOCKS_MAX`].
    pub blocks_max: Option<u32>,
}

/// A container of Azure Blob Storage, and the index of it.
#[derive(Debug)]
pub struct AzureBlob {
    core: Arc<Core>,
    upkeep: TaskTracker,
    stop: CancellationToken,
}

/// What the store and its upkeep share.
#[derive(Debug)]
struct Core {
    container: Container,
    index: Index,
    clock: Arc<dyn Clock>,
    ids: RunIds,
    /// Deliveries that are being accepted here: a repeat at the same moment waits for the first.
    accepting: std::sync::Mutex<accept::Turns>,
    marks: tokio::sync::Mutex<Marks>,
    journals: Journals,
    blocks_max: u32,
    /// Tells journal entries of gateways apart.
    writer: u8,
    closed: AtomicBool,
}

impl AzureBlob {
    /// Opens the container that the settings name, creating it when it is missing, and reads what is open. What has
    /// ended is read beside the work.
    pub async fn open(parts: Parts, options: Options) -> Result<Self, Error> {
        let Parts { settings, azure, secrets, clock } = parts;
        let Some(place) = settings.blob else {
            let why = "`storage.endpoint` and `storage.container` are not set".into();
            return Err(Error::Open { place: "azure-blob".into(), why });
        };
        let container = Container::new(place, azure, secrets, options.policies);
        container.open().await?;
        let (folder, address) = (settings.path, container.address());
        let index = tokio::task::spawn_blocking(move || Index::open(&folder, &address)).await;
        let index = index.map_err(|error| Error::Open { place: "the index".into(), why: error.to_string() })??;
        let core = Arc::new(Core {
            container,
            index,
            clock,
            ids: RunIds::default(),
            accepting: std::sync::Mutex::default(),
            marks: tokio::sync::Mutex::default(),
            journals: Journals::default(),
            blocks_max: options.blocks_max.unwrap_or(limits::BLOB_BLOCKS_MAX),
            writer: rand::random(),
            closed: AtomicBool::new(false),
        });
        core.look_at_open(true).await?;
        let (upkeep, stop) = (TaskTracker::new(), CancellationToken::new());
        if !options.by_hand {
            let (open, all) = (Arc::clone(&core), Arc::clone(&core));
            let (stop_open, stop_all) = (stop.clone(), stop.clone());
            upkeep.spawn(async move { open.keep_up(stop_open).await });
            upkeep.spawn(async move { all.keep_everything(stop_all).await });
        }
        upkeep.close();
        Ok(Self { core, upkeep, stop })
    }

    /// Looks for what other gateways did: what they accepted and, when `everything` is to be read, all that ever was.
    pub async fn look(&self, everything: bool) -> Result<(), Error> {
        self.core.look_at_open(false).await?;
        if everything {
            self.core.look_at_everything().await?;
        }
        Ok(())
    }

    /// Calls to Blob Storage so far, for cost sheets.
    pub fn calls(&self) -> u64 {
        self.core.container.calls()
    }

    fn open_core(&self, doing: &'static str) -> Result<&Arc<Core>, Error> {
        if self.core.closed.load(Ordering::Acquire) {
            return Err(Error::Failed { doing, why: "the store is closed".into() });
        }
        Ok(&self.core)
    }
}

impl Core {
    /// Gives each run its log: from the index, or read.
    async fn with_logs(&self, found: Vec<Found>) -> Result<Vec<Queued>, Error> {
        let logs = stream::iter(found).map(|found| async move {
            let Found { id, log } = found;
            match log {
                Some(bytes) => Ok(Some(Queued { id, log: logs::entries(id, &bytes)? })),
                None => Ok(self.read(id).await?.map(|read| Queued { id, log: read.entries })),
            }
        });
        let logs = logs.buffered(limits::BLOB_UPKEEP_CALLS_MAX);
        logs.try_filter_map(|queued| async { Ok(queued) }).try_collect().await
    }
}

#[async_trait]
impl Store for AzureBlob {
    async fn accept(&self, acceptance: Acceptance) -> Result<Receipt, Error> {
        self.open_core(accept::DOING)?.accept(acceptance).await
    }

    async fn append(&self, append: Append) -> Result<(), Error> {
        Box::pin(self.open_core(logs::APPENDING)?.append(append)).await
    }

    async fn log(&self, run: RunId) -> Result<Vec<Entry>, Error> {
        Ok(self.open_core(logs::READING)?.read_and_note(run).await?.entries)
    }

    async fn queued(&self, after: Option<RunId>, limit: usize) -> Result<Vec<Queued>, Error> {
        let doing = "looking for queued runs";
        let core = self.open_core(doing)?;
        let theirs_before = core.clock.now().minus(limits::BLOB_QUEUED_GRACE);
        let found = core.index.call(doing, move |index| rows::queued(index, after, theirs_before, limit)).await?;
        core.with_logs(found).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<(Vec<RunHead>, Option<Timestamp>), Error> {
        let doing = "looking for due runs";
        self.open_core(doing)?.index.call(doing, move |index| rows::due(index, now, limit)).await
    }

    async fn park(&self, run: RunId, lane: &str) -> Result<(), Error> {
        let (doing, lane) = ("parking a run", lane.to_owned());
        let known = self.open_core(doing)?.index.call(doing, move |index| rows::park(index, run, &lane)).await?;
        if known { Ok(()) } else { Err(Error::NoRun(run)) }
    }

    async fn parked(&self, lane: &str) -> Result<Option<Queued>, Error> {
        let (doing, lane) = ("looking for parked runs", lane.to_owned());
        let core = self.open_core(doing)?;
        let found = core.index.call(doing, move |index| rows::parked(index, &lane)).await?;
        Ok(core.with_logs(found.into_iter().collect()).await?.pop())
    }

    async fn unpark_all(&self) -> Result<(), Error> {
        let doing = "showing parked runs again";
        self.open_core(doing)?.index.call(doing, rows::unpark_all).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunHead>, Error> {
        let (doing, query) = ("listing runs", query.clone());
        self.open_core(doing)?.index.show(doing, move |index| rows::list(index, &query)).await
    }

    async fn open_counts(&self) -> Result<Vec<(State, u64)>, Error> {
        let doing = "counting runs";
        self.open_core(doing)?.index.show(doing, rows::open_counts).await
    }

    async fn journal_append(&self, entries: Vec<JournalEntry>) -> Result<(), Error> {
        self.open_core(journals::WRITING)?.journal_append(entries).await
    }

    async fn journal(&self, query: &JournalQuery) -> Result<Vec<JournalRow>, Error> {
        let (doing, query) = ("reading a journal", query.clone());
        self.open_core(doing)?.index.show(doing, move |index| small::journal(index, &query)).await
    }

    async fn put_document(&self, revision: &Revision, text: &str) -> Result<(), Error> {
        self.open_core("keeping a document")?.put_document(revision, text).await
    }

    async fn document(&self, revision: &Revision) -> Result<Option<String>, Error> {
        self.open_core("reading a document")?.document(revision).await
    }

    async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        self.open_core("reading marks")?.marks(prefix).await
    }

    async fn set_mark(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        self.open_core("setting a mark")?.set_mark(name, value).await
    }

    async fn state(&self, workflow: &WorkflowName) -> Result<Map<String, Value>, Error> {
        self.open_core("reading a workflow's state")?.state(workflow).await
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned, Error> {
        self.open_core(prune::DOING)?.prune(*prune).await
    }

    async fn load(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        self.open_core(super::transfer::LOADING)?.load(pieces).await
    }

    async fn health(&self) -> Result<Health, Error> {
        let doing = "asking for its health";
        let core = self.open_core(doing)?;
        // Whoever asks often should not cost more than one call in a look.
        if core.container.is_down() || !core.container.answered_within(limits::BLOB_POLL) {
            core.container.head(doing, names::MARKS).await.map_err(|trouble| trouble.into_error(doing))?;
        }
        Ok(Health {
            disk_bytes: core.index.disk_bytes(),
            writes_queued: core.container.waiting(),
            commit_ms: core.container.call_ms(),
        })
    }

    fn exclusive(&self) -> bool {
        false
    }

    async fn close(&self) {
        self.stop.cancel();
        self.upkeep.wait().await;
        if !self.core.closed.swap(true, Ordering::AcqRel)
            && let Err(error) = self.core.send_refusals().await
        {
            tracing::warn!(%error, "the last refused requests could not be kept in Blob Storage");
        }
        let core = Arc::clone(&self.core);
        // Threads end here; one that panicked has said so.
        let _ = tokio::task::spawn_blocking(move || core.index.close()).await;
    }
}

impl Drop for AzureBlob {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
