//! `workflows/*.test.yaml` and `workflows/fixtures/*.yaml`: tests of workflows, and the far ends that they meet.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Duration, Version};

/// Tests of one workflow: what starts it, what the far ends answer, and what must come of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trials {
    /// The version of the language.
    pub version: Version,
    /// The workflow that is tested.
    pub workflow: String,
    /// Where the clock of every test begins, such as `2026-11-01T08:00:00+08:00`, unless the test says otherwise.
    pub clock: Option<String>,
    /// What the far ends answer in every test, after what the test itself says.
    #[serde(default)]
    pub fixtures: FixtureList,
    /// The tests.
    #[schemars(length(min = 1, max = crate::limits::TRIALS_MAX))]
    pub tests: Vec<Trial>,
}

/// One test.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// What is shown to be so, in a few words.
    #[schemars(length(min = 1))]
    pub name: String,
    /// More about it, for people.
    pub description: Option<String>,
    /// Where the clock begins, such as `2026-11-01T08:00:00+08:00`.
    pub clock: Option<String>,
    /// Starts the workflow by hand, with these inputs.
    pub inputs: Option<Map<String, Value>>,
    /// Starts it by a webhook: the route's filter and inputs are used.
    pub delivery: Option<TrialDelivery>,
    /// Starts it by a schedule, whose inputs are used.
    pub slot: Option<TrialSlot>,
    /// What the workflow remembers from runs before.
    #[serde(default)]
    pub state: Map<String, Value>,
    /// What the far ends answer.
    #[serde(default)]
    pub fixtures: FixtureList,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<TrialFault>,
    /// What people decide.
    #[serde(default)]
    pub decide: Vec<TrialDecision>,
    /// Outputs of tasks that are not done: those that reach elsewhere than HTTP, such as databases.
    #[serde(default)]
    pub stub: Map<String, Value>,
    /// What must come of it. The run must succeed when nothing is said.
    #[serde(default)]
    pub expect: Expect,
}

/// A webhook that starts the run. Its signature is not checked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialDelivery {
    /// The name of the route.
    pub route: String,
    /// Headers of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderText>,
    /// The query of the request, such as `shop=us&page=1`.
    pub query: Option<String>,
    /// The body, as JSON.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Value")]
    pub json: Option<Value>,
    /// The body, as text.
    pub text: Option<String>,
    /// The body, in a file beside this one.
    pub body_file: Option<String>,
}

/// A slot of a schedule that starts the run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialSlot {
    /// The name of the schedule.
    pub schedule: String,
    /// The slot; where the clock begins when left out.
    pub due: Option<String>,
}

/// What the far ends answer: files of `fixtures/`, exchanges that are written here, or both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FixtureList(pub Vec<Value>);

impl<'de> Deserialize<'de> for FixtureList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Array(items) => Ok(Self(items)),
            one => Ok(Self(vec![one])),
        }
    }
}

impl JsonSchema for FixtureList {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "FixtureList".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let exchange = generator.subschema_for::<Exchange>();
        json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "anyOf": [
                    { "type": "string" },
                    exchange
                ], "x-expected": "a file such as `fixtures/order.yaml`, or an exchange `{ request: GET erp /orders, respond: { … } }`" } }
            ],
            "x-expected": "a file such as `fixtures/order.yaml`, or a list of files and exchanges",
        })
    }
}

/// What far ends answer, for tests of workflows; recorded, or written by hand.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fixtures {
    /// The version of the language.
    pub version: Version,
    /// What they are, for people.
    pub description: Option<String>,
    /// The calls and their answers. Of those that fit a call, the first that is left is used.
    #[schemars(length(min = 1, max = crate::limits::EXCHANGES_MAX))]
    pub exchanges: Vec<Exchange>,
}

/// A call, and its answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The call: a method, a connection or the beginning of a URL, a path; such as `GET erp /stock?side=shop`. `*` stands
    /// for a part of the path. The query fits when it has what is written here.
    pub request: CallText,
    /// Members that the JSON body of the call must have.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Value")]
    pub json: Option<Value>,
    /// A text that the body of the call must hold.
    pub contains: Option<String>,
    /// Headers that the call must have.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderText>,
    /// The answer.
    pub respond: Respond,
    /// How many calls it answers: a number, or `any`; one when left out.
    pub times: Option<Times>,
}

