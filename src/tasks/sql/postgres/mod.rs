//! PostgreSQL. The connection is driven beside the work, by the attempt itself.

mod failures;
mod merge;
mod params;
mod session;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::failures::failure;
use self::session::PostgresSession;
use super::{Session, Stage};
use crate::azure::Azure;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::secret::Secrets;
use crate::limits;
use crate::outbound::Egress;
use crate::store::postgres::{is_here, trust};
use crate::store::{PostgresAuth, PostgresPlace};
use crate::tasks::{TaskContext, secret_failure};

/// A database on PostgreSQL.
pub(super) struct Server {
    place: PostgresPlace,
    egress: Egress,
    azure: Arc<Azure>,
    tls: OnceCell<MakeRustlsConnect>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.place.host, self.place.port, self.place.database)
    }
}

type Opened = (
    Client,
    tokio_postgres::Connection<
        TcpStream,
        <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<TcpStream>>::Stream,
    >,
);

impl Server {
    pub(super) fn new(place: PostgresPlace, egress: Egress, azure: Arc<Azure>) -> Self {
        Self { place, egress, azure, tls: OnceCell::new() }
    }

    /// Opens a connection, and does `work` on it.
    pub(super) async fn with<T, F>(
        &self,
        ctx: &TaskContext<'_>,
        work: impl FnOnce(Box<dyn Session>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let (client, connection) = super::in_time(limits::POSTGRES_CONNECT_MAX, self.open(ctx.secrets)).await?;
        let mut driven = pin!(connection);
        let result = {
            let limit = ctx.time_limit;
            let mut worked = pin!(async move {
                set_up(&client, limit).await?;
                work(Box::new(PostgresSession::new(client))).await
            });
            tokio::select! {
                biased;
                result = &mut worked => result,
                // The work is told by its next call.
                _ = &mut driven => return worked.await,
            }
        };
        // The client is gone, so the connection says goodbye and ends.
        let _ = tokio::time::timeout(limits::SQL_GOODBYE_MAX, &mut driven).await;
        result
    }

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
        let stream = super::connect(&self.egress, host, *port).await?;
        let tls =
            <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<TcpStream>>::make_tls_connect(&mut tls, host)
                .map_err(|error| config_failure(format!("`{host}` cannot be the name in a certificate: {error}")))?;
        config.connect_raw(stream, tls).await.map_err(|error| failure(&error, Stage::Opening))
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

/// What a statement failed of before the commit.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn told(error: tokio_postgres::Error) -> Failure {
    failure(&error, Stage::Working)
}

/// A name in SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
