//! `clawhook.yaml`: the settings of one machine.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    Artifacts, BlobPlace, Channel, Database, Duration, ListenAddress, Rate, SecretName, SecretRef, Size, TextOrSecret,
    Version,
};
use crate::tasks::command::settings::Cores;

/// The settings of one machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The version of the language.
    pub version: Version,
    /// The doors.
    #[serde(default)]
    pub listen: Listeners,
    /// Who may use the control door.
    pub auth: Option<Auth>,
    /// Where runs are kept.
    #[serde(default)]
    pub storage: Storage,
    /// Where secrets come from.
    #[serde(default)]
    pub secrets: Secrets,
    /// Which Azure, and who we are there; for everything here that lives in Azure.
    #[serde(default)]
    pub azure: Azure,
    /// Where bodies and tables are kept that are too large for the record of a run.
    #[serde(default)]
    pub artifacts: Artifacts,
    /// How much this machine takes on.
    #[serde(default)]
    pub limits: SettingsLimits,
    /// How long things are kept.
    #[serde(default)]
    pub retention: Retention,
    /// Far ends by name, with their address and how to prove who we are.
    #[serde(default)]
    pub connections: BTreeMap<String, Connection>,
    /// Places where people are told, by name.
    #[serde(default)]
    pub channels: BTreeMap<String, Channel>,
    /// Databases by name, for `sql_query`, `sql_exec` and `sql_load`.
    #[serde(default)]
    pub databases: BTreeMap<String, Database>,
    /// Places by name for files that people and other systems fetch, for `blob_put` and `blob_get`.
    #[serde(default)]
    pub blobs: BTreeMap<String, BlobPlace>,
    /// Where the other files are, relative to this one.
    #[serde(default)]
    pub paths: Paths,
    /// Where workflows may call.
    #[serde(default)]
    pub egress: Egress,
    /// The programs of this machine that `command` tasks may run; none when left out.
    pub commands: Option<Commands>,
}

/// The doors.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// The public door: webhooks only.
    pub hooks: Option<HooksListener>,
    /// The door for people and programs of yours: REST, health and metrics.
    pub control: Option<ControlListener>,
}

/// The public door.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HooksListener {
    /// The address and port to listen on.
    pub address: Option<ListenAddress>,
    /// The certificate. May be left out on a loopback address.
    pub tls: Option<ListenTls>,
    /// Allows plain HTTP on an address that is not loopback.
    #[serde(default)]
    pub insecure: bool,
    /// Proxies whose `X-Forwarded-For` is believed, as CIDR.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// How many deliveries all routes together take in a time; more are answered 429 with `Retry-After`.
    pub rate: Option<Rate>,
    /// How many deliveries may come at once before `rate` counts.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
    /// How platforms reach this door, such as `https://gw.example.com`; paths of routes go behind it.
    pub public_url: Option<String>,
}

/// The control door.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlListener {
    /// The address and port to listen on.
    pub address: Option<ListenAddress>,
    /// The certificate. May be left out on a loopback address.
    pub tls: Option<ListenTls>,
    /// Allows plain HTTP on an address that is not loopback.
    #[serde(default)]
    pub insecure: bool,
    /// Host names under which people and programs address it, beside `localhost` and addresses: a guard against pages
    /// of other sites that make a browser call it.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// A certificate and its key: two PEM files, or a certificate of the key vault. They are read again when they change.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// The file with the certificate chain.
    pub cert: Option<String>,
    /// The file with the private key.
    pub key: Option<String>,
    /// The name of a certificate in the vault of `secrets`, instead of the two files.
    pub key_vault_certificate: Option<SecretName>,
}

