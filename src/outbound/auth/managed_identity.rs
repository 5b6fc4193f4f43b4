//! `auth: { type: managed_identity, scope: … }`: a token of the identity under `azure`, for APIs that take Entra ID's.
//!
//! The token is kept by the identity, for all connections, and asked anew shortly before it ends. One that a far end
//! refuses is not asked again: the identity would give the same one until then, so a 401 means a missing role.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::{Auth, AuthKind, Error, Means, Proof, put_secret};
use crate::azure::Azure;
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretRef, SecretValue};
use crate::id::SecretName;
use crate::outbound::request::Request;

pub(super) const KIND: AuthKind = AuthKind {
    name: "managed_identity",
    summary: "Send a token of this machine's Azure identity as `Authorization: Bearer`.",
    parse: |settings, azure| {
        let Settings { scope } = serde_json::from_value(settings)?;
        let name = SecretName::new(CHIP).map_err(serde::de::Error::custom)?;
        Ok(Arc::new(ManagedIdentity { scope, azure: Arc::clone(azure), shown_as: SecretRef::to(name) }))
    },
};

/// What stands in records where a token was: `[secret:azure-token]`.
const CHIP: &str = "azure-token";

/// A token in `Authorization`.
#[derive(Debug)]
pub struct ManagedIdentity {
    /// Whom the token is for, such as `https://management.azure.com/.default`.
    scope: String,
    azure: Arc<Azure>,
    shown_as: SecretRef,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    scope: String,
}

#[async_trait]
impl Auth for ManagedIdentity {
    fn secrets(&self) -> Vec<&SecretRef> {
        Vec::new()
    }

    async fn apply(&self, request: &mut Request, _: &Means<'_>, masker: &mut Masker) -> Result<Proof, Error> {
        let token = self.azure.token(&self.scope).await?;
        let token = SecretValue::new(token.token.secret());
        masker.add(&self.shown_as.name, &token);
        let value = [b"Bearer ", token.expose()].concat();
        put_secret(request, "authorization", &value, &self.shown_as)?;
        Ok(Proof::Fixed)
    }
}
