//! The fold of a run's log: what a worker needs to go on, and the head by which lists find it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::approval::Decision;
use super::attempt::{AttemptEnded, AttemptResult, Pause};
use super::event::{Accepted, Entry, Event, Finished, Prepared, WaitReason};
use super::failure::{Class, Failure};
use super::state::{IllegalTransition, State};
use super::step::StepId;
use super::trigger::{Trigger, TriggerKind};
use crate::clock::Timestamp;
use crate::id::{AttemptNumber, Revision, RunId, Seq, TaskId, WorkflowName};

/// Why a log cannot be folded. It means that the store is damaged or that a rule was broken; either wants a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The log has no events.
    #[error("the log of {0} is empty")]
    Empty(RunId),
    /// A place in the log is missing or taken twice.
    #[error("the log of {run} has event {found} where event {expected} belongs", found = found.0, expected = expected.0)]
    Gap { run: RunId, expected: Seq, found: Seq },
    /// An event that cannot follow the ones before it.
    #[error("the log of {run} is broken at event {at}", at = at.0)]
    Illegal {
        run: RunId,
        at: Seq,
        #[source]
        cause: IllegalTransition,
    },
}

/// One execution of one workflow revision for one trigger: its log, folded.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    pub state: State,
    /// Where the next event goes.
    pub next: Seq,
    pub accepted: Accepted,
    pub accepted_at: Timestamp,
    /// Raw body of the delivery; empty for other triggers.
    pub body: Bytes,
    pub prepared: Option<Prepared>,
    pub tasks: BTreeMap<StepId, TaskRecord>,
    /// The worker that drives it, and until when.
    pub lease: Option<Lease>,
    /// What it waits for, and until when.
    pub wait: Option<Wait>,
    /// First claimed.
    pub started_at: Option<Timestamp>,
    /// When its time limit began: first claimed, or last resumed.
    pub timed_from: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub suspected_replay_of: Option<RunId>,
    pub cancel: Option<Cancel>,
    pub failure: Option<Failure>,
    pub outputs: Option<Map<String, Value>>,
    /// What its success wrote to the workflow's state.
    pub committed_state: Option<Map<String, Value>>,
    /// Attempts that were started, over all tasks.
    pub attempts: u32,
    /// Some task needed more than one attempt.
    pub retried: bool,
    /// How often somebody let it go on after it had ended.
    pub resumes: u32,
}

/// A worker's time-limited right to drive a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub worker: String,
    pub until: Timestamp,
}

/// What a run waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub until: Timestamp,
    pub reason: WaitReason,
}

/// Who wanted it to stop, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    pub by: String,
    pub reason: String,
}

/// One task of a run, or one item of a loop.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskRecord {
    pub state: TaskState,
    /// The last attempt that was started.
    pub attempt: Option<AttemptNumber>,
    /// Attempts that failed by themselves: what `retry` counts.
    pub failed: u32,
    /// Attempts that were cut off with the process or the lease.
    pub interrupted: u32,
    /// What the last failed attempt said.
    pub last_failure: Option<String>,
    /// What the last attempt left for the next.
    pub checkpoint: Option<Value>,
    /// Parts of its output of which only the handle of an artifact is here, as JSON pointers.
    pub kept: Vec<String>,
    /// When its first attempt was started.
    pub since: Option<Timestamp>,
    /// Attempts that did a part and left the task open.
    pub pauses: u32,
    /// What people decided, in order.
    pub decisions: Vec<Decision>,
    /// The question that people are asked, from its first pause until it is answered: also while an attempt tells them.
    pub asked: Option<String>,
    /// Something that it waits for came while an attempt was under way that may not have seen it.
    pub news: bool,
}

