//! `stop`: ends the run here, well or badly. Handlers still run.

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, names_of, read_mapping, read_with};
use crate::expr::{Mapping, Place};

pub(super) const KIND: TaskKind = TaskKind {
    name: "stop",
    summary: "Ends the run as `succeeded` or `failed`, with a message; later tasks do not run, handlers do.",
    connects: false,
    failures: &["workflow"],
    schema: || schema_for!(With),
    parse: |with, _| {
        let with: With = read_with(with)?;
        let message = read_mapping("/message", &with.message.map_or(Value::Null, Value::String))?;
        Ok(Box::new(Stop { status: with.status, message }))
    },
};

/// Settings of a `stop` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// How the run ends.
    #[serde(default)]
    status: Status,
    /// Why, for people; expressions are allowed.
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    #[default]
    Succeeded,
    Failed,
}

#[derive(Debug)]
struct Stop {
    status: Status,
    message: Mapping,
}

#[async_trait]
impl Task for Stop {
    fn effect(&self) -> Effect {
        Effect::Stop
    }

    fn names(&self) -> Vec<Place> {
        names_of("/message", &self.message)
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let message = ctx.eval(&self.message);
        message.map(|message| Done::Output(json!({ "stopped": self.status, "message": message }))).into()
    }
}
