//! What is read: logs, heads, the queue, what is due, and the small things beside the runs.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

use super::super::class::Standing;
use super::super::{Error, JournalQuery, Queued};
use super::commands::journal_code;
use super::list::{Candidates, Direction};
use super::trouble::{Outcome, Trouble};
use super::writer::{number, run_id, run_number};
use crate::clock::Timestamp;
use crate::domain::event::{Entry, Event};
use crate::domain::journal::{JournalEntry, JournalRow};
use crate::domain::run::{Run, RunHead};
use crate::domain::state::State;
use crate::id::{RunId, Seq};

/// The whole log of a run.
pub(super) fn log(connection: &Connection, run: RunId) -> Outcome<Vec<Entry>> {
    let first = connection
        .prepare_cached("SELECT at, event, body FROM arrivals WHERE run = ?1")?
        .query_row([run_number(run)], |row| {
            let event = row.get_ref(1)?.as_str().map(serde_json::from_str::<Event>)?;
            Ok((Timestamp::from_millis(row.get(0)?), event, row.get::<_, Vec<u8>>(2)?))
        })
        .optional()?;
    let (at, event, body) = first.ok_or(Error::NoRun(run))?;
    let mut log = vec![Entry { seq: Seq(0), at, event: event?, body: Bytes::from(body) }];
    let mut statement = connection.prepare_cached("SELECT seq, at, events FROM appends WHERE run = ?1 ORDER BY seq")?;
    let mut rows = statement.query([run_number(run)])?;
    while let Some(row) = rows.next()? {
        let seq = Seq(row.get(0)?);
        let at = Timestamp::from_millis(row.get(1)?);
        let events: Vec<Event> = serde_json::from_str(row.get_ref(2)?.as_str()?)?;
        let entry = |(place, event)| Entry { seq: seq.plus(place), at, event, body: Bytes::new() };
        log.extend(events.into_iter().enumerate().map(entry));
    }
    Ok(log)
}

/// What lists know of a run: written by its last append, or folded from its log when that wrote none.
pub(super) fn head(connection: &Connection, run: RunId) -> Outcome<RunHead> {
    let stored = connection
        .prepare_cached(
            "SELECT head FROM heads JOIN runs ON runs.id = heads.run WHERE run = ?1 AND heads.next = runs.next",
        )?
        .query_row([run_number(run)], |row| Ok(row.get_ref(0)?.as_str().map(serde_json::from_str::<RunHead>)?))
        .optional()?;
    if let Some(head) = stored {
        return Ok(head?);
    }
    let run = Run::fold(run, log(connection, run)?).map_err(|error| Trouble::Broken(error.to_string()))?;
    Ok(run.head())
}

/// Queued runs that are not parked, oldest first.
pub(super) fn queued(connection: &Connection, after: Option<RunId>, limit: usize) -> Outcome<Vec<Queued>> {
    let from = after.map_or(0, |after| after.as_u64() + 1);
    let mut candidates = Candidates::new(from..u64::MAX >> 1, Direction::Oldest, limit);
    candidates.add_standing(connection, Standing::QUEUED)?;
    let mut queued = Vec::new();
    while queued.len() < limit
        && let Some(id) = candidates.next(connection)?
    {
        queued.push(Queued { id, log: log(connection, id)? });
    }
    Ok(queued)
}

