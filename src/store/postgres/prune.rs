//! Retention: partitions in which everything may go are dropped, single runs are deleted, payloads stripped and keys
//! forgotten in small transactions. Each run is touched only if it still is as it was seen, and those that somebody has
//! locked are left for the next call; so any number of gateways may do this at the same time.

use tokio_postgres::Row;

use super::super::class::{Standing, shape_in};
use super::super::ready::to_json;
use super::super::{Prune, Pruned};
use super::session::{Connector, Session, span};
use super::shapes::Shapes;
use super::trouble::Outcome;
use super::{number, partitions, read};
use crate::clock::Timestamp;
use crate::domain::event::{Entry, Event};
use crate::domain::state::State;
use crate::id::RunId;
use crate::limits;

/// What callers are told they were doing.
pub(super) const DOING: &str = "pruning";
/// Runs that one transaction deletes or strips: others may want their rows.
const RUNS_PER_STEP: usize = 25;

/// Lets old runs, payloads and keys go.
pub(super) async fn prune(session: &Session, shapes: &Shapes, prune: &Prune) -> Outcome<Pruned> {
    let mut pruned = Pruned::default();
    let shapes: Vec<i64> = shapes.all(session).await?.into_iter().map(|(_, number)| number).collect();
    pruned.runs_deleted += drop_partitions(session, prune).await?;
    let aged = [
        (State::Succeeded, prune.runs_before),
        (State::Cancelled, prune.runs_before),
        (State::Failed, prune.failed_before),
    ];
    let standings =
        aged.iter().flat_map(|(state, before)| Standing::seen_as(*state).map(|standing| (standing, *before)));
    let found = ended(session, &shapes, standings, prune.batch_max + 1).await?;
    pruned.more |= found.len() > prune.batch_max;
    let batch = &found[..found.len().min(prune.batch_max)];
    for step in batch.chunks(RUNS_PER_STEP) {
        pruned.runs_deleted += session.in_transaction(delete(session, step)).await?;
    }
    let left = prune.batch_max - batch.len();
    let standings = [State::Succeeded, State::Cancelled, State::Failed];
    let standings = standings.map(|state| (Standing::of(state), prune.payloads_before));
    let found = ended(session, &shapes, standings, left + 1).await?;
    pruned.more |= found.len() > left;
    for step in found[..found.len().min(left)].chunks(RUNS_PER_STEP) {
        pruned.runs_stripped += session.in_transaction(strip(session, step)).await?;
    }
    let forgotten = forget_keys(session, prune.now).await?;
    pruned.keys_forgotten = forgotten;
    pruned.more |= forgotten == limits::POSTGRES_KEYS_FORGOTTEN_MAX;
    Ok(pruned)
}

/// Gives space of old partitions back to the disk, when nothing else is left to do.
pub(super) async fn give_back(connector: &Connector, now: Timestamp) -> Outcome<bool> {
    partitions::rewrite_one(connector, now).await
}

async fn drop_partitions(session: &Session, prune: &Prune) -> Outcome<usize> {
    let Prune { runs_before, failed_before, .. } = *prune;
    let mut dropped = 0;
    for partition in partitions::below(session, RunId::floor(runs_before.min(failed_before))).await? {
        if let Some(runs) = partitions::drop_whole(session, &partition, runs_before, failed_before).await? {
            tracing::info!(partition = partition.name, runs, "a partition was dropped: everything in it was let go");
            dropped += runs;
        }
    }
    Ok(dropped)
}

/// A run that was seen to have ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    run: i64,
    class: i64,
    next: i64,
}

