//! `auth: { type: basic, username: …, secret_ref: … }`: user and password (RFC 7617).

use async_trait::async_trait;
use data_encoding::BASE64;
use serde::Deserialize;

use super::{Auth, AuthKind, Error, Means, Proof, put_secret};
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretRef, SecretValue};
use crate::id::SecretName;
use crate::outbound::request::Request;
use crate::outbound::token::Text;

pub(super) const KIND: AuthKind = AuthKind::of::<Basic>("basic", "Send a user name and a secret password.");

/// User and password in `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Settings")]
pub struct Basic {
    /// The user name; RFC 7617 does not let it hold a colon.
    pub(super) username: Text,
    /// The password.
    pub password: SecretRef,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    username: Text,
    secret_ref: SecretName,
    version: Option<String>,
    field: Option<String>,
}

impl From<Settings> for Basic {
    fn from(settings: Settings) -> Self {
        let Settings { username, secret_ref: name, version, field } = settings;
        Self { username, password: SecretRef { name, prefix: None, version, field } }
    }
}

#[async_trait]
impl Auth for Basic {
    fn secrets(&self) -> Vec<&SecretRef> {
        self.username.secret().into_iter().chain([&self.password]).collect()
    }

    async fn apply(&self, request: &mut Request, with: &Means<'_>, masker: &mut Masker) -> Result<Proof, Error> {
        let user = with.read(&self.username, masker).await?;
        if user.contains(&b':') {
            let why = "the user name holds a `:`, which ends it (RFC 7617)".to_owned();
            return Err(Error::Unfit { secret: self.password.clone(), why });
        }
        let password = with.secret(&self.password, masker).await?;
        let credential = basic_credential(&user, password.expose(), &self.password, masker);
        put_secret(request, "authorization", credential.as_bytes(), &self.password)?;
        Ok(Proof::Fixed)
    }
}

/// `Basic …` of a user and a password. A short password is not found inside the credential, so the masker learns the
/// credential as a secret of its own.
pub(in crate::outbound) fn basic_credential(
    user: &[u8],
    password: &[u8],
    from: &SecretRef,
    masker: &mut Masker,
) -> String {
    let pair = [user, b":".as_slice(), password].concat();
    let credential = BASE64.encode(&pair);
    masker.add(&from.name, &SecretValue::new(pair));
    masker.add(&from.name, &SecretValue::new(credential.clone()));
    format!("Basic {credential}")
}
