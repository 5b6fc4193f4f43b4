//! Where everything large is kept: bodies and tables that do not belong into the log of a run. An artifact is written
//! once, under a name that nothing else ever had, and is there whole or not at all: a write that was cut off leaves
//! nothing that anybody could read. A run's log holds the [`Handle`]; the bytes stream, and are checked when they are
//! read. What is kept goes with its run.

/// A container of Azure Blob Storage.
pub mod azure_blob;
/// A folder of this machine.
pub mod folder;
mod handle;
mod piece;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::handle::{ArtifactId, Handle, Label};
pub use self::piece::{Reader, Writer};
use crate::azure::Azure;
use crate::clock::Timestamp;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::secret::{SecretRef, Secrets};
use crate::id::RunId;
use crate::limits;

/// Why an artifact cannot be written or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It was never there, or went with its run.
    #[error("artifact `{id}` is not there")]
    Missing { id: ArtifactId },
    /// What is there is not what was written.
    #[error("artifact `{id}` is damaged: {why}")]
    Damaged { id: ArtifactId, why: String },
    /// There is no room.
    #[error("there is no room for an artifact: {why}")]
    Full { why: String },
    /// It grew past its bound.
    #[error("it is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    /// Whoever wanted it is gone.
    #[error("the attempt is over")]
    Over,
    /// The place does not work.
    #[error("cannot {doing} artifact: {why}")]
    Failed { doing: &'static str, why: String },
}

impl Error {
    /// The failure of a task that needed it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Missing { .. } => Failure::new("artifact.missing", Fault::Here, self.to_string())
                .help("run the task again that made it: artifacts go with their run, and a folder is one machine's"),
            Self::Damaged { .. } => Failure::new("artifact.damaged", Fault::Here, self.to_string())
                .help("run the task again that made it, and look at the disk"),
            Self::Full { .. } => Failure::new("artifact.full", Fault::Here, self.to_string())
                .help("free some room, or let `retention` keep less")
                .retriable(Class::Connect, None),
            Self::TooLarge { .. } => Failure::new("artifact.too_large", Fault::Config, self.to_string())
                .help("raise `max_size`, or ask for less"),
            Self::Over | Self::Failed { .. } => Failure::new("artifact.failed", Fault::Here, self.to_string())
                .help("look at the place that `artifacts` in clawhook.yaml names")
                .retriable(Class::Connect, None),
        }
    }
}

/// A place for artifacts.
#[async_trait]
pub trait ArtifactStore: Send + Sync + fmt::Debug {
    /// Begins to write. Nothing is there before `Sink::publish`.
    async fn create(&self, id: &ArtifactId) -> Result<Box<dyn Sink>, Error>;

    /// Begins to read.
    async fn open(&self, id: &ArtifactId) -> Result<Box<dyn Source>, Error>;

    /// Runs that have artifacts, oldest first, behind `after`; at most `limit` and fewer when a page ends early, none
    /// when there are no more.
    async fn runs(&self, after: Option<RunId>, limit: usize) -> Result<Vec<RunId>, Error>;

    /// Removes all artifacts of a run. None is fine.
    async fn remove(&self, run: RunId) -> Result<(), Error>;

    /// Removes what writes that were cut off before this moment left behind.
    async fn tidy(&self, before: Timestamp) -> Result<usize, Error>;

    /// Names of the stores whose runs have artifacts here, as `add_store` left them; at most
    /// [`limits::ARTIFACT_STORES_MAX`].
    async fn stores(&self) -> Result<Vec<String>, Error>;

    /// Leaves the name of a store, ASCII letters and digits, for all who share the place. Doing it again is fine.
    async fn add_store(&self, name: &str) -> Result<(), Error>;

    /// Whether every gateway on a shared store reaches what another one wrote here.
    fn shared(&self) -> bool;

    /// Where a person finds the name that `add_store` left.
    fn place_of_store(&self, name: &str) -> String;
}

