//! `wait`: goes on after a while, or at a moment. The run holds no worker meanwhile.

use std::time::Duration;

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, read_mapping, read_with};
use crate::clock::Timestamp;
use crate::domain::attempt::Pause;
use crate::domain::duration;
use crate::domain::failure::{Failure, Fault};
use crate::expr::{Mapping, Place};

pub(super) const KIND: TaskKind = TaskKind {
    name: "wait",
    summary: "Waits for a while (`for: 10m`) or until a moment (`until:` an RFC 3339 time), holding no worker.",
    connects: false,
    failures: &["wait"],
    schema: || schema_for!(With),
    parse: |with, _| {
        let with: With = read_with(with)?;
        let moment = match (with.r#for, with.until) {
            (Some(text), None) => Moment::After(
                duration::parse(&text)
                    .map_err(|error| vec![WithProblem::new("/for", error.problem()).help(error.help())])?,
            ),
            (None, Some(until)) => Moment::At(read_mapping("/until", &Value::String(until))?),
            _ => {
                return Err(vec![
                    WithProblem::new("", "`wait` takes either `for` or `until`").help("write `for: 10m`"),
                ]);
            }
        };
        Ok(Box::new(Wait(moment)))
    },
};

/// Settings of a `wait` task: one of the two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// How long, such as `10m`.
    r#for: Option<String>,
    /// Until when: an RFC 3339 time with a zone, or an expression that gives one.
    until: Option<String>,
}

#[derive(Debug)]
struct Wait(Moment);

#[derive(Debug)]
enum Moment {
    After(Duration),
    At(Mapping),
}

#[async_trait]
impl Task for Wait {
    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn names(&self) -> Vec<Place> {
        match &self.0 {
            Moment::After(_) => Vec::new(),
            Moment::At(until) => names_of("/until", until),
        }
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let until = match known(ctx.checkpoint).map_or_else(|| self.until(ctx), Ok) {
            Ok(until) => until,
            Err(failure) => return Err(failure).into(),
        };
        let output = json!({ "until": until.to_string() });
        if until <= ctx.clock.now() {
            return Ok(Done::Output(output)).into();
        }
        let later = Done::Later { at: until, why: Pause::Delay };
        Attempted { result: Ok(later), exchange: None, checkpoint: Some(output) }
    }
}

/// The moment that the first attempt worked out.
fn known(checkpoint: Option<&Value>) -> Option<Timestamp> {
    checkpoint?["until"].as_str().and_then(Timestamp::parse_rfc3339)
}

impl Wait {
    fn until(&self, ctx: &TaskContext<'_>) -> Result<Timestamp, Failure> {
        match &self.0 {
            Moment::After(duration) => Ok(ctx.clock.now().plus(*duration)),
            Moment::At(until) => {
                let value = ctx.eval(until)?;
                value.as_str().and_then(Timestamp::parse_rfc3339).ok_or_else(|| {
                    Failure::new("wait.until", Fault::Config, format!("`until` is `{value}`, which is not a moment"))
                        .help("give an RFC 3339 time with a zone, such as `2026-11-01T08:00:00+08:00`")
                })
            }
        }
    }
}
