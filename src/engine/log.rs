//! Writes a run's log and keeps the fold in step. Events gather until something must be on record, then go to the
//! store in one append at the place that was read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::clock::{Clock, Timestamp};
use crate::domain::event::{Entry, Event, Finished};
use crate::domain::run::{Run, TaskState};
use crate::domain::state::State;
use crate::domain::step::StepId;
use crate::id::{RunId, Seq};
use crate::store::{self, Append, Store};

/// The run is not ours any more: someone else wrote to its log, or the store was away for longer than the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

/// What a look at the log came to.
enum CaughtUp {
    /// The pending events are on record.
    Written,
    /// They are not, and now stand behind what others wrote.
    Behind,
    /// The run is not ours any more.
    Lost,
    /// The store does not answer.
    Unread,
}

/// Events that anybody may add while a worker drives the run.
fn leaves_the_run_to_its_worker(event: &Event) -> bool {
    told_task(event).is_some()
}

/// The task that such an event tells something.
fn told_task(event: &Event) -> Option<StepId> {
    match event {
        Event::Decided { task, .. } | Event::Nudged { task } => Some(task.clone()),
        _ => None,
    }
}

/// Pauses between tries to write while the store does not answer.
const STORE_RETRY_FIRST: Duration = Duration::from_millis(50);
const STORE_RETRY_MAX: Duration = Duration::from_secs(2);

/// A run's log, open for writing by one worker.
#[derive(Debug)]
pub(super) struct LogWriter {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    run: Run,
    /// Where the first pending event goes.
    base: Seq,
    pending: Vec<Event>,
    /// The time that all pending events carry.
    at: Timestamp,
}

