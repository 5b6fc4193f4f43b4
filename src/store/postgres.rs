//! PostgreSQL: any number of gateways on one database. Nothing but the two conditional writes keeps them apart; each is
//! one transaction for all who wait, see `accept.rs` and `append.rs`. What helps to find work lags and decides nothing:
//! the queue is shared by `SKIP LOCKED` (`read.rs`), and others are woken by `NOTIFY` (`watch.rs`).
//!
//! Every call ends in time, also while the server is gone; connections come back by themselves (`link.rs`).

mod accept;
mod append;
mod beside;
mod link;
mod list;
mod partitions;
mod prune;
mod queue;
mod read;
mod schema;
mod session;
mod shapes;
mod transfer;
mod trouble;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::link::Link;
use self::queue::Queue;
use self::session::{Connector, Listener, Purpose, cannot_open};
pub(crate) use self::session::{is_here, trust};
use self::shapes::Shapes;
use self::watch::Watch;
use super::ready::{self, ReadyAppend};
use super::transfer::Piece;
use super::{
    Acceptance, Append, Backend, Error, Health, JournalQuery, Parts, PostgresPlace, Prune, Pruned, Queued, Receipt,
    RunQuery, Store,
};
use crate::clock::Timestamp;
use crate::domain::event::Entry;
use crate::domain::journal::{JournalEntry, JournalRow};
use crate::domain::run::RunHead;
use crate::domain::state::State;
use crate::id::{Revision, RunId, RunIds, WorkflowName};
use crate::limits;

/// The store of several gateways.
pub const BACKEND: Backend = Backend {
    name: "postgres",
    summary: "A PostgreSQL database (14 or later), such as Azure Database for PostgreSQL; any number of gateways.",
    open: |parts| Box::pin(async move { Ok(Arc::new(Postgres::open(parts).await?) as Arc<dyn Store>) }),
    dump: |parts| Box::pin(transfer::dump(parts)),
};

/// Writers of appends: while one waits for its commit, another takes what came since.
const APPEND_WRITERS: usize = 2;
/// Runs that one step of `unpark_all` shows again.
const UNPARKED_PER_STEP: usize = 1024;

/// A PostgreSQL database, open.
#[derive(Debug)]
pub struct Postgres {
    /// Tells this store from those of other gateways, and of this one before its restart.
    me: i64,
    connector: Arc<Connector>,
    accepts: Queue<accept::Ready, Receipt>,
    appends: Queue<ReadyAppend, ()>,
    /// For the engine: what it reads, and its small writes.
    work: Link,
    /// For people and for retention, which may take long.
    show: Link,
    /// For journals, marks and documents, which nobody waits for in a hurry.
    beside: Link,
    shapes: Arc<Shapes>,
    watch: Arc<Watch>,
    came: Arc<Notify>,
    /// Nothing more is taken in.
    closing: CancellationToken,
    /// Connections end.
    closed: CancellationToken,
    tracker: TaskTracker,
    writers: TaskTracker,
}

impl Postgres {
    /// Opens the database, creating what is not there. It fails when the server cannot be reached, is too old, or holds
    /// what a newer version wrote.
    pub async fn open(parts: Parts) -> Result<Self, Error> {
        let Parts { settings, azure, secrets, .. } = parts;
        let place = settings.postgres.ok_or_else(|| Error::Open {
            place: "postgres".to_owned(),
            why: "the settings do not say where it is".to_owned(),
        })?;
        let PostgresPlace { authorities, .. } = &place;
        let tls = trust(authorities.as_deref()).await.map_err(|why| Error::Open { place: place.host.clone(), why })?;
        let tracker = TaskTracker::new();
        let connector = Arc::new(Connector::new(place, azure, secrets, tls, tracker.clone()));
        schema::prepare(&connector).await?;
        Self::start(connector, tracker).await
    }

