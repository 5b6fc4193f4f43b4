//! What people may do to a run: cancel it, run it again as a new one, or let it go on.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::log::{self, LogWriter, read};
use super::runs::{nudge, sweep_of};
use super::{Engine, Error};
use crate::clock::Timestamp;
use crate::domain::approval::Decision;
use crate::domain::attempt::Pause;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::{Accepted, Event, Repin, WaitReason};
use crate::domain::failure::{Failure, Fault};
use crate::domain::run::{Run, TaskState};
use crate::domain::state::State;
use crate::domain::step::StepId;
use crate::domain::trigger::Trigger;
use crate::id::{RunId, WorkflowName};
use crate::store;
use crate::tasks::approval::Question;
use crate::tasks::plan::{Plan, PlannedTask, TaskList, Work};

/// Times that a verb reads the log again after somebody else wrote first.
const RACES_MAX: usize = 16;

/// Races after which the worker of a run is asked to write instead: it writes more often than its log can be read.
const RACES_BEFORE_HANDING: usize = 2;

/// What became of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled.
    Now,
    /// Its worker was told to stop.
    Soon,
}

/// What a resume will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// The tasks that run again; those that succeeded keep their results.
    pub again: Vec<StepId>,
}

impl Engine {
    /// Asks a run to stop. What is in flight is cut off; no handlers run.
    pub async fn cancel(&self, id: RunId, by: &str, reason: &str) -> Result<Cancelled, Error> {
        let event = Event::CancelRequested { by: by.to_owned(), reason: reason.to_owned() };
        let standing = read(self.store().as_ref(), id).await?;
        // A run whose file is gone has nobody to tell.
        if let Ok(plan) = self.plan_of(&standing).await
            && !standing.state.is_ended()
        {
            self.promise_callback(&standing, &plan).await?;
        }
        let run = self
            .append_one(id, |run| match run.state {
                State::Queued | State::Waiting | State::Running => Ok(event.clone()),
                state => Err(Error::State { run: id, state, why: "only a run that has not ended can be cancelled" }),
            })
            .await?;
        let worker = {
            let mut table = self.table();
            table.ready.retain(|other| other.id != id);
            if run.state == State::Cancelled {
                table.lanes.release(id);
            }
            table.active.get(&id).cloned()
        };
        if let Some(worker) = worker {
            worker.cancel.cancel();
        }
        self.0.wake.notify_one();
        if run.state == State::Cancelled {
            self.tell_parent(&run).await;
        }
        for child in Self::children(&run) {
            // Others may wait for a run that somebody else started.
            let Ok(standing) = read(self.store().as_ref(), child).await else { continue };
            let ours = matches!(standing.accepted.trigger, Trigger::Parent { run, .. } if run == id);
            if ours && let Err(error) = Box::pin(self.cancel(child, by, reason)).await {
                tracing::info!(run.id = %child, %error, "run {child} was not cancelled with its parent {id}");
            }
        }
        Ok(if run.state == State::Cancelled { Cancelled::Now } else { Cancelled::Soon })
    }

    /// Lets a failed or cancelled run go on: from the task that failed, under the same idempotency keys. Tasks that
    /// succeeded keep their results; handlers run again. A run whose inputs could not be read is pinned to the files
    /// in force now.
    pub async fn resume(&self, id: RunId, by: &str) -> Result<Resumed, Error> {
        let run = read(self.store().as_ref(), id).await?;
        refuse_stripped(&run)?;
        if matches!(run.accepted.trigger, Trigger::Edit { .. }) {
            let why = "it only sets the workflow's state: set it anew";
            return Err(Error::State { run: id, state: run.state, why });
        }
        let is_callback = matches!(run.accepted.trigger, Trigger::Callback { .. });
        let repin = if run.prepared.is_none() && !is_callback { self.repin(&run) } else { None };
        let revision = repin.as_ref().map_or(&run.accepted.revision, |repin| &repin.workflow);
        let plan = match &repin {
            None => self.plan_of(&run).await,
            Some(_) => self.0.parts.files.plan(&run.accepted.workflow, revision).await,
        };
        let plan = plan.map_err(|failure| Error::Files(Box::new(failure)))?;
        let Again { steps: again, reopened } = Again::of(&run, &plan);
        let event = Event::Resumed { by: by.to_owned(), again: again.clone(), reopened, repin: repin.map(Box::new) };
        let run = self
            .append_one(id, |run| match run.state {
                State::Failed | State::Cancelled => Ok(event.clone()),
                state => Err(Error::State { run: id, state, why: "only a failed or cancelled run can be resumed" }),
            })
            .await?;
        self.ready(run);
        self.nudge();
        Ok(Resumed { again })
    }

