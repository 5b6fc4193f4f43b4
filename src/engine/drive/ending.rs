//! The end of a run: its outputs, the state that it commits, and whoever is told.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Driver;
use crate::domain::failure::{Failure, Fault};
use crate::domain::run::TaskState;
use crate::engine::Engine;
use crate::engine::log::{self, LogWriter, Lost};
use crate::engine::step::Verdict;
use crate::expr;
use crate::tasks::Effect;
use crate::tasks::plan::{Plan, PlannedTask, Work};

/// Pause before a callback is accepted once more.
const PROMISE_AGAIN: Duration = Duration::from_millis(500);

impl Driver<'_> {
    pub(super) async fn finish(&mut self, plan: &Plan, verdict: Verdict) -> Result<(), Lost> {
        let event = match verdict {
            Verdict::Failed(failure) => log::failed(failure),
            Verdict::Succeeded => match self.outputs(plan) {
                Ok(outputs) => log::succeeded(outputs, self.state_changes(plan)),
                Err(failure) => log::failed(failure),
            },
        };
        promise(self.engine, &mut self.log, plan).await?;
        self.log.push(event)?;
        self.log.flush().await?;
        let run = self.log.run();
        self.engine.tell_parent(run).await;
        let (id, state) = (run.id, run.state);
        metrics::counter!("clawhook_runs_ended_total", "workflow" => run.accepted.workflow.to_string(), "state" => state.as_str())
            .increment(1);
        if let Some(failure) = &run.failure {
            tracing::warn!(run.id = %id, code = %failure.code, cause = %failure.cause(), "run {id} failed: {}", failure.message);
        } else {
            tracing::debug!(run.id = %id, "run {id} {state}");
        }
        Ok(())
    }

    /// The outputs. One that reads a task which gave nothing is null; any other mistake fails the run, after its work.
    fn outputs(&self, plan: &Plan) -> Result<Map<String, Value>, Failure> {
        let mut outputs = Map::new();
        for (name, mapping) in &plan.outputs {
            let value = match mapping.eval(self.scopes.base()) {
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
            let task = name.path.first().filter(|root| *root == "tasks").and_then(|_| name.path.get(1));
            let record = task.map(|task| self.log.run().task_named(task));
            record
                .is_some_and(|record| record.is_none_or(|record| !matches!(record.state, TaskState::Succeeded { .. })))
        })
    }

    fn state_changes(&self, plan: &Plan) -> Map<String, Value> {
        let sets_state =
            |task: &&PlannedTask| matches!(&task.work, Work::Task(work) if work.task.effect() == Effect::SetState);
        let mut changes = Map::new();
        for task in plan.all_tasks().filter(sets_state) {
            for (_, record) in self.log.run().tasks.iter().filter(|(step, _)| *step.task() == task.id) {
                if let TaskState::Succeeded { output: Value::Object(members) } = &record.state {
                    changes.extend(members.clone());
                }
            }
        }
        changes
    }
}

/// Whoever wants to be told of the end is seen to before it is on record, so that no crash can come between.
pub(super) async fn promise(engine: &Engine, log: &mut LogWriter, plan: &Plan) -> Result<(), Lost> {
    if plan.callback.is_none() {
        return Ok(());
    }
    // What has ended is on record before anything else is waited for.
    log.flush().await?;
    while let Err(error) = engine.promise_callback(log.run(), plan).await {
        let id = log.run().id;
        tracing::warn!(run.id = %id, %error, "the callback of run {id} could not be accepted; trying again");
        if log.lease_is_over() || engine.0.halt.is_cancelled() {
            return Err(Lost);
        }
        tokio::time::sleep(PROMISE_AGAIN).await;
    }
    Ok(())
}