/// Runs whose moment has come, soonest first, and the next moment after `now`.
pub(super) fn due(connection: &Connection, now: Timestamp, limit: usize) -> Outcome<(Vec<RunHead>, Option<Timestamp>)> {
    let now = now.as_millis();
    let mut statement = connection.prepare_cached("SELECT id FROM runs WHERE due <= ?1 ORDER BY due, id LIMIT ?2")?;
    let ids = statement.query_map(params![now, number(limit)], |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?;
    let heads = ids.into_iter().map(|id| head(connection, run_id(id))).collect::<Result<_, _>>()?;
    let next: Option<i64> =
        connection.prepare_cached("SELECT min(due) FROM runs WHERE due > ?1")?.query_row([now], |row| row.get(0))?;
    Ok((heads, next.map(Timestamp::from_millis)))
}

/// The oldest run parked in a lane.
pub(super) fn parked(connection: &Connection, lane: &str) -> Outcome<Option<Queued>> {
    let oldest: Option<i64> =
        connection.prepare_cached("SELECT min(id) FROM runs WHERE lane = ?1")?.query_row([lane], |row| row.get(0))?;
    let Some(id) = oldest.map(run_id) else { return Ok(None) };
    Ok(Some(Queued { id, log: log(connection, id)? }))
}

/// How many runs are in each state that has not ended.
pub(super) fn open_counts(connection: &Connection) -> Outcome<Vec<(State, u64)>> {
    let mut statement = connection.prepare_cached("SELECT count(*) FROM runs WHERE class >= ?1 AND class < ?2")?;
    let mut counts = Vec::new();
    for state in State::ALL.into_iter().filter(|state| !state.is_ended()) {
        let mut count = 0;
        for standing in Standing::seen_as(state) {
            let (from, to) = standing.classes();
            count += statement.query_row([from, to], |row| row.get::<_, i64>(0))?.cast_unsigned();
        }
        counts.push((state, count));
    }
    Ok(counts)
}

/// A page of a journal, newest first.
pub(super) fn journal(connection: &Connection, query: &JournalQuery) -> Outcome<Vec<JournalRow>> {
    let kind = journal_code(query.kind);
    // Two texts, so that each is planned for the index it can use.
    let by_subject = "SELECT id, at, what, subject, cause, detail, body FROM journal
         WHERE kind = ?1 AND subject = ?2 AND id < ?3 AND (?4 IS NULL OR cause = ?4) AND (?5 IS NULL OR what = ?5)
         ORDER BY id DESC LIMIT ?6";
    let by_time = "SELECT id, at, what, subject, cause, detail, body FROM journal
         WHERE kind = ?1 AND ?2 IS NULL AND id < ?3 AND (?4 IS NULL OR cause = ?4) AND (?5 IS NULL OR what = ?5)
         ORDER BY id DESC LIMIT ?6";
    let mut statement = connection.prepare_cached(if query.subject.is_some() { by_subject } else { by_time })?;
    let mut rows = statement.query(params![
        kind,
        query.subject,
        query.before.unwrap_or(i64::MAX),
        query.cause,
        query.what,
        number(query.limit)
    ])?;
    let mut journal = Vec::new();
    while let Some(row) = rows.next()? {
        journal.push(journal_row(query, row)?);
    }
    Ok(journal)
}

fn journal_row(query: &JournalQuery, row: &Row<'_>) -> Outcome<JournalRow> {
    let entry = JournalEntry {
        kind: query.kind,
        at: Timestamp::from_millis(row.get(1)?),
        what: row.get(2)?,
        subject: row.get(3)?,
        cause: row.get(4)?,
        detail: serde_json::from_str(row.get_ref(5)?.as_str()?)?,
        body: Bytes::from(row.get::<_, Vec<u8>>(6)?),
    };
    Ok(JournalRow { id: row.get(0)?, entry })
}

/// The text behind a content hash.
pub(super) fn document(connection: &Connection, revision: &str) -> Outcome<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT text FROM documents WHERE revision = ?1")?;
    Ok(statement.query_row([revision], |row| row.get(0)).optional()?)
}

/// The marks whose names start with `prefix`.
pub(super) fn marks(connection: &Connection, prefix: &str) -> Outcome<Vec<(String, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, value FROM marks WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1 ORDER BY name",
    )?;
    let marks = statement.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(marks.collect::<Result<_, _>>()?)
}

/// The state of a workflow.
pub(super) fn state(connection: &Connection, workflow: &str) -> Outcome<Map<String, Value>> {
    let mut statement =
        connection.prepare_cached("SELECT name, value FROM states WHERE workflow = ?1 ORDER BY name")?;
    let mut rows = statement.query([workflow])?;
    let mut state = Map::new();
    while let Some(row) = rows.next()? {
        let value = serde_json::from_str(row.get_ref(1)?.as_str()?)?;
        state.insert(row.get(0)?, value);
    }
    Ok(state)
}
