//! Databases that workflows work with. An attempt has a connection of its own, so nothing of one run is left for the
//! next, and closing it ends whatever was under way. The connection is driven beside the work, by the attempt itself.

mod failures;
mod params;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

pub(super) use self::failures::{Stage, failure, sql_failure};
pub(super) use self::params::{Param, bind};
use super::{TaskContext, secret_failure};
use crate::azure::Azure;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::secret::Secrets;
use crate::limits;
use crate::outbound::Egress;
use crate::store::postgres::{is_here, trust};
use crate::store::{PostgresAuth, PostgresPlace};

/// The databases that workflows may name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Databases(Arc<BTreeMap<String, Database>>);

/// One database.
pub struct Database {
    place: PostgresPlace,
    egress: Egress,
    azure: Arc<Azure>,
    turns: Semaphore,
    tls: OnceCell<MakeRustlsConnect>,
}

impl Databases {
    /// Nothing is opened yet.
    pub fn new(places: &BTreeMap<String, PostgresPlace>, egress: &Egress, azure: &Arc<Azure>) -> Self {
        let database = |place: &PostgresPlace| Database {
            place: place.clone(),
            egress: egress.clone(),
            azure: Arc::clone(azure),
            turns: Semaphore::new(limits::SQL_CONNECTIONS_MAX),
            tls: OnceCell::new(),
        };
        Self(Arc::new(places.iter().map(|(name, place)| (name.clone(), database(place))).collect()))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({}:{}/{})", self.place.host, self.place.port, self.place.database)
    }
}

/// Opens a connection to the database `name`, and does `work` on it.
pub(super) async fn with<T, F>(ctx: &TaskContext<'_>, name: &str, work: impl FnOnce(Client) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let known = || ctx.databases.0.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let database = ctx.databases.0.get(name).ok_or_else(|| {
        let help = if ctx.databases.0.is_empty() {
            "add it under `databases` in clawhook.yaml".to_owned()
        } else {
            format!("there are {}", known())
        };
        Failure::new("sql.database", Fault::Config, format!("there is no database `{name}`")).help(help)
    })?;
    let here = |why: String| Failure::new("sql.connect", Fault::Here, why).retriable(Class::Connect, None);
    // Each connection costs the server a process.
    let _turn = database.turns.acquire().await.map_err(|error| here(error.to_string()))?;
    let opened = tokio::time::timeout(limits::POSTGRES_CONNECT_MAX, database.open(ctx.secrets)).await;
    let late = format!("there is no connection to `{name}` within {} s", limits::POSTGRES_CONNECT_MAX.as_secs());
    let (client, connection) = opened.unwrap_or_else(|_| Err(here(late))).map_err(|failure| failure.at(name))?;
    let mut driven = pin!(connection);
    let result = {
        let limit = ctx.time_limit;
        let mut worked = pin!(async move {
            set_up(&client, limit).await?;
            work(client).await
        });
        tokio::select! {
            biased;
            result = &mut worked => result,
            // The work is told by its next call.
            _ = &mut driven => return worked.await.map_err(|failure| failure.at(name)),
        }
    };
    // The client is gone, so the connection says goodbye and ends.
    let _ = tokio::time::timeout(limits::SQL_GOODBYE_MAX, &mut driven).await;
    result.map_err(|failure| failure.at(name))
}

type Opened = (
    Client,
    tokio_postgres::Connection<
        TcpStream,
        <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<TcpStream>>::Stream,
    >,
);

impl Database {
    async fn open(&self, secrets: &dyn Secrets) -> Result<Opened, Failure> {
        let PostgresPlace { host, port, database, user, authorities, .. } = &self.place;
        let config_failure = |why: String| Failure::new("sql.connect", Fault::Config, why);
        let tls =
            self.tls.get_or_try_init(|| async { trust(authorities.as_deref()).await.map(MakeRustlsConnect::new) });
        let mut tls = tls.await.map_err(config_failure)?.clone();
        let password = match &self.place.auth {
            PostgresAuth::Password(reference) => {
                let value = secrets.resolve(reference).await.map_err(|error| secret_failure(&error))?;
                value.expose().to_vec()
            }
            PostgresAuth::Entra => {
                let token = self.azure.token(&self.azure.cloud().postgres_scope()).await;
                let token = token.map_err(|error| {
                    Failure::new("sql.connect", Fault::Here, error.to_string()).retriable(Class::Connect, None)
                })?;
                token.token.secret().as_bytes().to_vec()
            }
        };
        let mut config = Config::new();
        // On this machine there may be nothing to hide from; everywhere else a server without TLS is refused.
        let mode = if is_here(host) { SslMode::Prefer } else { SslMode::Require };
        config.user(user).password(password).dbname(database).application_name("clawhook task").ssl_mode(mode);
        let stream = self.connect(host, *port).await?;
        let tls =
            <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<TcpStream>>::make_tls_connect(&mut tls, host)
                .map_err(|error| config_failure(format!("`{host}` cannot be the name in a certificate: {error}")))?;
        config.connect_raw(stream, tls).await.map_err(|error| failure(&error, Stage::Opening))
    }

    /// A connection to an address that the egress guard lets through.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Failure> {
        let lost = |why: String| {
            Failure::new("sql.connect", Fault::Far, why)
                .help("check that the server is up, and that a firewall lets this machine through")
                .retriable(Class::Connect, None)
        };
        let host = host.trim_matches(['[', ']']);
        let found: Vec<SocketAddr> = if let Ok(address) = host.parse::<IpAddr>() {
            vec![SocketAddr::new(address, port)]
        } else {
            let found = tokio::net::lookup_host((host, port)).await;
            found.map_err(|error| lost(format!("cannot find an address of `{host}`: {error}")))?.collect()
        };
        let mut why = lost(format!("`{host}` has no address"));
        for address in found.into_iter().take(limits::ADDRESSES_TRIED_MAX) {
            if let Err(refusal) = self.egress.check(address.ip()) {
                let message = format!("`{host}` is not called because {} is {refusal}", address.ip());
                let help = format!("if this database is meant, add `{}` to `egress.allow`", address.ip());
                why = Failure::new("http.egress", Fault::Config, message).help(help);
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(|error| lost(error.to_string()))?;
                    return Ok(stream);
                }
                Err(error) => why = lost(format!("cannot connect to `{host}` at {address}: {error}")),
            }
        }
        Err(why)
    }
}

/// What holds for every statement: it ends with the attempt, also when we are gone, and texts look the same everywhere.
async fn set_up(client: &Client, limit: Duration) -> Result<(), Failure> {
    let settings = format!(
        "SET statement_timeout = {0}; SET idle_in_transaction_session_timeout = {0}; \
         SET client_connection_check_interval = '5s'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; \
         SET client_min_messages = warning",
        limit.as_millis().clamp(1, i32::MAX.unsigned_abs().into()),
    );
    client.batch_execute(&settings).await.map_err(|error| failure(&error, Stage::Opening))
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
