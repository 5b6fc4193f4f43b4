//! Where secret values come from: one file a source, one row each in `SOURCES`. Values are kept in memory for a short
//! time, so that a rotated secret is picked up without a restart; they are never written anywhere.

mod env;
mod file;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;

use crate::azure::Azure;
use crate::domain::masking::Masker;
use crate::domain::secret::{Error, SecretRef, SecretValue, Secrets};
use crate::id::SecretName;
use crate::limits;

/// All sources, in the order of the documentation.
pub static SOURCES: &[Source] = &[env::SOURCE, file::SOURCE];

/// A kind of source, and how to open it.
#[derive(Clone, Copy)]
pub struct Source {
    /// What `secrets.source` says.
    pub name: &'static str,
    /// One sentence for the documentation.
    pub summary: &'static str,
    /// It is on this machine: `check` asks it for every secret that is named.
    pub local: bool,
    /// Opens it; it calls nobody yet.
    pub open: fn(&Settings, &Arc<Azure>) -> Result<Box<dyn SecretSource>, OpenError>,
}

/// What `secrets` in clawhook.yaml says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A name in `SOURCES`.
    pub source: String,
    /// The folder of the `file` source.
    pub path: Option<PathBuf>,
    /// The address of the `key-vault` source.
    pub vault_url: Option<String>,
}

/// Why a source cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No row of this name.
    #[error("there is no secret source `{name}`; the sources are {known}")]
    Unknown { name: String, known: String },
    /// The settings do not suit the source.
    #[error("the secret source `{name}` cannot be opened: {why}")]
    Settings { name: &'static str, why: String },
}

/// Gives the raw bytes of a secret.
#[async_trait]
pub trait SecretSource: Send + Sync + fmt::Debug {
    /// Reads the secret; `version` is `None` for the current one.
    async fn read(&self, name: &SecretName, version: Option<&str>) -> Result<Vec<u8>, Error>;
}

/// The secrets of a gateway: a source, and what was read from it lately.
#[derive(Debug)]
pub struct Vault {
    source: Box<dyn SecretSource>,
    local: bool,
    cache: Mutex<Cache>,
    known: Mutex<Known>,
}

/// Values that were resolved, newest last, and what masks them.
#[derive(Debug, Default)]
struct Known {
    values: VecDeque<(SecretName, SecretValue)>,
    masker: Arc<Masker>,
}

type Cache = HashMap<(SecretName, Option<String>), (Instant, SecretValue)>;

impl Vault {
    /// Opens the source that the settings name; it calls nobody yet.
    pub fn open(settings: &Settings, azure: &Arc<Azure>) -> Result<Self, OpenError> {
        let source =
            SOURCES.iter().find(|source| source.name == settings.source).ok_or_else(|| OpenError::Unknown {
                name: settings.source.clone(),
                known: SOURCES.iter().map(|source| format!("`{}`", source.name)).collect::<Vec<_>>().join(", "),
            })?;
        Ok(Self { local: source.local, ..Self::new((source.open)(settings, azure)?) })
    }

    /// Whether its source is on this machine, so that asking it costs nothing.
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// A vault over any source.
    pub fn new(source: Box<dyn SecretSource>) -> Self {
        Self { source, local: true, cache: Mutex::default(), known: Mutex::default() }
    }

    /// Forgets what was read, so that the next use reads again.
    pub fn refresh(&self) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// From now on the value is masked wherever it turns up.
    fn learn(&self, name: &SecretName, value: &SecretValue) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.values.iter().any(|(_, seen)| seen == value) {
            return;
        }
        known.values.push_back((name.clone(), value.clone()));
        if known.values.len() > limits::SECRETS_MASKED_MAX {
            known.values.pop_front();
        }
        let mut masker = Masker::new();
        for (name, value) in &known.values {
            masker.add(name, value);
        }
        known.masker = Arc::new(masker);
    }

    async fn raw(&self, name: &SecretName, version: Option<&str>) -> Result<SecretValue, Error> {
        let key = (name.clone(), version.map(str::to_owned));
        let cached = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((read_at, value)) = cached
            && read_at.elapsed() < limits::SECRET_TTL
        {
            return Ok(value);
        }
        let value = SecretValue::new(self.source.read(name, version).await?);
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (Instant::now(), value.clone()));
        Ok(value)
    }
}

#[async_trait]
impl Secrets for Vault {
    async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, Error> {
        let raw = self.raw(&reference.name, reference.version.as_deref()).await?;
        let value = match &reference.field {
            Some(field) => member(&reference.name, raw.expose(), field)?,
            None => raw.expose().to_vec(),
        };
        self.learn(&reference.name, &SecretValue::new(value.clone()));
        match &reference.prefix {
            Some(prefix) => Ok(SecretValue::new([prefix.as_bytes(), &value].concat())),
            None => Ok(SecretValue::new(value)),
        }
    }

    fn known(&self) -> Arc<Masker> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner).masker)
    }
}

/// One member of a secret that is a JSON object.
fn member(name: &SecretName, raw: &[u8], field: &str) -> Result<Vec<u8>, Error> {
    let unusable = |why: String| Error::Unusable { name: name.clone(), why };
    let value: Value = serde_json::from_slice(raw).map_err(|_| unusable("`field` needs a JSON object".to_owned()))?;
    match value.get(field) {
        Some(Value::String(text)) => Ok(text.clone().into_bytes()),
        Some(other) if !other.is_null() => Ok(other.to_string().into_bytes()),
        _ => Err(unusable(format!("it has no member `{field}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(&'static str);

    #[async_trait]
    impl SecretSource for Fixed {
        async fn read(&self, _: &SecretName, _: Option<&str>) -> Result<Vec<u8>, Error> {
            Ok(self.0.as_bytes().to_vec())
        }
    }

    async fn check(secret: &'static str, field: Option<&str>, prefix: Option<&str>, expected: Result<&str, &str>) {
        let vault = Vault::new(Box::new(Fixed(secret)));
        let name = SecretName::new("erp").expect("a name");
        let reference =
            SecretRef { name, prefix: prefix.map(str::to_owned), version: None, field: field.map(str::to_owned) };
        let value = vault.resolve(&reference).await;
        let value =
            value.as_ref().map(|value| std::str::from_utf8(value.expose()).expect("text")).map_err(ToString::to_string);
        assert_eq!(value, expected.map_err(str::to_owned));
    }

    #[tokio::test]
    async fn fields_and_prefixes() {
        check("s3cret", None, None, Ok("s3cret")).await;
        check("s3cret", None, Some("Bearer "), Ok("Bearer s3cret")).await;
        check(r#"{"key": "k", "n": 7}"#, Some("key"), None, Ok("k")).await;
        check(r#"{"key": "k", "n": 7}"#, Some("n"), Some("v"), Ok("v7")).await;
        check(r#"{"key": "k"}"#, Some("no"), None, Err("secret `erp` cannot be used: it has no member `no`")).await;
        check("text", Some("no"), None, Err("secret `erp` cannot be used: `field` needs a JSON object")).await;
    }
}
