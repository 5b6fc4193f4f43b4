//! Runs: found, shown, cancelled, replayed, resumed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Caller, Error, Gateway, Scope, view};
use crate::clock::Timestamp;
use crate::domain::attempt::{AttemptResult, BodyCopy};
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::{Entry, Event};
use crate::domain::run::{Run, TaskState};
use crate::domain::state::State;
use crate::domain::step::StepId;
use crate::domain::trigger::{Trigger, TriggerKind};
use crate::engine;
use crate::id::{RunId, Seq, WorkflowName};
use crate::limits;
use crate::store::{Receipt, RunQuery};

/// Which runs a list wants.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub workflow: Option<WorkflowName>,
    pub states: Vec<State>,
    pub trigger: Option<TriggerKind>,
    pub source: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub labels: Vec<(String, String)>,
    pub cause: Option<String>,
    pub cursor: Option<RunId>,
    pub limit: Option<usize>,
}

impl Gateway {
    /// A page of runs, newest first.
    pub async fn runs(&self, caller: &Caller, filter: Filter) -> Result<view::Page<view::Run>, Error> {
        caller.require(Scope::RunsRead)?;
        let limit = filter.limit.unwrap_or(limits::PAGE_DEFAULT).clamp(1, limits::PAGE_MAX);
        let query = RunQuery {
            workflow: filter.workflow,
            states: filter.states,
            trigger: filter.trigger,
            source: filter.source,
            since: filter.since,
            until: filter.until,
            labels: filter.labels,
            cause: filter.cause,
            before: filter.cursor,
            limit,
        };
        let heads = self.0.engine.store().runs(&query).await?;
        let next = (heads.len() == limit).then(|| heads.last().map(|head| head.id.to_string())).flatten();
        Ok(view::Page { items: heads.into_iter().map(view::Run::from).collect(), next })
    }

    /// One run with everything that is on record.
    pub async fn run(&self, caller: &Caller, id: RunId) -> Result<view::RunDetail, Error> {
        caller.require(Scope::RunsRead)?;
        let log = self.0.engine.store().log(id).await?;
        let run = Run::fold(id, log.iter().cloned()).map_err(|error| Error::Broken(error.to_string()))?;
        let why_waiting = self.0.engine.why_waiting(id).await?;
        Ok(detail(&run, &log, why_waiting))
    }

    /// The events of a run's log from `from` on.
    pub async fn events(&self, caller: &Caller, id: RunId, from: Seq) -> Result<(Vec<view::Event>, State), Error> {
        caller.require(Scope::RunsRead)?;
        let log = self.0.engine.store().log(id).await?;
        let state = Run::fold(id, log.iter().cloned()).map_err(|error| Error::Broken(error.to_string()))?.state;
        Ok((log.into_iter().filter(|entry| entry.seq >= from).map(|entry| show_event(&entry)).collect(), state))
    }

    /// Asks a run to stop.
    pub async fn cancel(&self, caller: &Caller, id: RunId, reason: &str) -> Result<view::Cancelled, Error> {
        caller.require(Scope::RunsWrite)?;
        self.audit(caller, "run.cancel", &id.to_string(), json!({ "reason": reason })).await?;
        let cancelled = self.0.engine.cancel(id, &caller.name, reason).await?;
        let status = match cancelled {
            engine::Cancelled::Now => State::Cancelled,
            engine::Cancelled::Soon => State::Cancelling,
        };
        Ok(view::Cancelled { run_id: id.to_string(), status: status.to_string() })
    }

    /// Starts a new run with the input of an old one. The same key again gives the same replay.
    pub async fn replay(&self, caller: &Caller, id: RunId, key: Option<&str>) -> Result<view::Triggered, Error> {
        caller.require(Scope::RunsWrite)?;
        let verb = format!("replay {id}");
        let key = key.map_or_else(DeliveryKey::unique, |key| DeliveryKey::of_call(&caller.name, &verb, key));
        let receipt = self.0.engine.replay(id, &caller.name, key).await?;
        let (runs, duplicate) = match receipt {
            Receipt::New(runs) => (runs, false),
            Receipt::Duplicate(runs) => (runs, true),
        };
        let run_id = runs.first().map(ToString::to_string).unwrap_or_default();
        if !duplicate {
            self.audit(caller, "run.replay", &id.to_string(), json!({ "run": run_id })).await?;
        }
        let status = State::Queued.to_string();
        Ok(view::Triggered { run_id, status, duplicate, outputs: None, failure: None })
    }

    /// Lets a failed or cancelled run go on from the task that failed.
    pub async fn resume(&self, caller: &Caller, id: RunId) -> Result<view::Resumed, Error> {
        caller.require(Scope::RunsWrite)?;
        self.audit(caller, "run.resume", &id.to_string(), json!({})).await?;
        let resumed = self.0.engine.resume(id, &caller.name).await?;
        let again: Vec<_> = resumed.again.iter().map(ToString::to_string).collect();
        Ok(view::Resumed { run_id: id.to_string(), status: State::Queued.to_string(), again })
    }
}

