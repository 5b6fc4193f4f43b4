//! `auth: { type: header, header: X-Api-Key, secret_ref: … }`: a secret in a header of its own.

use async_trait::async_trait;
use serde::Deserialize;

use super::{Auth, AuthKind, Error, Means, Proof, put_secret};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::id::SecretName;
use crate::outbound::request::Request;

pub(super) const KIND: AuthKind = AuthKind::of::<Header>("header", "Send a secret in a header of your choice.");

/// A secret in a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Settings")]
pub struct Header {
    /// The header's name.
    pub name: String,
    /// Its value; `prefix` puts text before the secret.
    pub value: SecretRef,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    header: String,
    secret_ref: SecretName,
    prefix: Option<String>,
    version: Option<String>,
    field: Option<String>,
}

impl From<Settings> for Header {
    fn from(settings: Settings) -> Self {
        let Settings { header, secret_ref: name, prefix, version, field } = settings;
        Self { name: header, value: SecretRef { name, prefix, version, field } }
    }
}

#[async_trait]
impl Auth for Header {
    fn secrets(&self) -> Vec<&SecretRef> {
        vec![&self.value]
    }

    async fn apply(&self, request: &mut Request, with: &Means<'_>, masker: &mut Masker) -> Result<Proof, Error> {
        let value = with.secret(&self.value, masker).await?;
        put_secret(request, &self.name, value.expose(), &self.value)?;
        Ok(Proof::Fixed)
    }
}