/// Who may use the control door: `none`, or one or more methods.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Written out as `none`: everyone who reaches the door. Loopback only.
    None,
    /// By these.
    Methods(AuthMethods),
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "none" => Ok(Self::None),
            value => serde_json::from_value(value).map(Self::Methods).map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for Auth {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Auth".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let methods = generator.subschema_for::<AuthMethods>();
        json_schema!({
            "anyOf": [{ "const": "none" }, methods],
            "x-expected": "a map such as `{ jwt: { secret_env: JWT_SECRET } }`, or `none`",
        })
    }
}

/// The ways to prove who one is at the control door.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthMethods {
    /// Bearer tokens, signed with a shared secret.
    pub jwt: Option<JwtAuth>,
    /// Passwords, for people.
    pub basic: Option<BasicAuth>,
}

/// Bearer tokens, signed with a shared secret (HS256).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtAuth {
    /// The environment variable that holds the secret, at least 32 bytes.
    pub secret_env: String,
}

/// Passwords, for people.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The users, each with the secret that holds the password.
    pub users: BTreeMap<String, SecretRef>,
}

/// Where runs are kept.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// The kind of store.
    pub backend: Option<StorageBackend>,
    /// The folder of the store, relative to this file; with `azure-blob` the folder of its index, which can be lost.
    pub path: Option<String>,
    /// The storage account, for `azure-blob`, such as `https://orders.blob.core.windows.net`.
    pub endpoint: Option<String>,
    /// The container, for `azure-blob`.
    pub container: Option<String>,
    /// A shared access signature, for `azure-blob` without an identity.
    pub sas: Option<SecretRef>,
    /// The server, for `postgres`.
    pub host: Option<String>,
    /// Its port, 5432 when left out.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// The database, for `postgres`.
    pub database: Option<String>,
    /// The user, for `postgres`.
    pub user: Option<String>,
    /// How the user proves who it is, for `postgres`.
    pub auth: Option<PostgresAuth>,
    /// The user's password, for `auth: password`.
    pub password: Option<SecretRef>,
    /// A PEM file with the authorities of the server's certificate instead of those of the machine, for `postgres`.
    pub ca: Option<String>,
    /// Where finished runs are exported to, whatever the backend.
    pub records: Option<Records>,
}

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StorageBackend {
    /// A database file in the folder `path`.
    Sqlite,
    /// A container of Azure Blob Storage.
    AzureBlob,
    /// A PostgreSQL database, 14 or later.
    Postgres,
}

/// How a PostgreSQL user proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostgresAuth {
    /// By a token of the identity under `azure`.
    Entra,
    /// By a password.
    Password,
}

/// Where finished runs are exported to: one JSON file each.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// The storage account, such as `https://orders.blob.core.windows.net`.
    pub endpoint: String,
    /// The container.
    pub container: String,
    /// A shared access signature, without an identity.
    pub sas: Option<SecretRef>,
}

/// Which Azure, and who we are there.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Azure {
    /// The cloud, `public` when left out.
    pub cloud: Option<AzureCloud>,
    /// Who we are, `managed` when left out.
    pub identity: Option<AzureIdentity>,
    /// The client id of a user-assigned managed identity, or of the application of a workload identity.
    pub client_id: Option<String>,
    /// The tenant of a workload identity.
    pub tenant_id: Option<String>,
    /// The file with the token of a workload identity.
    pub token_file: Option<String>,
    /// Addresses at which host names are reached: for private endpoints without DNS, and for emulators.
    #[serde(default)]
    pub dns_overrides: BTreeMap<String, String>,
    /// A PEM file with the authorities to trust instead of those of the machine: for emulators, and for proxies that
    /// look into TLS.
    pub ca: Option<String>,
}

/// A cloud of Azure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AzureCloud {
    /// Global Azure.
    Public,
    /// Azure operated by 21Vianet.
    China,
    /// Azure Government.
    UsGov,
}

/// Who we are in Azure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AzureIdentity {
    /// The machine's managed identity.
    Managed,
    /// A token in a file, exchanged for one of Entra ID.
    Workload,
    /// Whoever is signed in with `az login`.
    Cli,
}

