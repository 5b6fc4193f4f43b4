//! A container of Azure Blob Storage as a place: block blobs, whose blocks are staged one by one and become the blob in
//! one call. <https://learn.microsoft.com/rest/api/storageservices/put-block-list>

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::headers::HeaderName;
use azure_core::http::{StatusCode, Url};
use azure_core::time::OffsetDateTime;
use azure_storage_blob::models::{
    BlobClientDownloadOptions, BlobClientGetPropertiesResultHeaders as _, BlockBlobClientCommitBlockListOptions,
    BlockLookupList, KeyInfo,
};
use azure_storage_blob::{
    BlobContainerClient, BlobContainerClientOptions, BlobServiceClient, BlobServiceClientOptions, BlockBlobClient,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::sas::{self, Delegated, Grant};
use super::{BlobPath, Container, Content, Error, Found, Label, Proof, Shelf, Upload};
use crate::azure::{self, Azure};
use crate::clock::{Clock, Timestamp};
use crate::domain::secret::{SecretRef, Secrets};
use crate::limits;

/// What helps when we are not let in.
const RIGHTS: &str =
    "give the identity `Storage Blob Data Contributor` on the container, or correct the secret of the place";
/// What helps when the container is not there.
const NO_CONTAINER: &str = "make the container, or correct `container` of the place in clawhook.yaml";
/// What helps when the identity gets no key for links.
const DELEGATOR: &str =
    "links want the role `Storage Blob Delegator` on the storage account, beside the one on the container";

/// A container.
pub(super) struct OpenContainer {
    place: Container,
    azure: Arc<Azure>,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for OpenContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenContainer({}/{})", self.place.endpoint, self.place.container)
    }
}

/// What was being done to which file, for errors.
#[derive(Clone, Copy)]
struct Doing<'a>(&'static str, &'a BlobPath);

impl Doing<'_> {
    fn failed(self, why: impl Into<String>) -> Error {
        Error::Failed { doing: self.0, path: self.1.to_string(), why: why.into() }
    }

    fn refused(self, why: impl Into<String>, help: &'static str) -> Error {
        Error::Refused { doing: self.0, path: self.1.to_string(), why: why.into(), help }
    }

    /// Waits for a call, but not longer than [`limits::AZURE_CALL_MAX`].
    async fn call<T>(self, call: impl Future<Output = azure_core::Result<T>>) -> Result<T, Refusal> {
        let Ok(done) = tokio::time::timeout(limits::AZURE_CALL_MAX, call).await else {
            let why = format!("no answer within {} s", limits::AZURE_CALL_MAX.as_secs());
            return Err(Refusal { status: None, code: String::new(), error: self.failed(why) });
        };
        done.map_err(|error| self.refusal(&error))
    }

    fn refusal(self, error: &azure_core::Error) -> Refusal {
        let code = match error.kind() {
            azure_core::error::ErrorKind::HttpResponse { error_code: Some(code), .. } => code.clone(),
            _ => String::new(),
        };
        let (status, why) = (error.http_status(), azure::chain(error));
        let error = match status {
            Some(StatusCode::Unauthorized | StatusCode::Forbidden) => self.refused(why, RIGHTS),
            Some(StatusCode::NotFound) if code != "BlobNotFound" => self.refused(why, NO_CONTAINER),
            Some(StatusCode::Conflict) if code == "InvalidBlobType" => {
                self.refused(why, "a blob of another type lies there: write another path")
            }
            Some(StatusCode::BadRequest) if code != INVALID_BLOCKS => {
                self.refused(why, "correct the path or the metadata")
            }
            _ => self.failed(why),
        };
        Refusal { status, code, error }
    }
}

/// Somebody else's write took our blocks away.
const INVALID_BLOCKS: &str = "InvalidBlockList";

