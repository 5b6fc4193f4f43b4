//! How a connection proves who it is: one file per way, one row in [`AUTHS`].
//!
//! A way gets its secrets at the moment of use and puts them into the request; it stores none. Each value it puts
//! there is told to the masker, and so is each credential made from one, before the request goes anywhere.
//!
//! Ways that trade credentials for a token that ends are data: a [`Grant`](super::token::Grant) says how the token is
//! asked for, and [`TokenAuth`](super::token::TokenAuth) where it goes.

mod azure_communication;
mod basic;
mod bearer;
mod header;
mod hmac_body;
mod lwa;
mod managed_identity;
mod oauth2_client_credentials;
mod oauth2_refresh_token;
mod walmart;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Cause;
use super::request::Request;
use super::token::Text;
use super::{Client, Glance};
use crate::azure::{self, Azure};
use crate::clock::Clock;
use crate::domain::failure::Failure;
use crate::domain::masking::Masker;
use crate::domain::secret::{self, SecretRef, SecretValue, Secrets};

pub use basic::Basic;
pub(super) use basic::basic_credential;
pub use bearer::Bearer;
pub use header::Header;
pub use managed_identity::ManagedIdentity;

/// All ways, in the order of the docs.
pub static AUTHS: &[AuthKind] = &[
    header::KIND,
    bearer::KIND,
    basic::KIND,
    hmac_body::KIND,
    managed_identity::KIND,
    oauth2_client_credentials::KIND,
    oauth2_refresh_token::KIND,
    lwa::KIND,
    walmart::KIND,
    azure_communication::KIND,
];

/// The way of this name.
pub fn kind(name: &str) -> Option<&'static AuthKind> {
    AUTHS.iter().find(|kind| kind.name == name)
}

/// A way to authenticate, with its settings.
#[async_trait]
pub trait Auth: fmt::Debug + Send + Sync {
    /// The secrets it will ask for, so that `check` can look for them beforehand.
    fn secrets(&self) -> Vec<&SecretRef>;

    /// Puts the proof into the request and tells the masker what is secret in it.
    async fn apply(&self, request: &mut Request, with: &Means<'_>, masker: &mut Masker) -> Result<Proof, Error>;

    /// Whether the far end says by this answer that a token of ours is over before its time.
    fn is_refusal(&self, answer: &Glance<'_>) -> bool {
        let _ = answer;
        false
    }

    /// Whether it is worth asking for another token in place of one that was refused.
    fn may_replace(&self, token: TokenId, with: &Means<'_>) -> bool {
        let _ = (token, with);
        true
    }
}

/// What a way may use to make its proof.
#[derive(Clone, Copy)]
pub struct Means<'m> {
    pub client: &'m Client,
    pub secrets: &'m dyn Secrets,
    pub clock: &'m dyn Clock,
    /// A token that the far end has just refused: it is not used again.
    pub refused: Option<TokenId>,
}

impl Means<'_> {
    /// The value of a secret, told to the masker.
    pub(super) async fn secret(&self, reference: &SecretRef, masker: &mut Masker) -> Result<SecretValue, Error> {
        let value = self.secrets.resolve(reference).await?;
        masker.learn(reference, &value);
        Ok(value)
    }

    /// The bytes of a text, told to the masker when it is a secret.
    pub(super) async fn read(&self, text: &Text, masker: &mut Masker) -> Result<Vec<u8>, Error> {
        match text {
            Text::Plain(text) => Ok(text.clone().into_bytes()),
            Text::Secret(reference) => Ok(self.secret(reference, masker).await?.expose().to_vec()),
        }
    }
}

/// What the proof of a request was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Of what does not change by itself: sending it again proves nothing new.
    Fixed,
    /// Of a token that can be asked for anew.
    Token(TokenId),
}

/// Tells tokens of one process apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenId(pub(super) u64);