/// Where secrets come from.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The kind of source.
    pub source: Option<SecretSource>,
    /// The folder with one file per secret, for `source: file`.
    pub path: Option<String>,
    /// The vault, for `source: key-vault`, such as `https://orders.vault.azure.net`.
    pub vault_url: Option<String>,
}

/// A kind of secret source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// The environment: `erp-api-key` is read from `CLAWHOOK_SECRET_ERP_API_KEY`.
    #[default]
    Env,
    /// A folder with one file per secret.
    File,
    /// An Azure Key Vault.
    KeyVault,
}

impl SecretSource {
    /// The word that people type, by which the source is found.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::File => "file",
            Self::KeyVault => "key-vault",
        }
    }
}

/// How much this machine takes on.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsLimits {
    /// How many runs make progress at one time.
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: Option<u32>,
    /// The largest body of a delivery, for routes that set none.
    pub max_body: Option<Size>,
    /// The largest body or table that a task keeps in the record of its run; 64 KiB when left out. What is larger is an
    /// artifact.
    pub inline_max: Option<Size>,
}

/// How long things are kept.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Finished runs.
    pub runs: Option<Duration>,
    /// Bodies of requests and responses.
    pub payloads: Option<Duration>,
    /// Failed runs.
    pub failed_runs: Option<Duration>,
}

/// A far end that workflows call.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The address that task paths are added to, such as `https://erp.example.com/api`.
    pub base_url: String,
    /// How we prove who we are.
    pub auth: Option<ConnectionAuth>,
    /// Headers of every request.
    #[serde(default)]
    pub headers: BTreeMap<String, TextOrSecret>,
    /// How long one request may take.
    pub timeout: Option<Duration>,
    /// Whom we trust.
    pub tls: Option<ConnectionTls>,
    /// How often it may be called, by all workflows together.
    pub rate_limit: Option<ConnectionRateLimit>,
    /// Leaves it alone for a while when it fails several times in a row; never when left out.
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// How often a far end may be called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionRateLimit {
    /// How many calls in a time, of all that are of no operation below.
    pub rate: Option<Rate>,
    /// How many calls may go out at once before `rate` counts; as many as `rate` says when left out.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
    /// Operations that the far end counts by themselves; the first that covers a call counts it.
    #[serde(default)]
    pub operations: Vec<OperationRateLimit>,
}

/// How often one operation may be called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationRateLimit {
    /// Method and path behind `base_url`, such as `POST /reports/*`: `*` is one segment, `**` at the end any number.
    #[serde(rename = "match")]
    pub pattern: String,
    /// How many calls in a time.
    pub rate: Rate,
    /// How many calls may go out at once before `rate` counts; as many as `rate` says when left out.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
}

/// When a far end is left alone.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Failures in a row: no connection, no answer in time, a status of 500 or more; 5 when left out.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: Option<u32>,
    /// How long nobody calls before one call looks again; 30 seconds when left out.
    pub open_for: Option<Duration>,
}

