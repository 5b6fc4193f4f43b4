//! The index: one SQLite file that finds runs and keeps what was read. Nothing in it is the truth; a file that is lost,
//! damaged, of another version or of another container is made anew from the blobs.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};

use super::super::Error;
use super::super::folder::{cannot_open, lock, private};
use crate::limits;

/// The index's file in `storage.path`.
const FILE: &str = "azure-blob-index.db";
/// Locked for as long as a gateway works with the index.
const LOCK_FILE: &str = "azure-blob-index.lock";
/// Another version is another file: it is cheaper to read the blobs again than to migrate an index.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- `place`: where the log is: 0 in its delivery, 1 in its own blob, 2 rewritten in one piece.
-- `theirs`: since when a run that another gateway moved is known here, milliseconds; 0 for our own.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    workflow TEXT NOT NULL,
    state INTEGER NOT NULL,
    trigger INTEGER NOT NULL,
    source TEXT NOT NULL,
    cause TEXT,
    due INTEGER,
    ended INTEGER,
    lane TEXT,
    next INTEGER NOT NULL,
    place INTEGER NOT NULL,
    length INTEGER NOT NULL,
    etag TEXT NOT NULL,
    blocks INTEGER NOT NULL,
    stripped INTEGER NOT NULL,
    theirs INTEGER NOT NULL,
    key TEXT,
    marker TEXT,
    log BLOB,
    head TEXT NOT NULL
);
CREATE INDEX runs_state ON runs (state, id);
CREATE INDEX runs_workflow ON runs (workflow, id);
CREATE INDEX runs_source ON runs (source, id);
CREATE INDEX runs_cause ON runs (cause, id) WHERE cause IS NOT NULL;
CREATE INDEX runs_due ON runs (due, id) WHERE due IS NOT NULL;
CREATE INDEX runs_ended ON runs (state, ended) WHERE ended IS NOT NULL;
CREATE INDEX runs_unstripped ON runs (ended) WHERE stripped = 0 AND ended IS NOT NULL;
CREATE INDEX runs_lane ON runs (lane, id) WHERE lane IS NOT NULL;
CREATE TABLE labels (name TEXT, value TEXT, run INTEGER, PRIMARY KEY (name, value, run)) WITHOUT ROWID;
CREATE INDEX labels_run ON labels (run);
-- Delivery keys and replay guards, by the names of their blobs.
CREATE TABLE keys (
    name TEXT PRIMARY KEY,
    expires INTEGER NOT NULL,
    runs TEXT NOT NULL,
    etag TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX keys_expires ON keys (expires);
-- `sent`: whether the entry stands in a blob.
CREATE TABLE journal (
    kind TEXT NOT NULL,
    id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    cause TEXT NOT NULL,
    detail TEXT NOT NULL,
    body BLOB NOT NULL,
    sent INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX journal_subject ON journal (kind, subject, id);
CREATE INDEX journal_unsent ON journal (kind, id) WHERE sent = 0;
CREATE TABLE journal_blobs (name TEXT PRIMARY KEY, length INTEGER NOT NULL, last_id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (revision TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
-- State that is committed in a log and not yet in its workflow's blob.
CREATE TABLE owed_states (run INTEGER, seq INTEGER, workflow TEXT, at INTEGER, changes TEXT, PRIMARY KEY (run, seq)) WITHOUT ROWID;
";

/// The index, open.
#[derive(Debug)]
pub(super) struct Index {
    file: PathBuf,
    /// For the engine, and everything that writes.
    work: Desk,
    /// For people, whose lists may take long.
    show: Desk,
    lock: Mutex<Option<File>>,
}

impl Index {
    /// Opens the index of a container in a folder.
    pub(super) fn open(folder: &Path, container: &str) -> Result<Self, Error> {
        let lock = lock(folder, LOCK_FILE)?;
        let file = folder.join(FILE);
        private(&file)?;
        let kept =
            connect(&file).and_then(|connection| check(&connection, container).map(|ours| ours.then_some(connection)));
        let connection = if let Ok(Some(connection)) = kept {
            connection
        } else {
            for end in ["", "-wal", "-shm"] {
                // What is not there need not be removed; what cannot be is refused below.
                let _ = std::fs::remove_file(folder.join(format!("{FILE}{end}")));
            }
            let made = connect(&file).and_then(|connection| create(&connection, container).map(|()| connection));
            made.map_err(|error| cannot_open(&file, error.to_string()))?
        };
        let reader = connect(&file).map_err(|error| cannot_open(&file, error.to_string()))?;
        Ok(Self {
            work: Desk::start("blob-index", connection)?,
            show: Desk::start("blob-list", reader)?,
            file,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Does something with the index, on its own thread, in one transaction.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.work.call(doing, work).await
    }

    /// Reads for a person.
    pub(super) async fn show<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.show.call(doing, work).await
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        let wal = self.file.with_extension("db-wal");
        [&self.file, &wal].iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum()
    }

    /// Does what is queued, closes the file and gives the folder free.
    pub(super) fn close(&self) {
        self.show.close();
        self.work.close();
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.close();
    }
}

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// A thread with a connection of its own.
struct Desk {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Desk {
    fn start(name: &str, connection: Connection) -> Result<Self, Error> {
        let (jobs, mut inbox) = mpsc::channel::<Job>(limits::READS_QUEUED_MAX);
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Some(job) = inbox.blocking_recv() {
                    job(&connection);
                }
            })
            .map_err(|error| Error::Open {
                place: name.to_owned(),
                why: format!("cannot start the thread: {error}"),
            })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    async fn call<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // A caller that went away does not want to know.
            let _ = reply.send(in_transaction(connection, work));
        });
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let closed = || Error::Failed { doing, why: "the store is closed".into() };
        jobs.ok_or_else(closed)?.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Full("the index has too much to do".into()),
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        let done = answer.await.map_err(|_| closed())?;
        done.map_err(|error| Error::Failed { doing, why: format!("the index: {error}") })
    }

    fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A job that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

fn in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.unchecked_transaction()?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A crash may lose the last commits, which the blobs still have; it cannot damage the file.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Whether the file is an index of this version and container.
fn check(connection: &Connection, container: &str) -> rusqlite::Result<bool> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        return Ok(false);
    }
    let of: Option<String> =
        connection.query_row("SELECT value FROM about WHERE name = 'container'", [], |row| row.get(0)).optional()?;
    Ok(of.as_deref() == Some(container))
}

fn create(connection: &Connection, container: &str) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute("INSERT INTO about VALUES ('container', ?1)", params![container])?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
