//! Drives one run: asks `step` what can be done, does it, and has it on record. A worker that loses its run stops at
//! once.

mod ending;
mod failures;
mod flight;
mod keep;
mod scopes;
mod sizes;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::time::Instant;

use self::failures::{condition_failure, explain, too_large, with_checkpoint};
use self::flight::{Flight, Flown};
use self::keep::{Found, Full};
use self::scopes::Scopes;
use self::sizes::{gathered, size_of_json};
use super::Engine;
use super::hold::{Handed, Hold};
use super::log::{self, LogWriter, Lost};
use super::step::{self, Action, Todo, Verdict};
use crate::clock::Timestamp;
use crate::domain::attempt::{AttemptEnded, AttemptResult, Pause};
use crate::domain::event::{Event, Prepared, WaitReason};
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::retry::{self, GiveUp, Next, after_failure};
use crate::domain::run::{Run, TaskRecord, TaskState};
use crate::domain::state::State;
use crate::domain::step::StepId;
use crate::expr;
use crate::id::AttemptNumber;
use crate::limits;
use crate::tasks::plan::{KindTask, Plan, Poll, Work};
use crate::tasks::{Attempted, Done, Effect};

/// A run that got a worker.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) run: Run,
    pub(super) worker: String,
    pub(super) hold: Hold,
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
                let mut driver = Driver {
                    engine: self,
                    log,
                    hold: claim.hold,
                    scopes: Scopes::default(),
                    flying: BTreeSet::new(),
                    loops_bytes: HashMap::new(),
                    lists_bytes: HashMap::new(),
                    renew_at: Instant::now(),
                    unread: None,
                };
                driver.run(&plan, &worker, *prepared, fresh).await
            }
        };
        if driven == Err(Lost) {
            self.lost(id, &worker).await;
        }
        driven.ok()
    }

    async fn give_up(&self, log: &mut LogWriter, worker: &str, failure: Failure) -> Result<State, Lost> {
        log.push(Event::Claimed { worker: worker.to_owned(), lease_until: self.lease_until() })?;
        // A run whose file is gone has nobody to tell.
        if let Ok(plan) = self.plan_of(log.run()).await {
            ending::promise(self, log, &plan).await?;
        }
        log.push(log::failed(failure))?;
        log.flush().await?;
        self.tell_parent(log.run()).await;
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
        for ended in cut_off(log.run(), parts.clock.now()) {
            if log.push(Event::AttemptEnded(Box::new(ended))).is_err() {
                return;
            }
        }
        if log.push(Event::Stopped).is_ok() {
            // When this fails the lease runs out, and recovery stops the run instead.
            let _ = log.flush().await;
            self.tell_parent(log.run()).await;
        }
    }

    pub(super) fn lease_until(&self) -> Timestamp {
        self.0.parts.clock.now().plus(self.0.parts.settings.lease)
    }
}

/// The ends of the attempts that a cancel broke in on.
fn cut_off(run: &Run, now: Timestamp) -> Vec<AttemptEnded> {
    let in_flight = run.tasks.iter().filter_map(|(task, record)| match (&record.state, record.attempt) {
        (TaskState::Started { at }, Some(attempt)) => Some((task.clone(), attempt, *at)),
        _ => None,
    });
    let cut_off = |(task, attempt, at)| {
        let failure =
            Failure::new("run.cancelled", Fault::Here, "the attempt was cut off by a cancel").sent(Sent::Maybe);
        let result = AttemptResult::Failed { failure: Box::new(failure), retry_at: None };
        ended(task, attempt, now.since(at), result)
    };
    in_flight.map(cut_off).collect()
}

/// One worker, one run.
struct Driver<'e> {
    engine: &'e Engine,
    log: LogWriter,
    hold: Hold,
    scopes: Scopes,
    /// The steps that an attempt is under way at.
    flying: BTreeSet<StepId>,
    /// What the items of each outermost loop gave so far, bytes of JSON.
    loops_bytes: HashMap<StepId, usize>,
    /// What they go over, bytes of JSON.
    lists_bytes: HashMap<StepId, usize>,
    /// When the lease is to be renewed.
    renew_at: Instant,
    /// Why the tasks cannot go on: what they gave before cannot be read.
    unread: Option<Failure>,
}

type Flights<'p> = FuturesUnordered<Flight<'p>>;

