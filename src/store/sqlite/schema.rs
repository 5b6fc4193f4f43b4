//! The tables, and how a database file becomes one of ours. It refuses files that are not ours or that a newer
//! version wrote.
//!
//! A run's log is one row in `arrivals` (its first event and the raw body) and one row in `appends` for each append.
//! Both grow at their right end only, so a batch of writes touches few pages. `runs` is the index row, kept tiny;
//! `heads` is what lists show. A run that has no head yet has its log folded instead: that keeps accepting cheap.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::super::Error;
use super::super::folder::{self, cannot_open, private};

/// The database's file in the store's folder.
pub(super) const DATABASE_FILE: &str = "clawhook.db";
/// Locked for as long as a process has the store open.
const LOCK_FILE: &str = "clawhook.lock";
/// Marks the file as ours (`Claw`), see <https://www.sqlite.org/pragma.html#pragma_application_id>.
const APPLICATION_ID: i64 = 0x436c_6177;
/// Bytes of a page: a delivery of 6 KiB fits one, which halves its cost; larger ones would write too much for small changes.
const PAGE_BYTES: u32 = 8192;
/// The steps from each schema version to the next; what `PRAGMA user_version` counts.
const MIGRATIONS: &[&str] = &[VERSION_1];

const VERSION_1: &str = "
-- What runs are found by: each (workflow, trigger, source) gets a small number.
CREATE TABLE shapes (
    id INTEGER PRIMARY KEY,
    workflow TEXT NOT NULL,
    trigger INTEGER NOT NULL,
    source TEXT NOT NULL,
    UNIQUE (workflow, trigger, source)
);
-- Delivery keys and replay guards, see `keys.rs`: those since the last segment, a row for each batch; then segments.
CREATE TABLE key_log (id INTEGER PRIMARY KEY, keys BLOB NOT NULL);
CREATE TABLE key_segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    keys INTEGER NOT NULL,
    first_expires INTEGER NOT NULL,
    last_expires INTEGER NOT NULL,
    filter BLOB NOT NULL
);
CREATE TABLE key_blocks (
    segment INTEGER NOT NULL,
    first BLOB NOT NULL,
    keys BLOB NOT NULL,
    PRIMARY KEY (segment, first)
) WITHOUT ROWID;
CREATE TABLE arrivals (
    run INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE appends (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    events TEXT NOT NULL
);
CREATE UNIQUE INDEX appends_run ON appends (run, seq);
-- `class` is the run's standing (see `class.rs`) and its shape in one number, so that one index serves the queue and
-- every filter by workflow, trigger, source and state. `terms` are the keys of its rows in `terms`.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    class INTEGER NOT NULL,
    next INTEGER NOT NULL,
    due INTEGER,
    ended INTEGER,
    lane TEXT,
    terms BLOB
);
CREATE INDEX runs_class ON runs (class);
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
CREATE INDEX runs_lane ON runs (lane) WHERE lane IS NOT NULL;
-- A head counts only while its `next` is the run's: short runs write theirs when they end.
CREATE TABLE heads (run INTEGER PRIMARY KEY, next INTEGER NOT NULL, head TEXT NOT NULL);
-- Labels, causes and the sources that are too many to be part of a shape, by hash. A run is listed from the first time
-- that it does not run; until it ends under its standing then.
CREATE TABLE terms (
    term INTEGER NOT NULL,
    class INTEGER NOT NULL,
    run INTEGER NOT NULL,
    PRIMARY KEY (term, class, run)
) WITHOUT ROWID;
CREATE TABLE journal (
    kind INTEGER NOT NULL,
    id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    cause TEXT NOT NULL,
    detail TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX journal_subject ON journal (kind, subject, id);
CREATE TABLE documents (revision TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE states (
    workflow TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (workflow, name)
) WITHOUT ROWID;
";

/// Takes the folder for this process, until the file is dropped.
pub(super) fn lock(folder: &Path) -> Result<File, Error> {
    folder::lock(folder, LOCK_FILE)
}

/// Opens the connection of the writer, and makes the database what this version expects.
pub(super) fn open_writer(folder: &Path, page_count_max: Option<u32>) -> Result<Connection, Error> {
    let path = folder.join(DATABASE_FILE);
    private(&path)?;
    prepare(&path, page_count_max).map_err(|trouble| match trouble {
        Trouble::Refused(why) => cannot_open(&path, why),
        Trouble::Sql(error) => cannot_open(&path, error.to_string()),
    })
}

/// Opens a connection that can only read.
pub(super) fn open_reader(folder: &Path) -> Result<Connection, Error> {
    let path = folder.join(DATABASE_FILE);
    let open = || {
        let connection = connect(&path)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -2048)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| cannot_open(&path, error.to_string()))
}

/// Opens a connection that copies the write-ahead log.
pub(super) fn open_copier(folder: &Path) -> Result<Connection, Error> {
    let path = folder.join(DATABASE_FILE);
    let open = || {
        let connection = connect(&path)?;
        connection.pragma_update(None, "cache_size", -64)?;
        connection.pragma_update(None, "synchronous", "full")?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| cannot_open(&path, error.to_string()))
}

enum Trouble {
    Refused(String),
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

fn prepare(path: &Path, page_count_max: Option<u32>) -> Result<Connection, Trouble> {
    let mut connection = connect(path)?;
    let version = check_version(&connection)?;
    // Both count only before the first page is written.
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    if let Some(pages) = page_count_max {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    migrate(&mut connection, version)?;
    Ok(connection)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(2))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// The version of the schema in the file; 0 when the file is new.
fn check_version(connection: &Connection) -> Result<usize, Trouble> {
    let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if id != APPLICATION_ID && (id != 0 || tables != 0 || version != 0) {
        return Err(Trouble::Refused("it is a SQLite database of something else; choose another folder".into()));
    }
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(Trouble::Refused(format!(
            "it was written by a newer Clawhook (schema {version}, this one knows {}); install that version or \
             restore a backup",
            MIGRATIONS.len()
        ))),
    }
}

fn migrate(connection: &mut Connection, version: usize) -> Result<(), Trouble> {
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    let tx = connection.transaction()?;
    for step in &MIGRATIONS[version..] {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", super::writer::number(MIGRATIONS.len()))?;
    tx.commit()?;
    Ok(())
}
