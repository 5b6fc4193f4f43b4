//! One value against one schema, and every error of the validator in human words.

use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::LocationSegment;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::later;
use crate::spec::diagnostic::Problem;
use crate::spec::schema::{Extensions, FileKind, schema};
use crate::spec::source_map::{Path, Segment, SourceMap, Span};
use crate::spec::words;

/// Most problems of form that are told about one file.
const PROBLEMS_MAX: usize = 200;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Judge {
    schema: Value,
    validator: Validator,
}

/// "`routes[0].path`: …", or the bare sentence at the root.
pub(super) fn at(path: &Path, sentence: &str) -> String {
    if path.segments().is_empty() { sentence.to_owned() } else { format!("`{path}`: {sentence}") }
}

impl Judge {
    pub(super) fn new(kind: FileKind, extensions: &Extensions) -> Self {
        let schema = schema(kind, extensions);
        let validator = jsonschema::validator_for(&schema).expect("the schema made from our own structs compiles");
        Self { schema, validator }
    }

    /// Tells every problem and gives the paths at which there is one. `None` when the file is none of ours at all.
    pub(super) fn judge(&self, value: &Value, map: &SourceMap, problems: &mut Vec<Problem>) -> Option<Vec<Path>> {
        let mut findings = Findings { judge: self, value, map, wrong: Vec::new(), problems };
        if findings.is_another_version() {
            return None;
        }
        for error in self.validator.iter_errors(value).take(PROBLEMS_MAX) {
            findings.error(&error);
        }
        let wrong = findings.wrong;
        value.is_object().then_some(wrong)
    }

    /// The schema around the keyword that an error is about.
    fn around(&self, error: &ValidationError<'_>) -> &Value {
        let pointer = error.schema_path().as_str();
        let parent = pointer.rfind('/').map_or("", |end| &pointer[..end]);
        self.schema.pointer(parent).unwrap_or(&Value::Null)
    }
}

