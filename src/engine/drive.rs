//! Drives one run: asks `step` what is next, does it, and has it on record. A worker that loses its run stops at once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::log::{self, LogWriter, Lost};
use super::step::{self, Step, Verdict};
use super::{Engine, values};
use crate::clock::Timestamp;
use crate::domain::attempt::{AttemptEnded, AttemptResult};
use crate::domain::event::{Event, Prepared, WaitReason};
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::retry::{GiveUp, Next, after_failure};
use crate::domain::run::{Run, TaskRecord, TaskState};
use crate::domain::state::State;
use crate::expr::{self, Context};
use crate::id::AttemptNumber;
use crate::limits;
use crate::tasks::plan::{Plan, PlannedTask};
use crate::tasks::{Attempted, Done, Effect, TaskContext};

/// A run that got a worker.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) run: Run,
    pub(super) worker: String,
    pub(super) cancel: CancellationToken,
    pub(super) start: Start,
}

/// What the run starts with.
#[derive(Debug)]
pub(super) enum Start {
    /// `fresh` when its inputs were read just now and are not on record yet.
    Ready { plan: Arc<Plan>, prepared: Box<Prepared>, fresh: bool },
    /// It cannot start: its file is gone, or its inputs do not fit.
    Hopeless(Box<Failure>),
}

/// What follows a step.
enum Flow {
    On,
    /// The run ended or waits: put that on record, then the worker is done with it.
    Done,
}

impl Engine {
    /// Drives a run until it ends, waits, or is lost; answers where it stands then, when that is known.
    pub(super) async fn drive(&self, claim: Claim) -> Option<State> {
        let id = claim.run.id;
        let worker = claim.worker.clone();
        let parts = &self.0.parts;
        let mut log = LogWriter::new(Arc::clone(&parts.store), Arc::clone(&parts.clock), claim.run);
        let driven = match claim.start {
            Start::Hopeless(failure) => self.give_up(&mut log, &worker, *failure).await,
            Start::Ready { plan, prepared, fresh } => {
                let mut driver = Driver { engine: self, log, plan, cancel: claim.cancel, values: Context::new() };
                driver.run(&worker, *prepared, fresh).await
            }
        };
        if driven == Err(Lost) {
            self.lost(id, &worker).await;
        }
        driven.ok()
    }

    async fn give_up(&self, log: &mut LogWriter, worker: &str, failure: Failure) -> Result<State, Lost> {
        log.push(Event::Claimed { worker: worker.to_owned(), lease_until: self.lease_until() })?;
        log.push(log::failed(failure))?;
        log.flush().await?;
        Ok(log.run().state)
    }

    /// Somebody else wrote to the log. When that was a cancel of our own claim, it is ours to stop it.
    async fn lost(&self, id: crate::id::RunId, worker: &str) {
        let parts = &self.0.parts;
        let Ok(run) = log::read(parts.store.as_ref(), id).await else { return };
        let ours = run.lease.as_ref().is_some_and(|lease| lease.worker == worker);
        if run.state != State::Cancelling || !ours {
            tracing::info!(run.id = %id, "run {id} is not driven by this worker any more");
            return;
        }
        let mut log = LogWriter::new(Arc::clone(&parts.store), Arc::clone(&parts.clock), run);
        let in_flight = log.run().tasks.iter().find_map(|(task, record)| match (&record.state, record.attempt) {
            (TaskState::Started { at }, Some(attempt)) => Some((task.clone(), attempt, *at)),
            _ => None,
        });
        if let Some((task, attempt, at)) = in_flight {
            let failure =
                Failure::new("run.cancelled", Fault::Here, "the attempt was cut off by a cancel").sent(Sent::Maybe);
            let duration_ms = millis(parts.clock.now().since(at));
            let result = AttemptResult::Failed { failure: Box::new(failure), retry_at: None };
            let ended = AttemptEnded { task, attempt, duration_ms, result, exchange: None, checkpoint: None };
            if log.push(Event::AttemptEnded(Box::new(ended))).is_err() {
                return;
            }
        }
        if log.push(Event::Stopped).is_ok() {
            // When this fails the lease runs out, and recovery stops the run instead.
            let _ = log.flush().await;
        }
    }

    pub(super) fn lease_until(&self) -> Timestamp {
        self.0.parts.clock.now().plus(self.0.parts.settings.lease)
    }
}

