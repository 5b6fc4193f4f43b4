//! The two conditional writes, and the small ones beside them, as the writer does them. JSON is made before a command
//! is queued: the writer's time is what all writes share.

use bytes::Bytes;
use rusqlite::{OptionalExtension, params};
use serde_json::{Map, Value};

use super::super::class::{Shape, Standing, Term, Terms, runs_only, shape_in, source_is_term, term_class};
use super::super::{Acceptance, Append, Error, NewRun, Receipt};
use super::keys::Known;
use super::load::moment;
use super::trouble::{Outcome, Trouble};
use super::writer::{Tx, number, run_number};
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::Event;
use crate::domain::journal::{JournalEntry, JournalKind};
use crate::domain::state::State;
use crate::id::{RunId, Seq, WorkflowName};
use crate::limits;

/// What `doing` says when a value cannot be written as JSON.
pub(super) fn to_json<T: serde::Serialize>(doing: &'static str, value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Failed { doing, why: error.to_string() })
}

/// An acceptance, ready to be written.
pub(super) struct ReadyAcceptance {
    key: DeliveryKey,
    replay_guard: Option<DeliveryKey>,
    at: Timestamp,
    expires: Timestamp,
    runs: Vec<ReadyRun>,
}

struct ReadyRun {
    shape: Shape,
    standing: Standing,
    terms: Terms,
    event: String,
    body: Bytes,
}

impl ReadyAcceptance {
    pub(super) fn new(acceptance: Acceptance) -> Result<Self, Error> {
        let Acceptance { key, window, replay_guard, at, runs } = acceptance;
        let runs = runs.into_iter().map(ReadyRun::new).collect::<Result<_, _>>()?;
        Ok(Self { key, replay_guard, at, expires: at.plus(window), runs })
    }

    /// Bytes that it holds until it is written.
    pub(super) fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.event.len() + run.body.len()).sum()
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
            run.write(tx, id, self.at, replay_of)?;
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

impl ReadyRun {
    fn new(new: NewRun) -> Result<Self, Error> {
        let NewRun { accepted, body } = new;
        let trigger = &accepted.trigger;
        let source = source_is_term(trigger.kind()).then(|| Term::source(&trigger.source()));
        let terms = Terms { all: source.into_iter().collect(), listed: true };
        let standing = if accepted.held { Standing::of(State::Waiting) } else { Standing::QUEUED };
        let shape = Shape::of(&accepted.workflow, trigger);
        let event = to_json("accepting a delivery", &Event::Accepted(Box::new(accepted)))?;
        Ok(Self { shape, standing, terms, event, body })
    }