    fn repin(&self, run: &Run) -> Option<Repin> {
        let plan = self.0.parts.files.current_plan(&run.accepted.workflow)?;
        let source = self.0.parts.files.current_source(&run.accepted.trigger);
        Some(Repin { workflow: plan.revision.clone(), source })
    }

    /// Starts a new run with the input of an old one, on the revision in force now; it reads the state that the old
    /// run saw. `key` makes a repeated request one replay.
    pub async fn replay(&self, id: RunId, by: &str, key: DeliveryKey) -> Result<store::Receipt, Error> {
        let run = read(self.store().as_ref(), id).await?;
        refuse_stripped(&run)?;
        if matches!(run.accepted.trigger, Trigger::Edit { .. } | Trigger::Callback { .. }) {
            let why = "it ran no tasks of its workflow, so there is nothing to run again";
            return Err(Error::State { run: id, state: run.state, why });
        }
        if sweep_of(&run).is_some() && self.0.parts.files.current_plan(&run.accepted.workflow).is_none() {
            let why =
                "a sweep looks at what is there now, and the next slot of its schedule does that: resume it, or wait";
            return Err(Error::State { run: id, state: run.state, why });
        }
        let inputs = match &run.prepared {
            Some(prepared) => prepared.inputs.clone(),
            None => self.given_inputs(&run).await.map_err(|failure| Error::Files(Box::new(failure)))?,
        };
        let plan = self.0.parts.files.current_plan(&run.accepted.workflow);
        let revision = plan.map_or(run.accepted.revision, |plan| plan.revision.clone());
        let accepted = Accepted {
            inputs: Some(inputs),
            state: run.prepared.map(|prepared| prepared.state),
            ..Accepted::new(run.accepted.workflow, revision, Trigger::Replay { of: id, by: by.to_owned() })
        };
        let acceptance = store::Acceptance {
            key,
            window: crate::limits::CALL_KEY_WINDOW,
            replay_guard: None,
            at: self.0.parts.clock.now(),
            runs: vec![store::NewRun { accepted, body: bytes::Bytes::new() }],
        };
        let receipt = self.store().accept(acceptance).await?;
        self.0.wake.notify_one();
        Ok(receipt)
    }

    /// Sets members of a workflow's state; null removes one. It is on record as a run that does nothing else, so it is
    /// found, shown and kept like any, and no other way to write state is needed.
    pub async fn edit_state(
        &self,
        workflow: &WorkflowName,
        changes: Map<String, Value>,
        by: &str,
    ) -> Result<RunId, Error> {
        let Some(plan) = self.0.parts.files.current_plan(workflow) else {
            let message = format!("there is no workflow `{workflow}`");
            return Err(Error::Files(Box::new(Failure::new("files.missing", Fault::Config, message))));
        };
        let trigger = Trigger::Edit { by: by.to_owned() };
        // Held, so that no worker takes it before its one write is there.
        let accepted = Accepted {
            inputs: Some(Map::new()),
            held: true,
            ..Accepted::new(workflow.clone(), plan.revision.clone(), trigger)
        };
        let id = self.accept_one(DeliveryKey::unique(), accepted).await?;
        let worker = format!("{}-edit", self.0.incarnation);
        self.append_all(id, |_| {
            Ok(vec![
                Event::Woken,
                Event::Claimed { worker: worker.clone(), lease_until: self.lease_until() },
                Event::Prepared(Box::default()),
                log::succeeded(Map::new(), changes.clone()),
            ])
        })
        .await?;
        Ok(id)
    }

