//! Forms of settings that several ways share: a secret as people write it, and a text that may be one.

use serde::Deserialize;

use crate::domain::secret::SecretRef;
use crate::id::SecretName;

/// `{ secret_ref: NAME }`, optionally with `prefix`, `version` and `field`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::outbound) struct Secret {
    #[serde(rename = "secret_ref")]
    name: SecretName,
    prefix: Option<String>,
    version: Option<String>,
    field: Option<String>,
}

impl From<Secret> for SecretRef {
    fn from(secret: Secret) -> Self {
        let Secret { name, prefix, version, field } = secret;
        Self { name, prefix, version, field }
    }
}

/// A text: plain, or kept by the secret source. None of it is a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "TextSettings")]
pub(in crate::outbound) enum Text {
    Plain(String),
    Secret(SecretRef),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextSettings {
    Plain(String),
    Secret(Secret),
}

impl From<TextSettings> for Text {
    fn from(settings: TextSettings) -> Self {
        match settings {
            TextSettings::Plain(text) => Self::Plain(text),
            TextSettings::Secret(secret) => Self::Secret(secret.into()),
        }
    }
}

impl Text {
    /// The reference, when it is a secret.
    pub(in crate::outbound) fn secret(&self) -> Option<&SecretRef> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(reference) => Some(reference),
        }
    }
}
