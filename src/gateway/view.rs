//! What callers are shown: the same for every door. Times are RFC 3339 in UTC; ids are text.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::attempt::{BodyCopy, Exchange};
use crate::domain::failure::Failure;
use crate::domain::run::RunHead;

/// One page of a list, and where the next one begins.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give this as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A run as lists show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Run {
    #[schema(example = "run_01k4q8zr5m2c7")]
    pub id: String,
    pub workflow: String,
    pub revision: String,
    /// `queued`, `running`, `waiting`, `cancelling`, `succeeded`, `failed` or `cancelled`.
    pub status: String,
    /// `delivery`, `slot`, `manual`, `replay`, `parent`, `callback` or `edit`.
    pub trigger: String,
    /// The route, schedule, person or run behind the trigger.
    pub source: String,
    pub accepted_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// When it wakes, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wakes_at: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub attempts: u32,
    pub retried: bool,
    /// Tasks that wait for people.
    #[serde(skip_serializing_if = "is_zero")]
    pub approvals: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    /// Groups failures of one cause; give it as `cause=` to list them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The run in which the same body came before, under another id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspected_replay_of: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl From<RunHead> for Run {
    fn from(head: RunHead) -> Self {
        let wakes_at = if head.wait.is_some() { head.due } else { None };
        Self {
            id: head.id.to_string(),
            workflow: head.workflow.to_string(),
            revision: head.revision.to_string(),
            status: head.state.to_string(),
            trigger: head.trigger.as_str().to_owned(),
            source: head.source,
            accepted_at: head.accepted_at.to_string(),
            started_at: head.started_at.map(|at| at.to_string()),
            ended_at: head.ended_at.map(|at| at.to_string()),
            wakes_at: wakes_at.filter(|at| at.as_millis() < i64::MAX).map(|at| at.to_string()),
            labels: head.labels,
            attempts: head.attempts,
            retried: head.retried,
            approvals: head.approvals,
            failure: head.failure,
            cause: head.cause,
            suspected_replay_of: head.suspected_replay_of.map(|run| run.to_string()),
        }
    }
}

/// A run with everything that is on record.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RunDetail {
    #[serde(flatten)]
    pub run: Run,
    /// Why it does not make progress, when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_waiting: Option<String>,
    /// Who asked it to stop, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Cancel>,
    /// The delivery that started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// The slot that started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot_due: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub inputs: Option<Value>,
    /// The workflow's state as the run read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub state: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub outputs: Option<Value>,
    /// In the order in which they were first touched.
    pub tasks: Vec<Task>,
    /// Retention let its bodies, inputs and outputs go.
    pub payloads_gone: bool,
}

/// Who asked a run to stop.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Cancel {
    pub by: String,
    pub reason: String,
}

/// A delivery as it was kept.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Delivery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub remote: String,
    pub verified_by: String,
    /// The run of the sweep that found it, when it did not come by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swept_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
}

/// The kept part of a body.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Body {
    /// Size of the whole, bytes.
    pub bytes: u64,
    pub text: String,
    /// `text` is base64.
    pub binary: bool,
    /// `text` is the first part only.
    pub cut: bool,
}

impl From<BodyCopy> for Body {
    fn from(copy: BodyCopy) -> Self {
        Self { bytes: copy.bytes, text: copy.text, binary: copy.binary, cut: copy.cut }
    }
}

/// A task of a run.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Task {
    pub id: String,
    /// `started`, `retrying`, `waiting`, `open`, `succeeded`, `failed`, `skipped` or `again`.
    pub status: String,
    pub attempts: Vec<Attempt>,
}

/// One try at a task.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Attempt {
    pub attempt: u32,
    pub idempotency_key: String,
    pub started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub output: Option<Value>,
    /// Parts of the output that are too large for the record, as JSON pointers: the handle of an artifact stands there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    /// It did its part and the task is not over; what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// When the next one starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// Request, response and time split of the call it made, secrets masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub exchange: Option<Exchange>,
}

/// What became of a change of state.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StateSet {
    /// The run that holds the change.
    pub run_id: String,
    /// The state with the change in it.
    #[schema(value_type = Object)]
    pub state: serde_json::Map<String, Value>,
}

/// A question to people.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Approval {
    /// Names it in the API.
    #[schema(example = "run_01k4q8zr5m2c7:ask")]
    pub id: String,
    pub run_id: String,
    pub workflow: String,
    pub task: String,
    /// `open`, `approved`, `rejected`, `expired` or `gone` (the run ended without an answer).
    pub status: String,
    pub title: String,
    /// Markdown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub details: Option<Value>,
    /// What people fill in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub form: Vec<Input>,
    /// Who may decide; everyone with the scope `approvals` when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// How many people must say yes.
    pub quorum: usize,
    pub asked_at: String,
    pub expires_at: String,
    /// Where people are told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Why the last message did not go out there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_told: Option<String>,
    pub decisions: Vec<Decided>,
}

/// One person's decision.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Decided {
    pub by: String,
    pub at: String,
    /// `approve` or `reject`.
    pub verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    pub form: serde_json::Map<String, Value>,
}

/// One event of a run's log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Event {
    pub seq: u32,
    pub at: String,
    pub event: String,
    #[schema(value_type = Object)]
    pub detail: Value,
}