/// A call that did not do what it should.
struct Refusal {
    status: Option<StatusCode>,
    code: String,
    error: Error,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

impl OpenContainer {
    pub(super) fn new(place: Container, azure: Arc<Azure>, secrets: Arc<dyn Secrets>, clock: Arc<dyn Clock>) -> Self {
        Self { place, azure, secrets, clock }
    }

    async fn secret(&self, reference: &SecretRef, doing: Doing<'_>) -> Result<String, Error> {
        let value = self.secrets.resolve(reference).await.map_err(|error| doing.failed(error.to_string()))?;
        Ok(String::from_utf8_lossy(value.expose()).trim().to_owned())
    }

    async fn account_key(&self, reference: &SecretRef, doing: Doing<'_>) -> Result<Vec<u8>, Error> {
        let bad = |why: &str| {
            let why = format!("the secret `{}` is no key of a storage account: {why}", reference.name);
            doing.refused(why, "put the key, or the connection string, of the account into the secret")
        };
        sas::account_key(&self.secret(reference, doing).await?).map_err(bad)
    }

    /// What a signature of ours is for.
    fn grant<'g>(
        &'g self,
        account: &'g str,
        blob: Option<&'g str>,
        permissions: &'g str,
        from: Timestamp,
        until: Timestamp,
    ) -> Grant<'g> {
        let Container { endpoint, container, .. } = &self.place;
        Grant { account, container, blob, permissions, from, until, tls_only: endpoint.starts_with("https:") }
    }

    fn account(&self, doing: Doing<'_>) -> Result<String, Error> {
        let none = || doing.refused("`endpoint` names no account", "correct `endpoint` of the place in clawhook.yaml");
        sas::account(&self.place.endpoint).ok_or_else(none)
    }

    /// A client; made anew each time, so that a secret that was rotated is used at once. Tokens are kept by `azure`.
    async fn client(&self, doing: Doing<'_>) -> Result<BlobContainerClient, Error> {
        let failed = |why: String| doing.failed(why);
        let address = format!("{}/{}", self.place.endpoint, self.place.container);
        let mut url = Url::parse(&address).map_err(|error| failed(error.to_string()))?;
        let mut credential = None;
        match &self.place.proof {
            Proof::Identity => credential = Some(self.azure.credential().map_err(|error| failed(error.to_string()))?),
            Proof::Sas(reference) => {
                let signature = self.secret(reference, doing).await?;
                url.set_query(Some(signature.trim_start_matches('?')));
            }
            Proof::Key(reference) => {
                let (key, account) = (self.account_key(reference, doing).await?, self.account(doing)?);
                let now = self.clock.now();
                let (from, until) = (now.minus(limits::PLACE_CLOCK_SKEW), now.plus(limits::PLACE_SIGNED_FOR));
                // Read, add, create, write.
                url.set_query(Some(&self.grant(&account, None, "racw", from, until).by_account(&key)));
            }
        }
        let client_options = self.azure.client_options().map_err(|error| failed(error.to_string()))?;
        let options = BlobContainerClientOptions { client_options, ..BlobContainerClientOptions::default() };
        BlobContainerClient::new(url, credential, Some(options)).map_err(|error| failed(azure::chain(&error)))
    }

    /// A key of the identity for links, good until then.
    async fn delegated(&self, doing: Doing<'_>, from: Timestamp, until: Timestamp) -> Result<Delegated, Error> {
        let url = Url::parse(&self.place.endpoint).map_err(|error| doing.failed(error.to_string()))?;
        let credential = self.azure.credential().map_err(|error| doing.failed(error.to_string()))?;
        let client_options = self.azure.client_options().map_err(|error| doing.failed(error.to_string()))?;
        let options = BlobServiceClientOptions { client_options, ..BlobServiceClientOptions::default() };
        let wrong = |error: azure_core::Error| doing.failed(azure::chain(&error));
        let client = BlobServiceClient::new(url, Some(credential), Some(options)).map_err(wrong)?;
        let at = |at: Timestamp| OffsetDateTime::from_unix_timestamp(at.as_secs()).ok();
        let asked = KeyInfo { start: at(from), expiry: at(until), ..KeyInfo::default() };
        let asked = asked.try_into().map_err(wrong)?;
        let answer = doing.call(client.get_user_delegation_key(asked, None)).await.map_err(|refusal| {
            match (refusal.status, refusal.error) {
                (Some(StatusCode::Forbidden), Error::Refused { doing, path, why, .. }) => {
                    Error::Refused { doing, path, why, help: DELEGATOR }
                }
                (_, error) => error,
            }
        })?;
        let key = answer.into_model().map_err(wrong)?;
        let moment = |at: Option<OffsetDateTime>| {
            at.map(|at| sas::moment(Timestamp::from_secs(at.unix_timestamp()))).unwrap_or_default()
        };
        Ok(Delegated {
            object: key.signed_oid.unwrap_or_default(),
            tenant: key.signed_tid.unwrap_or_default(),
            from: moment(key.signed_start),
            until: moment(key.signed_expiry),
            service: key.signed_service.unwrap_or_default(),
            version: key.signed_version.unwrap_or_default(),
            key: key.value.unwrap_or_default(),
        })
    }
}

