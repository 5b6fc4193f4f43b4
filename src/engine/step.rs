//! What a run does next: one pure function of its plan, its log and the time. The driver does what it says.

use serde_json::Value;

use crate::clock::Timestamp;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::run::{Run, TaskState};
use crate::tasks::Effect;
use crate::tasks::plan::{Plan, PlannedTask};

/// What a run does next.
#[derive(Debug)]
pub(super) enum Step<'p> {
    /// Look at the task's `if`, then skip it or try it.
    Consider(&'p PlannedTask),
    /// Try it once more: an attempt failed or did only a part, and the delay is over.
    Retry(&'p PlannedTask),
    /// An attempt was in flight when the worker went away.
    Interrupted(&'p PlannedTask),
    /// Its delay is over: it is done.
    EndDelay(&'p PlannedTask),
    /// Nothing can be done before this moment.
    Wait { task: &'p PlannedTask, until: Timestamp },
    /// All that is to run has run.
    Finish(Verdict),
}

/// How the tasks went, handlers included.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Succeeded,
    Failed(Failure),
}

/// The next step of `run` at `now`.
pub(super) fn next<'p>(plan: &'p Plan, run: &Run, now: Timestamp) -> Step<'p> {
    let verdict = match walk(&plan.tasks, run, now) {
        Walk::Done => Verdict::Succeeded,
        Walk::Failed(failure) => Verdict::Failed(failure),
        Walk::Stopped(failure) => failure.map_or(Verdict::Succeeded, Verdict::Failed),
        Walk::At(step) => match timed_out(plan, run, now) {
            Some(failure) => Verdict::Failed(failure),
            None => return step.not_after(deadline(plan, run)),
        },
    };
    handlers(plan, run, now, verdict)
}

/// What the failure handlers see, once the tasks have failed.
pub(super) fn failure_so_far(plan: &Plan, run: &Run, now: Timestamp) -> Option<Failure> {
    match walk(&plan.tasks, run, now) {
        Walk::Failed(failure) | Walk::Stopped(Some(failure)) => Some(failure),
        Walk::At(_) => timed_out(plan, run, now),
        Walk::Done | Walk::Stopped(None) => None,
    }
}

/// The moment by which the tasks of a run must be through.
pub(super) fn deadline(plan: &Plan, run: &Run) -> Timestamp {
    run.timed_from.map_or(Timestamp::from_millis(i64::MAX), |from| from.plus(plan.timeout))
}

fn timed_out(plan: &Plan, run: &Run, now: Timestamp) -> Option<Failure> {
    (now >= deadline(plan, run)).then(|| {
        let limit = crate::domain::duration::format(plan.timeout);
        Failure::new("run.timeout", Fault::Config, format!("the run took longer than its limit of {limit}"))
            .help("raise `timeout` of the workflow, or find out why it takes so long; then resume the run")
    })
}

/// `on_failure` or `on_success`, then `finally`. A handler that fails stops its own list. After a success it fails
/// the run, because something that was asked for did not happen; after a failure the first failure stays.
fn handlers<'p>(plan: &'p Plan, run: &Run, now: Timestamp, mut verdict: Verdict) -> Step<'p> {
    let first = if verdict == Verdict::Succeeded { &plan.on_success } else { &plan.on_failure };
    for list in [first, &plan.finally] {
        match walk(list, run, now) {
            Walk::At(step) => return step,
            Walk::Failed(failure) if verdict == Verdict::Succeeded => verdict = Verdict::Failed(failure),
            Walk::Done | Walk::Failed(_) | Walk::Stopped(_) => {}
        }
    }
    Step::Finish(verdict)
}

enum Walk<'p> {
    /// This is next.
    At(Step<'p>),
    /// The list is through.
    Done,
    /// A task of it failed for good.
    Failed(Failure),
    /// A `stop` task ended it, well or badly.
    Stopped(Option<Failure>),
}

fn walk<'p>(tasks: &'p [PlannedTask], run: &Run, now: Timestamp) -> Walk<'p> {
    for task in tasks {
        let Some(record) = run.tasks.get(&task.id) else { return Walk::At(Step::Consider(task)) };
        match &record.state {
            TaskState::Again => return Walk::At(Step::Consider(task)),
            TaskState::Started { .. } => return Walk::At(Step::Interrupted(task)),
            TaskState::Retrying { at: until } | TaskState::Paused { until, .. } if *until > now => {
                return Walk::At(Step::Wait { task, until: *until });
            }
            TaskState::Retrying { .. } | TaskState::Paused { .. } => return Walk::At(Step::Retry(task)),
            TaskState::Delayed { until } if *until > now => return Walk::At(Step::Wait { task, until: *until }),
            TaskState::Delayed { .. } => return Walk::At(Step::EndDelay(task)),
            TaskState::Succeeded { output } if task.task.effect() == Effect::Stop => {
                return Walk::Stopped(stopped_by(task, output));
            }
            TaskState::Failed { failure } if !task.continue_on_error => {
                return Walk::Failed((**failure).clone().in_task(task.id.clone()));
            }
            TaskState::Succeeded { .. } | TaskState::Skipped | TaskState::Failed { .. } => {}
        }
    }
    Walk::Done
}

/// What a `stop` task said: its output is `{ "stopped": "succeeded" }` or `{ "stopped": "failed", "message": … }`.
fn stopped_by(task: &PlannedTask, output: &Value) -> Option<Failure> {
    (output["stopped"] == "failed").then(|| {
        let message = output["message"].as_str().unwrap_or("the workflow stopped itself");
        let mut failure = Failure::new("workflow.stopped", Fault::Config, message).in_task(task.id.clone());
        failure.class = Class::Other;
        failure
    })
}

impl Step<'_> {
    /// A wait ends at the run's deadline at the latest.
    fn not_after(self, deadline: Timestamp) -> Self {
        match self {
            Self::Wait { task, until } => Self::Wait { task, until: until.min(deadline) },
            other => other,
        }
    }
}
