//! `walmart_oauth`: Walmart Marketplace with `authMethod: OAUTH` (developer.walmart.com, "Create subscription"). Walmart asks a
//! token endpoint of ours for an access token, then brings it with each notification.
//!
//! The endpoint is the `token_path` of the route: client credentials (RFC 6749, sections 4.4, 5.1 and 5.2) as HTTP Basic or in
//! the form, never both. A token is its end and a number under a MAC whose key is derived from the client secret: every
//! gateway and every restart knows it again, and nothing is stored. It proves who may call, not what was sent.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::inbound::{Answer, Inbound, Proof, Reject, Verdict, delivery_id};
use super::keys::{KeyError, Keys, Passwords};
use super::params::{self, ConfigError, Span};
use super::presets::{WALMART_EVENT_ID, walmart_header};
use super::{Built, Check, Making, Scheme, SchemeKind, SecretSlot, bearer, members};
use crate::clock::Timestamp;
use crate::limits;

const SECRET: &str = "client_secret";

/// How long a token lives when `token_lifetime` is not set, as Walmart's own do.
const LIFETIME: Duration = Duration::from_mins(15);
/// Shorter, and Walmart would ask again for each notification.
const LIFETIME_MIN: Duration = Duration::from_mins(1);
/// How far the clocks of two gateways may differ when a token of one ends at the other.
const LEEWAY: Duration = Duration::from_mins(1);

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "walmart_oauth",
    summary: "Walmart Marketplace with `authMethod: OAUTH`: answers the token request at `token_path` itself, and takes the \
              token in the header that the subscription names. The body is NOT signed.",
    secrets: &[SecretSlot { name: SECRET, summary: "The `clientSecret` of the subscription, made up by you" }],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `walmart_oauth`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The path of the subscription's `authUrl`, where Walmart asks for a token: not the path of the route.
    #[schemars(required)]
    token_path: Option<String>,
    /// The `clientId` of the subscription, made up by you; it is not secret.
    #[schemars(required)]
    client_id: Option<String>,
    /// The `authHeaderName` of the subscription; `Authorization` when left out.
    auth_header_name: Option<String>,
    /// How long a token lives, from 1m to 1d; 15m when left out.
    token_lifetime: Option<Span>,
}

fn build(with: &Map<String, Value>) -> Built {
    let Params { token_path, client_id, auth_header_name, token_lifetime } = params::read(with)?;
    let mut problems = Vec::new();
    let is_path = |path: &String| path.len() > 1 && path.starts_with('/') && !path.contains(['?', '#', '%', ' ']);
    let token_path = token_path.filter(is_path).unwrap_or_else(|| {
        let help = "add `token_path: /hooks/walmart/token`, the path of the subscription's `authUrl`";
        problems.push(ConfigError::new("token_path", "the path where Walmart asks for a token is not named", help));
        String::new()
    });
    // RFC 6749, appendix A.1, without the colon that would end it in HTTP Basic.
    let is_id = |id: &String| !id.is_empty() && id.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':');
    let client_id = client_id.filter(is_id).unwrap_or_else(|| {
        let help = "add `client_id: walmart-us`, the `clientId` of the subscription";
        problems.push(ConfigError::new("client_id", "the client that may ask for a token is not named", help));
        String::new()
    });
    let header = match auth_header_name {
        None => bearer::AUTHORIZATION.to_owned(),
        name => walmart_header(name).unwrap_or_else(|mut more| {
            problems.append(&mut more);
            String::new()
        }),
    };
    let lifetime = token_lifetime.map_or(LIFETIME, |Span(lifetime)| lifetime);
    if lifetime < LIFETIME_MIN {
        let message = "a token that ends so soon would not last until the notification";
        problems.push(ConfigError::new("token_lifetime", message, "write at least `1m`, or leave it out"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Box::new(WalmartOauth(Arc::new(Rule { token_path, client_id, header, lifetime }))))
}

struct Rule {
    token_path: String,
    client_id: String,
    header: String,
    lifetime: Duration,
}

struct WalmartOauth(Arc<Rule>);

impl Scheme for WalmartOauth {
    fn needs(&self) -> Vec<&'static str> {
        vec![SECRET]
    }

    fn also_at(&self) -> Option<&str> {
        Some(&self.0.token_path)
    }

    fn credential_header(&self) -> Option<&str> {
        Some(&self.0.header)
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        let secrets = keys.required(SECRET)?;
        Ok(Box::new(Keyed {
            rule: Arc::clone(&self.0),
            client: Passwords::new(&[self.0.client_id.as_bytes()]),
            secrets: Passwords::new(secrets),
            seals: secrets.iter().map(|secret| seal(secret, &self.0.client_id)).collect(),
        }))
    }
}

