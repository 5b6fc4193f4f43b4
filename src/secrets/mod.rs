//! Where secret values come from: one file a source, one row each in `SOURCES`. Values are kept in memory for a short
//! time, so that a rotated secret is picked up without a restart; they are never written anywhere.

mod cache;
mod env;
mod file;
mod key_vault;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use self::cache::Cache;
use crate::azure::Azure;
use crate::clock::{Clock, Timestamp};
use crate::domain::masking::Masker;
use crate::domain::secret::{Bar, Error, SecretRef, SecretValue, Secrets};
use crate::id::SecretName;
use crate::limits;

/// All sources, in the order of the documentation.
pub static SOURCES: &[Source] = &[env::SOURCE, file::SOURCE, key_vault::SOURCE];

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
    pub open: fn(&Settings, &Arc<Azure>) -> Opened,
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

impl Settings {
    /// Whether the source is on this machine, so that asking it costs nothing.
    pub fn is_local(&self) -> bool {
        SOURCES.iter().any(|source| source.name == self.source && source.local)
    }
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

/// A source, or why it cannot be opened.
pub type Opened = Result<Arc<dyn SecretSource>, OpenError>;

/// Gives secrets by name.
#[async_trait]
pub trait SecretSource: Send + Sync + fmt::Debug {
    /// What it is called in a sentence, such as `environment`.
    fn place(&self) -> &'static str;

    /// What to do, or to type, so that it has a good value of this name.
    fn remedy(&self, name: &SecretName) -> String;

    /// Reads the secret; `version` is `None` for the current one. Times of validity are told, not judged.
    async fn read(&self, name: &SecretName, version: Option<&str>) -> Result<Found, Error>;
}

/// A secret as its source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub value: SecretValue,
    /// Which of its versions this is, when the source keeps versions.
    pub version: Option<String>,
    /// What the source says the value is, such as `application/x-pkcs12`.
    pub content_type: Option<String>,
    /// It must not be used before this.
    pub valid_from: Option<Timestamp>,
    /// It must not be used from this on.
    pub valid_until: Option<Timestamp>,
}

impl Found {
    /// A value about which the source says nothing more.
    pub fn of(value: impl Into<Vec<u8>>) -> Self {
        let value = SecretValue::new(value);
        Self { value, version: None, content_type: None, valid_from: None, valid_until: None }
    }

    fn bar(&self, now: Timestamp) -> Option<Bar> {
        let expired = self.valid_until.filter(|until| *until <= now).map(Bar::Expired);
        expired.or_else(|| self.valid_from.filter(|from| now < *from).map(Bar::NotYet))
    }
}

/// The secrets of a gateway: a source, and what was read from it lately.
#[derive(Debug)]
pub struct Vault {
    cache: Cache,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

/// Values that were resolved, newest last, and what masks them.
#[derive(Debug, Default)]
struct Known {
    values: VecDeque<(SecretName, SecretValue)>,
    masker: Arc<Masker>,
}

impl Vault {
    /// Opens the source that the settings name; it calls nobody yet.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, when the source is not on this machine: what is read of it is read on that runtime.
    pub fn open(settings: &Settings, azure: &Arc<Azure>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let source =
            SOURCES.iter().find(|source| source.name == settings.source).ok_or_else(|| OpenError::Unknown {
                name: settings.source.clone(),
                known: SOURCES.iter().map(|source| format!("`{}`", source.name)).collect::<Vec<_>>().join(", "),
            })?;
        let opened = (source.open)(settings, azure)?;
        let cache = if source.local { Cache::local(opened) } else { Cache::remote(opened) };
        Ok(Self { cache, clock, known: Mutex::default() })
    }

    /// Whether its source is on this machine, so that asking it costs nothing.
    pub fn is_local(&self) -> bool {
        self.cache.is_local()
    }

    /// The next use of each secret reads it again.
    pub fn refresh(&self) {
        self.cache.age();
    }

    /// Asks the source for a secret now, past the cache, and whether it may be used now. For those who look after
    /// secrets; whoever needs one takes [`Secrets::resolve`].
    pub async fn look(&self, name: &SecretName, version: Option<&str>) -> Result<Found, Error> {
        let key = (name.clone(), version.map(str::to_owned));
        let found = self.cache.ask(&key).await?;
        self.judge(name, &found)?;
        Ok(found)
    }

    /// The same for a reference: also whether it has the `field`.
    pub async fn look_for(&self, reference: &SecretRef) -> Result<Found, Error> {
        let found = self.look(&reference.name, reference.version.as_deref()).await?;
        if let Some(field) = &reference.field {
            member(&reference.name, found.value.expose(), field)?;
        }
        Ok(found)
    }

    /// What to do, or to type, so that the source has a good value of this name.
    pub fn remedy(&self, name: &SecretName) -> String {
        self.cache.source().remedy(name)
    }

    fn judge(&self, name: &SecretName, found: &Found) -> Result<(), Error> {
        let Some(bar) = found.bar(self.clock.now()) else { return Ok(()) };
        let source = self.cache.source();
        Err(Error::Barred { name: name.clone(), source_name: source.place(), bar, help: source.remedy(name) })
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
}

#[async_trait]
impl Secrets for Vault {
    async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, Error> {
        let found = self.cache.get((reference.name.clone(), reference.version.clone())).await?;
        self.judge(&reference.name, &found)?;
        let value = match &reference.field {
            Some(field) => SecretValue::new(member(&reference.name, found.value.expose(), field)?),
            None => found.value,
        };
        self.learn(&reference.name, &value);
        match &reference.prefix {
            Some(prefix) => Ok(SecretValue::new([prefix.as_bytes(), value.expose()].concat())),
            None => Ok(value),
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
    use crate::clock::SystemClock;

    #[derive(Debug)]
    struct Fixed(&'static str);

    #[async_trait]
    impl SecretSource for Fixed {
        fn place(&self) -> &'static str {
            "test"
        }
        fn remedy(&self, _: &SecretName) -> String {
            "mend it".to_owned()
        }
        async fn read(&self, _: &SecretName, _: Option<&str>) -> Result<Found, Error> {
            Ok(Found::of(self.0))
        }
    }

    async fn check(secret: &'static str, field: Option<&str>, prefix: Option<&str>, expected: Result<&str, &str>) {
        let vault = Vault {
            cache: Cache::local(Arc::new(Fixed(secret))),
            clock: Arc::new(SystemClock),
            known: Mutex::default(),
        };
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

    #[test]
    fn times_of_validity() {
        let at = Timestamp::from_secs;
        let check = |from: Option<i64>, until: Option<i64>, expected: Option<Bar>| {
            let found = Found { valid_from: from.map(at), valid_until: until.map(at), ..Found::of("v") };
            assert_eq!(found.bar(at(100)), expected, "{from:?} {until:?}");
        };
        check(None, None, None);
        check(Some(100), Some(101), None);
        check(Some(101), None, Some(Bar::NotYet(at(101))));
        check(None, Some(100), Some(Bar::Expired(at(100))));
        check(Some(200), Some(50), Some(Bar::Expired(at(50))));
    }

    #[test]
    fn every_file_has_its_row() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/secrets");
        let names = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.to_string_lossy().replace(".rs", "").replace('_', "-"));
        let mut files: Vec<_> = names.filter(|name| name != "mod" && name != "cache").collect();
        let mut rows: Vec<_> = SOURCES.iter().map(|source| source.name.to_owned()).collect();
        files.sort();
        rows.sort();
        assert_eq!(files, rows);
    }
}