/// Why a request could not be given its proof. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A secret could not be had.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// The identity has no token.
    #[error(transparent)]
    Token(#[from] azure::Error),
    /// The far end gives no token.
    #[error("{}", .0.message)]
    Grant(Arc<Failure>),
    /// A secret does not fit where it belongs.
    #[error("secret `{secret}` cannot be used here: {why}")]
    Unfit { secret: SecretRef, why: String },
    /// The request could not be made.
    #[error(transparent)]
    Request(#[from] Cause),
}

/// A way with its settings, or why they cannot be read.
pub type Parsed = Result<Arc<dyn Auth>, serde_json::Error>;

/// A row of [`AUTHS`]: the name in `auth: { type: … }` and how its settings are read.
pub struct AuthKind {
    /// The value of `type`.
    pub name: &'static str,
    /// One sentence for the docs.
    pub summary: &'static str,
    parse: fn(Value, &Arc<Azure>) -> Parsed,
}

impl AuthKind {
    /// The row of a way that is read from its settings.
    pub const fn of<A: Auth + DeserializeOwned + 'static>(name: &'static str, summary: &'static str) -> Self {
        Self { name, summary, parse: |settings, _| Ok(Arc::new(serde_json::from_value::<A>(settings)?)) }
    }

    /// Reads the settings beside `type`. A way that needs Azure keeps the handle; none calls it yet.
    pub fn parse(&self, settings: Value, azure: &Arc<Azure>) -> Parsed {
        (self.parse)(settings, azure)
    }
}

