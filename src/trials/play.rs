//! Plays one test: the real gateway and engine on a store in memory, a clock that stands still until there is nothing
//! left to do and then moves to whatever is due next, and no way out but the exchanges of the test.
//!
//! It runs on a thread and a runtime of its own, whose time is paused and which has no sockets: what would reach for
//! one cannot.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::actor::{MadeUp, Nobody, listening, on_stage};
use super::call::Bases;
use super::network::FarEnds;
use super::stage::{Props, STAGE, Stage, names};
use crate::artifacts::Artifacts;
use crate::azure::Azure;
use crate::channels::{ChannelPlan, Channels};
use crate::clock::{Clock, TestClock, Timestamp};
use crate::domain::approval::Verdict;
use crate::domain::attempt::Pause;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::{Accepted, WaitReason};
use crate::domain::run::{Run, RunHead};
use crate::domain::secret::Secrets;
use crate::domain::state::State;
use crate::domain::trigger::{self, TriggerKind};
use crate::engine::{self, Engine, Intake, Retention};
use crate::gateway::{self, Answer, Caller, FilesInForce, Gateway, Inbound, Receipt, Scopes, Source, Trigger};
use crate::id::{RunId, ScheduleName, WorkflowName};
use crate::limits;
use crate::outbound::{Client, Egress};
use crate::signature;
use crate::store::memory::Memory;
use crate::store::{RunQuery, Store};
use crate::tasks::Connections;
use crate::tasks::blob::Blobs;
use crate::tasks::command::Commands;
use crate::tasks::plan::{Catalog, Plan, RoutePlan, SchedulePlan, TaskList, Verify, Work};
use crate::tasks::sql::Databases;

/// What all tests of a load stand on: the files and settings in force, made harmless.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) catalog: Catalog,
    connections: Connections,
    channels: Channels,
    egress: Egress,
    pub(super) bases: Bases,
}

/// What of the settings matters to tests.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) connections: Connections,
    pub(super) channels: Channels,
    pub(super) egress: Egress,
    pub(super) azure: Arc<Azure>,
}

impl Ground {
    /// Takes files that nobody else uses yet: their tasks get a door to the test, their routes stop asking for proof.
    pub(super) fn new(mut catalog: Catalog, around: Around) -> Self {
        for plan in catalog.workflows.values_mut() {
            if let Some(plan) = Arc::get_mut(plan) {
                for list in [&mut plan.tasks, &mut plan.on_failure, &mut plan.on_success, &mut plan.finally] {
                    put_on_stage(list);
                }
            }
        }
        for plan in catalog.routes.values_mut() {
            if let Some(plan) = Arc::get_mut(plan) {
                (plan.verify, plan.rate, plan.enabled, plan.paused) = (Verify::Nobody, None, true, false);
                plan.allow_ip.clear();
            }
        }
        around.azure.prove_by(Arc::new(Nobody));
        let channels = around.channels.iter().map(|(name, plan)| {
            let channel = listening(name, &plan.channel);
            (name.clone(), Arc::new(ChannelPlan { channel, ..ChannelPlan::clone(plan) }))
        });
        let bases = around.connections.iter().map(|(name, connection)| (name.clone(), connection.base_url.clone()));
        Self {
            bases: bases.collect(),
            channels: channels.collect(),
            connections: around.connections,
            egress: around.egress,
            catalog,
        }
    }

    fn loaded(&self) -> gateway::Loaded {
        let Catalog { workflows, routes, sources: _, schedules, documents } = &self.catalog;
        gateway::Loaded {
            catalog: Catalog {
                workflows: workflows.clone(),
                routes: routes.clone(),
                // Nothing is fetched in a test.
                sources: std::collections::BTreeMap::new(),
                schedules: schedules.clone(),
                documents: documents.clone(),
            },
            connections: self.connections.clone(),
            channels: self.channels.clone(),
            ..gateway::Loaded::default()
        }
    }
}

fn put_on_stage(list: &mut TaskList) {
    for task in &mut list.tasks {
        match &mut task.work {
            Work::Task(work) => on_stage(work),
            Work::Group(list) => put_on_stage(list),
            Work::Switch(cases) => cases.iter_mut().for_each(|case| put_on_stage(&mut case.list)),
        }
    }
}

/// What is played.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) workflow: WorkflowName,
    pub(super) clock: Timestamp,
    pub(super) start: Start,
    pub(super) state: Map<String, Value>,
    pub(super) props: Props,
    pub(super) decisions: Vec<Decision>,
    /// The test is over when the run waits for people or for a moment.
    pub(super) until_it_waits: bool,
}

/// What starts the run.
#[derive(Debug, Clone)]
pub(super) enum Start {
    Inputs(Map<String, Value>),
    Delivery { path: String, headers: Vec<(String, String)>, query: String, body: Bytes },
    Slot { schedule: ScheduleName, due: Timestamp },
}

