//! `transform`: reshapes JSON with jq.

use std::time::Duration;

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, read_mapping, read_with};
use crate::domain::failure::{Failure, Fault};
use crate::expr::{Mapping, Place, jq};
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "transform",
    summary: "Reshapes JSON with a jq filter; the output is what the filter gives.",
    connects: false,
    failures: &["transform"],
    schema: || schema_for!(With),
    parse: |with, _| {
        let with: With = read_with(with)?;
        let input = read_mapping("/input", &with.input)?;
        let filter = jq::Filter::parse(&with.jq, ROOTS).map_err(|error| vec![WithProblem::from(error).under("/jq")])?;
        Ok(Box::new(Transform { input, filter, many: with.many }))
    },
};

/// What a filter can use beside its input.
const ROOTS: &[&str] = &["inputs", "tasks", "state", "run", "slot", "failure", "item", "index"];

/// Settings of a `transform` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// What the filter reads as `.`; values, or expressions such as `${{ tasks.stock.body }}`.
    input: Value,
    /// The jq filter; `$inputs`, `$tasks`, `$state`, `$run`, `$slot` and `$failure` can be used in it, and in a loop
    /// `$item` and `$index`.
    jq: String,
    /// Give all values that the filter makes as a list, instead of its one value.
    #[serde(default)]
    many: bool,
}

#[derive(Debug)]
struct Transform {
    input: Mapping,
    filter: jq::Filter,
    many: bool,
}

#[async_trait]
impl Task for Transform {
    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn names(&self) -> Vec<Place> {
        names_of("/input", &self.input)
    }

    fn may_redact(&self) -> bool {
        true
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let given = self.transform(ctx).await.map(|mut output| {
            ctx.redact.blank(&mut output);
            output
        });
        given.map(Done::Output).into()
    }
}

impl Transform {
    async fn transform(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
        let input = ctx.eval(&self.input)?;
        let (filter, values) = (self.filter.clone(), ctx.values.clone());
        // A filter can loop for ever and cannot be interrupted, and it recurses on its own stack: it gets a thread of
        // its own, which is left behind when it takes too long.
        let (done, result) = oneshot::channel();
        std::thread::Builder::new()
            .name("jq".to_owned())
            .stack_size(jq::STACK_BYTES)
            .spawn(move || done.send(filter.run(&input, &values)))
            .map_err(|error| jq_failure(&format!("there is no thread to run it on: {error}")))?;
        let values = match tokio::time::timeout(limits::JQ_TIMEOUT, result).await {
            Ok(Ok(result)) => result.map_err(|error| jq_failure(&error.to_string()))?,
            Ok(Err(_)) => return Err(jq_failure("it broke off")),
            Err(_) => return Err(jq_timeout(limits::JQ_TIMEOUT)),
        };
        match (self.many, values) {
            (true, values) => Ok(Value::Array(values)),
            (false, mut values) if values.len() == 1 => Ok(values.remove(0)),
            (false, values) => Err(jq_failure(&format!("it gave {} values where one was wanted", values.len()))
                .help("wrap the filter in `[ … ]`, or set `many: true`")),
        }
    }
}

fn jq_failure(why: &str) -> Failure {
    Failure::new("transform.failed", Fault::Config, format!("the jq filter failed: {why}"))
}

fn jq_timeout(limit: Duration) -> Failure {
    Failure::new("transform.timeout", Fault::Config, format!("the jq filter did not end within {} s", limit.as_secs()))
        .help("look for `repeat`, `recurse` or `while` without an end, or give it less to read")
}
