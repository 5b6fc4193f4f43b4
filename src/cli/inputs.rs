//! Inputs of a workflow from the command line: `--input k=v` by the declared type, `--inputs FILE` for many.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::error::Error;

/// Inputs as they were typed.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Given {
    /// An input; text is taken as it is, everything else is JSON. May be given several times
    #[arg(id = "input", long = "input", value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) pairs: Vec<(String, String)>,
    /// A JSON file with an object of inputs; `--input` wins over it
    #[arg(id = "inputs_file", long = "inputs", value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as `name=value`".to_owned()),
    }
}

/// `name=value`: JSON when it reads as JSON, else text.
pub(super) fn member(text: &str) -> Result<(String, Value), String> {
    let (name, value) = pair(text)?;
    let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
    Ok((name, value))
}

/// The values, each read by the type that `type_of` says the input was declared with; nothing for unknown names,
/// which the workflow's own check tells about.
pub(super) fn read(given: &Given, type_of: impl Fn(&str) -> Option<String>) -> Result<Map<String, Value>, Error> {
    let mut inputs = match &given.file {
        Some(file) => from_file(file)?,
        None => Map::new(),
    };
    for (name, text) in &given.pairs {
        inputs.insert(name.clone(), value(name, text, type_of(name).as_deref())?);
    }
    Ok(inputs)
}

fn from_file(path: &Path) -> Result<Map<String, Value>, Error> {
    let bytes = std::fs::read(path).map_err(|error| Error::file("read", path, &error))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(inputs)) => Ok(inputs),
        Ok(_) => Err(Error::new(format!("`{}` does not hold a JSON object", path.display()))
            .help("write the inputs as `{ \"name\": value, … }`")),
        Err(error) => Err(Error::new(format!("`{}` is not JSON: {error}", path.display()))),
    }
}

/// Text stays text; an input of any type is JSON when it reads as JSON, and otherwise text.
fn value(name: &str, text: &str, of: Option<&str>) -> Result<Value, Error> {
    let json = serde_json::from_str(text);
    match of {
        Some("string") => Ok(Value::String(text.to_owned())),
        Some("any") | None => Ok(json.unwrap_or_else(|_| Value::String(text.to_owned()))),
        Some(of) => json.map_err(|_| {
            let example = match of {
                "boolean" => "true",
                "object" => "{\"id\": 1}",
                "array" => "[1, 2]",
                _ => "3",
            };
            Error::new(format!("input `{name}` is to be of type `{of}`, and `{text}` is not JSON"))
                .help(format!("write it as JSON, such as `--input '{name}={example}'`"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, of: Option<&str>, expected: Option<&Value>) {
        assert_eq!(value("x", text, of).ok().as_ref(), expected, "{text} as {of:?}");
    }

    #[test]
    fn values_are_read_by_their_declared_type() {
        check("12", Some("string"), Some(&json!("12")));
        check("12", Some("integer"), Some(&json!(12)));
        check("true", Some("boolean"), Some(&json!(true)));
        check("yes", Some("boolean"), None);
        check("{\"id\": 1}", Some("object"), Some(&json!({"id": 1})));
        check("us", Some("any"), Some(&json!("us")));
        check("3", Some("any"), Some(&json!(3)));
        check("us", None, Some(&json!("us")));
        // Every digit stays.
        let price = value("x", "10.10", Some("number")).map(|value| value.to_string());
        assert_eq!(price.ok().as_deref(), Some("10.10"));
    }

    #[test]
    fn pairs_are_split_at_the_first_sign() {
        assert_eq!(pair("q=a=b"), Ok(("q".to_owned(), "a=b".to_owned())));
        assert_eq!(pair("q="), Ok(("q".to_owned(), String::new())));
        assert!(pair("=x").is_err() && pair("q").is_err());
        assert_eq!(member("q=[1]"), Ok(("q".to_owned(), json!([1]))));
        assert_eq!(member("q=five"), Ok(("q".to_owned(), json!("five"))));
    }
}