/// An answer.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FixtureRespond")]
pub struct Respond {
    /// The status; 200 when left out.
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// Headers. `Content-Type` is made from the body when left out.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderText>,
    /// The body, as JSON.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Value")]
    pub json: Option<Value>,
    /// The body, as text.
    pub text: Option<String>,
    /// The body, as base64.
    pub base64: Option<String>,
    /// The body, in a file beside this one.
    pub body_file: Option<String>,
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// This often.
    Count(u32),
    /// Any number of times.
    Any,
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match (value.as_str(), value.as_u64().and_then(|count| u32::try_from(count).ok())) {
            (Some("any"), _) => Ok(Self::Any),
            (_, Some(count)) => Ok(Self::Count(count)),
            _ => Err(D::Error::custom(format!("not a number of times: {value}"))),
        }
    }
}

impl JsonSchema for Times {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Times".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "const": "any" }, { "type": "integer", "minimum": 1, "maximum": 100_000 }],
            "x-expected": "a number, or `any`",
        })
    }
}

/// The value of a header: text or a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderText(pub String);

impl<'de> Deserialize<'de> for HeaderText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            value @ Value::Number(_) => Ok(Self(value.to_string())),
            other => Err(D::Error::custom(format!("not the value of a header: {other}"))),
        }
    }
}

impl JsonSchema for HeaderText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "HeaderText".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "x-expected": "text" })
    }
}

/// A call: `METHOD PLACE PATH`, such as `POST erp /orders`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub struct CallText(pub String);

impl JsonSchema for CallText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "CallText".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^([A-Z]{3,7}|\*) \S.*$",
            "examples": ["GET erp /stock?side=shop", "POST https://api.example.com/v1/orders"],
            "x-expected": "a method, a connection or URL, and a path, such as `POST erp /orders`",
        })
    }
}

/// Something that goes wrong.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialFault {
    /// The task that it happens to; in a loop also one item, such as `returns[3]/refund`.
    pub task: String,
    /// The attempt that it happens to; the first when left out.
    #[schemars(range(min = 1, max = 10_000))]
    pub attempt: Option<u32>,
    /// To how many attempts in a row it happens; one when left out.
    pub times: Option<Times>,
    /// What goes wrong.
    pub respond: FaultText,
}

/// What goes wrong with an attempt.
#[derive(Debug, Clone)]
pub enum FaultText {
    /// By its name.
    Named(FaultName),
    /// An answer with this status.
    Status(u16),
    /// This answer.
    Answer(Box<Respond>),
}

/// What can go wrong on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultName {
    /// No connection is made: nothing arrives.
    Connect,
    /// It arrives, and no answer comes.
    Timeout,
    /// It arrives, and the connection breaks before the answer.
    Lost,
    /// The connection breaks in the middle of the answer.
    Cut,
    /// It arrives and is answered, and the gateway dies before the answer is on record; another one takes over.
    Crash,
}

impl<'de> Deserialize<'de> for FaultText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Some(status) = value.as_u64().and_then(|status| u16::try_from(status).ok()) {
            return Ok(Self::Status(status));
        }
        let read = if value.is_string() {
            FaultName::deserialize(&value).map(Self::Named)
        } else {
            Respond::deserialize(&value).map(|answer| Self::Answer(Box::new(answer)))
        };
        read.map_err(D::Error::custom)
    }
}

impl JsonSchema for FaultText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "FaultText".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let answer = generator.subschema_for::<Respond>();
        json_schema!({
            "description": "`connect`: nothing arrives. `timeout`: it arrives and no answer comes. `lost`: it arrives and the connection \
                            breaks before the answer. `cut`: the answer breaks off. `crash`: the gateway dies before the answer is on record, \
                            and another takes over. Or a status, or a whole answer.",
            "anyOf": [
                { "enum": ["connect", "timeout", "lost", "cut", "crash"] },
                { "type": "integer", "minimum": 200, "maximum": 599 },
                answer
            ],
            "x-expected": "`connect`, `timeout`, `lost`, `cut`, `crash`, a status such as `503`, or an answer",
        })
    }
}

