//! Retention. What may go is chosen and prepared on a reader; the writer deletes or rewrites it in small steps, each only
//! if the run still is where it was, so that other writes get their turn.

use rusqlite::{Connection, params};

use super::super::class::{Standing, Terms, shape_in, term_class};
use super::super::ready::to_json;
use super::super::{Error, Prune, Pruned};
use super::Sqlite;
use super::read;
use super::trouble::Outcome;
use super::writer::{Tx, number, run_id, run_number};
use crate::clock::Timestamp;
use crate::domain::event::{Entry, Event};
use crate::domain::state::State;
use crate::id::{RunId, Seq};

/// Runs that one step of the writer deletes or strips.
const RUNS_PER_STEP: usize = 16;
/// Pages that one step of the writer gives back to the disk.
const PAGES_PER_STEP: i64 = 64;
/// Pages that one call gives back to the disk.
const PAGES_PER_CALL: i64 = 4096;
/// Free pages that are kept for what comes next, beside a twentieth of the file.
const PAGES_SPARE: i64 = 256;
const DOING: &str = "pruning";

/// Lets old runs, payloads and keys go.
pub(super) async fn prune(store: &Sqlite, prune: Prune) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    let ended = store.show.call(DOING, move |connection| to_delete(connection, &prune)).await?;
    pruned.more |= ended.len() > prune.batch_max;
    for step in ended[..ended.len().min(prune.batch_max)].chunks(RUNS_PER_STEP) {
        let step = step.to_vec();
        let work = move |tx: &mut Tx<'_>| step.iter().try_fold(0, |sum, run| Ok(sum + delete(tx, run)?));
        pruned.runs_deleted += store.writer.call(DOING, work).await?;
    }
    strip(store, &prune, &mut pruned).await?;
    let forget = move |tx: &mut Tx<'_>| tx.memo.keys.forget(tx.connection, prune.now);
    let (forgotten, more) = store.writer.call(DOING, forget).await?;
    pruned.keys_forgotten = forgotten;
    pruned.more |= more;
    pruned.more |= give_back(store).await?;
    Ok(pruned)
}

/// A run that was seen to have ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    run: i64,
    class: i64,
    next: u32,
}

/// Runs past their age; one more than the batch takes when there are more.
fn to_delete(connection: &Connection, prune: &Prune) -> Outcome<Vec<Ended>> {
    let mut found = Vec::new();
    for (state, before) in [
        (State::Succeeded, prune.runs_before),
        (State::Cancelled, prune.runs_before),
        (State::Failed, prune.failed_before),
    ] {
        for standing in Standing::seen_as(state) {
            find_ended(connection, standing, before, prune.batch_max + 1, &mut found)?;
        }
    }
    Ok(found)
}

/// Adds runs of one standing that ended before a moment, oldest first in each class, up to `count_max` in `found`.
fn find_ended(
    connection: &Connection,
    standing: Standing,
    before: Timestamp,
    count_max: usize,
    found: &mut Vec<Ended>,
) -> Outcome<()> {
    let mut first = connection.prepare_cached("SELECT min(class) FROM runs WHERE class >= ?1 AND class < ?2")?;
    // A run cannot end before it was made, so younger ids need not be looked at.
    let mut statement = connection
        .prepare_cached("SELECT id, next FROM runs WHERE class = ?1 AND id < ?2 AND ended < ?3 ORDER BY id LIMIT ?4")?;
    let (mut from, to) = standing.classes();
    while let Some(class) = first.query_row([from, to], |row| row.get::<_, Option<i64>>(0))? {
        from = class + 1;
        let room = count_max.saturating_sub(found.len());
        if room == 0 {
            break;
        }
        let ids_below = run_number(RunId::floor(before));
        let mut rows = statement.query(params![class, ids_below, before.as_millis(), number(room)])?;
        while let Some(row) = rows.next()? {
            found.push(Ended { run: row.get(0)?, class, next: row.get(1)? });
        }
    }
    Ok(())
}

