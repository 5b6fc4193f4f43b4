//! Runs that other runs start, and how one learns of the other's end.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::log::read;
use super::{Engine, Error, callback};
use crate::domain::attempt::Pause;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::{Accepted, Event};
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::run::{Run, TaskState};
use crate::domain::state::State;
use crate::domain::sweep;
use crate::domain::trigger::Trigger;
use crate::id::{Revision, RunId, ScheduleName};
use crate::limits;
use crate::store::{self, Acceptance, NewRun, Receipt};
use crate::tasks::plan::Plan;
use crate::tasks::sweep::SharedEntrance;
use crate::tasks::{Child, Runs};

#[async_trait]
impl Runs for Engine {
    async fn start(&self, child: Child<'_>) -> Result<RunId, Failure> {
        let Child { parent, task, workflow, inputs, key } = child;
        let plan = self.0.parts.files.current_plan(workflow).ok_or_else(|| gone(workflow.as_str()))?;
        let depth = self.depth_of(parent).await? + 1;
        if depth > limits::RUN_DEPTH_MAX {
            let message = format!("{depth} runs above a run of `{workflow}` are more than {}", limits::RUN_DEPTH_MAX);
            return Err(Failure::new("run.too_deep", Fault::Config, message)
                .help("some workflow starts itself, perhaps by way of others: end the ring with an `if`")
                .at(workflow.as_str()));
        }
        let key = match key {
            Some(key) => DeliveryKey::of_shared_child(workflow, &key),
            None => DeliveryKey::of_child(parent, task),
        };
        let trigger = Trigger::Parent { run: parent, task: task.clone(), depth };
        let accepted =
            Accepted { inputs: Some(inputs), ..Accepted::new(workflow.clone(), plan.revision.clone(), trigger) };
        self.accept_one(key, accepted).await.map_err(|error| unstored(&error))
    }

    async fn ended(&self, run: RunId) -> Result<Option<Run>, Failure> {
        let read = read(self.0.parts.store.as_ref(), run).await;
        let run = read.map_err(|error| match error {
            Error::Store(error @ store::Error::NoRun(_)) => {
                Failure::new("run.child_failed", Fault::Here, format!("{error}; retention may have let it go"))
            }
            error => unstored(&error),
        })?;
        Ok(run.state.is_ended().then_some(run))
    }

    fn entrance(&self) -> Option<SharedEntrance> {
        self.0.entrance.get().cloned()
    }
}

impl Engine {
    /// The plan that a run is driven by: its workflow's, or that of a sweep or a callback.
    pub(super) async fn plan_of(&self, run: &Run) -> Result<Arc<Plan>, Failure> {
        if let Some((schedule, revision)) = sweep_of(run)
            && let Some(sweep) = &self.0.parts.files.schedule(schedule, revision).await?.sweep
        {
            return Ok(Arc::clone(&sweep.plan));
        }
        let plan = self.0.parts.files.plan(&run.accepted.workflow, &run.accepted.revision).await?;
        match (&run.accepted.trigger, &plan.callback) {
            (Trigger::Callback { of }, Some(told)) => Ok(Arc::new(callback::plan(&plan, told, *of))),
            (Trigger::Callback { .. } | Trigger::Edit { .. }, _) => Err(runs_nothing(run)),
            _ => Ok(plan),
        }
    }

    async fn depth_of(&self, run: RunId) -> Result<u32, Failure> {
        let run = read(self.0.parts.store.as_ref(), run).await.map_err(|error| unstored(&error))?;
        Ok(match run.accepted.trigger {
            Trigger::Parent { depth, .. } => depth,
            _ => 0,
        })
    }

    /// Accepts one run, also while the gateway shuts down: what asks for it is under way already.
    pub(super) async fn accept_one(&self, key: DeliveryKey, accepted: Accepted) -> Result<RunId, Error> {
        let acceptance = Acceptance {
            key,
            window: limits::CHILD_KEY_WINDOW,
            replay_guard: None,
            at: self.0.parts.clock.now(),
            runs: vec![NewRun { accepted, body: Bytes::new() }],
        };
        let receipt = self.0.parts.store.accept(acceptance).await?;
        self.0.wake.notify_one();
        let (Receipt::New(runs) | Receipt::Duplicate(runs)) = receipt;
        runs.first()
            .copied()
            .ok_or_else(|| store::Error::Failed { doing: "accepting a run", why: "it named none".to_owned() }.into())
    }

