//! The first conditional write: the runs of a delivery, unless its key is known. One transaction serves all deliveries
//! that wait.
//!
//! Keys are claimed by `INSERT … ON CONFLICT (key) DO UPDATE … WHERE it has expired`, in key order. Of two gateways with
//! the same key the second waits for the first's commit, finds the key not expired, gets no row back, and reads the
//! runs that the first made. The row that it lost to stays locked until its own end, so it cannot vanish meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::try_join;

use super::super::class::{Shape, term_class};
use super::super::ready::{ACCEPTING, ReadyRun};
use super::super::{Acceptance, Error, Receipt};
use super::append::INSERT_TERMS;
use super::link::Link;
use super::partitions::Partitions;
use super::queue::{Taker, Waiting, fits};
use super::session::{Params, Session};
use super::shapes::Shapes;
use super::trouble::{Outcome, Trouble};
use super::watch::Watch;
use super::{number, run_id, run_number};
use crate::clock::Timestamp;
use crate::domain::event::Event;
use crate::id::{RunId, RunIds};
use crate::limits;

type Key = [u8; 16];

/// An acceptance, ready to be written: JSON is made where the caller is.
#[derive(Debug)]
pub(super) struct Ready {
    key: Key,
    /// Not the key itself: that would flag the first delivery as its own replay.
    guard: Option<Key>,
    at: Timestamp,
    expires: Timestamp,
    runs: Vec<ReadyRun>,
}

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    first: RunId,
    runs: usize,
    expires: Timestamp,
}

impl Known {
    fn ids(self) -> Vec<RunId> {
        (0..self.runs as u64).map(|place| RunId::from_u64(self.first.as_u64() + place)).collect()
    }
}

impl Ready {
    pub(super) fn new(acceptance: Acceptance) -> Result<Self, Error> {
        let Acceptance { key, window, replay_guard, at, runs } = acceptance;
        let runs = ReadyRun::all_of(runs)?;
        let guard = replay_guard.filter(|guard| *guard != key).map(|guard| *guard.as_bytes());
        Ok(Self { key: *key.as_bytes(), guard, at, expires: at.plus(window), runs })
    }

    /// Bytes that it holds until it is written.
    pub(super) fn bytes(&self) -> usize {
        self.runs.iter().map(ReadyRun::bytes).sum()
    }
}

/// The writer of acceptances. There is one in a gateway, so that its run ids come in commit order.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) link: Link,
    pub(super) ids: RunIds,
    pub(super) shapes: Arc<Shapes>,
    pub(super) partitions: Partitions,
    pub(super) watch: Arc<Watch>,
}

type Caller = Waiting<Ready, Receipt>;

/// Deliveries of one transaction, each with those that have the same key.
#[derive(Debug, Default)]
struct Batch {
    leaders: Vec<Caller>,
    followers: Vec<(usize, Caller)>,
}

impl Writer {
    /// Writes what waits until the queue is closed and empty.
    pub(super) async fn run(self, mut taker: Taker<Ready, Receipt>) {
        while taker.take().await {
            let Batch { leaders, followers } = gather(&mut taker);
            let outcomes = self.write_all(leaders).await;
            for (leader, caller) in followers.into_iter().rev() {
                match &outcomes[leader] {
                    Ok(known) if known.expires > caller.work.at => {
                        caller.answer(Ok(Receipt::Duplicate(known.ids())));
                    }
                    // Its window was over before this one came: it is a delivery of its own.
                    Ok(_) => taker.ahead.push_front(caller),
                    Err(error) => caller.answer(Err(error.clone())),
                }
            }
        }
    }

    /// Writes a batch; when the server stops it because of one of them, one by one.
    async fn write_all(&self, leaders: Vec<Caller>) -> Vec<Result<Known, Error>> {
        let work: Vec<&Ready> = leaders.iter().map(|leader| &leader.work).collect();
        let mut outcomes = match self.write(&work).await {
            Err(trouble) if trouble.is_of_the_batch() && work.len() > 1 => {
                let mut outcomes = Vec::with_capacity(work.len());
                for ready in &work {
                    outcomes.push(self.write(&[ready]).await.map(|mut alone| alone.remove(0)));
                }
                outcomes
            }
            Ok(all) => all.into_iter().map(Ok).collect(),
            Err(trouble) => {
                let error = trouble.to_error(ACCEPTING);
                leaders.iter().map(|_| Err(Trouble::Refused(error.clone()))).collect()
            }
        };
        let mut known = Vec::with_capacity(leaders.len());
        for (leader, outcome) in leaders.into_iter().zip(outcomes.drain(..)) {
            let outcome = outcome.map_err(|trouble| trouble.to_error(ACCEPTING));
            let answer = match &outcome {
                Ok((known, true)) => Ok(Receipt::New(known.ids())),
                Ok((known, false)) => Ok(Receipt::Duplicate(known.ids())),
                Err(error) => Err(error.clone()),
            };
            known.push(outcome.map(|(known, _)| known));
            leader.answer(answer);
        }
        known
    }