/// Where a task of a run stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum TaskState {
    /// It is to run, for the first time or again after a resume.
    #[default]
    Again,
    /// An attempt is in flight, or was when its worker went away.
    Started {
        at: Timestamp,
    },
    /// An attempt failed and another follows at this moment.
    Retrying {
        at: Timestamp,
    },
    /// Its last attempt did its part, and the next follows at this moment.
    Paused {
        until: Timestamp,
        why: Pause,
    },
    Succeeded {
        output: Value,
    },
    Failed {
        failure: Box<Failure>,
    },
    Skipped,
    /// It holds other tasks, and they are not through.
    Open(Opened),
    /// It holds other tasks, and they are through.
    Closed {
        was: Opened,
        failure: Option<Box<Failure>>,
    },
}

/// What a task that holds others opened with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// Its items, when it is a loop.
    pub items: Option<Items>,
    /// The chosen case, when it is a switch that found one.
    pub case: Option<u32>,
}

/// How far a loop has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Items {
    pub count: u32,
    /// The first that was not begun.
    pub next: u32,
    /// Those that were begun and have not ended.
    pub open: BTreeSet<u32>,
    /// Those that failed for good.
    pub failed: BTreeSet<u32>,
}

impl Items {
    fn begin(&mut self, item: u32) {
        self.next = self.next.max(item.saturating_add(1));
        self.open.insert(item);
        self.failed.remove(&item);
    }

    fn end(&mut self, item: u32, failed: bool) {
        self.open.remove(&item);
        if failed {
            self.failed.insert(item);
        }
    }
}

impl TaskRecord {
    /// The question that the task waits for people with.
    pub fn question(&self) -> Option<&str> {
        self.asked.as_deref()
    }

    fn nudge(&mut self, at: Timestamp) {
        match &mut self.state {
            TaskState::Paused { until, .. } => *until = at,
            _ => self.news = true,
        }
    }

    fn reopen(&mut self) {
        if let TaskState::Closed { was, .. } = &mut self.state {
            self.state = TaskState::Open(std::mem::take(was));
        }
    }
}

impl Run {
    /// Folds a whole log.
    pub fn fold(id: RunId, entries: impl IntoIterator<Item = Entry>) -> Result<Self, Error> {
        let mut entries = entries.into_iter();
        let first = entries.next().ok_or(Error::Empty(id))?;
        let mut run = Self::first(id, first)?;
        for entry in entries {
            run.apply(entry)?;
        }
        Ok(run)
    }

    fn first(id: RunId, entry: Entry) -> Result<Self, Error> {
        if entry.seq != Seq(0) {
            return Err(Error::Gap { run: id, expected: Seq(0), found: entry.seq });
        }
        let state = State::first(&entry.event).map_err(|cause| Error::Illegal { run: id, at: Seq(0), cause })?;
        let Event::Accepted(accepted) = entry.event else {
            return Err(Error::Empty(id));
        };
        let wait = accepted.held.then(|| Wait {
            until: Timestamp::from_millis(i64::MAX),
            reason: WaitReason::Held { source: accepted.trigger.source() },
        });
        Ok(Self {
            id,
            state,
            next: Seq(1),
            accepted: *accepted,
            accepted_at: entry.at,
            body: entry.body,
            prepared: None,
            tasks: BTreeMap::new(),
            lease: None,
            wait,
            started_at: None,
            timed_from: None,
            ended_at: None,
            suspected_replay_of: None,
            cancel: None,
            failure: None,
            outputs: None,
            committed_state: None,
            attempts: 0,
            retried: false,
            resumes: 0,
        })
    }

    /// Adds the next event of the log.
    pub fn apply(&mut self, entry: Entry) -> Result<(), Error> {
        if entry.seq != self.next {
            return Err(Error::Gap { run: self.id, expected: self.next, found: entry.seq });
        }
        let state =
            self.state.on(&entry.event).map_err(|cause| Error::Illegal { run: self.id, at: entry.seq, cause })?;
        self.note(entry.at, entry.event);
        self.state = state;
        self.next = self.next.plus(1);
        if state != State::Waiting {
            self.wait = None;
        }
        if !matches!(state, State::Running | State::Cancelling) {
            self.lease = None;
        }
        if state.is_ended() {
            self.ended_at = Some(entry.at);
        }
        Ok(())
    }

