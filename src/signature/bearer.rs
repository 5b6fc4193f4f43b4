//! `bearer`: one fixed token in every request (RFC 6750, header only). It proves who may call, not what was sent.

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::inbound::{Inbound, Proof, Reject, Verdict};
use super::keys::{KeyError, Keys, Passwords};
use super::params::{self, header_name};
use super::{Built, Check, Making, Scheme, SchemeKind, SecretSlot};

const SECRET: &str = "token";

/// The header of RFC 9110, section 11.6.2.
pub(super) const AUTHORIZATION: &str = "authorization";

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "bearer",
    summary: "A fixed bearer token in every request.",
    secrets: &[SecretSlot { name: SECRET, summary: "The token, without `Bearer`" }],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `bearer`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// The header, when the platform uses one of its own instead of `Authorization`.
    header: Option<String>,
}

fn build(with: &Map<String, Value>) -> Built {
    let params: Params = params::read(with)?;
    let header = params.header.unwrap_or_else(|| AUTHORIZATION.into());
    header_name("header", &header).map_err(|problem| vec![problem])?;
    Ok(Box::new(Bearer { header }))
}

/// What follows the scheme's word and its spaces; the word is compared without regard to case.
pub(super) fn after_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (word, rest) = value.split_at_checked(scheme.len())?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    (word.eq_ignore_ascii_case(scheme) && spaces > 0).then(|| &rest[spaces..])
}

/// The token in a header that must say `Bearer`.
pub(super) fn token<'a>(request: &Inbound<'a>, header: &str) -> Result<&'a [u8], Reject> {
    let value = request.headers.required(header)?;
    let token = after_scheme(value, b"bearer").filter(|token| !token.is_empty());
    token.ok_or_else(|| Reject::malformed(header, "`Bearer` and a token"))
}

struct Bearer {
    header: String,
}

impl Scheme for Bearer {
    fn needs(&self) -> Vec<&'static str> {
        vec![SECRET]
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        Ok(Box::new(Keyed { header: self.header.clone(), tokens: Passwords::new(keys.required(SECRET)?) }))
    }
}

struct Keyed {
    header: String,
    tokens: Passwords,
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let token = token(request, &self.header)?;
        let key_index = self.tokens.find(token).ok_or(Reject::WrongSignature)?;
        Ok(Verdict::Deliver(Proof { key_index, ..Proof::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_may_have_any_case_but_must_stand_alone() {
        let token = |value: &'static str| after_scheme(value.as_bytes(), b"bearer");
        assert_eq!(token("Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(token("bEARER   abc d"), Some(&b"abc d"[..]));
        for bad in ["", "Bearer", "Bearerabc", "Basic abc", "Bearer\tabc", "abc"] {
            assert_eq!(token(bad), None, "{bad}");
        }
    }
}
