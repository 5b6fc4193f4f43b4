//! `artifacts` of `clawhook.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::SecretRef;

/// Where bodies and tables are kept that are too large for the record of a run.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// The kind of place; the container of the store with `storage.backend: azure-blob`, otherwise a folder.
    pub store: Option<ArtifactStore>,
    /// The folder, for `store: folder`; `artifacts` in the folder of the store when left out.
    pub path: Option<String>,
    /// The storage account, for `store: azure-blob`, such as `https://orders.blob.core.windows.net`.
    pub endpoint: Option<String>,
    /// The container, for `store: azure-blob`.
    pub container: Option<String>,
    /// A shared access signature, for `store: azure-blob` without an identity.
    pub sas: Option<SecretRef>,
}

/// A kind of place for artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactStore {
    /// A folder of this machine.
    Folder,
    /// A container of Azure Blob Storage.
    AzureBlob,
}