/// One worker, one run.
struct Driver<'e> {
    engine: &'e Engine,
    log: LogWriter,
    plan: Arc<Plan>,
    cancel: CancellationToken,
    values: Context,
}

impl Driver<'_> {
    async fn run(&mut self, worker: &str, prepared: Prepared, fresh: bool) -> Result<State, Lost> {
        let lease_until = self.engine.lease_until();
        self.log.push(Event::Claimed { worker: worker.to_owned(), lease_until })?;
        self.values = values::of_run(self.log.run(), &prepared);
        if fresh {
            self.log.push(Event::Prepared(Box::new(prepared)))?;
        }
        let plan = Arc::clone(&self.plan);
        loop {
            if self.engine.is_draining() && self.pause_for_drain().await? {
                return Ok(self.log.run().state);
            }
            let now = self.engine.0.parts.clock.now();
            let flow = match step::next(&plan, self.log.run(), now) {
                Step::Consider(task) => self.consider(task, now).await?,
                Step::Retry(task) => self.attempt(task).await?,
                Step::Interrupted(task) => self.interrupted(task, now)?,
                Step::EndDelay(task) => self.end_delay(task)?,
                Step::Wait { task, until } => self.wait(task, until)?,
                Step::Finish(verdict) => self.finish(verdict).await?,
            };
            match flow {
                Flow::On => {}
                Flow::Done => {
                    self.log.flush().await?;
                    return Ok(self.log.run().state);
                }
            }
        }
    }

    /// Between two tasks of a gateway that shuts down: the run waits for the next start.
    async fn pause_for_drain(&mut self) -> Result<bool, Lost> {
        let now = self.engine.0.parts.clock.now();
        if matches!(step::next(&self.plan, self.log.run(), now), Step::Finish(_)) {
            return Ok(false);
        }
        self.log.push(Event::Suspended { until: now, reason: WaitReason::Drained })?;
        self.log.flush().await?;
        Ok(true)
    }

    async fn consider(&mut self, task: &PlannedTask, now: Timestamp) -> Result<Flow, Lost> {
        self.see_failure(now);
        match task.condition.as_ref().map(|condition| condition.is_true(&self.values)).transpose() {
            Ok(None | Some(true)) => self.attempt(task).await,
            Ok(Some(false)) => {
                self.log.push(Event::TaskSkipped { task: task.id.clone() })?;
                self.values.set_member("tasks", task.id.as_str(), values::skipped());
                Ok(Flow::On)
            }
            Err(error) => {
                let failure = condition_failure(&error);
                let attempt = self.begin(task)?;
                self.end(task, attempt, Duration::ZERO, Err(failure).into())
            }
        }
    }

    /// Handlers see why they run.
    fn see_failure(&mut self, now: Timestamp) {
        if let Some(failure) = step::failure_so_far(&self.plan, self.log.run(), now) {
            self.values.set("failure", values::failure_value(&failure));
        }
    }

    /// One try at a task, on record before it happens when it reaches out.
    async fn attempt(&mut self, task: &PlannedTask) -> Result<Flow, Lost> {
        let attempt = self.begin(task)?;
        if matches!(task.task.effect(), Effect::Call { .. }) {
            self.log.flush().await?;
        }
        let started = Instant::now();
        let attempted = self.run_attempt(task).await?;
        self.end(task, attempt, started.elapsed(), attempted)
    }

    fn begin(&mut self, task: &PlannedTask) -> Result<AttemptNumber, Lost> {
        let before = self.log.run().tasks.get(&task.id).and_then(|record| record.attempt);
        let attempt = before.map_or(AttemptNumber::FIRST, AttemptNumber::next);
        let key = self.idempotency_key(task);
        self.log.push(Event::AttemptStarted { task: task.id.clone(), attempt, key })?;
        Ok(attempt)
    }

    /// Made from run and task, so that it is the same over retries, after a crash, and on a resume.
    fn idempotency_key(&self, task: &PlannedTask) -> String {
        format!("{}-{}", self.log.run().id, task.id)
    }

    /// Runs the attempt inside its time limit while the lease is renewed and a cancel can break in.
    async fn run_attempt(&mut self, task: &PlannedTask) -> Result<Attempted, Lost> {
        let parts = &self.engine.0.parts;
        let connections = parts.files.connections();
        let connection = match &task.connection {
            Some(name) => match connections.get(name) {
                Some(connection) => Some(Arc::clone(connection)),
                None => return Ok(Err(no_connection(name)).into()),
            },
            None => None,
        };
        let key = self.idempotency_key(task);
        let limit = self.time_limit(task);
        // The attempt reads a snapshot of the values, so that the log stays free for renewals meanwhile.
        let seen = self.values.clone();
        let checkpoint = self.record(task).and_then(|record| record.checkpoint.clone());
        let ctx = TaskContext {
            run: self.log.run().id,
            task: &task.id,
            idempotency_key: &key,
            checkpoint: checkpoint.as_ref(),
            values: &seen,
            connection: connection.as_deref(),
            client: &parts.client,
            secrets: parts.secrets.as_ref(),
            commands: &parts.commands,
            artifacts: &parts.artifacts,
            databases: &parts.databases,
            time_limit: limit,
            clock: parts.clock.as_ref(),
        };
        let mut work = std::pin::pin!(tokio::time::timeout(limit, task.task.attempt(&ctx)));
        let renew_after = parts.settings.lease.mul_f64(LEASE_SHARE_BEFORE_RENEWAL);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done.unwrap_or_else(|_| Err(attempt_timeout(task, limit)).into())),
                () = self.cancel.cancelled() => return Err(Lost),
                () = self.engine.0.halt.cancelled() => return Err(Lost),
                () = tokio::time::sleep(renew_after) => {
                    let lease_until = self.engine.lease_until();
                    self.log.push(Event::LeaseRenewed { lease_until })?;
                    self.log.flush().await?;
                }
            }
        }
    }

    /// The task's own limit, or what the run has left when that is less. Handlers have their own limit only.
    fn time_limit(&self, task: &PlannedTask) -> Duration {
        if self.is_handler(task) {
            return task.timeout;
        }
        task.timeout.min(step::deadline(&self.plan, self.log.run()).since(self.engine.0.parts.clock.now()))
    }

    fn is_handler(&self, task: &PlannedTask) -> bool {
        self.plan.handlers().any(|handler| handler.id == task.id)
    }

    /// Puts the end of an attempt into the log, with what follows a failure.
    fn end(
        &mut self,
        task: &PlannedTask,
        attempt: AttemptNumber,
        took: Duration,
        done: Attempted,
    ) -> Result<Flow, Lost> {
        let result = match done.result {
            Ok(Done::Output(output)) => bounded(output),
            Ok(Done::At(until)) if until <= self.engine.0.parts.clock.now() => {
                AttemptResult::Succeeded { output: serde_json::json!({ "until": until.to_string() }) }
            }
            Ok(Done::At(until)) => {
                let until =
                    if self.is_handler(task) { until } else { until.min(step::deadline(&self.plan, self.log.run())) };
                self.log.push(Event::Suspended { until, reason: WaitReason::Delay { task: task.id.clone() } })?;
                return Ok(Flow::Done);
            }
            Ok(Done::Later { at, why }) => {
                let now = self.engine.0.parts.clock.now();
                let until = if self.is_handler(task) { at } else { at.min(step::deadline(&self.plan, self.log.run())) };
                AttemptResult::Paused { until: until.max(now), why }
            }
            Err(failure) => self.after_failure(task, failure),
        };
        let (result, checkpoint) = with_checkpoint(result, done.checkpoint);
        metrics::histogram!("clawhook_attempt_seconds", "kind" => task.kind.name).record(took.as_secs_f64());
        if let Some(value) = values::task_result(&result) {
            self.values.set_member("tasks", task.id.as_str(), value);
        }
        let duration_ms = millis(took);
        let ended =
            AttemptEnded { task: task.id.clone(), attempt, duration_ms, result, exchange: done.exchange, checkpoint };
        self.log.push(Event::AttemptEnded(Box::new(ended)))?;
        Ok(Flow::On)
    }

    fn after_failure(&self, task: &PlannedTask, failure: Failure) -> AttemptResult {
        let repeatable = !matches!(task.task.effect(), Effect::Call { repeatable: false });
        let failed = self.record(task).map_or(0, |record| record.failed) + 1;
        let now = self.engine.0.parts.clock.now();
        match after_failure(&task.retry, failed, &failure, repeatable, rand::random()) {
            Next::Retry { after } => {
                AttemptResult::Failed { failure: Box::new(failure), retry_at: Some(now.plus(after)) }
            }
            Next::GiveUp(why) => AttemptResult::Failed { failure: Box::new(explain(failure, why)), retry_at: None },
        }
    }

    /// An attempt was cut off with its process. It runs again when the far end can tell a repeat, a few times.
    fn interrupted(&mut self, task: &PlannedTask, now: Timestamp) -> Result<Flow, Lost> {
        let Some(record) = self.record(task) else { return Ok(Flow::On) };
        let attempt = record.attempt.unwrap_or(AttemptNumber::FIRST);
        let unsafe_to_repeat = task.task.effect() == Effect::Call { repeatable: false } && !task.retry.repeat_unsafe;
        let again = !unsafe_to_repeat && record.interrupted < limits::INTERRUPTED_MAX;
        let since = match record.state {
            TaskState::Started { at } => at,
            _ => now,
        };
        let mut failure = Failure::new(
            "attempt.interrupted",
            Fault::Here,
            "the gateway stopped while the attempt was in flight; whether it arrived is not known",
        )
        .sent(Sent::Maybe);
        failure.class = Class::Interrupted;
        if !again {
            failure = explain(failure, if unsafe_to_repeat { GiveUp::Unsafe } else { GiveUp::Exhausted });
        }
        let result = AttemptResult::Failed { failure: Box::new(failure), retry_at: again.then_some(now) };
        let duration_ms = millis(now.since(since));
        let checkpoint = record.checkpoint.clone();
        let ended = AttemptEnded { task: task.id.clone(), attempt, duration_ms, result, exchange: None, checkpoint };
        self.log.push(Event::AttemptEnded(Box::new(ended)))?;
        Ok(Flow::On)
    }

    fn end_delay(&mut self, task: &PlannedTask) -> Result<Flow, Lost> {
        let Some(record) = self.record(task) else { return Ok(Flow::On) };
        let until = match record.state {
            TaskState::Delayed { until } => until,
            _ => self.engine.0.parts.clock.now(),
        };
        let attempt = record.attempt.unwrap_or(AttemptNumber::FIRST);
        let output = serde_json::json!({ "until": until.to_string() });
        self.end(task, attempt, Duration::ZERO, Ok(Done::Output(output)).into())
    }

    /// Gives the worker back until the moment has come.
    fn wait(&mut self, task: &PlannedTask, until: Timestamp) -> Result<Flow, Lost> {
        let reason = self.wait_reason(task);
        self.log.push(Event::Suspended { until, reason })?;
        Ok(Flow::Done)
    }

    fn wait_reason(&self, task: &PlannedTask) -> WaitReason {
        let record = self.record(task);
        match record.map(|record| (&record.state, record.attempt)) {
            Some((TaskState::Retrying { .. }, attempt)) => {
                let message = record.and_then(|record| record.last_failure.clone()).unwrap_or_default();
                WaitReason::Retry { task: task.id.clone(), attempt: attempt.unwrap_or(AttemptNumber::FIRST), message }
            }
            Some((TaskState::Paused { why, .. }, _)) => WaitReason::Paused { task: task.id.clone(), why: why.clone() },
            _ => WaitReason::Delay { task: task.id.clone() },
        }
    }

    async fn finish(&mut self, verdict: Verdict) -> Result<Flow, Lost> {
        let event = match verdict {
            Verdict::Failed(failure) => log::failed(failure),
            Verdict::Succeeded => match self.outputs() {
                Ok(outputs) => log::succeeded(outputs, self.state_changes()),
                Err(failure) => log::failed(failure),
            },
        };
        self.log.push(event)?;
        self.log.flush().await?;
        let run = self.log.run();
        let (id, state) = (run.id, run.state);
        metrics::counter!("clawhook_runs_ended_total", "workflow" => run.accepted.workflow.to_string(), "state" => state.as_str())
            .increment(1);
        if let Some(failure) = &run.failure {
            tracing::warn!(run.id = %id, code = %failure.code, cause = %failure.cause(), "run {id} failed: {}", failure.message);
        } else {
            tracing::debug!(run.id = %id, "run {id} {state}");
        }
        Ok(Flow::Done)
    }

    /// The outputs. One that reads a task which gave nothing is null; any other mistake fails the run, after its work.
    fn outputs(&self) -> Result<Map<String, Value>, Failure> {
        let mut outputs = Map::new();
        for (name, mapping) in &self.plan.outputs {
            let value = match mapping.eval(&self.values) {
                Ok(value) => value,
                Err(error) if error.kind == expr::Kind::Undefined && self.reads_an_absent_task(mapping) => Value::Null,
                Err(error) => {
                    return Err(Failure::new(
                        "expression.failed",
                        Fault::Config,
                        format!("output `{name}` failed: {error}"),
                    )
                    .help("all tasks have done their work; mend the output, then resume the run"));
                }
            };
            outputs.insert(name.clone(), value);
        }
        Ok(outputs)
    }

    fn reads_an_absent_task(&self, mapping: &expr::Mapping) -> bool {
        mapping.names().iter().map(|place| &place.name).any(|name| {
            name.path.first().is_some_and(|root| root == "tasks")
                && name
                    .path
                    .get(1)
                    .and_then(|task| self.log.run().tasks.get(task.as_str()))
                    .is_none_or(|record| !matches!(record.state, TaskState::Succeeded { .. }))
        })
    }

    fn state_changes(&self) -> Map<String, Value> {
        let mut changes = Map::new();
        for task in self.plan.all_tasks().filter(|task| task.task.effect() == Effect::SetState) {
            if let Some(TaskState::Succeeded { output: Value::Object(members) }) = self.record(task).map(|r| &r.state) {
                changes.extend(members.clone());
            }
        }
        changes
    }

    fn record(&self, task: &PlannedTask) -> Option<&TaskRecord> {
        self.log.run().tasks.get(&task.id)
    }
}

