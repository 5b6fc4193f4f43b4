//! The one way to the container: every call is bounded in time and in number, conditions that were not met come back as
//! data, and a storage that does not answer is left alone for a moment, so that callers are told at once.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::policies::Policy;
use azure_core::http::{ExponentialRetryOptions, RetryOptions, StatusCode, Url};
use azure_storage_blob::models::{
    AppendBlobClientAppendBlockOptions, AppendBlobClientAppendBlockResultHeaders, AppendBlobClientCreateOptions,
    AppendBlobClientCreateResultHeaders, BlobClientDeleteOptions, BlobClientDownloadOptions,
    BlobClientGetPropertiesResultHeaders, BlobContainerClientListBlobsOptions, BlockBlobClientUploadOptions, HttpRange,
    ListBlobsIncludeItem,
};
use azure_storage_blob::{BlobContainerClient, BlobContainerClientOptions};
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::{BlobPlace, Error};
use crate::azure::{self, Azure};
use crate::clock::Timestamp;
use crate::domain::secret::Secrets;
use crate::limits;

/// Why a call did not do what it was asked.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// There is no such blob.
    Missing,
    /// There is one already.
    Exists,
    /// It changed since it was read, or another append came first.
    Unmet,
    /// The append blob has as many blocks as it may have.
    Blocks,
    /// Anything else.
    Other(Error),
}

impl Trouble {
    /// The error for a caller who expected no condition to fail.
    pub(crate) fn into_error(self, doing: &'static str) -> Error {
        let why = match self {
            Self::Other(error) => return error,
            Self::Missing => "a blob is missing that should be there",
            Self::Exists => "a blob is there that should not be",
            Self::Unmet => "a blob changed under its writer time and again",
            Self::Blocks => "a blob has too many blocks",
        };
        Error::Failed { doing, why: why.into() }
    }
}

/// What a write wants of the blob before it.
#[derive(Debug, Clone)]
pub(crate) enum Only {
    /// Nothing.
    Always,
    /// That there is none.
    New,
    /// That it is still the one with this tag.
    Same(String),
}

/// A blob as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
    pub(crate) metadata: HashMap<String, String>,
}

/// A blob as a list shows it.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) etag: String,
    pub(crate) length: u64,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) metadata: HashMap<String, String>,
}

/// Where an append ended.
#[derive(Debug, Clone)]
pub(crate) struct Appended {
    pub(crate) etag: String,
    pub(crate) blocks: u32,
}

/// A container of Blob Storage.
pub(crate) struct Container {
    place: BlobPlace,
    azure: Arc<Azure>,
    secrets: Arc<dyn Secrets>,
    policies: Vec<Arc<dyn Policy>>,
    client: tokio::sync::Mutex<Option<(Arc<BlobContainerClient>, Instant)>>,
    turns: Semaphore,
    waiting: AtomicUsize,
    /// Until when nobody asks, and why.
    down: Mutex<Option<(Instant, String)>>,
    answered: Mutex<Option<Instant>>,
    call_ms: AtomicU64,
    calls: AtomicU64,
}

