//! `generic_hmac`: every sender that signs with an HMAC and is not a preset, described in YAML.

use std::borrow::Cow;

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{Encoding, KeyEncoding};
use super::params::{self, ConfigError, Span, TOLERANCE, header_name};
use super::sender::{Algorithm, Form, HeaderSet, IdInBody, Sender, SenderScheme};
use super::window::TimestampUnit;
use super::{Built, Making, SchemeKind, SecretSlot};

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "generic_hmac",
    summary: "Any sender that signs with an HMAC: say which header, hash, encoding and text.",
    secrets: &[SecretSlot { name: "secret", summary: "The shared key, in `key_encoding`" }],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `generic_hmac`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The header that carries the signature.
    #[schemars(required)]
    header: Option<String>,
    /// The hash.
    #[serde(default)]
    algorithm: Algorithm,
    /// How the signature is written: `hex` takes both cases, `base64` wants its padding.
    #[serde(default)]
    encoding: Encoding,
    /// What stands before the signature in its header, such as `sha256=`.
    #[serde(default)]
    prefix: String,
    /// The signed text with `{body}`, `{timestamp}`, `{id}`, `{url}`, `{method}`, `{path}`, `{query}`, `{target}` (path and query), `{body_sha256}` (hex); `{body}` when left out.
    template: Option<String>,
    /// The header that carries the signed time, in ASCII digits.
    timestamp_header: Option<String>,
    /// What the time counts.
    #[serde(default)]
    timestamp_unit: TimestampUnit,
    /// How far the signed time may be from ours, both ways; 300s when left out.
    tolerance: Option<Span>,
    /// The header that carries the delivery's id.
    id_header: Option<String>,
    /// The top-level member of a JSON body that holds the delivery's id, when no header does.
    id_member: Option<String>,
    /// How the text of the secret becomes a key.
    #[serde(default)]
    key_encoding: KeyEncoding,
    /// The URL as registered with the sender, for `{url}`; needed behind a proxy.
    url: Option<String>,
}

fn build(with: &Map<String, Value>) -> Built {
    let params: Params = params::read(with)?;
    let mut problems = Vec::new();
    let names =
        [("header", &params.header), ("timestamp_header", &params.timestamp_header), ("id_header", &params.id_header)];
    for (path, name) in names {
        problems.extend(name.as_deref().and_then(|name| header_name(path, name).err()));
    }
    let mut problem = |path, message: &str, help: &str| problems.push(ConfigError::new(path, message, help));
    if params.header.is_none() {
        problem("header", "the header that carries the signature is not named", "add `header: X-Signature`");
    }
    if params.tolerance.is_some() && params.timestamp_header.is_none() {
        let help = "name the header that carries the signed time as `timestamp_header`, or drop `tolerance`";
        problem("tolerance", "a tolerance without a signed time protects nothing", help);
    }
    if params.id_header.is_some() && params.id_member.is_some() {
        problem("id_member", "the id comes from a header or from the body, not from both", "drop one of the two");
    }
    match params.header {
        Some(header) if problems.is_empty() => SenderScheme::boxed(Sender {
            form: Form::Whole { prefix: params.prefix.into() },
            algorithm: params.algorithm,
            encoding: params.encoding,
            template: params.template.map_or(Cow::Borrowed("{body}"), Cow::Owned),
            key_encoding: params.key_encoding,
            timestamp_unit: params.timestamp_unit,
            tolerance: params.tolerance.map_or(TOLERANCE, |Span(tolerance)| tolerance),
            id_in_body: params.id_member.map_or(IdInBody::None, |name| IdInBody::Member(name.into())),
            url: params.url,
            ..Sender::over_body(HeaderSet {
                signature: header.into(),
                timestamp: params.timestamp_header.map(Cow::Owned),
                id: params.id_header.map(Cow::Owned),
            })
        }),
        _ => Err(problems),
    }
}
