//! Moves runs on whose moment has come: waits that are over, and runs whose worker is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::log::{LogWriter, read};
use super::{Due, Engine};
use crate::clock::Timestamp;
use crate::domain::event::Event;
use crate::domain::run::{Run, RunHead};
use crate::domain::state::State;
use crate::id::RunId;
use crate::limits;
use crate::store::RunQuery;

/// The store is asked at least this often what is due.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// No moment at all.
const FAR_OFF: Timestamp = Timestamp::from_millis(i64::MAX);

impl Engine {
    /// Takes over what an earlier process left: before the first run is driven. On a store that only this process can
    /// write to, a lease of another incarnation is dead whatever its end says.
    pub async fn take_over(&self) -> Result<(), super::Error> {
        let store = &self.0.parts.store;
        if !store.exclusive() {
            // Others may drive what this process finds. Who is gone is noticed by its leases, and by the store.
            return Ok(());
        }
        store.unpark_all().await?;
        let mut before = None;
        loop {
            let states = vec![State::Running, State::Cancelling, State::Waiting];
            let query = RunQuery { states, before, limit: limits::PAGE_MAX, ..RunQuery::default() };
            let heads = store.runs(&query).await?;
            // What waits and never started, such as a held delivery, has no worker and no lane.
            for head in heads.iter().filter(|head| head.state != State::Waiting || head.started_at.is_some()) {
                self.take_over_one(head).await?;
            }
            before = heads.last().map(|head| head.id);
            if heads.len() < limits::PAGE_MAX {
                return Ok(());
            }
        }
    }

    async fn take_over_one(&self, head: &RunHead) -> Result<(), super::Error> {
        let run = read(self.0.parts.store.as_ref(), head.id).await?;
        let foreign = run.lease.as_ref().is_some_and(|lease| !lease.worker.starts_with(&self.0.incarnation));
        if matches!(run.state, State::Running | State::Cancelling) && foreign {
            self.hold_lanes(&run).await;
            return self.move_on(run, Event::LeaseExpired).await;
        }
        if run.started_at.is_some() && !run.state.is_ended() {
            self.hold_lanes(&run).await;
        }
        Ok(())
    }

    /// A run that has started keeps its lanes over a restart.
    async fn hold_lanes(&self, run: &Run) {
        let Some(prepared) = &run.prepared else { return };
        let plan = self.plan_of(run).await;
        let Some(lanes) = plan.ok().and_then(|plan| self.lanes_of(run, &plan, prepared).ok()) else { return };
        let wanted: Vec<_> = lanes.into_iter().map(|wanted| wanted.lane).collect();
        // Fails only when the limit was lowered meanwhile; then the run goes on without holding it.
        let _ = self.table().lanes.take(run.id, &wanted, None);
    }

    /// Wakes what has come due, and answers how long until the next. The store is asked only when something can have
    /// come due: this is called for every run.
    pub(super) async fn recover(&self) -> Result<Duration, super::Error> {
        let now = self.0.parts.clock.now();
        let known = self.table().due.filter(|due| now < due.next && Instant::now() < due.ask_again);
        if let Some(due) = known {
            return Ok(due.next.since(now));
        }
        let (due, next) = self.0.parts.store.due(now, limits::RUNS_READY_MAX).await?;
        let until = next.filter(|_| due.is_empty()).unwrap_or(if due.is_empty() { FAR_OFF } else { now });
        self.table().due = Some(Due { next: until, ask_again: Instant::now() + ASK_EVERY });
        for head in due {
            if !self.table().active.contains_key(&head.id) {
                self.wake(head.id, now).await?;
            }
        }
        Ok(until.since(now))
    }

    /// Reads one run that the index says is due, and moves it on when its log agrees.
    async fn wake(&self, id: RunId, now: Timestamp) -> Result<(), super::Error> {
        let run = read(self.0.parts.store.as_ref(), id).await?;
        let over = |until: Option<Timestamp>| until.is_some_and(|until| until <= now);
        match run.state {
            State::Waiting if over(run.wait.as_ref().map(|wait| wait.until)) => self.move_on(run, Event::Woken).await,
            State::Running | State::Cancelling if over(run.lease.as_ref().map(|lease| lease.until)) => {
                tracing::warn!(run.id = %id, "the worker of run {id} was not heard of in time; the run goes on");
                self.move_on(run, Event::LeaseExpired).await
            }
            _ => Ok(()),
        }
    }

    /// Appends one event that needs no worker. Losing the race is normal: somebody else moved it on.
    async fn move_on(&self, run: Run, event: Event) -> Result<(), super::Error> {
        let id = run.id;
        let mut log = LogWriter::new(Arc::clone(&self.0.parts.store), Arc::clone(&self.0.parts.clock), run);
        if log.push(event).is_err() || log.try_flush().await.is_err() {
            return Ok(());
        }
        let run = log.into_run();
        if run.state.is_ended() {
            self.table().lanes.release(id);
            self.tell_parent(&run).await;
        }
        self.ready(run);
        Ok(())
    }
}
