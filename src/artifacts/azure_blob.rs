//! Artifacts in a container of Azure Blob Storage: one block blob each. Its blocks are staged one by one and become the
//! blob in one call, which fails when there is one already; blocks that never do are dropped by the service after a
//! week. <https://learn.microsoft.com/rest/api/storageservices/put-block-list>

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::{StatusCode, Url};
use azure_storage_blob::models::{
    BlobClientDownloadOptions, BlobContainerClientListBlobsOptions, BlockBlobClientCommitBlockListOptions,
    BlockLookupList,
};
use azure_storage_blob::{BlobContainerClient, BlobContainerClientOptions, BlockBlobClient};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{ArtifactId, ArtifactStore, Container, Error, Sink, Source};
use crate::azure::{self, Azure};
use crate::clock::Timestamp;
use crate::domain::secret::Secrets;
use crate::id::RunId;
use crate::limits;

/// Names of blobs begin so; the run's id follows.
const PREFIX: &str = "artifacts/";

/// Names of the empty blobs that tell which stores keep artifacts here begin so; the store's name follows.
const STORES: &str = "artifacts/stores/";

/// Artifacts in a container.
pub struct BlobArtifacts {
    place: Container,
    azure: Arc<Azure>,
    secrets: Arc<dyn Secrets>,
}

impl BlobArtifacts {
    /// Nothing is called yet.
    pub fn new(place: Container, azure: Arc<Azure>, secrets: Arc<dyn Secrets>) -> Self {
        Self { place, azure, secrets }
    }

    /// A client; made anew each time, so that a signature that was rotated is used at once. Tokens are kept by `azure`.
    async fn client(&self, doing: &'static str) -> Result<BlobContainerClient, Error> {
        let failed = |why: String| Error::Failed { doing, why };
        let address = format!("{}/{}", self.place.endpoint, self.place.container);
        let mut url = Url::parse(&address).map_err(|error| failed(error.to_string()))?;
        let mut credential = None;
        match &self.place.sas {
            Some(reference) => {
                let sas = self.secrets.resolve(reference).await.map_err(|error| failed(error.to_string()))?;
                let sas = std::str::from_utf8(sas.expose()).unwrap_or_default().trim();
                url.set_query(Some(sas.trim_start_matches('?')));
            }
            None => credential = Some(self.azure.credential().map_err(|error| failed(error.to_string()))?),
        }
        let client_options = self.azure.client_options().map_err(|error| failed(error.to_string()))?;
        let options = BlobContainerClientOptions { client_options, ..BlobContainerClientOptions::default() };
        BlobContainerClient::new(url, credential, Some(options)).map_err(|error| failed(azure::chain(&error)))
    }
}

impl fmt::Debug for BlobArtifacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobArtifacts({}/{})", self.place.endpoint, self.place.container)
    }
}

fn name(id: &ArtifactId) -> String {
    format!("{PREFIX}{}/{id}", id.run())
}

async fn bounded<T>(doing: &'static str, call: impl Future<Output = azure_core::Result<T>>) -> Result<T, Error> {
    azure::bounded(call).await.map_err(|why| Error::Failed { doing, why })
}

#[async_trait]
impl ArtifactStore for BlobArtifacts {
    async fn create(&self, id: &ArtifactId) -> Result<Box<dyn Sink>, Error> {
        let client = self.client("begin an").await?.blob_client(&name(id)).block_blob_client();
        Ok(Box::new(BlockSink { client, pending: Vec::new(), pending_bytes: 0, blocks: Vec::new() }))
    }

    async fn open(&self, id: &ArtifactId) -> Result<Box<dyn Source>, Error> {
        let client = self.client("read an").await?.blob_client(&name(id));
        let options = BlobClientDownloadOptions {
            parallel: NonZero::new(1),
            partition_size: NonZero::new(limits::ARTIFACT_BLOCK_BYTES),
            ..BlobClientDownloadOptions::default()
        };
        let opened = tokio::time::timeout(limits::AZURE_CALL_MAX, client.download(Some(options))).await;
        match opened {
            Ok(Ok(found)) => Ok(Box::new(BlobSource(found.body))),
            Ok(Err(error)) if error.http_status() == Some(StatusCode::NotFound) => {
                Err(Error::Missing { id: id.clone() })
            }
            Ok(Err(error)) => Err(Error::Failed { doing: "read an", why: azure::chain(&error) }),
            Err(_) => Err(late("read an")),
        }
    }

    async fn runs(&self, after: Option<RunId>, limit: usize) -> Result<Vec<RunId>, Error> {
        let client = self.client("look for an").await?;
        let options =
            BlobContainerClientListBlobsOptions { prefix: Some(format!("{PREFIX}run_")), ..Default::default() };
        let mut runs: Vec<RunId> = Vec::new();
        let doing = "look for an";
        let mut pages = client
            .list_blobs(Some(options))
            .map_err(|error| Error::Failed { doing, why: azure::chain(&error) })?
            .into_pages();
        // Names come in order, so runs do too.
        while let Some(page) = bounded(doing, pages.try_next()).await? {
            let page = page.into_model().map_err(|error| Error::Failed { doing, why: azure::chain(&error) })?;
            for item in page.blob_items {
                let name = item.name.unwrap_or_default();
                let run = name.strip_prefix(PREFIX).and_then(|rest| rest.split('/').next()?.parse().ok());
                let Some(run) = run.filter(|run| after.is_none_or(|after| *run > after)) else { continue };
                if runs.last() != Some(&run) {
                    if runs.len() == limit {
                        return Ok(runs);
                    }
                    runs.push(run);
                }
            }
        }
        Ok(runs)
    }

