//! Drives runs: takes queued ones in order, does their tasks one by one, writes every step to the log before and after
//! it happens, and goes on where a log ends after a crash. It knows nothing of HTTP, SQL or YAML.

mod accept;
mod alerts;
mod callback;
mod dispatch;
mod drive;
mod hold;
mod lanes;
mod log;
mod prepare;
mod recovery;
mod retention;
mod runs;
mod scheduler;
mod step;
mod sweeps;
/// What expressions see.
pub mod values;
mod verbs;

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::accept::{AcceptError, Intake};
pub use self::retention::Retention;
pub use self::scheduler::{Backfill, ScheduleStatus};
pub use self::verbs::{Cancelled, Resumed};
use crate::artifacts::Artifacts;
use crate::channels::Channels;
use crate::channels::alerts::Alerts;
use crate::clock::{Clock, Timestamp};
use crate::domain::delivery::RouteRef;
use crate::domain::failure::Failure;
use crate::domain::run::{self, Run};
use crate::domain::secret::Secrets;
use crate::domain::state::State;
use crate::id::{Revision, RunId, ScheduleName, WorkflowName};
use crate::outbound::Client;
use crate::store::{self, Store};
use crate::tasks::Connections;
use crate::tasks::blob::Blobs;
use crate::tasks::command::Commands;
use crate::tasks::plan::{Plan, RoutePlan, SchedulePlan};
use crate::tasks::sql::Databases;
use crate::tasks::sweep::SharedEntrance;
use hold::Hold;
use lanes::Lanes;

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store's own words.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log cannot be folded.
    #[error(transparent)]
    Log(#[from] run::Error),
    /// The run is not where this can be done.
    #[error("run {run} is {state}: {why}")]
    State { run: RunId, state: State, why: &'static str },
    /// The files do not hold what is needed.
    #[error("{}", .0.message)]
    Files(Box<Failure>),
}

/// The files that are in force, and those that older runs are pinned to.
#[async_trait]
pub trait Files: Send + Sync + fmt::Debug {
    /// The workflow as it stood at this revision.
    async fn plan(&self, workflow: &WorkflowName, revision: &Revision) -> Result<Arc<Plan>, Failure>;
    /// The workflow as it stands now.
    fn current_plan(&self, workflow: &WorkflowName) -> Option<Arc<Plan>>;
    /// The route as it stood when it took a delivery.
    async fn route(&self, route: &RouteRef) -> Result<Arc<RoutePlan>, Failure>;
    /// The schedule as it stood when it fired.
    async fn schedule(&self, name: &ScheduleName, revision: &Revision) -> Result<Arc<SchedulePlan>, Failure>;
    /// The revision of the file in which this route or schedule stands now.
    fn current_source(&self, trigger: &crate::domain::trigger::Trigger) -> Option<Revision>;
    /// The schedules in force.
    fn schedules(&self) -> Vec<Arc<SchedulePlan>>;
    /// The far ends in force.
    fn connections(&self) -> Arc<Connections>;
    /// The places in force where people are told.
    fn channels(&self) -> Arc<Channels> {
        Arc::default()
    }
}

/// How the engine works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Runs that make progress at one time (`limits.concurrency`).
    pub runs_active_max: NonZeroUsize,
    /// A worker's right to drive a run.
    pub lease: Duration,
    /// When what is let go (`retention`).
    pub retention: Retention,
}

/// What the engine works with.
#[derive(Debug, Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub files: Arc<dyn Files>,
    pub client: Arc<Client>,
    pub secrets: Arc<dyn Secrets>,
    pub commands: Commands,
    pub artifacts: Artifacts,
    pub databases: Databases,
    pub blobs: Blobs,
    pub settings: Settings,
}

/// The engine of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    /// Names this incarnation in leases, so that it knows its own from those of a process that is gone.
    incarnation: String,
    table: Mutex<Table>,
    /// Work may have come.
    wake: Notify,
    /// Slots may have changed: a reload, a resumed schedule.
    reschedule: Notify,
    /// The gateway has something to tell.
    told: Notify,
    /// How often people are told.
    alerts: Alerts,
    /// The door for what sweeps find; the gateway above sets it.
    entrance: OnceLock<SharedEntrance>,
    tracker: TaskTracker,
    /// No new work; what runs may finish its attempt.
    drain: CancellationToken,
    /// Everything stops now.
    halt: CancellationToken,
}

