//! Says whether a request was sent by who holds the key, over the raw bytes, before anything parses them.
//!
//! A [`Verifier`] is built from YAML when routes are loaded, and is [`Verifier::prepare`]d whenever its secrets were
//! read; the [`Prepared`] check costs one MAC and no copy of the body. This module resolves no secrets, opens
//! no connection, reads no clock and never says "accept all": a scheme without a key is an error.
//! A new platform is a row of `presets.rs`, a new scheme a file and its entry in [`SCHEMES`].

mod api_key;
mod aws_sns;
mod azure;
mod azure_event_grid;
mod azure_monitor;
mod basic;
mod bearer;
mod cbc;
mod dingtalk_event;
mod envelope;
mod feishu;
mod generic_hmac;
mod inbound;
/// Which addresses may call a route.
pub mod ip_allow;
mod issuer;
mod jwks;
mod jwt;
mod keys;
mod members;
mod mtls;
mod params;
mod presets;
mod query;
mod sender;
mod template;
mod walmart_oauth;
mod wecom;
mod window;
mod xml;

use std::fmt;

use schemars::Schema;
use serde_json::{Map, Value};

pub use inbound::{Answer, Headers, Inbound, Message, Part, Proof, RANDOM_BYTES, Reject, Verdict};
pub use keys::{KeyError, Keys};
pub use params::ConfigError;
use presets::{Knobs, PRESETS};
use sender::Sender;

use crate::clock::Timestamp;

/// The schemes that have code of their own.
static SCHEMES: &[SchemeKind] = &[
    dingtalk_event::SCHEME,
    wecom::SCHEME,
    feishu::SCHEME,
    walmart_oauth::SCHEME,
    aws_sns::SCHEME,
    azure_event_grid::SCHEME,
    azure_monitor::SCHEME,
    generic_hmac::SCHEME,
    basic::SCHEME,
    bearer::SCHEME,
    api_key::SCHEME,
    jwt::SCHEME,
    mtls::SCHEME,
];

/// Everything that `preset:` may name, in the order of the docs: platforms, then general schemes.
pub fn kinds() -> impl Iterator<Item = &'static SchemeKind> {
    PRESETS.iter().chain(SCHEMES)
}

/// One thing that `preset:` may name.
#[derive(Debug)]
pub struct SchemeKind {
    /// The word after `preset:`.
    pub name: &'static str,
    /// What it is, in a sentence for the docs.
    pub summary: &'static str,
    /// Its secrets; `secret_ref:` alone fills the first.
    pub secrets: &'static [SecretSlot],
    making: Making,
}

impl SchemeKind {
    /// The JSON Schema of the parameters that stand flat beside `preset:`.
    pub fn schema(&self) -> Schema {
        match &self.making {
            Making::Code { schema, .. } => schema(),
            Making::Row { knobs, .. } => knobs.schema(),
        }
    }
}

/// A secret that a scheme takes.
#[derive(Debug)]
pub struct SecretSlot {
    /// Its name under `secrets:`.
    pub name: &'static str,
    /// What to put there, in a sentence for the docs.
    pub summary: &'static str,
}

/// A scheme, or everything that is wrong with its parameters.
type Built = Result<Box<dyn Scheme>, Vec<ConfigError>>;

/// How a kind becomes a scheme.
#[derive(Debug)]
enum Making {
    /// By code of its own.
    Code { schema: fn() -> Schema, build: fn(&Map<String, Value>) -> Built },
    /// From a sender's data, with a few knobs.
    Row { knobs: Knobs, sender: fn() -> Sender },
}

/// A scheme with its parameters, waiting for keys.
trait Scheme: Send + Sync {
    /// The secrets of which at least one must have a value; none when the parameters hold all keys.
    fn needs(&self) -> Vec<&'static str>;

    /// Whether all of these must have a value, and not just one.
    fn needs_every(&self) -> bool {
        false
    }

    /// Another path that the scheme answers by itself, such as a token endpoint.
    fn also_at(&self) -> Option<&str> {
        None
    }

    /// Whether the listener has to ask for a certificate of the client.
    fn wants_client_certificate(&self) -> bool {
        false
    }

    /// A header that brings what lets people in, and is no secret of the configuration.
    fn credential_header(&self) -> Option<&str> {
        None
    }

    /// Decodes the keys once, so that no request has to.
    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError>;
}

/// A scheme with its parameters and keys.
trait Check: Send + Sync {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject>;

    /// The keys that are missing to judge a request that could be good.
    fn wants(&self, _request: &Inbound<'_>) -> Option<Missing> {
        None
    }

    /// Takes what a wanted URL answered, nothing when it did not; false when it is of no use.
    fn learn(&self, _url: &str, _answer: &[u8], _now: Timestamp) -> bool {
        false
    }
}

/// Keys or certificates that are published, and not known here yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Where they are.
    pub url: String,
    /// Whether `verify` refuses without them; otherwise it judges by those that it has.
    pub needed: bool,
}

