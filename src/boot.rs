//! Settings in, running gateway out: the only place that opens backends and joins the parts.

mod artifacts;
mod files;
mod secrets;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::secrets::{People, Upkeep};
use crate::artifacts::Artifacts;
use crate::clock::Clock;
use crate::domain::journal::JournalKind;
use crate::domain::secret::Secrets;
use crate::engine::{self, Engine, Files};
use crate::gateway::{self, FilesInForce, Gateway};
use crate::http::auth::token::TokenKey;
use crate::http::auth::{self, Auth, HostNames};
use crate::http::server::{Door, Encryption};
use crate::http::tls::{Certificate, Origin, PemFiles, Use};
use crate::http::{control, server, webhook};
use crate::limits;
use crate::outbound::Client;
use crate::secrets::Vault;
use crate::settings::{self, DoorTls, Settings, TlsFiles};
use crate::sources;
use crate::store;
use crate::store::records::Records;
use crate::tasks::blob::Blobs;
use crate::tasks::command::{self, Commands, Host};
use crate::tasks::sql::Databases;
use crate::telemetry;

pub use self::files::read_files;

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files have problems; the report is ready to print.
    #[error("{0}")]
    Files(String),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Secrets(#[from] crate::secrets::OpenError),
    #[error(transparent)]
    Secret(#[from] crate::domain::secret::Error),
    #[error(transparent)]
    Token(#[from] auth::token::Error),
    #[error(transparent)]
    Gateway(#[from] gateway::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Door(#[from] server::Error),
    #[error(transparent)]
    Tls(#[from] crate::http::tls::Error),
    #[error(transparent)]
    Commands(#[from] command::OpenError),
}

/// What a gateway is started with.
#[derive(Debug, Clone)]
pub struct Start {
    /// `clawhook.yaml`.
    pub config: PathBuf,
    /// The environment that lies over it.
    pub env: BTreeMap<String, String>,
    pub clock: Arc<dyn Clock>,
}

/// A gateway whose doors are open.
#[derive(Debug)]
pub struct Running {
    pub gateway: Gateway,
    pub hooks_url: String,
    pub control_url: String,
    settings: Settings,
    /// Closes the doors.
    doors: CancellationToken,
    /// Ends what only looks after the process: watchers and the like.
    upkeep: CancellationToken,
    tracker: TaskTracker,
    serving: Vec<JoinHandle<Result<(), server::Error>>>,
    /// Fetches from the sources; ends by `doors`.
    fetching: JoinHandle<()>,
}

/// Reads the files, opens the backends and the doors, and takes over what an earlier process left.
pub async fn start(start: Start) -> Result<Running, Error> {
    let metrics = telemetry::metrics();
    let files::Read { settings, loaded, secrets: named } =
        files::read_all(&start.config, &start.env).await.map_err(Error::Files)?;
    let azure = Arc::clone(&settings.azure);
    let vault = Arc::new(Vault::open(&settings.secrets, &azure, Arc::clone(&start.clock))?);
    let secrets: Arc<dyn Secrets> = Arc::clone(&vault) as Arc<dyn Secrets>;
    let (doors, stop, tracker) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    let reloads = tokio::sync::watch::Sender::new(());
    let upkeep = Upkeep { vault: Arc::clone(&vault), tracker: tracker.clone(), stop: stop.clone(), reloads };
    upkeep.look_through(named);
    let store = store::open(store::Parts {
        settings: settings.storage.clone(),
        azure: Arc::clone(&azure),
        secrets: Arc::clone(&secrets),
        clock: Arc::clone(&start.clock),
    })
    .await?;
    FilesInForce::keep_documents(store.as_ref(), &loaded.catalog).await?;
    let source = files::OnDisk { config: start.config.clone(), env: start.env.clone(), upkeep: upkeep.clone() };
    let files = Arc::new(FilesInForce::new(Box::new(source), Arc::clone(&store), loaded));
    let commands = open_commands(&settings, &tracker).await?;
    let artifacts = Artifacts::open(settings.artifacts.clone(), Arc::clone(&azure), Arc::clone(&secrets));
    let databases = Databases::new(&settings.databases, &settings.egress, &azure);
    let blobs = Blobs::new(&settings.blobs, &azure, &secrets, &start.clock);
    let client = Arc::new(Client::new(settings.egress.clone()));
    let engine = Engine::new(engine::Parts {
        store: Arc::clone(&store),
        clock: Arc::clone(&start.clock),
        files: Arc::clone(&files) as Arc<dyn Files>,
        client: Arc::clone(&client),
        secrets: Arc::clone(&secrets),
        commands,
        artifacts: artifacts.clone(),
        databases,
        blobs: blobs.clone(),
        settings: engine::Settings {
            runs_active_max: settings.runs_active_max,
            lease: limits::LEASE,
            retention: settings.retention,
        },
    });
    let guard =
        gateway::Settings { trusted_proxies: settings.hooks.trusted_proxies.clone(), rate: settings.hooks.rate };
    let (gateway, refused) = Gateway::new(engine.clone(), files, Arc::clone(&secrets), Arc::clone(&start.clock), guard);
    gateway.read_pauses().await?;

    let auth = auth(&settings, &upkeep, Arc::clone(&start.clock)).await?;
    let at = |door| Use { door, clock: Arc::clone(&start.clock) };
    let hooks = &settings.hooks;
    let hooks = door(hooks.address, hooks.tls.as_ref(), hooks.insecure, at("hooks"), &upkeep).await?;
    let hooks = webhook::open(&hooks, gateway.clone(), Arc::clone(&start.clock), doors.clone())?;
    let control = &settings.control;
    let at = door(control.address, control.tls.as_ref(), control.insecure, at("control"), &upkeep).await?;
    let parts = control::Parts {
        gateway: gateway.clone(),
        auth,
        hosts: HostNames::new(settings.control.hosts.clone()),
        metrics,
    };
    let at = server::Settings { workers: Some(limits::CONTROL_WORKERS), ..at };
    let control = control::open(&at, parts, doors.clone())?;
    let (hooks_url, control_url) = (hooks.url(), control.url());
    blobs.serve_at(&settings.control.url_for_others(&control_url));
    let serving = [hooks, control].into_iter().map(|door| tracker.spawn(Door::run(door))).collect();

    // The doors take deliveries while what an earlier process left is looked through: accepting needs none of it.
    engine.take_over().await?;
    engine.start();
    let parts = sources::Parts {
        gateway: gateway.clone(),
        client,
        secrets: Arc::clone(&secrets),
        clock: Arc::clone(&start.clock),
    };
    let fetching = tracker.spawn(sources::run(parts, doors.clone()));
    let keeper = gateway.clone();
    let until = stop.clone();
    tracker.spawn(async move { keeper.keep_refusals(refused, until).await });
    let sweep = artifacts::Sweep {
        artifacts,
        store: Arc::clone(&store),
        clock: Arc::clone(&start.clock),
        retention: settings.retention,
        told: AtomicBool::default(),
    };
    tracker.spawn(sweep.run(stop.clone()));
    if let Some(place) = settings.storage.records.clone() {
        let records = Records::new(place, azure, Arc::clone(&secrets), store, Arc::clone(&start.clock));
        tracker.spawn(records.run(stop.clone()));
    }
    watch::files(&tracker, gateway.clone(), &settings, start.config, stop.clone());
    let detail = json!({ "version": env!("CARGO_PKG_VERSION"), "hooks": hooks_url, "control": control_url });
    note(&gateway, "gateway.started", detail).await;
    tracing::info!(hooks = %hooks_url, control = %control_url, "gateway started");
    Ok(Running { gateway, hooks_url, control_url, settings, doors, upkeep: stop, tracker, serving, fetching })
}

impl Running {
    /// The settings it runs with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The files in force.
    pub fn catalog(&self) -> Arc<crate::tasks::plan::Catalog> {
        self.gateway.catalog()
    }

    /// Ends when a door breaks; a healthy gateway runs until `stop`.
    pub async fn broken(&mut self) -> server::Error {
        loop {
            let (ended, place, _) = futures_util::future::select_all(self.serving.iter_mut()).await;
            drop(self.serving.remove(place));
            match ended {
                Ok(Err(error)) => return error,
                _ if self.serving.is_empty() => std::future::pending().await,
                _ => {}
            }
        }
    }

    /// Stops in order: doors, running work, the store. What was cut off goes on at the next start.
    pub async fn stop(self) {
        tracing::info!("gateway stops: doors first, then running work");
        self.doors.cancel();
        for door in self.serving {
            // A door that is slow to close, because a sender is slow, must not hold the work up.
            let _ = tokio::time::timeout(limits::DRAIN_TIMEOUT, door).await;
        }
        // What was fetched is accepted and deleted, or given back, while that can still be done.
        let _ = tokio::time::timeout(limits::DRAIN_TIMEOUT, self.fetching).await;
        self.gateway.engine().stop(limits::DRAIN_TIMEOUT).await;
        note(&self.gateway, "gateway.stopped", json!({})).await;
        self.upkeep.cancel();
        self.tracker.close();
        let _ = tokio::time::timeout(limits::DRAIN_TIMEOUT, self.tracker.wait()).await;
        self.gateway.engine().store().close().await;
        tracing::info!("gateway stopped");
    }
}

async fn open_commands(settings: &Settings, tracker: &TaskTracker) -> Result<Commands, command::OpenError> {
    let (allowed, host) = (settings.commands.clone(), Host::here(&settings.storage.path, tracker.clone()));
    let opened = tokio::task::spawn_blocking(move || Commands::open(&allowed, host)).await;
    opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// What happened to the gateway itself, for the record. The gateway goes on when it cannot be written.
async fn note(gateway: &Gateway, what: &str, detail: Value) {
    let members = match detail {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    if let Err(error) = gateway.journal(JournalKind::Gateway, what, "gateway", members).await {
        tracing::warn!(%error, "`{what}` could not be put on record");
    }
}

/// Who may use the control door. Passwords that a vault does not give yet are taken when it does.
async fn auth(settings: &Settings, upkeep: &Upkeep, clock: Arc<dyn Clock>) -> Result<Arc<Auth>, Error> {
    let settings::Auth::Methods { jwt, users } = &settings.auth else {
        return Ok(Arc::new(Auth::new(auth::Settings::Open, clock)));
    };
    let mut people = People::new(Arc::clone(&upkeep.vault), users);
    people.start().await?;
    let tokens = jwt.as_ref().map(TokenKey::new).transpose()?;
    let auth = Arc::new(Auth::new(auth::Settings::Required { tokens, people: people.known() }, clock));
    if !users.is_empty() {
        upkeep.keep_people(Arc::clone(&auth), people);
    }
    Ok(auth)
}

async fn door(
    address: std::net::SocketAddr,
    tls: Option<&DoorTls>,
    insecure: bool,
    used: Use,
    upkeep: &Upkeep,
) -> Result<server::Settings, Error> {
    let origin = match tls {
        Some(DoorTls::Files(TlsFiles { cert, key })) => {
            Some(Origin::Files(PemFiles { cert: cert.clone(), key: key.clone() }))
        }
        Some(DoorTls::KeyVault(name)) => Some(Origin::Vault { name: name.clone(), vault: Arc::clone(&upkeep.vault) }),
        None => None,
    };
    let encryption = match origin {
        Some(origin) => {
            let certificate = Certificate::load(origin, used).await?;
            certificate.watch(&upkeep.tracker, upkeep.stop.clone(), upkeep.reloads.subscribe());
            Encryption::Tls(certificate)
        }
        None => Encryption::Plain { insecure },
    };
    Ok(server::Settings { address, encryption, workers: None })
}
