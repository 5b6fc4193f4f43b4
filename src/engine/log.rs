//! Writes a run's log and keeps the fold in step. Events gather until something must be on record, then go to the
//! store in one append at the place that was read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::clock::{Clock, Timestamp};
use crate::domain::event::{Entry, Event, Finished};
use crate::domain::run::Run;
use crate::id::{RunId, Seq};
use crate::store::{self, Append, Store};

/// The run is not ours any more: someone else wrote to its log, or the store was away for longer than the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

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

    /// Puts the pending events on record. While the store is away this waits and tries again, as long as the lease
    /// lasts; a try that failed may have been written all the same, so a conflict is looked into.
    pub(super) async fn flush(&mut self) -> Result<(), Lost> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let append = self.take_append();
        let mut pause = STORE_RETRY_FIRST;
        let mut unsure = false;
        loop {
            match self.store.append(append.clone()).await {
                Ok(()) => break,
                Err(store::Error::Conflict { .. }) if unsure => match self.is_written(&append).await {
                    Ok(true) => break,
                    Ok(false) => return Err(Lost),
                    Err(()) => {}
                },
                Err(store::Error::Conflict { .. } | store::Error::NoRun(_)) => return Err(Lost),
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
        self.base = self.run.next;
        Ok(())
    }

    /// One try only: for events that the next look would add again.
    pub(super) async fn try_flush(&mut self) -> Result<(), store::Error> {
        let append = self.take_append();
        self.store.append(append).await?;
        self.base = self.run.next;
        Ok(())
    }

    /// The run as the log has it now.
    pub(super) fn into_run(self) -> Run {
        self.run
    }

    fn take_append(&mut self) -> Append {
        Append {
            run: self.run.id,
            after: self.base,
            at: self.at,
            events: std::mem::take(&mut self.pending),
            head: self.run.head(),
            state: committed_state(&self.run),
        }
    }

    /// Whether the log holds exactly the events of this append at its place, and nothing after them.
    async fn is_written(&self, append: &Append) -> Result<bool, ()> {
        let log = self.store.log(self.run.id).await.map_err(|_| ())?;
        let from = usize::try_from(append.after.0).unwrap_or(usize::MAX);
        Ok(log.get(from..).is_some_and(|tail| tail.iter().map(|entry| &entry.event).eq(&append.events)))
    }

    fn lease_is_over(&self) -> bool {
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
