//! A small gateway without doors: the real engine on a store in memory, stepped by the test, with its own clock, and a
//! stand-in ERP that it calls over a real socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clawhook::artifacts::Artifacts;
use clawhook::channels::Channels;
use clawhook::clock::{Clock, TestClock, Timestamp};
use clawhook::domain::delivery::{DeliveryKey, RouteRef};
use clawhook::domain::event::{Accepted, Entry, Event};
use clawhook::domain::failure::{Failure, Fault};
use clawhook::domain::run::{Run, TaskState};
use clawhook::domain::secret::{self, SecretRef, SecretValue, Secrets};
use clawhook::domain::state::State;
use clawhook::domain::step::StepId;
use clawhook::domain::trigger::Trigger;
use clawhook::engine::{Engine, Files, Intake, Parts, Retention, Settings};
use clawhook::id::{ConnectionName, Revision, RunId, ScheduleName, WorkflowName};
use clawhook::outbound::connection::{BaseUrl, Connection};
use clawhook::outbound::{Client, Egress, Tls, budget};
use clawhook::spec;
use clawhook::store::memory::Memory;
use clawhook::store::{Receipt, Store};
use clawhook::tasks::Connections;
use clawhook::tasks::blob::Blobs;
use clawhook::tasks::command::Commands;
use clawhook::tasks::plan::{Plan, RoutePlan, SchedulePlan};
use clawhook::tasks::sql::Databases;
use serde_json::Value;

use crate::standin::{self, Standin};

/// Where every test begins: 22 November 2026, 09:00 UTC.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_795_338_000);

pub(crate) struct Kit {
    pub(crate) engine: Engine,
    pub(crate) clock: TestClock,
    pub(crate) erp: Standin,
    files: Arc<KitFiles>,
    telling: Telling,
    beside: Beside,
}

/// Far ends beside the ERP, and a place for artifacts: both outlive a restart.
#[derive(Clone, Default)]
struct Beside {
    connections: Vec<Connection>,
    folder: Option<Arc<tempfile::TempDir>>,
}

/// Where people are told, and the secrets for it.
#[derive(Clone)]
pub(crate) struct Telling {
    pub(crate) channels: Channels,
    pub(crate) secrets: Arc<dyn Secrets>,
}

impl Default for Telling {
    fn default() -> Self {
        Self { channels: Channels::default(), secrets: Arc::new(OneSecret) }
    }
}

type Change = Box<dyn FnOnce(&mut Connection)>;

/// What a gateway of a test starts with.
struct Given {
    store: Arc<dyn Store>,
    clock: TestClock,
    room: usize,
    commands: Commands,
    telling: Telling,
    beside: Beside,
    /// What is done to the connection `erp`.
    change: Change,
}

impl Given {
    fn new(clock: TestClock) -> Self {
        Self {
            store: Arc::new(Memory::new()),
            clock,
            room: 64,
            commands: Commands::default(),
            telling: Telling::default(),
            beside: Beside::default(),
            change: Box::new(|_| {}),
        }
    }
}

impl Kit {
    /// A gateway with these workflows and routes in force. The connection `erp` is the stand-in.
    pub(crate) fn new(workflows: &[&str], routes: &str) -> Self {
        Self::with_room(workflows, routes, 64)
    }

    /// The same, with room for this many runs at one time.
    pub(crate) fn with_room(workflows: &[&str], routes: &str, room: usize) -> Self {
        Self::on(Given { room, ..Given::new(TestClock::at(START)) }, workflows, routes)
    }

    /// A gateway whose connection `erp` is changed before it starts, and that keeps artifacts.
    pub(crate) fn with_connection(workflows: &[&str], change: impl FnOnce(&mut Connection) + 'static) -> Self {
        let beside = Beside { folder: Some(Arc::new(tempfile::tempdir().unwrap())), ..Beside::default() };
        Self::on(Given { change: Box::new(change), beside, ..Given::new(TestClock::at(START)) }, workflows, "")
    }

    /// A gateway that may run these commands.
    pub(crate) fn with_commands(workflows: &[&str], commands: Commands) -> Self {
        Self::on(Given { commands, ..Given::new(TestClock::at(START)) }, workflows, "")
    }

