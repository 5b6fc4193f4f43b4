//! `auth: { type: azure_communication, secret_ref: … }`: an access key of Azure Communication Services, which signs
//! method, path and query, date, host and the hash of the body.
//! <https://learn.microsoft.com/azure/communication-services/tutorials/hmac-header-tutorial>

use async_trait::async_trait;
use aws_lc_rs::{digest, hmac};
use data_encoding::BASE64;
use serde::Deserialize;
use url::Position;

use super::{Auth, AuthKind, Error, Means, Proof, put_secret};
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretRef, SecretValue};
use crate::id::SecretName;
use crate::outbound::request::Request;

pub(super) const KIND: AuthKind = AuthKind::of::<AccessKey>(
    "azure_communication",
    "Sign calls with an access key of Azure Communication Services (mail and SMS).",
);

/// The access key of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Settings")]
struct AccessKey(SecretRef);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    secret_ref: SecretName,
    version: Option<String>,
    field: Option<String>,
}

impl From<Settings> for AccessKey {
    fn from(Settings { secret_ref: name, version, field }: Settings) -> Self {
        Self(SecretRef { name, prefix: None, version, field })
    }
}

/// The headers that are signed beside the host.
const DATE: &str = "x-ms-date";
const CONTENT: &str = "x-ms-content-sha256";

#[async_trait]
impl Auth for AccessKey {
    fn secrets(&self) -> Vec<&SecretRef> {
        vec![&self.0]
    }

    async fn apply(&self, request: &mut Request, with: &Means<'_>, masker: &mut Masker) -> Result<Proof, Error> {
        let key = with.secret(&self.0, masker).await?;
        let unfit = |why: String| Error::Unfit { secret: self.0.clone(), why };
        let key = BASE64.decode(key.expose()).map_err(|error| unfit(format!("an access key is base64: {error}")))?;
        // IMF-fixdate (RFC 9110, section 5.6.7).
        let date = with.clock.now().to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let content = BASE64.encode(digest::digest(&digest::SHA256, &request.body.bytes).as_ref());
        let (method, url) = (&request.method, &request.url);
        // The host as the `Host` header names it: a port only when it is not the usual one.
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let target = &url[Position::BeforePath..Position::AfterQuery];
        let text = format!("{method}\n{target}\n{date};{host};{content}");
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
        let signature = BASE64.encode(mac.as_ref());
        masker.add(&self.0.name, &SecretValue::new(signature.clone()));
        for (name, value) in [(DATE, &date), (CONTENT, &content)] {
            request.headers.retain(|(there, _)| there != name);
            request.header(name, value.as_bytes())?;
        }
        let proof = format!("HMAC-SHA256 SignedHeaders={DATE};host;{CONTENT}&Signature={signature}");
        put_secret(request, "authorization", proof.as_bytes(), &self.0)?;
        Ok(Proof::Fixed)
    }
}