impl<'e> Driver<'e> {
    async fn run(&mut self, plan: &'e Arc<Plan>, worker: &str, prepared: Prepared, fresh: bool) -> Result<State, Lost> {
        let found = self.find_kept(plan).await?;
        let lease_until = self.engine.lease_until();
        self.log.push(Event::Claimed { worker: worker.to_owned(), lease_until })?;
        self.renew_at = Instant::now() + self.renew_after();
        let full = match found {
            Found::All(full) => full,
            Found::Later(step, failure) => return self.wait_for_kept(step, failure).await,
            Found::Never(failure) => {
                self.unread = Some(failure);
                Full::default()
            }
        };
        self.scopes = Scopes::new(plan, self.log.run(), &prepared, full);
        if fresh {
            self.log.push(Event::Prepared(Box::new(prepared)))?;
        }
        let mut flights = Flights::new();
        loop {
            if self.hold.cancel.is_cancelled() || self.engine.0.halt.is_cancelled() {
                return Err(Lost);
            }
            self.write_handed().await?;
            // Also where there is always something to do at once; and what is on its way to the store stays bounded.
            if Instant::now() >= self.renew_at {
                self.renew()?;
                self.log.flush().await?;
            } else if self.log.pending() >= limits::EVENTS_PENDING_MAX {
                self.log.flush().await?;
            }
            let look = step::look(plan, self.log.run(), self.now(), &self.flying, self.unread.as_ref());
            if let Some(verdict) = look.verdict {
                self.finish(plan, verdict).await?;
                return Ok(self.log.run().state);
            }
            if let Some(failure) = &look.failure {
                self.scopes.see_failure(failure);
            }
            let draining = self.engine.is_draining();
            let mut went_on = false;
            if !draining {
                for todo in look.todo {
                    went_on |= self.act(plan, todo, &mut flights)?;
                }
            }
            if went_on {
                continue;
            }
            if flights.is_empty() {
                if look.wait.is_none() && !draining {
                    self.finish(plan, Verdict::Failed(failures::stuck())).await?;
                    return Ok(self.log.run().state);
                }
                self.suspend(draining, look.wait)?;
                self.log.flush().await?;
                return Ok(self.log.run().state);
            }
            self.before_the_wait(plan).await?;
            let wait = look.wait.map(|(_, until)| until).filter(|_| !draining);
            self.await_one(plan, &mut flights, wait, draining).await?;
        }
    }

    /// Writes what others handed over because this worker writes too often for them to get in.
    async fn write_handed(&mut self) -> Result<(), Lost> {
        for Handed { events, written } in self.hold.take_handed() {
            // It is driven, so it need not be woken.
            let fit = events.into_iter().filter(|event| *event != Event::Woken).all(|event| self.log.offer(event));
            self.log.flush().await?;
            // Whoever handed it over may be gone.
            let _ = written.send(fit);
            if self.log.run().state == State::Cancelling {
                return Err(Lost);
            }
        }
        Ok(())
    }

    /// Until an attempt ends, something comes due, or somebody breaks in.
    async fn await_one(
        &mut self,
        plan: &Plan,
        flights: &mut Flights<'_>,
        wait: Option<Timestamp>,
        draining: bool,
    ) -> Result<(), Lost> {
        let due = wait.map_or(FAR_OFF, |until| until.since(self.now()));
        tokio::select! {
            biased;
            Some(flown) = flights.next() => self.landed(plan, flown),
            () = self.hold.cancel.cancelled() => Err(Lost),
            () = self.engine.0.halt.cancelled() => Err(Lost),
            () = self.hold.news.notified() => self.log.refresh().await,
            () = tokio::time::sleep_until(self.renew_at) => {
                self.renew()?;
                self.log.flush().await
            }
            () = tokio::time::sleep(due), if wait.is_some() => Ok(()),
            // What is computed may take its time; what has ended is not to wait for it.
            () = tokio::time::sleep(FLUSH_AFTER), if self.log.pending() > 0 => self.log.flush().await,
            () = self.engine.0.drain.cancelled(), if !draining => Ok(()),
        }
    }

