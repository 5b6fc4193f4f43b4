//! The small things in the index: keys, journals, documents, state that is owed to a blob.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use serde_json::{Map, Value};

use super::super::JournalQuery;
use super::logs::Committed;
use super::names;
use super::rows::{broken, limit_of, number, run_id};
use crate::clock::Timestamp;
use crate::domain::journal::{JournalEntry, JournalKind, JournalRow};
use crate::id::{RunId, Seq, WorkflowName};

/// A delivery key or replay guard that is remembered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) expires: Timestamp,
    pub(super) runs: Vec<RunId>,
    pub(super) etag: String,
}

/// The ids in a text.
pub(super) fn join_ids(ids: &[RunId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn split_ids(text: &str) -> Vec<RunId> {
    text.split(',').filter_map(|id| id.parse().ok()).collect()
}

/// What the metadata of a blob say.
pub(super) fn key_of(name: &str, etag: &str, metadata: &HashMap<String, String>) -> Key {
    let expires = metadata.get(names::EXPIRES).and_then(|expires| expires.parse().ok());
    Key {
        name: name.to_owned(),
        expires: Timestamp::from_millis(expires.unwrap_or(i64::MAX)),
        runs: metadata.get(names::RUNS).map(|runs| split_ids(runs)).unwrap_or_default(),
        etag: etag.to_owned(),
    }
}

pub(super) fn key(connection: &Connection, name: &str) -> rusqlite::Result<Option<Key>> {
    connection
        .prepare_cached("SELECT name, expires, runs, etag FROM keys WHERE name = ?1")?
        .query_row([name], read_key)
        .optional()
}

pub(super) fn put_key(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO keys (name, expires, runs, etag) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![key.name, key.expires.as_millis(), join_ids(&key.runs), key.etag])?;
    Ok(())
}

pub(super) fn forget_key(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM keys WHERE name = ?1")?.execute([name])?;
    Ok(())
}

/// Keys that expired by `now`.
pub(super) fn expired_keys(connection: &Connection, now: Timestamp, limit: usize) -> rusqlite::Result<Vec<Key>> {
    let mut statement = connection
        .prepare_cached("SELECT name, expires, runs, etag FROM keys WHERE expires <= ?1 ORDER BY expires LIMIT ?2")?;
    statement.query_map(params![now.as_millis(), limit_of(limit)], read_key)?.collect()
}

fn read_key(row: &SqlRow<'_>) -> rusqlite::Result<Key> {
    Ok(Key {
        name: row.get(0)?,
        expires: Timestamp::from_millis(row.get(1)?),
        runs: split_ids(row.get_ref(2)?.as_str()?),
        etag: row.get(3)?,
    })
}

/// Adds entries to a journal, unless they are known; the oldest beyond its bound go.
pub(super) fn put_journal(
    connection: &Connection,
    kind: JournalKind,
    rows: &[JournalRow],
    sent: bool,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO journal (kind, id, at, what, subject, cause, detail, body, sent)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET sent = max(sent, excluded.sent)",
    )?;
    for JournalRow { id, entry } in rows {
        let detail = serde_json::to_string(&entry.detail).map_err(broken)?;
        insert.execute(params![
            kind.as_str(),
            id,
            entry.at.as_millis(),
            entry.what,
            entry.subject,
            entry.cause,
            detail,
            entry.body.as_ref(),
            sent
        ])?;
    }
    connection
        .prepare_cached(
            "DELETE FROM journal WHERE kind = ?1 AND id <=
             (SELECT id FROM journal WHERE kind = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![kind.as_str(), limit_of(kind.kept_max())])?;
    Ok(())
}

/// A page of a journal, newest first.
pub(super) fn journal(connection: &Connection, query: &JournalQuery) -> rusqlite::Result<Vec<JournalRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at, what, subject, cause, detail, body FROM journal WHERE kind = ?1 AND id < ?2
         AND (?3 IS NULL OR subject = ?3) AND (?4 IS NULL OR cause = ?4) AND (?5 IS NULL OR what = ?5)
         ORDER BY id DESC LIMIT ?6",
    )?;
    let rows = statement.query_map(
        params![
            query.kind.as_str(),
            query.before.unwrap_or(i64::MAX),
            query.subject,
            query.cause,
            query.what,
            limit_of(query.limit)
        ],
        |row| journal_row(query.kind, row),
    )?;
    rows.collect()
}

