//! `jwt`: a signed token in every request (RFC 7519, RFC 7515), by the advice of RFC 8725.
//!
//! The algorithms come from the configuration, never from the token, and shared and public keys never mix. Keys that
//! a token points to (`jku`, `x5u`, `jwk`) are not looked at. The token proves who may call, not what was sent.

use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use schemars::{JsonSchema, schema_for};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use super::inbound::{Inbound, Proof, Reject, Verdict, delivery_id};
use super::issuer::IssuerKeys;
use super::keys::{KeyError, Keys};
use super::params::{self, ConfigError, OneOrMany, Span, header_name};
use super::{Built, Check, Making, Missing, Scheme, SchemeKind, SecretSlot, bearer};
use crate::clock::Timestamp;
use crate::limits;

const SECRET: &str = "hs_secret";

/// How far the clocks of issuer and gateway may differ, when `leeway` is not set.
const LEEWAY: Duration = Duration::from_mins(1);

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "jwt",
    summary: "A signed JSON web token in every request: HS*, or RS*, PS*, ES* and EdDSA with the issuer's public keys.",
    secrets: &[SecretSlot { name: SECRET, summary: "The shared key as text, for HS256, HS384 and HS512 only" }],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `jwt`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The algorithms that are accepted: all of them HS*, or none.
    #[schemars(required)]
    algorithms: Option<Vec<Algorithm>>,
    /// Who must have issued the token: the `iss` claim must equal one of these.
    issuer: Option<OneOrMany>,
    /// Who we are: the `aud` claim must name one of these. When left out, a token that names anybody is refused.
    audience: Option<OneOrMany>,
    /// How far the clocks may differ for `exp` and `nbf`; 60s when left out.
    leeway: Option<Span>,
    /// The issuer's public keys, a JWK set (RFC 7517).
    #[schemars(with = "Option<Map<String, Value>>")]
    jwks: Option<Value>,
    /// Where the issuer publishes them, its `jwks_uri`: fetched when a token comes, kept for an hour, and asked for again
    /// when a token names a key that is not among them, once a minute at most.
    jwks_url: Option<String>,
    /// The header, when it is not `Authorization`.
    header: Option<String>,
}

/// The signature algorithms of RFC 7518, section 3.1 and RFC 8037, without `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The HMAC of a shared-key algorithm.
    fn shared(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }
}

pub(super) fn build(with: &Map<String, Value>) -> Built {
    let params: Params = params::read(with)?;
    let mut problems = Vec::new();
    let header = params.header.unwrap_or_else(|| bearer::AUTHORIZATION.into());
    problems.extend(header_name("header", &header).err());
    let algorithms = params.algorithms.unwrap_or_default();
    let shared = algorithms.iter().filter(|algorithm| algorithm.shared().is_some()).count();
    if algorithms.is_empty() {
        let help = "name what the issuer uses, such as `algorithms: [RS256]`";
        problems.push(ConfigError::new("algorithms", "no algorithm is accepted, so no token would be", help));
    } else if shared > 0 && shared < algorithms.len() {
        let message = "shared and public keys must not be mixed: a public key could be passed off as a shared one";
        problems.push(ConfigError::new("algorithms", message, "keep either the HS algorithms or the others"));
    }
    let keys = if shared > 0 || algorithms.is_empty() {
        // A set beside HS algorithms is the issuer's other business.
        None
    } else {
        let keys = IssuerKeys::build(params.jwks.as_ref(), params.jwks_url, &algorithms);
        keys.map_err(|mut more| problems.append(&mut more)).ok()
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let rule = Rule {
        header,
        algorithms,
        issuer: params.issuer,
        audience: params.audience,
        leeway: params.leeway.map_or(LEEWAY, |Span(leeway)| leeway),
        keys,
    };
    Ok(Box::new(Jwt(rule.into())))
}

struct Rule {
    header: String,
    algorithms: Vec<Algorithm>,
    issuer: Option<OneOrMany>,
    audience: Option<OneOrMany>,
    leeway: Duration,
    /// The public keys; none means that the shared ones count.
    keys: Option<IssuerKeys>,
}

struct Jwt(std::sync::Arc<Rule>);

impl Scheme for Jwt {
    fn needs(&self) -> Vec<&'static str> {
        if self.0.keys.is_some() { vec![] } else { vec![SECRET] }
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        let mut shared = Vec::new();
        if self.0.keys.is_none() {
            for (place, value) in keys.required(SECRET)?.iter().enumerate() {
                let keyed = self.0.algorithms.iter().filter_map(|algorithm| {
                    Some(SharedKey { algorithm: *algorithm, place, key: hmac::Key::new(algorithm.shared()?, value) })
                });
                shared.extend(keyed);
            }
        }
        Ok(Box::new(Keyed { rule: self.0.clone(), shared }))
    }
}

struct SharedKey {
    algorithm: Algorithm,
    place: usize,
    key: hmac::Key,
}

struct Keyed {
    rule: std::sync::Arc<Rule>,
    shared: Vec<SharedKey>,
}

/// The head of a token. A member that is there twice, or of another type, is an error.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515, section 4.1.11); none is.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<Number>,
    nbf: Option<Number>,
    iss: Option<String>,
    aud: Option<OneOrMany>,
    jti: Option<String>,
}

/// Reads a JSON object; an array would also do for serde.
fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}

