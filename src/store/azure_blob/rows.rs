//! Rows of runs in the index: written from logs, found by lists.

use bytes::Bytes;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params, params_from_iter};

use super::super::RunQuery;
use crate::clock::Timestamp;
use crate::domain::run::RunHead;
use crate::domain::state::State;
use crate::domain::trigger::TriggerKind;
use crate::id::{RunId, Seq};
use crate::limits;

/// Where the log of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing was appended yet: in its delivery.
    Delivery,
    /// In an append blob of its own.
    Log,
    /// Rewritten into one piece, by retention or because it had too many blocks.
    Cold,
}

/// What the index knows of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) head: RunHead,
    pub(super) next: Seq,
    pub(super) place: Place,
    /// Bytes of the append blob; 0 elsewhere.
    pub(super) length: u64,
    pub(super) etag: String,
    pub(super) blocks: u32,
    pub(super) stripped: bool,
    pub(super) key: Option<String>,
    /// The blob that marks it as open.
    pub(super) marker: Option<String>,
    /// Its log, when it has not ended and is not large.
    pub(super) log: Option<Bytes>,
}

impl Row {
    pub(super) fn is_open(&self) -> bool {
        !self.head.state.is_ended()
    }

    /// The row without a log that need not be kept.
    #[must_use]
    pub(super) fn lean(mut self) -> Self {
        let keep =
            self.is_open() && self.log.as_ref().is_some_and(|log| log.len() <= limits::BLOB_LOG_CACHED_BYTES_MAX);
        self.log = self.log.filter(|_| keep);
        self
    }
}

/// A run that was found in the queue.
pub(super) struct Found {
    pub(super) id: RunId,
    pub(super) log: Option<Bytes>,
}

const COLUMNS: &str = "head, next, place, length, etag, blocks, stripped, key, marker, log";

/// Writes a row unless a newer one is there. `theirs` is when it was learned from another gateway; an own write shows a
/// parked run again, as every append does.
pub(super) fn put(connection: &Connection, row: &Row, theirs: Option<Timestamp>) -> rusqlite::Result<()> {
    let head = serde_json::to_string(&row.head).map_err(broken)?;
    let known: Option<(i64, Option<String>, i64)> = connection
        .prepare_cached("SELECT next, lane, theirs FROM runs WHERE id = ?1")?
        .query_row([number(row.head.id)], |known| Ok((known.get(0)?, known.get(1)?, known.get(2)?)))
        .optional()?;
    let next = i64::from(row.next.0);
    let (mut lane, mut since) = (None, theirs.map(Timestamp::as_millis));
    if let Some((known_next, known_lane, known_since)) = known {
        if known_next > next {
            return Ok(());
        }
        if known_next == next {
            lane = known_lane;
            since = since.map(|_| known_since);
        }
    }
    let head_of = &row.head;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO runs (id, workflow, state, trigger, source, cause, due, ended, lane, next, place,
             length, etag, blocks, stripped, theirs, key, marker, log, head)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        )?
        .execute(params![
            number(head_of.id),
            head_of.workflow.as_str(),
            state_code(head_of.state),
            trigger_code(head_of.trigger),
            head_of.source,
            head_of.cause,
            // A run that is held until somebody lets it go has no moment.
            head_of.due.map(Timestamp::as_millis).filter(|due| *due != i64::MAX),
            head_of.ended_at.map(Timestamp::as_millis),
            lane,
            next,
            row.place as i64,
            i64::try_from(row.length).unwrap_or(i64::MAX),
            row.etag,
            row.blocks,
            row.stripped,
            since.unwrap_or(0),
            row.key,
            row.marker,
            row.log.as_deref(),
            head,
        ])?;
    connection.prepare_cached("DELETE FROM labels WHERE run = ?1")?.execute([number(head_of.id)])?;
    let mut label = connection.prepare_cached("INSERT OR IGNORE INTO labels VALUES (?1, ?2, ?3)")?;
    for (name, value) in &head_of.labels {
        label.execute(params![name, value, number(head_of.id)])?;
    }
    Ok(())
}

pub(super) fn get(connection: &Connection, run: RunId) -> rusqlite::Result<Option<Row>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM runs WHERE id = ?1"))?
        .query_row([number(run)], read)
        .optional()
}

