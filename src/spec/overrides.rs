//! Settings from the environment: `CLAWHOOK__LISTEN__HOOKS__ADDRESS=0.0.0.0:8443` stands for `listen.hooks.address`.
//!
//! The values are laid over those of the file before anything is judged, so both are held to the same schema. To keep
//! places simple, the variables are written behind the file's text into one source that only this part knows; when
//! all is judged, every problem is sent home, to the file or to its variable.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::diagnostic::{Problem, Spot};
use super::source_map::{Branch, Children, Place, Source, SourceMap, Span};
use super::yaml::{self, Document};

/// What variables that override a setting begin with.
pub const PREFIX: &str = "CLAWHOOK__";

/// One variable that overrides a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The variable's name, with its prefix.
    pub variable: String,
    /// Its value, read as YAML is.
    pub value: String,
}

impl Override {
    /// Those of the environment's variables that override a setting: shallow ones first, so that a deeper one can
    /// change a part of what they say. An empty variable counts as one that is not set.
    pub fn among(env: impl IntoIterator<Item = (String, String)>) -> Vec<Self> {
        let ours = |(variable, value): (String, String)| {
            (variable.starts_with(PREFIX) && !value.trim().is_empty()).then_some(Self { variable, value })
        };
        let mut found: Vec<Self> = env.into_iter().filter_map(ours).collect();
        found.sort_by_key(|each| (each.variable.matches("__").count(), each.variable.clone()));
        found
    }

    /// The keys on the way to the setting, each with its place in the variable's name.
    fn keys(&self) -> Vec<(String, Span)> {
        let mut at = PREFIX.len();
        let mut keys = Vec::new();
        for part in self.variable[PREFIX.len()..].split("__") {
            keys.push((part.to_ascii_lowercase(), Span::new(at, at + part.len())));
            at += part.len() + 2;
        }
        keys
    }
}

/// Where the parts of a joined source come from.
#[derive(Debug)]
pub(super) struct Homes {
    joined: Arc<Source>,
    file: Arc<Source>,
    /// Where each variable begins in the joined source.
    variables: Vec<(usize, Arc<Source>)>,
}

impl Homes {
    /// Puts a problem where it belongs.
    pub(super) fn send(&self, problem: &mut Problem) {
        self.send_spot(&mut problem.spot);
        for spot in &mut problem.related {
            self.send_spot(spot);
        }
        // A report shows one text.
        problem.related.retain(|spot| Arc::ptr_eq(&spot.source, &problem.spot.source));
    }

    /// Puts a place where it belongs.
    pub(super) fn send_spot(&self, spot: &mut Spot) {
        if !Arc::ptr_eq(&spot.source, &self.joined) {
            return;
        }
        let variable = self.variables.iter().rev().find(|(start, _)| spot.span.start >= *start);
        let (start, source) = variable.map_or((0, &self.file), |(start, source)| (*start, source));
        spot.source = Arc::clone(source);
        spot.span = Span::new(spot.span.start - start, spot.span.end.saturating_sub(start).min(source.text().len()));
    }
}

/// The file with the variables over it. `None` when nothing of the file can be used.
pub(super) fn read(
    file: &Arc<Source>,
    overrides: &[Override],
    problems: &mut Vec<Problem>,
) -> Option<(Document, Homes)> {
    let Document { mut value, map } = yaml::parse(file, problems)?;
    let mut root = map.into_root();
    let mut text = file.text().to_owned();
    let mut variables = Vec::new();
    for each in overrides {
        text.push('\n');
        let start = text.len();
        let line = format!("{}={}", each.variable, each.value);
        text.push_str(&line);
        let source = Source::new("environment", &line);
        let whole = Span::new(start, text.len());
        variables.push((start, Arc::clone(&source)));
        let Some(mut found) = parse_value(&source, each, problems) else { continue };
        found.branch.shift(start + each.variable.len() + 1);
        let keys: Vec<(String, Span)> =
            each.keys().into_iter().map(|(key, span)| (key, Span::new(span.start + start, span.end + start))).collect();
        lay(&mut value, &mut root, &keys, whole, found);
    }
    let joined = Source::new(file.name(), &text);
    let homes = Homes { joined: Arc::clone(&joined), file: Arc::clone(file), variables };
    Some((Document { value, map: SourceMap::new(joined, root) }, homes))
}

