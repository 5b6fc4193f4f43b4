//! The embedded store: one SQLite file in a folder that this process has to itself. One thread writes and commits for
//! everyone who waits, two read, one keeps the write-ahead log short. It never runs SQL on the caller's thread.
//!
//! `synchronous=FULL` in WAL mode: a commit is on disk before anyone is answered
//! (<https://www.sqlite.org/pragma.html#pragma_synchronous>).

mod call;
mod checkpoint;
mod commands;
mod dump;
mod keys;
mod list;
mod load;
mod prune;
mod queue;
mod read;
mod reader;
mod schema;
mod trouble;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use async_trait::async_trait;
use rusqlite::Connection;
use serde_json::{Map, Value};
use tokio::sync::watch;

use self::checkpoint::Checkpoints;
use self::commands::ReadyAcceptance;
use self::reader::Reader;
use self::trouble::Trouble;
use self::writer::{Memo, Tx, Writer};
use super::ready::{self, ReadyAppend, to_json};
use super::transfer::Piece;
use super::{
    Acceptance, Append, Backend, Error, Health, JournalQuery, Prune, Pruned, Queued, Receipt, RunQuery, Store,
};
use crate::clock::Timestamp;
use crate::domain::event::Entry;
use crate::domain::journal::{JournalEntry, JournalRow};
use crate::domain::run::RunHead;
use crate::domain::state::State;
use crate::id::{Revision, RunId, WorkflowName};

/// The embedded store.
pub const BACKEND: Backend = Backend {
    name: "sqlite",
    summary: "Everything in one SQLite file under `storage.path`; one gateway on one machine.",
    open: |parts| Box::pin(async move { Ok(Arc::new(Sqlite::open(&parts.settings.path)?) as Arc<dyn Store>) }),
    dump: |parts| Box::pin(async move { dump::dump(&parts.settings.path) }),
};

/// Runs that one step of `unpark_all` shows again.
const UNPARKED_PER_STEP: usize = 4096;

/// One SQLite file, open.
#[derive(Debug)]
pub struct Sqlite {
    folder: PathBuf,
    writer: Arc<Writer>,
    /// Reads for the engine.
    work: Arc<Reader>,
    /// Reads for people and for retention, which may take long.
    show: Arc<Reader>,
    checkpoints: Arc<Checkpoints>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    running: Vec<JoinHandle<()>>,
    /// Fails when the writer's thread has ended.
    writer_ended: Option<watch::Receiver<()>>,
    /// Held for as long as the files are open.
    lock: Option<File>,
}

/// Bounds that tests set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The most pages that the file may have: what a full disk looks like.
    pub page_count_max: Option<u32>,
    /// Delivery keys that are known by heart before they are sorted away.
    pub segment_keys: Option<usize>,
}