/// Deletes a run if it still is as it was seen. Its delivery key stays for as long as its window lasts.
fn delete(tx: &mut Tx<'_>, ended: &Ended) -> Outcome<usize> {
    let terms = tx
        .connection
        .prepare_cached("DELETE FROM runs WHERE id = ?1 AND class = ?2 AND next = ?3 RETURNING terms")?
        .query_map(params![ended.run, ended.class, ended.next], |row| {
            Ok(Terms::unpack(row.get_ref(0)?.as_blob_or_null()?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let Some(terms) = terms.first() else { return Ok(0) };
    for term in &terms.all {
        tx.connection
            .prepare_cached("DELETE FROM terms WHERE term = ?1 AND class = ?2 AND run = ?3")?
            .execute(params![term.0, term_class(ended.class), ended.run])?;
    }
    for sql in [
        "DELETE FROM arrivals WHERE run = ?1",
        "DELETE FROM appends WHERE run = ?1",
        "DELETE FROM heads WHERE run = ?1",
    ] {
        tx.connection.prepare_cached(sql)?.execute([ended.run])?;
    }
    Ok(1)
}

/// A run's log without its payloads, ready to be written over it.
struct Stripped {
    ended: Ended,
    first: String,
    appends: Vec<(u32, String)>,
}

async fn strip(store: &Sqlite, prune: &Prune, pruned: &mut Pruned) -> Result<(), Error> {
    let mut left = prune.batch_max - pruned.runs_deleted.min(prune.batch_max);
    loop {
        let (before, count) = (prune.payloads_before, left.min(RUNS_PER_STEP));
        // One more than is taken, to know whether there are more.
        let find = move |connection: &Connection| to_strip(connection, before, count);
        let (stripped, more) = store.show.call(DOING, find).await?;
        let found = stripped.len();
        let work = move |tx: &mut Tx<'_>| stripped.iter().try_fold(0, |sum, run| Ok(sum + write_stripped(tx, run)?));
        let written = if found > 0 { store.writer.call(DOING, work).await? } else { 0 };
        pruned.runs_stripped += written;
        left -= found;
        if left == 0 || written == 0 || !more {
            pruned.more |= more;
            return Ok(());
        }
    }
}

fn to_strip(connection: &Connection, before: Timestamp, count: usize) -> Outcome<(Vec<Stripped>, bool)> {
    let mut found = Vec::new();
    for state in [State::Succeeded, State::Cancelled, State::Failed] {
        find_ended(connection, Standing::of(state), before, count + 1, &mut found)?;
    }
    let more = found.len() > count;
    found.truncate(count);
    let stripped = found.into_iter().map(|ended| stripped(connection, ended)).collect::<Result<_, _>>()?;
    Ok((stripped, more))
}

fn stripped(connection: &Connection, ended: Ended) -> Outcome<Stripped> {
    let mut statement = connection.prepare_cached("SELECT seq FROM appends WHERE run = ?1 ORDER BY seq")?;
    let starts = statement.query_map([ended.run], |row| row.get(0))?.collect::<Result<Vec<u32>, _>>()?;
    let mut log = read::log(connection, run_id(ended.run))?.into_iter().map(Entry::without_payloads);
    let first = log.next().map(|entry| to_json(DOING, &entry.event)).transpose()?.unwrap_or_default();
    let events: Vec<(Seq, Event)> = log.map(|entry| (entry.seq, entry.event)).collect();
    let mut appends = Vec::with_capacity(starts.len());
    for (place, start) in starts.iter().enumerate() {
        let end = starts.get(place + 1).copied().unwrap_or(u32::MAX);
        let own = events.iter().filter(|(seq, _)| (*start..end).contains(&seq.0)).map(|(_, event)| event);
        appends.push((*start, to_json(DOING, &own.collect::<Vec<_>>())?));
    }
    Ok(Stripped { ended, first, appends })
}

fn write_stripped(tx: &mut Tx<'_>, run: &Stripped) -> Outcome<usize> {
    let Ended { run: id, class, next } = run.ended;
    let class_after = Standing::in_class(class).stripped().class(shape_in(class));
    let moved = tx
        .connection
        .prepare_cached("UPDATE runs SET class = ?4 WHERE id = ?1 AND class = ?2 AND next = ?3")?
        .execute(params![id, class, next, class_after])?;
    if moved == 0 {
        return Ok(0);
    }
    tx.connection
        .prepare_cached("UPDATE arrivals SET event = ?2, body = x'' WHERE run = ?1")?
        .execute(params![id, run.first])?;
    for (seq, events) in &run.appends {
        tx.connection
            .prepare_cached("UPDATE appends SET events = ?3 WHERE run = ?1 AND seq = ?2")?
            .execute(params![id, seq, events])?;
    }
    Ok(1)
}

/// Gives free pages beyond a reserve back to the disk; true when there are more.
async fn give_back(store: &Sqlite) -> Result<bool, Error> {
    for _ in 0..PAGES_PER_CALL / PAGES_PER_STEP {
        let given = store.writer.call(DOING, |tx: &mut Tx<'_>| give_back_step(tx)).await?;
        if given < PAGES_PER_STEP {
            return Ok(false);
        }
    }
    Ok(true)
}

fn give_back_step(tx: &mut Tx<'_>) -> Outcome<i64> {
    let pragma = |sql| tx.connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let free = pragma("PRAGMA freelist_count")?;
    let kept = PAGES_SPARE.max(pragma("PRAGMA page_count")? / 20);
    let given = (free - kept).clamp(0, PAGES_PER_STEP);
    if given > 0 {
        // The pragma takes no parameters. It gives back one page for each row that is read.
        let mut statement = tx.connection.prepare(&format!("PRAGMA incremental_vacuum({given})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(given)
}