    fn write(&self, tx: &mut Tx<'_>, id: RunId, at: Timestamp, replay_of: Option<RunId>) -> Outcome<()> {
        let run = run_number(id);
        let class = self.standing.class(tx.shape(&self.shape)?);
        let connection = tx.connection;
        connection
            .prepare_cached("INSERT INTO arrivals (run, at, event, body) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![run, at.as_millis(), self.event, &self.body[..]])?;
        let mut next = Seq(1);
        if let Some(of) = replay_of {
            let events = serde_json::to_string(&[Event::SuspectedReplay { of }])?;
            write_events(tx, run, next, at, &events)?;
            next = next.plus(1);
        }
        connection
            .prepare_cached("INSERT INTO runs (id, class, next, terms) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![run, class, next.0, self.terms.pack()])?;
        for term in &self.terms.all {
            list_under(tx, *term, term_class(class), run)?;
        }
        Ok(())
    }
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

/// An append, ready to be written.
pub(super) struct ReadyAppend {
    run: RunId,
    after: Seq,
    count: usize,
    at: Timestamp,
    events: String,
    head: String,
    state: State,
    due: Option<i64>,
    ended: Option<i64>,
    terms: Vec<Term>,
    workflow: WorkflowName,
    /// Members of the workflow's state to set, as JSON; none removes one.
    changes: Vec<(String, Option<String>)>,
}

/// A row of `runs`.
struct IndexRow {
    class: i64,
    next: u32,
    due: Option<i64>,
    terms: Terms,
}

impl ReadyAppend {
    pub(super) fn new(append: Append) -> Result<Self, Error> {
        let doing = "adding to a run's log";
        let Append { run, after, at, events, head, state, .. } = append;
        Ok(Self {
            run,
            after,
            count: events.len(),
            at,
            events: to_json(doing, &events)?,
            head: to_json(doing, &head)?,
            state: head.state,
            due: moment(head.due),
            ended: head.ended_at.map(Timestamp::as_millis),
            terms: Term::all_of(&head),
            workflow: head.workflow,
            changes: changes(doing, state.unwrap_or_default())?,
        })
    }

    /// Bytes that it holds until it is written.
    pub(super) fn bytes(&self) -> usize {
        self.events.len() + self.head.len()
    }

    /// Adds the events if nobody else has added to the log since it was read.
    pub(super) fn write(&self, tx: &mut Tx<'_>) -> Outcome<()> {
        let run = run_number(self.run);
        let Some(row) = index_row(tx, run)? else {
            return Err(Error::NoRun(self.run).into());
        };
        if row.next != self.after.0 {
            return Err(Error::Conflict { run: self.run, after: self.after }.into());
        }
        if self.count > 0 {
            write_events(tx, run, self.after, self.at, &self.events)?;
        }
        let next = self.after.plus(self.count);
        self.write_index(tx, run, next, &row)?;
        if !runs_only(self.state) || next > HEAD_FOLDED_UNTIL {
            tx.connection
                .prepare_cached("INSERT OR REPLACE INTO heads (run, next, head) VALUES (?1, ?2, ?3)")?
                .execute(params![run, next.0, self.head])?;
        }
        write_state(tx, &self.workflow, &self.changes)?;
        Ok(())
    }

    /// Moves the run in the indexes, but touches only those in which it moves.
    fn write_index(&self, tx: &Tx<'_>, run: i64, next: Seq, row: &IndexRow) -> rusqlite::Result<()> {
        let class = Standing::of(self.state).class(shape_in(row.class));
        let terms = Terms::after(&row.terms, self.terms.clone(), self.state);
        if class == row.class && self.due == row.due && terms == row.terms {
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
            .execute(params![run, class, next.0, self.due, self.ended, terms.pack()])?;
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
}

/// A run that runs has its log folded when it is listed, as long as the log is this short: most end with the next
/// append, which writes the head.
const HEAD_FOLDED_UNTIL: Seq = Seq(12);

fn index_row(tx: &Tx<'_>, run: i64) -> rusqlite::Result<Option<IndexRow>> {
    tx.connection
        .prepare_cached("SELECT class, next, due, terms FROM runs WHERE id = ?1")?
        .query_row([run], |row| {
            let terms = Terms::unpack(row.get_ref(3)?.as_blob_or_null()?);
            Ok(IndexRow { class: row.get(0)?, next: row.get(1)?, due: row.get(2)?, terms })
        })
        .optional()
}

fn changes(doing: &'static str, state: Map<String, Value>) -> Result<Vec<(String, Option<String>)>, Error> {
    let change = |(name, value): (String, Value)| match value {
        Value::Null => Ok((name, None)),
        value => Ok((name, Some(to_json(doing, &value)?))),
    };
    state.into_iter().map(change).collect()
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

/// The number of a journal on disk, and how many entries it keeps.
pub(super) fn journal_code(kind: JournalKind) -> (i64, usize) {
    match kind {
        JournalKind::Audit => (0, limits::JOURNAL_KEPT_MAX),
        JournalKind::Refusal => (1, limits::REFUSALS_KEPT_MAX),
        JournalKind::Gateway => (2, limits::JOURNAL_KEPT_MAX),
    }
}

/// Adds entries, with their detail as JSON, to their journals; the oldest beyond the bound go.
pub(super) fn write_journal(tx: &mut Tx<'_>, entries: &[(JournalEntry, String)]) -> Outcome<()> {
    for (entry, detail) in entries {
        let (kind, kept) = journal_code(entry.kind);
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
    let (kind, _) = journal_code(entry.kind);
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
