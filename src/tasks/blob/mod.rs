//! Named places for files that people and other systems fetch: a container of Azure Blob Storage, or a folder in
//! development. What lies there is theirs: nothing of it goes with a run. A file is there whole or not at all, it says
//! which task wrote it, and a link to it is signed and ends.

mod container;
mod folder;
mod outlet;
mod path;
mod sas;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;

pub(super) use self::outlet::{Blocking, Outlet, write_failure};
pub use self::path::{BadPath, BlobPath};
use crate::azure::Azure;
use crate::clock::{Clock, Timestamp};
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::secret::{SecretRef, Secrets};
use crate::limits;

/// What `blobs` in clawhook.yaml says, by name.
pub type Places = BTreeMap<String, Place>;

/// A place for files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A container of Azure Blob Storage.
    Container(Container),
}

/// A container, and how it is entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The storage account, such as `https://orders.blob.core.windows.net`, without a slash at its end.
    pub endpoint: String,
    pub container: String,
    pub proof: Proof,
}

/// What opens a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The identity of `azure`.
    Identity,
    /// A shared access signature. It signs nothing, so there are no links.
    Sas(SecretRef),
    /// The key of the account, or its connection string.
    Key(SecretRef),
}

impl Place {
    /// Whether it can give links.
    pub fn gives_links(&self) -> bool {
        !matches!(self, Self::Container(Container { proof: Proof::Sas(_), .. }))
    }
}

/// Why a place does not do what it is asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It lets us not in, or is not there.
    #[error("cannot {doing} `{path}`: {why}")]
    Refused { doing: &'static str, path: String, why: String, help: &'static str },
    /// It does not work for now.
    #[error("cannot {doing} `{path}`: {why}")]
    Failed { doing: &'static str, path: String, why: String },
    /// There is no room.
    #[error("there is no room for `{path}`: {why}")]
    Full { path: String, why: String },
    /// A link cannot be made.
    #[error("there is no link to `{path}`: {why}")]
    NoLink { path: String, why: String, help: &'static str },
    /// Whoever wanted it is gone.
    #[error("the attempt is over")]
    Over,
}

impl Error {
    /// The failure of a task that needed it.
    pub fn failure(&self) -> Failure {
        let told = self.to_string();
        match self {
            Self::Refused { help, .. } => Failure::new("blob.refused", Fault::Config, told).help(*help),
            Self::NoLink { help, .. } => Failure::new("blob.link", Fault::Config, told).help(*help),
            Self::Full { .. } => Failure::new("blob.failed", Fault::Here, told)
                .help("free some room on that disk")
                .retriable(Class::Connect, None),
            Self::Failed { .. } | Self::Over => Failure::new("blob.failed", Fault::Here, told)
                .help("look at the place that `blobs` in clawhook.yaml names")
                .retriable(Class::Connect, None),
        }
    }
}

/// The name of the task and run that wrote a file, in its metadata.
pub(super) const KEY: &str = "clawhook_key";
/// The SHA-256 of a file that we wrote, lower-case hex, in its metadata.
pub(super) const SHA256: &str = "clawhook_sha256";

/// What is said of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    pub content_type: String,
    pub metadata: BTreeMap<String, String>,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Size, bytes.
    pub bytes: u64,
    pub modified: Option<Timestamp>,
    pub label: Label,
}

impl Found {
    /// Whether the task with this idempotency key wrote it.
    pub(super) fn is_by(&self, key: &str) -> bool {
        self.label.metadata.get(KEY).is_some_and(|by| by == key)
    }
}

/// A place, opened.
#[async_trait]
pub(super) trait Shelf: Send + Sync + fmt::Debug {
    /// What lies there under this name.
    async fn look(&self, path: &BlobPath) -> Result<Option<Found>, Error>;

    /// Begins to write. Nothing is there before [`Upload::publish`].
    async fn begin(&self, path: &BlobPath, now: Timestamp) -> Result<Box<dyn Upload>, Error>;

    /// Begins to read.
    async fn open(&self, path: &BlobPath) -> Result<Option<(Found, Box<dyn Content>)>, Error>;

