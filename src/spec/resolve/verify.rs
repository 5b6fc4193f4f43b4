//! `verify`: which scheme, with which secrets.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::desk::Desk;
use crate::domain::secret::SecretRef;
use crate::id::SecretName;
use crate::signature::{self, SchemeKind, SecretSlot, Verifier};
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::tasks::plan::Verify;

/// The secrets of a verifier by the scheme's names; several while keys rotate.
type Named = Vec<(String, Vec<SecretRef>)>;

/// The schema of what stands beside `preset`: the scheme's own parameters and its secrets.
pub(in crate::spec) fn schema(kind: &SchemeKind) -> Value {
    let mut schema = kind.schema().to_value();
    for (_, parameter) in schema["properties"].as_object_mut().into_iter().flatten() {
        if parameter.get("pattern").and_then(Value::as_str).is_some_and(|pattern| pattern.contains("(ms|s|m|h|d)")) {
            parameter["x-expected"] = "a duration such as `300s` or `5m`, at most a day".into();
            parameter["examples"] = json!(["300s"]);
        }
    }
    let name = schemars::schema_for!(raw::SecretName).to_value();
    let one = json!({
        "type": "object",
        "properties": {
            "secret_ref": { "anyOf": [name, { "type": "array", "minItems": 1, "items": name }] },
            "version": { "type": "string", "description": "A version of the secret, where the source keeps several." },
            "field": { "type": "string", "description": "The member to take when the secret's value is a JSON object." },
        },
        "required": ["secret_ref"],
        "additionalProperties": false,
    });
    let slot = |slot: &SecretSlot| {
        let either = json!({
            "description": format!("{}.", slot.summary),
            "anyOf": [one, { "type": "array", "minItems": 1, "items": one }],
            "x-expected": "`{ secret_ref: NAME }`, or a list of these while keys rotate",
        });
        (slot.name.to_owned(), either)
    };
    if let Some(first) = kind.secrets.first() {
        schema["properties"]["secret_ref"] = json!({
            "description": format!("{}. A list while keys rotate.", first.summary),
            "anyOf": [name, { "type": "array", "minItems": 1, "items": name }],
            "examples": ["NAME"],
            "x-expected": "the name of a secret, or a list of names while keys rotate",
        });
        schema["properties"]["secrets"] = json!({
            "type": "object",
            "description": "The secrets of the scheme by name.",
            "properties": kind.secrets.iter().map(slot).collect::<Map<String, Value>>(),
            "additionalProperties": false,
        });
    }
    schema
}

pub(super) fn resolve(desk: &mut Desk<'_>, path: &Path, raw: &raw::Verify, workflow: &str) -> Option<Verify> {
    let raw::VerifyPreset { preset, parameters } = match raw {
        raw::Verify::None => {
            let message = format!("anyone who knows this path can start `{workflow}`");
            let problem = desk.at("spec.verify_none", message, path).warning();
            desk.push(problem.help("name a `preset`, if the sender signs or brings a password or token"));
            return Some(Verify::Nobody);
        }
        raw::Verify::Preset(preset) => preset,
    };
    let kind = signature::kinds().find(|kind| kind.name == preset)?;
    let mut parameters = parameters.clone();
    let secrets = secrets(desk, path, kind, &mut parameters)?;
    let names: Vec<&str> = secrets.iter().map(|(name, _)| name.as_str()).collect();
    match Verifier::new(preset, &parameters, &names) {
        Ok(verifier) => Some(Verify::Scheme { verifier: Arc::new(verifier), secrets }),
        Err(problems) => {
            for problem in problems {
                let span = match problem.path.as_str() {
                    "" => desk.map.entry(path),
                    key if parameters.contains_key(key) => desk.map.value(&path.with(key)),
                    key => desk.map.key(path, key),
                };
                let told = desk.problem("spec.verify", problem.message, span).help(problem.help);
                desk.push(told);
            }
            None
        }
    }
}

/// Takes `secret_ref` and `secrets` out of the parameters. `None` when one of them is wrong; why is told.
fn secrets(desk: &mut Desk<'_>, path: &Path, kind: &SchemeKind, parameters: &mut Map<String, Value>) -> Option<Named> {
    let errors = desk.errors();
    let mut named = Named::new();
    if let Some(value) = parameters.shift_remove("secret_ref") {
        if let Some(slot) = kind.secrets.first() {
            named.push((slot.name.to_owned(), references(desk, &path.with("secret_ref"), &value)));
        } else {
            let message = format!("`{}` takes no secret", kind.name);
            let problem = desk.problem("spec.verify", message, desk.map.key(path, "secret_ref"));
            desk.push(problem.help("remove the line"));
        }
    }
    if let Some(Value::Object(slots)) = parameters.shift_remove("secrets") {
        let path = path.with("secrets");
        for (name, value) in &slots {
            if let Some((taken, _)) = named.iter().find(|(taken, _)| taken == name) {
                let message = format!("`secret_ref` is short for the secret `{taken}`, which is given here again");
                let problem = desk.problem("spec.verify", message, desk.map.key(&path, name));
                desk.push(problem.help("keep one of the two; for two live keys write a list"));
                continue;
            }
            named.push((name.clone(), references(desk, &path.with(name.as_str()), value)));
        }
    }
    (desk.errors() == errors).then_some(named)
}

/// A secret or several: a name, `{ secret_ref: NAME }`, or a list of these.
fn references(desk: &mut Desk<'_>, path: &Path, value: &Value) -> Vec<SecretRef> {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(index, item)| references(desk, &path.with(index), item)).collect()
        }
        Value::Object(members) if members.get("secret_ref").is_some_and(Value::is_array) => {
            references(desk, &path.with("secret_ref"), &members["secret_ref"])
        }
        value => {
            let read = match value {
                Value::String(name) => SecretName::new(name).map(SecretRef::to).map_err(|error| error.to_string()),
                value => SecretRef::from_yaml(value),
            };
            match read {
                Ok(reference) => {
                    let place = if value.is_object() { path.with("secret_ref") } else { path.clone() };
                    desk.uses_secret(&place, reference.clone());
                    vec![reference]
                }
                Err(why) => {
                    desk.bad_value(path, &why, "write the name of a secret");
                    Vec::new()
                }
            }
        }
    }
}
