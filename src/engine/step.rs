//! What a run does next: one pure function of its plan, its log, the time, and what is in flight. The driver does what
//! it says.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::run::{Items, Opened, Run, TaskState};
use crate::domain::step::StepId;
use crate::tasks::Effect;
use crate::tasks::plan::{ForEach, Plan, PlannedTask, TaskList, Work};

/// What can be done to one step now.
#[derive(Debug)]
pub(super) struct Todo<'p> {
    pub(super) step: StepId,
    pub(super) task: &'p PlannedTask,
    pub(super) action: Action,
    /// It belongs to `on_failure`, `on_success` or `finally`: the run's time limit does not bind it.
    pub(super) handler: bool,
}

/// What can be done to a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Look at the task's `if`, then pass it over, open it, or try it.
    Consider,
    /// Try it once more: an attempt failed or did only a part, and the delay is over.
    Retry,
    /// An attempt was in flight when the worker went away.
    Interrupted,
    /// All that it holds has ended, or one of it failed.
    Close(Option<Box<Failure>>),
}

/// How the tasks went, handlers included.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Succeeded,
    Failed(Failure),
}

/// Where a run stands.
#[derive(Debug, Default)]
pub(super) struct Look<'p> {
    /// What can be done now, in order.
    pub(super) todo: Vec<Todo<'p>>,
    /// The step that comes due first of those that wait.
    pub(super) wait: Option<(StepId, Timestamp)>,
    /// All that is to run has run, and nothing is in flight.
    pub(super) verdict: Option<Verdict>,
    /// Why the handlers run, once the tasks have failed.
    pub(super) failure: Option<Failure>,
}

/// Where `run` stands at `now`, while attempts at the steps of `flying` are under way. `unread` is why nothing more of
/// its tasks can be done: what they gave before cannot be read.
pub(super) fn look<'p>(
    plan: &'p Plan,
    run: &Run,
    now: Timestamp,
    flying: &BTreeSet<StepId>,
    unread: Option<&Failure>,
) -> Look<'p> {
    let mut eye = Eye { run, now, flying, handler: false, todo: Vec::new(), wait: None, in_flight: 0 };
    let mut verdict = match eye.list(&plan.tasks, None) {
        // The outputs may read it.
        Walk::Done | Walk::Stopped(None) => unread.cloned().map_or(Verdict::Succeeded, Verdict::Failed),
        Walk::Failed(failure) | Walk::Stopped(Some(failure)) => Verdict::Failed(failure),
        Walk::Busy => match unread.cloned().or_else(|| timed_out(plan, run, now)) {
            Some(failure) => {
                eye.todo.retain(|todo| todo.action == Action::Interrupted);
                if eye.in_flight > 0 || !eye.todo.is_empty() {
                    return Look { todo: eye.todo, ..Look::default() };
                }
                Verdict::Failed(failure)
            }
            None => return eye.look(None, Some(deadline(plan, run))),
        },
    };
    (eye.todo, eye.wait, eye.handler) = (Vec::new(), None, true);
    let failure = match &verdict {
        Verdict::Succeeded => None,
        Verdict::Failed(failure) => Some(failure.clone()),
    };
    // `on_failure` or `on_success`, then `finally`. A handler that fails stops its own list. After a success it fails
    // the run, because something that was asked for did not happen; after a failure the first failure stays.
    let first = if verdict == Verdict::Succeeded { &plan.on_success } else { &plan.on_failure };
    for list in [first, &plan.finally] {
        match eye.list(list, None) {
            Walk::Busy => return eye.look(failure, None),
            Walk::Failed(failure) if verdict == Verdict::Succeeded => verdict = Verdict::Failed(failure),
            Walk::Done | Walk::Failed(_) | Walk::Stopped(_) => {}
        }
    }
    Look { verdict: Some(verdict), ..Look::default() }
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

/// Where a list, or one task, stands.
enum Walk {
    /// There is something to do, to wait for, or in flight.
    Busy,
    /// It is through.
    Done,
    /// A task of it failed for good, and nothing of it is in flight.
    Failed(Failure),
    /// A `stop` task ended it, well or badly.
    Stopped(Option<Failure>),
}

