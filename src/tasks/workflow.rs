//! `workflow`: another workflow, as a run of its own, waited for or not.

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Attempted, Child, Done, Effect, Task, TaskContext, TaskKind, WithProblem, expression_failure, names_of, printed,
    read_mapping, read_with,
};
use crate::domain::attempt::Pause;
use crate::domain::failure::{Failure, Fault};
use crate::domain::retry::{Backoff, grown};
use crate::domain::run::Run;
use crate::domain::state::State;
use crate::expr::{Mapping, Place, Template};
use crate::id::{RunId, WorkflowName};
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "workflow",
    summary: "Starts another workflow as a run of its own, and waits for its end unless told otherwise.",
    connects: false,
    failures: &["workflow", "inputs"],
    schema: || schema_for!(With),
    parse: |with, _| {
        let raw: With = read_with(with)?;
        let workflow =
            WorkflowName::new(&raw.workflow).map_err(|error| vec![WithProblem::new("/workflow", error.to_string())])?;
        let inputs = read_mapping("/inputs", &Value::Object(raw.inputs.clone()))?;
        let key = raw.idempotency_key.map(|text| {
            Template::parse(&text).map_err(|error| vec![WithProblem::from(error).under("/idempotency_key")])
        });
        Ok(Box::new(Start { workflow, inputs, wait: raw.wait.unwrap_or(true), key: key.transpose()? }))
    },
};

/// Settings of a `workflow` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The workflow to run.
    workflow: String,
    /// What its run is given: values and expressions.
    #[serde(default)]
    inputs: Map<String, Value>,
    /// Waits for the end of the other run, and fails with it; true when left out.
    wait: Option<bool>,
    /// The same key again gives the same run, whoever asks. When left out, this step of this run is the key.
    idempotency_key: Option<String>,
}

#[derive(Debug)]
struct Start {
    workflow: WorkflowName,
    inputs: Mapping,
    wait: bool,
    key: Option<Template>,
}

#[async_trait]
impl Task for Start {
    fn effect(&self) -> Effect {
        // The run is accepted under a key of its own: a repeat finds it.
        Effect::Call { repeatable: true }
    }

    fn names(&self) -> Vec<Place> {
        let key = self.key.iter().flat_map(Template::names);
        let key = key.map(|name| Place { pointer: "/idempotency_key".to_owned(), name });
        names_of("/inputs", &self.inputs).into_iter().chain(key).collect()
    }

    fn starts(&self) -> Option<&WorkflowName> {
        Some(&self.workflow)
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let Started { run, looks } = match Started::of(ctx.checkpoint) {
            Some(started) => started,
            None => match self.start(ctx).await {
                Ok(run) => Started { run, looks: 0 },
                Err(failure) => return Err(failure).into(),
            },
        };
        let result =
            if self.wait { self.look(run, looks, ctx).await } else { Ok(Done::Output(json!({ "run_id": run }))) };
        let checkpoint = serde_json::to_value(Started { run, looks: looks.saturating_add(1) }).ok();
        Attempted { result, exchange: None, checkpoint }
    }
}

impl Start {
    async fn start(&self, ctx: &TaskContext<'_>) -> Result<RunId, Failure> {
        let inputs = match ctx.eval(&self.inputs)? {
            Value::Object(inputs) => inputs,
            _ => Map::new(),
        };
        let key = self.key.as_ref().map(|key| key.eval(ctx.values).map(|value| printed(&value))).transpose();
        let key = key.map_err(|error| expression_failure(&error))?;
        let child = Child { parent: ctx.run, task: ctx.task, workflow: &self.workflow, inputs, key };
        ctx.runs.start(child).await
    }

    async fn look(&self, run: RunId, looks: u32, ctx: &TaskContext<'_>) -> Result<Done, Failure> {
        match ctx.runs.ended(run).await? {
            None => {
                // Mostly the other run wakes this one; should that have come too early, the first looks are soon.
                let pause = grown(limits::CHILD_LOOK_FIRST, Backoff::Exponential, looks, limits::CHILD_LOOK_EVERY);
                Ok(Done::Later { at: ctx.clock.now().plus(pause), why: Pause::Run { run } })
            }
            Some(Run { state: State::Succeeded, outputs, .. }) => Ok(Done::Output(json!({
                "run_id": run, "status": State::Succeeded.as_str(), "outputs": outputs.unwrap_or_default(),
            }))),
            Some(ended) => Err(self.failed(&ended)),
        }
    }

    fn failed(&self, ended: &Run) -> Failure {
        let (run, state) = (ended.id, ended.state);
        let why = ended.failure.as_ref().map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        let message = format!("{run} of workflow `{}` is {state}{why}", self.workflow);
        Failure::new("run.child_failed", Fault::Config, message)
            .help(format!("look at it with `clawhook runs show {run}`; when it has succeeded, resume this run"))
            .at(self.workflow.as_str())
    }
}

/// The run that an earlier attempt started, and how often it was looked at.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    run: RunId,
    #[serde(default)]
    looks: u32,
}

impl Started {
    fn of(checkpoint: Option<&Value>) -> Option<Self> {
        serde_json::from_value(checkpoint?.clone()).ok()
    }
}
