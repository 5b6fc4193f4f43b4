//! JSON as YAML that people like to read: short things on one line, the rest in blocks. Whatever could be read as
//! something else stands in quotes.

use serde_json::Value;

/// A whole file.
pub(super) fn write(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

/// Longest value that stands on one line, characters.
const LINE_CHARS_MAX: usize = 100;

fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                text.push_str(&indent);
                text.push_str(&scalar(name));
                text.push(':');
                behind(value, depth, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                let line = flow(item);
                if fits(item, &line) && depth > 1 || !matches!(item, Value::Object(_) | Value::Array(_)) {
                    text.extend([&indent, "- ", &line, "\n"]);
                    continue;
                }
                block(item, depth + 1, &mut inner);
                // The first line of the item stands behind its dash.
                let rest = inner.get(indent.len() + 2..).unwrap_or_default();
                text.extend([&indent, "- ", rest]);
            }
        }
        other => text.extend([&indent, flow(other).as_str(), "\n"]),
    }
}

fn behind(value: &Value, depth: usize, text: &mut String) {
    let line = flow(value);
    let is_long_list = depth == 0 && matches!(value, Value::Array(items) if !items.is_empty());
    if fits(value, &line) && !is_long_list {
        text.extend([" ", &line, "\n"]);
    } else {
        text.push('\n');
        block(value, depth + 1, text);
    }
}

fn fits(value: &Value, line: &str) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_)) || line.chars().count() <= LINE_CHARS_MAX
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let inner: Vec<_> =
                members.iter().map(|(name, value)| format!("{}: {}", scalar(name), flow(value))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

fn scalar(text: &str) -> String {
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/');
    let inner = |c: char| c.is_ascii_alphanumeric() || "_/.@?=&%+ -*".contains(c);
    let plain = text.starts_with(first) && text.chars().all(inner) && !text.ends_with(' ');
    let word = matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false");
    if plain && !word {
        return text.to_owned();
    }
    // JSON leaves control characters behind ASCII as they are, and YAML does not take them.
    let quoted = Value::String(text.to_owned()).to_string();
    let escape = |c: char| match c {
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    quoted.chars().map(escape).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::source_map::Source;
    use crate::spec::yaml;

    #[test]
    fn what_is_written_reads_the_same() {
        let number: Value = serde_json::from_str("12345678901234567890.10").unwrap();
        let value = json!({
            "version": 1,
            "odd": ["null", "no", "12", "~", "a: b", "#1042", "", " x", "a\nb\u{7f}\u{85}", "订单 \"x\"", "*a", "- b", "true"],
            "keys": { "a b": 1, "*": 2, "<<": 3, "null": null },
            "deep": [{ "list": [[1, 2], [], {}], "text": "x".repeat(120), "more": { "number": number, "on": false } }, "last"],
            "empty": {},
        });
        let text = write(&value);
        let mut problems = Vec::new();
        let read = yaml::parse(&Source::new("t.yaml", &text), &mut problems).unwrap();
        assert!(problems.is_empty(), "{problems:?}\n{text}");
        assert_eq!(read.value, value, "{text}");
    }
}
