//! The name of an artifact, and what a run's log says of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::RunId;

/// An artifact: `art_`, the digits of its run, and 128 random bits, so that no write ever meets another's, and nobody
/// guesses one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactId {
    run: RunId,
    token: String,
}

const PREFIX: &str = "art_";
const RUN_PREFIX: &str = "run_";
const TOKEN_CHARS: usize = 32;

/// A text is not the id of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the id of an artifact")]
pub struct NoId(String);

impl ArtifactId {
    /// A new one for `run`.
    pub(super) fn of(run: RunId) -> Self {
        Self { run, token: data_encoding::HEXLOWER.encode(&rand::random::<u128>().to_be_bytes()) }
    }

    /// The run that wrote it.
    pub fn run(&self) -> RunId {
        self.run
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.run.to_string();
        write!(f, "{PREFIX}{}_{}", run.strip_prefix(RUN_PREFIX).unwrap_or(&run), self.token)
    }
}

impl FromStr for ArtifactId {
    type Err = NoId;
    fn from_str(text: &str) -> Result<Self, NoId> {
        let wrong = || NoId(text.chars().take(64).collect());
        let (run, token) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or_else(wrong)?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if token.len() != TOKEN_CHARS || !token.bytes().all(hex) {
            return Err(wrong());
        }
        let run = format!("{RUN_PREFIX}{run}").parse().map_err(|_| wrong())?;
        Ok(Self { run, token: token.to_owned() })
    }
}

impl TryFrom<String> for ArtifactId {
    type Error = NoId;
    fn try_from(text: String) -> Result<Self, NoId> {
        text.parse()
    }
}

impl From<ArtifactId> for String {
    fn from(id: ArtifactId) -> String {
        id.to_string()
    }
}

/// An artifact as outputs refer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    pub artifact: ArtifactId,
    pub media_type: String,
    /// Size, bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes, lower-case hex.
    pub sha256: String,
    /// Rows, when it is a table that we wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Columns, when it is a table that we wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// The charset that its sender named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// The name of the file that it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What whoever writes an artifact says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    pub media_type: String,
    pub rows: Option<u64>,
    pub columns: Option<Vec<String>>,
    pub charset: Option<String>,
    pub name: Option<String>,
}

impl Handle {
    /// Reads a value as a handle; `None` when it does not look like one.
    pub fn read(value: &Value) -> Option<Result<Self, String>> {
        value.get("artifact")?;
        let read = serde_json::from_value(value.clone());
        Some(read.map_err(|error| format!("this is not what a task says of an artifact: {error}")))
    }

    /// As it stands in outputs.
    pub fn to_value(&self) -> Value {
        // A struct of texts and numbers is always JSON.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Every handle of an artifact of `run` in a value.
    pub fn all_in(value: &Value, run: RunId, found: &mut Vec<Self>) {
        if let Some(Ok(handle)) = Self::read(value).filter(|read| read.as_ref().is_ok_and(|h| h.artifact.run() == run))
        {
            if !found.iter().any(|there| there.artifact == handle.artifact) {
                found.push(handle);
            }
            return;
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| Self::all_in(item, run, found)),
            Value::Object(members) => members.values().for_each(|member| Self::all_in(member, run, found)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_read_back_and_nothing_else_does() {
        let run: RunId = "run_01k4q8zr5m2c7".parse().unwrap();
        let id = ArtifactId::of(run);
        assert_eq!((id.to_string().parse::<ArtifactId>().unwrap(), id.run()), (id.clone(), run));
        assert_ne!(ArtifactId::of(run), id);
        let text = id.to_string();
        for bad in
            ["", "art_", "art_01k4q8zr5m2c7_../../etc/passwd", &text[..text.len() - 1], &text.replace("art_", "")]
        {
            assert!(bad.parse::<ArtifactId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn handles_are_found_wherever_they_stand() {
        let (run, other) = ("run_01k4q8zr5m2c7".parse().unwrap(), "run_01k4q8zr5m2c8".parse().unwrap());
        let handle = |run| json!({ "artifact": ArtifactId::of(run).to_string(), "media_type": "text/csv", "bytes": 3, "sha256": "x" });
        let value =
            json!({ "a": [handle(run), 1], "b": { "c": handle(run) }, "d": handle(other), "e": { "artifact": 1 } });
        let mut found = Vec::new();
        Handle::all_in(&value, run, &mut found);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].to_value(), value["a"][0]);
        assert!(Handle::read(&value["e"]).unwrap().is_err());
        assert!(Handle::read(&json!([])).is_none());
    }
}