/// What the service says of a blob. `None` when it says that there is none.
fn missing<T>(answer: Result<T, Refusal>) -> Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(refusal) if refusal.status == Some(StatusCode::NotFound) && refusal.code == "BlobNotFound" => Ok(None),
        Err(refusal) => Err(refusal.error),
    }
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    Timestamp::from_secs(at.unix_timestamp())
}

#[async_trait]
impl Shelf for OpenContainer {
    async fn look(&self, path: &BlobPath) -> Result<Option<Found>, Error> {
        let doing = Doing("look for", path);
        let blob = self.client(doing).await?.blob_client(path.as_str());
        let Some(found) = missing(doing.call(blob.get_properties(None)).await)? else { return Ok(None) };
        let wrong = |error: azure_core::Error| doing.failed(azure::chain(&error));
        Ok(Some(Found {
            bytes: found.content_length().map_err(wrong)?.unwrap_or_default(),
            modified: found.last_modified().map_err(wrong)?.map(timestamp),
            label: Label {
                content_type: found.content_type().map_err(wrong)?.unwrap_or_default(),
                metadata: found.metadata().map_err(wrong)?.into_iter().collect(),
            },
        }))
    }

    async fn begin(&self, path: &BlobPath, _: Timestamp) -> Result<Box<dyn Upload>, Error> {
        let client = self.client(Doing("write", path)).await?.blob_client(path.as_str()).block_blob_client();
        // Blocks of another write under the same name have other ids.
        let token = rand::random();
        let path = path.clone();
        Ok(Box::new(BlockUpload { client, path, token, pending: Vec::new(), pending_bytes: 0, blocks: Vec::new() }))
    }

    async fn open(&self, path: &BlobPath) -> Result<Option<(Found, Box<dyn Content>)>, Error> {
        let doing = Doing("read", path);
        let blob = self.client(doing).await?.blob_client(path.as_str());
        let options = BlobClientDownloadOptions {
            parallel: NonZero::new(1),
            partition_size: NonZero::new(limits::ARTIFACT_BLOCK_BYTES),
            ..BlobClientDownloadOptions::default()
        };
        let Some(found) = missing(doing.call(blob.download(Some(options))).await)? else { return Ok(None) };
        let about = found.properties;
        let label = Label {
            content_type: about.content_type.unwrap_or_default(),
            metadata: about.metadata.into_iter().collect(),
        };
        // A large blob comes in ranges, and the length is that of the first (RFC 9110, section 14.4).
        let range = found.headers.get_optional_str(&HeaderName::from_static("content-range"));
        let whole = range.and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let bytes = whole.or(about.content_length).unwrap_or_default();
        let found_there = Found { bytes, modified: about.last_modified.map(timestamp), label };
        Ok(Some((found_there, Box::new(BlobContent { body: found.body, path: path.clone() }))))
    }

