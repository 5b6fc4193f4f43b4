//! The published JSON Schemas, draft 2020-12, made from the structs in [`super::raw`].
//!
//! What a kind of task takes under `with`, and what a verification preset takes beside its name, is known to other
//! parts; their schemas come in as [`Extensions`] and are merged here.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::raw;

/// The kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// `clawhook.yaml`.
    Settings,
    /// `routes/*.yaml`.
    Routes,
    /// `workflows/*.yaml`.
    Workflow,
    /// `workflows/*.test.yaml`.
    Test,
    /// `workflows/fixtures/*.yaml`.
    Fixtures,
}

impl FileKind {
    /// Every kind, in the order that people meet them.
    pub const ALL: [Self; 5] = [Self::Settings, Self::Routes, Self::Workflow, Self::Test, Self::Fixtures];

    /// The name that `clawhook schema` takes and `docs/schema/` uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Routes => "routes",
            Self::Workflow => "workflow",
            Self::Test => "test",
            Self::Fixtures => "fixtures",
        }
    }
}

/// Schemas that other parts contribute, by name.
#[derive(Debug, Clone, Default)]
pub struct Extensions {
    /// For each kind of task, the schema of its `with` (a map).
    pub tasks: Vec<(String, Value)>,
    /// For each verification preset, the schema of the parameters beside `preset` (a map).
    pub presets: Vec<(String, Value)>,
}

/// The schema of one kind of file.
pub fn schema(kind: FileKind, extensions: &Extensions) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = match kind {
        FileKind::Settings => generator.into_root_schema_for::<raw::Settings>(),
        FileKind::Routes => generator.into_root_schema_for::<raw::Routes>(),
        FileKind::Workflow => generator.into_root_schema_for::<raw::Workflow>(),
        FileKind::Test => generator.into_root_schema_for::<raw::Trials>(),
        FileKind::Fixtures => generator.into_root_schema_for::<raw::Fixtures>(),
    }
    .to_value();
    tidy(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".into(), format!("urn:clawhook:schema:1:{}", kind.name()).into());
        root.insert("title".into(), format!("Clawhook {} file", kind.name()).into());
    }
    match kind {
        FileKind::Settings | FileKind::Test | FileKind::Fixtures => {}
        FileKind::Routes => {
            merge_presets(&mut schema, &extensions.presets);
            merge_list(&mut schema, &extensions.tasks);
        }
        FileKind::Workflow => merge_tasks(&mut schema, &extensions.tasks),
    }
    schema
}

/// Takes out what Rust says and YAML does not: a key that is left out is not a key with `null`, and the width of a
/// number is told by its bounds.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(options)) = map.get_mut("enum") {
                options.retain(|option| !option.is_null());
            }
            if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
                branches.retain(|branch| branch != &json!({ "type": "null" }));
                if let [Value::Object(only)] = branches.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    for (key, value) in only {
                        map.entry(key).or_insert(value);
                    }
                }
            }
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            if map.get("format").is_some_and(Value::is_string) {
                map.remove("format");
            }
            map.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

fn merge_tasks(schema: &mut Value, kinds: &[(String, Value)]) {
    if kinds.is_empty() {
        return;
    }
    let mut rules = Vec::new();
    for (name, with) in kinds {
        let with = adopt(schema, &format!("with {name}"), with.clone());
        let asks = with.get("required").and_then(Value::as_array).is_some_and(|keys| !keys.is_empty());
        let mut then = json!({ "properties": { "with": with } });
        if asks {
            then["required"] = json!(["with"]);
        }
        rules.push(json!({
            "if": { "properties": { "type": { "const": name } }, "required": ["type"] },
            "then": then,
        }));
    }
    let names: Vec<&String> = kinds.iter().map(|(name, _)| name).collect();
    let task = &mut schema["$defs"]["Task"];
    task["properties"]["type"]["enum"] = json!(names);
    task["allOf"] = Value::Array(rules);
}

fn merge_presets(schema: &mut Value, presets: &[(String, Value)]) {
    if presets.is_empty() {
        return;
    }
    let mut rules = Vec::new();
    for (name, parameters) in presets {
        let mut parameters = adopt(schema, &format!("verify {name}"), parameters.clone());
        parameters["properties"]["preset"] = json!({ "const": name });
        rules.push(json!({
            "if": { "properties": { "preset": { "const": name } }, "required": ["preset"] },
            "then": parameters,
        }));
    }
    let names: Vec<&String> = presets.iter().map(|(name, _)| name).collect();
    let preset = &mut schema["$defs"]["Verify"]["anyOf"][1];
    preset["properties"]["preset"]["enum"] = json!(names);
    preset["allOf"] = Value::Array(rules);
}

/// What a sweep lists is the `with` of an `http_request`, and its connection beside it.
fn merge_list(schema: &mut Value, kinds: &[(String, Value)]) {
    let Some((_, with)) = kinds.iter().find(|(name, _)| name == "http_request") else { return };
    let mut list = adopt(schema, "list", with.clone());
    let own = schema["$defs"]["ListCall"].take();
    list["description"] = own["description"].clone();
    list["properties"]["connection"] = own["properties"]["connection"].clone();
    schema["$defs"]["ListCall"] = list;
}

/// Makes a whole schema fit for a place inside another: its definitions move to the root under names that begin with
/// `prefix`, and what only a root says goes.
fn adopt(root: &mut Value, prefix: &str, mut schema: Value) -> Value {
    let mut definitions = Map::new();
    if let Some(map) = schema.as_object_mut() {
        for key in ["$schema", "$id", "title"] {
            map.remove(key);
        }
        if let Some(Value::Object(found)) = map.remove("$defs") {
            definitions = found;
        }
    }
    tidy(&mut schema);
    point_into(&mut schema, prefix);
    for (name, mut definition) in definitions {
        tidy(&mut definition);
        point_into(&mut definition, prefix);
        root["$defs"][format!("{prefix} {name}")] = definition;
    }
    schema
}

fn point_into(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| point_into(item, prefix)),
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref")
                && let Some(name) = to.strip_prefix("#/$defs/")
            {
                *to = format!("#/$defs/{}%20{name}", prefix.replace(' ', "%20"));
            }
            map.values_mut().for_each(|value| point_into(value, prefix));
        }
        _ => {}
    }
}