/// What a trigger gave.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Triggered {
    pub run_id: String,
    pub status: String,
    /// The idempotency key was known: this is the run it made then.
    pub duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub outputs: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
}

/// What a cancel did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Cancelled {
    pub run_id: String,
    /// `cancelled`, or `cancelling` while its worker stops.
    pub status: String,
}

/// What a resume does.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Resumed {
    pub run_id: String,
    pub status: String,
    /// The tasks that run again.
    pub again: Vec<String>,
}

/// A workflow in force.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Workflow {
    pub name: String,
    pub revision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub inputs: Vec<Input>,
    pub tasks: Vec<WorkflowTask>,
}

/// A declared input.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Input {
    pub name: String,
    #[serde(rename = "type")]
    pub of: String,
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub default: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A task of a workflow.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WorkflowTask {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
}

/// A workflow with its text.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WorkflowDetail {
    #[serde(flatten)]
    pub workflow: Workflow,
    /// The file as it stands.
    pub yaml: String,
}

/// A route in force.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Route {
    pub name: String,
    pub path: String,
    /// The scheme that verifies it, or `none`.
    pub verify: String,
    pub workflow: String,
    pub enabled: bool,
    /// It accepts, and holds what it accepts.
    pub paused: bool,
    pub revision: String,
    /// The hash of what its file says, by key: two gateways, or a gateway and files, are held against each other by it.
    pub parts: BTreeMap<String, String>,
}

/// What resuming a route did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RouteResumed {
    pub route: Route,
    /// Runs that were held and go on now.
    pub released: usize,
}

/// A source in force, as this gateway sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Source {
    pub name: String,
    /// What is asked: `sqs`.
    pub kind: String,
    /// Where it fetches.
    pub place: String,
    /// `fetching`, `starting`, `failing` or `disabled`.
    pub state: String,
    /// The routes that its deliveries take.
    pub routes: Vec<String>,
    /// When the far end last answered this gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<String>,
    /// When a message last came to this gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched_at: Option<String>,
    /// Messages that are held because they cannot be accepted yet.
    pub held: usize,
    /// Why nothing comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<SourceTrouble>,
}

/// Why a source gives nothing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceTrouble {
    pub since: String,
    pub code: String,
    pub message: String,
}

/// A schedule in force.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Schedule {
    pub name: String,
    /// The cron expression, or `every 2h`.
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    pub workflow: String,
    pub enabled: bool,
    /// Who paused it and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// The newest slot that was dealt with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dealt_with: Option<String>,
    pub next: Vec<Slot>,
    /// The hash of what its file says, by key.
    pub parts: BTreeMap<String, String>,
}

impl Route {
    /// Hashes as they are shown.
    pub fn parts(parts: &crate::tasks::plan::Parts) -> BTreeMap<String, String> {
        parts.iter().map(|(key, hash)| ((*key).to_owned(), hash.to_string())).collect()
    }
}

/// One coming slot.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Slot {
    pub due: String,
    /// The same in the schedule's zone.
    pub local: String,
    /// What a change of the clocks did to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a backfill did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Backfilled {
    /// Missed slots that run now.
    pub entered: Vec<EnteredSlot>,
    /// Slots that had been entered before: nothing happened to them.
    pub known: Vec<String>,
    /// There are more slots in the range; ask again from the last one on.
    pub more: bool,
}

/// A slot that was entered, and its run.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EnteredSlot {
    pub due: String,
    pub run_id: String,
}

/// A request that was refused.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Refusal {
    pub id: i64,
    pub at: String,
    pub code: String,
    /// The route's name, or the path when there is no route.
    pub subject: String,
    pub cause: String,
    #[schema(value_type = Object)]
    pub detail: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
}

/// One entry of the audit, or of the gateway's own events.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JournalEntry {
    pub id: i64,
    pub at: String,
    pub what: String,
    pub subject: String,
    #[schema(value_type = Object)]
    pub detail: Value,
}

/// What a reload put in force.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reloaded {
    pub workflows: usize,
    pub routes: usize,
    pub schedules: usize,
    /// Workflows that are new or have changed.
    pub changed: Vec<String>,
}

/// The artifacts of a run.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Artifacts {
    /// Each as outputs refer to it: `artifact`, `media_type`, `bytes`, `sha256`, and for tables `rows` and `columns`.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<Value>,
}

/// The settings in force, by the hashes of what is written: nothing of them is shown.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Settings {
    pub connections: Vec<SettingsEntry>,
    pub channels: Vec<SettingsEntry>,
    /// Every other section, as the gateway was started with it.
    pub sections: Vec<SettingsEntry>,
}

/// A connection, a channel, or a section of the settings.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SettingsEntry {
    pub name: String,
    /// The hash of what is written there, by key.
    pub parts: BTreeMap<String, String>,
}

impl Settings {
    /// Hashes as they are shown.
    pub fn of(written: &crate::tasks::plan::Written) -> Self {
        let shown = |entries: &crate::tasks::plan::WrittenEntries| {
            let entry = |(name, keys): (&String, &BTreeMap<String, crate::id::Revision>)| SettingsEntry {
                name: name.clone(),
                parts: keys.iter().map(|(key, hash)| (key.clone(), hash.to_string())).collect(),
            };
            entries.iter().map(entry).collect()
        };
        Self {
            connections: shown(&written.connections),
            channels: shown(&written.channels),
            sections: shown(&written.sections),
        }
    }
}
