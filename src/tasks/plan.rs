//! Everything that the files say, made runnable: workflows, routes and schedules whose expressions are parsed, whose
//! durations are durations, and whose names exist. Only `spec` makes these; nothing here can be wrong any more.

mod source;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use self::source::{AccessKeyId, SourceKind, SourcePlan, Sqs, Unwrap};
use super::{Task, TaskKind};
use crate::domain::input::Input;
use crate::domain::rate::Rate;
use crate::domain::retry::{Backoff, RetryPolicy};
use crate::domain::schedule::Schedule;
use crate::domain::secret::SecretRef;
use crate::domain::state::State;
use crate::expr::{Expression, Mapping, Template};
use crate::id::{ConnectionName, Revision, RouteName, ScheduleName, SourceName, TaskId, WorkflowName};
use crate::outbound::Redaction;
use crate::signature::Verifier;

/// All files of one load. A reload replaces the whole, or nothing.
#[derive(Debug, Default)]
pub struct Catalog {
    pub workflows: BTreeMap<WorkflowName, Arc<Plan>>,
    pub routes: BTreeMap<RouteName, Arc<RoutePlan>>,
    pub sources: BTreeMap<SourceName, Arc<SourcePlan>>,
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
    pub tasks: TaskList,
    pub on_failure: TaskList,
    pub on_success: TaskList,
    pub finally: TaskList,
    /// Who is told when a run ends.
    pub callback: Option<Arc<Callback>>,
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

/// `callback`.
#[derive(Debug)]
pub struct Callback {
    /// Over `inputs`.
    pub url: Template,
    /// The ends that are told: succeeded, failed, cancelled.
    pub events: Vec<State>,
    /// The key of the signature.
    pub sign: Option<SecretRef>,
}

/// Tasks that belong together.
#[derive(Debug, Default)]
pub struct TaskList {
    pub tasks: Vec<PlannedTask>,
    /// For each task, the places of those that it needs; nothing when they run in the order of the file.
    pub needs: Option<Vec<Vec<usize>>>,
}

/// One task, with the engine words around it.
#[derive(Debug)]
pub struct PlannedTask {
    pub id: TaskId,
    pub condition: Option<Condition>,
    pub each: Option<ForEach>,
    pub continue_on_error: bool,
    pub work: Work,
}

/// `if`.
#[derive(Debug)]
pub struct Condition {
    pub expression: Expression,
    /// It is asked for each item of the task's loop, because it looks at the item.
    pub of_item: bool,
}

/// `for_each`.
#[derive(Debug)]
pub struct ForEach {
    /// The list.
    pub items: Mapping,
    /// Items under way at one time.
    pub parallel_max: u32,
}

/// What a task does.
#[derive(Debug)]
pub enum Work {
    /// One thing, by its kind.
    Task(Box<KindTask>),
    /// Other tasks.
    Group(TaskList),
    /// The tasks of the first case whose condition holds.
    Switch(Vec<Case>),
}

/// One case of a switch; the one without a condition always holds.
#[derive(Debug)]
pub struct Case {
    pub condition: Option<Expression>,
    pub list: TaskList,
}

/// A task of a kind.
#[derive(Debug)]
pub struct KindTask {
    pub kind: &'static TaskKind,
    pub task: Box<dyn Task>,
    pub connection: Option<ConnectionName>,
    pub retry: RetryPolicy,
    /// Of one attempt.
    pub timeout: Duration,
    pub poll: Option<Poll>,
    /// What is blanked in its calls and its output before anything else sees them.
    pub redact: Redaction,
}

/// `poll`: attempted again until the output is as wanted.
#[derive(Debug)]
pub struct Poll {
    pub until: Expression,
    pub fail_if: Option<Expression>,
    /// The first pause, and how it grows.
    pub interval: Duration,
    pub backoff: Backoff,
    pub interval_max: Duration,
    /// Of all attempts and pauses.
    pub timeout: Duration,
}

impl TaskList {
    /// Tasks that run in this order.
    pub fn in_order(tasks: Vec<PlannedTask>) -> Self {
        Self { tasks, needs: None }
    }

    /// Every task, those inside others included, in the order of the file.
    pub fn all(&self) -> Box<dyn Iterator<Item = &PlannedTask> + '_> {
        Box::new(self.tasks.iter().flat_map(|task| {
            let inside: Box<dyn Iterator<Item = &PlannedTask>> = match &task.work {
                Work::Task(_) => Box::new(std::iter::empty()),
                Work::Group(list) => list.all(),
                Work::Switch(cases) => Box::new(cases.iter().flat_map(|case| case.list.all())),
            };
            std::iter::once(task).chain(inside)
        }))
    }
}