impl Container {
    /// Nothing is called yet. `policies` see every try of every request: for tests.
    pub(crate) fn new(
        place: BlobPlace,
        azure: Arc<Azure>,
        secrets: Arc<dyn Secrets>,
        policies: Vec<Arc<dyn Policy>>,
    ) -> Self {
        Self {
            place,
            azure,
            secrets,
            policies,
            client: tokio::sync::Mutex::default(),
            turns: Semaphore::new(limits::BLOB_CALLS_MAX),
            waiting: AtomicUsize::new(0),
            down: Mutex::new(None),
            answered: Mutex::new(None),
            call_ms: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// Where it is, for messages.
    pub(crate) fn address(&self) -> String {
        format!("{}/{}", self.place.endpoint, self.place.container)
    }

    /// Calls that wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How long the last call took, milliseconds.
    pub(crate) fn call_ms(&self) -> u64 {
        self.call_ms.load(Ordering::Relaxed)
    }

    /// Calls so far: what the storage account bills, when no try had to be repeated.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether a call was answered within this time.
    pub(crate) fn answered_within(&self, time: Duration) -> bool {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() <= time)
    }

    /// Whether the last call was not answered.
    pub(crate) fn is_down(&self) -> bool {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Makes sure that the container is there, creating it when it may.
    pub(crate) async fn open(&self) -> Result<(), Error> {
        let refused = |why: String, help: &str| Error::Open { place: self.address(), why: format!("{why}; {help}") };
        let missing = match self.first_item().await {
            Ok(()) => return Ok(()),
            Err(Refusal::Gone) => true,
            Err(Refusal::Forbidden(why)) => {
                let help = match &self.place.sas {
                    Some(_) => {
                        "check that the signature is valid and has the rights to read, add, create, write, delete and list"
                    }
                    None => {
                        "give the identity the role `Storage Blob Data Contributor` on the container; a new role counts after some minutes"
                    }
                };
                return Err(refused(why, help));
            }
            Err(Refusal::Other(why)) => {
                return Err(refused(why, "check `storage.endpoint`, and that this machine reaches it"));
            }
        };
        let client = self.client("opening").await.map_err(|trouble| trouble.into_error("opening"))?;
        match self.bounded(client.create(None)).await {
            Ok(_) => Ok(()),
            Err(Tried::Late) => Err(refused("it did not answer".into(), "check `storage.endpoint`")),
            Err(Tried::Error(error)) if error.http_status() == Some(StatusCode::Conflict) && missing => Ok(()),
            Err(Tried::Error(error)) => Err(refused(
                format!("the container is missing and could not be created: {}", azure::chain(&error)),
                "create the container, or give the identity the role `Storage Blob Data Contributor` on the account",
            )),
        }
    }

    /// Writes a whole blob in one call, and answers its tag.
    pub(crate) async fn put(
        &self,
        doing: &'static str,
        name: &str,
        bytes: Bytes,
        only: Only,
        metadata: HashMap<String, String>,
    ) -> Result<String, Trouble> {
        let client = self.client(doing).await?;
        let options = BlockBlobClientUploadOptions {
            blob_content_type: Some("application/octet-stream".to_owned()),
            if_none_match: matches!(only, Only::New).then(|| "*".into()),
            if_match: if let Only::Same(etag) = &only { Some(etag.as_str().into()) } else { None },
            metadata: Some(metadata).filter(|metadata| !metadata.is_empty()),
            partition_size: NonZero::new(limits::BLOB_PART_BYTES),
            ..BlockBlobClientUploadOptions::default()
        };
        let blob = client.blob_client(name);
        let done = self.call(doing, blob.upload(bytes.into(), Some(options))).await;
        match done {
            Ok(done) => Ok(done.etag.map(String::from).unwrap_or_default()),
            Err(Trouble::Unmet) if matches!(only, Only::New) => Err(Trouble::Exists),
            Err(Trouble::Missing) if matches!(only, Only::Same(_)) => Err(Trouble::Unmet),
            Err(trouble) => Err(trouble),
        }
    }

    /// Creates an empty append blob when there is none, and answers its tag.
    pub(crate) async fn create_log(&self, doing: &'static str, name: &str) -> Result<String, Trouble> {
        let client = self.client(doing).await?.blob_client(name).append_blob_client();
        let options = AppendBlobClientCreateOptions::default().if_not_exists();
        match self.call(doing, client.create(Some(options))).await {
            Ok(done) => Ok(done.etag().ok().flatten().map(String::from).unwrap_or_default()),
            Err(Trouble::Unmet) => Err(Trouble::Exists),
            Err(trouble) => Err(trouble),
        }
    }

    /// Adds bytes at exactly this position, and only to the blob with this tag when one is given.
    pub(crate) async fn append(
        &self,
        doing: &'static str,
        name: &str,
        bytes: Bytes,
        position: u64,
        etag: Option<&str>,
    ) -> Result<Appended, Trouble> {
        let client = self.client(doing).await?.blob_client(name).append_blob_client();
        let options = AppendBlobClientAppendBlockOptions {
            append_position: Some(i64::try_from(position).unwrap_or(i64::MAX)),
            if_match: etag.map(Into::into),
            ..AppendBlobClientAppendBlockOptions::default()
        };
        let length = bytes.len() as u64;
        let done = self.call(doing, client.append_block(bytes.into(), length, Some(options)));
        let done = done.await?;
        Ok(Appended {
            etag: done.etag().ok().flatten().map(String::from).unwrap_or_default(),
            blocks: done.blob_committed_block_count().ok().flatten().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        })
    }

    /// Reads a blob from this byte on.
    pub(crate) async fn get(&self, doing: &'static str, name: &str, from: u64) -> Result<Option<Blob>, Trouble> {
        let client = self.client(doing).await?.blob_client(name);
        let options = BlobClientDownloadOptions {
            partition_size: NonZero::new(usize::try_from(limits::BLOB_PART_BYTES).unwrap_or(usize::MAX)),
            range: (from > 0).then(|| HttpRange::from_offset(from)),
            ..BlobClientDownloadOptions::default()
        };
        let read = async {
            let found = client.download(Some(options)).await?;
            let etag = found.properties.etag.map(String::from).unwrap_or_default();
            Ok(Blob { bytes: found.body.collect().await?, etag, metadata: found.properties.metadata })
        };
        match self.call(doing, read).await {
            Ok(blob) => Ok(Some(blob)),
            Err(Trouble::Missing) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// Reads what is known of a blob without its bytes.
    pub(crate) async fn head(&self, doing: &'static str, name: &str) -> Result<Option<Blob>, Trouble> {
        let client = self.client(doing).await?.blob_client(name);
        match self.call(doing, client.get_properties(None)).await {
            Ok(found) => Ok(Some(Blob {
                bytes: Bytes::new(),
                etag: found.etag().ok().flatten().map(String::from).unwrap_or_default(),
                metadata: found.metadata().unwrap_or_default(),
            })),
            Err(Trouble::Missing) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// Deletes a blob, only the one with this tag when one is given. One that is gone is fine.
    pub(crate) async fn delete(&self, doing: &'static str, name: &str, etag: Option<&str>) -> Result<(), Trouble> {
        let client = self.client(doing).await?.blob_client(name);
        let options = BlobClientDeleteOptions { if_match: etag.map(Into::into), ..BlobClientDeleteOptions::default() };
        match self.call(doing, client.delete(Some(options))).await {
            Ok(_) | Err(Trouble::Missing) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    /// All blobs whose names start so, in order of their names: for lists that are short.
    pub(crate) async fn list(&self, doing: &'static str, prefix: &str, metadata: bool) -> Result<Vec<Item>, Trouble> {
        let (mut items, mut marker) = (Vec::new(), None);
        loop {
            let (page, next) = self.list_page(doing, prefix, metadata, marker).await?;
            items.extend(page);
            if next.is_none() {
                return Ok(items);
            }
            marker = next;
        }
    }

    /// A page of blobs whose names start so, and where the next one begins.
    pub(crate) async fn list_page(
        &self,
        doing: &'static str,
        prefix: &str,
        metadata: bool,
        marker: Option<String>,
    ) -> Result<(Vec<Item>, Option<String>), Trouble> {
        let client = self.client(doing).await?;
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(prefix.to_owned()),
            marker,
            include: metadata.then(|| vec![ListBlobsIncludeItem::Metadata]),
            ..BlobContainerClientListBlobsOptions::default()
        };
        let page = async {
            let page = client.list_blobs(Some(options))?.into_pages().try_next().await?;
            page.map(azure_core::http::Response::into_model).transpose()
        };
        let Some(page) = self.call(doing, page).await? else { return Ok((Vec::new(), None)) };
        let items = page.blob_items.into_iter().filter_map(item).collect();
        Ok((items, page.next_marker.filter(|marker| !marker.is_empty())))
    }

    async fn first_item(&self) -> Result<(), Refusal> {
        let client = self.client("opening").await.map_err(|trouble| match trouble.into_error("opening") {
            Error::Failed { why, .. } | Error::Open { why, .. } => Refusal::Other(why),
            error => Refusal::Other(error.to_string()),
        })?;
        let options = BlobContainerClientListBlobsOptions {
            maxresults: Some(1),
            ..BlobContainerClientListBlobsOptions::default()
        };
        let page = async { client.list_blobs(Some(options))?.into_pages().try_next().await.map(|_| ()) };
        match self.bounded(page).await {
            Ok(()) => Ok(()),
            Err(Tried::Late) => Err(Refusal::Other("it did not answer".into())),
            Err(Tried::Error(error)) => Err(match error.http_status() {
                Some(StatusCode::NotFound) => Refusal::Gone,
                Some(StatusCode::Forbidden | StatusCode::Unauthorized) => Refusal::Forbidden(azure::chain(&error)),
                _ => Refusal::Other(azure::chain(&error)),
            }),
        }
    }

    /// The client; made anew from time to time when its right comes from a signature, which may be rotated.
    async fn client(&self, doing: &'static str) -> Result<Arc<BlobContainerClient>, Trouble> {
        let failed = |why: String| Trouble::Other(Error::Failed { doing, why });
        let mut kept = self.client.lock().await;
        if let Some((client, made)) = kept.as_ref()
            && (self.place.sas.is_none() || made.elapsed() < limits::SECRET_TTL)
        {
            return Ok(Arc::clone(client));
        }
        let mut url = Url::parse(&self.address()).map_err(|error| failed(error.to_string()))?;
        let mut credential = None;
        match &self.place.sas {
            Some(reference) => {
                let sas = self.secrets.resolve(reference).await.map_err(|error| failed(error.to_string()))?;
                let sas = std::str::from_utf8(sas.expose()).unwrap_or_default().trim();
                url.set_query(Some(sas.trim_start_matches('?')));
            }
            None => credential = Some(self.azure.credential().map_err(|error| failed(error.to_string()))?),
        }
        let mut options = self.azure.client_options().map_err(|error| failed(error.to_string()))?;
        options.retry = RetryOptions::exponential(ExponentialRetryOptions {
            max_retries: limits::AZURE_RETRIES_MAX,
            max_total_elapsed: azure_core::time::Duration::seconds(limits::BLOB_RETRY_MAX.as_secs().cast_signed()),
            ..ExponentialRetryOptions::default()
        });
        options.per_try_policies.extend(self.policies.iter().cloned());
        let options = BlobContainerClientOptions { client_options: options, ..BlobContainerClientOptions::default() };
        let client =
            BlobContainerClient::new(url, credential, Some(options)).map_err(|error| failed(azure::chain(&error)))?;
        let client = Arc::new(client);
        *kept = Some((Arc::clone(&client), Instant::now()));
        Ok(client)
    }

    async fn call<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = azure_core::Result<T>>,
    ) -> Result<T, Trouble> {
        self.check_up(doing)?;
        let waiting = Waiting::enter(&self.waiting)
            .ok_or_else(|| Trouble::Other(Error::Full("too many calls to Blob Storage wait already".into())))?;
        let turn = self.turns.acquire().await;
        drop(waiting);
        // While it waited the storage may have gone.
        self.check_up(doing)?;
        let started = Instant::now();
        self.calls.fetch_add(1, Ordering::Relaxed);
        let done = self.bounded(call).await;
        drop(turn);
        self.call_ms.store(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let (trouble, alive) = match done {
            Ok(value) => {
                self.note_up();
                return Ok(value);
            }
            Err(Tried::Late) => (late(doing), false),
            Err(Tried::Error(error)) => {
                if matches!(error.http_status(), Some(StatusCode::Forbidden | StatusCode::Unauthorized)) {
                    // The signature may have been rotated: the next call asks for it again.
                    *self.client.lock().await = None;
                }
                sort(doing, &error)
            }
        };
        if alive {
            self.note_up();
        } else if let Trouble::Other(Error::Failed { why, .. }) = &trouble {
            let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
            *down = Some((Instant::now() + limits::BLOB_PAUSE, why.clone()));
        }
        Err(trouble)
    }

    fn check_up(&self, doing: &'static str) -> Result<(), Trouble> {
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        match &*down {
            Some((until, why)) if Instant::now() < *until => {
                Err(Trouble::Other(Error::Failed { doing, why: format!("a moment ago: {why}") }))
            }
            _ => Ok(()),
        }
    }

    fn note_up(&self) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    async fn bounded<T>(&self, call: impl Future<Output = azure_core::Result<T>>) -> Result<T, Tried> {
        match tokio::time::timeout(limits::BLOB_CALL_MAX, call).await {
            Ok(done) => done.map_err(Tried::Error),
            Err(_) => Err(Tried::Late),
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Container({})", self.address())
    }
}

enum Refusal {
    Gone,
    Forbidden(String),
    Other(String),
}

enum Tried {
    Late,
    Error(azure_core::Error),
}

/// One of those who wait for a turn.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < limits::BLOB_CALLS_QUEUED_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn late(doing: &'static str) -> Trouble {
    let why = format!("Blob Storage did not answer within {} s", limits::BLOB_CALL_MAX.as_secs());
    Trouble::Other(Error::Failed { doing, why })
}

/// What an error means, and whether the storage is alive all the same.
/// <https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>
fn sort(doing: &'static str, error: &azure_core::Error) -> (Trouble, bool) {
    let code = match error.kind() {
        ErrorKind::HttpResponse { error_code, .. } => error_code.as_deref().unwrap_or_default(),
        _ => "",
    };
    let other = || Trouble::Other(Error::Failed { doing, why: azure::chain(error) });
    match error.http_status() {
        Some(StatusCode::NotFound) if code != "ContainerNotFound" => (Trouble::Missing, true),
        Some(StatusCode::Conflict) if code == "BlobAlreadyExists" => (Trouble::Exists, true),
        Some(StatusCode::Conflict) if code == "BlockCountExceedsLimit" => (Trouble::Blocks, true),
        Some(StatusCode::PreconditionFailed) => (Trouble::Unmet, true),
        Some(status) => (other(), !status.is_server_error()),
        None => (other(), false),
    }
}

fn item(item: azure_storage_blob::models::BlobItem) -> Option<Item> {
    let properties = item.properties?;
    Some(Item {
        name: item.name?,
        etag: properties.etag.map(String::from).unwrap_or_default(),
        length: properties.content_length.unwrap_or(0),
        modified: properties.last_modified.map(|at| Timestamp::from_secs(at.unix_timestamp())),
        metadata: item.metadata.and_then(|metadata| metadata.values).unwrap_or_default(),
    })
}
