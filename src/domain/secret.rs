//! A secret is a reference until it is used. References are printed freely; values never are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::masking::Masker;
use crate::clock::Timestamp;
use crate::id::SecretName;

/// Names a secret and how to take it: what people write as `{ secret_ref: NAME, prefix: "Bearer " }`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretRef {
    /// The name in the secret source.
    pub name: SecretName,
    /// Text put before the value, such as `Bearer `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// A version to pin; the current one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The member to take when the secret is a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl SecretRef {
    /// Reads what people write: `{ secret_ref: NAME }`, optionally with `prefix`, `version` and `field`.
    pub fn from_yaml(value: &serde_json::Value) -> Result<Self, String> {
        let form = "write `{ secret_ref: NAME }`, optionally with `prefix`, `version` and `field`";
        let members = value.as_object().ok_or(form)?;
        let text = |key: &str| match members.get(key) {
            None => Ok(None),
            Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("`{key}` of a secret is text; {form}")),
        };
        if let Some(unknown) =
            members.keys().find(|key| !["secret_ref", "prefix", "version", "field"].contains(&key.as_str()))
        {
            return Err(format!("a secret has no `{unknown}`; {form}"));
        }
        let name = text("secret_ref")?.ok_or(form)?;
        let name = SecretName::new(&name).map_err(|error| error.to_string())?;
        Ok(Self { name, prefix: text("prefix")?, version: text("version")?, field: text("field")? })
    }

    /// The name with the field and version that are wanted of it, for people. Two references with the same words are
    /// answered by the same value.
    pub fn in_full(&self) -> String {
        let of =
            |word: &str, part: &Option<String>| part.as_ref().map(|part| format!(" {word} {part}")).unwrap_or_default();
        format!("{}{}{}", self.name, of("field", &self.field), of("version", &self.version))
    }

    /// The plain reference to `name`.
    pub fn to(name: SecretName) -> Self {
        Self { name, prefix: None, version: None, field: None }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name, f)
    }
}

/// The content of a secret. It has no `Display`, and `Debug` shows nothing of it, not even its length.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    /// Takes the bytes of a secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into())
    }

    /// The bytes, for the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// Why a secret could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The source has no secret of this name.
    #[error("secret `{name}` is not in the {source_name}: {help}")]
    Missing { name: SecretName, source_name: &'static str, help: String },
    /// The source has it and does not give it to us now.
    #[error("secret `{name}` is in the {source_name}, but {bar}: {help}")]
    Barred { name: SecretName, source_name: &'static str, bar: Bar, help: String },
    /// The source answered, but not with something usable.
    #[error("secret `{name}` cannot be used: {why}")]
    Unusable { name: SecretName, why: String },
    /// The source did not answer, or could not.
    #[error("cannot read secret `{name}` from the {source_name}: {why}")]
    Source {
        name: SecretName,
        source_name: &'static str,
        why: String,
        /// How long the source asks to be left alone.
        retry_after: Option<Duration>,
    },
}

/// What stands between us and a secret that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// Somebody switched it off.
    Disabled,
    /// Its time is over.
    Expired(Timestamp),
    /// Its time has not come.
    NotYet(Timestamp),
    /// We may not read it.
    Forbidden,
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("it is disabled"),
            Self::Expired(at) => write!(f, "it expired at {at}"),
            Self::NotYet(at) => write!(f, "it is not valid before {at}"),
            Self::Forbidden => f.write_str("we may not read it"),
        }
    }
}

/// Resolves references at the moment of use.
#[async_trait]
pub trait Secrets: Send + Sync + fmt::Debug {
    /// The value behind `reference`, its `field` taken and its `prefix` put before it.
    async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, Error>;

    /// Knows every secret that was resolved so far, so that one which a far end gives back to another task is found.
    fn known(&self) -> Arc<Masker> {
        Arc::default()
    }
}
