//! `set_state`: members of the workflow's state, written when the run succeeds and not before.

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, read_mapping};
use crate::domain::failure::{Failure, Fault};
use crate::expr::{Mapping, Place};
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "set_state",
    summary: "Sets members of the workflow's state (null removes one); committed when the run succeeds.",
    connects: false,
    failures: &["state"],
    schema: || schema_for!(With),
    parse: |with, _| Ok(Box::new(SetState(read_mapping("", with)?))),
};

/// Settings of a `set_state` task: the members to set.
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "the type describes the schema; the members are read as one mapping")]
struct With(Map<String, Value>);

#[derive(Debug)]
struct SetState(Mapping);

#[async_trait]
impl Task for SetState {
    fn effect(&self) -> Effect {
        Effect::SetState
    }

    fn names(&self) -> Vec<Place> {
        self.0.names()
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        self.members(ctx).map(Done::Output).into()
    }
}

impl SetState {
    fn members(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
        let members = ctx.eval(&self.0)?;
        let bytes = members.to_string().len();
        if bytes > limits::STATE_BYTES_MAX {
            let message = format!("the state has {bytes} bytes, more than {}", limits::STATE_BYTES_MAX);
            return Err(Failure::new("state.too_large", Fault::Config, message)
                .help("keep only what the next run compares with"));
        }
        Ok(members)
    }
}
