//! Where what is too large for the record of a run is kept, and the databases that workflows work with.

use std::collections::BTreeMap;

use super::Table;
use crate::artifacts::{self, Container, Place};
use crate::azure::cloud::Cloud;
use crate::id::ConnectionName;
use crate::limits;
use crate::spec::raw::{self, ArtifactStore};
use crate::spec::source_map::Path;
use crate::store::{self, BlobPlace, PostgresPlace};

impl Table<'_> {
    /// What `artifacts` and `limits.inline_max` say; `None` when it cannot be told, and why is.
    pub(super) fn artifacts(
        &mut self,
        head: &raw::Settings,
        storage: Option<&store::Settings>,
        cloud: Cloud,
    ) -> Option<artifacts::Settings> {
        let (path, raw) = (Path::root().with("artifacts"), &head.artifacts);
        let inline = Path::root().with("limits").with("inline_max");
        let inline = self.desk.size(&inline, head.limits.inline_max.as_ref(), limits::INLINE_BYTES_CEILING);
        let shared = storage.and_then(|storage| storage.blob.as_ref());
        let default = if shared.is_some() { ArtifactStore::AzureBlob } else { ArtifactStore::Folder };
        let store = raw.store.unwrap_or(default);
        let (name, takes): (_, &[&str]) = match store {
            ArtifactStore::Folder => ("folder", &["path"]),
            ArtifactStore::AzureBlob => ("azure-blob", &["endpoint", "container", "sas"]),
        };
        let errors = self.desk.errors();
        let given = [
            ("path", raw.path.is_some()),
            ("endpoint", raw.endpoint.is_some()),
            ("container", raw.container.is_some()),
            ("sas", raw.sas.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(key, given)| *given && !takes.contains(key)) {
            let message = format!("`{key}` does not go with `store: {name}`");
            let problem = self.desk.problem("spec.no_effect", message, self.desk.map.key(&path, key));
            self.desk.push(problem.help("remove it, or change the `store`"));
        }
        let place = match store {
            ArtifactStore::Folder => match &raw.path {
                Some(folder) => Some(Place::Folder(self.absolute(folder))),
                None => storage.map(|storage| Place::Folder(storage.path.join("artifacts"))),
            },
            ArtifactStore::AzureBlob => {
                let blob = if raw.endpoint.is_none() && raw.container.is_none() && raw.sas.is_none() && shared.is_some()
                {
                    shared.cloned()
                } else {
                    self.blob_place(&path, raw.endpoint.as_deref(), raw.container.as_deref(), raw.sas.as_ref(), cloud)
                };
                blob.map(|BlobPlace { endpoint, container, sas }| Place::Blob(Container { endpoint, container, sas }))
            }
        };
        if self.desk.errors() > errors {
            return None;
        }
        Some(artifacts::Settings {
            place: place?,
            inline_bytes_max: inline.unwrap_or(limits::INLINE_BYTES_MAX),
            scratch: storage?.path.join("scratch"),
        })
    }

    /// The healthy databases; what is wrong with the others is told.
    pub(super) fn databases(&mut self, head: &raw::Settings) -> BTreeMap<String, PostgresPlace> {
        let mut databases = BTreeMap::new();
        for (name, raw) in &head.databases {
            let path = Path::root().with("databases").with(name.as_str());
            // The names of far ends follow one rule.
            if let Err(error) = ConnectionName::new(name) {
                let message = error.to_string().replace("connection", "database");
                let problem = self.desk.problem("spec.name", message, self.desk.map.entry(&path));
                self.desk.push(problem.help("write another name"));
            }
            let raw::DatabaseType::Postgres = raw.kind;
            let place = raw::Storage {
                host: Some(raw.host.clone()),
                port: raw.port,
                database: Some(raw.database.clone()),
                user: Some(raw.user.clone()),
                auth: raw.auth,
                password: raw.password.clone(),
                ca: raw.ca.clone(),
                ..raw::Storage::default()
            };
            databases.extend(self.postgres(&path, &place).map(|place| (name.clone(), place)));
        }
        databases
    }
}
