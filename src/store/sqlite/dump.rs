//! Everything that the file holds, read on a connection of its own in one transaction: a picture of one moment, also
//! while a gateway has the store open.

use std::path::Path;
use std::thread;

use futures_util::StreamExt as _;
use futures_util::stream;
use rusqlite::Connection;
use tokio::sync::mpsc;

use super::super::Error;
use super::super::transfer::{DUMPING, Dump, Piece};
use super::trouble::{Outcome, Trouble};
use super::writer::run_id;
use super::{keys, read, schema};
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::domain::journal::JournalKind;
use crate::id::{Revision, RunId, WorkflowName};
use crate::limits;
use crate::store::JournalQuery;

/// Begins to read the store in a folder.
pub(super) fn dump(folder: &Path) -> Result<Dump, Error> {
    let connection = schema::open_reader(folder)?;
    let failed = |error: rusqlite::Error| Trouble::from(error).into_error(DUMPING);
    connection.execute_batch("BEGIN").map_err(failed)?;
    let runs: i64 = connection.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).map_err(failed)?;
    let (to, pieces) = mpsc::channel(limits::DUMP_AHEAD);
    let read = move || {
        let sink = Sink(to);
        if let Err(trouble) = all(&connection, &sink) {
            sink.put(Err(trouble.into_error(DUMPING)));
        }
    };
    thread::Builder::new()
        .name("store-dump".to_owned())
        .spawn(read)
        .map_err(|error| Error::Failed { doing: DUMPING, why: format!("there is no thread for it: {error}") })?;
    let pieces = stream::unfold(pieces, |mut from| async { from.recv().await.map(|piece| (piece, from)) });
    Ok(Dump { runs: runs.unsigned_abs(), pieces: pieces.boxed() })
}

/// Where pieces go. Nobody is there any more when the reader has lost interest.
struct Sink(mpsc::Sender<Result<Piece, Error>>);

impl Sink {
    fn put(&self, piece: Result<Piece, Error>) -> bool {
        self.0.blocking_send(piece).is_ok()
    }
}

fn all(connection: &Connection, sink: &Sink) -> Outcome<()> {
    let small = documents(connection)?.into_iter().chain(marks(connection)?).chain(states(connection)?);
    for piece in small.chain(journals(connection)?) {
        if !sink.put(Ok(piece)) {
            return Ok(());
        }
    }
    let mut statement = connection.prepare("SELECT id FROM runs ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = run_id(row.get(0)?);
        let (log, head) = (read::log(connection, id)?, read::head(connection, id)?);
        if !sink.put(Ok(Piece::Run { id, log, head: Box::new(head) })) {
            return Ok(());
        }
    }
    keys::each(connection, |hash, known| {
        let runs = (0..u64::from(known.runs)).map(|place| RunId::from_u64(known.first.as_u64() + place)).collect();
        sink.put(Ok(Piece::Key { key: DeliveryKey::from_bytes(hash), runs, expires: known.expires }))
    })
}

fn documents(connection: &Connection) -> Outcome<Vec<Piece>> {
    let mut statement = connection.prepare("SELECT revision, text FROM documents ORDER BY revision")?;
    let rows = statement.query_map([], |row| {
        Ok(Piece::Document { revision: Revision::from(row.get_ref(0)?.as_str()?), text: row.get(1)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn marks(connection: &Connection) -> Outcome<Vec<Piece>> {
    Ok(read::marks(connection, "")?.into_iter().map(|(name, value)| Piece::Mark { name, value }).collect())
}

fn states(connection: &Connection) -> Outcome<Vec<Piece>> {
    let mut statement = connection.prepare("SELECT DISTINCT workflow FROM states ORDER BY workflow")?;
    let workflows = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut states = Vec::new();
    for workflow in workflows {
        let values = read::state(connection, &workflow)?;
        let workflow = WorkflowName::new(&workflow).map_err(|error| Trouble::Broken(error.to_string()))?;
        states.push(Piece::State { workflow, values });
    }
    Ok(states)
}

fn journals(connection: &Connection) -> Outcome<Vec<Piece>> {
    let mut pieces = Vec::new();
    for kind in JournalKind::ALL {
        let all = JournalQuery::all(kind, usize::MAX);
        let rows = read::journal(connection, &all)?;
        pieces.extend(rows.into_iter().rev().map(Piece::Journal));
    }
    Ok(pieces)
}

/// What SQLite itself finds wrong with the file; empty when nothing is.
pub(super) fn integrity(folder: &Path) -> Result<Vec<String>, Error> {
    let connection = schema::open_reader(folder)?;
    let check = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        statement.query_map([], |row| row.get::<_, String>(0))?.collect()
    };
    let found = check().map_err(|error| Trouble::from(error).into_error("checking the file"))?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}

/// Nothing expires while it is moved.
pub(super) const BEGINNING: Timestamp = Timestamp::from_millis(0);
