//! A store that fails on purpose. A seed fixes which calls fail, how, and how long each takes, so that a failing run of
//! a test can be run again. The worst fault is the one *after* the write: it happened, and the caller was told otherwise.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value};

use super::transfer::Piece;
use super::{Acceptance, Append, Error, Health, JournalQuery, Prune, Pruned, Queued, Receipt, RunQuery, Store};
use crate::clock::Timestamp;
use crate::domain::event::Entry;
use crate::domain::journal::{JournalEntry, JournalRow};
use crate::domain::run::RunHead;
use crate::domain::state::State;
use crate::id::{Revision, RunId, WorkflowName};

/// How often each fault strikes, in calls of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// The call fails, and nothing happened.
    pub before: u32,
    /// A write happens, and the caller is told that it failed.
    pub after: u32,
    /// A write is refused because the store is full.
    pub full: u32,
    /// What finds work or lists runs shows an older answer, or only a part.
    pub lag: u32,
    /// The call takes up to `delay_max`, part of it before it acts and part of it after.
    pub delay: u32,
    /// The longest that a delay lasts.
    pub delay_max: Duration,
}

impl Faults {
    /// No faults at all.
    pub const NONE: Self = Self { before: 0, after: 0, full: 0, lag: 0, delay: 0, delay_max: Duration::ZERO };

    /// A bad day: every fault strikes now and then.
    pub const BAD_DAY: Self =
        Self { before: 30, after: 30, full: 20, lag: 200, delay: 300, delay_max: Duration::from_millis(500) };
}

/// Wraps a store and makes it fail.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    plan: Mutex<Plan>,
}

#[derive(Debug)]
struct Plan {
    random: StdRng,
    faults: Faults,
    /// What `queued` found last, to be shown again when it lags.
    queued: Vec<Queued>,
    due: Vec<RunHead>,
    runs: Vec<RunHead>,
}

/// What happens to one call.
#[derive(Debug, Clone, Copy)]
struct Fate {
    before: bool,
    after: bool,
    full: bool,
    lag: Option<Lag>,
    wait_before: Option<Duration>,
    wait_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum Lag {
    /// The answer of the last call.
    Stale,
    /// A part of the answer, by a mask.
    Partial(u64),
}

impl<S: Store> Faulty<S> {
    /// Wraps `inner`; the seed fixes everything that follows as long as calls come in the same order.
    pub fn new(inner: S, seed: u64, faults: Faults) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let plan = Plan { random, faults, queued: Vec::new(), due: Vec::new(), runs: Vec::new() };
        Self { inner, plan: Mutex::new(plan) }
    }

    /// Changes how often faults strike from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.plan().faults = faults;
    }

    /// The store behind: tests check what really happened there.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write<T>(&self, doing: &'static str, write: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let fate = self.plan().fate();
        pass(fate.wait_before).await;
        if fate.full {
            return Err(Error::Full("a fault was asked for".into()));
        }
        if fate.before {
            return Err(failed(doing));
        }
        let done = write.await;
        pass(fate.wait_after).await;
        if fate.after { Err(failed(doing)) } else { done }
    }

    async fn read<T>(&self, doing: &'static str, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.lagging(doing, read).await.map(|(answer, _)| answer)
    }

    async fn lagging<T>(
        &self,
        doing: &'static str,
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<(T, Option<Lag>), Error> {
        let fate = self.plan().fate();
        pass(fate.wait_before).await;
        if fate.before {
            return Err(failed(doing));
        }
        let answer = read.await?;
        pass(fate.wait_after).await;
        Ok((answer, fate.lag))
    }
}

fn failed(doing: &'static str) -> Error {
    Error::Failed { doing, why: "a fault was asked for".into() }
}

/// Lets others run, and time pass: a caller can be killed here.
async fn pass(wait: Option<Duration>) {
    if let Some(wait) = wait {
        tokio::task::yield_now().await;
        tokio::time::sleep(wait).await;
    }
}

impl Plan {
    /// Draws the same number of times whatever the faults are, so that switching them off moves nothing else.
    fn fate(&mut self) -> Fate {
        let faults = self.faults;
        let mut strikes = |per_mille: u32| self.random.random_range(0..1000) < per_mille;
        let [before, after, full, lags, stale, delay_before, delay_after] =
            [faults.before, faults.after, faults.full, faults.lag, 300, faults.delay, faults.delay].map(&mut strikes);
        let mask: u64 = self.random.random();
        let mut wait = |delayed: bool| {
            let share: f64 = self.random.random();
            delayed.then(|| faults.delay_max.mul_f64(share / 2.0))
        };
        let (wait_before, wait_after) = (wait(delay_before), wait(delay_after));
        let lag = lags.then_some(if stale { Lag::Stale } else { Lag::Partial(mask) });
        Fate { before, after, full, lag, wait_before, wait_after }
    }
}