/// Walks over a plan, and gathers.
struct Eye<'a, 'p> {
    run: &'a Run,
    now: Timestamp,
    flying: &'a BTreeSet<StepId>,
    handler: bool,
    todo: Vec<Todo<'p>>,
    wait: Option<(StepId, Timestamp)>,
    in_flight: usize,
}

/// What an eye had gathered at some moment.
struct Mark {
    todo: usize,
    wait: Option<(StepId, Timestamp)>,
    in_flight: usize,
}

impl<'p> Eye<'_, 'p> {
    fn look(self, failure: Option<Failure>, deadline: Option<Timestamp>) -> Look<'p> {
        // A wait ends at the run's deadline at the latest.
        let wait = self.wait.map(|(step, until)| (step, deadline.map_or(until, |deadline| until.min(deadline))));
        Look { todo: self.todo, wait, verdict: None, failure }
    }

    fn list(&mut self, list: &'p TaskList, within: Option<&StepId>) -> Walk {
        let Some(needs) = &list.needs else {
            for task in &list.tasks {
                match self.task(task, within) {
                    Walk::Done => {}
                    other => return other,
                }
            }
            return Walk::Done;
        };
        let mark = self.mark();
        let (mut done, mut over) = (vec![false; list.tasks.len()], None);
        // Those that a task needs stand before it.
        for (place, task) in list.tasks.iter().enumerate() {
            if !needs[place].iter().all(|needed| done[*needed]) {
                continue;
            }
            match self.task(task, within) {
                Walk::Done => done[place] = true,
                Walk::Busy => {}
                ended => over = over.or(Some(ended)),
            }
        }
        match over {
            Some(over) => self.wind_up(mark, over),
            None if done.iter().all(|done| *done) => Walk::Done,
            None => Walk::Busy,
        }
    }

    /// Something failed or stopped: nothing new begins beside it, and it is over when what is in flight has ended.
    fn wind_up(&mut self, mark: Mark, over: Walk) -> Walk {
        if self.keep_records_only(mark) { Walk::Busy } else { over }
    }

    /// Takes back what was to begin or to be waited for since the mark. What only puts on record how something ended
    /// stays: that an attempt was cut off, and that what a group holds is through. True when there is any of it, or
    /// something is in flight.
    fn keep_records_only(&mut self, mark: Mark) -> bool {
        let only_records = |todo: &Todo<'_>| matches!(todo.action, Action::Interrupted | Action::Close(_));
        let kept: Vec<_> = self.todo.drain(mark.todo..).filter(only_records).collect();
        let busy = !kept.is_empty() || self.in_flight > mark.in_flight;
        self.todo.extend(kept);
        self.wait = mark.wait;
        busy
    }

    fn mark(&self) -> Mark {
        Mark { todo: self.todo.len(), wait: self.wait.clone(), in_flight: self.in_flight }
    }

    fn task(&mut self, task: &'p PlannedTask, within: Option<&StepId>) -> Walk {
        let step = StepId::of(within, &task.id);
        match (&task.each, self.run.tasks.get(&step).map(|record| &record.state)) {
            (Some(each), Some(TaskState::Open(Opened { items: Some(items), .. }))) => {
                self.each(task, each, &step, items)
            }
            _ => self.one(task, step),
        }
    }

    /// A task, or one item of it.
    fn one(&mut self, task: &'p PlannedTask, step: StepId) -> Walk {
        let Some(record) = self.run.tasks.get(&step) else { return self.act(task, step, Action::Consider) };
        match &record.state {
            TaskState::Again => self.act(task, step, Action::Consider),
            TaskState::Started { .. } if self.flying.contains(&step) => {
                self.in_flight += 1;
                Walk::Busy
            }
            TaskState::Started { .. } => self.act(task, step, Action::Interrupted),
            TaskState::Retrying { at: until } | TaskState::Paused { until, .. } if *until > self.now => {
                if self.wait.as_ref().is_none_or(|(_, first)| until < first) {
                    self.wait = Some((step, *until));
                }
                Walk::Busy
            }
            TaskState::Retrying { .. } | TaskState::Paused { .. } => self.act(task, step, Action::Retry),
            TaskState::Succeeded { output } if is_stop(task) => Walk::Stopped(stopped_by(step, output)),
            TaskState::Succeeded { .. } | TaskState::Skipped | TaskState::Closed { failure: None, .. } => Walk::Done,
            TaskState::Failed { failure } | TaskState::Closed { failure: Some(failure), .. } => {
                if task.continue_on_error && step.item().is_none() {
                    return Walk::Done;
                }
                let failure = (**failure).clone();
                Walk::Failed(if failure.task.is_some() { failure } else { failure.in_task(step) })
            }
            TaskState::Open(opened) => {
                let within = step.within();
                let inside = match (&task.work, opened.case) {
                    (Work::Group(list), _) => self.list(list, within.as_ref()),
                    (Work::Switch(cases), Some(case)) => match cases.get(case as usize) {
                        Some(case) => self.list(&case.list, within.as_ref()),
                        None => Walk::Done,
                    },
                    (Work::Switch(_) | Work::Task(_), _) => Walk::Done,
                };
                match inside {
                    Walk::Done => self.act(task, step, Action::Close(None)),
                    Walk::Failed(failure) => self.act(task, step, Action::Close(Some(Box::new(failure)))),
                    other => other,
                }
            }
        }
    }

    /// The items of a loop.
    fn each(&mut self, task: &'p PlannedTask, each: &ForEach, step: &StepId, items: &Items) -> Walk {
        let mark = self.mark();
        let mut stopped = None;
        for item in &items.open {
            if let Walk::Stopped(failure) = self.one(task, step.at(*item)) {
                stopped = stopped.or(Some(failure));
            }
        }
        if let Some(failure) = stopped {
            return self.wind_up(mark, Walk::Stopped(failure));
        }
        if let Some(first) = items.failed.first().filter(|_| !task.continue_on_error) {
            return if self.keep_records_only(mark) {
                Walk::Busy
            } else {
                let failure = self.failure_of(&step.at(*first)).unwrap_or_else(|| items_failed(items, step));
                self.act(task, step.clone(), Action::Close(Some(Box::new(failure))))
            };
        }
        let under_way = u32::try_from(items.open.len()).unwrap_or(u32::MAX);
        let room = each.parallel_max.saturating_sub(under_way);
        for item in items.next..items.count.min(items.next.saturating_add(room)) {
            self.act(task, step.at(item), Action::Consider);
        }
        if items.open.is_empty() && items.next >= items.count {
            return self.act(task, step.clone(), Action::Close(None));
        }
        Walk::Busy
    }

    fn failure_of(&self, item: &StepId) -> Option<Failure> {
        match &self.run.tasks.get(item)?.state {
            TaskState::Failed { failure } | TaskState::Closed { failure: Some(failure), .. } => {
                let failure = (**failure).clone();
                Some(if failure.task.is_some() { failure } else { failure.in_task(item.clone()) })
            }
            _ => None,
        }
    }

    fn act(&mut self, task: &'p PlannedTask, step: StepId, action: Action) -> Walk {
        self.todo.push(Todo { step, task, action, handler: self.handler });
        Walk::Busy
    }
}

fn items_failed(items: &Items, step: &StepId) -> Failure {
    let message = format!("{} of {} items failed", items.failed.len(), items.count);
    Failure::new("run.stuck", Fault::Here, message).in_task(step.clone())
}

fn is_stop(task: &PlannedTask) -> bool {
    matches!(&task.work, Work::Task(work) if work.task.effect() == Effect::Stop)
}

/// What a `stop` task said: its output is `{ "stopped": "succeeded" }` or `{ "stopped": "failed", "message": … }`.
fn stopped_by(step: StepId, output: &Value) -> Option<Failure> {
    (output["stopped"] == "failed").then(|| {
        let message = output["message"].as_str().unwrap_or("the workflow stopped itself");
        let mut failure = Failure::new("workflow.stopped", Fault::Config, message).in_task(step);
        failure.class = Class::Other;
        failure
    })
}