fn detail(run: &Run, log: &[Entry], why_waiting: Option<String>) -> view::RunDetail {
    let (delivery, slot_due) = match &run.accepted.trigger {
        Trigger::Delivery { delivery, .. } => (Some(show_delivery(delivery, &run.body)), None),
        Trigger::Slot { due, .. } => (None, Some(due.to_string())),
        Trigger::Manual { .. }
        | Trigger::Replay { .. }
        | Trigger::Parent { .. }
        | Trigger::Callback { .. }
        | Trigger::Edit { .. } => (None, None),
    };
    let object = |members: &serde_json::Map<String, Value>| Value::Object(members.clone());
    view::RunDetail {
        run: run.head().into(),
        why_waiting,
        cancel: run.cancel.as_ref().map(|cancel| view::Cancel { by: cancel.by.clone(), reason: cancel.reason.clone() }),
        delivery,
        slot_due,
        inputs: run.prepared.as_ref().map(|prepared| object(&prepared.inputs)).or(run
            .accepted
            .inputs
            .as_ref()
            .map(object)),
        state: run.prepared.as_ref().map(|prepared| &prepared.state).filter(|state| !state.is_empty()).map(object),
        outputs: run.outputs.as_ref().map(object),
        tasks: tasks(run, log),
        payloads_gone: run.accepted.stripped,
    }
}

fn show_delivery(delivery: &crate::domain::delivery::Delivery, body: &[u8]) -> view::Delivery {
    view::Delivery {
        id: delivery.id.clone(),
        method: delivery.method.clone(),
        path: delivery.path.clone(),
        query: delivery.query.clone(),
        headers: delivery.headers.clone(),
        remote: delivery.remote.clone(),
        verified_by: delivery.verified_by.clone(),
        swept_by: delivery.swept_by.map(|run| run.to_string()),
        body: (!body.is_empty()).then(|| BodyCopy::of(body, limits::EXCHANGE_BODY_BYTES_MAX).into()),
    }
}

/// Tasks and attempts in the order in which the log has them.
fn tasks(run: &Run, log: &[Entry]) -> Vec<view::Task> {
    let mut shown = Shown::default();
    for entry in log {
        match &entry.event {
            Event::TaskSkipped { task } | Event::Opened { task, .. } => {
                shown.task(task);
            }
            Event::AttemptStarted { task, attempt, key } => {
                shown.task(task).attempts.push(view::Attempt {
                    attempt: attempt.get(),
                    idempotency_key: key.clone(),
                    started_at: entry.at.to_string(),
                    ended_at: None,
                    duration_ms: None,
                    output: None,
                    kept: Vec::new(),
                    failure: None,
                    paused: None,
                    retry_at: None,
                    exchange: None,
                });
            }
            Event::AttemptEnded(ended) => {
                let attempts = &mut shown.task(&ended.task).attempts;
                let Some(attempt) = attempts.iter_mut().rfind(|shown| shown.attempt == ended.attempt.get()) else {
                    continue;
                };
                attempt.ended_at = Some(entry.at.to_string());
                attempt.duration_ms = Some(ended.duration_ms);
                attempt.exchange = ended.exchange.as_deref().cloned();
                match &ended.result {
                    AttemptResult::Succeeded { output } => {
                        attempt.output = Some(output.clone());
                        attempt.kept.clone_from(&ended.kept);
                    }
                    AttemptResult::Failed { failure, retry_at } => {
                        attempt.failure = Some((**failure).clone());
                        attempt.retry_at = retry_at.map(|at| at.to_string());
                    }
                    AttemptResult::Paused { until, why } => {
                        attempt.paused = Some(why.to_string());
                        attempt.retry_at = Some(until.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    for (step, place) in &shown.places {
        let record = run.tasks.get(step);
        shown.tasks[*place].status = record.map_or("again", |record| status(&record.state)).into();
    }
    shown.tasks
}

/// The steps of a run in the order in which they were first touched.
#[derive(Default)]
struct Shown {
    tasks: Vec<view::Task>,
    places: BTreeMap<StepId, usize>,
}

impl Shown {
    fn task(&mut self, step: &StepId) -> &mut view::Task {
        let place = *self.places.entry(step.clone()).or_insert_with(|| {
            self.tasks.push(view::Task { id: step.to_string(), status: String::new(), attempts: Vec::new() });
            self.tasks.len() - 1
        });
        &mut self.tasks[place]
    }
}

fn status(state: &TaskState) -> &'static str {
    match state {
        TaskState::Again => "again",
        TaskState::Started { .. } => "started",
        TaskState::Retrying { .. } => "retrying",
        TaskState::Paused { .. } => "waiting",
        TaskState::Open(_) => "open",
        TaskState::Succeeded { .. } | TaskState::Closed { failure: None, .. } => "succeeded",
        TaskState::Failed { .. } | TaskState::Closed { failure: Some(_), .. } => "failed",
        TaskState::Skipped => "skipped",
    }
}

fn show_event(entry: &Entry) -> view::Event {
    let event = entry.event.name().to_owned();
    let detail = match serde_json::to_value(&entry.event) {
        Ok(Value::Object(mut named)) => named.remove(&event).unwrap_or(Value::Null),
        _ => Value::Null,
    };
    view::Event { seq: entry.seq.0, at: entry.at.to_string(), event, detail }
}