impl PlannedTask {
    /// The word of `type`.
    pub fn type_name(&self) -> &'static str {
        match &self.work {
            Work::Task(task) => task.kind.name,
            Work::Group(list) if list.needs.as_ref().is_some_and(|needs| needs.iter().all(Vec::is_empty)) => PARALLEL,
            Work::Group(_) => GROUP,
            Work::Switch(_) => SWITCH,
        }
    }
}

/// Tasks one after the other, or as `needs` says.
pub const GROUP: &str = "group";
/// Tasks that run together.
pub const PARALLEL: &str = "parallel";
/// Tasks by case.
pub const SWITCH: &str = "switch";

impl Plan {
    /// Every task, handlers and those inside others included, in the order of the file.
    pub fn all_tasks(&self) -> impl Iterator<Item = &PlannedTask> {
        self.tasks.all().chain(self.handlers())
    }

    /// The tasks of `on_failure`, `on_success` and `finally`, those inside others included.
    pub fn handlers(&self) -> impl Iterator<Item = &PlannedTask> {
        self.on_failure.all().chain(self.on_success.all()).chain(self.finally.all())
    }
}

/// A path that takes webhooks, or what becomes of the deliveries of a source.
#[derive(Debug)]
pub struct RoutePlan {
    pub name: RouteName,
    /// Of the file it stands in.
    pub revision: Revision,
    /// Of a source: `source:NAME`, which no request can name.
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
    /// What the platform is to send here.
    pub subscription: Option<Subscription>,
    pub enabled: bool,
    pub paused: bool,
    /// What its file says, key by key.
    pub parts: Parts,
}

/// `subscription`: what the platform is to send to a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    pub connection: ConnectionName,
    pub platform: SubscriptionPlatform,
    /// As the platform writes them.
    pub topics: Vec<String>,
    /// The whole address of the route; that of the settings and the path when absent.
    pub url: Option<String>,
    /// The version of the platform's API.
    pub api_version: Option<String>,
    pub proof: SubscriptionProof,
}

/// Platforms whose subscriptions can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionPlatform {
    Shopify,
    Woocommerce,
    Walmart,
}

impl SubscriptionPlatform {
    /// The word that people type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shopify => "shopify",
            Self::Woocommerce => "woocommerce",
            Self::Walmart => "walmart",
        }
    }
}

/// How a platform is told to prove itself.
#[derive(Debug, Clone, PartialEq)]
pub enum SubscriptionProof {
    /// It signs with what it knows already.
    Own,
    /// It signs with this secret.
    Secret(SecretRef),
    /// It sends an HMAC in this header.
    Hmac { header: String, secret: SecretRef },
    /// It sends user and password, one secret with a colon between, in this header.
    Basic { header: String, secret: SecretRef },
}

/// How a route knows its sender.
#[derive(Debug)]
pub enum Verify {
    /// `verify: none`, written out.
    Nobody,
    /// By a scheme, with the secrets it names.
    Scheme { verifier: Arc<Verifier>, secrets: Vec<(String, Vec<SecretRef>)> },
    /// Nobody calls it: what it takes is fetched, by the kind of source of this name.
    Fetched(&'static str),
}

impl Verify {
    /// The word for it: `none`, the name of the scheme, or the kind of the source.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Scheme { verifier, .. } => verifier.kind().name,
            Self::Fetched(kind) => kind,
        }
    }
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
    /// The sweep that its slots do, in place of a workflow of a file.
    pub sweep: Option<SweepPlan>,
    /// What its file says, key by key.
    pub parts: Parts,
}

/// The sweep of a route.
#[derive(Debug, Clone)]
pub struct SweepPlan {
    pub of: super::sweep::Of,
    /// What its runs do.
    pub plan: Arc<Plan>,
}

/// Each key of a route or a schedule with the hash of what is written there, so that two of them can be held against
/// each other without showing anything. Secrets stand there by name.
pub type Parts = BTreeMap<&'static str, Revision>;

/// What `clawhook.yaml` says with the environment over it, as [`Parts`] say it of routes: for each name the hash of what
/// is written under each of its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    pub connections: WrittenEntries,
    pub channels: WrittenEntries,
    /// Every other section: what a reload does not take over.
    pub sections: WrittenEntries,
}

/// Hashes by name, then by key.
pub type WrittenEntries = BTreeMap<String, BTreeMap<String, Revision>>;
