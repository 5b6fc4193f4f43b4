//! Paths into JSON: the `jsonpath` filter looks values up by one, a route's `redact` blanks them.

use serde_json::Value as Json;

use super::{Error, Kind};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(i64),
    All,
    /// Everything below that has this key (`..key`).
    Anywhere(String),
}

/// A path, parsed once. The subset of RFC 9535: `$`, `.key`, `['key']`, `[0]`, `[-1]`, `.*`, `[*]` and `..key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

/// What people write in a path.
pub(super) const FORMS: &str = "use `$`, `.key`, `['key']`, `[0]`, `[-1]`, `[*]` and `..key`";
/// What stands where something was blanked.
const BLANK: &str = "[redacted]";

impl JsonPath {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let steps = read(text).ok_or_else(|| {
            Error::new(Kind::Syntax, 0..text.len(), format!("`{text}` is not a path into JSON")).with_help(FORMS)
        })?;
        Ok(Self { text: text.to_owned(), steps })
    }

    /// The path as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Replaces everything that the path matches by `"[redacted]"`, and answers how much that was.
    pub fn blank(&self, value: &mut Json) -> usize {
        blank(value, &self.steps)
    }
}

fn blank(value: &mut Json, steps: &[Step]) -> usize {
    let Some((step, rest)) = steps.split_first() else {
        *value = Json::String(BLANK.to_owned());
        return 1;
    };
    match (step, value) {
        (Step::Key(key), Json::Object(members)) => members.get_mut(key).map_or(0, |member| blank(member, rest)),
        (Step::Index(index), Json::Array(items)) => {
            let place = if *index < 0 {
                items.len().checked_add_signed(isize::try_from(*index).unwrap_or(isize::MIN))
            } else {
                usize::try_from(*index).ok()
            };
            place.and_then(|place| items.get_mut(place)).map_or(0, |item| blank(item, rest))
        }
        (Step::All, Json::Array(items)) => items.iter_mut().map(|item| blank(item, rest)).sum(),
        (Step::All, Json::Object(members)) => members.values_mut().map(|member| blank(member, rest)).sum(),
        (Step::Anywhere(key), value) => anywhere(value, key, rest),
        _ => 0,
    }
}

fn anywhere(value: &mut Json, key: &str, rest: &[Step]) -> usize {
    match value {
        Json::Array(items) => items.iter_mut().map(|item| anywhere(item, key, rest)).sum(),
        Json::Object(members) => {
            let below: usize = members.values_mut().map(|member| anywhere(member, key, rest)).sum();
            below + members.get_mut(key).map_or(0, |member| blank(member, rest))
        }
        _ => 0,
    }
}

/// The steps of a path, or nothing when it is not one.
pub(super) fn read(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let step;
        if let Some(after) = rest.strip_prefix("..") {
            let (key, after) = key(after)?;
            (step, rest) = (Step::Anywhere(key), after);
        } else if let Some(after) = rest.strip_prefix(".*") {
            (step, rest) = (Step::All, after);
        } else if let Some(after) = rest.strip_prefix('.') {
            let (key, after) = key(after)?;
            (step, rest) = (Step::Key(key), after);
        } else {
            let inside = rest.strip_prefix('[')?;
            if let Some(quote) = inside.chars().next().filter(|c| matches!(c, '\'' | '"')) {
                let (key, after) = inside[1..].split_once(quote)?;
                (step, rest) = (Step::Key(key.to_owned()), after.strip_prefix(']')?);
            } else {
                let (index, after) = inside.split_once(']')?;
                let index = index.trim();
                (step, rest) = (if index == "*" { Step::All } else { Step::Index(index.parse().ok()?) }, after);
            }
        }
        steps.push(step);
    }
    Some(steps)
}

fn key(rest: &str) -> Option<(String, &str)> {
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    (end > 0).then(|| (rest[..end].to_owned(), &rest[end..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &Json) {
        let mut value = json!({"customer": {"name": "Zhou", "id": 1}, "lines": [{"sku": "A"}, {"sku": "B"}]});
        let path = JsonPath::parse(path).expect("a path");
        path.blank(&mut value);
        assert_eq!(value, *expected);
    }

    #[test]
    fn paths_blank_what_they_match() {
        let lines = json!([{"sku": "A"}, {"sku": "B"}]);
        check("$.customer", &json!({"customer": BLANK, "lines": lines}));
        check("$['customer'].name", &json!({"customer": {"name": BLANK, "id": 1}, "lines": lines}));
        let customer = json!({"name": "Zhou", "id": 1});
        check("$.lines[*].sku", &json!({"customer": customer, "lines": [{"sku": BLANK}, {"sku": BLANK}]}));
        check("$.lines[-1]", &json!({"customer": customer, "lines": [{"sku": "A"}, BLANK]}));
        check("$..sku", &json!({"customer": customer, "lines": [{"sku": BLANK}, {"sku": BLANK}]}));
        check("$.nope.x", &json!({"customer": customer, "lines": lines}));
    }
}
