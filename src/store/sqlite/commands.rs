//! The two conditional writes, and the small ones beside them, as the writer does them. JSON is made before a command
//! is queued: the writer's time is what all writes share.

use rusqlite::{OptionalExtension, params};

use super::super::class::{Standing, Term, Terms, shape_in, term_class};
use super::super::ready::{ReadyAppend, ReadyRun};
use super::super::{Acceptance, Error, Receipt};
use super::keys::Known;
use super::trouble::{Outcome, Trouble};
use super::writer::{Tx, number, run_number};
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::Event;
use crate::domain::journal::{JournalEntry, JournalKind};
use crate::id::{RunId, Seq, WorkflowName};

/// An acceptance, ready to be written.
pub(super) struct ReadyAcceptance {
    key: DeliveryKey,
    replay_guard: Option<DeliveryKey>,
    at: Timestamp,
    expires: Timestamp,
    runs: Vec<ReadyRun>,
}

impl ReadyAcceptance {
    pub(super) fn new(acceptance: Acceptance) -> Result<Self, Error> {
        let Acceptance { key, window, replay_guard, at, runs } = acceptance;
        Ok(Self { key, replay_guard, at, expires: at.plus(window), runs: ReadyRun::all_of(runs)? })
    }

    /// Bytes that it holds until it is written.
    pub(super) fn bytes(&self) -> usize {
        self.runs.iter().map(ReadyRun::bytes).sum()
    }

    /// Inserts the runs unless the key is known.
    pub(super) fn write(&self, tx: &mut Tx<'_>) -> Outcome<Receipt> {
        if let Some(Known { first, runs, .. }) = tx.memo.keys.find(tx.connection, self.key, self.at)? {
            let following = (0..runs).map(|place| RunId::from_u64(first.as_u64() + u64::from(place)));
            return Ok(Receipt::Duplicate(following.collect()));
        }
        let replay_of = match self.replay_guard {
            Some(guard) => tx.memo.keys.find(tx.connection, guard, self.at)?.map(|known| known.first),
            None => None,
        };
        let mut ids = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let id = tx.memo.ids.next(self.at);
            write_run(tx, run, id, self.at, replay_of)?;
            ids.push(id);
        }
        if let Some(first) = ids.first() {
            let runs = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            let known = Known { first: *first, runs, expires: self.expires };
            tx.memo.keys.add(self.key, known, self.at);
            if let Some(guard) = self.replay_guard.filter(|_| replay_of.is_none()) {
                tx.memo.keys.add(guard, known, self.at);
            }
        }
        Ok(Receipt::New(ids))
    }
}