/// What a lagging index shows instead of `fresh`.
fn lagged<T: Clone>(last: &mut Vec<T>, fresh: Vec<T>, lag: Option<Lag>) -> Vec<T> {
    let before = std::mem::replace(last, fresh.clone());
    match lag {
        None => fresh,
        Some(Lag::Stale) => before,
        Some(Lag::Partial(mask)) => {
            let shown = fresh.into_iter().enumerate().filter(|(place, _)| mask >> (place % 64) & 1 == 1);
            shown.map(|(_, item)| item).collect()
        }
    }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn accept(&self, acceptance: Acceptance) -> Result<Receipt, Error> {
        self.write("accepting a delivery", self.inner.accept(acceptance)).await
    }

    async fn accept_all(&self, acceptances: Vec<Acceptance>) -> Result<Vec<Receipt>, Error> {
        self.write("accepting deliveries", self.inner.accept_all(acceptances)).await
    }

    async fn append(&self, append: Append) -> Result<(), Error> {
        self.write("adding to a run's log", self.inner.append(append)).await
    }

    async fn log(&self, run: RunId) -> Result<Vec<Entry>, Error> {
        self.read("reading a run's log", self.inner.log(run)).await
    }

    async fn queued(&self, after: Option<RunId>, limit: usize) -> Result<Vec<Queued>, Error> {
        let (fresh, lag) = self.lagging("looking for queued runs", self.inner.queued(after, limit)).await?;
        Ok(lagged(&mut self.plan().queued, fresh, lag))
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<(Vec<RunHead>, Option<Timestamp>), Error> {
        let ((fresh, next), lag) = self.lagging("looking for due runs", self.inner.due(now, limit)).await?;
        Ok((lagged(&mut self.plan().due, fresh, lag), next))
    }

    async fn park(&self, run: RunId, lane: &str) -> Result<(), Error> {
        self.write("parking a run", self.inner.park(run, lane)).await
    }

    async fn parked(&self, lane: &str) -> Result<Option<Queued>, Error> {
        let (fresh, lag) = self.lagging("looking for parked runs", self.inner.parked(lane)).await?;
        Ok(fresh.filter(|_| lag.is_none()))
    }

    async fn unpark_all(&self) -> Result<(), Error> {
        self.write("showing parked runs again", self.inner.unpark_all()).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunHead>, Error> {
        let (fresh, lag) = self.lagging("listing runs", self.inner.runs(query)).await?;
        Ok(lagged(&mut self.plan().runs, fresh, lag))
    }

    async fn open_counts(&self) -> Result<Vec<(State, u64)>, Error> {
        self.read("counting runs", self.inner.open_counts()).await
    }

    async fn journal_append(&self, entries: Vec<JournalEntry>) -> Result<(), Error> {
        self.write("writing a journal", self.inner.journal_append(entries)).await
    }

    async fn journal(&self, query: &JournalQuery) -> Result<Vec<JournalRow>, Error> {
        self.read("reading a journal", self.inner.journal(query)).await
    }

    async fn put_document(&self, revision: &Revision, text: &str) -> Result<(), Error> {
        self.write("keeping a document", self.inner.put_document(revision, text)).await
    }

    async fn document(&self, revision: &Revision) -> Result<Option<String>, Error> {
        self.read("reading a document", self.inner.document(revision)).await
    }

    async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        self.read("reading marks", self.inner.marks(prefix)).await
    }

    async fn set_mark(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        self.write("setting a mark", self.inner.set_mark(name, value)).await
    }

    async fn state(&self, workflow: &WorkflowName) -> Result<Map<String, Value>, Error> {
        self.read("reading a workflow's state", self.inner.state(workflow)).await
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned, Error> {
        self.write("pruning", self.inner.prune(prune)).await
    }

    async fn load(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        self.write("taking pieces of another store", self.inner.load(pieces)).await
    }

    async fn verify(&self) -> Result<Vec<String>, Error> {
        self.read("checking the store", self.inner.verify()).await
    }

    async fn health(&self) -> Result<Health, Error> {
        self.read("asking for its health", self.inner.health()).await
    }

    fn exclusive(&self) -> bool {
        self.inner.exclusive()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;

    /// How a hundred marks fared, and which of them are there.
    async fn fates(seed: u64, faults: Faults) -> (Vec<bool>, usize) {
        let store = Faulty::new(Memory::new(), seed, faults);
        let mut fates = Vec::new();
        for number in 0..100 {
            fates.push(store.set_mark(&format!("{number:03}"), Some("x")).await.is_ok());
        }
        (fates, store.inner().marks("").await.map_or(0, |marks| marks.len()))
    }

    #[tokio::test(start_paused = true)]
    async fn one_seed_is_one_fate() {
        let bad = Faults { before: 200, after: 200, full: 100, ..Faults::BAD_DAY };
        assert_eq!(fates(7, bad).await, fates(7, bad).await);
        assert_ne!(fates(7, bad).await.0, fates(8, bad).await.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_after_the_write_leaves_it_written() {
        let (fates, written) = fates(1, Faults { after: 1000, ..Faults::NONE }).await;
        assert!(fates.iter().all(|fate| !fate) && written == 100);
        let (fates, written) = self::fates(1, Faults { before: 1000, ..Faults::NONE }).await;
        assert!(fates.iter().all(|fate| !fate) && written == 0);
    }
}
