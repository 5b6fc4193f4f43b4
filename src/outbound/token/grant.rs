//! How a token is asked for (RFC 6749 sections 4.4 and 6): where, with which credentials, and how an answer is read.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use super::settings::Text;
use crate::clock::Timestamp;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretRef, SecretValue};
use crate::limits;
use crate::outbound::auth::{Error, Means, basic_credential, put_secret};
use crate::outbound::request::{Request, Tls, place};
use crate::outbound::retry_after;
use crate::outbound::{Body, Response};

/// What a token is asked for with. Two connections that say the same share their token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::outbound) struct Grant {
    pub(in crate::outbound) url: String,
    /// `grant_type` of the form.
    pub(in crate::outbound) kind: &'static str,
    pub(in crate::outbound) client_id: Text,
    pub(in crate::outbound) client_secret: SecretRef,
    pub(in crate::outbound) client_auth: ClientAuth,
    pub(in crate::outbound) refresh_token: Option<SecretRef>,
    /// Further members of the form, such as `scope`.
    pub(in crate::outbound) params: Vec<(String, Text)>,
    pub(in crate::outbound) headers: Vec<(&'static str, Fill)>,
}

/// How a client proves who it is when it asks (RFC 6749 section 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::outbound) enum ClientAuth {
    /// By `Authorization: Basic`.
    #[default]
    Basic,
    /// By members of the form.
    Post,
}

/// What stands in a header that goes with every call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::outbound) enum Fill {
    Text(Text),
    /// The same, where the request has no such header.
    Default(&'static str),
    /// A UUID of its own for each call (RFC 9562 section 5.4).
    FreshId,
}

impl Fill {
    /// The secret that it names.
    pub(in crate::outbound) fn secret(&self) -> Option<&SecretRef> {
        match self {
            Self::Text(text) => text.secret(),
            Self::Default(_) | Self::FreshId => None,
        }
    }

    /// Puts the header into the request, in place of one that is there; `name` is in lower case.
    pub(in crate::outbound) async fn put(
        &self,
        name: &str,
        request: &mut Request,
        with: &Means<'_>,
        masker: &mut Masker,
    ) -> Result<(), Error> {
        match self {
            Self::Default(_) if request.headers.iter().any(|(there, _)| there == name) => return Ok(()),
            _ => request.headers.retain(|(there, _)| there != name),
        }
        match self {
            Self::FreshId => Ok(request.header(name, fresh_id().as_bytes())?),
            Self::Default(text) => Ok(request.header(name, text.as_bytes())?),
            Self::Text(Text::Plain(text)) => Ok(request.header(name, text.as_bytes())?),
            Self::Text(Text::Secret(reference)) => {
                let value = with.secret(reference, masker).await?;
                put_secret(request, name, value.expose(), reference)
            }
        }
    }
}

