//! `workflows/*.yaml`: what the work is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Condition, Duration, Version};

use crate::domain::input::InputType;

/// A workflow: what the work is. It never knows what started it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    /// The version of the language.
    pub version: Version,
    /// The name that routes and schedules call it by.
    pub name: String,
    /// What the workflow does, for people.
    pub description: Option<String>,
    /// Labels that its runs are found by: text, or expressions over `inputs`.
    #[serde(default)]
    #[schemars(extend("maxProperties" = crate::limits::LABELS_MAX))]
    pub labels: BTreeMap<String, Label>,
    /// What a run must be given.
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
    /// How many runs may go on at one time.
    pub concurrency: Option<Concurrency>,
    /// How long a run may take, waiting included.
    pub timeout: Option<Duration>,
    /// The steps, in order.
    #[schemars(length(min = 1, max = crate::limits::TASKS_MAX))]
    pub tasks: Vec<Task>,
    /// Steps after a failure; they see `failure`.
    #[serde(default)]
    pub on_failure: Vec<Task>,
    /// Steps after a success.
    #[serde(default)]
    pub on_success: Vec<Task>,
    /// Steps at the end, whatever happened.
    #[serde(default)]
    pub finally: Vec<Task>,
    /// What the run hands back: values and expressions.
    #[serde(default)]
    pub outputs: Map<String, Value>,
    /// Who is told when a run ends.
    pub callback: Option<Callback>,
}

/// Who is told when a run ends: by a POST that is kept, tried again, and signed as Standard Webhooks has it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    /// Where to: a URL, which may hold expressions over `inputs`.
    pub url: String,
    /// The ends that are told; `succeeded` and `failed` when left out.
    #[schemars(length(min = 1))]
    pub events: Option<Vec<CallbackEvent>>,
    /// The key that the message is signed with.
    pub sign: Option<super::SecretRef>,
}

/// An end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallbackEvent {
    /// All tasks did their work.
    Succeeded,
    /// A task failed for good.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// The value of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(pub String);

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            value @ (Value::Number(_) | Value::Bool(_)) => Ok(Self(value.to_string())),
            other => Err(D::Error::custom(format!("not a label: {other}"))),
        }
    }
}

impl JsonSchema for Label {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Label".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"], "x-expected": "text or an expression" })
    }
}

/// One input of a workflow.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What kind of value it takes.
    #[serde(rename = "type")]
    pub kind: InputType,
    /// Refuses a run that does not give it.
    #[serde(default)]
    pub required: bool,
    /// The value when none is given.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Value")]
    pub default: Option<Value>,
    /// What it is for, for people.
    pub description: Option<String>,
    /// The values it may have.
    #[serde(rename = "enum")]
    #[schemars(length(min = 1))]
    pub allowed: Option<Vec<Value>>,
}

/// How many runs of a workflow may go on at one time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Runs with the same key count together; an expression over `inputs`. All runs count when left out.
    pub key: Option<String>,
    /// How many at one time.
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: u32,
    /// What happens to the others.
    pub behavior: Option<ConcurrencyBehavior>,
}

/// What happens to a run that finds its place taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConcurrencyBehavior {
    /// It waits, in order of arrival.
    Queue,
    /// It is cancelled, and says so.
    Skip,
    /// The runs before it are cancelled.
    CancelRunning,
}

