//! The second conditional write: events at the place just read. One transaction serves all appends that wait: it locks
//! their runs in id order, decides by what it then reads, and writes for those that were right. A run is locked until
//! the commit, so whoever comes second, from whatever gateway, reads what the first wrote and gets `Conflict`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::try_join;
use tokio::sync::Mutex;

use super::super::Error;
use super::super::class::{Standing, Term, Terms, shape_in, term_class};
use super::super::ready::{APPENDING, ReadyAppend};
use super::link::Link;
use super::queue::{Taker, Waiting, fits};
use super::run_number;
use super::session::{Params, Session, span};
use super::trouble::{Outcome, Trouble};
use super::watch::Watch;
use crate::domain::state::State;
use crate::id::Seq;
use crate::limits;

/// A row of `runs`, as it was read and as it becomes.
#[derive(Debug, Clone)]
struct IndexRow {
    class: i64,
    next: Seq,
    last: i64,
    due: Option<i64>,
    ended: Option<i64>,
    terms: Terms,
}

/// A run that is locked: as it was read, and as the batch has it so far.
#[derive(Debug)]
struct Locked {
    before: IndexRow,
    run: IndexRow,
}

/// One of the writers of appends. They share a queue: while one waits for its commit, the next takes what came since.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) link: Link,
    pub(super) watch: Arc<Watch>,
}

type Caller = Waiting<ReadyAppend, ()>;

impl Writer {
    /// Writes what waits until the queue is closed and empty.
    pub(super) async fn run(self, taker: Arc<Mutex<Taker<ReadyAppend, ()>>>) {
        loop {
            let batch = {
                let mut taker = taker.lock().await;
                if !taker.take().await {
                    return;
                }
                gather(&mut taker)
            };
            Box::pin(self.write_all(batch)).await;
        }
    }

    /// Writes a batch; when the server stops it because of one of them, one by one.
    async fn write_all(&self, batch: Vec<Caller>) {
        let work: Vec<&ReadyAppend> = batch.iter().map(|caller| &caller.work).collect();
        let answers = match self.write(&work).await {
            Ok(answers) => answers,
            Err(trouble) if trouble.is_of_the_batch() && work.len() > 1 => {
                let mut answers = Vec::with_capacity(work.len());
                for ready in work {
                    let alone = self.write(&[ready]).await;
                    answers
                        .push(alone.map_or_else(|trouble| Err(trouble.to_error(APPENDING)), |mut all| all.remove(0)));
                }
                answers
            }
            Err(trouble) => {
                for caller in batch {
                    caller.fail(&trouble, APPENDING);
                }
                return;
            }
        };
        for (caller, answer) in batch.into_iter().zip(answers) {
            caller.answer(answer);
        }
    }

    /// One transaction; again when it met another one.
    async fn write(&self, work: &[&ReadyAppend]) -> Outcome<Vec<Result<(), Error>>> {
        let mut tries = 0;
        loop {
            let session = self.link.session().await?;
            let began = tokio::time::Instant::now();
            let done = session.bounded(limits::POSTGRES_CALL_MAX, Box::pin(try_write(&session, work))).await;
            self.watch.wrote(began, &done);
            tries += 1;
            match done {
                Err(trouble) if trouble.met_another() && tries < limits::POSTGRES_TRIES_MAX => {}
                Err(trouble) => return Err(trouble),
                Ok(answers) => {
                    let wants = |(ready, answer): (&&ReadyAppend, &Result<(), Error>)| {
                        answer.is_ok() && matches!(ready.state, State::Queued | State::Waiting)
                    };
                    if work.iter().zip(&answers).any(wants) {
                        self.watch.announce();
                    }
                    return Ok(answers);
                }
            }
        }
    }
}

fn gather(taker: &mut Taker<ReadyAppend, ()>) -> Vec<Caller> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(caller) = taker.ahead.front()
        && fits(batch.len(), bytes, caller.bytes())
        && let Some(caller) = taker.ahead.pop_front()
    {
        bytes += caller.bytes();
        batch.push(caller);
    }
    batch
}

async fn try_write(session: &Session, work: &[&ReadyAppend]) -> Outcome<Vec<Result<(), Error>>> {
    session.undone_if_failed(transaction(session, work).await).await
}

