//! `databases` of `clawhook.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{PostgresAuth, SecretRef};

/// A database that workflows work with.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The kind of server.
    #[serde(rename = "type")]
    pub kind: DatabaseType,
    /// The server, such as `orders.postgres.database.azure.com` or `orders.database.windows.net`. Private addresses want `egress.allow`.
    pub host: String,
    /// Its port; 5432, or 1433 for Azure SQL, when left out.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// The database.
    pub database: String,
    /// The user; for Azure SQL only with a password.
    pub user: Option<String>,
    /// How the user proves who it is; by a password when left out.
    pub auth: Option<PostgresAuth>,
    /// The user's password, for `auth: password`.
    pub password: Option<SecretRef>,
    /// A PEM file with the authorities of the server's certificate, instead of those of the machine; for Azure SQL beside
    /// them.
    pub ca: Option<String>,
}

/// A kind of database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseType {
    /// PostgreSQL, 14 or later.
    Postgres,
    /// Azure SQL and SQL Server, 2016 or later, for `sql_query` and `sql_exec`.
    AzureSql,
}