/// What a person decides about an `approval`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialDecision {
    /// The task that asks; in a loop also one item, such as `return[1]/ask`.
    pub task: String,
    /// What is said.
    pub decision: DecisionText,
    /// Who says it; `tester` when left out.
    pub by: Option<String>,
    /// What is filled in.
    #[serde(default)]
    pub form: Map<String, Value>,
    /// Why.
    pub comment: Option<String>,
    /// How long after the question.
    pub after: Option<Duration>,
}

/// A yes or a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionText {
    /// Yes.
    Approve,
    /// No.
    Reject,
}

/// What must come of a test.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// How the run ends, `waiting` for a run that waits for people or time, `none` for a delivery that starts no run;
    /// `succeeded` when left out.
    pub run: Option<ExpectRun>,
    /// The failure of the run.
    pub failure: Option<ExpectFailure>,
    /// How many attempts tasks took, by task; of a task in a loop, over all items.
    #[serde(default)]
    pub attempts: BTreeMap<String, u32>,
    /// Tasks and calls that come in this order; others may come between them.
    #[serde(default)]
    pub order: Vec<String>,
    /// What went out to far ends.
    pub calls: Option<ExpectCalls>,
    /// The messages that people got, all of them, in order.
    pub notify: Option<Vec<ExpectNotice>>,
    /// What the workflow remembers afterwards, all of it.
    pub state: Option<Map<String, Value>>,
    /// Members that the outputs have.
    pub outputs: Option<Map<String, Value>>,
    /// Labels that the run has.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How tasks ended, by task; in a loop by item, such as `return[1]/refund`.
    #[serde(default)]
    pub tasks: BTreeMap<String, ExpectTask>,
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpectRun {
    /// It did its work.
    Succeeded,
    /// It failed.
    Failed,
    /// It was stopped.
    Cancelled,
    /// It waits for people, or for a moment.
    Waiting,
    /// There is none: the route's filter did not let the delivery through.
    None,
}

/// The failure of a run, or of a task.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectFailure {
    /// The task that failed.
    pub task: Option<String>,
    /// The code, such as `http.status`.
    pub code: Option<String>,
    /// A text that the message holds.
    pub contains: Option<String>,
}

/// What went out.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectCalls {
    /// How many calls went to each place.
    #[serde(default)]
    pub count: BTreeMap<String, u32>,
    /// Places that nothing was sent to.
    #[serde(default)]
    pub none_to: Vec<CallText>,
    /// Calls that went out.
    #[serde(default)]
    pub to: Vec<ExpectCall>,
    /// `true`: every exchange of the fixtures was used.
    #[serde(default)]
    pub all_used: bool,
}

/// A call that went out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectCall {
    /// The call, such as `POST erp /orders`.
    pub request: CallText,
    /// Members that its JSON body has.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Value")]
    pub json: Option<Value>,
    /// A text that its body holds.
    pub contains: Option<String>,
    /// Headers that it has.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderText>,
    /// How many such calls there were; at least one when left out.
    #[schemars(range(min = 1, max = 100_000))]
    pub times: Option<u32>,
    /// Headers that all of them have alike, such as `Idempotency-Key`.
    #[serde(default)]
    pub same: Vec<String>,
}

/// A message that people got.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectNotice {
    /// The channel.
    pub channel: Option<String>,
    /// Its title, whole.
    pub title: Option<String>,
    /// A text that stands in its title, text or table.
    pub contains: Option<String>,
    /// How many rows its table has.
    pub rows: Option<usize>,
    /// How bad it is: `info`, `warning` or `error`.
    pub level: Option<NoticeLevel>,
}

/// How bad a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoticeLevel {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Something did not work.
    Error,
}

impl NoticeLevel {
    /// The word that people type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// How a task ended.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectTask {
    /// Where it stands.
    pub status: Option<ExpectStatus>,
    /// Members that its output has.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Value")]
    pub output: Option<Value>,
    /// The code of its failure.
    pub failure: Option<String>,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpectStatus {
    /// It did its work.
    Succeeded,
    /// It failed for good.
    Failed,
    /// Its `if` was not true.
    Skipped,
    /// It has not ended.
    Waiting,
    /// The run did not come to it.
    Untouched,
}

impl ExpectStatus {
    /// The word that people type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Waiting => "waiting",
            Self::Untouched => "untouched",
        }
    }
}

/// Tells `json: null` from no `json` at all.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