    /// A gateway that has these channels, on this clock.
    pub(crate) fn with_channels(workflows: &[&str], routes: &str, clock: TestClock, telling: Telling) -> Self {
        Self::on(Given { telling, ..Given::new(clock) }, workflows, routes)
    }

    /// A gateway on this clock that knows these far ends too and keeps artifacts.
    pub(crate) fn with_far_ends(workflows: &[&str], clock: TestClock, connections: Vec<Connection>) -> Self {
        let beside = Beside { connections, folder: Some(Arc::new(tempfile::tempdir().unwrap())) };
        Self::on(Given { beside, ..Given::new(clock) }, workflows, "")
    }

    /// The gateway that comes after this one: on the same store, with these files.
    pub(crate) fn restarted(&self, workflows: &[&str], routes: &str) -> Self {
        let (store, telling, beside) = (Arc::clone(self.engine.store()), self.telling.clone(), self.beside.clone());
        Self::on(Given { store, telling, beside, ..Given::new(self.clock.clone()) }, workflows, routes)
    }

    fn on(given: Given, workflows: &[&str], routes: &str) -> Self {
        let Given { store, clock, room, commands, telling, beside, change } = given;
        let erp = Standin::start(&standin::Settings::default()).unwrap();
        let files =
            Arc::new(KitFiles::new(workflows, routes, &erp, telling.channels.clone(), &beside.connections, change));
        let engine = Engine::new(Parts {
            store,
            clock: Arc::new(clock.clone()),
            files: Arc::clone(&files) as Arc<dyn Files>,
            client: Arc::new(Client::new(Egress::new(["127.0.0.0/8".parse().unwrap()]))),
            secrets: Arc::clone(&telling.secrets),
            commands,
            artifacts: beside
                .folder
                .as_ref()
                .map_or_else(Artifacts::default, |dir| Artifacts::in_folder(&dir.path().join("artifacts"))),
            databases: Databases::default(),
            blobs: Blobs::default(),
            settings: Settings {
                runs_active_max: room.try_into().unwrap(),
                lease: Duration::from_secs(30),
                retention: Retention { runs: DAY * 90, payloads: DAY * 30, failed_runs: DAY * 180 },
            },
        });
        Self { engine, clock, erp, files, telling, beside }
    }

    /// The folder of the artifacts, of a kit that has one.
    pub(crate) fn artifacts(&self) -> std::path::PathBuf {
        self.beside.folder.as_ref().unwrap().path().join("artifacts")
    }

    /// Puts another version of a workflow in force.
    pub(crate) fn put(&self, workflow: &str) {
        self.files.put(workflow);
    }

    /// The first schedule of the files.
    pub(crate) fn schedule(&self) -> Arc<SchedulePlan> {
        Arc::clone(&self.files.schedules[0])
    }

    /// Accepts a run of `workflow` with these inputs.
    pub(crate) async fn trigger(&self, workflow: &str, inputs: Value) -> RunId {
        let Value::Object(inputs) = inputs else { panic!("inputs are an object") };
        let name = WorkflowName::new(workflow).unwrap();
        let plan = self.files.current_plan(&name).unwrap();
        let trigger = Trigger::Manual { by: "test".to_owned() };
        let accepted = Accepted { inputs: Some(inputs), ..Accepted::new(name, plan.revision.clone(), trigger) };
        let intake = Intake {
            key: DeliveryKey::unique(),
            window: DAY,
            replay_guard: None,
            runs: vec![accepted],
            body: bytes::Bytes::new(),
        };
        match self.engine.accept(intake).await.unwrap() {
            Receipt::New(runs) | Receipt::Duplicate(runs) => runs[0],
        }
    }

    /// Accepts a run and does all work that can be done now.
    pub(crate) async fn run(&self, workflow: &str, inputs: Value) -> Run {
        let id = self.trigger(workflow, inputs).await;
        self.settle().await;
        self.read(id).await
    }

    /// Does all work that can be done at this moment.
    pub(crate) async fn settle(&self) {
        self.engine.run_until_idle().await.unwrap();
    }