    /// One transaction; again when it met another one, or when another gateway has taken a run's id.
    async fn write(&self, work: &[&Ready]) -> Outcome<Vec<(Known, bool)>> {
        let mut tries = 0;
        loop {
            let session = self.link.session().await?;
            let began = tokio::time::Instant::now();
            let done = session.bounded(limits::POSTGRES_CALL_MAX, self.try_write(&session, work)).await;
            self.watch.wrote(began, &done);
            tries += 1;
            match done {
                Err(trouble) if tries < limits::POSTGRES_TRIES_MAX => {
                    if trouble.lacks_partition() {
                        self.partitions.forget();
                    } else if trouble.is_taken() {
                        self.step_aside();
                    } else if !trouble.met_another() {
                        return Err(trouble);
                    }
                }
                done => {
                    if done.as_ref().is_ok_and(|all| all.iter().any(|(_, new)| *new)) {
                        self.watch.announce();
                    }
                    return done;
                }
            }
        }
    }

    async fn try_write(&self, session: &Session, work: &[&Ready]) -> Outcome<Vec<(Known, bool)>> {
        let shapes: Vec<&Shape> = work.iter().flat_map(|ready| &ready.runs).map(|run| &run.shape).collect();
        let shapes = self.shapes.numbers(session, &shapes).await?;
        let claims: Vec<Known> = work.iter().map(|ready| self.claim(ready)).collect();
        self.partitions.ensure(session, claims.iter().map(|claim| claim.first.made_at())).await?;
        session.undone_if_failed(transaction(session, work, &claims, &shapes).await).await
    }

    /// Another gateway takes ids in the same place of the same millisecond: goes on somewhere else.
    fn step_aside(&self) {
        let here = self.ids.next(Timestamp::from_millis(0)).as_u64();
        self.ids.skip_to(RunId::from_u64(here + u64::from(rand::random::<u16>())));
    }

    /// Ids that follow each other: this writer is the only one that takes them.
    fn claim(&self, ready: &Ready) -> Known {
        let mut ids = ready.runs.iter().map(|_| self.ids.next(ready.at));
        let first = ids.next().unwrap_or(RunId::from_u64(0));
        Known { first, runs: 1 + ids.count(), expires: ready.expires }
    }
}

/// Takes what fits one transaction. Deliveries with the key of one before follow it. One whose guard is another's key,
/// or the other way round, waits for the next: in one transaction it could not be told who came first.
fn gather(taker: &mut Taker<Ready, Receipt>) -> Batch {
    let mut batch = Batch::default();
    let (mut keys, mut guards) = (HashMap::new(), HashSet::new());
    let (mut bytes, mut later) = (0, Vec::new());
    while let Some(caller) = taker.ahead.pop_front() {
        let Ready { key, guard, .. } = caller.work;
        if !fits(batch.leaders.len() + batch.followers.len(), bytes, caller.bytes()) {
            taker.ahead.push_front(caller);
            break;
        }
        if let Some(leader) = keys.get(&key) {
            batch.followers.push((*leader, caller));
        } else if guards.contains(&key) || guard.is_some_and(|guard| keys.contains_key(&guard)) {
            later.push(caller);
        } else {
            keys.insert(key, batch.leaders.len());
            guards.extend(guard);
            bytes += caller.bytes();
            batch.leaders.push(caller);
        }
    }
    for caller in later.into_iter().rev() {
        taker.ahead.push_front(caller);
    }
    batch
}

