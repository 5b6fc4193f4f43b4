//! Databases that workflows work with. An attempt has a connection of its own, so nothing of one run is left for the
//! next, and closing it ends whatever was under way. What a task asks is the trait `Session`; how a server is asked is
//! one folder for each kind of server.

mod answer;
mod azure_sql;
mod load;
mod postgres;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

pub(super) use self::answer::Answer;
pub use self::azure_sql::{AzureSqlAuth, AzureSqlPlace};
pub(super) use self::load::{Merge, Merged, Piece, Pieces, Refused, Said, Target, Upsert};
use super::TaskContext;
use crate::azure::Azure;
use crate::domain::failure::{Class, Failure, Fault};
use crate::limits;
use crate::outbound::Egress;
use crate::store::PostgresPlace;

/// The databases that workflows may name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Databases(Arc<BTreeMap<String, Database>>);

/// Where a database is, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Postgres(PostgresPlace),
    AzureSql(AzureSqlPlace),
}

/// One database.
pub struct Database {
    server: Server,
    turns: Semaphore,
}

/// Each kind of server, in its own words.
enum Server {
    Postgres(postgres::Server),
    AzureSql(azure_sql::Server),
}

impl Databases {
    /// Nothing is opened yet.
    pub fn new(places: &BTreeMap<String, Place>, egress: &Egress, azure: &Arc<Azure>) -> Self {
        let server = |place: &Place| match place.clone() {
            Place::Postgres(place) => Server::Postgres(postgres::Server::new(place, egress.clone(), Arc::clone(azure))),
            Place::AzureSql(place) => {
                Server::AzureSql(azure_sql::Server::new(place, egress.clone(), Arc::clone(azure)))
            }
        };
        let database =
            |place: &Place| Database { server: server(place), turns: Semaphore::new(limits::SQL_CONNECTIONS_MAX) };
        Self(Arc::new(places.iter().map(|(name, place)| (name.clone(), database(place))).collect()))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Server::Postgres(server) => write!(f, "Database({server})"),
            Server::AzureSql(server) => write!(f, "Database({server})"),
        }
    }
}

/// An open connection, as tasks see it. What fails leaves the transaction unusable; dropping the session undoes it.
#[async_trait]
pub(super) trait Session: Send {
    /// The rows of one query; whatever else it does is undone.
    async fn query(&mut self, sql: &str, params: &[Value], answer: &mut Answer<'_>) -> Result<(), Failure>;

    /// Opens the transaction that everything below works in.
    async fn begin(&mut self) -> Result<(), Failure>;

    async fn commit(&mut self) -> Result<(), Failure>;

    /// Does one statement; how many rows it met.
    async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, Failure>;

    /// Makes the table of marks when it is not there; before the transaction.
    async fn prepare_once(&mut self) -> Result<(), Failure>;

    /// Takes the mark of this task inside the open transaction; what it gave when it has run before, and then the
    /// transaction is over. A second one that is under way at this moment waits here for the first.
    async fn claim_once(&mut self, key: &str) -> Result<Option<Value>, Failure>;

    /// Puts what the task gives to its mark.
    async fn keep_once(&mut self, key: &str, output: &Value) -> Result<(), Failure>;

    /// How tables are loaded; none where the server's kind cannot yet.
    fn loads(&mut self) -> Option<&mut dyn Loads>;
}

/// What a load asks beside that, inside the open transaction.
#[async_trait]
pub(super) trait Loads: Send {
    /// Reads what columns a table has.
    async fn target(&mut self, table: &[String]) -> Result<Target, Failure>;

    /// Puts rows of so many cells into a temporary table.
    async fn stage(&mut self, cells: usize, pieces: &mut Pieces<'_, '_>) -> Result<(), Failure>;

    /// From the temporary table into the target; rows that do not fit are refused.
    async fn merge(&mut self, merge: &Merge<'_>, refused: &mut Refused<'_>) -> Result<Merged, Failure>;
}

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked yet.
    Opening,
    /// Nothing is written before the commit.
    Working,
    /// Whether it was written is not known when this fails.
    Committing,
}

/// What a load into Azure SQL is told.
pub(crate) const NO_LOAD: &str = "`sql_load` does not load into Azure SQL yet";
pub(crate) const NO_LOAD_HELP: &str =
    "write rows with `sql_exec`: `INSERT … SELECT … FROM OPENJSON(@P1) WITH (…)` takes a list as one parameter";

const HELP: &str = "correct the statement, or the data that it is given";

/// The statement, or what it was given, is wrong.
pub(super) fn sql_failure(why: impl Into<String>) -> Failure {
    Failure::new("sql.failed", Fault::Config, why).help(HELP)
}

/// Opens a connection to the database `name`, and does `work` on it.
pub(super) async fn with<T, F>(
    ctx: &TaskContext<'_>,
    name: &str,
    work: impl FnOnce(Box<dyn Session>) -> F,
) -> Result<T, Failure>
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
    let result = match &database.server {
        Server::Postgres(server) => server.with(ctx, work).await,
        Server::AzureSql(server) => Box::pin(server.with(ctx, work)).await,
    };
    result.map_err(|failure| failure.at(name))
}

/// A connection within the time that opening may take.
async fn in_time<T>(limit: Duration, opening: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
        let why = format!("there is no connection within {} s", limit.as_secs());
        Err(Failure::new("sql.connect", Fault::Here, why).retriable(Class::Connect, None))
    })
}

/// A connection to an address that the egress guard lets through.
async fn connect(egress: &Egress, host: &str, port: u16) -> Result<TcpStream, Failure> {
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
        if let Err(refusal) = egress.check(address.ip()) {
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
