//! Everything around the engine: senders that come again until they are answered, a far end that remembers, gateways
//! that are started, killed and frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use clawhook::artifacts::{ArtifactStore, Artifacts};
use clawhook::clock::TestClock;
use clawhook::domain::delivery::{Delivery, DeliveryKey, RouteRef};
use clawhook::domain::event::Accepted;
use clawhook::domain::failure::{Failure, Fault};
use clawhook::domain::schedule::{Catchup, Overlap, Rule, Schedule, State as ScheduleState};
use clawhook::domain::secret::{self, SecretRef, SecretValue, Secrets};
use clawhook::domain::trigger::Trigger;
use clawhook::engine::{Engine, Files, Intake, Parts, Retention, Settings};
use clawhook::expr::Mapping;
use clawhook::id::{Revision, RouteName, RunId, ScheduleName, WorkflowName};
use clawhook::outbound::{Client, Egress};
use clawhook::store::faulty::{Faults, Faulty};
use clawhook::store::{Receipt, RunQuery, Store};
use clawhook::tasks::Connections;
use clawhook::tasks::blob::Blobs;
use clawhook::tasks::command::Commands;
use clawhook::tasks::plan::{Plan, RoutePlan, SchedulePlan};
use clawhook::tasks::sql::Databases;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, json};
use tokio::task::JoinHandle;

use super::gate::Gate;
use super::sabotage::Sabotaged;
use super::script;
use super::shelf::Shelf;

/// Between two slots of the schedule.
pub(super) const EVERY: Duration = Duration::from_secs(7);
/// Lease of a worker: short, so that much happens in little time.
const LEASE: Duration = Duration::from_secs(5);
/// Tasks of one node that do work side by side.
const HANDS: usize = 2;

pub(super) type Disk = Faulty<Sabotaged>;

/// What the outside saw.
#[derive(Debug)]
pub(super) struct Outside {
    random: Mutex<StdRng>,
    traces: Mutex<Vec<Trace>>,
    receipts: Mutex<BTreeMap<String, BTreeSet<RunId>>>,
    wrongs: Mutex<Vec<String>>,
}

/// A request that reached the far end.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    pub(super) run: RunId,
    pub(super) task: String,
    pub(super) key: String,
}

impl Outside {
    pub(super) fn random(&self) -> MutexGuard<'_, StdRng> {
        self.random.lock().unwrap()
    }

    pub(super) fn trace(&self, trace: Trace) {
        self.traces.lock().unwrap().push(trace);
    }

    /// A task saw something that it must not see.
    pub(super) fn wrong(&self, what: String) {
        self.wrongs.lock().unwrap().push(what);
    }
}

pub(super) struct World {
    pub(super) store: Arc<Disk>,
    pub(super) clock: TestClock,
    pub(super) shelf: Arc<Shelf>,
    outside: Arc<Outside>,
    files: Arc<Script>,
    door: Arc<Mutex<Option<Engine>>>,
}

/// One gateway. Dropping it kills it where it stands.
pub(super) struct Node {
    hands: Vec<JoinHandle<()>>,
    gate: Arc<Gate>,
}

impl Node {
    pub(super) fn freeze(&self, how_long: Duration) {
        self.gate.set_shut(true);
        let gate = Arc::clone(&self.gate);
        drop(tokio::spawn(async move {
            tokio::time::sleep(how_long).await;
            gate.set_shut(false);
        }));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.hands.iter().for_each(JoinHandle::abort);
    }
}

impl World {
    pub(super) fn new(store: Arc<Disk>, clock: TestClock, shelf: Shelf, seed: u64) -> Self {
        let outside = Arc::new(Outside {
            random: Mutex::new(StdRng::seed_from_u64(seed ^ 0xfa7)),
            traces: Mutex::default(),
            receipts: Mutex::default(),
            wrongs: Mutex::default(),
        });
        let files = Arc::new(Script::new(&outside));
        Self { store, clock, shelf: Arc::new(shelf), outside, files, door: Arc::default() }
    }

    pub(super) fn start_node(&self) -> Node {
        let engine = Engine::new(Parts {
            store: Arc::clone(&self.store) as Arc<dyn Store>,
            clock: Arc::new(self.clock.clone()),
            files: Arc::clone(&self.files) as Arc<dyn Files>,
            client: Arc::new(Client::new(Egress::new([]))),
            secrets: Arc::new(NoSecrets),
            commands: Commands::default(),
            artifacts: Artifacts::over(
                Arc::clone(&self.shelf) as Arc<dyn ArtifactStore>,
                script::INLINE_BYTES_MAX,
                Path::new("/dev/null"),
            ),
            databases: Databases::default(),
            blobs: Blobs::default(),
            settings: Settings {
                runs_active_max: 8.try_into().unwrap(),
                lease: LEASE,
                retention: Retention { runs: WEEK, payloads: WEEK, failed_runs: WEEK },
            },
        });
        *self.door.lock().unwrap() = Some(engine.clone());
        let gate = Arc::<Gate>::default();
        let hands = (0..HANDS).map(|_| tokio::spawn(gate.guard(work(engine.clone())))).collect();
        Node { hands, gate }
    }