/// One step of a workflow.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The name of the step, unique in the workflow; later steps read `tasks.<id>`.
    pub id: String,
    /// The kind of task, such as `http_request`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the step does, for people.
    pub description: Option<String>,
    /// The connection of the settings that it uses.
    pub connection: Option<String>,
    /// What the kind of task asks for.
    #[serde(default)]
    pub with: Map<String, Value>,
    /// Does the step only when this expression is true.
    #[serde(rename = "if")]
    pub condition: Option<Condition>,
    /// How many more attempts are made after a failure: 3 means at most four attempts.
    #[schemars(range(max = crate::limits::RETRY_MAX))]
    pub retry: Option<u32>,
    /// The delay before the first retry.
    pub retry_delay: Option<Duration>,
    /// How the delay grows.
    pub retry_backoff: Option<Backoff>,
    /// The longest delay.
    pub max_retry_delay: Option<Duration>,
    /// The failures that are tried again; connect, timeout, 408, 425, 429 and 5xx when left out.
    pub retry_on: Option<Vec<RetryOn>>,
    /// Repeats a request that was already sent even though it may then take effect twice.
    #[serde(default)]
    pub retry_unsafe: bool,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// Goes on with the next step when this one fails; in a loop, with the next item.
    #[serde(default)]
    pub continue_on_error: bool,
    /// The steps of the same list that must be through before this one begins. As soon as one step of a list has it,
    /// the others begin at once unless they have it too.
    pub needs: Option<Vec<String>>,
    /// Does the step once for each item of this list, which it sees as `item` and `index`.
    pub for_each: Option<ItemList>,
    /// How many items at one time; one when left out.
    #[schemars(range(min = 1, max = crate::limits::RUN_ATTEMPTS_MAX))]
    pub max_parallel: Option<u32>,
    /// Repeats the step, without holding anything up, until what it gave is as wanted.
    pub poll: Option<Poll>,
    /// Paths of the request, of the answer and of what the step gives that are blanked before anything else sees them,
    /// such as `$.customer`; of `http_request` and `transform`.
    #[serde(default)]
    pub redact: Vec<String>,
    /// The steps of a `group`, in order, or of a `parallel`, together.
    #[schemars(length(min = 1, max = crate::limits::TASKS_MAX))]
    pub tasks: Option<Vec<Task>>,
    /// The cases of a `switch`: the first whose `if` is true is done.
    #[schemars(length(min = 1, max = crate::limits::TASKS_MAX))]
    pub cases: Option<Vec<Case>>,
    /// The steps of a `switch` when no case is true.
    #[serde(rename = "else")]
    #[schemars(length(min = 1, max = crate::limits::TASKS_MAX))]
    pub otherwise: Option<Vec<Task>>,
}

/// One case of a `switch`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Whether this case is the one.
    #[serde(rename = "if")]
    pub condition: Condition,
    /// Its steps, in order.
    #[schemars(length(min = 1, max = crate::limits::TASKS_MAX))]
    pub tasks: Vec<Task>,
}

/// Repeats a step until what it gave is as wanted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// What must be true of `response`, the output of the step.
    pub until: Condition,
    /// What must never be true of `response`; the step then fails.
    pub fail_if: Option<Condition>,
    /// The pause between two looks; 10 seconds when left out.
    pub interval: Option<Duration>,
    /// How the pause grows.
    pub backoff: Option<Backoff>,
    /// The longest pause.
    pub max_interval: Option<Duration>,
    /// How long all of it may take; an hour when left out.
    pub timeout: Option<Duration>,
}

/// What a loop goes over: an expression that gives a list, or a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemList(pub Value);

impl<'de> Deserialize<'de> for ItemList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for ItemList {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "ItemList".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "x-expected": "a list, or an expression that gives one, such as `${{ tasks.open.body.returns }}`",
        })
    }
}

/// How the delay between attempts grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// It stays as it is.
    Fixed,
    /// It doubles each time.
    Exponential,
}

/// A class of failure that is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryOn {
    /// The far end could not be reached.
    Connect,
    /// The attempt took too long.
    Timeout,
    /// This status.
    Status(u16),
    /// Every status with this first digit: 4 or 5.
    Class(u8),
    /// A command ended in a way that is not accepted.
    Exit,
}

impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let status = value.as_u64().and_then(|status| u16::try_from(status).ok());
        match (value.as_str(), status) {
            (Some("connect"), _) => Ok(Self::Connect),
            (Some("timeout"), _) => Ok(Self::Timeout),
            (Some("exit"), _) => Ok(Self::Exit),
            (Some("4xx"), _) => Ok(Self::Class(4)),
            (Some("5xx"), _) => Ok(Self::Class(5)),
            (_, Some(status)) => Ok(Self::Status(status)),
            _ => Err(D::Error::custom(format!("not a class of failure: {value}"))),
        }
    }
}

impl JsonSchema for RetryOn {
    fn schema_name() -> Cow<'static, str> {
        "RetryOn".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A class of failure: `connect`, `timeout`, a status, `4xx`, `5xx`, or `exit` of a command.",
            "anyOf": [
                { "enum": ["connect", "timeout", "4xx", "5xx", "exit"] },
                { "type": "integer", "minimum": 100, "maximum": 599 }
            ],
            "x-expected": "`connect`, `timeout`, a status such as `429`, `4xx`, `5xx` or `exit`",
        })
    }
}

/// Tells `default: null` from no `default` at all.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