    async fn remove(&self, run: RunId) -> Result<(), Error> {
        let doing = "remove an";
        let client = self.client(doing).await?;
        let options =
            BlobContainerClientListBlobsOptions { prefix: Some(format!("{PREFIX}{run}/")), ..Default::default() };
        let mut items =
            client.list_blobs(Some(options)).map_err(|error| Error::Failed { doing, why: azure::chain(&error) })?;
        while let Some(item) = bounded(doing, items.try_next()).await? {
            let blob = client.blob_client(&item.name.unwrap_or_default());
            match tokio::time::timeout(limits::AZURE_CALL_MAX, blob.delete(None)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.http_status() == Some(StatusCode::NotFound) => {}
                Ok(Err(error)) => return Err(Error::Failed { doing, why: azure::chain(&error) }),
                Err(_) => return Err(late(doing)),
            }
        }
        Ok(())
    }

    async fn tidy(&self, _: Timestamp) -> Result<usize, Error> {
        // The service drops blocks that no list ever named.
        Ok(0)
    }

    async fn stores(&self) -> Result<Vec<String>, Error> {
        let doing = "look for an";
        let client = self.client(doing).await?;
        let options = BlobContainerClientListBlobsOptions { prefix: Some(STORES.to_owned()), ..Default::default() };
        let mut items =
            client.list_blobs(Some(options)).map_err(|error| Error::Failed { doing, why: azure::chain(&error) })?;
        let mut names = Vec::new();
        while let Some(item) = bounded(doing, items.try_next()).await? {
            names.extend(item.name.as_deref().and_then(|name| name.strip_prefix(STORES)).map(str::to_owned));
            if names.len() == limits::ARTIFACT_STORES_MAX {
                break;
            }
        }
        Ok(names)
    }

    async fn add_store(&self, name: &str) -> Result<(), Error> {
        let doing = "look after an";
        let blob = self.client(doing).await?.blob_client(&format!("{STORES}{name}")).block_blob_client();
        let failed = |error: azure_core::Error| Error::Failed { doing, why: azure::chain(&error) };
        // A list of no blocks is an empty blob; when it is there already, nothing changes.
        let nothing = BlockLookupList { latest: Some(Vec::new()), ..BlockLookupList::default() };
        bounded(doing, blob.commit_block_list(nothing.try_into().map_err(failed)?, None)).await?;
        Ok(())
    }

    fn shared(&self) -> bool {
        true
    }

    fn place_of_store(&self, name: &str) -> String {
        format!("{}/{}/{STORES}{name}", self.place.endpoint, self.place.container)
    }
}

fn late(doing: &'static str) -> Error {
    Error::Failed { doing, why: format!("Blob Storage did not answer within {} s", limits::AZURE_CALL_MAX.as_secs()) }
}

struct BlockSink {
    client: BlockBlobClient,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    blocks: Vec<Vec<u8>>,
}

impl BlockSink {
    async fn stage(&mut self) -> Result<(), Error> {
        let block = Bytes::from(self.pending.concat());
        self.pending.clear();
        self.pending_bytes = 0;
        if self.blocks.len() == limits::ARTIFACT_BLOCKS_MAX {
            return Err(Error::TooLarge {
                bytes_max: (limits::ARTIFACT_BLOCKS_MAX * limits::ARTIFACT_BLOCK_BYTES) as u64,
            });
        }
        // All ids of one blob have the same length.
        let id = format!("{:08}", self.blocks.len()).into_bytes();
        let length = block.len() as u64;
        bounded("write an", self.client.stage_block(&id, length, block.into(), None)).await?;
        self.blocks.push(id);
        Ok(())
    }
}

#[async_trait]
impl Sink for BlockSink {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.pending_bytes += piece.len();
        self.pending.push(piece);
        if self.pending_bytes >= limits::ARTIFACT_BLOCK_BYTES {
            self.stage().await?;
        }
        Ok(())
    }

    async fn publish(mut self: Box<Self>) -> Result<(), Error> {
        let doing = "publish an";
        if self.pending_bytes > 0 {
            self.stage().await?;
        }
        let failed = |error: azure_core::Error| Error::Failed { doing, why: azure::chain(&error) };
        let blocks = BlockLookupList { latest: Some(self.blocks.clone()), ..BlockLookupList::default() };
        let options = BlockBlobClientCommitBlockListOptions {
            if_none_match: Some("*".into()),
            ..BlockBlobClientCommitBlockListOptions::default()
        };
        bounded(doing, self.client.commit_block_list(blocks.try_into().map_err(failed)?, Some(options))).await?;
        Ok(())
    }
}

struct BlobSource(azure_core::http::response::AsyncResponseBody);

#[async_trait]
impl Source for BlobSource {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        bounded("read an", self.0.try_next()).await
    }
}