/// The problems of one file, as they are found.
struct Findings<'a> {
    judge: &'a Judge,
    value: &'a Value,
    map: &'a SourceMap,
    wrong: Vec<Path>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Findings<'a> {
    /// A file of another version is told so and judged no further: its keys mean something else.
    fn is_another_version(&mut self) -> bool {
        let Some(Value::Number(version)) = self.value.get("version") else { return false };
        if version.as_u64() == Some(1) {
            return false;
        }
        let path = Path::root().with("version");
        let message = format!("version {version} of the language is not known");
        let problem = self.problem("spec.version", message, self.map.value(&path));
        self.push(path, problem.label("this program reads version 1").help("write `version: 1`, or use a newer clawhook"));
        true
    }

    fn error(&mut self, error: &ValidationError<'_>) {
        let path = path_of(error);
        if self.map.is_refused(&path) {
            return;
        }
        let value = error.instance().as_ref();
        let around = self.judge.around(error);
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for key in unexpected {
                    self.unknown_key(&path, key, around, definition(error));
                }
            }
            ValidationErrorKind::Required { property } => {
                self.missing_key(&path, property.as_str().unwrap_or_default(), around);
            }
            ValidationErrorKind::Type { kind } => self.wrong_type(path, value, &expected_type(kind), around),
            ValidationErrorKind::AnyOf { context }
            | ValidationErrorKind::OneOfNotValid { context } => self.union(path, value, context, around),
            ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
                self.wrong_choice(path, value, &options(around));
            }
            ValidationErrorKind::Pattern { .. } => {
                let expected = expectation(around).unwrap_or_else(|| "another form of text".into());
                self.wrong_form(path, value, &expected, around);
            }
            kind => match bound(kind) {
                Some(sentence) => {
                    let problem = self.problem("spec.value", at(&path, &sentence), self.map.value(&path));
                    self.push(path, problem.label(format!("this is {}", words::found(value))));
                }
                None => {
                    let problem = self.problem("spec.value", at(&path, &error.to_string()), self.map.value(&path));
                    self.push(path, problem);
                }
            },
        }
    }

    fn problem(&self, code: &'static str, message: impl Into<String>, span: Span) -> Problem {
        Problem::new(code, message, self.map.source(), span)
    }

    fn push(&mut self, path: Path, problem: Problem) {
        self.wrong.push(path);
        self.problems.push(problem);
    }

    fn unknown_key(&mut self, path: &Path, key: &str, around: &Value, definition: &str) {
        let span = self.map.key(path, key);
        let here = path.with(key);
        if later::is_later_key(definition, key) {
            let message = format!("`{key}` is part of the language but not of this version");
            let problem = self.problem("spec.later", message, span);
            self.push(here, problem.label("not known yet").help("remove it, or use a newer clawhook"));
            return;
        }
        let mut known: Vec<&str> = keys(around.get("properties"));
        known.sort_unstable();
        let holder = if path.segments().is_empty() { "this file".to_owned() } else { format!("`{path}`") };
        let message = format!("the key `{key}` is not known in {holder}");
        let problem = self.problem("spec.unknown_key", message, span);
        let problem = if let Some(right) = later::synonym(key, &known).or_else(|| words::similar(key, known.clone())) {
            problem.label(format!("did you mean `{right}`?")).help(format!("write `{right}:`"))
        } else if self.belongs_under_with(path, key) {
            problem.label("this belongs to the kind of task").help(format!("write it under `with:`, as `with: {{ {key}: … }}`"))
        } else {
            let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
            problem.label("not known").help(format!("the keys here are {}", words::one_of(&known).replace(" or ", " and ")))
        };
        self.push(here, problem);
    }

    /// True when the kind of this task takes the key under `with`.
    fn belongs_under_with(&self, path: &Path, key: &str) -> bool {
        let Some(kind) = self.look_up(path).and_then(|task| task.get("type")?.as_str()) else { return false };
        let rules = self.judge.schema.pointer("/$defs/Task/allOf").and_then(Value::as_array);
        rules.into_iter().flatten().any(|rule| {
            rule.pointer("/if/properties/type/const").and_then(Value::as_str) == Some(kind)
                && keys(rule.pointer("/then/properties/with/properties")).contains(&key)
        })
    }

    fn look_up(&self, path: &Path) -> Option<&'a Value> {
        path.segments().iter().try_fold(self.value, |value, segment| match segment {
            Segment::Key(key) => value.get(key.as_ref()),
            Segment::Index(index) => value.get(index),
        })
    }

    fn missing_key(&mut self, path: &Path, key: &str, around: &Value) {
        let holder = if path.segments().is_empty() { "this file".to_owned() } else { format!("`{path}`") };
        let message = format!("the key `{key}` is missing in {holder}");
        let property = around.pointer(&format!("/properties/{key}"));
        let meaning = property.and_then(|property| property.get("description")?.as_str());
        let example = if key == "version" { "version: 1".to_owned() } else { format!("{key}: …") };
        let help = match meaning {
            Some(meaning) => format!("add `{example}`. {meaning}"),
            None => format!("add `{example}`"),
        };
        let problem = self.problem("spec.missing_key", message, self.map.entry(path));
        self.push(path.clone(), problem.label(format!("`{key}` is missing here")).help(help));
    }

    fn wrong_type(&mut self, path: Path, value: &Value, expected: &[String], around: &Value) {
        let words: Vec<&str> = expected.iter().map(|name| words::of_type(name)).collect();
        let expected_words = expectation(around).unwrap_or_else(|| words.join(" or "));
        self.mismatch(path, value, &expected_words, expected);
    }

    fn wrong_form(&mut self, path: Path, value: &Value, expected: &str, around: &Value) {
        let example = around.pointer("/examples/0").and_then(Value::as_str);
        let message = at(&path, &format!("expected {expected}, found {}", words::found(value)));
        let mut problem = self.problem("spec.value", message, self.map.value(&path));
        if let (Some(example), Some(key)) = (example, path.key()) {
            problem = problem.help(format!("write it like `{key}: {example}`"));
        }
        self.push(path, problem);
    }

    fn mismatch(&mut self, path: Path, value: &Value, expected: &str, types: &[String]) {
        let span = self.map.value(&path);
        let key = path.key().unwrap_or("key").to_owned();
        if value.is_null() {
            let problem = self.problem("spec.type", at(&path, &format!("expected {expected}, found nothing")), self.map.entry(&path));
            self.push(path, problem.label("no value").help(format!("write a value behind `{key}:`, or remove the line")));
            return;
        }
        let message = at(&path, &format!("expected {expected}, found {}", words::found(value)));
        let problem = self.problem("spec.type", message, span);
        let problem = match remedy(&key, value, expected, types, self.map.source().slice(span)) {
            Some(help) => problem.help(help),
            None => problem,
        };
        self.push(path, problem);
    }

    fn wrong_choice(&mut self, path: Path, value: &Value, options: &[String]) {
        let key = path.key().unwrap_or_default().to_owned();
        if value.is_null() {
            self.mismatch(path, value, &words::one_of(options), &[]);
            return;
        }
        let text = value.as_str().unwrap_or_default();
        let span = self.map.value(&path);
        if later::is_later_value(&key, text) {
            let message = at(&path, &format!("`{text}` is part of the language but not of this version"));
            let problem = self.problem("spec.later", message, span);
            self.push(path, problem.label("not known yet").help(format!("this version knows {}", words::one_of(options))));
            return;
        }
        let message = at(&path, &format!("expected {}, found {}", words::one_of(options), words::found(value)));
        let problem = self.problem("spec.value", message, span);
        let right = words::similar(text, options.iter().map(String::as_str));
        let problem = match (right, options) {
            (Some(right), _) => problem.label(format!("did you mean `{right}`?")).help(format!("write `{key}: {right}`")),
            (None, [only]) => problem.help(format!("write `{key}: {only}`")),
            (None, _) => problem,
        };
        self.push(path, problem);
    }

    /// A value that fits none of several schemas: judged by the one that it was meant for, if that can be told.
    fn union(&mut self, path: Path, value: &Value, context: &[Vec<ValidationError<'static>>], around: &Value) {
        let all = options(around);
        if !all.is_empty() {
            self.wrong_choice(path, value, &all);
            return;
        }
        let is_other_shape = |error: &ValidationError<'_>| {
            path_of(error) == path
                && matches!(
                    error.kind(),
                    ValidationErrorKind::Type { .. } | ValidationErrorKind::Constant { .. } | ValidationErrorKind::Enum { .. }
                )
        };
        let mut meant = context.iter().filter(|branch| !branch.iter().any(is_other_shape));
        if let (Some(branch), None) = (meant.next(), meant.next()) {
            for error in branch {
                self.error(error);
            }
            return;
        }
        let expected = expectation(around).unwrap_or_else(|| "another kind of value".into());
        let consts: Vec<String> = branches(around).iter().flat_map(|branch| options(branch)).collect();
        let similar = value.as_str().and_then(|text| words::similar(text, consts.iter().map(String::as_str)));
        match similar {
            Some(_) => self.wrong_choice(path, value, &consts),
            None => self.mismatch(path, value, &expected, &[]),
        }
    }
}

