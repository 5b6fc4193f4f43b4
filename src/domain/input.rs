//! The typed inputs of a workflow: what is declared, and whether given values fit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What kind of value an input takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    String,
    Integer,
    Number,
    Boolean,
    Object,
    Array,
    Any,
}

/// One declared input.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub name: String,
    pub of: InputType,
    pub required: bool,
    pub default: Option<Value>,
    /// The only values it may take, when not empty.
    pub one_of: Vec<Value>,
    pub description: Option<String>,
}

/// Why values do not fit the declared inputs: one sentence an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Misfit(pub Vec<String>);

/// Fills in defaults and checks every value; all misfits are reported together.
pub fn fit(declared: &[Input], mut given: Map<String, Value>) -> Result<Map<String, Value>, Misfit> {
    let mut misfits = Vec::new();
    let mut fitted = Map::new();
    for input in declared {
        // A null stands for "not given", so that an optional field of a webhook can be passed on as it is.
        let value = given.shift_remove(&input.name).filter(|value| !value.is_null());
        match value.or_else(|| input.default.clone()) {
            Some(value) => {
                misfits.extend(input.misfit(&value));
                fitted.insert(input.name.clone(), value);
            }
            None if input.required => misfits.push(format!("input `{}` is required and was not given", input.name)),
            None => {
                fitted.insert(input.name.clone(), Value::Null);
            }
        }
    }
    let known = || declared.iter().map(|input| format!("`{}`", input.name)).collect::<Vec<_>>().join(", ");
    misfits.extend(given.keys().map(|name| format!("there is no input `{name}`; the inputs are {}", known())));
    if misfits.is_empty() { Ok(fitted) } else { Err(Misfit(misfits)) }
}

impl Input {
    fn misfit(&self, value: &Value) -> Option<String> {
        if !self.of.admits(value) {
            let (name, wanted) = (&self.name, self.of.as_str());
            return Some(format!("input `{name}` is to be of type `{wanted}`, and is {}", kind_of(value)));
        }
        if !self.one_of.is_empty() && !self.one_of.contains(value) {
            let allowed = self.one_of.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
            return Some(format!("input `{}` is `{value}`, and may only be one of {allowed}", self.name));
        }
        None
    }
}

impl InputType {
    /// Whether a value is of this type. A whole number is one whatever its size; `1.0` is not.
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.as_number().is_some_and(|n| !n.to_string().contains(['.', 'e', 'E'])),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::Any => true,
        }
    }

    /// The word that people write.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array => "array",
            Self::Any => "any",
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared() -> Vec<Input> {
        let input = |name: &str, of, required, default| Input {
            name: name.to_owned(),
            of,
            required,
            default,
            one_of: Vec::new(),
            description: None,
        };
        let mut list = vec![
            input("shop", InputType::String, true, None),
            input("limit", InputType::Integer, false, Some(json!(3))),
            input("note", InputType::Any, false, None),
        ];
        list.push(Input { one_of: vec![json!("a"), json!("b")], ..input("mode", InputType::String, false, None) });
        list
    }

    #[track_caller]
    fn check(given: Value, expected: Result<Value, &[&str]>) {
        let Value::Object(given) = given else { panic!("inputs are an object") };
        let fitted = fit(&declared(), given).map(Value::Object);
        let expected = expected.map_err(|misfits| Misfit(misfits.iter().map(ToString::to_string).collect()));
        assert_eq!(fitted, expected);
    }

    #[test]
    fn values_are_fitted() {
        check(json!({"shop": "us"}), Ok(json!({"shop": "us", "limit": 3, "note": null, "mode": null})));
        check(
            json!({"shop": "us", "limit": null, "mode": "b"}),
            Ok(json!({"shop": "us", "limit": 3, "note": null, "mode": "b"})),
        );
        let big: Value = serde_json::from_str("123456789012345678901234567890").unwrap_or_default();
        check(json!({"shop": "", "limit": big}), Ok(json!({"shop": "", "limit": big, "note": null, "mode": null})));
    }

    #[test]
    fn every_misfit_is_told() {
        check(
            json!({"limit": 1.5, "mode": "c", "shopp": 1}),
            Err(&[
                "input `shop` is required and was not given",
                "input `limit` is to be of type `integer`, and is a number",
                "input `mode` is `\"c\"`, and may only be one of `\"a\"`, `\"b\"`",
                "there is no input `shopp`; the inputs are `shop`, `limit`, `note`, `mode`",
            ]),
        );
    }
}
