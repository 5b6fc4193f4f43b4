//! Workflows: listed, shown, started by hand or by program.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Caller, Error, Gateway, Scope, view};
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::Accepted;
use crate::domain::input;
use crate::domain::run::Run;
use crate::domain::trigger;
use crate::engine::Intake;
use crate::id::{ConnectionName, RunId, WorkflowName};
use crate::limits;
use crate::store::Receipt;
use crate::tasks::plan::{Plan, PlannedTask, Work};

/// A request to start a workflow.
#[derive(Debug, Clone, Default)]
pub struct Trigger {
    pub workflow: String,
    pub inputs: Map<String, Value>,
    /// The same key again gives the same run.
    pub idempotency_key: Option<String>,
    /// Wait this long for the end, at most `limits::TRIGGER_WAIT_MAX`.
    pub wait: Duration,
}

/// Between two looks at a run that a caller waits for.
const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(500);

impl Gateway {
    /// All workflows, in the order of their names.
    pub fn workflows(&self, caller: &Caller) -> Result<Vec<view::Workflow>, Error> {
        caller.require(Scope::RunsRead)?;
        Ok(self.0.files.catalog().workflows.values().map(|plan| show(plan)).collect())
    }

    /// One workflow with its text.
    pub fn workflow(&self, caller: &Caller, name: &str) -> Result<view::WorkflowDetail, Error> {
        caller.require(Scope::RunsRead)?;
        let plan = self.plan_named(name)?;
        let yaml = self.0.files.catalog().documents.get(&plan.revision).map(ToString::to_string).unwrap_or_default();
        Ok(view::WorkflowDetail { workflow: show(&plan), yaml })
    }

    /// Starts a workflow, once for each idempotency key. With `wait` it answers the end when it saw it.
    pub async fn trigger(&self, caller: &Caller, trigger: Trigger) -> Result<view::Triggered, Error> {
        caller.require(Scope::WorkflowsTrigger)?;
        let plan = self.plan_named(&trigger.workflow)?;
        let inputs = input::fit(&plan.inputs, trigger.inputs).map_err(|misfit| Error::Invalid {
            code: "inputs.misfit",
            message: format!("the inputs do not fit workflow `{}`: {misfit}", plan.name),
            help: Some(format!("GET /v1/workflows/{} lists the inputs", plan.name)),
        })?;
        let verb = format!("trigger {}", plan.name);
        let key = trigger.idempotency_key.as_deref();
        let by = trigger::Trigger::Manual { by: caller.name.clone() };
        let accepted = Accepted { inputs: Some(inputs), ..Accepted::new(plan.name.clone(), plan.revision.clone(), by) };
        let intake = Intake {
            key: key.map_or_else(DeliveryKey::unique, |key| DeliveryKey::of_call(&caller.name, &verb, key)),
            window: limits::CALL_KEY_WINDOW,
            replay_guard: None,
            runs: vec![accepted],
            body: bytes::Bytes::new(),
        };
        let (runs, duplicate) = match self.0.engine.accept(intake).await? {
            Receipt::New(runs) => (runs, false),
            Receipt::Duplicate(runs) => (runs, true),
        };
        let id = *runs.first().ok_or_else(|| Error::Broken("the store accepted no run".to_owned()))?;
        if !duplicate {
            self.audit(caller, "workflow.trigger", plan.name.as_str(), json!({ "run": id })).await?;
        }
        self.wait_for(id, trigger.wait, duplicate).await
    }

    async fn wait_for(&self, id: RunId, wait: Duration, duplicate: bool) -> Result<view::Triggered, Error> {
        let until = Instant::now() + wait.min(limits::TRIGGER_WAIT_MAX);
        let mut pause = LOOK_FIRST;
        loop {
            let log = self.0.engine.store().log(id).await?;
            let run = Run::fold(id, log).map_err(|error| Error::Broken(error.to_string()))?;
            if run.state.is_ended() || Instant::now() >= until {
                return Ok(view::Triggered {
                    run_id: id.to_string(),
                    status: run.state.to_string(),
                    duplicate,
                    outputs: run.outputs.map(Value::Object),
                    failure: run.failure,
                });
            }
            tokio::time::sleep_until((Instant::now() + pause).min(until)).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }

    /// The state of a workflow.
    pub async fn state(&self, caller: &Caller, name: &str) -> Result<Map<String, Value>, Error> {
        caller.require(Scope::RunsRead)?;
        let plan = self.plan_named(name)?;
        Ok(self.0.engine.store().state(&plan.name).await?)
    }

    /// Sets members of a workflow's state; null removes one.
    pub async fn set_state(
        &self,
        caller: &Caller,
        name: &str,
        changes: Map<String, Value>,
    ) -> Result<view::StateSet, Error> {
        caller.require(Scope::Admin)?;
        let plan = self.plan_named(name)?;
        let bytes = Value::Object(changes.clone()).to_string().len();
        if bytes > limits::STATE_BYTES_MAX {
            let message = format!("the changes have {bytes} bytes, more than {}", limits::STATE_BYTES_MAX);
            return Err(Error::invalid("state.too_large", message));
        }
        let members: Vec<_> = changes.keys().cloned().collect();
        self.audit(caller, "workflow.state", name, json!({ "members": members })).await?;
        let run = self.0.engine.edit_state(&plan.name, changes, &caller.name).await?;
        let state = self.0.engine.store().state(&plan.name).await?;
        Ok(view::StateSet { run_id: run.to_string(), state })
    }

    fn plan_named(&self, name: &str) -> Result<Arc<Plan>, Error> {
        let missing = || Error::NotFound { what: "workflow", name: name.to_owned() };
        let name = WorkflowName::new(name).map_err(|_| missing())?;
        self.0.files.catalog().workflows.get(&name).cloned().ok_or_else(missing)
    }
}

fn show(plan: &Plan) -> view::Workflow {
    view::Workflow {
        name: plan.name.to_string(),
        revision: plan.revision.to_string(),
        description: plan.description.clone(),
        inputs: plan.inputs.iter().map(shown_input).collect(),
        tasks: plan
            .all_tasks()
            .map(|task| view::WorkflowTask {
                id: task.id.to_string(),
                kind: task.type_name().to_owned(),
                connection: connection_of(task).map(ToString::to_string),
            })
            .collect(),
    }
}

fn connection_of(task: &PlannedTask) -> Option<&ConnectionName> {
    match &task.work {
        Work::Task(work) => work.connection.as_ref(),
        Work::Group(_) | Work::Switch(_) => None,
    }
}

/// An input, or a field of a form.
pub(super) fn shown_input(input: &input::Input) -> view::Input {
    view::Input {
        name: input.name.clone(),
        of: input.of.as_str().to_owned(),
        required: input.required,
        default: input.default.clone(),
        description: input.description.clone(),
    }
}