    /// Lets time pass, then does what came due.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.settle().await;
    }

    /// Lets time pass in steps until the run has ended.
    pub(crate) async fn until_ended(&self, id: RunId) -> Run {
        for _ in 0..200 {
            let run = self.read(id).await;
            if run.state.is_ended() {
                return run;
            }
            self.pass(Duration::from_mins(1)).await;
        }
        panic!("run {id} does not end: {:?}", self.read(id).await);
    }

    pub(crate) async fn log(&self, id: RunId) -> Vec<Entry> {
        self.engine.store().log(id).await.unwrap()
    }

    pub(crate) async fn read(&self, id: RunId) -> Run {
        Run::fold(id, self.log(id).await).unwrap()
    }

    /// The names of a run's events, in order.
    pub(crate) async fn events(&self, id: RunId) -> Vec<&'static str> {
        self.log(id).await.iter().map(|entry| entry.event.name()).collect()
    }

    /// The idempotency keys that a task's attempts used.
    pub(crate) async fn keys(&self, id: RunId, wanted: &str) -> Vec<String> {
        let key = |entry: Entry| match entry.event {
            Event::AttemptStarted { task, key, .. } if task.to_string() == wanted => Some(key),
            _ => None,
        };
        self.log(id).await.into_iter().filter_map(key).collect()
    }
}

/// Leftover work fails the test: whoever takes a run in sees it through, or says why it stays.
impl Drop for Kit {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.engine.active(), 0, "runs are still being driven at the end of the test");
            // Tests that want a refusal ask for this path.
            let wrongs: Vec<_> = self.erp.wrongs().into_iter().filter(|wrong| !wrong.contains("/nowhere")).collect();
            assert_eq!(wrongs, Vec::<String>::new(), "the stand-in ERP was sent something wrong");
        }
    }
}

const DAY: Duration = Duration::from_hours(24);

/// What a task of a run gave.
pub(crate) fn output<'r>(run: &'r Run, task: &str) -> &'r Value {
    match &run.tasks.get(&step(task)).unwrap_or_else(|| panic!("task {task} did not run: {run:?}")).state {
        TaskState::Succeeded { output } => output,
        other => panic!("task {task} is {other:?}"),
    }
}

/// The word for where a task stands.
pub(crate) fn standing(run: &Run, task: &str) -> &'static str {
    match run.tasks.get(&step(task)).map(|record| &record.state) {
        None => "untouched",
        Some(TaskState::Again) => "again",
        Some(TaskState::Started { .. }) => "started",
        Some(TaskState::Retrying { .. }) => "retrying",
        Some(TaskState::Paused { .. }) => "paused",
        Some(TaskState::Succeeded { .. }) => "succeeded",
        Some(TaskState::Failed { .. }) => "failed",
        Some(TaskState::Skipped) => "skipped",
        Some(TaskState::Open(_)) => "open",
        Some(TaskState::Closed { failure: None, .. }) => "closed",
        Some(TaskState::Closed { failure: Some(_), .. }) => "closed after a failure",
    }
}

/// The step of this name, such as `returns[3]/refund`.
pub(crate) fn step(text: &str) -> StepId {
    text.parse().unwrap()
}

#[track_caller]
pub(crate) fn check_state(run: &Run, expected: State) {
    assert_eq!(run.state, expected, "failure: {:?}", run.failure);
}

#[derive(Debug)]
struct KitFiles {
    plans: Mutex<BTreeMap<WorkflowName, Arc<Plan>>>,
    older: Mutex<BTreeMap<Revision, Arc<Plan>>>,
    routes: Vec<Arc<RoutePlan>>,
    schedules: Vec<Arc<SchedulePlan>>,
    connections: Arc<Connections>,
    erp: String,
    channels: Arc<Channels>,
}

/// Stands for the URL of the stand-in in workflows that name it whole.
const ERP: &str = "http://erp.test";
/// The value of every secret.
pub(crate) const KEY: &str = "s3cret-value";

