//! Tasks that do what the seed says: take their time, fail, or do their work, and leave a trace in the world.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawhook::domain::failure::{Class, Failure, Fault, Sent};
use clawhook::expr::{Mapping, Place};
use clawhook::id::{Revision, TaskId, WorkflowName};
use clawhook::tasks::plan::{ForEach, KindTask, Plan, PlannedTask, TaskList, Work};
use clawhook::tasks::{Attempted, Done, Effect, Task, TaskContext};
use clawhook::{domain, limits, tasks};
use rand::Rng;
use serde_json::{Value, json};

use super::world::{Outside, Trace};

/// What a task gave that a later one reads: task, and whose.
const READS: &[(&str, &str)] = &[(REFUND, "look"), ("label", "push"), ("book", "reserve")];

/// Bytes of JSON that stay in a log: less than what a task answers.
pub(super) const INLINE_BYTES_MAX: usize = 256;

/// The task whose far end cannot tell a repeat.
pub(super) const REFUND: &str = "refund";

/// The workflow that all runs of the simulation run.
pub(super) fn plan(outside: &Arc<Outside>) -> Plan {
    let task = |id: &str, repeatable: bool| PlannedTask {
        id: TaskId::new(id).unwrap(),
        condition: None,
        each: None,
        continue_on_error: false,
        work: Work::Task(Box::new(KindTask {
            kind: tasks::kind("http_request").unwrap(),
            task: Box::new(Scripted { outside: Arc::clone(outside), effect: Effect::Call { repeatable } }),
            connection: None,
            retry: domain::retry::RetryPolicy { retries: 4, delay: Duration::from_secs(2), ..Default::default() },
            timeout: Duration::from_secs(20),
            poll: None,
            redact: clawhook::outbound::Redaction::default(),
        })),
    };
    // Three items, two at a time, each with two tasks; beside it two tasks that wait for nobody.
    let lines = PlannedTask {
        each: Some(ForEach { items: Mapping::parse(&json!([1, 2, 3])).unwrap(), parallel_max: 2 }),
        work: Work::Group(TaskList::in_order(vec![task("reserve", true), task("book", true)])),
        ..task("lines", true)
    };
    let beside = TaskList {
        tasks: vec![task("push", true), task("label", true), lines],
        needs: Some(vec![Vec::new(), vec![0], Vec::new()]),
    };
    let together = PlannedTask { work: Work::Group(beside), ..task("together", true) };
    Plan {
        name: WorkflowName::new("orders").unwrap(),
        revision: Revision::from("r1"),
        description: None,
        labels: Vec::new(),
        inputs: Vec::new(),
        concurrency: None,
        timeout: limits::RUN_TIMEOUT,
        tasks: TaskList::in_order(vec![task("look", true), task(REFUND, false), together]),
        on_failure: TaskList::in_order(vec![task("tell", true)]),
        on_success: TaskList::default(),
        finally: TaskList::in_order(vec![task("tidy", true)]),
        callback: None,
        outputs: Vec::new(),
    }
}

#[derive(Debug)]
struct Scripted {
    outside: Arc<Outside>,
    effect: Effect,
}

#[async_trait]
impl Task for Scripted {
    fn effect(&self) -> Effect {
        self.effect
    }

    fn names(&self) -> Vec<Place> {
        Vec::new()
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let (wait, fails) = {
            let mut random = self.outside.random();
            let wait = if random.random_ratio(1, 12) { 12_000 } else { random.random_range(0..1_500) };
            (Duration::from_millis(wait), random.random_ratio(1, 8))
        };
        // The far end acts when the request arrives, and takes its time to answer.
        let trace = Trace { run: ctx.run, task: ctx.task.to_string(), key: ctx.idempotency_key.to_owned() };
        self.outside.trace(trace);
        tokio::time::sleep(wait).await;
        if fails {
            let failure = Failure::new("http.status", Fault::Far, "503").retriable(Class::Status(503), None);
            return Err(failure.sent(Sent::Maybe)).into();
        }
        self.look_back(ctx);
        Ok(Done::Output(json!({ "status": 200, "body": answer(&ctx.run.to_string(), &ctx.task.to_string()) }))).into()
    }
}

impl Scripted {
    /// What an earlier task gave is seen whole, whoever drives the run now.
    fn look_back(&self, ctx: &TaskContext<'_>) {
        let Some((task, before)) = READS.iter().find(|(task, _)| ctx.task.task().as_str() == *task) else { return };
        let whose = ctx.task.to_string().replace(task, before);
        let seen = Mapping::parse(&json!(format!("${{{{ tasks.{before}.body }}}}"))).unwrap().eval(ctx.values);
        if seen.as_ref().ok() != Some(&answer(&ctx.run.to_string(), &whose)) {
            self.outside.wrong(format!("{} of {} saw {seen:?}", ctx.task, ctx.run));
        }
    }
}

/// What a task answers: too large for a log, and no other's.
fn answer(run: &str, step: &str) -> Value {
    json!({ "lines": vec![format!("{step} of {run}"); 40] })
}
