//! Everything that the files say, made runnable: workflows, routes and schedules whose expressions are parsed, whose
//! durations are durations, and whose names exist. Only `spec` makes these; nothing here can be wrong any more.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{Task, TaskKind};
use crate::domain::input::Input;
use crate::domain::rate::Rate;
use crate::domain::retry::RetryPolicy;
use crate::domain::schedule::Schedule;
use crate::domain::secret::SecretRef;
use crate::expr::{Expression, Mapping, Template};
use crate::id::{ConnectionName, Revision, RouteName, ScheduleName, TaskId, WorkflowName};
use crate::signature::Verifier;

/// All files of one load. A reload replaces the whole, or nothing.
#[derive(Debug, Default)]
pub struct Catalog {
    pub workflows: BTreeMap<WorkflowName, Arc<Plan>>,
    pub routes: BTreeMap<RouteName, Arc<RoutePlan>>,
    pub schedules: BTreeMap<ScheduleName, Arc<SchedulePlan>>,
    /// The text behind every revision.
    pub documents: BTreeMap<Revision, Arc<str>>,
}

/// A workflow made runnable.
#[derive(Debug)]
pub struct Plan {
    pub name: WorkflowName,
    pub revision: Revision,
    pub description: Option<String>,
    pub labels: Vec<(String, Template)>,
    pub inputs: Vec<Input>,
    pub concurrency: Option<Concurrency>,
    pub timeout: Duration,
    pub tasks: Vec<PlannedTask>,
    pub on_failure: Vec<PlannedTask>,
    pub on_success: Vec<PlannedTask>,
    pub finally: Vec<PlannedTask>,
    /// Each output by itself, so that one that reads a skipped task does not take the others down.
    pub outputs: Vec<(String, Mapping)>,
}

/// How many runs of one key may be under way.
#[derive(Debug)]
pub struct Concurrency {
    /// All runs of the workflow share one key when absent.
    pub key: Option<Template>,
    pub limit: NonZeroU32,
    pub behavior: ConcurrencyBehavior,
}

/// What a run does that finds its key taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConcurrencyBehavior {
    /// It waits, in arrival order.
    #[default]
    Queue,
    /// It is cancelled, and says so.
    Skip,
    /// The runs before it are cancelled.
    CancelRunning,
}

/// One task, with the engine words around it.
#[derive(Debug)]
pub struct PlannedTask {
    pub id: TaskId,
    pub kind: &'static TaskKind,
    pub task: Box<dyn Task>,
    pub connection: Option<ConnectionName>,
    pub condition: Option<Expression>,
    pub retry: RetryPolicy,
    pub timeout: Duration,
    pub continue_on_error: bool,
}

impl Plan {
    /// Every task, handlers included, in the order of the file.
    pub fn all_tasks(&self) -> impl Iterator<Item = &PlannedTask> {
        self.tasks.iter().chain(self.handlers())
    }

    /// The tasks of `on_failure`, `on_success` and `finally`.
    pub fn handlers(&self) -> impl Iterator<Item = &PlannedTask> {
        self.on_failure.iter().chain(&self.on_success).chain(&self.finally)
    }
}

/// A path that takes webhooks.
#[derive(Debug)]
pub struct RoutePlan {
    pub name: RouteName,
    /// Of the file it stands in.
    pub revision: Revision,
    pub path: String,
    pub verify: Verify,
    pub filter: Option<Expression>,
    pub dedupe: Dedupe,
    pub body_bytes_max: usize,
    pub rate: Option<RateLimit>,
    /// At most this many of its runs at one time.
    pub concurrency: Option<NonZeroU32>,
    /// Who may call; anyone when empty.
    pub allow_ip: Vec<IpNet>,
    /// JSON paths of the body that are blanked before anything is stored.
    pub redact: Vec<crate::expr::JsonPath>,
    /// The status that the platform counts as success.
    pub respond_status: u16,
    pub workflow: WorkflowName,
    pub inputs: Mapping,
    pub enabled: bool,
    pub paused: bool,
}

/// How a route knows its sender.
#[derive(Debug)]
pub enum Verify {
    /// `verify: none`, written out.
    Nobody,
    /// By a scheme, with the secrets it names.
    Scheme { verifier: Arc<Verifier>, secrets: Vec<(String, Vec<SecretRef>)> },
}

/// What makes two deliveries of a route the same.
#[derive(Debug)]
pub struct Dedupe {
    pub key: DedupeKey,
    pub window: Duration,
    /// Flag a known body under a new id.
    pub replay_guard: bool,
}

/// Where the delivery key comes from.
#[derive(Debug)]
pub enum DedupeKey {
    /// The platform's id; the body when it gives none.
    DeliveryId,
    /// The body.
    Body,
    /// An expression over the delivery.
    Expression(Template),
}

/// Deliveries a sender may bring, and how many at once.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    pub rate: Rate,
    pub burst: NonZeroU32,
}

/// A clock that starts runs.
#[derive(Debug)]
pub struct SchedulePlan {
    pub schedule: Schedule,
    /// Of the file it stands in.
    pub revision: Revision,
    pub workflow: WorkflowName,
    pub inputs: Mapping,
    /// Who is to be told when a slot did not fire; the channel beside the event and the metric.
    pub alert_if_missed: Option<String>,
}