/// Entries that stand in no blob yet.
pub(super) fn unsent(connection: &Connection, kind: JournalKind, limit: usize) -> rusqlite::Result<Vec<JournalRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at, what, subject, cause, detail, body FROM journal WHERE kind = ?1 AND sent = 0 ORDER BY id LIMIT ?2",
    )?;
    statement.query_map(params![kind.as_str(), limit_of(limit)], |row| journal_row(kind, row))?.collect()
}

/// The newest entry of a journal, and the oldest when it is full.
pub(super) fn journal_ends(connection: &Connection, kind: JournalKind) -> rusqlite::Result<(i64, Option<i64>)> {
    let (newest, oldest, count): (Option<i64>, Option<i64>, i64) = connection
        .prepare_cached("SELECT max(id), min(id), count(*) FROM journal WHERE kind = ?1")?
        .query_row([kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok((newest.unwrap_or(0), oldest.filter(|_| count >= limit_of(kind.kept_max()))))
}

fn journal_row(kind: JournalKind, row: &SqlRow<'_>) -> rusqlite::Result<JournalRow> {
    let entry = JournalEntry {
        kind,
        at: Timestamp::from_millis(row.get(1)?),
        what: row.get(2)?,
        subject: row.get(3)?,
        cause: row.get(4)?,
        detail: serde_json::from_str(row.get_ref(5)?.as_str()?).map_err(broken)?,
        body: row.get::<_, Vec<u8>>(6)?.into(),
    };
    Ok(JournalRow { id: row.get(0)?, entry })
}

/// How far the blob of a journal was read, and the last entry in it.
pub(super) fn journal_blob(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let read: Option<i64> = connection
        .prepare_cached("SELECT length FROM journal_blobs WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(read.unwrap_or(0).cast_unsigned())
}

pub(super) fn put_journal_blob(connection: &Connection, name: &str, length: u64, last: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO journal_blobs VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET length = max(length, excluded.length), last_id = max(last_id, excluded.last_id)",
        )?
        .execute(params![name, i64::try_from(length).unwrap_or(i64::MAX), last])?;
    Ok(())
}

/// Blobs of a journal whose entries are all older than `oldest`.
pub(super) fn old_journal_blobs(connection: &Connection, prefix: &str, oldest: i64) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection
        .prepare_cached("SELECT name FROM journal_blobs WHERE substr(name, 1, length(?1)) = ?1 AND last_id < ?2")?;
    statement.query_map(params![prefix, oldest], |row| row.get(0))?.collect()
}

pub(super) fn forget_journal_blob(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM journal_blobs WHERE name = ?1")?.execute([name])?;
    Ok(())
}

pub(super) fn document(connection: &Connection, revision: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT text FROM documents WHERE revision = ?1")?
        .query_row([revision], |row| row.get(0))
        .optional()
}

pub(super) fn put_document(connection: &Connection, revision: &str, text: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR IGNORE INTO documents VALUES (?1, ?2)")?.execute([revision, text])?;
    Ok(())
}

/// Remembers state that is committed in a log and not yet in its workflow's blob.
pub(super) fn owe_state(connection: &Connection, owed: &Committed) -> rusqlite::Result<()> {
    let changes = serde_json::to_string(&owed.changes).map_err(broken)?;
    connection.prepare_cached("INSERT OR REPLACE INTO owed_states VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        number(owed.run),
        owed.seq.0,
        owed.workflow.as_str(),
        owed.at.as_millis(),
        changes
    ])?;
    Ok(())
}

pub(super) fn paid_state(connection: &Connection, run: RunId, seq: Seq) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM owed_states WHERE run = ?1 AND seq = ?2")?
        .execute(params![number(run), seq.0])?;
    Ok(())
}

/// State that is owed, of one workflow or of all.
pub(super) fn owed_states(connection: &Connection, workflow: Option<&str>) -> rusqlite::Result<Vec<Committed>> {
    let mut statement = connection.prepare_cached(
        "SELECT run, seq, workflow, at, changes FROM owed_states WHERE ?1 IS NULL OR workflow = ?1 ORDER BY at, run, seq",
    )?;
    let rows = statement.query_map([workflow], |row| {
        let workflow: String = row.get(2)?;
        let changes: Map<String, Value> = serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(broken)?;
        let at = Timestamp::from_millis(row.get(3)?);
        let owed = WorkflowName::new(&workflow).ok();
        Ok(owed.map(|workflow| (run_id(row.get(0).unwrap_or(0)), Seq(row.get(1).unwrap_or(0)), at, workflow, changes)))
    })?;
    let mut owed = Vec::new();
    for row in rows {
        owed.extend(row?.map(|(run, seq, at, workflow, changes)| Committed { run, seq, at, workflow, changes }));
    }
    Ok(owed)
}
