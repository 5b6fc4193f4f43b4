//! `auth: { type: basic, username: …, secret_ref: … }`: user and password (RFC 7617).

use async_trait::async_trait;
use data_encoding::BASE64;
use serde::Deserialize;

use super::{Auth, AuthKind, Error, put_secret};
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretRef, SecretValue, Secrets};
use crate::id::SecretName;
use crate::outbound::request::Request;

pub(super) const KIND: AuthKind = AuthKind::of::<Basic>("basic", "Send a user name and a secret password.");

/// User and password in `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Settings")]
pub struct Basic {
    /// The user name; RFC 7617 does not let it hold a colon.
    pub username: User,
    /// The password.
    pub password: SecretRef,
}

/// A user name: plain, or secret as some APIs have it (a consumer key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    Plain(String),
    Secret(SecretRef),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    username: UserSettings,
    secret_ref: SecretName,
    version: Option<String>,
    field: Option<String>,
}

/// Text, or a map with `secret_ref`; none of it is a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum UserSettings {
    Plain(String),
    Secret(UserSecret),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserSecret {
    secret_ref: SecretName,
    prefix: Option<String>,
    version: Option<String>,
    field: Option<String>,
}

impl From<Settings> for Basic {
    fn from(settings: Settings) -> Self {
        let username = match settings.username {
            UserSettings::Plain(user) => User::Plain(user),
            UserSettings::Secret(UserSecret { secret_ref: name, prefix, version, field }) => {
                User::Secret(SecretRef { name, prefix, version, field })
            }
        };
        let Settings { secret_ref: name, version, field, .. } = settings;
        Self { username, password: SecretRef { name, prefix: None, version, field } }
    }
}

#[async_trait]
impl Auth for Basic {
    fn secrets(&self) -> Vec<&SecretRef> {
        match &self.username {
            User::Plain(_) => vec![&self.password],
            User::Secret(user) => vec![user, &self.password],
        }
    }

    async fn apply(&self, request: &mut Request, secrets: &dyn Secrets, masker: &mut Masker) -> Result<(), Error> {
        let user = match &self.username {
            User::Plain(user) => user.as_bytes().to_vec(),
            User::Secret(user) => {
                let value = secrets.resolve(user).await?;
                masker.learn(user, &value);
                value.expose().to_vec()
            }
        };
        if user.contains(&b':') {
            let why = "the user name holds a `:`, which ends it (RFC 7617)".to_owned();
            return Err(Error::Unfit { secret: self.password.clone(), why });
        }
        let password = secrets.resolve(&self.password).await?;
        masker.learn(&self.password, &password);
        let pair = [&user, b":".as_slice(), password.expose()].concat();
        let credential = BASE64.encode(&pair);
        // A short password is not found inside the credential, so the credential is a secret of its own.
        masker.add(&self.password.name, &SecretValue::new(pair));
        masker.add(&self.password.name, &SecretValue::new(credential.clone()));
        put_secret(request, "authorization", format!("Basic {credential}").as_bytes(), &self.password)
    }
}
