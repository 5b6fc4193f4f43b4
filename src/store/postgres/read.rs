//! What is read: logs, heads, the queue, and what is due.

use std::collections::HashMap;

use bytes::Bytes;
use tokio_postgres::Row;

use super::super::class::Standing;
use super::super::{Error, Queued};
use super::session::{Session, span};
use super::trouble::{Outcome, Trouble};
use super::{number, run_id, run_number};
use crate::clock::Timestamp;
use crate::domain::event::{Entry, Event};
use crate::domain::run::{Run, RunHead};
use crate::domain::state::State;
use crate::id::{RunId, Seq};
use crate::limits;

/// The whole log of a run, in one snapshot.
pub(super) async fn log(session: &Session, run: RunId) -> Outcome<Vec<Entry>> {
    let mut logs = logs(session, &[run_number(run)], LOGS).await?;
    logs.remove(&run_number(run)).ok_or(Trouble::Refused(Error::NoRun(run)))
}

const LOGS: &str = "SELECT run, seq, at, events, body FROM clawhook.log WHERE run = ANY($1::bigint[]) \
    AND run BETWEEN $2 AND $3 ORDER BY run, seq";
/// For folding a head, which takes nothing from the body.
const LOGS_WITHOUT_BODIES: &str = "SELECT run, seq, at, events, NULL::bytea FROM clawhook.log WHERE run = ANY($1::bigint[]) \
    AND run BETWEEN $2 AND $3 ORDER BY run, seq";

async fn logs(session: &Session, runs: &[i64], sql: &'static str) -> Outcome<HashMap<i64, Vec<Entry>>> {
    let mut logs: HashMap<i64, Vec<Entry>> = HashMap::new();
    let (first, last) = span(runs);
    for row in session.query(sql, &[&runs, &first, &last]).await? {
        logs.entry(row.get(0)).or_default().extend(entries(&row)?);
    }
    Ok(logs)
}

/// The events of one row of a log: run, seq, at, events, body.
pub(super) fn entries(row: &Row) -> Outcome<Vec<Entry>> {
    let first = u32::try_from(row.get::<_, i64>(1));
    let first = Seq(first.map_err(|_| Trouble::Broken("a stored place in a log is out of range".into()))?);
    let at = Timestamp::from_millis(row.get(2));
    let events: Vec<Event> = serde_json::from_str(row.get(3))?;
    let mut body = Bytes::from(row.get::<_, Option<Vec<u8>>>(4).unwrap_or_default());
    let entry = |(place, event)| Entry { seq: first.plus(place), at, event, body: std::mem::take(&mut body) };
    Ok(events.into_iter().enumerate().map(entry).collect())
}

/// What lists know of runs, in the order of `runs`: written by the last append, or folded from the log where that wrote
/// none. Runs that are gone are left out.
pub(super) async fn heads(session: &Session, runs: &[i64]) -> Outcome<Vec<RunHead>> {
    let sql = "SELECT r.id, l.head FROM clawhook.runs r JOIN clawhook.log l ON l.run = r.id AND l.seq = r.last \
               WHERE r.id = ANY($1::bigint[]) AND r.id BETWEEN $2 AND $3 \
               AND l.run = ANY($1::bigint[]) AND l.run BETWEEN $2 AND $3";
    let (first, last) = span(runs);
    let mut heads = HashMap::new();
    for row in session.query(sql, &[&runs, &first, &last]).await? {
        if let Some(head) = row.get::<_, Option<&str>>(1) {
            heads.insert(row.get::<_, i64>(0), serde_json::from_str::<RunHead>(head)?);
        }
    }
    let folded: Vec<i64> = runs.iter().copied().filter(|id| !heads.contains_key(id)).collect();
    if !folded.is_empty() {
        for (id, log) in logs(session, &folded, LOGS_WITHOUT_BODIES).await? {
            let run = Run::fold(run_id(id), log).map_err(|error| Trouble::Broken(error.to_string()))?;
            heads.insert(id, run.head());
        }
    }
    Ok(runs.iter().filter_map(|id| heads.remove(id)).collect())
}