    /// A link by which anybody may read the file until then. It is a secret for as long.
    async fn link(&self, path: &BlobPath, now: Timestamp, until: Timestamp) -> Result<String, Error>;

    /// Whether a link of this place to a file of it, good until then (seconds since 1970), has this signature. Never,
    /// where somebody else serves the links.
    async fn signed(&self, path: &BlobPath, until: i64, signature: &str) -> bool {
        let _ = (path, until, signature);
        false
    }
}

/// A file being written. What is dropped before it is published was never there.
#[async_trait]
pub(super) trait Upload: Send {
    /// Adds bytes.
    async fn write(&mut self, piece: Bytes) -> Result<(), Error>;

    /// Makes it durable and there, with what is said of it. Without `replace` it answers false, and changes nothing,
    /// when there is one already; that one may be our own, when an answer was lost.
    async fn publish(self: Box<Self>, label: &Label, replace: bool) -> Result<bool, Error>;
}

/// A file being read.
#[async_trait]
pub trait Content: Send {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Error>;
}

/// The places that workflows may name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Blobs {
    shelves: Arc<BTreeMap<String, Arc<dyn Shelf>>>,
    /// The address of the door that serves the files of folders.
    door: Arc<OnceLock<String>>,
}

impl Blobs {
    /// Nothing is opened or called yet.
    pub fn new(places: &Places, azure: &Arc<Azure>, secrets: &Arc<dyn Secrets>, clock: &Arc<dyn Clock>) -> Self {
        let door: Arc<OnceLock<String>> = Arc::default();
        let shelf = |(name, place): (&String, &Place)| {
            let shelf: Arc<dyn Shelf> = match place {
                Place::Folder(root) => Arc::new(folder::Folder::new(name, root.clone(), Arc::clone(&door))),
                Place::Container(place) => {
                    let (azure, secrets, clock) = (Arc::clone(azure), Arc::clone(secrets), Arc::clone(clock));
                    Arc::new(container::OpenContainer::new(place.clone(), azure, secrets, clock))
                }
            };
            (name.clone(), shelf)
        };
        Self { shelves: Arc::new(places.iter().map(shelf).collect()), door }
    }

    /// Says where links to files of folders lead: the control door, such as `http://127.0.0.1:8080`. The first word
    /// counts.
    pub fn serve_at(&self, door: &str) {
        let _ = self.door.set(door.trim_end_matches('/').to_owned());
    }

    /// The place of this name.
    pub(super) fn place(&self, name: &str) -> Result<&dyn Shelf, Failure> {
        let files = self.shelves.get(name).ok_or_else(|| {
            let known: Vec<_> = self.shelves.keys().map(|name| format!("`{name}`")).collect();
            let help = if known.is_empty() {
                "add it under `blobs` in clawhook.yaml".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            Failure::new("blob.place", Fault::Config, format!("there is no place `{name}`")).help(help)
        })?;
        Ok(files.as_ref())
    }

    /// The file behind a link of a folder, when the link holds: `until` in seconds since 1970.
    pub async fn by_link(
        &self,
        place: &str,
        path: &str,
        until: i64,
        signature: &str,
        now: Timestamp,
    ) -> Result<Option<(BlobPath, Found, Box<dyn Content>)>, Error> {
        let (Some(files), Ok(path)) = (self.shelves.get(place), BlobPath::read(path)) else { return Ok(None) };
        // The signature first: what a wrong one learns does not depend on the time.
        if !files.signed(&path, until, signature).await || now.as_secs() >= until {
            return Ok(None);
        }
        Ok(files.open(&path).await?.map(|(found, content)| (path, found, content)))
    }

    /// Whether a place can be read, and when `links` says so, whether it signs them. Nothing is written.
    pub async fn examine(&self, place: &str, links: bool, now: Timestamp) -> Result<(), Failure> {
        let (files, path) = (self.place(place)?, BlobPath::probe());
        files.look(&path).await.map_err(|error| error.failure())?;
        if links {
            files.link(&path, now, now.plus(limits::PLACE_CLOCK_SKEW)).await.map_err(|error| error.failure())?;
        }
        Ok(())
    }
}