/// What a person decides.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    pub(super) task: String,
    pub(super) by: String,
    pub(super) verdict: Verdict,
    pub(super) form: Map<String, Value>,
    pub(super) comment: Option<String>,
    pub(super) after: Duration,
}

/// What came of a test.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) stage: Arc<Stage>,
    /// The run that the test is about; none when nothing was started.
    pub(super) run: Option<Run>,
    pub(super) state: Map<String, Value>,
    /// What could not be played, in one sentence.
    pub(super) trouble: Vec<String>,
    /// Decisions, by their place, that nobody asked for.
    pub(super) unasked: Vec<usize>,
}

/// Plays a test on a thread of its own.
///
/// # Errors
/// Why it could not be played to its end.
pub(super) async fn play(ground: Arc<Ground>, script: Script) -> Result<Played, String> {
    let (done, result) = tokio::sync::oneshot::channel();
    let scratch = std::env::temp_dir().join(format!("clawhook-test-{:016x}", rand::random::<u64>()));
    let folder = scratch.clone();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let played = match runtime {
            Ok(runtime) => {
                let played = runtime.block_on(perform(ground, script, folder));
                // A thread that computes for ever must not hold the test.
                runtime.shutdown_background();
                played
            }
            Err(error) => Err(format!("the test cannot be run: {error}")),
        };
        // Nobody waits any more when it took too long.
        drop(done.send(played));
    };
    let started = std::thread::Builder::new().name("clawhook-test".to_owned()).spawn(work);
    started.map_err(|error| format!("the test cannot be run: {error}"))?;
    let played = match tokio::time::timeout(limits::TRIAL_TIME_MAX, result).await {
        Ok(Ok(played)) => played,
        Ok(Err(_)) => Err("the test broke off: this is a fault of clawhook".to_owned()),
        Err(_) => Err(format!("the test took more than {} s of real time", limits::TRIAL_TIME_MAX.as_secs())),
    };
    drop(std::fs::remove_dir_all(scratch));
    played
}

async fn perform(ground: Arc<Ground>, mut script: Script, scratch: PathBuf) -> Result<Played, String> {
    let clock = TestClock::at(script.clock);
    let stage = Stage::new(ground.bases.clone(), std::mem::take(&mut script.props));
    let world = World { store: Arc::new(Memory::new()), clock, network: FarEnds::default(), scratch, ground };
    let played = STAGE.scope(Arc::clone(&stage), world.perform(&script, stage)).await;
    world.network.close().await;
    played
}

/// What outlives a gateway of the test that dies.
struct World {
    store: Arc<dyn Store>,
    clock: TestClock,
    network: FarEnds,
    scratch: PathBuf,
    ground: Arc<Ground>,
}

impl World {
    async fn perform(&self, script: &Script, stage: Arc<Stage>) -> Result<Played, String> {
        let mut gateway = self.gateway().await?;
        if !script.state.is_empty() {
            let set = gateway.engine().edit_state(&script.workflow, script.state.clone(), "test").await;
            set.map_err(|error| format!("the state cannot be set: {error}"))?;
        }
        let Some(id) = self.start(&gateway, script).await? else {
            let kept = self.state_of(&script.workflow).await?;
            return Ok(Played { stage, run: None, state: kept, trouble: Vec::new(), unasked: Vec::new() });
        };
        let mut asked = Asked { decisions: &script.decisions, made: vec![false; script.decisions.len()] };
        let mut trouble = Vec::new();
        let mut moves = 0;
        loop {
            tokio::select! {
                idle = gateway.engine().run_until_idle() => drop(idle.map_err(|error| error.to_string())?),
                () = stage.crash.notified() => {
                    // Its work is dropped in the middle, as by a power cut; the next one finds what is on record.
                    gateway = self.gateway().await?;
                    gateway.engine().take_over().await.map_err(|error| error.to_string())?;
                    continue;
                }
            }
            let alerts = gateway.engine().look_at_alerts().await.map_err(|error| error.to_string())?;
            let open = self.open().await?;
            let decided = asked.decide(&gateway, self.clock.now(), &mut trouble).await?;
            if decided == Decided::Some {
                continue;
            }
            let Some(main) = open.iter().find(|head| head.id == id) else {
                if open.is_empty() {
                    break;
                }
                let Some(next) = next(&open, None, None, self.clock.now()) else { break };
                self.pass(next).await;
                continue;
            };
            let waits_on_purpose = main.wait.as_ref().is_some_and(is_on_purpose);
            if script.until_it_waits && waits_on_purpose && decided == Decided::Nothing {
                break;
            }
            let coming = match decided {
                Decided::Later(at) => Some(at),
                Decided::Nothing | Decided::Some => None,
            };
            let now = self.clock.now();
            let alerts = alerts.map(|wait| now.plus(wait));
            let Some(next) = next(&open, coming, alerts, now) else {
                trouble.push(format!("the run never ends: {}", self.why(&gateway, id).await));
                break;
            };
            moves += 1;
            if moves > limits::TRIAL_MOVES_MAX {
                let why = self.why(&gateway, id).await;
                let hours = now.since(script.clock).as_secs() / 3600;
                trouble.push(format!("the run has not ended after {hours} hours of its clock: {why}"));
                break;
            }
            self.pass(next).await;
        }
        let log = self.store.log(id).await.map_err(|error| error.to_string())?;
        let run = Run::fold(id, log).map_err(|error| error.to_string())?;
        let kept = self.state_of(&script.workflow).await?;
        let unasked = (0..).zip(&asked.made).filter(|(_, made)| !**made).map(|(place, _)| place).collect();
        Ok(Played { stage, run: Some(run), state: kept, trouble, unasked })
    }