    fn note(&mut self, at: Timestamp, event: Event) {
        match event {
            Event::Accepted(_) | Event::LeaseExpired | Event::Woken | Event::Stopped => {}
            Event::SuspectedReplay { of } => self.suspected_replay_of = Some(of),
            Event::Claimed { worker, lease_until } => {
                self.lease = Some(Lease { worker, until: lease_until });
                self.started_at.get_or_insert(at);
                self.timed_from.get_or_insert(at);
            }
            Event::Prepared(prepared) => self.prepared = Some(*prepared),
            Event::LeaseRenewed { lease_until } => {
                if let Some(lease) = &mut self.lease {
                    lease.until = lease_until;
                }
            }
            Event::TaskSkipped { task } => {
                self.begin(&task);
                self.task(task.clone()).state = TaskState::Skipped;
                self.item_ended(&task, false);
            }
            Event::Opened { task, items, case } => {
                self.begin(&task);
                let items = items.map(|count| Items { count, ..Items::default() });
                self.task(task).state = TaskState::Open(Opened { items, case });
            }
            Event::Closed { task, failure } => {
                self.item_ended(&task, failure.is_some());
                let record = self.task(task);
                let was = match std::mem::replace(&mut record.state, TaskState::Again) {
                    TaskState::Open(opened) => opened,
                    _ => Opened::default(),
                };
                record.state = TaskState::Closed { was, failure };
            }
            Event::Decided { task, decision } => {
                let record = self.task(task);
                record.decisions.push(*decision);
                record.nudge(at);
            }
            Event::Nudged { task } => self.task(task).nudge(at),
            Event::AttemptStarted { task, attempt, .. } => {
                self.begin(&task);
                let record = self.task(task);
                record.attempt = Some(attempt);
                record.since.get_or_insert(at);
                record.news = false;
                record.state = TaskState::Started { at };
                let again = record.failed + record.interrupted > 0;
                self.attempts += 1;
                self.retried |= again;
            }
            Event::AttemptEnded(ended) => self.attempt_ended(at, *ended),
            Event::Suspended { until, reason } => {
                self.wait = Some(Wait { until, reason });
            }
            Event::CancelRequested { by, reason } => self.cancel = Some(Cancel { by, reason }),
            Event::Finished(finished) => match *finished {
                Finished::Succeeded { outputs, state } => {
                    self.outputs = Some(outputs);
                    self.committed_state = Some(state);
                }
                Finished::Failed { failure } => self.failure = Some(failure),
            },
            Event::Resumed { again, reopened, repin, .. } => self.resumed(again, &reopened, repin.map(|repin| *repin)),
        }
    }

    fn attempt_ended(&mut self, at: Timestamp, ended: AttemptEnded) {
        let AttemptEnded { task, result, checkpoint, kept, .. } = ended;
        let record = self.task(task.clone());
        record.checkpoint = checkpoint;
        record.kept = kept;
        match result {
            AttemptResult::Paused { until, why } => {
                record.pauses += 1;
                // A page that was read, and a look that was answered, end the trouble before: retries count anew.
                record.failed = if matches!(why, Pause::Page { .. } | Pause::Poll { .. }) { 0 } else { record.failed };
                let until = if std::mem::take(&mut record.news) { at } else { until };
                record.asked = if let Pause::Approval { title } = &why { Some(title.clone()) } else { None };
                record.state = TaskState::Paused { until, why };
            }
            AttemptResult::Succeeded { output } => {
                record.asked = None;
                record.state = TaskState::Succeeded { output };
                self.item_ended(&task, false);
            }
            AttemptResult::Failed { failure, retry_at } => {
                if failure.class == Class::Interrupted {
                    record.interrupted += 1;
                } else {
                    record.failed += 1;
                }
                record.last_failure = Some(failure.message.clone());
                if let Some(retry_at) = retry_at {
                    record.state = TaskState::Retrying { at: retry_at.max(at) };
                } else {
                    record.asked = None;
                    record.state = TaskState::Failed { failure };
                    self.item_ended(&task, true);
                }
            }
        }
    }

