//! Where runs are kept, and where finished ones are exported to.

use url::Url;

use super::Table;
use crate::azure::cloud::Cloud;
use crate::limits;
use crate::spec::raw::{self, StorageBackend};
use crate::spec::source_map::Path;
use crate::store::{self, BlobPlace, PostgresAuth, PostgresPlace};

/// The keys that each backend takes beside `backend` and `records`.
const TAKES: &[(StorageBackend, &str, &[&str])] = &[
    (StorageBackend::Sqlite, "sqlite", &["path"]),
    (StorageBackend::AzureBlob, "azure-blob", &["path", "endpoint", "container", "sas"]),
    (StorageBackend::Postgres, "postgres", &["host", "port", "database", "user", "auth", "password", "ca"]),
];

impl Table<'_> {
    /// Where runs are kept; `None` when it cannot be told, and why is.
    pub(super) fn storage(&mut self, raw: &raw::Storage, cloud: Cloud) -> Option<store::Settings> {
        let path = Path::root().with("storage");
        let backend = raw.backend.unwrap_or(StorageBackend::Sqlite);
        let (_, name, takes) = TAKES.iter().find(|(kind, ..)| *kind == backend)?;
        let errors = self.desk.errors();
        for key in given(raw).into_iter().filter(|key| !takes.contains(key)) {
            let message = format!("`{key}` does not go with `backend: {name}`");
            let problem = self.desk.problem("spec.no_effect", message, self.desk.map.key(&path, key));
            self.desk.push(problem.help("remove it, or change the `backend`"));
        }
        let blob = (backend == StorageBackend::AzureBlob).then(|| {
            self.blob_place(&path, raw.endpoint.as_deref(), raw.container.as_deref(), raw.sas.as_ref(), cloud)
        });
        let postgres = (backend == StorageBackend::Postgres).then(|| self.postgres(&path, raw));
        let records = raw.records.as_ref().map(|records| {
            let path = path.with("records");
            self.blob_place(&path, Some(&records.endpoint), Some(&records.container), records.sas.as_ref(), cloud)
        });
        if self.desk.errors() > errors {
            return None;
        }
        Some(store::Settings {
            backend: (*name).to_owned(),
            path: self.absolute(raw.path.as_deref().unwrap_or("./data")),
            blob: blob.flatten(),
            postgres: postgres.flatten(),
            records: records.flatten(),
        })
    }

    pub(super) fn blob_place(
        &mut self,
        path: &Path,
        endpoint: Option<&str>,
        container: Option<&str>,
        sas: Option<&raw::SecretRef>,
        cloud: Cloud,
    ) -> Option<BlobPlace> {
        let given = sas.is_some();
        let sas = sas.map(|sas| self.secret(&path.with("sas"), sas));
        let (endpoint, container) = self.container(path, endpoint, container, cloud, given)?;
        Some(BlobPlace { endpoint, container, sas: sas.map_or(Some(None), |sas| sas.map(Some))? })
    }

    /// The storage account and the container of a place; `signed` when it has a proof of its own.
    pub(super) fn container(
        &mut self,
        path: &Path,
        endpoint: Option<&str>,
        container: Option<&str>,
        cloud: Cloud,
        signed: bool,
    ) -> Option<(String, String)> {
        let example = format!("endpoint: https://NAME.{}", cloud.blob_suffix());
        let endpoint = self.needed(path, "endpoint", endpoint, &example);
        let container = self.needed(path, "container", container, "container: clawhook");
        let endpoint = self.azure_url(&path.with("endpoint"), endpoint?, cloud, &example, signed);
        let container = container?;
        if !is_container_name(container) {
            let help = "write 3 to 63 lower-case letters, digits and single hyphens, beginning and ending with a letter or digit";
            self.desk.bad_value(&path.with("container"), "this cannot be the name of a container", help);
            return None;
        }
        Some((endpoint?, container.to_owned()))
    }

    /// The address of an Azure service: `https`, without a query, and of the cloud that `azure.cloud` says. With a
    /// signature of its own it may be plain on this machine, for emulators.
    pub(super) fn azure_url(
        &mut self,
        path: &Path,
        text: &str,
        cloud: Cloud,
        example: &str,
        may_be_plain: bool,
    ) -> Option<String> {
        let url = Url::parse(text).ok().filter(|url| url.query().is_none() && url.fragment().is_none());
        let Some(url) = url else {
            self.desk.bad_value(path, "this is not the address of a service", format!("write it like `{example}`"));
            return None;
        };
        let host = url.host_str().unwrap_or_default();
        let here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        if url.scheme() != "https" && !(url.scheme() == "http" && here && may_be_plain) {
            self.desk.bad_value(path, "Azure is spoken to over TLS only", format!("write it like `{example}`"));
            return None;
        }
        if let Some(other) = Cloud::of_host(host).filter(|other| *other != cloud) {
            let problem =
                self.desk.at("spec.value", format!("this host is of the cloud `{other}`, not `{cloud}`"), path);
            self.desk.push(problem.help(format!("write `azure: {{ cloud: {other} }}`, or correct the address")));
            return None;
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    pub(super) fn postgres(&mut self, path: &Path, raw: &raw::Storage) -> Option<PostgresPlace> {
        let host = self.needed(path, "host", raw.host.as_deref(), "host: NAME.postgres.database.azure.com");
        let database = self.needed(path, "database", raw.database.as_deref(), "database: clawhook");
        let user = self.needed(path, "user", raw.user.as_deref(), "user: clawhook");
        let ca = raw.ca.as_ref().map(|ca| self.file(&path.with("ca"), ca, limits::CA_BYTES_MAX));
        let auth = match (raw.auth.unwrap_or(raw::PostgresAuth::Password), &raw.password) {
            (raw::PostgresAuth::Password, Some(password)) => {
                self.secret(&path.with("password"), password).map(PostgresAuth::Password)
            }
            (raw::PostgresAuth::Password, None) => {
                self.needed(path, "password", None, "password: { secret_ref: postgres-password }`, or `auth: entra");
                None
            }
            (raw::PostgresAuth::Entra, None) => Some(PostgresAuth::Entra),
            (raw::PostgresAuth::Entra, Some(_)) => {
                let span = self.desk.map.key(path, "password");
                let problem = self.desk.problem("spec.no_effect", "`password` does not go with `auth: entra`", span);
                self.desk.push(problem.help("remove it: the token of the identity is the password"));
                None
            }
        };
        Some(PostgresPlace {
            host: host?.to_owned(),
            port: raw.port.unwrap_or(5432),
            database: database?.to_owned(),
            user: user?.to_owned(),
            auth: auth?,
            authorities: ca.map_or(Some(None), |ca| ca.map(Some))?,
        })
    }

    /// A text that a setting wants.
    pub(super) fn needed<'a>(
        &mut self,
        path: &Path,
        key: &str,
        given: Option<&'a str>,
        example: &str,
    ) -> Option<&'a str> {
        if given.is_none_or(str::is_empty) {
            let problem = self.desk.problem(
                "spec.missing_key",
                format!("the key `{key}` is missing in `{path}`"),
                self.desk.map.entry(path),
            );
            self.desk.push(problem.help(format!("add `{example}`")));
            return None;
        }
        given
    }
}

fn given(raw: &raw::Storage) -> Vec<&'static str> {
    [
        ("path", raw.path.is_some()),
        ("endpoint", raw.endpoint.is_some()),
        ("container", raw.container.is_some()),
        ("sas", raw.sas.is_some()),
        ("host", raw.host.is_some()),
        ("port", raw.port.is_some()),
        ("database", raw.database.is_some()),
        ("user", raw.user.is_some()),
        ("auth", raw.auth.is_some()),
        ("password", raw.password.is_some()),
        ("ca", raw.ca.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, given)| given.then_some(key))
    .collect()
}

/// <https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>
fn is_container_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.chars().all(|c| plain(c) || c == '-')
        && name.starts_with(plain)
        && name.ends_with(plain)
        && !name.contains("--")
}