impl LogWriter {
    /// Opens the log of a run as it was read.
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, run: Run) -> Self {
        let (base, at) = (run.next, clock.now());
        Self { store, clock, run, base, pending: Vec::new(), at }
    }

    /// The run, pending events included.
    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// Adds an event, to be on record after the next `flush`. An event that cannot happen here is a broken rule: it
    /// is logged, and the run is let go.
    pub(super) fn push(&mut self, event: Event) -> Result<(), Lost> {
        if self.pending.is_empty() {
            self.at = self.clock.now();
        }
        let entry = Entry { seq: self.run.next, at: self.at, event: event.clone(), body: Bytes::new() };
        if let Err(error) = self.run.apply(entry) {
            tracing::error!(run.id = %self.run.id, %error, "run {} was let go: its log refused an event", self.run.id);
            return Err(Lost);
        }
        self.pending.push(event);
        Ok(())
    }

    /// Adds an event of somebody else, if it can happen to the run as it stands.
    pub(super) fn offer(&mut self, event: Event) -> bool {
        self.run.state.on(&event).is_ok() && self.push(event).is_ok()
    }

    /// How many events wait for the next `flush`.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes in what others wrote, when it is something that a worker goes on after.
    pub(super) async fn refresh(&mut self) -> Result<(), Lost> {
        match self.catch_up(false).await {
            // While the store is away nothing is known; the next flush sees it.
            CaughtUp::Unread | CaughtUp::Written | CaughtUp::Behind => Ok(()),
            CaughtUp::Lost => Err(Lost),
        }
    }

    /// Puts the pending events on record. While the store is away this waits and tries again, as long as the lease
    /// lasts; a try that failed may have been written all the same, so a conflict is looked into.
    pub(super) async fn flush(&mut self) -> Result<(), Lost> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pause = STORE_RETRY_FIRST;
        let mut unsure = false;
        loop {
            match self.store.append(self.to_append()).await {
                Ok(()) => {
                    self.written();
                    return Ok(());
                }
                Err(store::Error::Conflict { .. }) => match self.catch_up(unsure).await {
                    CaughtUp::Written => return Ok(()),
                    CaughtUp::Behind => continue,
                    CaughtUp::Lost => return Err(Lost),
                    CaughtUp::Unread => {}
                },
                Err(store::Error::NoRun(_)) => return Err(Lost),
                Err(error) => {
                    unsure = true;
                    tracing::warn!(run.id = %self.run.id, %error, "store did not take events of run {}; trying again", self.run.id);
                }
            }
            if self.lease_is_over() {
                return Err(Lost);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(STORE_RETRY_MAX);
        }
    }

    /// One try only: for events that the next look would add again.
    pub(super) async fn try_flush(&mut self) -> Result<(), store::Error> {
        self.store.append(self.to_append()).await?;
        self.written();
        Ok(())
    }

    /// The run as the log has it now.
    pub(super) fn into_run(self) -> Run {
        self.run
    }

    fn to_append(&self) -> Append {
        Append {
            run: self.run.id,
            after: self.base,
            at: self.at,
            events: self.pending.clone(),
            head: self.run.head(),
            state: committed_state(&self.run),
        }
    }

    fn written(&mut self) {
        self.pending.clear();
        self.base = self.run.next;
    }

    /// Reads what stands behind the last event that is known. Some events of others leave the run to its worker; then
    /// the pending ones go behind them. `unsure` when the pending ones may be there already.
    async fn catch_up(&mut self, unsure: bool) -> CaughtUp {
        let Ok(log) = self.store.log(self.run.id).await else { return CaughtUp::Unread };
        let from = usize::try_from(self.base.0).unwrap_or(usize::MAX);
        let Some(tail) = log.get(from..) else { return CaughtUp::Lost };
        let ours = self.pending.len();
        let is_ours = |tail: &[Entry]| tail.iter().map(|entry| &entry.event).eq(&self.pending);
        let written = unsure && tail.get(..ours).is_some_and(is_ours);
        let theirs = if written { &tail[ours..] } else { tail };
        if !theirs.iter().all(|entry| leaves_the_run_to_its_worker(&entry.event)) {
            return CaughtUp::Lost;
        }
        if written && theirs.is_empty() {
            self.written();
            return CaughtUp::Written;
        }
        let told: Vec<_> = theirs.iter().filter_map(|entry| told_task(&entry.event)).collect();
        let pending = std::mem::take(&mut self.pending);
        let Ok(run) = Run::fold(self.run.id, log) else { return CaughtUp::Lost };
        (self.base, self.run) = (run.next, run);
        if written {
            return CaughtUp::Written;
        }
        for event in pending {
            if self.push(event).is_err() {
                return CaughtUp::Lost;
            }
        }
        match self.wake_what_was_told(told) {
            Ok(()) => CaughtUp::Behind,
            Err(Lost) => CaughtUp::Lost,
        }
    }

    /// What was pending was decided without knowing what others had told these tasks: none of them may wait on.
    fn wake_what_was_told(&mut self, told: Vec<StepId>) -> Result<(), Lost> {
        for task in told {
            let now = self.clock.now();
            let waits = |state: &TaskState| match state {
                TaskState::Paused { until, .. } => *until > now,
                // An attempt under way may have begun without knowing.
                TaskState::Started { .. } => true,
                _ => false,
            };
            if self.run.tasks.get(&task).is_some_and(|record| waits(&record.state)) {
                self.push(Event::Nudged { task })?;
            }
        }
        if self.run.state == State::Waiting { self.push(Event::Woken) } else { Ok(()) }
    }

    pub(super) fn lease_is_over(&self) -> bool {
        self.run.lease.as_ref().is_some_and(|lease| self.clock.now() >= lease.until)
    }
}

/// The state that the last event commits.
fn committed_state(run: &Run) -> Option<Map<String, Value>> {
    run.committed_state.clone().filter(|state| !state.is_empty())
}

/// Reads and folds the log of a run.
pub(super) async fn read(store: &dyn Store, run: RunId) -> Result<Run, super::Error> {
    let log = store.log(run).await?;
    Ok(Run::fold(run, log)?)
}

/// The outcome of a success.
pub(super) fn succeeded(outputs: Map<String, Value>, state: Map<String, Value>) -> Event {
    Event::Finished(Box::new(Finished::Succeeded { outputs, state }))
}

/// The outcome of a failure.
pub(super) fn failed(failure: crate::domain::failure::Failure) -> Event {
    Event::Finished(Box::new(Finished::Failed { failure }))
}