    /// The items that a step is in have begun.
    fn begin(&mut self, step: &StepId) {
        for (of, item) in step.loops() {
            if let Some(TaskState::Open(Opened { items: Some(items), .. })) =
                self.tasks.get_mut(&of).map(|record| &mut record.state)
            {
                items.begin(item);
            }
        }
    }

    /// A step that is itself an item has ended for good.
    fn item_ended(&mut self, step: &StepId, failed: bool) {
        if step.item().is_none() {
            return;
        }
        let Some((of, item)) = step.loops().last() else { return };
        if let Some(TaskState::Open(Opened { items: Some(items), .. })) =
            self.tasks.get_mut(&of).map(|record| &mut record.state)
        {
            items.end(item, failed);
        }
    }

    fn resumed(&mut self, again: Vec<StepId>, reopened: &[StepId], repin: Option<super::event::Repin>) {
        for step in reopened {
            self.task(step.clone()).reopen();
            self.begin(step);
        }
        for step in again {
            self.begin(&step);
            let record = self.task(step);
            *record = TaskRecord { attempt: record.attempt, ..TaskRecord::default() };
        }
        if let Some(repin) = repin {
            self.accepted.revision = repin.workflow;
            if let (Some(revision), Some(source)) = (repin.source, source_revision(&mut self.accepted.trigger)) {
                *source = revision;
            }
        }
        self.resumes += 1;
        self.timed_from = None;
        self.ended_at = None;
        self.cancel = None;
        self.failure = None;
    }

    fn task(&mut self, step: StepId) -> &mut TaskRecord {
        self.tasks.entry(step).or_default()
    }

    /// Where a task outside all loops stands.
    pub fn task_named(&self, id: &str) -> Option<&TaskRecord> {
        self.tasks.get(&StepId::from(&TaskId::new(id).ok()?))
    }

    /// What lists and searches know of the run.
    pub fn head(&self) -> RunHead {
        RunHead {
            id: self.id,
            workflow: self.accepted.workflow.clone(),
            revision: self.accepted.revision.clone(),
            state: self.state,
            trigger: self.accepted.trigger.kind(),
            source: self.accepted.trigger.source(),
            accepted_at: self.accepted_at,
            started_at: self.started_at,
            ended_at: self.ended_at,
            due: self.wait.as_ref().map(|wait| wait.until).or(self.lease.as_ref().map(|lease| lease.until)),
            wait: self.wait.as_ref().map(|wait| wait.reason.clone()),
            labels: self.prepared.as_ref().map(|prepared| prepared.labels.clone()).unwrap_or_default(),
            cause: self.failure.as_ref().map(Failure::cause),
            failure: self.failure.clone(),
            attempts: self.attempts,
            retried: self.retried,
            approvals: u32::try_from(self.tasks.values().filter(|record| record.question().is_some()).count())
                .unwrap_or(u32::MAX),
            suspected_replay_of: self.suspected_replay_of,
        }
    }
}

fn source_revision(trigger: &mut Trigger) -> Option<&mut Revision> {
    match trigger {
        Trigger::Delivery { route, .. } => Some(&mut route.revision),
        Trigger::Slot { revision, .. } => Some(revision),
        Trigger::Manual { .. }
        | Trigger::Replay { .. }
        | Trigger::Parent { .. }
        | Trigger::Callback { .. }
        | Trigger::Edit { .. } => None,
    }
}

/// What the index knows of a run: made from its log, rebuilt from it when lost. It helps to find, and decides nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHead {
    pub id: RunId,
    pub workflow: WorkflowName,
    pub revision: Revision,
    pub state: State,
    pub trigger: TriggerKind,
    /// The route, schedule, person or run behind the trigger.
    pub source: String,
    pub accepted_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When a waiting run is to wake, or a driven run's lease ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitReason>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Groups failed runs of one cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    pub attempts: u32,
    pub retried: bool,
    /// Tasks that wait for people.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub approvals: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspected_replay_of: Option<RunId>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