fn write_run(tx: &mut Tx<'_>, ready: &ReadyRun, id: RunId, at: Timestamp, replay_of: Option<RunId>) -> Outcome<()> {
    let run = run_number(id);
    let class = ready.standing.class(tx.shape(&ready.shape)?);
    let connection = tx.connection;
    connection
        .prepare_cached("INSERT INTO arrivals (run, at, event, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![run, at.as_millis(), ready.event, &ready.body[..]])?;
    let mut next = Seq(1);
    if let Some(of) = replay_of {
        let events = serde_json::to_string(&[Event::SuspectedReplay { of }])?;
        write_events(tx, run, next, at, &events)?;
        next = next.plus(1);
    }
    connection
        .prepare_cached("INSERT INTO runs (id, class, next, terms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![run, class, next.0, ready.terms.pack()])?;
    for term in &ready.terms.all {
        list_under(tx, *term, term_class(class), run)?;
    }
    Ok(())
}

pub(super) fn write_events(tx: &Tx<'_>, run: i64, seq: Seq, at: Timestamp, events: &str) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached("INSERT INTO appends (run, seq, at, events) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![run, seq.0, at.as_millis(), events])
        .map(drop)
}

pub(super) fn list_under(tx: &Tx<'_>, term: Term, class: i64, run: i64) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached("INSERT OR IGNORE INTO terms (term, class, run) VALUES (?1, ?2, ?3)")?
        .execute(params![term.0, class, run])
        .map(drop)
}

fn unlist(tx: &Tx<'_>, term: Term, class: i64, run: i64) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached("DELETE FROM terms WHERE term = ?1 AND class = ?2 AND run = ?3")?
        .execute(params![term.0, class, run])
        .map(drop)
}

/// A row of `runs`.
struct IndexRow {
    class: i64,
    next: u32,
    due: Option<i64>,
    terms: Terms,
}

/// Adds the events if nobody else has added to the log since it was read.
pub(super) fn append(tx: &mut Tx<'_>, ready: &ReadyAppend) -> Outcome<()> {
    let run = run_number(ready.run);
    let Some(row) = index_row(tx, run)? else {
        return Err(Error::NoRun(ready.run).into());
    };
    if row.next != ready.after.0 {
        return Err(Error::Conflict { run: ready.run, after: ready.after }.into());
    }
    if ready.count > 0 {
        write_events(tx, run, ready.after, ready.at, &ready.events)?;
    }
    write_index(tx, ready, &row)?;
    if ready.shows_head() {
        tx.connection
            .prepare_cached("INSERT OR REPLACE INTO heads (run, next, head) VALUES (?1, ?2, ?3)")?
            .execute(params![run, ready.next().0, ready.head])?;
    }
    write_state(tx, &ready.workflow, &ready.changes)?;
    Ok(())
}

/// Moves the run in the indexes, but touches only those in which it moves.
fn write_index(tx: &Tx<'_>, ready: &ReadyAppend, row: &IndexRow) -> rusqlite::Result<()> {
    let (run, next) = (run_number(ready.run), ready.next());
    let class = Standing::of(ready.state).class(shape_in(row.class));
    let terms = Terms::after(&row.terms, ready.terms.clone(), ready.state);
    if class == row.class && ready.due == row.due && terms == row.terms {
        return tx
            .connection
            .prepare_cached("UPDATE runs SET next = ?2 WHERE id = ?1")?
            .execute(params![run, next.0])
            .map(drop);
    }
    tx.connection
        .prepare_cached(
            "UPDATE runs SET class = ?2, next = ?3, due = ?4, ended = ?5, lane = NULL, terms = ?6 WHERE id = ?1",
        )?
        .execute(params![run, class, next.0, ready.due, ready.ended, terms.pack()])?;
    let (old, new) = (term_class(row.class), term_class(class));
    let stays = |term, other: &Terms| old == new && other.listed && other.all.contains(term);
    for term in row.terms.all.iter().filter(|term| row.terms.listed && !stays(term, &terms)) {
        unlist(tx, *term, old, run)?;
    }
    for term in terms.all.iter().filter(|term| terms.listed && !stays(term, &row.terms)) {
        list_under(tx, *term, new, run)?;
    }
    Ok(())
}

fn index_row(tx: &Tx<'_>, run: i64) -> rusqlite::Result<Option<IndexRow>> {
    tx.connection
        .prepare_cached("SELECT class, next, due, terms FROM runs WHERE id = ?1")?
        .query_row([run], |row| {
            let terms = Terms::unpack(row.get_ref(3)?.as_blob_or_null()?);
            Ok(IndexRow { class: row.get(0)?, next: row.get(1)?, due: row.get(2)?, terms })
        })
        .optional()
}

pub(super) fn write_state(
    tx: &Tx<'_>,
    workflow: &WorkflowName,
    changes: &[(String, Option<String>)],
) -> rusqlite::Result<()> {
    for (name, value) in changes {
        match value {
            Some(value) => tx
                .connection
                .prepare_cached("INSERT OR REPLACE INTO states (workflow, name, value) VALUES (?1, ?2, ?3)")?
                .execute(params![workflow.as_str(), name, value])?,
            None => tx
                .connection
                .prepare_cached("DELETE FROM states WHERE workflow = ?1 AND name = ?2")?
                .execute(params![workflow.as_str(), name])?,
        };
    }
    Ok(())
}

/// Hides a queued run until its lane is free.
pub(super) fn park(tx: &mut Tx<'_>, run: RunId, lane: &str) -> Outcome<()> {
    let row = index_row(tx, run_number(run))?.ok_or(Trouble::Refused(Error::NoRun(run)))?;
    let standing = Standing::in_class(row.class);
    if standing == Standing::QUEUED || standing == Standing::PARKED {
        tx.connection.prepare_cached("UPDATE runs SET class = ?2, lane = ?3 WHERE id = ?1")?.execute(params![
            run_number(run),
            Standing::PARKED.class(shape_in(row.class)),
            lane
        ])?;
    }
    Ok(())
}

/// Shows at most `count_max` parked runs again, and says how many there were.
pub(super) fn unpark(tx: &mut Tx<'_>, count_max: usize) -> Outcome<usize> {
    let (from, to) = Standing::PARKED.classes();
    let (queued, _) = Standing::QUEUED.classes();
    let shown = tx
        .connection
        .prepare_cached(
            "UPDATE runs SET class = class - ?1 + ?2, lane = NULL
             WHERE id IN (SELECT id FROM runs WHERE class >= ?1 AND class < ?3 LIMIT ?4)",
        )?
        .execute(params![from, queued, to, number(count_max)])?;
    Ok(shown)
}

/// The number of a journal on disk.
pub(super) fn journal_code(kind: JournalKind) -> i64 {
    match kind {
        JournalKind::Audit => 0,
        JournalKind::Refusal => 1,
        JournalKind::Gateway => 2,
    }
}

/// Adds entries, with their detail as JSON, to their journals; the oldest beyond the bound go.
pub(super) fn write_journal(tx: &mut Tx<'_>, entries: &[(JournalEntry, String)]) -> Outcome<()> {
    for (entry, detail) in entries {
        let (kind, kept) = (journal_code(entry.kind), entry.kind.kept_max());
        let newest: Option<i64> = tx
            .connection
            .prepare_cached("SELECT max(id) FROM journal WHERE kind = ?1")?
            .query_row([kind], |row| row.get(0))?;
        let id = newest.unwrap_or(0) + 1;
        write_journal_row(tx, id, entry, detail)?;
        tx.connection.prepare_cached("DELETE FROM journal WHERE kind = ?1 AND id <= ?2 - ?3")?.execute(params![
            kind,
            id,
            number(kept)
        ])?;
    }
    Ok(())
}

/// Adds an entry under its number, unless that is taken.
pub(super) fn write_journal_row(tx: &Tx<'_>, id: i64, entry: &JournalEntry, detail: &str) -> rusqlite::Result<()> {
    let kind = journal_code(entry.kind);
    tx.connection
        .prepare_cached(
            "INSERT OR IGNORE INTO journal (kind, id, at, what, subject, cause, detail, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            kind,
            id,
            entry.at.as_millis(),
            entry.what,
            entry.subject,
            entry.cause,
            detail,
            &entry.body[..]
        ])
        .map(drop)
}

/// Keeps a text under its hash.
pub(super) fn put_document(tx: &mut Tx<'_>, revision: &str, text: &str) -> Outcome<()> {
    tx.connection
        .prepare_cached("INSERT OR IGNORE INTO documents (revision, text) VALUES (?1, ?2)")?
        .execute([revision, text])?;
    Ok(())
}

/// Sets a mark, or removes it.
pub(super) fn set_mark(tx: &mut Tx<'_>, name: &str, value: Option<&str>) -> Outcome<()> {
    match value {
        Some(value) => tx
            .connection
            .prepare_cached("INSERT OR REPLACE INTO marks (name, value) VALUES (?1, ?2)")?
            .execute([name, value])?,
        None => tx.connection.prepare_cached("DELETE FROM marks WHERE name = ?1")?.execute([name])?,
    };
    Ok(())
}

/// Writes something of no meaning, to see whether there is room for a delivery.
pub(super) fn probe(tx: &mut Tx<'_>) -> Outcome<()> {
    tx.connection
        .prepare_cached("INSERT OR REPLACE INTO documents (revision, text) VALUES ('probe', printf('%.*c', ?1, ' '))")?
        .execute([PROBE_BYTES])?;
    Ok(())
}

/// Takes what `probe` wrote away again.
pub(super) fn forget_probe(tx: &mut Tx<'_>) -> Outcome<()> {
    tx.connection.prepare_cached("DELETE FROM documents WHERE revision = 'probe'")?.execute([])?;
    Ok(())
}

/// Bytes that `probe` writes.
const PROBE_BYTES: i64 = 32 * 1024;
