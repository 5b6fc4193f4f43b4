//! What a workflow can do: one file a task kind, one row each in `KINDS`. A kind brings its settings, its checks, its
//! behaviour and its documentation; the engine brings order, retries, time limits and the record.

/// The parsed form of everything that the files say: workflows, routes, schedules.
pub mod plan;

mod amazon_report;
/// A question to people.
pub mod approval;
/// Places for files that others fetch.
pub mod blob;
mod blob_get;
mod blob_put;
/// Programs of this machine.
pub mod command;
mod download;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod http_download;
mod http_request;
mod notify;
mod report;
mod set_state;
mod shopify_bulk;
/// Databases that workflows work with.
pub mod sql;
mod sql_exec;
mod sql_load;
mod sql_query;
mod stop;
/// What a platform holds, held against what it delivered.
pub mod sweep;
mod table;
mod table_query;
mod transform;
mod wait;
mod walmart_report;
mod workflow;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemars::Schema;
use serde_json::{Map, Value};

use crate::artifacts::Artifacts;
use crate::channels::Channels;
use crate::channels::alerts::Alerts;
use crate::clock::{Clock, Timestamp};
use crate::domain::approval::Decision;
use crate::domain::attempt::{Exchange, Pause};
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::run::Run;
use crate::domain::secret::{SecretRef, Secrets};
use crate::domain::step::StepId;
use crate::expr::{self, Context, Mapping, Place};
use crate::id::{AttemptNumber, ChannelName, ConnectionName, RunId, WorkflowName};
use crate::outbound::connection::Connection;
use crate::outbound::{Client, Redaction};

/// All task kinds, in the order of the documentation.
pub static KINDS: &[TaskKind] = &[
    http_request::KIND,
    http_download::KIND,
    transform::KIND,
    workflow::KIND,
    notify::KIND,
    approval::KIND,
    table_query::KIND,
    sql_query::KIND,
    sql_exec::KIND,
    sql_load::KIND,
    blob_put::KIND,
    blob_get::KIND,
    amazon_report::KIND,
    shopify_bulk::KIND,
    walmart_report::KIND,
    wait::KIND,
    set_state::KIND,
    stop::KIND,
    command::KIND,
];

/// The kind of this name.
pub fn kind(name: &str) -> Option<&'static TaskKind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// One `type` of task.
#[derive(Clone, Copy)]
pub struct TaskKind {
    /// What `type` says.
    pub name: &'static str,
    /// One sentence for the documentation.
    pub summary: &'static str,
    /// Whether it takes a `connection`.
    pub connects: bool,
    /// What it can fail with besides what any task can: groups of codes, the part before the dot.
    pub failures: &'static [&'static str],
    /// JSON Schema of `with`.
    pub schema: fn() -> Schema,
    /// Reads `with`, which already fits the schema; `connected` when the task names a connection.
    pub parse: Parse,
}

/// Reads the `with` of a task.
pub type Parse = fn(with: &Value, connected: bool) -> Result<Box<dyn Task>, Vec<WithProblem>>;

impl fmt::Debug for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Something wrong inside a task's `with`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithProblem {
    /// JSON pointer inside `with`; empty for `with` itself.
    pub pointer: String,
    /// The bytes of the string there that are to blame, when it is a string.
    pub range: Option<Range<usize>>,
    pub message: String,
    pub help: Option<String>,
}

impl WithProblem {
    /// A problem with the value at `pointer`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), range: None, message: message.into(), help: None }
    }

    /// The same problem, seen from outside: `pointer` is where its value stands in `with`.
    #[must_use]
    pub fn under(mut self, pointer: &str) -> Self {
        self.pointer.insert_str(0, pointer);
        self
    }

    /// Adds what to type instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<expr::Error> for WithProblem {
    fn from(error: expr::Error) -> Self {
        Self { pointer: error.pointer, range: Some(error.range), message: error.message, help: error.help }
    }
}

/// What the engine must know of a task before it runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Computes only: may run again at will, needs nothing on record first.
    Pure,
    /// Reaches out: its start is on record before it happens. `repeatable` when the far end can tell a repeat.
    Call { repeatable: bool },
    /// Its output is members of the workflow's state, committed when the run succeeds.
    SetState,
    /// Ends the run: its output is `{ "stopped": "succeeded" }`, or `"failed"` with a `message`.
    Stop,
}