/// Runs of these standings that ended before these moments, oldest first in each class.
async fn ended(
    session: &Session,
    shapes: &[i64],
    standings: impl IntoIterator<Item = (Standing, Timestamp)>,
    count_max: usize,
) -> Outcome<Vec<Ended>> {
    let (mut classes, mut befores, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for (standing, before) in standings {
        for shape in shapes {
            classes.push(standing.class(*shape));
            befores.push(before.as_millis());
            // A run cannot end before it was made, so younger ids need not be looked at.
            ids.push(super::run_number(RunId::floor(before)));
        }
    }
    let sql = "SELECT r.id, c.class, r.next FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS c (class, before, past) \
               CROSS JOIN LATERAL (SELECT id, next FROM clawhook.runs \
               WHERE class = c.class AND id < c.past AND ended < c.before ORDER BY id LIMIT $4) r LIMIT $4";
    let rows = session.query(sql, &[&classes, &befores, &ids, &number(count_max)]).await?;
    Ok(rows.iter().map(|row| Ended { run: row.get(0), class: row.get(1), next: row.get(2) }).collect())
}

/// Locks those of the runs that still are as they were seen, in the order of their ids.
async fn hold(session: &Session, step: &[Ended]) -> Outcome<Vec<Row>> {
    let runs: Vec<i64> = step.iter().map(|ended| ended.run).collect();
    let classes: Vec<i64> = step.iter().map(|ended| ended.class).collect();
    let nexts: Vec<i64> = step.iter().map(|ended| ended.next).collect();
    let (first, last) = span(&runs);
    let sql = "SELECT r.id, r.class FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS v (id, class, next) \
               JOIN clawhook.runs r ON r.id = v.id AND r.class = v.class AND r.next = v.next \
               WHERE r.id = ANY($1) AND r.id BETWEEN $4 AND $5 ORDER BY r.id FOR UPDATE OF r SKIP LOCKED";
    session.query(sql, &[&runs, &classes, &nexts, &first, &last]).await
}

/// Deletes runs. Their delivery keys stay for as long as their windows last.
async fn delete(session: &Session, step: &[Ended]) -> Outcome<usize> {
    let held = hold(session, step).await?;
    let runs: Vec<i64> = held.iter().map(|row| row.get(0)).collect();
    let (first, last) = span(&runs);
    for sql in [
        "DELETE FROM clawhook.terms WHERE run = ANY($1::bigint[]) AND run BETWEEN $2 AND $3",
        "DELETE FROM clawhook.log WHERE run = ANY($1::bigint[]) AND run BETWEEN $2 AND $3",
        "DELETE FROM clawhook.runs WHERE id = ANY($1::bigint[]) AND id BETWEEN $2 AND $3",
    ] {
        session.execute(sql, &[&runs, &first, &last]).await?;
    }
    partitions::touched(session, &runs).await?;
    Ok(runs.len())
}

/// Writes runs without their payloads over them.
async fn strip(session: &Session, step: &[Ended]) -> Outcome<usize> {
    let held = hold(session, step).await?;
    let runs: Vec<i64> = held.iter().map(|row| row.get(0)).collect();
    let stripped = |class| Standing::in_class(class).stripped().class(shape_in(class));
    let classes: Vec<i64> = held.iter().map(|row| stripped(row.get(1))).collect();
    let (mut ids, mut seqs, mut events) = (Vec::new(), Vec::new(), Vec::new());
    let sql = "SELECT run, seq, at, events, NULL::bytea FROM clawhook.log \
               WHERE run = ANY($1::bigint[]) AND run BETWEEN $2 AND $3";
    let (first, last) = span(&runs);
    for row in session.query(sql, &[&runs, &first, &last]).await? {
        let entries = read::entries(&row)?.into_iter().map(Entry::without_payloads);
        let own: Vec<Event> = entries.map(|entry| entry.event).collect();
        ids.push(row.get::<_, i64>(0));
        seqs.push(row.get::<_, i64>(1));
        events.push(to_json(DOING, &own)?);
    }
    let sql = "UPDATE clawhook.log AS l SET events = v.events, body = NULL \
               FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS v (run, seq, events) \
               WHERE l.run = v.run AND l.seq = v.seq AND l.run = ANY($1) AND l.run BETWEEN $4 AND $5";
    session.execute(sql, &[&ids, &seqs, &events, &first, &last]).await?;
    let sql = "UPDATE clawhook.runs AS r SET class = v.class FROM unnest($1::bigint[], $2::bigint[]) AS v (id, class) \
               WHERE r.id = v.id AND r.id = ANY($1) AND r.id BETWEEN $3 AND $4";
    session.execute(sql, &[&runs, &classes, &first, &last]).await?;
    partitions::touched(session, &runs).await?;
    Ok(runs.len())
}

/// Lets keys go whose windows are over.
async fn forget_keys(session: &Session, now: Timestamp) -> Outcome<usize> {
    let sql = "DELETE FROM clawhook.keys WHERE key = ANY(ARRAY(SELECT key FROM clawhook.keys WHERE expires <= $1 \
               ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED))";
    let gone = session.execute(sql, &[&now.as_millis(), &number(limits::POSTGRES_KEYS_FORGOTTEN_MAX)]).await?;
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}