/// The key of the tokens of one client secret. The label keeps it apart from everything else that the secret may sign.
fn seal(secret: &[u8], client_id: &str) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let derived = hmac::sign(&secret, format!("clawhook walmart_oauth token v1\n{client_id}").as_bytes());
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

struct Keyed {
    rule: Arc<Rule>,
    client: Passwords,
    secrets: Passwords,
    seals: Vec<hmac::Key>,
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        if request.path == self.rule.token_path {
            return self.grant(request).map(Verdict::Handshake);
        }
        let key_index = self.known(bearer::token(request, &self.rule.header)?, request.received_at)?;
        let id = WALMART_EVENT_ID.iter().find_map(|place| members::at(request.body, place));
        let delivery_id = id.and_then(|id| delivery_id("eventId", id.as_bytes()).ok());
        Ok(Verdict::Deliver(Proof { delivery_id, key_index, ..Proof::default() }))
    }
}

/// What a client says of itself.
struct Claim {
    id: Vec<u8>,
    secret: Vec<u8>,
}

impl Keyed {
    /// Answers a token request, or refuses it in the words of RFC 6749, section 5.2.
    fn grant(&self, request: &Inbound<'_>) -> Result<Answer, Reject> {
        let refuse = |error| Reject::TokenRequest { error, challenge: false };
        if request.method != "POST" || !request.query.is_empty() || request.body.len() > limits::TOKEN_REQUEST_BYTES_MAX
        {
            return Err(refuse("invalid_request"));
        }
        let content_type = request.headers.unique("content-type").map_err(|_| refuse("invalid_request"))?;
        let media_type = content_type.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
        if !media_type.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            return Err(refuse("invalid_request"));
        }
        let [grant_type, id, secret] = form(request.body, ["grant_type", "client_id", "client_secret"])?;
        let sent = request.headers.unique(bearer::AUTHORIZATION).map_err(|_| refuse("invalid_request"))?;
        let place = match (sent, id, secret) {
            // One way at a time (section 2.3); the id alone may stand in the form as well.
            (Some(_), _, Some(_)) => return Err(refuse("invalid_request")),
            (Some(value), id, None) => {
                let refused = Reject::TokenRequest { error: "invalid_client", challenge: true };
                let claims = basic(value).ok_or_else(|| refused.clone())?;
                let same = |claim: &&Claim| id.as_ref().is_none_or(|id| id.as_bytes() == claim.id);
                claims.iter().filter(same).find_map(|claim| self.client(claim)).ok_or(refused)?
            }
            (None, Some(id), Some(secret)) => {
                let claim = Claim { id: id.into_bytes(), secret: secret.into_bytes() };
                self.client(&claim).ok_or_else(|| refuse("invalid_client"))?
            }
            (None, _, _) => return Err(Reject::TokenRequest { error: "invalid_client", challenge: true }),
        };
        match grant_type.as_deref() {
            Some("client_credentials") => {}
            Some(_) => return Err(refuse("unsupported_grant_type")),
            None => return Err(refuse("invalid_request")),
        }
        let lifetime = self.rule.lifetime.as_secs();
        let token = self.token(place, request.received_at.plus(self.rule.lifetime), &request.random);
        let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": lifetime });
        let headers = vec![("cache-control", "no-store".to_owned()), ("pragma", "no-cache".to_owned())];
        Ok(Answer { headers, ..Answer::json(&body) })
    }

    /// The place of the secret that the client has; both halves are always compared.
    fn client(&self, claim: &Claim) -> Option<usize> {
        let (id, secret) = (self.client.find(&claim.id), self.secrets.find(&claim.secret));
        id.and(secret)
    }

    /// A token under the secret that the client showed: while a secret rotates, a gateway that has not read the new one
    /// yet still knows the tokens of the old.
    fn token(&self, place: usize, ends: Timestamp, random: &[u8]) -> String {
        let mut token = ends.as_secs().to_be_bytes().to_vec();
        token.extend(&random[..NUMBER_BYTES]);
        let tag = hmac::sign(&self.seals[place], &token);
        token.extend(tag.as_ref());
        BASE64URL_NOPAD.encode(&token)
    }

    /// The place of the secret that a token was made with, while it lasts.
    fn known(&self, token: &[u8], now: Timestamp) -> Result<usize, Reject> {
        let malformed = || Reject::malformed(&self.rule.header, "`Bearer` and a token of the token endpoint");
        // Four letters are three bytes.
        if token.len() != TOKEN_BYTES / 3 * 4 {
            return Err(malformed());
        }
        let token = BASE64URL_NOPAD.decode(token).map_err(|_| malformed())?;
        let (claim, tag) = token.split_at_checked(END_BYTES + NUMBER_BYTES).ok_or_else(malformed)?;
        let fits = |seal: &hmac::Key| verify_slices_are_equal(hmac::sign(seal, claim).as_ref(), tag).is_ok();
        let place = self.seals.iter().position(fits).ok_or(Reject::WrongSignature)?;
        let ends = claim.first_chunk::<END_BYTES>().map(|ends| Timestamp::from_secs(i64::from_be_bytes(*ends)));
        let lasts = ends.is_some_and(|ends| now <= ends.plus(LEEWAY));
        if lasts { Ok(place) } else { Err(Reject::TokenClaim { claim: "exp" }) }
    }
}