pub(super) fn remove(connection: &Connection, run: RunId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([number(run)])?;
    connection.prepare_cached("DELETE FROM labels WHERE run = ?1")?.execute([number(run)])?;
    Ok(())
}

/// Queued runs that are not parked, oldest first. Those that another gateway accepted are left to it for a while.
pub(super) fn queued(
    connection: &Connection,
    after: Option<RunId>,
    theirs_before: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<Found>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, log FROM runs WHERE state = ?1 AND id > ?2 AND lane IS NULL AND theirs <= ?3 ORDER BY id LIMIT ?4",
    )?;
    let from = after.map_or(-1, number);
    let found = statement
        .query_map(params![state_code(State::Queued), from, theirs_before.as_millis(), limit_of(limit)], found)?;
    found.collect()
}

/// The oldest run that is parked in a lane.
pub(super) fn parked(connection: &Connection, lane: &str) -> rusqlite::Result<Option<Found>> {
    connection
        .prepare_cached("SELECT id, log FROM runs WHERE lane = ?1 ORDER BY id LIMIT 1")?
        .query_row([lane], found)
        .optional()
}

/// Parks a queued run; false when it is not known.
pub(super) fn park(connection: &Connection, run: RunId, lane: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("UPDATE runs SET lane = ?1 WHERE id = ?2 AND state = ?3")?.execute(params![
        lane,
        number(run),
        state_code(State::Queued)
    ])?;
    connection.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?.exists([number(run)])
}

pub(super) fn unpark_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE runs SET lane = NULL WHERE lane IS NOT NULL", []).map(|_| ())
}

/// Runs whose moment has come, soonest first, and the next moment after `now`.
pub(super) fn due(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<(Vec<RunHead>, Option<Timestamp>)> {
    let mut statement = connection.prepare_cached("SELECT head FROM runs WHERE due <= ?1 ORDER BY due, id LIMIT ?2")?;
    let heads = statement.query_map(params![now.as_millis(), limit_of(limit)], head)?.collect::<Result<_, _>>()?;
    let next: Option<i64> = connection
        .prepare_cached("SELECT min(due) FROM runs WHERE due > ?1")?
        .query_row([now.as_millis()], |row| row.get(0))?;
    Ok((heads, next.map(Timestamp::from_millis)))
}

/// A page of runs, newest first.
pub(super) fn list(connection: &Connection, query: &RunQuery) -> rusqlite::Result<Vec<RunHead>> {
    let mut sql = String::from("SELECT head FROM runs WHERE id >= ? AND id < ?");
    let ids = query.ids();
    let mut values = vec![Sql::Integer(ids.start.cast_signed()), Sql::Integer(ids.end.cast_signed())];
    let mut also = |condition: &str, wanted: Vec<Sql>| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.extend(wanted);
    };
    if let Some(workflow) = &query.workflow {
        also("workflow = ?", vec![Sql::Text(workflow.as_str().to_owned())]);
    }
    if !query.states.is_empty() {
        let marks = vec!["?"; query.states.len()].join(", ");
        let states = query.states.iter().map(|state| Sql::Integer(state_code(*state))).collect();
        // Ended runs are most of all: to sort them costs more than to walk over the others.
        let by_id = query.states.len() > 1 && query.states.iter().any(|state| state.is_ended());
        also(&format!("{}state IN ({marks})", if by_id { "+" } else { "" }), states);
    }
    if let Some(trigger) = query.trigger {
        also("trigger = ?", vec![Sql::Integer(trigger_code(trigger))]);
    }
    if let Some(source) = &query.source {
        also("source = ?", vec![Sql::Text(source.clone())]);
    }
    if let Some(cause) = &query.cause {
        also("cause = ?", vec![Sql::Text(cause.clone())]);
    }
    for (name, value) in &query.labels {
        let label = vec![Sql::Text(name.clone()), Sql::Text(value.clone())];
        also("id IN (SELECT run FROM labels WHERE name = ? AND value = ?)", label);
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    values.push(Sql::Integer(limit_of(query.limit)));
    let mut statement = connection.prepare_cached(&sql)?;
    let heads = statement.query_map(params_from_iter(values), head)?;
    heads.collect()
}

pub(super) fn open_counts(connection: &Connection) -> rusqlite::Result<Vec<(State, u64)>> {
    let mut statement = connection.prepare_cached("SELECT count(*) FROM runs WHERE state = ?1")?;
    let open = State::ALL.into_iter().filter(|state| !state.is_ended());
    open.map(|state| Ok((state, statement.query_row([state_code(state)], |row| row.get::<_, i64>(0))?.cast_unsigned())))
        .collect()
}

/// The ids of all runs that have not ended, with their `next`.
pub(super) fn open_ids(connection: &Connection) -> rusqlite::Result<Vec<RunId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM runs WHERE ended IS NULL")?;
    statement.query_map([], |row| row.get(0).map(run_id))?.collect()
}

