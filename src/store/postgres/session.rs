//! One connection: its statements, prepared once, and the way to open another. Every connection signs in anew, so a
//! rotated password or a fresh token is used from the next one on.
//!
//! Plans must not hang on statistics: a table that was empty a minute ago is full now. So every statement is planned
//! once, by index, and written for that: ids come as an array, which an index serves in any join, and with the span that
//! they lie in, by which partitions are left out (an array alone does not do that).

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{Error, PostgresAuth, PostgresPlace};
use super::trouble::{Outcome, Trouble, sentence, within};
use crate::azure::Azure;
use crate::domain::secret::Secrets;
use crate::limits;

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The channel on which gateways tell each other of new work.
pub(super) const CHANNEL: &str = "clawhook_work";

/// How to open connections.
pub(super) struct Connector {
    place: PostgresPlace,
    azure: Arc<Azure>,
    secrets: Arc<dyn Secrets>,
    tls: MakeRustlsConnect,
    tracker: TaskTracker,
}

/// What a connection is for.
#[derive(Debug, Clone)]
pub(super) struct Purpose {
    /// Shown in `pg_stat_activity`.
    pub(super) name: &'static str,
    /// After this the server gives a statement up; a little more than we wait.
    pub(super) statement_max: Duration,
    /// For batches of writes.
    pub(super) writes: bool,
    /// Told when another gateway announces work.
    pub(super) listener: Option<Listener>,
}

/// Who is told of announcements, and whose own are not told.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) came: Arc<Notify>,
    pub(super) own: String,
}

/// One open connection.
pub(super) struct Session {
    client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
    end: CancellationToken,
}

impl Connector {
    pub(super) fn new(
        place: PostgresPlace,
        azure: Arc<Azure>,
        secrets: Arc<dyn Secrets>,
        tls: rustls::ClientConfig,
        tracker: TaskTracker,
    ) -> Self {
        Self { place, azure, secrets, tls: MakeRustlsConnect::new(tls), tracker }
    }

    /// Opens a connection, within [`limits::POSTGRES_CONNECT_MAX`].
    pub(super) async fn connect(&self, purpose: &Purpose) -> Outcome<Session> {
        within(limits::POSTGRES_CONNECT_MAX, self.open(purpose)).await
    }

    async fn open(&self, purpose: &Purpose) -> Outcome<Session> {
        let mut config = config(&self.place);
        config.application_name(format!("clawhook {}", purpose.name)).password(self.password().await?);
        let (client, mut connection) = config.connect(self.tls.clone()).await?;
        let end = CancellationToken::new();
        let (ended, listener) = (end.clone(), purpose.listener.clone());
        self.tracker.spawn(async move {
            let driven = async {
                while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                    match message {
                        Ok(message) => heed(&message, listener.as_ref()),
                        Err(error) => {
                            tracing::debug!(error = sentence(&error), "a connection to PostgreSQL ended");
                            break;
                        }
                    }
                }
            };
            let mut driven = pin!(driven);
            tokio::select! {
                () = &mut driven => {}
                () = ended.cancelled() => {}
            }
            ended.cancel();
        });
        let session = Session { client, statements: Mutex::new(HashMap::new()), end };
        session.set_up(purpose).await?;
        Ok(session)
    }

    async fn password(&self) -> Outcome<Vec<u8>> {
        match &self.place.auth {
            PostgresAuth::Password(reference) => match self.secrets.resolve(reference).await {
                Ok(value) => Ok(value.expose().to_vec()),
                Err(error) => Err(Trouble::Away(error.to_string())),
            },
            PostgresAuth::Entra => match self.azure.token(&self.azure.cloud().postgres_scope()).await {
                Ok(token) => Ok(token.token.secret().as_bytes().to_vec()),
                Err(error) => Err(Trouble::Away(error.to_string())),
            },
        }
    }

    /// Where the server is, for messages.
    pub(super) fn place(&self) -> String {
        format!("{}:{}/{}", self.place.host, self.place.port, self.place.database)
    }

    pub(super) fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({})", self.place())
    }
}

fn config(place: &PostgresPlace) -> Config {
    let mut config = Config::new();
    // On this machine there may be nothing to hide from; everywhere else a server without TLS is refused.
    let tls = if is_here(&place.host) { SslMode::Prefer } else { SslMode::Require };
    config
        .host(&place.host)
        .port(place.port)
        .dbname(&place.database)
        .user(&place.user)
        .ssl_mode(tls)
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(limits::POSTGRES_CONNECT_MAX)
        .tcp_user_timeout(limits::POSTGRES_SHOW_MAX)
        .keepalives_idle(limits::POSTGRES_HEARTBEAT)
        .keepalives_interval(limits::POSTGRES_HEARTBEAT)
        .keepalives_retries(3);
    config
}

