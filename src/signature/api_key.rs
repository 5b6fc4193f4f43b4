//! `api_key`: one fixed key in a header or in the query. It proves who may call, not what was sent, and a key in
//! the query ends up in the logs of every proxy on the way: take a header where the sender can.

use percent_encoding::percent_decode;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::inbound::{Inbound, Proof, Reject, Verdict};
use super::keys::{KeyError, Keys, Passwords};
use super::params::{self, ConfigError, header_name};
use super::query::parameter;
use super::{Built, Check, Making, Scheme, SchemeKind, SecretSlot};

const SECRET: &str = "key";

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "api_key",
    summary: "A fixed key in a header or in the query.",
    secrets: &[SecretSlot { name: SECRET, summary: "The key" }],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `api_key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Where the key is.
    #[serde(default)]
    r#in: Place,
    /// The name of the header or of the query parameter.
    #[schemars(required)]
    name: Option<String>,
}

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Place {
    #[default]
    Header,
    Query,
}

fn build(with: &Map<String, Value>) -> Built {
    let Params { r#in: place, name } = params::read(with)?;
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(vec![ConfigError::new("name", "the place of the key has no name", "add `name: X-API-Key`")]);
    };
    if place == Place::Header {
        header_name("name", &name).map_err(|problem| vec![problem])?;
    }
    Ok(Box::new(ApiKey { place, name }))
}

struct ApiKey {
    place: Place,
    name: String,
}

impl Scheme for ApiKey {
    fn needs(&self) -> Vec<&'static str> {
        vec![SECRET]
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        let keys = Passwords::new(keys.required(SECRET)?);
        Ok(Box::new(Keyed { place: self.place, name: self.name.clone(), keys }))
    }
}

struct Keyed {
    place: Place,
    name: String,
    keys: Passwords,
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let key_index = match self.place {
            Place::Header => self.keys.find(request.headers.required(&self.name)?).ok_or(Reject::WrongSignature)?,
            Place::Query => in_query(&self.keys, request.query, &self.name)?,
        };
        Ok(Verdict::Deliver(Proof { key_index, ..Proof::default() }))
    }
}

/// The place of the key that a parameter of the query holds.
pub(super) fn in_query(keys: &Passwords, query: &str, name: &str) -> Result<usize, Reject> {
    let sent = parameter(query, name)?;
    // A plus is a space to a form and a plus to a URL; senders of base64 keys mean either.
    let spaced = || sent.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect::<Vec<_>>();
    let decoded = |text: &[u8]| keys.find(&percent_decode(text).collect::<Vec<_>>());
    decoded(sent).or_else(|| decoded(&spaced())).ok_or(Reject::WrongSignature)
}