async fn transaction(session: &Session, work: &[&ReadyAppend]) -> Outcome<Vec<Result<(), Error>>> {
    let ids: Vec<i64> = work.iter().map(|ready| run_number(ready.run)).collect();
    let ((), mut runs) = try_join!(session.begin(), lock(session, &ids))?;
    let mut rows = Rows::default();
    let answers: Vec<_> = work.iter().map(|ready| rows.add(ready, &mut runs)).collect();
    rows.set_runs(&runs);
    rows.write_and_commit(session).await?;
    Ok(answers)
}

/// Locks runs in the order of their ids, whatever the batch's, so that no two writers wait for each other in a circle.
async fn lock(session: &Session, ids: &[i64]) -> Outcome<HashMap<i64, Locked>> {
    let sql = "SELECT id, class, next, last, due, ended, terms FROM clawhook.runs \
               WHERE id = ANY($1::bigint[]) AND id BETWEEN $2 AND $3 ORDER BY id FOR UPDATE";
    let (first, last) = span(ids);
    let rows = session.query(sql, &[&ids, &first, &last]).await?;
    let read = |row: &tokio_postgres::Row| {
        let next = u32::try_from(row.get::<_, i64>(2));
        let next = Seq(next.map_err(|_| Trouble::Broken("a stored place in a log is out of range".into()))?);
        let terms = Terms::unpack(row.get(6));
        let run = IndexRow { class: row.get(1), next, last: row.get(3), due: row.get(4), ended: row.get(5), terms };
        Ok((row.get(0), Locked { before: run.clone(), run }))
    };
    rows.iter().map(read).collect()
}

/// What a transaction writes, column by column.
#[derive(Debug, Default)]
struct Rows<'a> {
    touched: Vec<i64>,
    runs: RunRows,
    log: LogRows<'a>,
    unlisted: TermRows,
    listed: TermRows,
    /// By workflow and name, so that states are locked in one order by all.
    states: BTreeMap<(&'a str, &'a str), Option<&'a str>>,
}

#[derive(Debug, Default)]
struct RunRows {
    ids: Vec<i64>,
    classes: Vec<i64>,
    nexts: Vec<i64>,
    lasts: Vec<i64>,
    dues: Vec<Option<i64>>,
    ended: Vec<Option<i64>>,
    terms: Vec<Option<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct LogRows<'a> {
    runs: Vec<i64>,
    seqs: Vec<i64>,
    at: Vec<i64>,
    events: Vec<&'a str>,
    heads: Vec<Option<&'a str>>,
}

#[derive(Debug, Default)]
struct TermRows {
    terms: Vec<i64>,
    classes: Vec<i64>,
    runs: Vec<i64>,
}

impl TermRows {
    fn add(&mut self, term: Term, class: i64, run: i64) {
        self.terms.push(term.0);
        self.classes.push(class);
        self.runs.push(run);
    }
}

impl<'a> Rows<'a> {
    /// Decides one append, by the run as those before it in the batch leave it.
    fn add(&mut self, ready: &'a ReadyAppend, runs: &mut HashMap<i64, Locked>) -> Result<(), Error> {
        let id = run_number(ready.run);
        let Locked { run, .. } = runs.get_mut(&id).ok_or(Error::NoRun(ready.run))?;
        if run.next != ready.after {
            return Err(Error::Conflict { run: ready.run, after: ready.after });
        }
        let class = Standing::of(ready.state).class(shape_in(run.class));
        let terms = Terms::after(&run.terms, ready.terms.clone(), ready.state);
        if ready.count > 0 {
            run.last = i64::from(ready.after.0);
            self.log.runs.push(id);
            self.log.seqs.push(run.last);
            self.log.at.push(ready.at.as_millis());
            self.log.events.push(&ready.events);
            self.log.heads.push(ready.shows_head().then_some(&ready.head));
        }
        *run = IndexRow { class, next: ready.next(), last: run.last, due: ready.due, ended: ready.ended, terms };
        self.touched.push(id);
        for (name, value) in &ready.changes {
            self.states.insert((ready.workflow.as_str(), name), value.as_deref());
        }
        Ok(())
    }

