//! `auth: { type: bearer, secret_ref: … }`: a fixed token (RFC 6750 section 2.1).

use async_trait::async_trait;
use serde::Deserialize;

use super::{Auth, AuthKind, Error, Means, Proof, put_secret};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::id::SecretName;
use crate::outbound::request::Request;

pub(super) const KIND: AuthKind = AuthKind::of::<Bearer>("bearer", "Send a fixed token as `Authorization: Bearer`.");

/// A token in `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Settings")]
pub struct Bearer {
    /// The token, without `Bearer`.
    pub token: SecretRef,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    secret_ref: SecretName,
    version: Option<String>,
    field: Option<String>,
}

impl From<Settings> for Bearer {
    fn from(settings: Settings) -> Self {
        let Settings { secret_ref: name, version, field } = settings;
        Self { token: SecretRef { name, prefix: None, version, field } }
    }
}

#[async_trait]
impl Auth for Bearer {
    fn secrets(&self) -> Vec<&SecretRef> {
        vec![&self.token]
    }

    async fn apply(&self, request: &mut Request, with: &Means<'_>, masker: &mut Masker) -> Result<Proof, Error> {
        let token = with.secret(&self.token, masker).await?;
        let value = [b"Bearer ", token.expose()].concat();
        put_secret(request, "authorization", &value, &self.token)?;
        Ok(Proof::Fixed)
    }
}