/// A lease is renewed when this share of it is gone.
const LEASE_SHARE_BEFORE_RENEWAL: f64 = 1.0 / 3.0;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn bounded(output: Value) -> AttemptResult {
    let bytes = size_of_json(&output);
    if bytes <= limits::TASK_OUTPUT_BYTES_MAX {
        return AttemptResult::Succeeded { output };
    }
    let message = format!("the output has {bytes} bytes, more than {}", limits::TASK_OUTPUT_BYTES_MAX);
    let failure = Failure::new("task.output_too_large", Fault::Config, message)
        .help("keep only what later tasks need, for example with a narrower query or a `transform`")
        .sent(Sent::Maybe);
    AttemptResult::Failed { failure: Box::new(failure), retry_at: None }
}

/// A checkpoint that is too large to keep is a mistake of the task kind; going on without it could do its work twice.
fn with_checkpoint(result: AttemptResult, checkpoint: Option<Value>) -> (AttemptResult, Option<Value>) {
    let bytes = checkpoint.as_ref().map_or(0, size_of_json);
    if bytes <= limits::CHECKPOINT_BYTES_MAX {
        return (result, checkpoint);
    }
    let message = format!("it wants to remember {bytes} bytes, more than {}", limits::CHECKPOINT_BYTES_MAX);
    let failure = Failure::new("task.output_too_large", Fault::Here, message).sent(Sent::Maybe);
    (AttemptResult::Failed { failure: Box::new(failure), retry_at: None }, None)
}