/// A random UUID (version 4).
fn fresh_id() -> String {
    let bits = rand::random::<u128>() & !(0xf000 << 64) & !(0b11 << 62) | 0x4000 << 64 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A token as the far end gave it.
#[derive(Debug)]
pub(in crate::outbound) struct Granted {
    pub(in crate::outbound) token: SecretValue,
    pub(in crate::outbound) lifetime: Duration,
    /// A refresh token to use from now on.
    pub(in crate::outbound) refresh_token: Option<SecretValue>,
}

impl Grant {
    /// The secrets that it names.
    pub(in crate::outbound) fn secrets(&self) -> Vec<&SecretRef> {
        let params = self.params.iter().filter_map(|(_, value)| value.secret());
        let headers = self.headers.iter().filter_map(|(_, fill)| fill.secret());
        let own = self.client_id.secret().into_iter().chain([&self.client_secret]).chain(&self.refresh_token);
        own.chain(params).chain(headers).collect()
    }

    /// The request for a token. `refresh_token` is sent where the grant has one.
    pub(in crate::outbound) async fn request(
        &self,
        refresh_token: Option<&SecretValue>,
        tls: Tls,
        with: &Means<'_>,
        masker: &mut Masker,
    ) -> Result<Request, Error> {
        let mut request = Request::new(Method::POST, &self.url)?;
        request.timeout = limits::TOKEN_TIMEOUT;
        request.response_bytes_max = limits::TOKEN_ANSWER_BYTES_MAX;
        request.redirects_max = 0;
        request.tls = tls;
        request.header("accept", b"application/json")?;
        for (name, fill) in &self.headers {
            fill.put(name, &mut request, with, masker).await?;
        }
        let id = with.read(&self.client_id, masker).await?;
        let secret = with.secret(&self.client_secret, masker).await?;
        let mut params = Vec::new();
        for (name, value) in &self.params {
            params.push((name, with.read(value, masker).await?));
        }
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", self.kind);
        if let Some(token) = refresh_token {
            form.append_pair("refresh_token", self.text(token.expose())?);
        }
        for (name, value) in &params {
            form.append_pair(name, self.text(value)?);
        }
        match self.client_auth {
            ClientAuth::Basic => {
                let encoded = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
                let (id, secret) = (encoded(&id), encoded(secret.expose()));
                let credential = basic_credential(id.as_bytes(), secret.as_bytes(), &self.client_secret, masker);
                put_secret(&mut request, "authorization", credential.as_bytes(), &self.client_secret)?;
            }
            ClientAuth::Post => {
                form.append_pair("client_id", self.text(&id)?);
                form.append_pair("client_secret", self.text(secret.expose())?);
            }
        }
        request.body = Body::raw(form.finish(), Some("application/x-www-form-urlencoded"))?.sensitive();
        Ok(request)
    }

    fn text<'b>(&self, bytes: &'b [u8]) -> Result<&'b str, Error> {
        let unfit = |_| Error::Unfit { secret: self.client_secret.clone(), why: "a form holds text only".to_owned() };
        std::str::from_utf8(bytes).map_err(unfit)
    }

    /// Reads what the token endpoint answered (RFC 6749 sections 5.1 and 5.2).
    pub(in crate::outbound) fn read(
        &self,
        response: &Response,
        masker: &Masker,
        now: Timestamp,
    ) -> Result<Granted, Failure> {
        let host = place(&response.url);
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if response.status.is_success() {
            return granted(&body).ok_or_else(|| {
                let what = format!("`{host}` answered {} to a request for a token, without one", response.status);
                Failure::new("token.unavailable", Fault::Far, what)
                    .help("check `token_url`; a page for people is no token endpoint")
                    .at(host)
                    .retriable(Class::Connect, None)
            });
        }
        let status = response.status.as_u16();
        let word = body["error"].as_str().unwrap_or_default();
        let said = match body["error_description"].as_str() {
            Some(description) => format!("{word}: {description}"),
            None => word.to_owned(),
        };
        let said: String = masker.mask(&said).chars().take(SAID_CHARS_MAX).collect();
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        let what = format!("`{host}` gives no token: it answered {}{said}", response.status);
        if matches!(status, 408 | 425 | 429 | 500..) || PASSING.contains(&word) {
            let after = response.header("retry-after").and_then(|text| retry_after(text, now));
            let failure = Failure::new("token.unavailable", Fault::Far, what).at(host);
            return Err(failure.help("it may pass; see how that service is").retriable(Class::Status(status), after));
        }
        Err(Failure::new("token.refused", Fault::Config, what).at(host).help(self.advice(word)))
    }

    /// What to do about a refusal (RFC 6749 section 5.2).
    fn advice(&self, word: &str) -> String {
        match (word, &self.refresh_token) {
            ("invalid_grant", Some(token)) => format!(
                "the seller has revoked the authorization, or the refresh token is over or another client's: authorize \
                 again, put the new refresh token into the secret `{token}`, then resume the run"
            ),
            ("invalid_client" | "unauthorized_client", _) => {
                format!("check `client_id` and the secret `{}`, then resume the run", self.client_secret)
            }
            _ => "check the `auth` of the connection, and what this client may ask for".to_owned(),
        }
    }
}

/// Words of a refusal that say that it passes (RFC 6749 section 4.1.2.1, RFC 8628 section 3.5).
const PASSING: [&str; 3] = ["temporarily_unavailable", "server_error", "slow_down"];
/// Characters of a refusal that are quoted.
const SAID_CHARS_MAX: usize = 200;

fn granted(body: &Value) -> Option<Granted> {
    let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty());
    let secs = match &body["expires_in"] {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let lifetime = secs.and_then(|secs| Duration::try_from_secs_f64(secs).ok()).unwrap_or(limits::TOKEN_LIFETIME);
    Some(Granted {
        token: SecretValue::new(text("access_token")?),
        lifetime: lifetime.min(limits::TOKEN_LIFETIME_MAX),
        refresh_token: text("refresh_token").map(SecretValue::new),
    })
}