    async fn start(connector: Arc<Connector>, tracker: TaskTracker) -> Result<Self, Error> {
        let me = i64::from_le_bytes(rand::random());
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let came = Arc::new(Notify::new());
        let keep = async |name, statement_max: Duration, listener| {
            let writes = matches!(name, "accept" | "append");
            let purpose = Purpose { name, statement_max, writes, listener };
            let first = connector.connect(&purpose).await.map_err(|trouble| cannot_open(&connector, &trouble))?;
            Ok::<_, Error>(Link::keep(Arc::clone(&connector), purpose, first, closed.clone()))
        };
        let short = limits::POSTGRES_CALL_MAX;
        let (watch, shapes) = (Arc::new(Watch::default()), Arc::new(Shapes::default()));
        let listener = Listener { came: Arc::clone(&came), own: me.to_string() };
        let listen = keep("listen", short, Some(listener)).await?;
        let writers = TaskTracker::new();
        let (accepts, taker) = Queue::new(ready::ACCEPTING, closing.clone());
        let writer = accept::Writer {
            link: keep("accept", short, None).await?,
            ids: RunIds::default(),
            shapes: Arc::clone(&shapes),
            partitions: partitions::Partitions::default(),
            watch: Arc::clone(&watch),
        };
        writers.spawn(writer.run(taker));
        let (appends, taker) = Queue::new(ready::APPENDING, closing.clone());
        let taker = Arc::new(Mutex::new(taker));
        for _ in 0..APPEND_WRITERS {
            let writer = append::Writer { link: keep("append", short, None).await?, watch: Arc::clone(&watch) };
            writers.spawn(writer.run(Arc::clone(&taker)));
        }
        let work = keep("work", short, None).await?;
        let show = keep("show", limits::POSTGRES_SHOW_MAX, None).await?;
        let beside = keep("beside", short, None).await?;
        // What is parked is never seen without a sign of life of who parked it.
        let beat = |session: Arc<session::Session>| async move { watch::beat(&session, me).await };
        work.call("opening", beat).await?;
        tracker.spawn(watch::announce(Arc::clone(&watch), listen.clone(), me, closed.clone()));
        tracker.spawn(watch::live(Arc::clone(&watch), listen, me, closing.clone()));
        Ok(Self {
            me,
            connector,
            accepts,
            appends,
            work,
            show,
            beside,
            shapes,
            watch,
            came,
            closing,
            closed,
            tracker,
            writers,
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.closing.cancel();
        self.closed.cancel();
    }
}

#[async_trait]
impl Store for Postgres {
    async fn accept(&self, acceptance: Acceptance) -> Result<Receipt, Error> {
        let ready = accept::Ready::new(acceptance)?;
        let bytes = ready.bytes();
        self.accepts.call(ready, bytes).await
    }

    async fn append(&self, append: Append) -> Result<(), Error> {
        let ready = ReadyAppend::new(append)?;
        let bytes = ready.bytes();
        self.appends.call(ready, bytes).await
    }

    async fn log(&self, run: RunId) -> Result<Vec<Entry>, Error> {
        self.work.call("reading a run's log", |session| async move { read::log(&session, run).await }).await
    }

    async fn queued(&self, after: Option<RunId>, limit: usize) -> Result<Vec<Queued>, Error> {
        let me = self.me;
        let work = |session: Arc<session::Session>| async move { read::queued(&session, me, after, limit).await };
        self.work.call("looking for queued runs", work).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<(Vec<RunHead>, Option<Timestamp>), Error> {
        self.work.call("looking for due runs", |session| async move { read::due(&session, now, limit).await }).await
    }

    async fn park(&self, run: RunId, lane: &str) -> Result<(), Error> {
        let me = self.me;
        self.work.call("parking a run", |session| async move { read::park(&session, me, run, lane).await }).await
    }

    async fn parked(&self, lane: &str) -> Result<Option<Queued>, Error> {
        self.work.call("looking for parked runs", |session| async move { read::parked(&session, lane).await }).await
    }

    async fn unpark_all(&self) -> Result<(), Error> {
        let step = |session: Arc<session::Session>| async move { read::unpark(&session, UNPARKED_PER_STEP).await };
        while self.work.call("showing parked runs again", step).await? == UNPARKED_PER_STEP as u64 {}
        Ok(())
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunHead>, Error> {
        let shapes = &self.shapes;
        self.show.call("listing runs", |session| async move { list::runs(&session, shapes, query).await }).await
    }

    async fn open_counts(&self) -> Result<Vec<(State, u64)>, Error> {
        self.show.call("counting runs", |session| async move { read::open_counts(&session).await }).await
    }

    async fn journal_append(&self, entries: Vec<JournalEntry>) -> Result<(), Error> {
        let work = |session: Arc<session::Session>| async move { beside::journal_append(&session, &entries).await };
        self.beside.call(beside::JOURNAL_DOING, work).await
    }

    async fn journal(&self, query: &JournalQuery) -> Result<Vec<JournalRow>, Error> {
        self.show.call("reading a journal", |session| async move { beside::journal(&session, query).await }).await
    }

    async fn put_document(&self, revision: &Revision, text: &str) -> Result<(), Error> {
        let work = |session: Arc<session::Session>| async move {
            beside::put_document(&session, revision.as_str(), text).await
        };
        self.beside.call("keeping a document", work).await
    }

    async fn document(&self, revision: &Revision) -> Result<Option<String>, Error> {
        let work = |session: Arc<session::Session>| async move { beside::document(&session, revision.as_str()).await };
        self.beside.call("reading a document", work).await
    }

    async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        self.beside.call("reading marks", |session| async move { beside::marks(&session, prefix).await }).await
    }

    async fn set_mark(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        self.beside.call("setting a mark", |session| async move { beside::set_mark(&session, name, value).await }).await
    }

    async fn state(&self, workflow: &WorkflowName) -> Result<Map<String, Value>, Error> {
        let work = |session: Arc<session::Session>| async move { beside::state(&session, workflow.as_str()).await };
        self.work.call("reading a workflow's state", work).await
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned, Error> {
        let shapes = &self.shapes;
        let work = |session: Arc<session::Session>| async move { prune::prune(&session, shapes, prune).await };
        let mut pruned = self.show.call(prune::DOING, work).await?;
        if !pruned.more {
            let given = prune::give_back(&self.connector, prune.now).await;
            pruned.more = given.map_err(|trouble| trouble.to_error(prune::DOING))?;
        }
        Ok(pruned)
    }

    async fn load(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        let (shapes, partitions) = (&self.shapes, partitions::Partitions::default());
        let work = |session: Arc<session::Session>| async move {
            transfer::load(&session, shapes, &partitions, &pieces).await
        };
        self.show.call(super::transfer::LOADING, work).await
    }

    async fn health(&self) -> Result<Health, Error> {
        let doing = "asking for its health";
        // While the door refuses, nothing is written that could show that writing works again: a sign of life does.
        if self.watch.is_failing() {
            let me = self.me;
            self.work.call(doing, |session| async move { watch::beat(&session, me).await }).await?;
        }
        let disk_bytes = self.work.call(doing, |session| async move { partitions::disk_bytes(&session).await }).await?;
        let writes_queued = self.accepts.len() + self.appends.len();
        Ok(Health { disk_bytes, writes_queued, commit_ms: self.watch.commit_ms() })
    }

    fn exclusive(&self) -> bool {
        false
    }

    async fn others(&self) -> Result<u64, Error> {
        let me = self.me;
        self.work.call("looking for other gateways", |session| async move { watch::others(&session, me).await }).await
    }

    async fn work_came(&self) {
        self.came.notified().await;
    }

    async fn close(&self) {
        self.closing.cancel();
        self.writers.close();
        // Whatever the server does, closing ends: a write takes no longer than this.
        let _ = tokio::time::timeout(limits::POSTGRES_WRITE_MAX, self.writers.wait()).await;
        if !self.closed.is_cancelled() {
            let me = self.me;
            // If it fails, the others find out by the silence.
            let _ = self.work.call("closing", |session| async move { watch::leave(&session, me).await }).await;
        }
        self.closed.cancel();
        self.tracker.close();
        let _ = tokio::time::timeout(limits::POSTGRES_CALL_MAX, self.tracker.wait()).await;
    }
}

/// The id behind a stored number.
fn run_id(number: i64) -> RunId {
    RunId::from_u64(number.cast_unsigned())
}

/// The stored number of an id: ids fit 63 bits.
fn run_number(run: RunId) -> i64 {
    run.as_u64().cast_signed()
}

/// A count as PostgreSQL takes it.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