/// How we prove to a far end who we are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionAuth {
    /// The way.
    #[serde(rename = "type")]
    pub kind: ConnectionAuthType,
    /// The header that carries the secret, for `type: header`, or the signature, for `hmac_body`: `Authorization` there
    /// when left out.
    pub header: Option<String>,
    /// The user, for `type: basic`.
    pub username: Option<TextOrSecret>,
    /// The secret: a key, a token or a password; for `header`, `bearer`, `basic`, `hmac_body` and `azure_communication`.
    pub secret_ref: Option<SecretName>,
    /// Whom or what the token is for, such as `https://management.azure.com/.default`; for types that ask for tokens.
    pub scope: Option<String>,
    /// Where tokens are asked for; `lwa` and `walmart` know theirs.
    pub token_url: Option<String>,
    /// The id of the client that asks for tokens.
    pub client_id: Option<TextOrSecret>,
    /// The secret of that client.
    pub client_secret: Option<SecretRef>,
    /// How the client sends id and secret, for the `oauth2` types: `basic` when left out.
    pub client_auth: Option<ClientAuth>,
    /// The refresh token that is traded for tokens, for `oauth2_refresh_token` and `lwa`.
    pub refresh_token: Option<SecretRef>,
    /// The audience of the token, for `oauth2_client_credentials`.
    pub audience: Option<String>,
    /// Further members of the form that asks for a token, for the `oauth2` types.
    #[serde(default)]
    pub params: BTreeMap<String, TextOrSecret>,
    /// Which of Amazon's APIs, for `lwa`: `selling_partner` when left out.
    pub api: Option<LwaApi>,
    /// `WM_SVC.NAME`, for `walmart`.
    pub service: Option<String>,
    /// `WM_CONSUMER.CHANNEL.TYPE`, for `walmart` and solution providers.
    pub channel_type: Option<TextOrSecret>,
    /// Text to put before the secret, for `type: header`, or before the signature, for `hmac_body`.
    pub prefix: Option<String>,
    /// How the signature is written, for `hmac_body`: `hex` (lower case) when left out.
    pub encoding: Option<MacEncoding>,
    /// A version of the secret, where the source keeps several.
    pub version: Option<String>,
    /// The member to take when the secret's value is a JSON object.
    pub field: Option<String>,
}

/// A way to prove who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionAuthType {
    /// A key in a header.
    Header,
    /// `Authorization: Bearer …`.
    Bearer,
    /// `Authorization: Basic …`, RFC 7617.
    Basic,
    /// HMAC-SHA256 over the body, in a header.
    HmacBody,
    /// A token of the identity under `azure`.
    ManagedIdentity,
    /// A token for a client id and secret, RFC 6749 section 4.4.
    #[serde(rename = "oauth2_client_credentials")]
    OAuth2ClientCredentials,
    /// A token for a refresh token, RFC 6749 section 6.
    #[serde(rename = "oauth2_refresh_token")]
    OAuth2RefreshToken,
    /// Login with Amazon.
    Lwa,
    /// The Walmart Marketplace API.
    Walmart,
    /// An access key of Azure Communication Services.
    AzureCommunication,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MacEncoding {
    /// Lower-case hex.
    Hex,
    /// With padding.
    Base64,
}

/// How a client proves who it is when it asks for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// By `Authorization: Basic`.
    Basic,
    /// By members of the form.
    Post,
}

/// One of Amazon's APIs that take Login with Amazon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LwaApi {
    /// The Selling Partner API.
    SellingPartner,
    /// The Ads API.
    Ads,
}

/// Whom we trust at a far end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionTls {
    /// A PEM file with the authorities to trust beside those of the machine.
    pub ca: String,
}

/// Where the other files are, relative to this one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// The folder of the route files.
    pub routes: Option<String>,
    /// The folder of the workflow files.
    pub workflows: Option<String>,
}

/// Where workflows may call.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Private ranges that workflows may call, as CIDR; none when left out.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// The programs of this machine that `command` tasks may run, and how much each may take.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    /// Programs, and folders whose programs may run, by their whole paths. Nobody but the owner may write to them.
    #[schemars(length(min = 1))]
    pub allow: Vec<String>,
    /// The most memory of one command, and what it has when its task does not say; 256 MiB when left out.
    pub memory: Option<Size>,
    /// The most processors of one command, and what it has when its task does not say; 1 when left out.
    pub cpu: Option<Cores>,
    /// The most processes and threads of one command, and what it has when its task does not say; 32 when left out.
    #[schemars(range(min = 1, max = 32_768))]
    pub processes: Option<u32>,
    /// How many commands run at one time, 4 when left out; the others wait.
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<u16>,
    /// Runs commands also where the machine cannot bound them: for development.
    #[serde(default)]
    pub unbounded: bool,
}
