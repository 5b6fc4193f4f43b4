//! Azure SQL and SQL Server, by TDS. <https://learn.microsoft.com/openspecs/windows_protocols/ms-tds/>

mod cells;
mod failures;
mod params;
mod session;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt as _};

use self::failures::failure;
use self::session::AzureSqlSession;
use super::{Session, Stage};
use crate::azure::Azure;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::secret::{SecretRef, Secrets};
use crate::limits;
use crate::outbound::Egress;
use crate::tasks::{TaskContext, secret_failure};

/// Where a database on Azure SQL is, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureSqlPlace {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub auth: AzureSqlAuth,
    /// Authorities that the server's certificate may also come from, PEM; those of the machine always count.
    pub authorities: Option<Arc<[u8]>>,
}

/// How we prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureSqlAuth {
    /// A login of the server, or a user of the database.
    Password { user: String, password: SecretRef },
    /// By a token of the identity of `azure`.
    Entra,
}

/// A database on Azure SQL.
pub(super) struct Server {
    place: AzureSqlPlace,
    egress: Egress,
    azure: Arc<Azure>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.place.host, self.place.port, self.place.database)
    }
}

type Connection = Client<Compat<TcpStream>>;

impl Server {
    pub(super) fn new(place: AzureSqlPlace, egress: Egress, azure: Arc<Azure>) -> Self {
        Self { place, egress, azure }
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
        let opening = async {
            let mut client = Box::pin(self.open(ctx.secrets, ctx.time_limit)).await?;
            set_up(&mut client, ctx.time_limit).await?;
            Ok(client)
        };
        let client = super::in_time(limits::SQL_CONNECT_MAX, opening).await?;
        work(Box::new(AzureSqlSession::new(client))).await
    }

    async fn open(&self, secrets: &dyn Secrets, limit: Duration) -> Result<Connection, Failure> {
        let config_failure = |why: String| Failure::new("sql.connect", Fault::Config, why);
        let auth = match &self.place.auth {
            AzureSqlAuth::Password { user, password } => {
                let value = secrets.resolve(password).await.map_err(|error| secret_failure(&error))?;
                let text = std::str::from_utf8(value.expose())
                    .map_err(|_| config_failure("the password is not UTF-8".to_owned()))?;
                AuthMethod::sql_server(user, text)
            }
            AzureSqlAuth::Entra => {
                let token = self.azure.token(&self.azure.cloud().sql_scope()).await;
                let token = token.map_err(|error| {
                    Failure::new("sql.connect", Fault::Here, error.to_string()).retriable(Class::Connect, None)
                })?;
                AuthMethod::aad_token(token.token.secret())
            }
        };
        let (mut host, mut port) = (self.place.host.clone(), self.place.port);
        // From within Azure the gateway of the service sends callers on to the machine that has the database.
        // <https://learn.microsoft.com/azure/azure-sql/database/connectivity-architecture>
        for _ in 0..=limits::SQL_REDIRECTS_MAX {
            let stream = super::connect(&self.egress, &host, port).await?;
            let config = self.config(&host, port, auth.clone(), limit);
            match Box::pin(Client::connect(config, stream.compat_write())).await {
                Ok(client) => return Ok(client),
                Err(tiberius::error::Error::Routing { host: to, port: at }) => {
                    // An instance may stand behind the name; the port says which it is.
                    to.split('\\').next().unwrap_or_default().clone_into(&mut host);
                    port = at;
                }
                Err(error) => return Err(failure(&error, Stage::Opening)),
            }
        }
        let why = format!("the server sends on to another one, more than {} times", limits::SQL_REDIRECTS_MAX);
        Err(Failure::new("sql.connect", Fault::Far, why).retriable(Class::Connect, None))
    }

    /// The name in the certificate is that of the machine that is really called.
    fn config(&self, host: &str, port: u16, auth: AuthMethod, limit: Duration) -> Config {
        let mut config = Config::new();
        config.host(host.trim_matches(['[', ']']));
        config.port(port);
        config.database(&self.place.database);
        config.application_name("clawhook task");
        config.authentication(auth);
        config.encryption(EncryptionLevel::Required);
        if let Some(authorities) = &self.place.authorities {
            config.trust_cert_ca_bundle(authorities.to_vec());
        }
        config.handshake_timeout(Some(limits::SQL_CONNECT_MAX));
        config.command_timeout(Some(limit));
        config
    }
}

/// What holds for every statement, whatever the server or the login have for a habit: an error undoes the transaction,
/// nobody waits for a lock longer than the attempt lasts, rows are counted, and dates are read one way.
async fn set_up(client: &mut Connection, limit: Duration) -> Result<(), Failure> {
    let settings = format!(
        "SET XACT_ABORT ON; SET IMPLICIT_TRANSACTIONS OFF; SET NOCOUNT OFF; SET QUOTED_IDENTIFIER ON; \
         SET ANSI_NULLS ON; SET ANSI_WARNINGS ON; SET ANSI_PADDING ON; SET ARITHABORT ON; SET CONCAT_NULL_YIELDS_NULL ON; \
         SET NUMERIC_ROUNDABORT OFF; SET DATEFORMAT ymd; SET LOCK_TIMEOUT {}",
        limit.as_millis().clamp(1, i32::MAX.unsigned_abs().into()),
    );
    let told = |error| failure(&error, Stage::Opening);
    client.simple_query(settings).await.map_err(told)?.into_results().await.map(|_| ()).map_err(told)
}

/// What a statement failed of before the commit.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn told(error: tiberius::error::Error) -> Failure {
    failure(&error, Stage::Working)
}
