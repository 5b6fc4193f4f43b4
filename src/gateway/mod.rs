//! One method for each thing that a caller can ask, one file for each noun. Every door goes through here and nowhere
//! past it: this is where a caller's scopes are checked and where what was done is written to the audit.

/// Who calls, and what they may do.
pub mod access;
mod approvals;
mod artifacts;
mod blobs;
mod callouts;
mod deliveries;
mod fetched;
mod files;
mod journals;
mod pauses;
mod refusals;
mod routes;
mod runs;
mod schedules;
mod sources;
mod sweeps;
/// What callers are shown.
pub mod view;
mod workflows;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Arc, RwLock};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

pub use self::access::{Caller, Scope, Scopes};
pub use self::approvals::Answer;
pub use self::deliveries::{Inbound, Receipt, Refusal, RefusalKind};
pub use self::fetched::Fetched;
pub use self::files::{FilesInForce, Loaded, Source};
pub use self::runs::Filter;
pub use self::workflows::Trigger;
use crate::clock::Clock;
use crate::domain::journal::{JournalEntry, JournalKind};
use crate::domain::rate::Rate;
use crate::domain::secret::Secrets;
use crate::engine::{self, Engine};
use crate::limits;
use crate::store;
use crate::tasks::plan::Catalog;

/// Why a caller was not given what they asked for. Doors turn each kind into their own language once.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The caller lacks a scope.
    #[error("`{caller}` lacks the scope `{scope}`")]
    Forbidden { caller: String, scope: Scope },
    /// There is no such thing.
    #[error("there is no {what} `{name}`")]
    NotFound { what: &'static str, name: String },
    /// What was asked cannot be read or does not fit.
    #[error("{message}")]
    Invalid { code: &'static str, message: String, help: Option<String> },
    /// It cannot be done to the thing as it stands.
    #[error("{message}")]
    Conflict { code: &'static str, message: String },
    /// The store does not work at the moment; it is worth trying again.
    #[error("{0}")]
    Unavailable(String),
    /// The logs or files are not what they should be.
    #[error("{0}")]
    Broken(String),
}

impl Error {
    /// The stable code, with a page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "auth.forbidden",
            Self::NotFound { .. } => "api.not_found",
            Self::Invalid { code, .. } | Self::Conflict { code, .. } => code,
            Self::Unavailable(_) => "store.unavailable",
            Self::Broken(_) => "store.broken",
        }
    }

    /// Something that cannot be read or does not fit.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), help: None }
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        match error {
            engine::Error::Store(error) => error.into(),
            engine::Error::Log(error) => Self::Broken(error.to_string()),
            engine::Error::State { .. } => Self::Conflict { code: "run.state", message: error.to_string() },
            engine::Error::Files(failure) => {
                Self::Invalid { code: "files.missing", message: failure.message.clone(), help: failure.help.clone() }
            }
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoRun(run) => Self::NotFound { what: "run", name: run.to_string() },
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<engine::AcceptError> for Error {
    fn from(error: engine::AcceptError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// How the doors are guarded for all routes together.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Deliveries that all routes together take, and how many at once.
    pub rate: Option<(Rate, NonZeroU32)>,
}

/// The gateway of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    files: Arc<FilesInForce>,
    doors: ArcSwap<routes::Doors>,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    global_rate: Option<routes::Limiter>,
    /// Routes that somebody paused, beside those that their file pauses.
    paused: RwLock<BTreeSet<String>>,
    refusals: refusals::Inbox,
    callouts: callouts::Callouts,
    sources: sources::Board,
}

impl Gateway {
    /// A gateway over an engine and its files. The receiver takes refused requests to `keep_refusals`.
    pub fn new(
        engine: Engine,
        files: Arc<FilesInForce>,
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> (Self, mpsc::Receiver<JournalEntry>) {
        let (refusals, receiver) = refusals::Inbox::new();
        let doors = ArcSwap::from_pointee(routes::Doors::new(&files.catalog()));
        let global_rate = settings.rate.map(|(rate, burst)| routes::limiter(rate, burst));
        let (paused, callouts, sources) = (RwLock::default(), callouts::Callouts::new(), sources::Board::new());
        let inner =
            Inner { engine, files, doors, secrets, clock, settings, global_rate, paused, refusals, callouts, sources };
        let inner = Arc::new(inner);
        inner.engine.enter_by(Arc::new(sweeps::Way(Arc::downgrade(&inner))));
        (Self(inner), receiver)
    }

    /// The engine behind it, for start and stop.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The files in force.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.0.files.catalog()
    }

    /// Whether the store works and work is taken.
    pub async fn ready(&self) -> Result<store::Health, Error> {
        if self.0.engine.is_draining() {
            return Err(Error::Unavailable("the gateway is shutting down".to_owned()));
        }
        let health = tokio::time::timeout(limits::ACCEPT_TIMEOUT, self.0.engine.store().health()).await;
        let late =
            |_| Error::Unavailable(format!("the store did not answer within {} s", limits::ACCEPT_TIMEOUT.as_secs()));
        Ok(health.map_err(late)??)
    }

    /// Writes a control action to the audit: before it happens, so that a caller who goes away leaves a trace.
    async fn audit(&self, caller: &Caller, what: &str, subject: &str, detail: Value) -> Result<(), Error> {
        let mut members = members(detail);
        members.insert("by".to_owned(), Value::String(caller.name.clone()));
        members.insert("from".to_owned(), Value::String(caller.remote.clone()));
        self.journal(JournalKind::Audit, what, subject, members).await
    }

    /// Writes to a journal.
    pub(crate) async fn journal(
        &self,
        kind: JournalKind,
        what: &str,
        subject: &str,
        detail: Map<String, Value>,
    ) -> Result<(), Error> {
        let entry = JournalEntry {
            kind,
            at: self.0.clock.now(),
            what: what.to_owned(),
            subject: subject.to_owned(),
            cause: String::new(),
            detail,
            body: bytes::Bytes::new(),
        };
        Ok(self.0.engine.store().journal_append(vec![entry]).await?)
    }
}

/// The members of an object, or nothing.
fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
