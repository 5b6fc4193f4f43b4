//! The reference of the language as Markdown, made from the JSON Schemas, so that it cannot say anything else than what
//! the program accepts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A key that holds maps with keys of their own, waiting for a section of its own.
struct Waiting<'a> {
    path: String,
    schema: &'a Map<String, Value>,
}

/// Writes sections about maps, each definition once.
pub struct Reference<'a> {
    root: &'a Value,
    /// The headings of definitions that have a section, by name.
    told: BTreeMap<&'a str, String>,
    waiting: Vec<Waiting<'a>>,
    heading: &'static str,
    text: String,
}

impl std::fmt::Debug for Reference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reference({} bytes)", self.text.len())
    }
}

impl<'a> Reference<'a> {
    /// Begins a reference whose `$ref`s lead into `root`; sections of inner maps get headings that begin with `heading`
    /// (`###`).
    pub fn of(root: &'a Value, heading: &'static str) -> Self {
        Self { root, told: BTreeMap::new(), waiting: Vec::new(), heading, text: String::new() }
    }

    /// Says that the section about the definition `name` is the one with this heading.
    pub fn know(&mut self, name: &'a str, heading: &str) {
        self.told.insert(name, heading.to_owned());
    }

    /// Writes the keys of a map as a table, then a section for each map inside it that was not told before. `path` is
    /// put before the names of those sections, and may be empty.
    pub fn map(&mut self, path: &str, schema: &'a Value) {
        if let Some(schema) = schema.as_object() {
            self.table(path, schema);
        }
        while !self.waiting.is_empty() {
            let Waiting { path, schema } = self.waiting.remove(0);
            let says = says(schema);
            let _ =
                write!(self.text, "{} `{path}`\n\n{says}{}", self.heading, if says.is_empty() { "" } else { "\n\n" });
            self.table(&path, schema);
        }
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }

    fn table(&mut self, path: &str, schema: &'a Map<String, Value>) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|keys| !keys.is_empty())
        else {
            return;
        };
        self.text.push_str("| Key | Takes | Left out | |\n|---|---|---|---|\n");
        for (key, value) in properties {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let takes = self.takes(&at, value);
            let left_out = if is_required(schema, key) { "required".to_owned() } else { default(value) };
            let _ = writeln!(self.text, "| `{key}` | {} | {left_out} | {} |", cell(&takes), cell(&self.says(value)));
        }
        self.text.push('\n');
    }

    /// What a key says of itself, else what its definition does.
    fn says(&self, value: &Value) -> String {
        let own = value.as_object().map(says).unwrap_or_default();
        match self.definition(value) {
            Some((_, definition)) if own.is_empty() => says(definition),
            _ => own,
        }
    }

    fn definition(&self, value: &Value) -> Option<(&'a str, &'a Map<String, Value>)> {
        let name = value.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?.replace("%20", " ");
        let (name, definition) = self.root.get("$defs")?.as_object()?.get_key_value(&name)?;
        Some((name, definition.as_object()?))
    }

    /// What stands behind a key, in words. A map with keys of its own becomes a link to its section.
    fn takes(&mut self, path: &str, value: &'a Value) -> String {
        if let Some((name, definition)) = self.definition(value) {
            return self.named(path, name, definition);
        }
        let Some(schema) = value.as_object() else { return "anything".to_owned() };
        if let Some(expected) = schema.get("x-expected").and_then(Value::as_str) {
            let branches = schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let keys =
                |branch: &&Value| self.definition(branch).is_some_and(|(name, it)| !is_secret(name) && has_keys(it));
            return match branches.iter().find(keys) {
                Some(branch) => format!("{expected}; see {}", self.takes(path, branch)),
                None => expected.to_owned(),
            };
        }
        if let Some(only) = schema.get("const") {
            return code(only);
        }
        if let Some(names) = schema.get("enum").and_then(Value::as_array) {
            return alternatives(names.iter().map(code));
        }
        if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            return alternatives(branches.iter().map(|branch| self.takes(path, branch)).collect::<Vec<_>>());
        }
        match schema.get("type") {
            Some(Value::Array(types)) => alternatives(
                types.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(one).map(str::to_owned),
            ),
            Some(Value::String(name)) => match (name.as_str(), schema.get("items"), schema.get("additionalProperties"))
            {
                ("array", Some(items), _) => format!("a list: {}", self.takes(&format!("{path}[]"), items)),
                ("object", ..) if schema.contains_key("properties") => self.section(path, schema),
                ("object", _, Some(member @ Value::Object(_))) => {
                    format!("a map by name: {}", self.takes(&format!("{path}.NAME"), member))
                }
                ("integer" | "number", ..) => format!("{}{}", one(name), bounds(schema)),
                _ => one(name).to_owned(),
            },
            _ => "anything".to_owned(),
        }
    }

    /// A definition: told where it stands when it is small, in a section of its own when it has keys.
    fn named(&mut self, path: &str, name: &'a str, definition: &'a Map<String, Value>) -> String {
        if is_secret(name) {
            return "`{ secret_ref: NAME }`".to_owned();
        }
        if definition.contains_key("x-expected") || !has_keys(definition) {
            return self.takes(path, &self.root["$defs"][name]);
        }
        if let Some(heading) = self.told.get(name) {
            return link(heading);
        }
        self.told.insert(name, path.to_owned());
        self.section(path, definition)
    }

    fn section(&mut self, path: &str, schema: &'a Map<String, Value>) -> String {
        self.waiting.push(Waiting { path: path.to_owned(), schema });
        link(path)
    }
}