/// What to type in place of a value of the wrong type.
fn remedy(key: &str, value: &Value, expected: &str, types: &[String], written: &str) -> Option<String> {
    let wants = |name: &str| types.iter().any(|wanted| wanted == name);
    let quoted = written.starts_with(['"', '\'']);
    match value {
        Value::String(text) if wants("boolean") => {
            let meant = match text.to_lowercase().as_str() {
                "no" | "n" | "off" | "false" => "false",
                "yes" | "y" | "on" | "true" => "true",
                _ => return None,
            };
            let why = if quoted { "in quotes it is text" } else { "is text in YAML 1.2" };
            Some(if quoted { format!("{why}; write `{key}: {meant}`") } else { format!("`{text}` {why}; write `{key}: {meant}`") })
        }
        Value::String(text) if (wants("integer") || wants("number")) && quoted && text.parse::<f64>().is_ok() => {
            Some(format!("in quotes it is text; write `{key}: {text}`"))
        }
        Value::Number(number) if expected.contains("duration") => {
            Some(format!("a duration has a unit; write `{key}: {number}s` if you mean seconds"))
        }
        Value::Number(number) if expected.contains("a size") => {
            Some(format!("a size has a unit; write `{key}: {number}KiB`, or `{number}B` if you mean bytes"))
        }
        Value::Number(_) | Value::Bool(_) if wants("string") => Some(format!("put it in quotes: `{key}: \"{written}\"`")),
        Value::Object(_) if wants("array") => Some("begin each entry of the list with `- `".to_owned()),
        Value::Array(_) if wants("object") => Some("remove the `- ` and write `key: value` lines".to_owned()),
        Value::Array(_) if wants("string") => Some(format!("write one value: `{key}: …`")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        _ if wants("array") => Some(format!("write a list: `{key}: [{written}]`")),
        _ => None,
    }
}

/// The sentence for a bound that a value breaks.
fn bound(kind: &ValidationErrorKind) -> Option<String> {
    Some(match kind {
        ValidationErrorKind::Minimum { limit } => format!("the number must be at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("the number must be at most {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("the number must be more than {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("the number must be less than {limit}"),
        ValidationErrorKind::MinItems { limit } => format!("the list needs at least {limit} entries"),
        ValidationErrorKind::MaxItems { limit } => format!("the list may have at most {limit} entries"),
        ValidationErrorKind::MinLength { limit } => format!("the text needs at least {limit} characters"),
        ValidationErrorKind::MaxLength { limit } => format!("the text may have at most {limit} characters"),
        ValidationErrorKind::MinProperties { limit } => format!("the map needs at least {limit} keys"),
        ValidationErrorKind::MaxProperties { limit } => format!("the map may have at most {limit} keys"),
        ValidationErrorKind::UniqueItems => "the list names one thing twice".into(),
        _ => return None,
    })
}

fn path_of(error: &ValidationError<'_>) -> Path {
    let segment = |segment: LocationSegment<'_>| match segment {
        LocationSegment::Property(key) => Segment::Key(Arc::from(key.as_ref())),
        LocationSegment::Index(index) => Segment::Index(index),
    };
    error.instance_path().iter().map(segment).collect()
}

/// The name under `$defs` of the schema that an error comes from; empty at the root.
fn definition<'a>(error: &'a ValidationError<'_>) -> &'a str {
    let rest = error.schema_path().as_str().rsplit_once("/$defs/").map_or("", |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

fn expected_type(kind: &TypeKind) -> Vec<String> {
    match kind {
        TypeKind::Single(kind) => vec![kind.to_string()],
        TypeKind::Multiple(kinds) => kinds.iter().map(|kind| kind.to_string()).collect(),
    }
}

fn expectation(schema: &Value) -> Option<String> {
    schema.get("x-expected").and_then(Value::as_str).map(str::to_owned)
}

fn keys(properties: Option<&Value>) -> Vec<&str> {
    properties.and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

fn branches(schema: &Value) -> &[Value] {
    let list = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// Every value that a schema of plain choices allows; empty for any other schema.
fn options(schema: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(only) = schema.get("const") {
        return vec![text(only)];
    }
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        return options.iter().map(text).collect();
    }
    let branches: Vec<Vec<String>> = branches(schema).iter().map(options).collect();
    if branches.iter().any(Vec::is_empty) { Vec::new() } else { branches.concat() }
}
