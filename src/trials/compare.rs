//! What is expected against what is there: every difference, at its place.

use rust_decimal::Decimal;
use serde_json::Value;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Where, such as `state.last_alerted.B-7`.
    pub(super) place: String,
    /// Nothing when it should not be there.
    pub(super) expected: Option<String>,
    /// Nothing when it is not there.
    pub(super) actual: Option<String>,
}

impl Difference {
    /// A difference between two things in words.
    pub(super) fn new(place: &str, expected: impl Into<String>, actual: impl Into<String>) -> Self {
        Self { place: place.to_owned(), expected: Some(expected.into()), actual: Some(actual.into()) }
    }

    /// In one sentence.
    pub(super) fn sentence(&self) -> String {
        match (&self.expected, &self.actual) {
            (Some(expected), Some(actual)) => format!("`{}` is {actual}, not {expected}", self.place),
            (Some(_), None) => format!("`{}` is missing", self.place),
            (None, Some(actual)) => format!("`{}` is there: {actual}", self.place),
            (None, None) => format!("`{}` differs", self.place),
        }
    }
}

/// What of `expected` is not so in `actual`. Maps may have more members, lists not.
pub(super) fn subset(place: &str, expected: &Value, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(place, expected, actual, false, &mut found);
    found
}

/// Everything in which the two differ.
pub(super) fn exact(place: &str, expected: &Value, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(place, expected, actual, true, &mut found);
    found
}

fn compare(place: &str, expected: &Value, actual: &Value, exact: bool, found: &mut Vec<Difference>) {
    match (expected, actual) {
        (Value::Object(wanted), Value::Object(there)) => {
            for (name, value) in wanted {
                let place = member(place, name);
                match there.get(name) {
                    Some(actual) => compare(&place, value, actual, exact, found),
                    None => found.push(Difference { place, expected: Some(shown(value)), actual: None }),
                }
            }
            for (name, value) in there.iter().filter(|(name, _)| exact && !wanted.contains_key(*name)) {
                found.push(Difference { place: member(place, name), expected: None, actual: Some(shown(value)) });
            }
        }
        (Value::Array(wanted), Value::Array(there)) => {
            for (index, value) in wanted.iter().enumerate() {
                let place = format!("{place}[{index}]");
                match there.get(index) {
                    Some(actual) => compare(&place, value, actual, exact, found),
                    None => found.push(Difference { place, expected: Some(shown(value)), actual: None }),
                }
            }
            for (index, value) in there.iter().enumerate().skip(wanted.len()) {
                let place = format!("{place}[{index}]");
                found.push(Difference { place, expected: None, actual: Some(shown(value)) });
            }
        }
        _ if alike(expected, actual) => {}
        _ => found.push(Difference::new(place, shown(expected), shown(actual))),
    }
}

/// Numbers are alike when they are the same number, however they are written.
fn alike(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Number(wanted), Value::Number(there)) => {
            let read = |text: String| text.parse::<Decimal>().or_else(|_| Decimal::from_scientific(&text)).ok();
            wanted == there || read(wanted.to_string()).is_some_and(|wanted| Some(wanted) == read(there.to_string()))
        }
        _ => expected == actual,
    }
}

fn member(place: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    match (plain, place.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{place}.{name}"),
        (false, _) => format!("{place}[{name:?}]"),
    }
}

/// A value on one line, cut when it is long.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// Longest value that a difference shows, characters.
const SHOWN_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(found: &[Difference], expected: &[&str]) {
        let told: Vec<_> = found.iter().map(Difference::sentence).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn every_difference_is_told_at_its_place() {
        let wanted = json!({ "a": 1, "b": { "c": [1, 2] }, "d e": "x" });
        let there = json!({ "a": 2, "b": { "c": [1, 2, 3], "more": true }, "f": null });
        let common = ["`s.a` is 2, not 1", "`s.b.c[2]` is there: 3", "`s[\"d e\"]` is missing"];
        check(&subset("s", &wanted, &there), &common);
        check(
            &exact("s", &wanted, &there),
            &[common[0], common[1], "`s.b.more` is there: true", common[2], "`s.f` is there: null"],
        );
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        check(&exact("n", &read("[9.90, 1e2, 12345678901234567890]"), &read("[9.9, 100, 12345678901234567890]")), &[]);
        check(
            &exact("n", &read("12345678901234567890"), &read("12345678901234567891")),
            &["`n` is 12345678901234567891, not 12345678901234567890"],
        );
        check(&exact("n", &json!("1"), &json!(1)), &["`n` is 1, not \"1\""]);
    }
}