    /// Lets the runs go on that were held while their route was paused; answers how many.
    pub async fn release_held(&self, source: &str) -> Result<usize, Error> {
        let mut released = 0;
        let mut before = None;
        loop {
            let query = store::RunQuery {
                states: vec![State::Waiting],
                source: Some(source.to_owned()),
                before,
                limit: crate::limits::PAGE_MAX,
                ..store::RunQuery::default()
            };
            let heads = self.store().runs(&query).await?;
            for head in heads.iter().filter(|head| matches!(head.wait, Some(WaitReason::Held { .. }) | None)) {
                let woken = self.append_one(head.id, |run| match &run.wait {
                    Some(wait) if matches!(wait.reason, WaitReason::Held { .. }) => Ok(Event::Woken),
                    _ => Err(Error::State { run: run.id, state: run.state, why: "it is not held" }),
                });
                match woken.await {
                    Ok(_) => released += 1,
                    Err(Error::State { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            before = heads.last().map(|head| head.id);
            if heads.len() < crate::limits::PAGE_MAX {
                self.nudge();
                return Ok(released);
            }
        }
    }

    /// Why a run does not make progress at this moment, in a sentence; nothing when it does, or has ended.
    pub async fn why_waiting(&self, id: RunId) -> Result<Option<String>, Error> {
        let run = read(self.store().as_ref(), id).await?;
        Ok(match run.state {
            State::Waiting => run.wait.as_ref().map(|wait| describe_wait(wait.until, &wait.reason)),
            State::Queued => Some(self.why_queued(&run).await),
            State::Cancelling => Some("it was asked to stop; its worker is cutting off what is in flight".to_owned()),
            State::Running | State::Succeeded | State::Failed | State::Cancelled => None,
        })
    }

    async fn why_queued(&self, run: &Run) -> String {
        if self.is_draining() {
            return "the gateway is shutting down; the run starts after the restart".to_owned();
        }
        let plan = self.plan_of(run).await.ok();
        let prepared = match (&run.prepared, &plan) {
            (Some(prepared), _) => Some(prepared.clone()),
            (None, Some(plan)) => self.prepare(run, plan).await.ok(),
            (None, None) => None,
        };
        if let (Some(plan), Some(prepared)) = (&plan, &prepared) {
            for wanted in self.lanes_of(run, plan, prepared).unwrap_or_default() {
                let holders = self.table().lanes.holders(&wanted.lane.name);
                if let (Some(first), true) = (holders.first(), holders.len() >= wanted.lane.room) {
                    return format!(
                        "it stands behind {first} in `{}`, which has room for {}",
                        wanted.lane.name, wanted.lane.room
                    );
                }
            }
        }
        let (active, max) = (self.active(), self.0.parts.settings.runs_active_max);
        if active >= max.get() {
            return format!("all {max} workers are busy (`limits.concurrency`)");
        }
        "it is next".to_owned()
    }

    /// Notes what a person decided about a task that waits for people, and lets the run see it.
    pub async fn decide(&self, id: RunId, task: &StepId, decision: Decision) -> Result<Run, Error> {
        let decided = Event::Decided { task: task.clone(), decision: Box::new(decision.clone()) };
        let run = self.append_all(id, |run| {
            let record = run.tasks.get(task).filter(|record| record.question().is_some() && !run.state.is_ended());
            let question = record.and_then(|record| Question::of(record.checkpoint.as_ref()));
            let why = match question {
                None => "its task does not wait for people, or not any more",
                Some(question) if decision.at >= question.expires_at => "the approval has expired",
                Some(_) => return Ok(nudge(run, decided.clone())),
            };
            Err(Error::State { run: id, state: run.state, why })
        });
        let run = run.await?;
        self.has_news(run.clone());
        Ok(run)
    }

    /// Appends the one event that `decide` wants for the run as it stands, however often somebody else writes first.
    async fn append_one(&self, id: RunId, decide: impl Fn(&Run) -> Result<Event, Error>) -> Result<Run, Error> {
        self.append_all(id, |run| Ok(vec![decide(run)?])).await
    }

    /// The same for several events in one write.
    pub(super) async fn append_all(
        &self,
        id: RunId,
        decide: impl Fn(&Run) -> Result<Vec<Event>, Error>,
    ) -> Result<Run, Error> {
        let parts = &self.0.parts;
        let mut races = 0;
        loop {
            let run = read(parts.store.as_ref(), id).await?;
            let events = decide(&run)?;
            if races >= RACES_BEFORE_HANDING
                && let Some(run) = self.hand_over(id, &events).await
            {
                return Ok(run);
            }
            let mut log = LogWriter::new(Arc::clone(&parts.store), Arc::clone(&parts.clock), run);
            for event in events {
                if log.push(event).is_err() {
                    let state = log.run().state;
                    return Err(Error::State { run: id, state, why: "that cannot happen to it now" });
                }
            }
            match log.try_flush().await {
                Ok(()) => return Ok(log.into_run()),
                Err(store::Error::Conflict { .. }) if races < RACES_MAX => races += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What a resume forgets: the steps that run again, and what holds them and goes on with what it had opened with.
#[derive(Debug, Default)]
struct Again {
    steps: Vec<StepId>,
    reopened: Vec<StepId>,
}

impl Again {
    /// All of the handlers, and whatever did not end well. What ended well, or failed where the run was told to go on,
    /// keeps its results: later tasks may have acted on them.
    fn of(run: &Run, plan: &Plan) -> Self {
        let mut again = Self::default();
        again.list(run, &plan.tasks, None);
        let handlers: Vec<_> = plan.handlers().map(|task| &task.id).collect();
        again.steps.extend(run.tasks.keys().filter(|step| handlers.contains(&step.root())).cloned());
        again
    }

    fn list(&mut self, run: &Run, list: &TaskList, within: Option<&StepId>) {
        for task in &list.tasks {
            self.step(run, task, StepId::of(within, &task.id), task.continue_on_error);
        }
    }

    fn step(&mut self, run: &Run, task: &PlannedTask, step: StepId, tolerated: bool) {
        let Some(record) = run.tasks.get(&step) else { return };
        let gone_on = |failure: &Failure| tolerated && failure.code != CUT_OFF;
        let opened = match &record.state {
            TaskState::Succeeded { .. } | TaskState::Skipped | TaskState::Closed { failure: None, .. } => return,
            TaskState::Failed { failure } | TaskState::Closed { failure: Some(failure), .. } if gone_on(failure) => {
                return;
            }
            TaskState::Open(opened) | TaskState::Closed { was: opened, .. } => opened,
            TaskState::Again
            | TaskState::Started { .. }
            | TaskState::Retrying { .. }
            | TaskState::Paused { .. }
            | TaskState::Failed { .. } => return self.steps.push(step),
        };
        self.reopened.push(step.clone());
        if let Some(items) = &opened.items {
            for item in items.open.union(&items.failed) {
                self.step(run, task, step.at(*item), task.continue_on_error);
            }
            return;
        }
        let within = step.within();
        match (&task.work, opened.case) {
            (Work::Group(list), _) => self.list(run, list, within.as_ref()),
            (Work::Switch(cases), Some(case)) => {
                if let Some(case) = cases.get(case as usize) {
                    self.list(run, &case.list, within.as_ref());
                }
            }
            (Work::Switch(_) | Work::Task(_), _) => {}
        }
    }
}

/// The code of an attempt that a cancel broke in on: nobody decided to go on from it.
const CUT_OFF: &str = "run.cancelled";

fn refuse_stripped(run: &Run) -> Result<(), Error> {
    if run.accepted.stripped {
        let why = "its payloads were let go by `retention.payloads`, so it cannot run again";
        return Err(Error::State { run: run.id, state: run.state, why });
    }
    Ok(())
}

fn describe_wait(until: Timestamp, reason: &WaitReason) -> String {
    match reason {
        WaitReason::Held { source } => format!("`{source}` is paused; it starts when that is resumed"),
        WaitReason::Retry { task, attempt, message } => {
            format!("attempt {attempt} of task `{task}` failed ({message}); the next one starts at {until}")
        }
        WaitReason::Paused { task, why: Pause::Delay } => format!("task `{task}` waits until {until}"),
        WaitReason::Paused { task, why } => format!("task `{task}`: {why}; it goes on at {until}"),
        WaitReason::Unread { task, why } => {
            format!(
                "what task `{task}` gave is kept beside the record and cannot be read ({why}); it is tried again at {until}"
            )
        }
        WaitReason::Drained => "the gateway was shut down; it goes on after the restart".to_owned(),
    }
}