    /// What reaches out is on record before it happens, and what has ended before anything is waited for.
    async fn before_the_wait(&mut self, plan: &Plan) -> Result<(), Lost> {
        let reaches_out = |step: &StepId| {
            scopes::task_of(plan, step).is_some_and(
                |task| matches!(&task.work, Work::Task(work) if matches!(work.task.effect(), Effect::Call { .. })),
            )
        };
        if self.log.pending() > 0 && self.flying.iter().any(reaches_out) {
            self.log.flush().await?;
        }
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Lost> {
        let lease_until = self.engine.lease_until();
        self.renew_at = Instant::now() + self.renew_after();
        self.log.push(Event::LeaseRenewed { lease_until })
    }

    fn renew_after(&self) -> Duration {
        self.engine.0.parts.settings.lease.mul_f64(LEASE_SHARE_BEFORE_RENEWAL)
    }

    fn now(&self) -> Timestamp {
        self.engine.0.parts.clock.now()
    }

    /// Nothing can be done at this moment, or nothing new is begun because the gateway shuts down.
    fn suspend(&mut self, draining: bool, wait: Option<(StepId, Timestamp)>) -> Result<(), Lost> {
        let (until, reason) = match wait {
            Some((step, until)) if !draining => (until, self.wait_reason(step)),
            _ => (self.now(), WaitReason::Drained),
        };
        self.log.push(Event::Suspended { until, reason })
    }

    /// Does one thing. True when it is on record and the next look may find more; false when an attempt is under way.
    fn act<'p>(&mut self, plan: &'p Plan, todo: Todo<'p>, flights: &mut Flights<'p>) -> Result<bool, Lost>
    where
        'e: 'p,
    {
        match todo.action {
            Action::Consider => self.consider(plan, todo, flights),
            Action::Retry => self.attempt(plan, todo, flights),
            Action::Interrupted => self.interrupted(&todo),
            Action::Close(ref failure) => self.close(plan, &todo, failure.clone()),
        }
    }