/// Queued runs that are not parked, oldest first. What is read here is offered to this gateway for a moment: others pass
/// it over, and rows that another has locked, because it claims them just now or reads them itself, are passed over
/// here. So gateways share the queue instead of racing for its front. Claiming is still by append alone.
pub(super) async fn queued(session: &Session, me: i64, after: Option<RunId>, limit: usize) -> Outcome<Vec<Queued>> {
    let sql = "UPDATE clawhook.runs SET offered_to = $2, offered_until = now() + make_interval(secs => $4) \
               WHERE id > $1 AND id = ANY(ARRAY(SELECT id FROM clawhook.runs WHERE class < 4294967296 AND id > $1 \
               AND (offered_to IS NULL OR offered_to = $2 OR offered_until < now()) \
               ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING id";
    let after = after.map_or(-1, run_number);
    let rows = session.query(sql, &[&after, &me, &number(limit), &limits::POSTGRES_OFFER.as_secs_f64()]).await?;
    let mut ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    ids.sort_unstable();
    let mut logs = logs(session, &ids, LOGS).await?;
    Ok(ids.iter().filter_map(|id| Some(Queued { id: run_id(*id), log: logs.remove(id)? })).collect())
}

/// Runs whose moment has come, soonest first, and the next moment after `now`.
pub(super) async fn due(session: &Session, now: Timestamp, limit: usize) -> Outcome<(Vec<RunHead>, Option<Timestamp>)> {
    let sql = "SELECT id FROM clawhook.runs WHERE due IS NOT NULL AND due <= $1 ORDER BY due, id LIMIT $2";
    let rows = session.query(sql, &[&now.as_millis(), &number(limit)]).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let heads = if ids.is_empty() { Vec::new() } else { heads(session, &ids).await? };
    let sql = "SELECT due FROM clawhook.runs WHERE due IS NOT NULL AND due > $1 ORDER BY due, id LIMIT 1";
    let next = session.query(sql, &[&now.as_millis()]).await?;
    Ok((heads, next.first().map(|row| Timestamp::from_millis(row.get(0)))))
}

/// Hides a queued run until its lane is free.
pub(super) async fn park(session: &Session, me: i64, run: RunId, lane: &str) -> Outcome<()> {
    // Standings 0 and 7 are queued and parked.
    let sql = "UPDATE clawhook.runs SET class = (7::bigint << 32) | (class & 4294967295), lane = $2, parked_by = $3, \
               offered_to = NULL, offered_until = NULL WHERE id = $1 AND class >> 32 IN (0, 7)";
    if session.execute(sql, &[&run_number(run), &lane.as_bytes(), &me]).await? == 0 {
        let sql = "SELECT 1 FROM clawhook.runs WHERE id = $1";
        if session.query(sql, &[&run_number(run)]).await?.is_empty() {
            return Err(Error::NoRun(run).into());
        }
    }
    Ok(())
}

/// The oldest run parked in a lane.
pub(super) async fn parked(session: &Session, lane: &str) -> Outcome<Option<Queued>> {
    let sql = "SELECT id FROM clawhook.runs WHERE lane IS NOT NULL AND lane = $1 ORDER BY id LIMIT 1";
    let rows = session.query(sql, &[&lane.as_bytes()]).await?;
    let Some(id) = rows.first().map(|row| row.get::<_, i64>(0)) else { return Ok(None) };
    Ok(logs(session, &[id], LOGS).await?.remove(&id).map(|log| Queued { id: run_id(id), log }))
}

/// Shows some parked runs again, and says how many.
pub(super) async fn unpark(session: &Session, count_max: usize) -> Outcome<u64> {
    let sql = "UPDATE clawhook.runs SET class = class & 4294967295, lane = NULL, parked_by = NULL WHERE id = ANY(ARRAY(\
               SELECT id FROM clawhook.runs WHERE lane IS NOT NULL ORDER BY id LIMIT $1 FOR UPDATE))";
    session.execute(sql, &[&number(count_max)]).await
}

/// How many runs are in each state that has not ended.
pub(super) async fn open_counts(session: &Session) -> Outcome<Vec<(State, u64)>> {
    let sql =
        "SELECT class >> 32, count(*) FROM clawhook.runs WHERE class < $1 OR class >= $2 AND class < $3 GROUP BY 1";
    let (open, _) = Standing::of(State::Succeeded).classes();
    let (parked, past) = Standing::PARKED.classes();
    let mut counts: Vec<(State, u64)> =
        State::ALL.into_iter().filter(|state| !state.is_ended()).map(|state| (state, 0)).collect();
    for row in session.query(sql, &[&open, &parked, &past]).await? {
        let standing = Standing::in_class(row.get::<_, i64>(0) << 32);
        if let Some((_, count)) = counts.iter_mut().find(|(state, _)| standing.state() == Some(*state)) {
            *count += row.get::<_, i64>(1).cast_unsigned();
        }
    }
    Ok(counts)
}
