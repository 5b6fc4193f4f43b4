//! What proves that Azure calls: a key in the query, which it sends to webhooks that carry no header of their own, or
//! a token of Entra ID. Azure signs no body, so neither proves what was sent.

use serde_json::{Map, Value, json};

use super::inbound::{Inbound, Proof, Reject, Verdict};
use super::keys::{KeyError, Keys, Passwords};
use super::params::{ConfigError, OneOrMany, Span};
use super::{Check, Missing, Scheme, SecretSlot, api_key, bearer, jwt};
use crate::clock::Timestamp;

/// The secret in the query.
pub(super) const QUERY_KEY: SecretSlot =
    SecretSlot { name: "query_key", summary: "The key in the query of the URL that Azure was given" };

/// The parameters of a gate, as its scheme has read them.
#[derive(Debug, Default)]
pub(super) struct GateParams {
    /// The parameter of the query that holds the key.
    pub(super) query_param: Option<String>,
    /// The application ID URI that Azure asks a token for: the `aud` claim.
    pub(super) audience: Option<OneOrMany>,
    /// The directory that issues it, such as `https://sts.windows.net/TENANT/`: the `iss` claim.
    pub(super) issuer: Option<OneOrMany>,
    /// The directory's public keys, a JWK set (RFC 7517).
    pub(super) jwks: Option<Value>,
    /// Where the directory publishes them.
    pub(super) jwks_url: Option<String>,
    /// How far the clocks may differ for `exp` and `nbf`; 60s when left out.
    pub(super) leeway: Option<Span>,
}

/// A gate with its parameters, waiting for the key.
pub(super) struct Gate {
    query_param: Option<String>,
    token: Option<Box<dyn Scheme>>,
}

impl Gate {
    pub(super) fn build(params: GateParams) -> Result<Self, Vec<ConfigError>> {
        let GateParams { query_param, audience, issuer, jwks, jwks_url, leeway } = params;
        let mut problems = Vec::new();
        let by_token = audience.is_some() || issuer.is_some() || jwks.is_some() || jwks_url.is_some();
        for (path, is_there, example) in [
            ("audience", audience.is_some(), "add `audience: api://APPLICATION`"),
            ("issuer", issuer.is_some(), "add `issuer: https://sts.windows.net/TENANT/`"),
        ] {
            if by_token && !is_there {
                let message = format!("without `{path}` a token for anybody would do");
                problems.push(ConfigError::new(path, message, example));
            }
        }
        if !by_token && query_param.as_deref().is_none_or(str::is_empty) {
            let message = "neither a key in the query nor a token of Entra ID is asked for";
            let help = "add `query_param: code` and a secret, or `audience`, `issuer` and `jwks`";
            problems.push(ConfigError::new("query_param", message, help));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let token = by_token.then(|| {
            let texts = |texts: Option<OneOrMany>| texts.map(|texts| texts.as_slice().to_vec());
            let mut with = json!({ "algorithms": ["RS256"], "audience": texts(audience), "issuer": texts(issuer) });
            if let Some(jwks) = jwks {
                with["jwks"] = jwks;
            }
            if let Some(url) = jwks_url {
                with["jwks_url"] = url.into();
            }
            if let Some(Span(leeway)) = leeway {
                with["leeway"] = format!("{}ms", leeway.as_millis()).into();
            }
            jwt::build(with.as_object().unwrap_or(&Map::new()))
        });
        Ok(Self { query_param, token: token.transpose()? })
    }

    /// The key, unless tokens do.
    pub(super) fn needs(&self) -> Vec<&'static str> {
        if self.token.is_some() { vec![] } else { vec![QUERY_KEY.name] }
    }

    pub(super) fn prepare(&self, keys: &Keys<'_>) -> Result<OpenGate, KeyError> {
        let key = match &self.query_param {
            Some(name) => {
                let values = keys.get(QUERY_KEY.name)?;
                (!values.is_empty()).then(|| (name.clone(), Passwords::new(values)))
            }
            None => None,
        };
        let token = self.token.as_ref().map(|token| token.prepare(&Keys::default())).transpose()?;
        Ok(OpenGate { key, token })
    }
}

/// A gate with its keys ready.
pub(super) struct OpenGate {
    key: Option<(String, Passwords)>,
    token: Option<Box<dyn Check>>,
}

impl OpenGate {
    /// The place of the key that fits. Where a route takes both, a request that brings a token is held to it.
    pub(super) fn pass(&self, request: &Inbound<'_>) -> Result<usize, Reject> {
        match (&self.token, &self.key) {
            (Some(token), key) if brings_token(request) || key.is_none() => match token.verify(request)? {
                Verdict::Deliver(Proof { key_index, .. }) => Ok(key_index),
                _ => Err(Reject::WrongSignature),
            },
            (_, Some((name, keys))) => api_key::in_query(keys, request.query, name),
            (_, None) => Err(Reject::WrongSignature),
        }
    }

    /// The directory's keys, when they are missing to judge the token.
    pub(super) fn wants(&self, request: &Inbound<'_>) -> Option<Missing> {
        self.token.as_ref().filter(|_| brings_token(request))?.wants(request)
    }

    /// Takes them.
    pub(super) fn learn(&self, url: &str, answer: &[u8], now: Timestamp) -> bool {
        self.token.as_ref().is_some_and(|token| token.learn(url, answer, now))
    }
}

fn brings_token(request: &Inbound<'_>) -> bool {
    request.headers.get_all(bearer::AUTHORIZATION).next().is_some()
}
