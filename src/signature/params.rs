//! Reading the parameters that stand flat beside `preset:`. Every bad one is reported at its own place.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::limits;

/// What is wrong with the configuration of a verifier, for people to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// The parameter, relative to `verify`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl ConfigError {
    pub(super) fn new(path: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: help.into() }
    }
}

/// Reads a scheme's parameters. All of them must be optional to serde: each is read alone first, so that
/// every bad one is reported; what is required is checked by the scheme.
pub(super) fn read<P: DeserializeOwned>(with: &Map<String, Value>) -> Result<P, Vec<ConfigError>> {
    let one = |name: &String, value: &Value| Value::Object(Map::from_iter([(name.clone(), value.clone())]));
    let problem = |path: &str, cause: serde_json::Error| {
        ConfigError::new(path, cause.to_string(), "see the scheme's parameters in its schema: `clawhook schema`")
    };
    let mut problems = Vec::new();
    for (name, value) in with {
        if let Err(cause) = serde_json::from_value::<P>(one(name, value)) {
            problems.push(problem(name, cause));
        }
    }
    if problems.is_empty() {
        serde_json::from_value(Value::Object(with.clone())).map_err(|cause| vec![problem("", cause)])
    } else {
        Err(problems)
    }
}

/// How far a signed time may be from ours, written `300s`, `5m`, `1h` or `500ms`; at most a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// The window of Stripe, Slack and Standard Webhooks, and of every scheme that sets none.
pub(super) const TOLERANCE: Duration = Duration::from_mins(5);

impl Span {
    fn parse(text: &str) -> Option<Duration> {
        let unit = text.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = text[..unit].parse().ok()?;
        let millis: u64 = match &text[unit..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        count.checked_mul(millis).map(Duration::from_millis).filter(|span| *span <= limits::SIGNATURE_TOLERANCE_MAX)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a duration up to a day, such as `300s` or `5m`")))
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" })
    }
}

/// One text or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
#[schemars(inline)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// Checks that a text can be the name of a header (RFC 9110, section 5.6.2).
pub(super) fn header_name(path: &str, name: &str) -> Result<(), ConfigError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.bytes().all(token) {
        return Ok(());
    }
    let message = format!("`{name}` is not the name of a header");
    Err(ConfigError::new(path, message, "write it as the platform does, such as `X-Signature`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        tolerance: Option<Span>,
        audience: Option<OneOrMany>,
    }

    fn check(text: &str, millis: Option<u64>) {
        let span = serde_json::from_value::<Span>(Value::String(text.into())).ok();
        assert_eq!(span.map(|span| span.0), millis.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn spans() {
        check("300s", Some(300_000));
        check("5m", Some(300_000));
        check("500ms", Some(500));
        check("24h", Some(86_400_000));
        check("1d", Some(86_400_000));
        check("0s", Some(0));
        for bad in ["", "5", "s", "-5s", "+5s", "5 m", "5M", "1.5h", "25h", "99999999999999999999s", "5m30s", "5分"] {
            check(bad, None);
        }
    }

    #[test]
    fn every_bad_parameter_is_named() {
        let with = serde_json::json!({ "tolerance": 300, "audience": 5, "tolerence": "5m" });
        let problems = read::<Example>(with.as_object().unwrap_or(&Map::new())).err().unwrap_or_default();
        let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["tolerance", "audience", "tolerence"]);
        assert!(problems[1].message.contains("a string or a list"), "{}", problems[1]);
    }

    #[test]
    fn good_parameters_are_read() {
        let with = serde_json::json!({ "tolerance": "5m", "audience": ["a", "b"] });
        let read = read::<Example>(with.as_object().unwrap_or(&Map::new())).unwrap_or_default();
        assert_eq!(read.tolerance, Some(Span(TOLERANCE)));
        assert_eq!(read.audience.as_ref().map(OneOrMany::as_slice), Some(&["a".to_owned(), "b".to_owned()][..]));
    }
}