/// One task of a workflow, made ready to run.
#[async_trait]
pub trait Task: Send + Sync + fmt::Debug {
    /// What the engine must know before it runs it.
    fn effect(&self) -> Effect;

    /// What the expressions in `with` look up, and where, so that undefined names are found at load time.
    fn names(&self) -> Vec<Place>;

    /// The secrets that it names and where, so that missing ones are found at load time.
    fn secrets(&self) -> Vec<(String, SecretRef)> {
        Vec::new()
    }

    /// The workflow that it starts with `inputs` of its settings, so that a wrong one is found at load time.
    fn starts(&self) -> Option<&WorkflowName> {
        None
    }

    /// How long it may wait by its settings, so that a run whose own limit is shorter is found at load time.
    fn patience(&self) -> Option<Patience> {
        None
    }

    /// The channels that it names and where, so that unknown ones are found at load time.
    fn channels(&self) -> Vec<(String, ChannelName)> {
        Vec::new()
    }

    /// What it wants of this machine that `commands` of the settings does not allow.
    fn beyond(&self, commands: &command::settings::Settings) -> Vec<WithProblem> {
        let _ = commands;
        Vec::new()
    }

    /// The databases that it names, each with its place in `with`.
    fn databases(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }

    /// Whether it loads tables into them, which not every kind of server can.
    fn loads(&self) -> bool {
        false
    }

    /// What its expressions look up in the answer, as `response`, and where.
    fn of_answer(&self) -> Vec<Place> {
        Vec::new()
    }

    /// Whether `redact` can be kept: all that an attempt leaves on record is its call and its output.
    fn may_redact(&self) -> bool {
        false
    }

    /// The place for files that it names as `place`, and whether it wants a link of it.
    fn blob_place(&self) -> Option<(&str, bool)> {
        None
    }

    /// One attempt.
    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted;
}

/// A long wait that the settings of a task allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub longest: Duration,
    /// What is waited for, such as `for people`.
    pub of: &'static str,
    /// The setting that says so.
    pub setting: &'static str,
}

/// What an attempt gave.
#[derive(Debug)]
pub struct Attempted {
    pub result: Result<Done, Failure>,
    /// The call it made, secrets masked.
    pub exchange: Option<Box<Exchange>>,
    /// What the next attempt of the task finds in `TaskContext::checkpoint`, at most
    /// [`limits::CHECKPOINT_BYTES_MAX`] of JSON. An attempt that leaves none clears it; one that is cut off leaves what
    /// the one before it left.
    pub checkpoint: Option<Value>,
}

impl From<Result<Done, Failure>> for Attempted {
    fn from(result: Result<Done, Failure>) -> Self {
        Self { result, exchange: None, checkpoint: None }
    }
}

/// How an attempt that succeeded goes on.
#[derive(Debug, PartialEq)]
pub enum Done {
    /// The task is over, with this output.
    Output(Value),
    /// The task is not over: it is attempted again at this moment, and holds no worker until then. It counts as no
    /// failure, and ends with the run's time limit at the latest.
    Later { at: Timestamp, why: Pause },
}

/// What a task may use while it runs.
pub struct TaskContext<'a> {
    pub run: RunId,
    pub task: &'a StepId,
    /// The same over retries, resume after a crash, and re-run from the failed task.
    pub idempotency_key: &'a str,
    /// Which attempt at the task this is. One that was cut off has a number and left nothing.
    pub attempt: AttemptNumber,
    /// What the last attempt of this task left; nothing for the first.
    pub checkpoint: Option<&'a Value>,
    /// What expressions see.
    pub values: &'a Context,
    pub connection: Option<&'a Connection>,
    pub client: &'a Client,
    pub secrets: &'a dyn Secrets,
    /// Runs programs of this machine.
    pub commands: &'a command::Commands,
    /// The places where people are told.
    pub channels: &'a Channels,
    /// How often people are told.
    pub alerts: &'a Alerts,
    /// Keeps what is too large for the log.
    pub artifacts: &'a Artifacts,
    /// The databases of the settings.
    pub databases: &'a sql::Databases,
    /// What must be on no record.
    pub redact: &'a Redaction,
    /// The places for files of the settings.
    pub blobs: &'a blob::Blobs,
    /// The attempt is cut off after this long.
    pub time_limit: Duration,
    /// What people decided about this task so far.
    pub decisions: &'a [Decision],
    /// Other runs.
    pub runs: &'a dyn Runs,
    pub clock: &'a dyn Clock,
}