    /// Sees to it that whoever wants to know of this run's end is told, before it ends: the telling is a run of its own,
    /// which waits for the end. Doing it again changes nothing.
    pub(super) async fn promise_callback(&self, run: &Run, plan: &Plan) -> Result<(), Error> {
        if plan.callback.is_none() || matches!(run.accepted.trigger, Trigger::Callback { .. }) {
            return Ok(());
        }
        let key = DeliveryKey::of_callback(run.id, run.resumes);
        let trigger = Trigger::Callback { of: run.id };
        let accepted = Accepted {
            inputs: Some(serde_json::Map::new()),
            ..Accepted::new(run.accepted.workflow.clone(), run.accepted.revision.clone(), trigger)
        };
        self.accept_one(key, accepted).await.map(drop)
    }

    /// A run has ended: the run that waits for it need not wait any longer. When this does not work out, that run looks
    /// by itself.
    pub(super) async fn tell_parent(&self, ended: &Run) {
        let Trigger::Parent { run: parent, task, .. } = &ended.accepted.trigger else { return };
        let waits = |run: &Run| {
            run.tasks.get(task).is_some_and(
                |record| matches!(&record.state, TaskState::Paused { why: Pause::Run { run }, .. } if *run == ended.id),
            )
        };
        let nudged = self.append_all(*parent, |run| {
            if !waits(run) {
                return Err(Error::State { run: run.id, state: run.state, why: "it does not wait for that run" });
            }
            Ok(nudge(run, Event::Nudged { task: task.clone() }))
        });
        if let Ok(run) = nudged.await {
            self.has_news(run);
        }
    }

    /// The runs that this one waits for.
    pub(super) fn children(run: &Run) -> Vec<RunId> {
        let child = |state: &TaskState| match state {
            TaskState::Paused { why: Pause::Run { run }, .. } => Some(*run),
            _ => None,
        };
        run.tasks.values().filter_map(|record| child(&record.state)).collect()
    }

    /// Something that a run waits for has come: its worker, or the next one, takes it in.
    pub(super) fn has_news(&self, run: Run) {
        let worker = self.table().active.get(&run.id).cloned();
        match worker {
            Some(hold) => hold.news.notify_one(),
            None => self.ready(run),
        }
        self.nudge();
    }
}

/// The schedule of a run that may be a sweep: both are named alike, so no other run costs a look at its schedule.
pub(super) fn sweep_of(run: &Run) -> Option<(&ScheduleName, &Revision)> {
    let Trigger::Slot { schedule, revision, .. } = &run.accepted.trigger else { return None };
    let is_sweep = sweep::is_name(schedule) && run.accepted.workflow.as_str() == schedule.as_str();
    is_sweep.then_some((schedule, revision))
}

/// The event, and what lets a waiting run go on after it.
pub(super) fn nudge(run: &Run, event: Event) -> Vec<Event> {
    let woken = (run.state == State::Waiting).then_some(Event::Woken);
    std::iter::once(event).chain(woken).collect()
}

/// Such a run never runs the tasks of its workflow, whatever became of it.
fn runs_nothing(run: &Run) -> Failure {
    let kind = run.accepted.trigger.kind().as_str();
    Failure::new("files.missing", Fault::Here, format!("the `{kind}` run was left half made, and has nothing to run"))
        .help("do again what it was for")
}

fn gone(workflow: &str) -> Failure {
    Failure::new("files.missing", Fault::Config, format!("there is no workflow `{workflow}` any more"))
        .help("put its file back, reload, then resume the run")
        .at(workflow)
}

fn unstored(error: &Error) -> Failure {
    Failure::new("store.unavailable", Fault::Here, error.to_string())
        .help("the next attempt finds what this one may have written")
        .retriable(Class::Connect, None)
}