async fn transaction(
    session: &Session,
    work: &[&Ready],
    claims: &[Known],
    shapes: &[i64],
) -> Outcome<Vec<(Known, bool)>> {
    let asked: Vec<_> = work.iter().zip(claims).map(|(ready, claim)| (ready.key, ready.at, *claim)).collect();
    let ((), won) = try_join!(session.begin(), claim_keys(session, &asked))?;
    let lost: Vec<Key> = work.iter().map(|ready| ready.key).filter(|key| !won.contains(key)).collect();
    let known = read_keys(session, &lost).await?;
    let mut outcomes = Vec::with_capacity(work.len());
    for (ready, claim) in work.iter().zip(claims) {
        outcomes.push(match known.get(&ready.key) {
            Some(known) => (*known, false),
            None if won.contains(&ready.key) => (*claim, true),
            None => return Err(Trouble::Broken("a delivery key was neither new nor known".into())),
        });
    }
    let replays = guard(session, work, &outcomes).await?;
    let rows = Rows::new(work, &outcomes, &replays, shapes)?;
    rows.write_and_commit(session).await?;
    Ok(outcomes)
}

/// Claims keys that are not known, or not any more, in the order of the keys; returns those that were.
async fn claim_keys(session: &Session, asked: &[(Key, Timestamp, Known)]) -> Outcome<HashSet<Key>> {
    let mut asked = asked.to_vec();
    asked.sort_unstable_by_key(|(key, ..)| *key);
    let keys: Vec<&[u8]> = asked.iter().map(|(key, ..)| &key[..]).collect();
    let firsts: Vec<i64> = asked.iter().map(|(.., claim)| run_number(claim.first)).collect();
    let runs: Vec<i64> = asked.iter().map(|(.., claim)| number(claim.runs)).collect();
    let at: Vec<i64> = asked.iter().map(|(_, at, _)| at.as_millis()).collect();
    let expires: Vec<i64> = asked.iter().map(|(.., claim)| claim.expires.as_millis()).collect();
    let sql = "INSERT INTO clawhook.keys AS k (key, first, runs, at, expires) \
               SELECT key, first, runs, at, expires \
               FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) WITH ORDINALITY \
               AS v (key, first, runs, at, expires, place) ORDER BY place \
               ON CONFLICT (key) DO UPDATE SET first = excluded.first, runs = excluded.runs, at = excluded.at, \
               expires = excluded.expires WHERE k.expires <= excluded.at RETURNING key";
    let rows = session.query(sql, &[&keys, &firsts, &runs, &at, &expires]).await?;
    rows.iter().map(|row| key_of(row.get(0))).collect()
}

async fn read_keys(session: &Session, keys: &[Key]) -> Outcome<HashMap<Key, Known>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let sql = "SELECT key, first, runs, expires FROM clawhook.keys WHERE key = ANY($1::bytea[])";
    let rows = session.query(sql, &[&keys]).await?;
    let known = |row: &tokio_postgres::Row| {
        let runs = usize::try_from(row.get::<_, i64>(2)).unwrap_or(0);
        let known = Known { first: run_id(row.get(1)), runs, expires: Timestamp::from_millis(row.get(3)) };
        Ok((key_of(row.get(0))?, known))
    };
    rows.iter().map(known).collect()
}

fn key_of(bytes: &[u8]) -> Outcome<Key> {
    bytes.try_into().map_err(|_| Trouble::Broken("a stored delivery key is not 16 bytes long".into()))
}

/// Which run each new delivery repeats the body of. Guards are claimed as keys are, by the first that has each; the
/// others of the batch are held against it in their order, as if each had come alone.
async fn guard(session: &Session, work: &[&Ready], outcomes: &[(Known, bool)]) -> Outcome<Vec<Option<RunId>>> {
    let guarded = || work.iter().zip(outcomes).filter(|(_, (_, new))| *new);
    let mut asked: Vec<(Key, Timestamp, Known)> = Vec::new();
    for (ready, (claim, _)) in guarded() {
        if let Some(guard) = ready.guard
            && !asked.iter().any(|(known, ..)| *known == guard)
        {
            asked.push((guard, ready.at, *claim));
        }
    }
    if asked.is_empty() {
        return Ok(vec![None; work.len()]);
    }
    let won = claim_keys(session, &asked).await?;
    let lost: Vec<Key> = asked.iter().map(|(guard, ..)| *guard).filter(|guard| !won.contains(guard)).collect();
    let mut known = read_keys(session, &lost).await?;
    let mut changed = HashSet::new();
    let mut replays = Vec::with_capacity(work.len());
    for (ready, (claim, new)) in work.iter().zip(outcomes) {
        let Some(guard) = ready.guard.filter(|_| *new) else {
            replays.push(None);
            continue;
        };
        let before = known.get(&guard).filter(|known| known.expires > ready.at).map(|known| known.first);
        if before.is_none() && known.insert(guard, *claim).is_some() {
            changed.insert(guard);
        }
        replays.push(before);
    }
    for guard in changed {
        if let Some(Known { first, runs, expires }) = known.get(&guard) {
            let sql = "UPDATE clawhook.keys SET first = $2, runs = $3, expires = $4 WHERE key = $1";
            let (first, runs) = (run_number(*first), number(*runs));
            session.execute(sql, &[&&guard[..], &first, &runs, &expires.as_millis()]).await?;
        }
    }
    Ok(replays)
}

