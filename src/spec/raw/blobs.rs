//! `blobs` of `clawhook.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::SecretRef;

/// A place for files that people and other systems fetch: a folder, or a container of Blob Storage.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlobPlace {
    /// A folder of this machine, relative to this file; for development, and for one gateway.
    pub folder: Option<String>,
    /// The storage account, such as `https://orders.blob.core.windows.net`.
    pub endpoint: Option<String>,
    /// The container; it is there already.
    pub container: Option<String>,
    /// A shared access signature instead of the identity of `azure`; then there are no links.
    pub sas: Option<SecretRef>,
    /// The key of the account, or its connection string, instead of the identity of `azure`.
    pub key: Option<SecretRef>,
}