fn is_secret(definition: &str) -> bool {
    definition.split(' ').next_back() == Some("SecretRef")
}

fn has_keys(schema: &Map<String, Value>) -> bool {
    schema.contains_key("properties")
}

/// What a schema says of itself, on one line.
fn says(schema: &Map<String, Value>) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ")
}

fn is_required(schema: &Map<String, Value>, key: &str) -> bool {
    schema.get("required").and_then(Value::as_array).is_some_and(|keys| keys.iter().any(|name| name == key))
}

fn default(value: &Value) -> String {
    match value.get("default") {
        None | Some(Value::Null) => "–".to_owned(),
        Some(value) => code(value),
    }
}

fn code(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn alternatives(branches: impl IntoIterator<Item = String>) -> String {
    let mut known: Vec<String> = Vec::new();
    for branch in branches {
        if !known.contains(&branch) {
            known.push(branch);
        }
    }
    known.join(", ")
}

fn one(name: &str) -> &str {
    match name {
        "string" => "text",
        "object" => "a map",
        "array" => "a list",
        "boolean" => "`true`, `false`",
        "integer" => "a whole number",
        "number" => "a number",
        other => other,
    }
}

fn bounds(schema: &Map<String, Value>) -> String {
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", {least} or more"),
        (None, Some(most)) => format!(", {most} or less"),
        (None, None) => String::new(),
    }
}

/// A link to the section of this heading, as Markdown viewers name it: letters, digits and `-`.
fn link(heading: &str) -> String {
    let anchor: String =
        heading.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    format!("[`{heading}`](#{anchor})")
}

/// Text as it may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(key: &Value, row: &str) {
        let root = json!({
            "$defs": {
                "Duration": { "type": "string", "description": "A length of time.", "x-expected": "a duration" },
                "Level": { "oneOf": [{ "const": "low" }, { "const": "high" }] },
                "Inner": { "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] },
            },
        });
        let schema = json!({ "properties": { "k": key } });
        let mut reference = Reference::of(&root, "###");
        reference.map("", &schema);
        let text = reference.into_text();
        assert_eq!(text.lines().nth(2), Some(row), "{text}");
    }

    #[test]
    fn a_key_is_told_in_words() {
        check(&json!({ "$ref": "#/$defs/Duration" }), "| `k` | a duration | – | A length of time. |");
        check(
            &json!({ "$ref": "#/$defs/Duration", "description": "How long." }),
            "| `k` | a duration | – | How long. |",
        );
        check(&json!({ "$ref": "#/$defs/Level", "default": "low" }), "| `k` | `low`, `high` | `low` |  |");
        check(&json!({ "$ref": "#/$defs/Inner" }), "| `k` | [`k`](#k) | – |  |");
        check(
            &json!({ "type": "array", "items": { "$ref": "#/$defs/Inner" } }),
            "| `k` | a list: [`k[]`](#k) | – |  |",
        );
        check(&json!({ "type": "integer", "minimum": 1, "maximum": 9 }), "| `k` | a whole number, 1 to 9 | – |  |");
        check(&json!({ "type": ["string", "boolean"] }), "| `k` | text, `true`, `false` | – |  |");
        check(
            &json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            "| `k` | a map by name: text | – |  |",
        );
        check(&json!({ "enum": ["a|b", 2] }), "| `k` | `a\\|b`, `2` | – |  |");
        check(&json!({ "description": "Any." }), "| `k` | anything | – | Any. |");
    }

    #[test]
    fn a_map_inside_has_one_section() {
        let root = json!({ "$defs": { "Inner": { "type": "object", "description": "Inside.", "properties": { "again": { "$ref": "#/$defs/Inner" } } } } });
        let schema = json!({ "properties": { "x": { "$ref": "#/$defs/Inner" }, "y": { "$ref": "#/$defs/Inner" } } });
        let mut reference = Reference::of(&root, "###");
        reference.map("", &schema);
        let text = reference.into_text();
        assert_eq!(text.matches("### `x`\n\nInside.\n\n").count(), 1, "{text}");
        assert_eq!(text.matches("[`x`](#x)").count(), 3, "{text}");
    }
}