    /// Takes over how the runs stand after the whole batch: each once, even where it had two appends.
    fn set_runs(&mut self, runs: &HashMap<i64, Locked>) {
        self.touched.sort_unstable();
        self.touched.dedup();
        for (id, Locked { before, run }) in self.touched.iter().filter_map(|id| Some((id, runs.get(id)?))) {
            let (old, new) = (term_class(before.class), term_class(run.class));
            let stays = |term, other: &Terms| old == new && other.listed && other.all.contains(term);
            for term in before.terms.all.iter().filter(|term| before.terms.listed && !stays(term, &run.terms)) {
                self.unlisted.add(*term, old, *id);
            }
            for term in run.terms.all.iter().filter(|term| run.terms.listed && !stays(term, &before.terms)) {
                self.listed.add(*term, new, *id);
            }
            self.runs.ids.push(*id);
            self.runs.classes.push(run.class);
            self.runs.nexts.push(i64::from(run.next.0));
            self.runs.lasts.push(run.last);
            self.runs.dues.push(run.due);
            self.runs.ended.push(run.ended);
            self.runs.terms.push(run.terms.pack());
        }
    }

    /// Sends all statements at once; the server does them in this order. When one fails, the commit undoes the others.
    async fn write_and_commit(&self, session: &Session) -> Outcome<()> {
        if self.touched.is_empty() {
            return session.commit().await;
        }
        let update = session.statement(UPDATE_RUNS).await?;
        let log = session.statement(INSERT_LOG).await?;
        let unlist = session.statement(DELETE_TERMS).await?;
        let list = session.statement(INSERT_TERMS).await?;
        self.write_states(session).await?;
        let Self { runs, log: entries, unlisted, listed, .. } = self;
        let (from, to) = span(&runs.ids);
        let run_rows: Params<'_> =
            &[&runs.ids, &runs.classes, &runs.nexts, &runs.lasts, &runs.dues, &runs.ended, &runs.terms, &from, &to];
        let log_rows: Params<'_> = &[&entries.runs, &entries.seqs, &entries.at, &entries.events, &entries.heads];
        let unlisted: Params<'_> = &[&unlisted.terms, &unlisted.classes, &unlisted.runs, &from, &to];
        let listed: Params<'_> = &[&listed.terms, &listed.classes, &listed.runs];
        try_join!(
            session.run(&update, run_rows),
            session.run(&log, log_rows),
            session.run(&unlist, unlisted),
            session.run(&list, listed),
            session.commit(),
        )
        .map(drop)
    }

    async fn write_states(&self, session: &Session) -> Outcome<()> {
        for ((workflow, name), value) in &self.states {
            if let Some(value) = value {
                let sql = "INSERT INTO clawhook.states (workflow, name, value) VALUES ($1, $2, $3) \
                           ON CONFLICT (workflow, name) DO UPDATE SET value = excluded.value";
                session.execute(sql, &[workflow, &name.as_bytes(), value]).await?;
            } else {
                let sql = "DELETE FROM clawhook.states WHERE workflow = $1 AND name = $2";
                session.execute(sql, &[workflow, &name.as_bytes()]).await?;
            }
        }
        Ok(())
    }
}

const UPDATE_RUNS: &str = "UPDATE clawhook.runs AS r SET class = v.class, next = v.next, last = v.last, due = v.due, \
    ended = v.ended, terms = v.terms, lane = NULL, parked_by = NULL, offered_to = NULL, offered_until = NULL \
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[]) \
    AS v (id, class, next, last, due, ended, terms) WHERE r.id = v.id \
    AND r.id = ANY($1) AND r.id BETWEEN $8 AND $9";
const INSERT_LOG: &str = "INSERT INTO clawhook.log (run, seq, at, events, head) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])";
const DELETE_TERMS: &str = "DELETE FROM clawhook.terms AS t \
    USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS v (term, class, run) \
    WHERE t.term = v.term AND t.class = v.class AND t.run = v.run AND t.run = ANY($3) AND t.run BETWEEN $4 AND $5";
/// Lists runs under terms; two labels of a run may have one hash.
pub(super) const INSERT_TERMS: &str = "INSERT INTO clawhook.terms (term, class, run) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) ON CONFLICT DO NOTHING";