/// The second after which a token has ended, from 1970.
const END_BYTES: usize = 8;
/// Makes two tokens of one second different.
const NUMBER_BYTES: usize = 8;
/// End, number and MAC.
const TOKEN_BYTES: usize = END_BYTES + NUMBER_BYTES + 32;

/// The values of a form by name, each at most once (RFC 6749, section 3.2); an empty one is as if it were left out.
fn form<const N: usize>(body: &[u8], names: [&str; N]) -> Result<[Option<String>; N], Reject> {
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(body) {
        let Some(place) = names.iter().position(|known| **known == *name) else { continue };
        if values[place].replace(value.into_owned()).is_some() {
            return Err(Reject::TokenRequest { error: "invalid_request", challenge: false });
        }
    }
    Ok(values.map(|value| value.filter(|value| !value.is_empty())))
}

/// What HTTP Basic says: the halves as RFC 6749, section 2.3.1 encodes them, and as they stand, because many clients
/// leave the encoding out.
fn basic(value: &[u8]) -> Option<[Claim; 2]> {
    let sent = BASE64.decode(bearer::after_scheme(value, b"basic")?).ok()?;
    let colon = sent.iter().position(|byte| *byte == b':')?;
    let (id, secret) = (&sent[..colon], &sent[colon + 1..]);
    let decoded = |text: &[u8]| {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        percent_encoding::percent_decode(&spaced).collect()
    };
    let encoded = Claim { id: decoded(id), secret: decoded(secret) };
    Some([encoded, Claim { id: id.to_vec(), secret: secret.to_vec() }])
}
