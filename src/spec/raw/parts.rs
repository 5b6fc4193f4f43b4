//! Values that stand in several files: durations, sizes, rates, secret refs.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The version of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u32);

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1, "description": "The version of the language this file is written in: 1." })
    }
}

/// Declares a text that has a form of its own, checked by a pattern; `x-expected` is how messages call it.
macro_rules! formed_text {
    ($(#[doc = $doc:literal])* $type:ident, $name:literal, $pattern:literal, $expected:literal, [$($example:literal),+]) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub String);

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": concat!($($doc),*).trim(),
                    "pattern": $pattern,
                    "examples": [$($example),+],
                    "x-expected": $expected,
                })
            }
        }
    };
}

formed_text!(
    /// A length of time: whole numbers with `ms`, `s`, `m`, `h` or `d`, such as `500ms`, `90s`, `1h30m` or `3d`.
    Duration, "Duration", r"^([0-9]{1,12}(ms|s|m|h|d))+$", "a duration such as `30s`, `5m` or `1h30m`", ["30s", "1h30m", "3d"]
);
formed_text!(
    /// A number of bytes: a whole number with `B`, `KiB`, `MiB` or `GiB`, such as `64KiB`.
    Size, "Size", r"^[0-9]{1,12}(B|KiB|MiB|GiB)$", "a size such as `64KiB` or `2MiB`", ["64KiB", "2MiB"]
);
formed_text!(
    /// How often something may happen: a whole number per `s`, `m` or `h`, such as `50/s`.
    Rate, "Rate", r"^[0-9]{1,9}/(s|m|h)$", "a rate such as `50/s` or `600/m`", ["50/s", "600/m"]
);
formed_text!(
    /// The name of a secret. Its value stands in the secret source, never in a file of the language.
    SecretName, "SecretName", r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$",
    "the name of a secret: letters, digits, `-`, `_` and `.`", ["shopify-us-webhook-key"]
);
formed_text!(
    /// An IP address and a port, such as `127.0.0.1:8080` or `[::1]:8080`.
    ListenAddress, "ListenAddress", r"^(\[[0-9A-Fa-f:.]+\]|[0-9]{1,3}(\.[0-9]{1,3}){3}):[0-9]{1,5}$",
    "an IP address and a port such as `127.0.0.1:8080`", ["127.0.0.1:8080", "0.0.0.0:8443"]
);

/// A secret, by name. The value is read at the moment of use and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// The name of the secret in the secret source.
    pub secret_ref: SecretName,
    /// Text to put before the value, such as `Bearer `.
    pub prefix: Option<String>,
    /// A version of the secret, where the source keeps several.
    pub version: Option<String>,
    /// The member to take when the secret's value is a JSON object.
    pub field: Option<String>,
}

/// A text that may also come from a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOrSecret {
    /// Written here.
    Text(String),
    /// Kept by the secret source.
    Secret(SecretRef),
}

impl<'de> Deserialize<'de> for TextOrSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::Text(text)),
            value => serde_json::from_value(value).map(Self::Secret).map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for TextOrSecret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "TextOrSecret".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let secret = generator.subschema_for::<SecretRef>();
        json_schema!({ "anyOf": [{ "type": "string" }, secret], "x-expected": "text or `{ secret_ref: NAME }`" })
    }
}

/// When to do something: `true`, `false` or an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Always or never.
    Fixed(bool),
    /// The source of one whole expression, `${{ … }}`.
    Expression(String),
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(fixed) => Ok(Self::Fixed(fixed)),
            Value::String(text) => Ok(Self::Expression(text)),
            other => Err(D::Error::custom(format!("not a condition: {other}"))),
        }
    }
}

impl JsonSchema for Condition {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["boolean", "string"],
            "x-expected": "an expression such as `${{ inputs.total > 100 }}`, `true` or `false`",
        })
    }
}