struct Found {
    value: Value,
    branch: Branch,
}

/// Reads a variable's value as YAML; a problem with it points into the variable.
fn parse_value(line: &Arc<Source>, each: &Override, problems: &mut Vec<Problem>) -> Option<Found> {
    let before = problems.len();
    let source = Source::new("environment", &each.value);
    let document = yaml::parse(&source, problems);
    for problem in &mut problems[before..] {
        let shift = each.variable.len() + 1;
        for spot in std::iter::once(&mut problem.spot).chain(&mut problem.related) {
            spot.source = Arc::clone(line);
            spot.span = Span::new(spot.span.start + shift, spot.span.end + shift);
        }
    }
    let Document { value, map } = document?;
    Some(Found { value, branch: map.into_root() })
}

/// Puts a value at the end of the way that `keys` lead, making maps on the way where there are none.
fn lay(value: &mut Value, branch: &mut Branch, keys: &[(String, Span)], whole: Span, found: Found) {
    let Some(((key, span), rest)) = keys.split_first() else {
        let key = branch.place.key;
        *value = found.value;
        *branch = found.branch;
        branch.place.key = key;
        return;
    };
    if !value.is_object() || !matches!(branch.children, Children::Map(_)) {
        *value = Value::Object(Map::new());
        branch.children = Children::Map(HashMap::new());
        branch.place.value = whole;
        branch.refused = false;
    }
    let (Value::Object(members), Children::Map(branches)) = (value, &mut branch.children) else { return };
    let name = members.keys().find(|known| spelt(known) == *key).cloned().unwrap_or_else(|| key.clone());
    let place = Place { key: Some(*span), value: whole };
    let below = branches.entry(name.as_str().into()).or_insert_with(|| Branch {
        place,
        refused: false,
        children: Children::None,
    });
    below.place.key = Some(*span);
    lay(members.entry(name).or_insert(Value::Null), below, rest, whole, found);
}

/// How a key is spelt in a variable, which can hold neither small letters nor `-` nor `.`.
fn spelt(key: &str) -> String {
    key.to_ascii_lowercase().replace(['-', '.'], "_")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, env: &[(&str, &str)], expected: &str) {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut problems = Vec::new();
        let (document, _) = read(&Source::new("c.yaml", file), &Override::among(env), &mut problems).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(document.value.to_string(), expected);
    }

    #[test]
    fn variables_lie_over_the_file() {
        check("a: 1\n", &[("CLAWHOOK__B", "x"), ("CLAWHOOK_SECRET_A", "s"), ("PATH", "/")], r#"{"a":1,"b":"x"}"#);
        check("a: { b: 1, c: 2 }\n", &[("CLAWHOOK__A__B", "127.0.0.1:80")], r#"{"a":{"b":"127.0.0.1:80","c":2}}"#);
        check("a: none\n", &[("CLAWHOOK__A__B__C", "[1, 1.10]")], r#"{"a":{"b":{"c":[1,1.10]}}}"#);
        check("con: { erp-eu: { b: 1 } }\n", &[("CLAWHOOK__CON__ERP_EU__B", "2")], r#"{"con":{"erp-eu":{"b":2}}}"#);
        check("a: 1\n", &[("CLAWHOOK__A__B", "2"), ("CLAWHOOK__A", "{ b: 1, c: 3 }")], r#"{"a":{"b":2,"c":3}}"#);
        check("a: 1\n", &[("CLAWHOOK__A", " ")], r#"{"a":1}"#);
    }
}