/// What this process drives, and what it has read ahead.
#[derive(Debug, Default)]
struct Table {
    /// Runs read from the store and waiting for a worker, oldest first.
    ready: std::collections::VecDeque<Run>,
    /// Runs that a worker of this process drives, and how to reach each.
    active: HashMap<RunId, Hold>,
    lanes: Lanes,
    /// The newest run that was read ahead.
    read_to: Option<RunId>,
    /// Older runs may be queued again: read from the start next time.
    rescan: bool,
    claims: u64,
    /// When something comes due, as far as this process knows; looked up anew now and then, because other processes
    /// may write to the store too.
    due: Option<Due>,
}

/// When to ask the store again what is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    next: Timestamp,
    ask_again: tokio::time::Instant,
}

impl Engine {
    /// An engine that does nothing until it is started or stepped.
    pub fn new(parts: Parts) -> Self {
        let incarnation = format!("{:016x}", rand::random::<u64>());
        let book = Arc::new(alerts::Marks(Arc::clone(&parts.store)));
        let (client, secrets) = (Arc::clone(&parts.client), Arc::clone(&parts.secrets));
        let alerts = Alerts::new(client, secrets, Arc::clone(&parts.clock), book);
        Self(Arc::new(Inner {
            parts,
            incarnation,
            table: Mutex::new(Table { rescan: true, ..Table::default() }),
            wake: Notify::new(),
            reschedule: Notify::new(),
            told: Notify::new(),
            alerts,
            entrance: OnceLock::new(),
            tracker: TaskTracker::new(),
            drain: CancellationToken::new(),
            halt: CancellationToken::new(),
        }))
    }

    /// Starts the long-lived loops: dispatch, scheduler, retention, alerts.
    pub fn start(&self) {
        let loops = [self.clone(), self.clone(), self.clone(), self.clone()];
        let [dispatch, scheduler, retention, alerts] = loops;
        self.0.tracker.spawn(async move { dispatch.dispatch_loop().await });
        self.0.tracker.spawn(async move { scheduler.scheduler_loop().await });
        self.0.tracker.spawn(async move { retention.retention_loop().await });
        self.0.tracker.spawn(async move { alerts.alerts_loop().await });
    }

    /// Stops taking work, lets running attempts end for at most `limit`, then stops everything. What was cut off goes
    /// on at the next start.
    pub async fn stop(&self, limit: Duration) {
        self.0.drain.cancel();
        self.0.wake.notify_one();
        self.0.reschedule.notify_one();
        self.0.tracker.close();
        if tokio::time::timeout(limit, self.0.tracker.wait()).await.is_err() {
            let left = self.table().active.len();
            tracing::warn!(
                runs = left,
                "{left} runs did not pause in time and are cut off; they go on at the next start"
            );
        }
        self.0.halt.cancel();
        self.0.tracker.wait().await;
    }

    /// The engine was told to stop.
    pub fn is_draining(&self) -> bool {
        self.0.drain.is_cancelled()
    }

    /// What sweeps find comes in here. Only the first door counts.
    pub fn enter_by(&self, entrance: SharedEntrance) {
        let _ = self.0.entrance.set(entrance);
    }

    /// Runs that this process drives now.
    pub fn active(&self) -> usize {
        self.table().active.len()
    }

    /// The client that calls out for it.
    pub fn client(&self) -> &Arc<Client> {
        &self.0.parts.client
    }

    /// The store that the engine writes to.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.parts.store
    }

    /// Where what is too large for a log is kept.
    pub fn artifacts(&self) -> &Artifacts {
        &self.0.parts.artifacts
    }

    /// The places for files that others fetch.
    pub fn blobs(&self) -> &Blobs {
        &self.0.parts.blobs
    }

    /// Looks for work now: files, marks or runs changed.
    pub fn nudge(&self) {
        self.table().rescan = true;
        self.0.wake.notify_one();
        self.0.reschedule.notify_one();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic while the table was held leaves it whole: every change to it is one call.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
