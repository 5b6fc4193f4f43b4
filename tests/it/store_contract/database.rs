//! PostgreSQL as tests use it: a database for each on the test server, and what they do there past the gateway.

use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use clawhook::clock::SystemClock;
use clawhook::domain::secret::{self, SecretRef, SecretValue, Secrets};
use clawhook::id::SecretName;
use clawhook::store::postgres::Postgres;
use clawhook::store::{Error, Parts, PostgresAuth, PostgresPlace, Settings, Store};
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

/// A database that goes with the test.
pub(crate) struct Database {
    pub(super) place: PostgresPlace,
    server: tokio_postgres::Config,
}

/// Knows the one password.
#[derive(Debug)]
pub(super) struct Password(pub(super) Vec<u8>);

#[async_trait]
impl Secrets for Password {
    async fn resolve(&self, _: &SecretRef) -> Result<SecretValue, secret::Error> {
        Ok(SecretValue::new(self.0.clone()))
    }
}

impl Database {
    /// A new database on the test server, if there is one.
    pub(crate) async fn create() -> Option<Self> {
        let url = crate::emulators::wanted("CLAWHOOK_TEST_POSTGRES_URL")?;
        let authorities = std::env::var("CLAWHOOK_TEST_CA").ok().map(|file| std::fs::read(file).unwrap().into());
        let server = tokio_postgres::Config::from_str(&url).unwrap();
        let Host::Tcp(host) = &server.get_hosts()[0] else { panic!("the test server listens on TCP") };
        let place = PostgresPlace {
            host: host.clone(),
            port: server.get_ports()[0],
            database: format!("clawhook_{:016x}", rand::random::<u64>()),
            user: server.get_user().unwrap().to_owned(),
            auth: PostgresAuth::Password(SecretRef::to(SecretName::new("postgres").unwrap())),
            authorities,
        };
        let database = Self { place, server };
        database.admin(&format!("CREATE DATABASE {}", database.place.database)).await;
        Some(database)
    }

    /// Another gateway's store on it.
    pub(super) async fn open(&self) -> Result<Postgres, Error> {
        Postgres::open(self.parts(self.place.clone())).await
    }

    /// Where the server listens.
    pub(crate) fn port(&self) -> u16 {
        self.place.port
    }

    /// `storage` in clawhook.yaml for a gateway on it, and its password, the secret `postgres`.
    pub(crate) fn settings(&self) -> (String, String) {
        self.settings_at(self.port())
    }

    /// The same through another port.
    pub(crate) fn settings_at(&self, port: u16) -> (String, String) {
        (format!("storage: {{ backend: postgres, {} }}", self.keys(port)), self.password())
    }

    /// Where it is and who asks, as keys of a settings file.
    pub(crate) fn keys(&self, port: u16) -> String {
        let PostgresPlace { host, database, user, .. } = &self.place;
        let ca = std::env::var("CLAWHOOK_TEST_CA").unwrap();
        format!(
            "host: \"{host}\", port: {port}, database: {database}, user: {user}, \
             password: {{ secret_ref: postgres }}, ca: \"{ca}\""
        )
    }

    /// The value of the secret `postgres`.
    pub(crate) fn password(&self) -> String {
        String::from_utf8(self.server.get_password().unwrap().to_vec()).unwrap()
    }

    pub(super) async fn gateway(&self) -> Arc<dyn Store> {
        Arc::new(self.open().await.unwrap())
    }

    pub(super) fn parts(&self, place: PostgresPlace) -> Parts {
        let password = self.server.get_password().unwrap_or_default().to_vec();
        Parts {
            settings: Settings { backend: "postgres".into(), postgres: Some(place), ..Settings::default() },
            azure: Arc::default(),
            secrets: Arc::new(Password(password)),
            clock: Arc::new(SystemClock),
        }
    }

    pub(super) async fn admin(&self, sql: &str) {
        connect(&self.server, self.place.authorities.as_deref()).await.batch_execute(sql).await.unwrap();
    }

    /// A connection of the test's own.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        let mut config = self.server.clone();
        config.dbname(&self.place.database);
        connect(&config, self.place.authorities.as_deref()).await
    }

    pub(super) async fn run(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.client().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Cuts every connection of every gateway, as a server does that restarts.
    pub(super) async fn cut(&self) {
        self.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    }

    pub(super) async fn refusal(&self, place: PostgresPlace) -> String {
        match Postgres::open(self.parts(place)).await {
            Err(error @ Error::Open { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.place.database);
        let (server, authorities) = (self.server.clone(), self.place.authorities.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // The server may be on its way down with the tests.
                let _ = connect(&server, authorities.as_deref()).await.batch_execute(&sql).await;
            });
        });
        let _ = dropped.join();
    }
}

async fn connect(config: &tokio_postgres::Config, authorities: Option<&[u8]>) -> tokio_postgres::Client {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    for authority in rustls::pki_types::CertificateDer::pem_slice_iter(authorities.unwrap_or_default()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await.unwrap();
    // It ends with its client.
    tokio::spawn(connection);
    client
}
