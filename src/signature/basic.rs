//! `basic`: a user and password in every request (RFC 7617). It proves who may call, not what was sent.

use data_encoding::BASE64;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::inbound::{Inbound, Proof, Reject, Verdict};
use super::keys::{KeyError, Keys, Passwords};
use super::params::{self, header_name};
use super::{Built, Check, Making, Scheme, SchemeKind, SecretSlot, bearer};

const SECRET: &str = "userpass";

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "basic",
    summary: "HTTP Basic: user and password in every request.",
    secrets: &[SecretSlot { name: SECRET, summary: "`user:password` in UTF-8; the password may hold colons" }],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `basic`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// The header, when the platform uses one of its own instead of `Authorization`; the word `Basic` may then be missing.
    header: Option<String>,
}

fn build(with: &Map<String, Value>) -> Built {
    let params: Params = params::read(with)?;
    let header = params.header.unwrap_or_else(|| bearer::AUTHORIZATION.into());
    header_name("header", &header).map_err(|problem| vec![problem])?;
    Ok(Box::new(Basic { header }))
}

struct Basic {
    header: String,
}

impl Scheme for Basic {
    fn needs(&self) -> Vec<&'static str> {
        vec![SECRET]
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        let values = keys.required(SECRET)?;
        if let Some(place) = values.iter().position(|value| !value.contains(&b':')) {
            return Err(KeyError::Bad { name: SECRET, place, problem: "has no colon between user and password" });
        }
        // Walmart documents a header of the subscriber's choice with base64(user:password), and does not say
        // whether the word comes first. In `Authorization` it always does.
        let bare_allowed = !self.header.eq_ignore_ascii_case(bearer::AUTHORIZATION);
        Ok(Box::new(Keyed { header: self.header.clone(), bare_allowed, passwords: Passwords::new(values) }))
    }
}

struct Keyed {
    header: String,
    bare_allowed: bool,
    passwords: Passwords,
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let value = request.headers.required(&self.header)?;
        let malformed = || Reject::malformed(&self.header, "`Basic` and base64");
        let encoded = match bearer::after_scheme(value, b"basic") {
            None if self.bare_allowed => value,
            found => found.ok_or_else(malformed)?,
        };
        let sent = BASE64.decode(encoded).map_err(|_| malformed())?;
        let key_index = self.passwords.find(&sent).ok_or(Reject::WrongSignature)?;
        Ok(Verdict::Deliver(Proof { key_index, ..Proof::default() }))
    }
}