/// The tags under which the logs of runs are known, by run, within these ids.
pub(super) fn tags(connection: &Connection, from: RunId, to: RunId) -> rusqlite::Result<Vec<(RunId, Place, String)>> {
    let mut statement = connection.prepare_cached("SELECT id, place, etag FROM runs WHERE id >= ?1 AND id <= ?2")?;
    let rows = statement
        .query_map([number(from), number(to)], |row| Ok((run_id(row.get(0)?), place_of(row.get(1)?), row.get(2)?)))?;
    rows.collect()
}

/// Ended runs that retention lets go, at most `limit`: each with whether it goes for good.
pub(super) fn ended(
    connection: &Connection,
    prune: &super::super::Prune,
    limit: usize,
) -> rusqlite::Result<Vec<(Row, bool)>> {
    // One walk over each index, instead of one over all that has ended.
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS}, max(for_good) FROM (
             SELECT id AS old, 1 AS for_good FROM runs WHERE state = ?1 AND ended < ?2
             UNION ALL SELECT id, 1 FROM runs WHERE state IN (?3, ?4) AND ended < ?5
             UNION ALL SELECT id, 0 FROM runs WHERE stripped = 0 AND ended < ?6
         ) JOIN runs ON runs.id = old GROUP BY old ORDER BY old LIMIT ?7"
    ))?;
    let rows = statement.query_map(
        params![
            state_code(State::Failed),
            prune.failed_before.as_millis(),
            state_code(State::Succeeded),
            state_code(State::Cancelled),
            prune.runs_before.as_millis(),
            prune.payloads_before.as_millis(),
            limit_of(limit),
        ],
        |row| Ok((read(row)?, row.get(10)?)),
    )?;
    rows.collect()
}

/// Whether each of these runs is known to have a log of its own.
pub(super) fn all_begun(connection: &Connection, runs: &[RunId]) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM runs WHERE id = ?1 AND place <> 0")?;
    for run in runs {
        if !statement.exists([number(*run)])? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        head: head(row)?,
        next: Seq(row.get(1)?),
        place: place_of(row.get(2)?),
        length: row.get::<_, i64>(3)?.cast_unsigned(),
        etag: row.get(4)?,
        blocks: row.get(5)?,
        stripped: row.get(6)?,
        key: row.get(7)?,
        marker: row.get(8)?,
        log: row.get::<_, Option<Vec<u8>>>(9)?.map(Bytes::from),
    })
}

fn found(row: &SqlRow<'_>) -> rusqlite::Result<Found> {
    Ok(Found { id: run_id(row.get(0)?), log: row.get::<_, Option<Vec<u8>>>(1)?.map(Bytes::from) })
}

fn head(row: &SqlRow<'_>) -> rusqlite::Result<RunHead> {
    serde_json::from_str(row.get_ref(0)?.as_str()?).map_err(broken)
}

fn place_of(code: i64) -> Place {
    match code {
        0 => Place::Delivery,
        1 => Place::Log,
        _ => Place::Cold,
    }
}

/// A value of ours that the index cannot hold, or no longer read.
pub(super) fn broken(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

pub(super) fn number(run: RunId) -> i64 {
    run.as_u64().cast_signed()
}

pub(super) fn run_id(number: i64) -> RunId {
    RunId::from_u64(number.cast_unsigned())
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn state_code(state: State) -> i64 {
    State::ALL.iter().position(|other| *other == state).map_or(-1, limit_of)
}

fn trigger_code(trigger: TriggerKind) -> i64 {
    TriggerKind::ALL.iter().position(|other| *other == trigger).map_or(-1, limit_of)
}