/// Puts a secret header into the request, in place of one that is there.
pub(super) fn put_secret(request: &mut Request, name: &str, value: &[u8], from: &SecretRef) -> Result<(), Error> {
    request.headers.retain(|(there, _)| !there.as_str().eq_ignore_ascii_case(name));
    let unfit = |cause: Cause| Error::Unfit { secret: from.clone(), why: cause.to_string() };
    request.secret_header(name, value).map_err(unfit)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use chrono::DateTime;
    use data_encoding::BASE64;
    use serde_json::json;

    use super::*;
    use crate::clock::{SystemClock, TestClock, Timestamp};
    use crate::outbound::{Body, Egress};

    /// Every secret's value is its name backwards.
    #[derive(Debug)]
    struct Backwards;

    #[async_trait]
    impl Secrets for Backwards {
        async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, secret::Error> {
            let value: String = reference.name.as_str().chars().rev().collect();
            Ok(SecretValue::new(format!("{}{value}", reference.prefix.as_deref().unwrap_or_default())))
        }
    }

    fn means(client: &Client) -> Means<'_> {
        Means { client, secrets: &Backwards, clock: &SystemClock, refused: None }
    }

    fn azure() -> Arc<Azure> {
        Arc::default()
    }

    /// The header as it goes out, and as it is recorded.
    async fn check(kind_name: &str, settings: Value, sent: &str, shown: &str) {
        let auth = kind(kind_name).unwrap().parse(settings, &azure()).unwrap();
        let mut request = Request::new(http::Method::GET, "https://h/").unwrap();
        request.header("authorization", b"of the task").unwrap();
        let mut masker = Masker::new();
        let client = Client::new(Egress::default());
        auth.apply(&mut request, &means(&client), &mut masker).await.unwrap();
        let (name, value) = request.headers.last().unwrap();
        assert_eq!(format!("{name}: {}", value.to_str().unwrap()), sent);
        assert!(value.is_sensitive());
        assert_eq!(request.headers.iter().filter(|(there, _)| there == name).count(), 1);
        assert_eq!(format!("{name}: {}", masker.mask(value.to_str().unwrap())), shown);
    }

    #[tokio::test]
    async fn every_way_puts_its_proof_and_hides_it() {
        let header = json!({"header": "X-Api-Key", "secret_ref": "terces", "prefix": "Key "});
        check("header", header, "x-api-key: Key secret", "x-api-key: [secret:terces]").await;
        let bearer = json!({"secret_ref": "nekot", "version": "2"});
        check("bearer", bearer, "authorization: Bearer token", "authorization: Bearer [secret:nekot]").await;
        let basic = json!({"username": "ops", "secret_ref": "cba"});
        check("basic", basic, "authorization: Basic b3BzOmFiYw==", "authorization: Basic [secret:cba]").await;
        let key = json!({"username": {"secret_ref": "yek"}, "secret_ref": "cba"});
        check("basic", key, "authorization: Basic a2V5OmFiYw==", "authorization: Basic [secret:cba]").await;
    }

    /// Vectors of calls that we sign: an official client's, a rule of public clients, and RFC 7617.
    #[tokio::test]
    async fn signatures_are_as_others_make_them() {
        /// Gives the secret that the vector names.
        #[derive(Debug)]
        struct Given(Value);

        #[async_trait]
        impl Secrets for Given {
            async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, secret::Error> {
                let value = self.0[reference.name.as_str().replace('-', "_")].as_str().unwrap();
                Ok(SecretValue::new(value.to_owned()))
            }
        }

        let vectors = include_str!("../../../tests/vectors/outbound/signatures.json");
        let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
        let mut tried = 0;
        for vector in &vectors {
            let (kind_name, settings) = match vector["scheme"].as_str().unwrap() {
                "out_acs_hmac" => ("azure_communication", json!({"secret_ref": "access-key"})),
                "out_mabang_hmac" => ("hmac_body", json!({"secret_ref": "secret"})),
                "out_basic" => {
                    ("basic", json!({"username": {"secret_ref": "client-id"}, "secret_ref": "client-secret"}))
                }
                // Robots: `channels` holds these.
                _ => continue,
            };
            let headers = vector["headers"].as_object().unwrap();
            let date =
                headers.get("x-ms-date").map(|date| DateTime::parse_from_rfc2822(date.as_str().unwrap()).unwrap());
            let clock = TestClock::at(Timestamp::from_secs(date.map_or(0, |date| date.timestamp())));
            let url = vector["url"].as_str().unwrap_or("https://h/");
            let mut request = Request::new(http::Method::POST, url).unwrap();
            let body = BASE64.decode(vector["body_base64"].as_str().unwrap_or_default().as_bytes()).unwrap();
            request.body = Body::raw(body, None).unwrap();
            let (client, mut masker) = (Client::new(Egress::default()), Masker::new());
            let secrets = Given(vector["secrets"].clone());
            let means = Means { client: &client, secrets: &secrets, clock: &clock, refused: None };
            let auth = kind(kind_name).unwrap().parse(settings, &azure()).unwrap();
            // A second try replaces what the first one put there.
            for _ in 0..2 {
                auth.apply(&mut request, &means, &mut masker).await.unwrap();
            }
            let sent: serde_json::Map<_, _> = request
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap())))
                .collect();
            assert_eq!(&sent, headers, "{}", vector["id"]);
            assert_eq!(request.headers.len(), headers.len());
            let proof = sent["authorization"].as_str().unwrap();
            assert!(masker.mask(proof).contains("[secret:"), "{proof}");
            tried += 1;
        }
        assert_eq!(tried, 5);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused() {
        for (kind_name, settings) in [
            ("header", json!({"header": "a b", "secret_ref": "x"})),
            ("header", json!({"header": "Host", "secret_ref": "x"})),
            ("basic", json!({"username": "a:b", "secret_ref": "x"})),
            ("hmac_body", json!({"header": "Content-Length", "secret_ref": "x"})),
            ("azure_communication", json!({"secret_ref": "not-base64"})),
        ] {
            let auth = kind(kind_name).unwrap().parse(settings, &azure()).unwrap();
            let mut request = Request::new(http::Method::GET, "https://h/").unwrap();
            let client = Client::new(Egress::default());
            assert!(auth.apply(&mut request, &means(&client), &mut Masker::new()).await.is_err());
        }
        assert!(kind("header").unwrap().parse(json!({"header": "x", "secret_ref": "x", "y": 1}), &azure()).is_err());
        assert!(kind("oauth9").is_none());
    }

    #[test]
    fn every_file_has_its_row() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/outbound/auth");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = names.filter(|name| name != "mod.rs").map(|name| name.replace(".rs", "")).collect();
        let mut rows: Vec<_> = AUTHS.iter().map(|kind| kind.name.to_owned()).collect();
        files.sort();
        rows.sort();
        assert_eq!(files, rows);
    }
}