/// An artifact being written. What is dropped before it is published was never there.
#[async_trait]
pub trait Sink: Send {
    /// Adds bytes, at most [`limits::ARTIFACT_PIECE_BYTES`] at once.
    async fn write(&mut self, piece: Bytes) -> Result<(), Error>;
    /// Makes it durable and there.
    async fn publish(self: Box<Self>) -> Result<(), Error>;
}

/// An artifact being read.
#[async_trait]
pub trait Source: Send {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Error>;
}

/// What `artifacts` in clawhook.yaml says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub place: Place,
    /// Bodies and tables up to this many bytes of JSON stay in the log (`limits.inline_max`).
    pub inline_bytes_max: usize,
    /// A folder of this machine for files that nobody needs after a crash.
    pub scratch: PathBuf,
}

/// Where artifacts are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Folder(PathBuf),
    Blob(Container),
}

/// A container of Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The storage account, such as `https://orders.blob.core.windows.net`, without a slash at its end.
    pub endpoint: String,
    pub container: String,
    /// A shared access signature; the identity of `azure` when absent.
    pub sas: Option<SecretRef>,
}

/// The artifacts of one gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    store: Arc<dyn ArtifactStore>,
    inline_bytes_max: usize,
    keeps_outputs: bool,
    scratch: Arc<Path>,
}

impl Artifacts {
    /// Opens the place that the settings name. Nothing is made or called before it is needed.
    pub fn open(settings: Settings, azure: Arc<Azure>, secrets: Arc<dyn Secrets>) -> Self {
        let store: Arc<dyn ArtifactStore> = match settings.place {
            Place::Folder(folder) => Arc::new(folder::Folder::new(folder)),
            Place::Blob(container) => Arc::new(azure_blob::BlobArtifacts::new(container, azure, secrets)),
        };
        Self::over(store, settings.inline_bytes_max, &settings.scratch)
    }

    /// Artifacts in this place.
    pub fn over(store: Arc<dyn ArtifactStore>, inline_bytes_max: usize, scratch: &Path) -> Self {
        Self { store, inline_bytes_max, keeps_outputs: true, scratch: scratch.into() }
    }

    /// Artifacts in a folder, with the default bounds.
    pub fn in_folder(folder: &Path) -> Self {
        let store = Arc::new(folder::Folder::new(folder.to_owned()));
        Self::over(store, limits::INLINE_BYTES_MAX, &folder.join("scratch"))
    }

    /// The same with another bound for what stays in the log.
    #[must_use]
    pub fn inline(mut self, bytes_max: usize) -> Self {
        self.inline_bytes_max = bytes_max;
        self
    }

    /// The same for runs that nothing outlives: what tasks give stays in their logs, whatever its size.
    #[must_use]
    pub fn outputs_inline(mut self) -> Self {
        self.keeps_outputs = false;
        self
    }

    /// Whether what tasks give is kept here when it is too large for a log.
    pub fn keeps_outputs(&self) -> bool {
        self.keeps_outputs
    }

    /// Bodies and tables up to this many bytes of JSON stay in the log.
    pub fn inline_bytes_max(&self) -> usize {
        self.inline_bytes_max
    }

    /// A folder of this machine for files that nobody needs after a crash; it may not be there yet.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The place behind it, for upkeep.
    pub fn store(&self) -> &dyn ArtifactStore {
        self.store.as_ref()
    }

    /// Begins an artifact of `run` of at most `bytes_max` bytes.
    pub async fn writer(&self, run: RunId, bytes_max: u64) -> Result<Writer, Error> {
        let id = ArtifactId::of(run);
        Ok(Writer::new(self.store.create(&id).await?, id, bytes_max))
    }

    /// Begins to read an artifact; at its end, what was read is held against the handle.
    pub async fn reader(&self, handle: &Handle) -> Result<Reader, Error> {
        Ok(Reader::new(self.store.open(&handle.artifact).await?, handle.clone()))
    }
}

/// No artifacts at all: every write says so.
impl Default for Artifacts {
    fn default() -> Self {
        let nowhere = PathBuf::from("/dev/null/artifacts");
        Self::in_folder(&nowhere)
    }
}
