//! Secrets from a folder with one file each, as systemd credentials and container platforms mount them. A final
//! newline is not part of the secret.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Found, OpenError, SecretSource, Source};
use crate::domain::secret::Error;
use crate::id::SecretName;

pub(super) const SOURCE: Source = Source {
    name: "file",
    summary: "A folder with one file for each secret, named like it (`secrets.path`); one final newline is dropped.",
    local: true,
    open: |settings, _| match &settings.path {
        Some(folder) => Ok(Arc::new(Folder(folder.clone()))),
        None => Err(OpenError::Settings { name: "file", why: "set `secrets.path` to the folder".to_owned() }),
    },
};

#[derive(Debug)]
struct Folder(PathBuf);

#[async_trait]
impl SecretSource for Folder {
    fn place(&self) -> &'static str {
        "secrets folder"
    }

    fn remedy(&self, name: &SecretName) -> String {
        format!("put its value into `{}`", self.path(name).display())
    }

    async fn read(&self, name: &SecretName, _: Option<&str>) -> Result<Found, Error> {
        let mut value = tokio::fs::read(self.path(name)).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Missing { name: name.clone(), source_name: self.place(), help: self.remedy(name) }
            }
            _ => Error::Source {
                name: name.clone(),
                source_name: self.place(),
                why: error.to_string(),
                retry_after: None,
            },
        })?;
        if value.ends_with(b"\n") {
            value.pop();
            if value.ends_with(b"\r") {
                value.pop();
            }
        }
        if value.is_empty() {
            return Err(Error::Unusable { name: name.clone(), why: "it is empty".to_owned() });
        }
        Ok(Found::of(value))
    }
}

impl Folder {
    /// A name has no slash and does not start with a dot, so it cannot leave the folder.
    fn path(&self, name: &SecretName) -> PathBuf {
        self.0.join(name.as_str())
    }
}