impl Sqlite {
    /// Opens the store in a folder, creating what is not there. It fails when another process has it open, when the
    /// file is not ours, and when a newer version wrote it.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Self::open_with(folder, Options::default())
    }

    /// Opens the store with bounds of its own.
    pub fn open_with(folder: &Path, options: Options) -> Result<Self, Error> {
        let lock = schema::lock(folder)?;
        let connection = schema::open_writer(folder, options.page_count_max)?;
        let place = || folder.display().to_string();
        let broken = |error: rusqlite::Error| Error::Open { place: place(), why: error.to_string() };
        let segment_keys = options.segment_keys.unwrap_or(keys::KEYS_PER_SEGMENT);
        let memo = Memo::read(&connection, segment_keys).map_err(|trouble| match trouble.into_error("opening") {
            Error::Failed { why, .. } => Error::Open { place: place(), why },
            other => other,
        })?;
        let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(broken)?;
        let store = Self {
            folder: folder.to_owned(),
            writer: Arc::new(Writer::new()),
            work: Arc::new(Reader::new()),
            show: Arc::new(Reader::new()),
            checkpoints: Arc::new(Checkpoints::new(page_bytes.unsigned_abs())),
            threads: Mutex::new(Threads { lock: Some(lock), ..Threads::default() }),
        };
        store.start(connection, memo)?;
        Ok(store)
    }

    fn start(&self, connection: Connection, memo: Memo) -> Result<(), Error> {
        for (name, reader) in [("store-read", &self.work), ("store-list", &self.show)] {
            let (reader, connection) = (Arc::clone(reader), schema::open_reader(&self.folder)?);
            self.spawn(name, move || reader.run(&connection))?;
        }
        let (checkpoints, copier) = (Arc::clone(&self.checkpoints), schema::open_copier(&self.folder)?);
        self.spawn("store-copy", move || checkpoints.run(&copier))?;
        let (ended, writer_ended) = watch::channel(());
        self.threads().writer_ended = Some(writer_ended);
        let (writer, checkpoints) = (Arc::clone(&self.writer), Arc::clone(&self.checkpoints));
        self.spawn("store-write", move || {
            writer.run(&connection, memo, &checkpoints);
            checkpoint::finish(&connection);
            drop(ended);
        })
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = Builder::new().name(name.to_owned()).spawn(work).map_err(|error| Error::Open {
            place: self.folder.display().to_string(),
            why: format!("cannot start the thread `{name}`: {error}"),
        })?;
        self.threads().running.push(thread);
        Ok(())
    }

    /// Microseconds that the writer has worked so far, the wait for the disk left out: for benchmarks.
    pub fn writer_busy_us(&self) -> u64 {
        self.writer.busy_us()
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes nothing more in; every thread does what is queued and ends.
    fn stop(&self) {
        self.work.close();
        self.show.close();
        self.checkpoints.close();
        self.writer.close();
    }

    /// Waits for the threads, then gives the folder free.
    fn join(&self) {
        let mut threads = self.threads();
        for thread in threads.running.drain(..) {
            // A thread that panicked has said so, and its callers were told.
            let _ = thread.join();
        }
        threads.lock = None;
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn accept(&self, acceptance: Acceptance) -> Result<Receipt, Error> {
        let ready = ReadyAcceptance::new(acceptance)?;
        self.writer.call_with(ready::ACCEPTING, ready.bytes(), move |tx| ready.write(tx)).await
    }

    async fn accept_all(&self, acceptances: Vec<Acceptance>) -> Result<Vec<Receipt>, Error> {
        let ready = acceptances.into_iter().map(ReadyAcceptance::new).collect::<Result<Vec<_>, _>>()?;
        let bytes = ready.iter().map(ReadyAcceptance::bytes).sum();
        let work = move |tx: &mut Tx<'_>| ready.iter().map(|one| one.write(tx)).collect();
        self.writer.call_with("accepting deliveries", bytes, work).await
    }

    async fn append(&self, append: Append) -> Result<(), Error> {
        let ready = ReadyAppend::new(append)?;
        self.writer.call_with(ready::APPENDING, ready.bytes(), move |tx| commands::append(tx, &ready)).await
    }

    async fn log(&self, run: RunId) -> Result<Vec<Entry>, Error> {
        self.work.call("reading a run's log", move |connection| read::log(connection, run)).await
    }

    async fn queued(&self, after: Option<RunId>, limit: usize) -> Result<Vec<Queued>, Error> {
        let work = move |connection: &Connection| read::queued(connection, after, limit);
        self.work.call("looking for queued runs", work).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<(Vec<RunHead>, Option<Timestamp>), Error> {
        self.work.call("looking for due runs", move |connection| read::due(connection, now, limit)).await
    }

    async fn park(&self, run: RunId, lane: &str) -> Result<(), Error> {
        let lane = lane.to_owned();
        self.writer.call("parking a run", move |tx| commands::park(tx, run, &lane)).await
    }

    async fn parked(&self, lane: &str) -> Result<Option<Queued>, Error> {
        let lane = lane.to_owned();
        self.work.call("looking for parked runs", move |connection| read::parked(connection, &lane)).await
    }

    async fn unpark_all(&self) -> Result<(), Error> {
        let step = |tx: &mut Tx<'_>| commands::unpark(tx, UNPARKED_PER_STEP);
        while self.writer.call("showing parked runs again", step).await? == UNPARKED_PER_STEP {}
        Ok(())
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunHead>, Error> {
        let query = query.clone();
        self.show.call("listing runs", move |connection| list::runs(connection, &query)).await
    }

    async fn open_counts(&self) -> Result<Vec<(State, u64)>, Error> {
        self.show.call("counting runs", read::open_counts).await
    }

    async fn journal_append(&self, entries: Vec<JournalEntry>) -> Result<(), Error> {
        let doing = "writing a journal";
        let ready = |entry: JournalEntry| to_json(doing, &entry.detail).map(|detail| (entry, detail));
        let entries = entries.into_iter().map(ready).collect::<Result<Vec<_>, _>>()?;
        self.writer.call(doing, move |tx| commands::write_journal(tx, &entries)).await
    }

    async fn journal(&self, query: &JournalQuery) -> Result<Vec<JournalRow>, Error> {
        let query = query.clone();
        self.show.call("reading a journal", move |connection| read::journal(connection, &query)).await
    }

    async fn put_document(&self, revision: &Revision, text: &str) -> Result<(), Error> {
        let (revision, text) = (revision.clone(), text.to_owned());
        let work = move |tx: &mut Tx<'_>| commands::put_document(tx, revision.as_str(), &text);
        self.writer.call("keeping a document", work).await
    }

    async fn document(&self, revision: &Revision) -> Result<Option<String>, Error> {
        let revision = revision.clone();
        let work = move |connection: &Connection| read::document(connection, revision.as_str());
        self.work.call("reading a document", work).await
    }

    async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        let prefix = prefix.to_owned();
        self.work.call("reading marks", move |connection| read::marks(connection, &prefix)).await
    }

    async fn set_mark(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        self.writer.call("setting a mark", move |tx| commands::set_mark(tx, &name, value.as_deref())).await
    }

    async fn state(&self, workflow: &WorkflowName) -> Result<Map<String, Value>, Error> {
        let workflow = workflow.clone();
        let work = move |connection: &Connection| read::state(connection, workflow.as_str());
        self.work.call("reading a workflow's state", work).await
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned, Error> {
        prune::prune(self, *prune).await
    }

    async fn health(&self) -> Result<Health, Error> {
        let doing = "asking for its health";
        // While the door refuses, nothing is written that could show that writing works again.
        if self.writer.is_failing() {
            self.writer.call(doing, commands::probe).await?;
            self.writer.call(doing, commands::forget_probe).await?;
        }
        let alive = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM shapes", [], |_| Ok(())).map_err(Trouble::from)
        };
        self.work.call(doing, alive).await?;
        let files = ["", "-wal", "-shm"].map(|end| self.folder.join(format!("{}{end}", schema::DATABASE_FILE)));
        let bytes = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len());
        Ok(Health {
            disk_bytes: bytes.sum(),
            writes_queued: self.writer.queued(),
            commit_ms: self.writer.commit_us() / 1000,
        })
    }

    async fn load(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        let load = move |tx: &mut Tx<'_>| pieces.iter().try_for_each(|piece| load::load(tx, piece));
        self.writer.call(super::transfer::LOADING, load).await
    }

    async fn verify(&self) -> Result<Vec<String>, Error> {
        dump::integrity(&self.folder)
    }

    fn exclusive(&self) -> bool {
        true
    }

    async fn close(&self) {
        self.stop();
        let ended = self.threads().writer_ended.clone();
        if let Some(mut ended) = ended {
            // An error is what is waited for: the writer, which ends last, is gone.
            let _ = ended.changed().await;
        }
        self.join();
    }
}