    fn consider<'p>(&mut self, plan: &'p Plan, todo: Todo<'p>, flights: &mut Flights<'p>) -> Result<bool, Lost>
    where
        'e: 'p,
    {
        if self.flying.len() >= limits::RUN_ATTEMPTS_MAX && matches!(todo.task.work, Work::Task(_)) {
            return Ok(false);
        }
        match self.opens(plan, &todo) {
            Ok(Opens::Skip) => {
                self.log.push(Event::TaskSkipped { task: todo.step.clone() })?;
                self.scopes.set_skipped(&todo.step, todo.task);
                Ok(true)
            }
            Ok(Opens::With { items, case }) => {
                self.log.push(Event::Opened { task: todo.step.clone(), items, case })?;
                self.scopes.set_unchosen(&todo.step, todo.task, case);
                Ok(true)
            }
            Ok(Opens::Attempt) => self.attempt(plan, todo, flights),
            Err(failure) => self.refuse(&todo.step, failure),
        }
    }

    /// A step that cannot even be tried.
    fn refuse(&mut self, step: &StepId, failure: Failure) -> Result<bool, Lost> {
        let attempt = self.begin(step)?;
        let result = AttemptResult::Failed { failure: Box::new(failure), retry_at: None };
        self.put_end(ended(step.clone(), attempt, Duration::ZERO, result), &[])?;
        Ok(true)
    }

    /// What becomes of a task that has its turn.
    fn opens(&mut self, plan: &Plan, todo: &Todo<'_>) -> Result<Opens, Failure> {
        let Todo { step, task, .. } = todo;
        let is_loop = task.each.is_some() && step.item().is_none();
        let context = self.scopes.of(plan, self.log.run(), step)?;
        let asked_here = |of_item: bool| task.each.is_none() || of_item != is_loop;
        if let Some(condition) = task.condition.as_ref().filter(|condition| asked_here(condition.of_item)) {
            let holds = condition.expression.is_true(context).map_err(|error| condition_failure(&error))?;
            if !holds {
                return Ok(Opens::Skip);
            }
        }
        if is_loop {
            let list = self.scopes.list(plan, self.log.run(), step)?;
            self.room_for(step, &list)?;
            return Ok(Opens::With { items: u32::try_from(list.len()).ok(), case: None });
        }
        match &task.work {
            Work::Task(_) => Ok(Opens::Attempt),
            Work::Group(_) => Ok(Opens::With { items: None, case: None }),
            Work::Switch(cases) => {
                for (place, case) in (0..).zip(cases) {
                    let holds = case.condition.as_ref().map_or(Ok(true), |condition| condition.is_true(context));
                    if holds.map_err(|error| condition_failure(&error))? {
                        return Ok(Opens::With { items: None, case: Some(place) });
                    }
                }
                Ok(Opens::With { items: None, case: None })
            }
        }
    }

    /// The table of a loop holds its items too: one that cannot be held is refused before anything of it is done.
    fn room_for(&mut self, step: &StepId, list: &[Value]) -> Result<(), Failure> {
        let outermost = step.loops().next().map_or_else(|| step.clone(), |(of, _)| of);
        let bytes = self.lists_bytes.entry(outermost).or_default();
        *bytes += list.iter().map(size_of_json).sum::<usize>();
        if *bytes <= limits::TASK_OUTPUT_BYTES_MAX { Ok(()) } else { Err(too_large(*bytes)) }
    }

    fn close(&mut self, plan: &Plan, todo: &Todo<'_>, failure: Option<Box<Failure>>) -> Result<bool, Lost> {
        self.scopes.close(plan, self.log.run(), &todo.step, failure.as_deref());
        self.log.push(Event::Closed { task: todo.step.clone(), failure })?;
        Ok(true)
    }

    /// Sets one try at a task under way.
    fn attempt<'p>(&mut self, plan: &'p Plan, todo: Todo<'p>, flights: &mut Flights<'p>) -> Result<bool, Lost>
    where
        'e: 'p,
    {
        let Work::Task(work) = &todo.task.work else { return Ok(false) };
        if self.flying.len() >= limits::RUN_ATTEMPTS_MAX {
            return Ok(false);
        }
        let values = match self.scopes.of(plan, self.log.run(), &todo.step) {
            Ok(context) => context.clone(),
            Err(failure) => return self.refuse(&todo.step, failure),
        };
        let attempt = self.begin(&todo.step)?;
        self.flying.insert(todo.step.clone());
        let ticket = flight::Ticket {
            run: self.log.run().id,
            key: self.idempotency_key(&todo.step),
            checkpoint: self.record(&todo.step).and_then(|record| record.checkpoint.clone()),
            limit: self.time_limit(plan, work, todo.handler),
            decisions: self.record(&todo.step).map(|record| record.decisions.clone()).unwrap_or_default(),
            values,
            step: todo.step,
            task: work,
            handler: todo.handler,
            attempt,
        };
        flights.push(Box::pin(flight::fly(self.engine, ticket)));
        Ok(false)
    }

    fn begin(&mut self, step: &StepId) -> Result<AttemptNumber, Lost> {
        let before = self.record(step).and_then(|record| record.attempt);
        let attempt = before.map_or(AttemptNumber::FIRST, AttemptNumber::next);
        let key = self.idempotency_key(step);
        self.log.push(Event::AttemptStarted { task: step.clone(), attempt, key })?;
        Ok(attempt)
    }

    /// Made from run, task and item, so that it is the same over retries, after a crash, and on a resume.
    fn idempotency_key(&self, step: &StepId) -> String {
        format!("{}-{}", self.log.run().id, step.as_key())
    }

    /// The task's own limit, or what the run has left when that is less. Handlers have their own limit only.
    fn time_limit(&self, plan: &Plan, task: &KindTask, handler: bool) -> Duration {
        if handler {
            return task.timeout;
        }
        task.timeout.min(step::deadline(plan, self.log.run()).since(self.now()))
    }

    /// An attempt has ended: what it gave, or what follows its failure.
    fn landed(&mut self, plan: &Plan, flown: Flown<'_>) -> Result<(), Lost> {
        let Flown { step, task, handler, attempt, took, attempted, kept } = flown;
        self.flying.remove(&step);
        let Attempted { result, exchange, checkpoint } = attempted;
        let result = match result {
            Ok(Done::Output(output)) => match &task.poll {
                Some(poll) => self.polled(plan, &step, poll, output),
                None => Ok(Done::Output(output)),
            },
            other => other,
        };
        let now = self.now();
        let result = match result {
            Ok(Done::Output(output)) => self.bounded(&step, output),
            Ok(Done::Later { at, why }) => {
                let at = if handler { at } else { at.min(step::deadline(plan, self.log.run())) };
                AttemptResult::Paused { until: at.max(now), why }
            }
            Err(failure) => self.after_failure(&step, task, failure),
        };
        let (result, checkpoint) = with_checkpoint(result, checkpoint);
        metrics::histogram!("clawhook_attempt_seconds", "kind" => task.kind.name).record(took.as_secs_f64());
        self.put_end(AttemptEnded { exchange, checkpoint, ..ended(step, attempt, took, result) }, &kept)
    }

    /// What `poll` makes of an output: it is as wanted, or wrong for good, or it is asked for again later.
    fn polled(&mut self, plan: &Plan, step: &StepId, poll: &Poll, output: Value) -> Result<Done, Failure> {
        let now = self.now();
        let mut context = self.scopes.of(plan, self.log.run(), step)?.clone();
        context.set(RESPONSE, output.clone());
        let holds = |condition: &expr::Expression, name| {
            condition.is_true(&context).map_err(|error| failures::poll_failure(name, &error).sent(Sent::Maybe))
        };
        if holds(&poll.until, "until")? {
            return Ok(Done::Output(output));
        }
        if let Some(fail_if) = &poll.fail_if
            && holds(fail_if, "fail_if")?
        {
            return Err(failures::poll_failed(step, &output));
        }
        let record = self.record(step);
        let since = record.and_then(|record| record.since).unwrap_or(now);
        let polls = record.map_or(0, |record| record.pauses);
        let at = now.plus(retry::grown(poll.interval, poll.backoff, polls, poll.interval_max));
        if at.since(since) > poll.timeout {
            return Err(failures::poll_timeout(step, poll.timeout));
        }
        Ok(Done::Later { at, why: Pause::Poll { said: failures::short(&output) } })
    }

    /// An output that is small enough to be kept, alone and with those of the other items of its loop.
    fn bounded(&mut self, step: &StepId, output: Value) -> AttemptResult {
        let mut bytes = size_of_json(&output);
        if let Some((of, _)) = step.loops().next() {
            let run = self.log.run();
            let before = self.loops_bytes.entry(of.clone()).or_insert_with(|| gathered(run, &self.scopes, &of));
            *before += bytes;
            bytes = *before;
        }
        if bytes <= limits::TASK_OUTPUT_BYTES_MAX {
            return AttemptResult::Succeeded { output };
        }
        AttemptResult::Failed { failure: Box::new(too_large(bytes).sent(Sent::Maybe)), retry_at: None }
    }

    fn after_failure(&self, step: &StepId, task: &KindTask, failure: Failure) -> AttemptResult {
        let repeatable = !matches!(task.task.effect(), Effect::Call { repeatable: false });
        let failed = self.record(step).map_or(0, |record| record.failed) + 1;
        match after_failure(&task.retry, failed, &failure, repeatable, rand::random()) {
            Next::Retry { after } => {
                AttemptResult::Failed { failure: Box::new(failure), retry_at: Some(self.now().plus(after)) }
            }
            Next::GiveUp(why) => AttemptResult::Failed { failure: Box::new(explain(failure, why)), retry_at: None },
        }
    }

    /// An attempt was cut off with its process. It runs again when the far end can tell a repeat, a few times.
    fn interrupted(&mut self, todo: &Todo<'_>) -> Result<bool, Lost> {
        let (Work::Task(work), Some(record)) = (&todo.task.work, self.record(&todo.step)) else { return Ok(false) };
        let now = self.now();
        let attempt = record.attempt.unwrap_or(AttemptNumber::FIRST);
        let unsafe_to_repeat = work.task.effect() == Effect::Call { repeatable: false } && !work.retry.repeat_unsafe;
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
        let checkpoint = record.checkpoint.clone();
        let ended = ended(todo.step.clone(), attempt, now.since(since), result);
        self.put_end(AttemptEnded { checkpoint, ..ended }, &[])?;
        Ok(true)
    }

    fn wait_reason(&self, task: StepId) -> WaitReason {
        let record = self.record(&task);
        match record.map(|record| (&record.state, record.attempt)) {
            Some((TaskState::Retrying { .. }, attempt)) => {
                let message = record.and_then(|record| record.last_failure.clone()).unwrap_or_default();
                WaitReason::Retry { task, attempt: attempt.unwrap_or(AttemptNumber::FIRST), message }
            }
            Some((TaskState::Paused { why, .. }, _)) => WaitReason::Paused { task, why: why.clone() },
            _ => WaitReason::Paused { task, why: Pause::Delay },
        }
    }

    fn record(&self, step: &StepId) -> Option<&TaskRecord> {
        self.log.run().tasks.get(step)
    }
}

/// What becomes of a task that has its turn.
enum Opens {
    Skip,
    With { items: Option<u32>, case: Option<u32> },
    Attempt,
}

/// The name under which `poll` sees what an attempt gave.
const RESPONSE: &str = "response";
/// A lease is renewed when this share of it is gone.
const LEASE_SHARE_BEFORE_RENEWAL: f64 = 1.0 / 3.0;
/// Longest that events wait for others to be written with.
const FLUSH_AFTER: Duration = Duration::from_millis(50);
/// No moment at all.
const FAR_OFF: Duration = Duration::from_hours(24);

/// The end of an attempt that made no call and leaves nothing.
fn ended(task: StepId, attempt: AttemptNumber, took: Duration, result: AttemptResult) -> AttemptEnded {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    AttemptEnded { task, attempt, duration_ms, result, exchange: None, checkpoint: None, kept: Vec::new() }
}