/// A token in its parts, of which nothing is verified yet.
struct Token<'a> {
    head: Head,
    claims: &'a [u8],
    /// Head and claims as they are signed.
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl Rule {
    /// Takes the request's token apart.
    fn token<'a>(&self, request: &'a Inbound<'_>) -> Result<Token<'a>, Reject> {
        let malformed = || self.malformed();
        let token = bearer::token(request, &self.header)?;
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(malformed());
        }
        let parts: Vec<_> = token.splitn(4, |byte| *byte == b'.').collect();
        let [head, claims, signature] = parts[..] else { return Err(malformed()) };
        let signed = &token[..head.len() + 1 + claims.len()];
        let decoded = |part| BASE64URL_NOPAD.decode(part).map_err(|_| malformed());
        let head: Head = object(&decoded(head)?).ok_or_else(malformed)?;
        Ok(Token { head, claims, signed, signature: decoded(signature)? })
    }

    fn malformed(&self) -> Reject {
        Reject::malformed(&self.header, "a signed JSON web token")
    }
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let malformed = || self.rule.malformed();
        let token = self.rule.token(request)?;
        let key_index = self.fitting_key(&token.head, token.signed, &token.signature)?;

        let claims = BASE64URL_NOPAD.decode(token.claims).map_err(|_| malformed())?;
        let claims: Claims = object(&claims).ok_or_else(malformed)?;
        self.rule.accept(&claims, request.received_at)?;
        let delivery_id = claims.jti.map(|jti| delivery_id("jti", jti.as_bytes())).transpose()?;
        let id_is_signed = delivery_id.is_some();
        // A sender may use one token for many deliveries, so its id alone does not make them the same.
        let id_may_collide = true;
        Ok(Verdict::Deliver(Proof { delivery_id, id_is_signed, id_may_collide, key_index, ..Proof::default() }))
    }

    fn wants(&self, request: &Inbound<'_>) -> Option<Missing> {
        let keys = self.rule.keys.as_ref()?;
        let head = self.rule.token(request).ok()?.head;
        let allowed = self.rule.algorithms.iter().any(|algorithm| algorithm.name() == head.alg) && !head.crit;
        allowed.then(|| keys.wants(head.kid.as_deref(), request.received_at)).flatten()
    }

    fn learn(&self, _url: &str, answer: &[u8], now: Timestamp) -> bool {
        self.rule.keys.as_ref().is_some_and(|keys| keys.learn(answer, now))
    }
}

impl Keyed {
    /// The place of the key that fits. The head only chooses among what the configuration allows.
    fn fitting_key(&self, head: &Head, signed: &[u8], signature: &[u8]) -> Result<usize, Reject> {
        let algorithm = self.rule.algorithms.iter().find(|algorithm| algorithm.name() == head.alg);
        let algorithm = *algorithm.ok_or(Reject::TokenHead { member: "alg" })?;
        if head.crit {
            return Err(Reject::TokenHead { member: "crit" });
        }
        let Some(keys) = &self.rule.keys else {
            let mut shared = self.shared.iter().filter(|key| key.algorithm == algorithm);
            let fitting = shared.find(|shared| hmac::verify(&shared.key, signed, signature).is_ok());
            return fitting.map(|shared| shared.place).ok_or(Reject::WrongSignature);
        };
        let keys = keys.known().ok_or(Reject::TokenHead { member: "kid" })?;
        let mut of_kid = keys.with_kid(head.kid.as_deref()).filter(|(known, _)| *known == algorithm).peekable();
        if of_kid.peek().is_none() {
            return Err(Reject::TokenHead { member: "kid" });
        }
        let fits = of_kid.any(|(_, key)| key.verify_sig(signed, signature).is_ok());
        if fits { Ok(0) } else { Err(Reject::WrongSignature) }
    }
}

impl Rule {
    /// Checks the claims of a verified token against our time and names (RFC 7519, section 4.1).
    fn accept(&self, claims: &Claims, now: Timestamp) -> Result<(), Reject> {
        let seconds = |millis: i64| Duration::from_millis(millis.unsigned_abs()).as_secs_f64();
        let now = if now.as_millis() < 0 { -seconds(now.as_millis()) } else { seconds(now.as_millis()) };
        let leeway = self.leeway.as_secs_f64();
        let date = |number: &Number, claim| number.as_f64().ok_or(Reject::TokenClaim { claim });
        let claim = |claim, holds: bool| if holds { Ok(()) } else { Err(Reject::TokenClaim { claim }) };

        // "On or after" its `exp` a token is dead; a token without one would live for ever.
        let exp = claims.exp.as_ref().ok_or(Reject::TokenClaim { claim: "exp" })?;
        claim("exp", now - leeway < date(exp, "exp")?)?;
        if let Some(nbf) = &claims.nbf {
            claim("nbf", date(nbf, "nbf")? <= now + leeway)?;
        }
        if let Some(issuer) = &self.issuer {
            claim("iss", claims.iss.as_ref().is_some_and(|iss| issuer.as_slice().contains(iss)))?;
        }
        let ours = self.audience.as_ref().map_or(&[][..], OneOrMany::as_slice);
        let theirs = claims.aud.as_ref().map(OneOrMany::as_slice);
        let meant = theirs.map_or(self.audience.is_none(), |aud| aud.iter().any(|name| ours.contains(name)));
        claim("aud", meant)
    }
}
