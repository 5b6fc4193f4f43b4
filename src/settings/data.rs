//! Where what is too large for the record of a run is kept, and the databases that workflows work with.

use std::collections::BTreeMap;

use super::Table;
use crate::artifacts::{self, Container, Place};
use crate::azure::cloud::Cloud;
use crate::id::ConnectionName;
use crate::limits;
use crate::spec::raw::{self, ArtifactStore};
use crate::spec::source_map::Path;
use crate::store::{self, BlobPlace};
use crate::tasks::sql::{AzureSqlAuth, AzureSqlPlace, Place as DatabasePlace};

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
    pub(super) fn databases(&mut self, head: &raw::Settings, cloud: Cloud) -> BTreeMap<String, DatabasePlace> {
        let mut databases = BTreeMap::new();
        for (name, raw) in &head.databases {
            let path = Path::root().with("databases").with(name.as_str());
            // The names of far ends follow one rule.
            if let Err(error) = ConnectionName::new(name) {
                let message = error.to_string().replace("connection", "database");
                let problem = self.desk.problem("spec.name", message, self.desk.map.entry(&path));
                self.desk.push(problem.help("write another name"));
            }
            let place = match raw.kind {
                raw::DatabaseType::Postgres => {
                    let place = raw::Storage {
                        host: Some(raw.host.clone()),
                        port: raw.port,
                        database: Some(raw.database.clone()),
                        user: raw.user.clone(),
                        auth: raw.auth,
                        password: raw.password.clone(),
                        ca: raw.ca.clone(),
                        ..raw::Storage::default()
                    };
                    self.postgres(&path, &place).map(DatabasePlace::Postgres)
                }
                raw::DatabaseType::AzureSql => self.azure_sql(&path, raw, cloud).map(DatabasePlace::AzureSql),
            };
            databases.extend(place.map(|place| (name.clone(), place)));
        }
        databases
    }

    fn azure_sql(&mut self, path: &Path, raw: &raw::Database, cloud: Cloud) -> Option<AzureSqlPlace> {
        let host = self.needed(path, "host", Some(&raw.host), &format!("host: NAME.{}", cloud.sql_suffix()));
        let database = self.needed(path, "database", Some(&raw.database), "database: reports");
        let ca = raw.ca.as_ref().map(|ca| self.file(&path.with("ca"), ca, limits::CA_BYTES_MAX));
        let auth = match raw.auth.unwrap_or(raw::PostgresAuth::Password) {
            raw::PostgresAuth::Password => {
                let user = self.needed(path, "user", raw.user.as_deref(), "user: clawhook");
                let secret = if let Some(secret) = &raw.password {
                    self.secret(&path.with("password"), secret)
                } else {
                    self.needed(path, "password", None, "password: { secret_ref: sql-password }`, or `auth: entra");
                    None
                };
                user.zip(secret).map(|(user, password)| AzureSqlAuth::Password { user: user.to_owned(), password })
            }
            raw::PostgresAuth::Entra => {
                for key in [raw.user.as_ref().map(|_| "user"), raw.password.as_ref().map(|_| "password")] {
                    let Some(key) = key else { continue };
                    let message = format!("`{key}` does not go with `auth: entra` of Azure SQL");
                    let problem = self.desk.problem("spec.no_effect", message, self.desk.map.key(path, key));
                    self.desk.push(problem.help("remove it: the token of the identity says who we are"));
                }
                if let Some(other) = Cloud::of_host(&raw.host).filter(|other| *other != cloud) {
                    let message = format!("this host is of the cloud `{other}`, not `{cloud}`");
                    let problem = self.desk.at("spec.value", message, &path.with("host"));
                    let help = format!("write `azure: {{ cloud: {other} }}`, or correct the address");
                    self.desk.push(problem.help(help));
                }
                Some(AzureSqlAuth::Entra)
            }
        };
        Some(AzureSqlPlace {
            host: host?.to_owned(),
            port: raw.port.unwrap_or(1433),
            database: database?.to_owned(),
            auth: auth?,
            authorities: ca.map_or(Some(None), |ca| ca.map(Some))?,
        })
    }
}