    async fn link(&self, path: &BlobPath, now: Timestamp, until: Timestamp) -> Result<String, Error> {
        let doing = Doing("sign a link to", path);
        let account = self.account(doing)?;
        let from = now.minus(limits::PLACE_CLOCK_SKEW);
        let grant = self.grant(&account, Some(path.as_str()), "r", from, until);
        let query = match &self.place.proof {
            Proof::Key(reference) => grant.by_account(&self.account_key(reference, doing).await?),
            Proof::Identity => grant.by_identity(&self.delegated(doing, from, until).await?),
            Proof::Sas(_) => {
                let why = "a shared access signature signs nothing".to_owned();
                let help = "let the place use the identity (no `sas`), or the `key` of the account";
                return Err(Error::NoLink { path: path.to_string(), why, help });
            }
        };
        Ok(format!("{}/{}/{}?{query}", self.place.endpoint, self.place.container, path.in_url()))
    }
}

struct BlockUpload {
    client: BlockBlobClient,
    path: BlobPath,
    token: u64,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    blocks: Vec<Vec<u8>>,
}

impl BlockUpload {
    async fn stage(&mut self) -> Result<(), Error> {
        let doing = Doing("write", &self.path);
        let block = Bytes::from(self.pending.concat());
        self.pending.clear();
        self.pending_bytes = 0;
        if self.blocks.len() == limits::ARTIFACT_BLOCKS_MAX {
            let why = format!("it has more than {} blocks", limits::ARTIFACT_BLOCKS_MAX);
            return Err(doing.refused(why, "write it in several files"));
        }
        // All ids of one blob have the same length.
        let id = format!("{:016x}-{:08}", self.token, self.blocks.len()).into_bytes();
        let length = block.len() as u64;
        doing.call(self.client.stage_block(&id, length, block.into(), None)).await?;
        self.blocks.push(id);
        Ok(())
    }
}

#[async_trait]
impl Upload for BlockUpload {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.pending_bytes += piece.len();
        self.pending.push(piece);
        if self.pending_bytes >= limits::ARTIFACT_BLOCK_BYTES {
            self.stage().await?;
        }
        Ok(())
    }

    async fn publish(mut self: Box<Self>, label: &Label, replace: bool) -> Result<bool, Error> {
        if self.pending_bytes > 0 {
            self.stage().await?;
        }
        let doing = Doing("write", &self.path);
        let wrong = |error: azure_core::Error| doing.failed(azure::chain(&error));
        let blocks = BlockLookupList { latest: Some(self.blocks.clone()), ..BlockLookupList::default() };
        let options = BlockBlobClientCommitBlockListOptions {
            blob_content_type: Some(label.content_type.clone()),
            metadata: Some(label.metadata.clone().into_iter().collect()),
            if_none_match: (!replace).then(|| "*".into()),
            ..BlockBlobClientCommitBlockListOptions::default()
        };
        let commit = self.client.commit_block_list(blocks.try_into().map_err(wrong)?, Some(options));
        match doing.call(commit).await {
            Ok(_) => Ok(true),
            Err(refusal) if !replace && is_there(&refusal) => Ok(false),
            Err(refusal) => Err(refusal.error),
        }
    }
}

/// Whether a write that wants nothing to be there found something.
fn is_there(refusal: &Refusal) -> bool {
    refusal.status == Some(StatusCode::PreconditionFailed)
        || (refusal.status == Some(StatusCode::Conflict) && refusal.code == "BlobAlreadyExists")
}

struct BlobContent {
    body: azure_core::http::response::AsyncResponseBody,
    path: BlobPath,
}

#[async_trait]
impl Content for BlobContent {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        Ok(Doing("read", &self.path).call(self.body.try_next()).await?)
    }
}
