//! `clawhook run`: runs a workflow here and now, without a server. The same engine, the same tasks; nothing is kept.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::task::TaskTracker;

use super::check::render;
use super::config;
use super::error::Error;
use super::inputs::{self, Given};
use super::output::{self, Output};
use super::progress::Progress;
use super::show;
use crate::artifacts::Artifacts;
use crate::channels::Channels;
use crate::clock::{Clock, SystemClock};
use crate::domain::state::State;
use crate::engine::{self, Engine, Retention};
use crate::gateway::{self, Caller, FilesInForce, Gateway, Source, Trigger, view};
use crate::id::{RunId, Seq};
use crate::limits;
use crate::outbound::{Client, Egress};
use crate::secrets::{self, Vault};
use crate::settings::Settings;
use crate::spec::diagnostic::{Problem, Report};
use crate::spec::{Around, Files, SourceFile, compile_routes, compile_workflow, load};
use crate::store::Store;
use crate::store::memory::Memory;
use crate::tasks::Connections;
use crate::tasks::blob::Blobs;
use crate::tasks::command::{Commands, Host};
use crate::tasks::plan::{Catalog, Plan, RoutePlan, SchedulePlan};
use crate::tasks::sql::Databases;

/// What to run, and with what.
#[derive(Debug, Clone, Args)]
pub(super) struct Run {
    /// The workflow file
    file: PathBuf,
    #[command(flatten)]
    given: Given,
    /// Settings file: connections, secrets and egress are taken from it. `clawhook.yaml` when it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Exit code of a run that Ctrl-C cancelled: 128 and the number of the signal, as shells count.
const INTERRUPTED: u8 = 130;
/// Between two looks at the run.
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn run(wanted: &Run, output: Output) -> Result<ExitCode, Error> {
    let file = wanted.config.clone().unwrap_or_else(|| PathBuf::from(config::DEFAULT_FILE));
    let settings = match config::without_doors(&file, wanted.config.is_some()) {
        Ok(settings) => settings,
        Err(problems) => return Err(refuse(problems, output)),
    };
    let catalog = read(&wanted.file, settings.as_ref(), output)?;
    let Some(plan) = catalog.workflows.values().next().cloned() else {
        return Err(Error::new(format!("`{}` holds no workflow", wanted.file.display())));
    };
    let inputs = inputs::read(&wanted.given, |name| {
        plan.inputs.iter().find(|input| input.name == name).map(|input| input.of.as_str().to_owned())
    })?;
    // From here on Ctrl-C cancels the run instead of ending the program.
    let interrupt =
        signal(SignalKind::interrupt()).map_err(|error| Error::new(format!("signals cannot be received: {error}")))?;
    let here = Here::start(catalog, settings).await?;
    let triggered = here
        .gateway
        .trigger(&here.caller, Trigger { workflow: plan.name.to_string(), inputs, ..Trigger::default() })
        .await;
    let watched = match triggered {
        Ok(triggered) => here.watch(&triggered, &plan, interrupt, output).await,
        Err(error) => Err(told(error)),
    };
    here.stop().await;
    outcome(watched?)
}

fn read(file: &Path, settings: Option<&Settings>, output: Output) -> Result<Catalog, Error> {
    let bytes = std::fs::read(file).map_err(|error| Error::file("read", file, &error))?;
    let source = SourceFile { name: file.display().to_string(), bytes };
    let around = settings.map_or_else(Around::default, Settings::around);
    let loaded = load(&Files { routes: Vec::new(), workflows: vec![source] }, &around);
    if loaded.has_errors() {
        return Err(refuse(loaded.problems, output));
    }
    Ok(loaded.catalog)
}

fn refuse(problems: Vec<Problem>, output: Output) -> Error {
    let report = Report::new(problems);
    output::note(&render(&report, output));
    Error::new("nothing was run, because of the problems above")
}

/// A gateway without doors, for one run.
struct Here {
    gateway: Gateway,
    engine: Engine,
    client: Arc<Client>,
    tracker: TaskTracker,
    caller: Caller,
}

impl Here {
    async fn start(catalog: Catalog, settings: Option<Settings>) -> Result<Self, Error> {
        let tracker = TaskTracker::new();
        let commands = match &settings {
            Some(settings) => {
                let host = Host::here(&settings.storage.path, tracker.clone());
                Commands::open(&settings.commands, host).map_err(|error| Error::new(error.to_string()))?
            }
            None => Commands::default(),
        };
        let databases = settings.as_ref().map_or_else(Databases::default, |settings| {
            Databases::new(&settings.databases, &settings.egress, &settings.azure)
        });
        let places = settings.as_ref().map(|settings| (settings.blobs.clone(), settings.control.url_configured()));
        let place = settings.as_ref().map(|settings| settings.artifacts.clone());
        let (connections, channels, egress, source, azure, retention) = match settings {
            Some(settings) => {
                let Settings { connections, channels, egress, secrets, azure, retention, .. } = settings;
                (connections, channels, egress, secrets, azure, retention)
            }
            None => (
                Connections::default(),
                Channels::default(),
                Egress::default(),
                secrets::Settings { source: "env".to_owned(), path: None, vault_url: None },
                Arc::default(),
                KEEP,
            ),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let vault = Vault::open(&source, &azure, Arc::clone(&clock)).map_err(|error| Error::new(error.to_string()))?;
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        FilesInForce::keep_documents(store.as_ref(), &catalog).await.map_err(told)?;
        let loaded = gateway::Loaded { catalog, connections, channels, ..gateway::Loaded::default() };
        let files = Arc::new(FilesInForce::new(Box::new(OneFile), Arc::clone(&store), loaded));
        let client = Arc::new(Client::new(egress));
        let secrets = Arc::new(vault);
        let known: Arc<dyn crate::domain::secret::Secrets> = Arc::clone(&secrets) as _;
        let (places, door) = places.unwrap_or_default();
        let blobs = Blobs::new(&places, &azure, &known, &clock);
        // A gateway with these settings serves the links, whenever it runs.
        blobs.serve_at(&door);
        let engine = Engine::new(engine::Parts {
            store,
            clock: Arc::clone(&clock),
            files: Arc::clone(&files) as Arc<dyn engine::Files>,
            client: Arc::clone(&client),
            secrets: Arc::clone(&secrets) as Arc<dyn crate::domain::secret::Secrets>,
            commands,
            databases,
            blobs,
            artifacts: match place {
                Some(place) => {
                    Artifacts::open(place, azure, Arc::clone(&secrets) as Arc<dyn crate::domain::secret::Secrets>)
                }
                None => Artifacts::in_folder(&std::env::temp_dir().join("clawhook-artifacts")),
            }
            .outputs_inline(),
            settings: engine::Settings { runs_active_max: ONE, lease: limits::LEASE, retention },
        });
        let (gateway, _) = Gateway::new(engine.clone(), files, secrets, clock, gateway::Settings::default());
        engine.start();
        Ok(Self { gateway, engine, client, tracker, caller: Caller::local() })
    }

    /// Shows how the run goes until it has ended. Ctrl-C cancels it; a second one does not wait for that.
    async fn watch(
        &self,
        triggered: &view::Triggered,
        plan: &Plan,
        mut interrupt: Signal,
        output: Output,
    ) -> Result<Ended, Error> {
        let id: RunId = triggered.run_id.parse().map_err(|error: crate::id::Error| Error::new(error.to_string()))?;
        let mut progress = Progress::new(plan, output);
        let (mut from, mut interrupted) = (Seq(0), false);
        loop {
            let (events, state) = self.gateway.events(&self.caller, id, from).await.map_err(told)?;
            from = events.last().map_or(from, |last| Seq(last.seq + 1));
            let run = self.gateway.run(&self.caller, id).await.map_err(told)?;
            progress.events(&events);
            progress.run(&run, SystemClock.now());
            if state.is_ended() {
                progress.finish();
                return Ok(Ended { state, run, interrupted });
            }
            tokio::select! {
                _ = interrupt.recv() => {
                    if interrupted {
                        progress.finish();
                        return Ok(Ended { state: State::Cancelled, run, interrupted });
                    }
                    interrupted = true;
                    self.gateway.cancel(&self.caller, id, "Ctrl-C").await.map_err(told)?;
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn stop(self) {
        self.engine.stop(Duration::ZERO).await;
        self.tracker.close();
        self.tracker.wait().await;
        self.client.close().await;
    }
}

const ONE: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN;
/// Nothing outlives the process anyway.
const KEEP: Retention =
    Retention { runs: limits::DURATION_MAX, payloads: limits::DURATION_MAX, failed_runs: limits::DURATION_MAX };

/// The files of a run by hand: there at the start, and never read again.
#[derive(Debug)]
struct OneFile;

#[async_trait]
impl Source for OneFile {
    async fn load(&self) -> Result<gateway::Loaded, String> {
        Err("a run by hand keeps the files that it began with".to_owned())
    }

    fn workflow(&self, text: &str) -> Result<Plan, String> {
        compile_workflow("workflow", text)
            .map_err(|problems| Report::new(problems).render(crate::spec::diagnostic::Look::Plain))
    }

    fn routes(&self, text: &str) -> Result<(Vec<RoutePlan>, Vec<SchedulePlan>), String> {
        let compiled = compile_routes("routes", text)
            .map_err(|problems| Report::new(problems).render(crate::spec::diagnostic::Look::Plain))?;
        Ok((compiled.routes, compiled.schedules))
    }
}

/// How the run ended.
struct Ended {
    state: State,
    run: view::RunDetail,
    interrupted: bool,
}

fn outcome(ended: Ended) -> Result<ExitCode, Error> {
    match ended.state {
        State::Succeeded => {
            output::print_json(&ended.run.outputs.unwrap_or_else(|| json!({})));
            Ok(ExitCode::SUCCESS)
        }
        State::Cancelled if ended.interrupted => {
            output::note("cancelled");
            Ok(ExitCode::from(INTERRUPTED))
        }
        state => Err(match &ended.run.run.failure {
            Some(failure) => {
                let shown = serde_json::to_value(failure).unwrap_or(Value::Null);
                let task = failure.task.as_ref().map(|task| format!(" in task `{task}`")).unwrap_or_default();
                let mut error =
                    Error::new(format!("the run failed{task}: {}", failure.message)).code(failure.code.as_str());
                error.help.clone_from(&failure.help);
                output::note(&format!("whose side: {}", show::whose_side(&shown)));
                error
            }
            None => Error::new(format!("the run is {state}")),
        }),
    }
}

fn told(error: gateway::Error) -> Error {
    let code = error.code();
    let message = error.to_string();
    let told = Error::new(message).code(code);
    match error {
        gateway::Error::Invalid { help: Some(help), .. } => told.help(help),
        _ => told,
    }
}