/// Whether the host is this machine: a loopback address, or the folder of a socket.
pub(crate) fn is_here(host: &str) -> bool {
    host == "localhost"
        || host.starts_with('/')
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn heed(message: &AsyncMessage, listener: Option<&Listener>) {
    match message {
        AsyncMessage::Notification(note) => {
            if let Some(listener) = listener.filter(|listener| listener.own != note.payload()) {
                listener.came.notify_one();
            }
        }
        AsyncMessage::Notice(notice) => tracing::debug!(notice = notice.message(), "PostgreSQL says"),
        _ => {}
    }
}

impl Session {
    async fn set_up(&self, purpose: &Purpose) -> Outcome<()> {
        // A commit that a standby or the disk may still lose is no promise to a sender, whatever the server's default.
        let settings = format!(
            "SET search_path = pg_catalog; SET statement_timeout = {}; SET lock_timeout = {}; \
             SET idle_in_transaction_session_timeout = {}; SET client_min_messages = warning; SET jit = off; \
             SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_mergejoin = off; \
             SET enable_nestloop = {}; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')",
            (purpose.statement_max + Duration::from_secs(1)).as_millis(),
            limits::POSTGRES_LOCK_MAX.as_millis(),
            limits::POSTGRES_WRITE_MAX.as_millis(),
            // Joining two arrays of a batch in a loop costs the square of its size.
            if purpose.writes { "off" } else { "on" },
        );
        self.batch(&settings).await?;
        if purpose.listener.is_some() {
            self.batch(&format!("LISTEN {CHANNEL}")).await?;
        }
        Ok(())
    }

    /// A statement, prepared at its first use.
    pub(super) async fn statement(&self, sql: &'static str) -> Outcome<Statement> {
        let known = || self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().get(sql).cloned();
        if let Some(statement) = found {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        known().insert(sql, statement.clone());
        Ok(statement)
    }

    pub(super) async fn query(&self, sql: &'static str, params: Params<'_>) -> Outcome<Vec<Row>> {
        let statement = self.statement(sql).await?;
        Ok(self.client.query(&statement, params).await?)
    }

    pub(super) async fn execute(&self, sql: &'static str, params: Params<'_>) -> Outcome<u64> {
        let statement = self.statement(sql).await?;
        Ok(self.client.execute(&statement, params).await?)
    }

    /// A statement that is prepared already: it is sent when this is first polled, so several can be sent at once.
    pub(super) async fn run(&self, statement: &Statement, params: Params<'_>) -> Outcome<u64> {
        Ok(self.client.execute(statement, params).await?)
    }

    /// Statements without parameters and without rows.
    pub(super) async fn batch(&self, sql: &str) -> Outcome<()> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// The same, for rows, of a statement that is made on the spot.
    pub(super) async fn query_once(&self, sql: &str, params: Params<'_>) -> Outcome<Vec<Row>> {
        Ok(self.client.query(sql, params).await?)
    }

    pub(super) async fn begin(&self) -> Outcome<()> {
        self.batch("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await
    }

    pub(super) async fn commit(&self) -> Outcome<()> {
        self.batch("COMMIT").await
    }

    /// Does `work` in a transaction, and undoes it when it fails.
    pub(super) async fn in_transaction<T>(&self, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        self.begin().await?;
        let done = match work.await {
            Ok(done) => self.commit().await.map(|()| done),
            Err(trouble) => Err(trouble),
        };
        self.undone_if_failed(done).await
    }

    /// What a transaction came to, undone when that is a failure.
    pub(super) async fn undone_if_failed<T>(&self, done: Outcome<T>) -> Outcome<T> {
        if done.is_err() && !self.is_over() {
            self.undo().await;
        }
        done
    }

    /// Undoes the open transaction. A connection on which even that fails is of no more use.
    pub(super) async fn undo(&self) {
        if within(super::trouble::CALL_MAX, self.batch("ROLLBACK")).await.is_err() {
            self.kill();
        }
    }

    /// Closes the connection at once, whatever is under way on it.
    pub(super) fn kill(&self) {
        self.end.cancel();
    }

    pub(super) fn is_over(&self) -> bool {
        self.end.is_cancelled() || self.client.is_closed()
    }

    /// Waits for the end of the connection.
    pub(super) async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// A call that may take at most `limit`; one that takes longer costs the connection, as what it did is unknown. So
    /// does one that finds out that the server has become a standby.
    pub(super) async fn bounded<T>(&self, limit: Duration, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        let done = within(limit, work).await;
        if done.as_ref().err().is_some_and(|trouble| matches!(trouble, Trouble::Slow) || trouble.is_read_only()) {
            self.kill();
        }
        done
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session(over: {})", self.is_over())
    }
}

/// The smallest and the largest of some ids: what leaves partitions out.
pub(super) fn span(ids: &[i64]) -> (i64, i64) {
    (ids.iter().copied().min().unwrap_or(0), ids.iter().copied().max().unwrap_or(-1))
}

/// The trust in the server's certificate: the authorities of the settings, or those of the machine.
pub(crate) async fn trust(authorities: Option<&[u8]>) -> Result<rustls::ClientConfig, String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    if let Some(pem) = authorities {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| format!("`ca` is not PEM: {error}"))?;
            roots.add(certificate).map_err(|error| format!("`ca` holds no authority: {error}"))?;
        }
        if roots.is_empty() {
            return Err("`ca` holds no certificate".to_owned());
        }
    } else {
        let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
        let loaded = loaded.map_err(|error| format!("cannot read the machine's authorities: {error}"))?;
        roots.add_parsable_certificates(loaded.certs);
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// What opening says when it fails.
pub(super) fn cannot_open(connector: &Connector, trouble: &Trouble) -> Error {
    let why = match trouble.to_error("opening") {
        Error::Failed { why, .. } => why,
        other => other.to_string(),
    };
    Error::Open { place: connector.place(), why }
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn only_this_machine_may_be_spoken_to_in_the_clear() {
        for (host, here) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.8.0.1", true),
            ("[::1]", true),
            ("/var/run/postgresql", true),
            ("10.0.0.4", false),
            ("db.postgres.database.azure.com", false),
            ("localhost.example.com", false),
        ] {
            assert_eq!(is_here(host), here, "{host}");
        }
    }
}