impl TaskContext<'_> {
    /// What a mapping of the task's settings gives here.
    fn eval(&self, mapping: &Mapping) -> Result<Value, Failure> {
        mapping.eval(self.values).map_err(|error| expression_failure(&error))
    }
}

impl fmt::Debug for TaskContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskContext({} {})", self.run, self.task)
    }
}

/// Other runs, as tasks start them and look at them.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Starts a run, unless one was started under the same key before; answers its id. When this returns `Ok`, it is
    /// on disk.
    async fn start(&self, child: Child<'_>) -> Result<RunId, Failure>;

    /// How a run ended; nothing while it has not.
    async fn ended(&self, run: RunId) -> Result<Option<Run>, Failure>;

    /// The door for what did not come by itself, where there is one.
    fn entrance(&self) -> Option<sweep::SharedEntrance>;
}

/// A run that a task starts.
#[derive(Debug)]
pub struct Child<'a> {
    pub parent: RunId,
    pub task: &'a StepId,
    pub workflow: &'a WorkflowName,
    pub inputs: Map<String, Value>,
    /// Its own key, shared by all who start this workflow under it; one for each parent and step when absent.
    pub key: Option<String>,
}

/// The far ends that workflows may call, by name.
pub type Connections = BTreeMap<ConnectionName, Arc<Connection>>;

/// An expression that failed while a task ran: our files are wrong, or the data is not what they expect.
pub fn expression_failure(error: &expr::Error) -> Failure {
    let place = if error.pointer.is_empty() { String::new() } else { format!(" at `with{}`", error.pointer) };
    let failure = Failure::new("expression.failed", Fault::Config, format!("an expression{place} failed: {error}"));
    match &error.help {
        Some(help) => failure.help(help.clone()),
        None => failure,
    }
}

/// A source that does not answer may answer later; a secret that is not there will not come by itself.
fn secret_failure(error: &crate::domain::secret::Error) -> Failure {
    let failure = Failure::new("secret.unavailable", Fault::Config, error.to_string());
    match error {
        crate::domain::secret::Error::Source { .. } => failure.retriable(Class::Connect, None),
        crate::domain::secret::Error::Barred { help, .. } => failure.help(help.clone()),
        _ => failure.help("put the secret into its source, then resume the run"),
    }
}

/// What to type where a charset is wanted.
const CHARSET_HELP: &str = "write one such as `utf-8`, `utf-16le`, `gb18030`, `windows-1252` or `shift_jis`";

/// Reads the settings of a kind. They fit the schema already, so this fails only where the schema is laxer.
fn read_with<T: serde::de::DeserializeOwned>(with: &Value) -> Result<T, Vec<WithProblem>> {
    serde_json::from_value(with.clone()).map_err(|error| vec![WithProblem::new("", error.to_string())])
}

/// Parses the value at `pointer` of `with` as a mapping.
fn read_mapping(pointer: &str, value: &Value) -> Result<Mapping, Vec<WithProblem>> {
    let place = |error: expr::Error| WithProblem::from(error).under(pointer);
    Mapping::parse(value).map_err(|errors| errors.into_iter().map(place).collect())
}

/// A value as it stands in a URL, a header, an argument or a text: text as it is, nothing for null, anything else as
/// JSON.
fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// What a mapping that stands at `pointer` of `with` looks up.
fn names_of(pointer: &str, mapping: &Mapping) -> Vec<Place> {
    let under = |place: Place| Place { pointer: format!("{pointer}{}", place.pointer), ..place };
    mapping.names().into_iter().map(under).collect()
}

/// Holds what `kind` says of `with` against `expected`, each problem as `POINTER: MESSAGE`.
#[cfg(test)]
#[track_caller]
fn check_with(kind: &TaskKind, with: &Value, expected: &[&str]) {
    let problems = (kind.parse)(with, false).err().unwrap_or_default();
    let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
    assert_eq!(told, expected);
}