impl KitFiles {
    fn new(
        workflows: &[&str],
        routes: &str,
        erp: &Standin,
        channels: Channels,
        beside: &[Connection],
        change: Change,
    ) -> Self {
        let name = ConnectionName::new("erp").unwrap();
        let mut connection = Connection {
            name: name.clone(),
            base_url: BaseUrl::new(&erp.url()).unwrap(),
            auth: None,
            headers: Vec::new(),
            timeout: None,
            tls: Tls::default(),
            rate_limit: budget::Settings::default(),
            circuit_breaker: None,
        };
        change(&mut connection);
        let compiled = if routes.is_empty() {
            spec::RoutesCompiled::default()
        } else {
            spec::compile_routes("routes.yaml", routes).unwrap_or_else(|problems| panic!("{}", report(problems)))
        };
        let files = Self {
            plans: Mutex::default(),
            older: Mutex::default(),
            routes: compiled.routes.into_iter().map(Arc::new).collect(),
            schedules: compiled.schedules.into_iter().map(Arc::new).collect(),
            connections: {
                let beside = beside.iter().map(|far| (far.name.clone(), Arc::new(far.clone())));
                Arc::new(beside.chain([(name, Arc::new(connection))]).collect::<Connections>())
            },
            erp: erp.url(),
            channels: Arc::new(channels),
        };
        for workflow in workflows {
            files.put(workflow);
        }
        files
    }

    fn put(&self, workflow: &str) {
        let text = workflow.replace(ERP, &self.erp);
        let plan =
            spec::compile_workflow("workflow.yaml", &text).unwrap_or_else(|problems| panic!("{}", report(problems)));
        let plan = Arc::new(plan);
        self.older.lock().unwrap().insert(plan.revision.clone(), Arc::clone(&plan));
        self.plans.lock().unwrap().insert(plan.name.clone(), plan);
    }
}

fn report(problems: Vec<spec::diagnostic::Problem>) -> String {
    spec::diagnostic::Report::new(problems).render(spec::diagnostic::Look::Plain)
}

fn missing() -> Failure {
    Failure::new("files.missing", Fault::Config, "the kit does not hold it")
}

#[async_trait]
impl Files for KitFiles {
    async fn plan(&self, _: &WorkflowName, revision: &Revision) -> Result<Arc<Plan>, Failure> {
        self.older.lock().unwrap().get(revision).cloned().ok_or_else(missing)
    }

    fn current_plan(&self, workflow: &WorkflowName) -> Option<Arc<Plan>> {
        self.plans.lock().unwrap().get(workflow).cloned()
    }

    async fn route(&self, route: &RouteRef) -> Result<Arc<RoutePlan>, Failure> {
        self.routes.iter().find(|plan| plan.name == route.name).cloned().ok_or_else(missing)
    }

    async fn schedule(&self, name: &ScheduleName, _: &Revision) -> Result<Arc<SchedulePlan>, Failure> {
        self.schedules.iter().find(|plan| plan.schedule.name == *name).cloned().ok_or_else(missing)
    }

    fn current_source(&self, trigger: &Trigger) -> Option<Revision> {
        match trigger {
            Trigger::Delivery { route, .. } => Some(route.revision.clone()),
            Trigger::Slot { revision, .. } => Some(revision.clone()),
            Trigger::Manual { .. }
            | Trigger::Replay { .. }
            | Trigger::Parent { .. }
            | Trigger::Callback { .. }
            | Trigger::Edit { .. } => None,
        }
    }

    fn schedules(&self) -> Vec<Arc<SchedulePlan>> {
        self.schedules.clone()
    }

    fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    fn channels(&self) -> Arc<Channels> {
        Arc::clone(&self.channels)
    }
}

/// Every secret is [`KEY`].
#[derive(Debug)]
pub(crate) struct OneSecret;

#[async_trait]
impl Secrets for OneSecret {
    async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, secret::Error> {
        let prefix = reference.prefix.clone().unwrap_or_default();
        Ok(SecretValue::new(format!("{prefix}{KEY}")))
    }
}

/// The clock's present moment, for expectations.
pub(crate) fn now(kit: &Kit) -> Timestamp {
    kit.clock.now()
}