    /// A gateway without doors on what there is.
    async fn gateway(&self) -> Result<Gateway, String> {
        let told = |error: gateway::Error| error.to_string();
        let loaded = self.ground.loaded();
        FilesInForce::keep_documents(self.store.as_ref(), &loaded.catalog).await.map_err(told)?;
        let files = Arc::new(FilesInForce::new(Box::new(AsTheyAre), Arc::clone(&self.store), loaded));
        let network = Arc::new(self.network.clone());
        let client = Arc::new(Client::with_network(self.ground.egress.clone(), network));
        let secrets: Arc<dyn Secrets> = Arc::new(MadeUp);
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let engine = Engine::new(engine::Parts {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&clock),
            files: Arc::clone(&files) as Arc<dyn engine::Files>,
            client,
            secrets: Arc::clone(&secrets),
            commands: Commands::default(),
            artifacts: Artifacts::in_folder(&self.scratch).outputs_inline(),
            databases: Databases::default(),
            blobs: Blobs::default(),
            settings: engine::Settings { runs_active_max: RUNS, lease: limits::LEASE, retention: KEEP },
        });
        Ok(Gateway::new(engine, files, secrets, clock, gateway::Settings::default()).0)
    }

    /// Starts the run; nothing when the route's filter lets nothing through.
    async fn start(&self, gateway: &Gateway, script: &Script) -> Result<Option<RunId>, String> {
        match &script.start {
            Start::Inputs(inputs) => {
                let (workflow, inputs) = (script.workflow.to_string(), inputs.clone());
                let trigger = Trigger { workflow, inputs, ..Trigger::default() };
                let triggered = gateway.trigger(&Caller::local(), trigger).await.map_err(|error| error.to_string())?;
                triggered.run_id.parse().map(Some).map_err(|error: crate::id::Error| error.to_string())
            }
            Start::Delivery { path, headers, query, body } => {
                let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
                let request = signature::Inbound {
                    method: "POST",
                    path,
                    query,
                    url: None,
                    headers: &headers,
                    body,
                    client_chain: &[],
                    received_at: self.clock.now(),
                    random: rand::random(),
                };
                let peer = std::net::Ipv4Addr::LOCALHOST.into();
                match gateway.receive(Inbound { request, body: body.clone(), peer }).await {
                    Ok(Receipt::Accepted { runs, .. }) => Ok(runs.first().copied()),
                    Ok(Receipt::Filtered { .. } | Receipt::Handshake(_)) => Ok(None),
                    Err(refusal) => Err(format!("the route refuses the delivery: {}", refusal.code)),
                }
            }
            Start::Slot { schedule, due } => self.by_clock(gateway, schedule, *due).await,
        }
    }

    async fn by_clock(&self, gateway: &Gateway, name: &ScheduleName, due: Timestamp) -> Result<Option<RunId>, String> {
        let schedules = &self.ground.catalog.schedules;
        let plan = schedules.get(name).ok_or_else(|| format!("there is no schedule `{name}`"))?;
        let workflows = &self.ground.catalog.workflows;
        let workflow =
            workflows.get(&plan.workflow).ok_or_else(|| format!("there is no workflow `{}`", plan.workflow))?;
        let trigger =
            trigger::Trigger::Slot { schedule: name.clone(), revision: plan.revision.clone(), due, backfill: false };
        let intake = Intake {
            key: DeliveryKey::of_slot(name, due),
            window: limits::SLOT_KEY_WINDOW,
            replay_guard: None,
            runs: vec![Accepted::new(workflow.name.clone(), workflow.revision.clone(), trigger)],
            body: Bytes::new(),
        };
        let receipt = gateway.engine().accept(intake).await.map_err(|error| error.to_string())?;
        Ok(match receipt {
            crate::store::Receipt::New(runs) | crate::store::Receipt::Duplicate(runs) => runs.first().copied(),
        })
    }

    /// The runs that have not ended.
    async fn open(&self) -> Result<Vec<RunHead>, String> {
        let states = vec![State::Queued, State::Running, State::Waiting, State::Cancelling];
        let query = RunQuery { states, limit: limits::PAGE_MAX, ..RunQuery::default() };
        let heads = self.store.runs(&query).await.map_err(|error| error.to_string())?;
        Ok(heads.into_iter().filter(|head| head.trigger != TriggerKind::Edit).collect())
    }

    async fn state_of(&self, workflow: &WorkflowName) -> Result<Map<String, Value>, String> {
        self.store.state(workflow).await.map_err(|error| error.to_string())
    }

    async fn why(&self, gateway: &Gateway, id: RunId) -> String {
        let why = gateway.engine().why_waiting(id).await.ok().flatten();
        why.unwrap_or_else(|| "nothing says what it waits for".to_owned())
    }

    /// Lets the clock of the test move on.
    async fn pass(&self, until: Timestamp) {
        tokio::time::sleep(until.since(self.clock.now())).await;
    }
}