/// What a transaction adds, column by column.
#[derive(Debug, Default)]
struct Rows<'a> {
    ids: Vec<i64>,
    classes: Vec<i64>,
    nexts: Vec<i64>,
    terms: Vec<Option<Vec<u8>>>,
    at: Vec<i64>,
    events: Vec<String>,
    bodies: Vec<&'a [u8]>,
    term_hashes: Vec<i64>,
    term_classes: Vec<i64>,
    term_runs: Vec<i64>,
}

impl<'a> Rows<'a> {
    fn new(work: &[&'a Ready], outcomes: &[(Known, bool)], replays: &[Option<RunId>], shapes: &[i64]) -> Outcome<Self> {
        let mut rows = Self::default();
        let mut shapes = shapes.iter();
        for ((ready, (known, new)), replay) in work.iter().zip(outcomes).zip(replays) {
            let shapes = shapes.by_ref().take(ready.runs.len());
            if *new {
                for ((run, id), shape) in ready.runs.iter().zip(known.ids()).zip(shapes) {
                    rows.add(run, id, *shape, ready.at, *replay)?;
                }
            } else {
                shapes.for_each(drop);
            }
        }
        Ok(rows)
    }

    fn add(&mut self, run: &'a ReadyRun, id: RunId, shape: i64, at: Timestamp, replay: Option<RunId>) -> Outcome<()> {
        let (id, class) = (run_number(id), run.standing.class(shape));
        self.ids.push(id);
        self.classes.push(class);
        self.terms.push(run.terms.pack());
        self.at.push(at.as_millis());
        self.bodies.push(&run.body);
        let event = &run.event;
        if let Some(of) = replay {
            let suspected = serde_json::to_string(&Event::SuspectedReplay { of })?;
            self.events.push(format!("[{event},{suspected}]"));
        } else {
            self.events.push(format!("[{event}]"));
        }
        self.nexts.push(if replay.is_some() { 2 } else { 1 });
        for term in &run.terms.all {
            self.term_hashes.push(term.0);
            self.term_classes.push(term_class(class));
            self.term_runs.push(id);
        }
        Ok(())
    }

    /// Sends all statements at once; the server does them in this order. When one fails, the commit undoes the others.
    async fn write_and_commit(&self, session: &Session) -> Outcome<()> {
        if self.ids.is_empty() {
            return session.commit().await;
        }
        let runs = session.statement(INSERT_RUNS).await?;
        let log = session.statement(INSERT_LOG).await?;
        let terms = session.statement(INSERT_TERMS).await?;
        let run_rows: Params<'_> = &[&self.ids, &self.classes, &self.nexts, &self.terms];
        let log_rows: Params<'_> = &[&self.ids, &self.at, &self.events, &self.bodies];
        let term_rows: Params<'_> = &[&self.term_hashes, &self.term_classes, &self.term_runs];
        try_join!(
            session.run(&runs, run_rows),
            session.run(&log, log_rows),
            session.run(&terms, term_rows),
            session.commit(),
        )
        .map(drop)
    }
}

const INSERT_RUNS: &str = "INSERT INTO clawhook.runs (id, class, next, last, terms) SELECT id, class, next, 0, terms \
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) AS v (id, class, next, terms)";
const INSERT_LOG: &str = "INSERT INTO clawhook.log (run, seq, at, events, body) SELECT run, 0, at, events, body \
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[]) AS v (run, at, events, body)";
