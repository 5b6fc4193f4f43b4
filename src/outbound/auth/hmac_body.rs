//! `auth: { type: hmac_body, secret_ref: … }`: HMAC-SHA256 over the exact bytes of the body, in a header. So signs
//! Mabang (马帮), in lower-case hex in `Authorization`, and so do many ERPs.

use async_trait::async_trait;
use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use serde::Deserialize;

use super::{Auth, AuthKind, Error, Means, Proof, put_secret};
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretRef, SecretValue};
use crate::id::SecretName;
use crate::outbound::request::Request;

pub(super) const KIND: AuthKind =
    AuthKind::of::<HmacBody>("hmac_body", "Sign the body with HMAC-SHA256, in a header of your choice.");

/// A signature of the body in a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Settings")]
struct HmacBody {
    header: String,
    /// Text before the signature, such as `sha256=`.
    prefix: String,
    encoding: Encoding,
    key: SecretRef,
}

/// How the signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    /// Lower-case hex.
    #[default]
    Hex,
    Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    header: Option<String>,
    prefix: Option<String>,
    encoding: Option<Encoding>,
    secret_ref: SecretName,
    version: Option<String>,
    field: Option<String>,
}

impl From<Settings> for HmacBody {
    fn from(settings: Settings) -> Self {
        let Settings { header, prefix, encoding, secret_ref: name, version, field } = settings;
        Self {
            header: header.unwrap_or_else(|| "authorization".to_owned()),
            prefix: prefix.unwrap_or_default(),
            encoding: encoding.unwrap_or_default(),
            key: SecretRef { name, prefix: None, version, field },
        }
    }
}

#[async_trait]
impl Auth for HmacBody {
    fn secrets(&self) -> Vec<&SecretRef> {
        vec![&self.key]
    }

    async fn apply(&self, request: &mut Request, with: &Means<'_>, masker: &mut Masker) -> Result<Proof, Error> {
        let key = with.secret(&self.key, masker).await?;
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), &request.body.bytes);
        let signature = match self.encoding {
            Encoding::Hex => HEXLOWER.encode(mac.as_ref()),
            Encoding::Base64 => BASE64.encode(mac.as_ref()),
        };
        // Whoever reads it could send this body again.
        masker.add(&self.key.name, &SecretValue::new(signature.clone()));
        put_secret(request, &self.header, format!("{}{signature}", self.prefix).as_bytes(), &self.key)?;
        Ok(Proof::Fixed)
    }
}