/// About how many bytes of JSON a value makes, without writing it.
fn size_of_json(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size_of_json(item) + 1).sum::<usize>() + 2,
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + size_of_json(value) + 4).sum::<usize>() + 2
        }
    }
}

fn explain(failure: Failure, why: GiveUp) -> Failure {
    match why {
        GiveUp::Unsafe => failure.help(
            "it may have arrived, and repeating it could do it twice: look at the far end, then resume or cancel the run; \
             an `idempotency_key`, or `retry_unsafe: true`, would let the gateway repeat it",
        ),
        GiveUp::Exhausted | GiveUp::Pointless => failure,
    }
}

fn condition_failure(error: &expr::Error) -> Failure {
    Failure::new("expression.failed", Fault::Config, format!("the condition `if` failed: {error}"))
        .help(error.help.clone().unwrap_or_else(|| "mend the condition, then resume the run".to_owned()))
}

fn no_connection(name: &crate::id::ConnectionName) -> Failure {
    Failure::new("connection.unknown", Fault::Config, format!("there is no connection `{name}` any more"))
        .help("add it to `connections` in clawhook.yaml, reload, then resume the run")
        .at(name.as_str())
}

fn attempt_timeout(task: &PlannedTask, limit: Duration) -> Failure {
    let limit = crate::domain::duration::format(limit);
    Failure::new("task.timeout", Fault::Far, format!("task `{}` took longer than its limit of {limit}", task.id))
        .help("raise `timeout` of the task, or find out why the far end is slow")
        .retriable(Class::Timeout, None)
        .sent(Sent::Maybe)
}
