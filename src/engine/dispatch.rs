//! Gives queued runs to workers, oldest first, as far as there is room: in total, in each lane. What cannot start yet
//! is parked in the store, so that it neither fills the memory nor stands in the way of others.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use super::drive::{Claim, Start};
use super::hold::Hold;
use super::log::LogWriter;
use super::prepare::WantedLane;
use crate::domain::event::{Event, Prepared};
use crate::domain::failure::{Failure, Retry};
use crate::domain::run::Run;
use crate::domain::state::State;
use crate::id::RunId;
use crate::limits;
use crate::store::{self, Queued};
use crate::tasks::plan::{ConcurrencyBehavior, Plan};

/// The loop looks for work at least this often, so that a lost signal costs a delay and never work.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Pause after a look that the store refused.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Engine {
    pub(super) async fn dispatch_loop(&self) {
        let shared = !self.0.parts.store.exclusive();
        let mut look_over = Instant::now() + LOOK_EVERY;
        loop {
            // However busy this gateway is: another may have left runs behind what was read here.
            if shared && Instant::now() >= look_over {
                look_over = Instant::now() + LOOK_EVERY;
                self.table().rescan = true;
                self.let_go_of_ended().await;
            }
            let mut claims = Vec::new();
            let pause = self.look(&mut claims).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "looking for work failed; trying again");
                LOOK_AGAIN
            });
            for claim in claims {
                let engine = self.clone();
                self.0.tracker.spawn(async move { engine.work(claim).await });
            }
            tokio::select! {
                () = self.0.drain.cancelled() => return,
                () = self.0.wake.notified() => {}
                // Ids of two gateways do not come in order: what is new may stand behind what was read.
                () = self.0.parts.store.work_came() => self.table().rescan = true,
                () = tokio::time::sleep(pause) => self.table().rescan = true,
            }
        }
    }

    /// Does all work that can be done at this moment, one run after the other: for tests, and for runs without a
    /// server. Returns how many times a run was driven.
    pub async fn run_until_idle(&self) -> Result<usize, super::Error> {
        let mut driven = 0;
        self.table().due = None;
        loop {
            let mut claims = Vec::new();
            let looked = self.look(&mut claims).await;
            let idle = claims.is_empty();
            for claim in claims {
                driven += 1;
                self.work(claim).await;
            }
            looked?;
            if idle {
                return Ok(driven);
            }
            self.table().rescan = true;
        }
    }

    /// One look for work: what has come due, what lanes let go, what is queued. Answers how long until something
    /// comes due. The claims are to be driven even when the look fails half-way.
    async fn look(&self, claims: &mut Vec<Claim>) -> Result<Duration, super::Error> {
        if self.is_draining() {
            return Ok(LOOK_EVERY);
        }
        let next = self.recover().await?.min(LOOK_EVERY);
        // What the store does not say of one run is in the way of no other, and is asked again.
        let mut looked = self.claim_freed(claims).await;
        while self.has_room() {
            match self.next_ready().await {
                Ok(None) => break,
                Ok(Some(run)) => match self.admit(run, None).await {
                    Ok(claim) => claims.extend(claim),
                    Err(error) => looked = Err(error),
                },
                Err(error) => {
                    looked = Err(error);
                    break;
                }
            }
        }
        self.table().rescan |= looked.is_err();
        looked?;
        metrics::gauge!("clawhook_runs_active").set(precise(self.active()));
        Ok(next)
    }

    fn has_room(&self) -> bool {
        self.active() < self.0.parts.settings.runs_active_max.get()
    }

    async fn next_ready(&self) -> Result<Option<Run>, super::Error> {
        let ready = self.table().ready.pop_front();
        if ready.is_some() {
            return Ok(ready);
        }
        self.read_ahead().await?;
        Ok(self.table().ready.pop_front())
    }

    /// Reads queued runs from the store, up to the bound.
    async fn read_ahead(&self) -> Result<(), super::Error> {
        let (after, room) = {
            let mut table = self.table();
            let room = limits::RUNS_READY_MAX.saturating_sub(table.ready.len());
            if std::mem::take(&mut table.rescan) {
                table.read_to = None;
            }
            (table.read_to, room)
        };
        let queued = self.0.parts.store.queued(after, room).await?;
        for Queued { id, log } in queued {
            self.table().read_to.replace(id);
            match Run::fold(id, log) {
                Ok(run) => self.ready(run),
                Err(error) => tracing::error!(run.id = %id, %error, "run {id} cannot be read; it stays as it is"),
            }
        }
        Ok(())
    }

    /// Puts a run at its place among those that wait for a worker.
    pub(super) fn ready(&self, run: Run) {
        let mut table = self.table();
        let known = table.active.contains_key(&run.id) || table.ready.iter().any(|other| other.id == run.id);
        if run.state != State::Queued || known {
            return;
        }
        if table.ready.len() >= limits::RUNS_READY_MAX {
            table.rescan = true;
            return;
        }
        let place = table.ready.iter().rposition(|other| other.id < run.id).map_or(0, |place| place + 1);
        table.ready.insert(place, run);
    }

    /// Lanes that got room: their oldest parked runs come first.
    async fn claim_freed(&self, claims: &mut Vec<Claim>) -> Result<(), super::Error> {
        let freed = self.table().lanes.take_freed();
        let mut looked = Ok(());
        for lane in freed {
            if !self.has_room() {
                self.table().lanes.not_yet(lane);
                continue;
            }
            match self.claim_parked(&lane, claims).await {
                Ok(found) => self.table().lanes.unparked(&lane, found),
                Err(error) => {
                    self.table().lanes.not_yet(lane);
                    looked = Err(error);
                }
            }
        }
        looked
    }

    /// Claims the oldest run behind a lane; false when there is none.
    async fn claim_parked(&self, lane: &str, claims: &mut Vec<Claim>) -> Result<bool, super::Error> {
        let Some(Queued { id, log }) = self.0.parts.store.parked(lane).await? else { return Ok(false) };
        claims.extend(self.admit(Run::fold(id, log)?, Some(lane)).await?);
        Ok(true)
    }

    /// Gives a run to a worker, parks it behind a full lane, or ends it when it cannot start.
    async fn admit(&self, run: Run, from_park: Option<&str>) -> Result<Option<Claim>, super::Error> {
        let id = run.id;
        if run.state != State::Queued || self.table().active.contains_key(&id) {
            return Ok(None);
        }
        let (start, lanes) = match self.make_ready(&run).await {
            Ok((plan, prepared, lanes)) => {
                let fresh = run.prepared.is_none();
                (Start::Ready { plan, prepared: Box::new(prepared), fresh }, lanes)
            }
            // The store did not say what the run needs: it stays queued.
            Err(failure) if failure.retry != Retry::Never => return Err(super::Error::Files(Box::new(failure))),
            Err(failure) => (Start::Hopeless(Box::new(failure)), Vec::new()),
        };
        let wanted: Vec<_> = lanes.iter().map(|wanted| wanted.lane.clone()).collect();
        let taken = self.table().lanes.take(id, &wanted, from_park);
        if let Err(full) = taken {
            let behavior = lanes.iter().find(|wanted| wanted.lane == full).map(|wanted| wanted.behavior);
            self.stand_behind(run, &full.name, behavior.unwrap_or_default()).await?;
            return Ok(None);
        }
        let hold = Hold::default();
        let mut table = self.table();
        table.claims += 1;
        let worker = format!("{}-{}", self.0.incarnation, table.claims);
        table.active.insert(id, hold.clone());
        Ok(Some(Claim { run, worker, hold, start }))
    }

    /// What the run needs to start: its plan, what it reads, its lanes.
    async fn make_ready(&self, run: &Run) -> Result<(Arc<Plan>, Prepared, Vec<WantedLane>), Failure> {
        let plan = self.plan_of(run).await?;
        let prepared = match &run.prepared {
            Some(prepared) => prepared.clone(),
            None => self.prepare(run, &plan).await?,
        };
        let lanes = self.lanes_of(run, &plan, &prepared)?;
        Ok((plan, prepared, lanes))
    }

    async fn stand_behind(&self, run: Run, lane: &str, behavior: ConcurrencyBehavior) -> Result<(), super::Error> {
        let holders = self.table().lanes.holders(lane);
        if behavior == ConcurrencyBehavior::Skip {
            let reason = format!("`concurrency.behavior: skip`: {} was under way", names(&holders));
            if let Ok(plan) = self.plan_of(&run).await {
                self.promise_callback(&run, &plan).await?;
            }
            let mut log = LogWriter::new(Arc::clone(&self.0.parts.store), Arc::clone(&self.0.parts.clock), run);
            let requested = log.push(Event::CancelRequested { by: "concurrency".to_owned(), reason });
            if requested.is_ok() {
                // A conflict means that somebody else moved it on: it comes back if it still wants a worker.
                if log.flush().await.is_ok() {
                    self.tell_parent(log.run()).await;
                }
            }
            return Ok(());
        }
        self.0.parts.store.park(run.id, lane).await?;
        self.table().lanes.parked(lane);
        if behavior == ConcurrencyBehavior::CancelRunning {
            for holder in holders {
                let reason = format!("`concurrency.behavior: cancel_running`: {} came after it", run.id);
                match self.cancel(holder, "concurrency", &reason).await {
                    Ok(_) | Err(super::Error::State { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Drives a claimed run, then gives its place back, and its lanes when it has ended. A run that waits keeps its
    /// lanes, so that no other of its key overtakes it.
    async fn work(&self, claim: Claim) {
        let id = claim.run.id;
        let state = match self.drive(claim).await {
            Some(state) => Some(state),
            None => self.state_of(id).await,
        };
        let mut table = self.table();
        table.active.remove(&id);
        if state.is_none_or(State::is_ended) {
            table.lanes.release(id);
        }
        table.rescan |= state == Some(State::Queued);
        if state != Some(State::Succeeded) {
            // It may come due before anything that is known: ask again.
            table.due = None;
        }
        drop(table);
        self.0.wake.notify_one();
    }

    /// Another gateway may have brought runs to their end that hold lanes here: whoever waits behind them may go.
    async fn let_go_of_ended(&self) {
        let held: Vec<_> = {
            let table = self.table();
            let held = table.lanes.in_the_way().into_iter();
            held.filter(|run| !table.active.contains_key(run)).collect()
        };
        for id in held {
            match super::log::read(self.0.parts.store.as_ref(), id).await {
                Ok(run) if run.state.is_ended() => self.table().lanes.release(id),
                Err(super::Error::Store(store::Error::NoRun(_))) => self.table().lanes.release(id),
                _ => {}
            }
        }
    }

    /// Where a run stands that was lost. Unknown counts as ended here: should it come back, it takes its lanes anew.
    async fn state_of(&self, id: RunId) -> Option<State> {
        super::log::read(self.0.parts.store.as_ref(), id).await.ok().map(|run| run.state)
    }
}

fn names(runs: &[RunId]) -> String {
    runs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; counts stay far below 2^52")]
pub(super) fn precise(count: usize) -> f64 {
    count as f64
}