/// How a route verifies, as written; built when routes are loaded.
pub struct Verifier {
    kind: &'static SchemeKind,
    scheme: Box<dyn Scheme>,
}

impl Verifier {
    /// Reads the parameters of a preset. `secrets` names the secrets that the route configures.
    ///
    /// Reports every bad parameter, an unknown preset, a secret that the preset does not know, and the lack of
    /// any key.
    pub fn new(preset: &str, with: &Map<String, Value>, secrets: &[&str]) -> Result<Self, Vec<ConfigError>> {
        let kind = kinds().find(|kind| kind.name == preset).ok_or_else(|| {
            let known: Vec<_> = kinds().map(|kind| kind.name).collect();
            let message = format!("`{preset}` is not a preset");
            vec![ConfigError::new("preset", message, format!("known are {}", quoted(&known)))]
        })?;
        let mut problems = Vec::new();
        let known: Vec<_> = kind.secrets.iter().map(|slot| slot.name).collect();
        for name in secrets.iter().filter(|name| !known.contains(name)) {
            let message = format!("`{preset}` has no secret `{name}`");
            problems.push(ConfigError::new("secrets", message, format!("it takes {}", quoted(&known))));
        }
        let built = match &kind.making {
            Making::Code { build, .. } => build(with),
            Making::Row { knobs, sender } => knobs.build(sender(), with),
        };
        match built {
            Ok(scheme) => {
                let needs = scheme.needs();
                let missing: Vec<_> = needs.iter().copied().filter(|name| !secrets.contains(name)).collect();
                if scheme.needs_every() && !missing.is_empty() && missing.len() < needs.len() {
                    let message = format!("`{preset}` needs {} as well", quoted(&missing));
                    let help = format!("add {} under `secrets:`", quoted(&missing));
                    problems.push(ConfigError::new("", message, help));
                } else if !needs.is_empty() && missing.len() == needs.len() {
                    let message = format!("`{preset}` has no key, so nothing could be verified");
                    let help = if scheme.needs_every() {
                        format!("add {} under `secrets:`", quoted(&needs))
                    } else {
                        format!("add `secret_ref: NAME`, or under `secrets:` one of {}", quoted(&needs))
                    };
                    problems.push(ConfigError::new("", message, help));
                }
                if problems.is_empty() { Ok(Self { kind, scheme }) } else { Err(problems) }
            }
            Err(mut more) => {
                problems.append(&mut more);
                Err(problems)
            }
        }
    }

    /// What the route's `preset:` names.
    pub fn kind(&self) -> &'static SchemeKind {
        self.kind
    }

    /// Another path that the route is to be asked at: its scheme answers there by itself, and starts nothing.
    pub fn also_at(&self) -> Option<&str> {
        self.scheme.also_at()
    }

    /// Whether the listener has to ask for a certificate of the client.
    pub fn wants_client_certificate(&self) -> bool {
        self.scheme.wants_client_certificate()
    }

    /// A header that must not be kept, because its value lets people in.
    pub fn credential_header(&self) -> Option<&str> {
        self.scheme.credential_header()
    }

    /// Decodes the secret values as they are now. Call it again whenever they were read anew.
    pub fn prepare(&self, keys: &Keys<'_>) -> Result<Prepared, KeyError> {
        let needs = self.scheme.needs();
        let mut missing = Vec::new();
        for name in &needs {
            if keys.get(name)?.is_empty() {
                missing.push(*name);
            }
        }
        let enough = if self.scheme.needs_every() { missing.is_empty() } else { missing.len() < needs.len() };
        if !enough && !needs.is_empty() {
            return Err(KeyError::Missing { names: quoted(&missing) });
        }
        Ok(Prepared { name: self.kind.name, check: self.scheme.prepare(keys)? })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("preset", &self.kind.name).finish_non_exhaustive()
    }
}

/// A verifier with its keys ready; shared by every request until the secrets change.
pub struct Prepared {
    name: &'static str,
    check: Box<dyn Check>,
}

impl Prepared {
    /// Checks one request. Takes microseconds, never blocks and never panics, whatever the bytes.
    pub fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        self.check.verify(request)
    }

    /// The keys that are missing to judge this request, and worth fetching: the URL is the route's or the platform's own.
    pub fn wants(&self, request: &Inbound<'_>) -> Option<Missing> {
        self.check.wants(request)
    }

    /// Takes what such a URL answered at `now`, nothing when it did not; false when it is of no use.
    pub fn learn(&self, url: &str, answer: &[u8], now: Timestamp) -> bool {
        self.check.learn(url, answer, now)
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("preset", &self.name).finish_non_exhaustive()
    }
}

/// The XML of a message that was opened, without its envelope: for the targets in `fuzz/` only.
#[cfg(fuzzing)]
pub fn fuzz_xml(text: &str) -> Option<Value> {
    xml::read(text).ok()
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