    /// A sender that delivers after a while, and comes again until it hears a success; now and then once more.
    pub(super) fn send(&self, number: u64, after_ms: u64) -> JoinHandle<()> {
        let (door, outside) = (Arc::clone(&self.door), Arc::clone(&self.outside));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            let id = format!("d{number}");
            let mut answers = 0;
            while answers < 1 + number % 2 {
                let engine = door.lock().unwrap().clone().unwrap();
                if let Ok(Receipt::New(runs) | Receipt::Duplicate(runs)) = engine.accept(intake(&id)).await {
                    outside.receipts.lock().unwrap().entry(id.clone()).or_default().extend(runs);
                    answers += 1;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
    }

    pub(super) async fn cancel_one(&self, random: &mut StdRng) {
        let engine = self.door.lock().unwrap().clone().unwrap();
        let runs = self.store.inner().runs(&RunQuery { limit: 50, ..RunQuery::default() }).await.unwrap();
        if let Some(run) = runs.get(random.random_range(0..50)) {
            let _ = engine.cancel(run.id, "somebody", "a change of mind").await;
        }
    }

    /// The trouble is over.
    pub(super) fn calm(&self) {
        self.store.set_faults(Faults::NONE);
        self.shelf.calm();
    }

    pub(super) fn stop_schedules(&self) {
        self.files.schedules.lock().unwrap().clear();
    }

    pub(super) fn receipts(&self) -> BTreeMap<String, BTreeSet<RunId>> {
        self.outside.receipts.lock().unwrap().clone()
    }

    pub(super) fn wrongs(&self) -> Vec<String> {
        self.outside.wrongs.lock().unwrap().clone()
    }

    pub(super) fn effects(&self) -> Vec<Trace> {
        self.outside.traces.lock().unwrap().clone()
    }
}

const WEEK: Duration = Duration::from_hours(24 * 7);

async fn work(engine: Engine) {
    loop {
        let _ = engine.run_schedules().await;
        let _ = engine.run_until_idle().await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn intake(id: &str) -> Intake {
    let delivery = Delivery {
        id: Some(id.to_owned()),
        method: "POST".to_owned(),
        path: "/hooks/orders".to_owned(),
        query: String::new(),
        headers: Vec::new(),
        remote: String::new(),
        verified_by: "shopify".to_owned(),
        swept_by: None,
    };
    let route = RouteRef { name: RouteName::new("orders").unwrap(), revision: Revision::from("r1") };
    let trigger = Trigger::Delivery { route, delivery: Box::new(delivery) };
    let accepted = Accepted::new(WorkflowName::new("orders").unwrap(), Revision::from("r1"), trigger);
    let accepted = Accepted { inputs: Some(Map::new()), ..accepted };
    let key = DeliveryKey::of_delivery("/hooks/orders", id.as_bytes());
    Intake { key, window: WEEK, replay_guard: None, runs: vec![accepted], body: bytes::Bytes::new() }
}

/// One workflow, one schedule.
#[derive(Debug)]
struct Script {
    plan: Arc<Plan>,
    schedules: Mutex<Vec<Arc<SchedulePlan>>>,
}

impl Script {
    fn new(outside: &Arc<Outside>) -> Self {
        let schedule = Schedule {
            name: ScheduleName::new("clock").unwrap(),
            rule: Rule::every(EVERY).unwrap(),
            overlap: Overlap::Allow,
            catchup: Catchup::All,
            catchup_window: WEEK,
            jitter: Duration::ZERO,
            state: ScheduleState::Active,
        };
        let schedule = SchedulePlan {
            schedule,
            revision: Revision::from("r1"),
            workflow: WorkflowName::new("orders").unwrap(),
            inputs: Mapping::parse(&json!({})).unwrap(),
            alert_if_missed: None,
            sweep: None,
            parts: clawhook::tasks::plan::Parts::new(),
        };
        Self { plan: Arc::new(script::plan(outside)), schedules: Mutex::new(vec![Arc::new(schedule)]) }
    }
}

fn none() -> Failure {
    Failure::new("files.missing", Fault::Config, "not in the script")
}

#[async_trait]
impl Files for Script {
    async fn plan(&self, _: &WorkflowName, _: &Revision) -> Result<Arc<Plan>, Failure> {
        Ok(Arc::clone(&self.plan))
    }

    fn current_plan(&self, _: &WorkflowName) -> Option<Arc<Plan>> {
        Some(Arc::clone(&self.plan))
    }

    async fn route(&self, _: &RouteRef) -> Result<Arc<RoutePlan>, Failure> {
        Err(none())
    }

    async fn schedule(&self, _: &ScheduleName, _: &Revision) -> Result<Arc<SchedulePlan>, Failure> {
        self.schedules.lock().unwrap().first().cloned().ok_or_else(none)
    }

    fn current_source(&self, _: &Trigger) -> Option<Revision> {
        None
    }

    fn schedules(&self) -> Vec<Arc<SchedulePlan>> {
        self.schedules.lock().unwrap().clone()
    }

    fn connections(&self) -> Arc<Connections> {
        Arc::default()
    }
}

#[derive(Debug)]
struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, secret::Error> {
        Err(secret::Error::Unusable { name: reference.name.clone(), why: "there are none here".to_owned() })
    }
}