/// The next moment at which something may happen.
fn next(open: &[RunHead], decision: Option<Timestamp>, alerts: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let due = open.iter().filter_map(|head| head.due).filter(|due| due.as_millis() < i64::MAX);
    let soon = now.plus(Duration::from_millis(1));
    due.chain(decision).min().map(|due| alerts.map_or(due, |alerts| due.min(alerts))).map(|at| at.max(soon))
}

/// Whether a run waits because its workflow says so, and not because something went wrong.
fn is_on_purpose(wait: &WaitReason) -> bool {
    matches!(wait, WaitReason::Paused { why: Pause::Approval { .. } | Pause::Delay | Pause::Run { .. }, .. })
}

/// Decisions of the test on their way.
struct Asked<'s> {
    decisions: &'s [Decision],
    made: Vec<bool>,
}

/// What became of decisions.
#[derive(Debug, PartialEq, Eq)]
enum Decided {
    Nothing,
    /// One was made.
    Some,
    /// One is to be made then.
    Later(Timestamp),
}

impl Asked<'_> {
    /// Makes the first decision whose time has come.
    async fn decide(
        &mut self,
        gateway: &Gateway,
        now: Timestamp,
        trouble: &mut Vec<String>,
    ) -> Result<Decided, String> {
        if self.made.iter().all(|made| *made) {
            return Ok(Decided::Nothing);
        }
        let open = gateway.approvals(&Caller::local()).await.map_err(|error| error.to_string())?.items;
        let mut later = None;
        for (place, decision) in self.decisions.iter().enumerate() {
            if self.made[place] {
                continue;
            }
            let asks = |question: &&gateway::view::Approval| {
                let said = question.decisions.iter().any(|said| said.by == decision.by);
                question.task.parse().is_ok_and(|step| names(&decision.task, &step)) && !said
            };
            let Some(question) = open.iter().rev().find(asks) else { continue };
            let asked_at = Timestamp::parse_rfc3339(&question.asked_at).unwrap_or(now);
            let at = asked_at.plus(decision.after);
            if at > now {
                later = [later, Some(at)].into_iter().flatten().min();
                continue;
            }
            self.made[place] = true;
            let caller = Caller { name: decision.by.clone(), scopes: Scopes::all(), remote: "test".to_owned() };
            let Decision { verdict, comment, form, .. } = decision.clone();
            if let Err(error) = gateway.decide(&caller, &question.id, Answer { verdict, comment, form }).await {
                trouble.push(format!("`{}` could not decide `{}`: {error}", decision.by, decision.task));
            }
            return Ok(Decided::Some);
        }
        Ok(later.map_or(Decided::Nothing, Decided::Later))
    }
}

/// Runs at one time: a test has one, and those that it starts.
const RUNS: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");
/// Nothing outlives the test anyway.
const KEEP: Retention =
    Retention { runs: limits::DURATION_MAX, payloads: limits::DURATION_MAX, failed_runs: limits::DURATION_MAX };

/// The files of a test: there at its start, and never read again.
#[derive(Debug)]
struct AsTheyAre;

#[async_trait]
impl Source for AsTheyAre {
    async fn load(&self) -> Result<gateway::Loaded, String> {
        Err("a test keeps the files that it began with".to_owned())
    }

    fn workflow(&self, _: &str) -> Result<Plan, String> {
        Err("a test has no older files".to_owned())
    }

    fn routes(&self, _: &str) -> Result<(Vec<RoutePlan>, Vec<SchedulePlan>), String> {
        Err("a test has no older files".to_owned())
    }
}
