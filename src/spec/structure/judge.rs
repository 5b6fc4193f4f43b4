//! One value against one schema, and every error of the validator in human words.

use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::LocationSegment;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::later;
use super::rewrite::advice;
use crate::limits;
use crate::spec::diagnostic::Problem;
use crate::spec::schema::{Extensions, FileKind, schema};
use crate::spec::source_map::{Path, Segment, SourceMap, Span};
use crate::spec::words;

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
        let errors: Vec<ValidationError<'_>> = self.validator.iter_errors(value).take(limits::PROBLEMS_MAX).collect();
        findings.errors(&errors);
        let wrong = findings.wrong;
        value.is_object().then_some(wrong)
    }

    /// The schema around the keyword that an error is about.
    fn around(&self, error: &ValidationError<'_>) -> &Value {
        let pointer = error.schema_path().as_str();
        let parent = pointer.rfind('/').map_or("", |end| &pointer[..end]);
        self.schema.pointer(parent).unwrap_or(&Value::Null)
    }

    /// The schema that a reference leads to; any other schema is its own target.
    fn target<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
        reference.and_then(|pointer| self.schema.pointer(&pointer.replace("%20", " "))).unwrap_or(schema)
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
        self.push(
            path,
            problem.label("this program reads version 1").help("write `version: 1`, or use a newer clawhook"),
        );
        true
    }

    /// Tells all; a key that is missing because its name was mistyped is told once, as mistyped.
    fn errors(&mut self, errors: &[ValidationError<'_>]) {
        let mut mistyped: Vec<(Path, &str)> = Vec::new();
        for error in errors {
            if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() {
                let known = keys(self.judge.around(error).get("properties"));
                mistyped.extend(unexpected.iter().filter_map(|key| Some((path_of(error), meant_key(key, &known)?))));
            }
        }
        for error in errors {
            let is_mistyped = matches!(error.kind(), ValidationErrorKind::Required { property }
                if mistyped.iter().any(|(path, key)| property.as_str() == Some(key) && *path == path_of(error)));
            if !is_mistyped {
                self.error(error);
            }
        }
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
            ValidationErrorKind::Type { kind } => {
                let types = expected_type(kind);
                let words: Vec<&str> = types.iter().map(|name| words::of_type(name)).collect();
                let expected = expectation(around).unwrap_or_else(|| words.join(" or "));
                self.mismatch(path, value, &expected, &types, (around, definition(error)));
            }
            ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
                self.union(path, value, context, around);
            }
            ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
                self.wrong_choice(path, value, &options(around), around);
            }
            ValidationErrorKind::Pattern { pattern } => {
                let expected = expectation(around).unwrap_or_else(|| format!("text of the form `{pattern}`"));
                self.wrong_form(path, value, &expected, (around, definition(error)));
            }
            kind => {
                let sentence = bound(kind, value).unwrap_or_else(|| error.to_string());
                let problem = self.problem("spec.value", at(&path, &sentence), self.map.value(&path));
                self.push(path, problem);
            }
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
        let known = keys(around.get("properties"));
        let message = format!("the key `{key}` is not known in {}", holder(path));
        let problem = self.problem("spec.unknown_key", message, span);
        let problem = if definition == "Task" && self.belongs_under_with(path, key) {
            problem.label("this goes under `with`").help(format!("move it under `with:`, as `with: {{ {key}: … }}`"))
        } else if let Some(right) = meant_key(key, &known) {
            problem.label(format!("did you mean `{right}`?")).help(format!("write `{right}:`"))
        } else {
            problem.label("not known").help(format!("the keys here are {}", words::listed(&known, "and")))
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
        let message = format!("the key `{key}` is missing in {}", holder(path));
        let property = around.get("properties").and_then(|properties| properties.get(key));
        let meaning = property.and_then(|property| property.get("description")?.as_str()).unwrap_or_default();
        let example = match property.map(|property| self.judge.target(property)).and_then(required_key) {
            _ if key == "version" => "version: 1".to_owned(),
            Some(inner) => format!("{key}: {{ {inner}: … }}"),
            None => format!("{key}: …"),
        };
        let help = match uncapitalised(meaning) {
            Some(meaning) => format!("add `{example}`, {meaning}"),
            None => format!("add `{example}`"),
        };
        let problem = self.problem("spec.missing_key", message, self.map.entry(path));
        self.push(path.clone(), problem.label(format!("`{key}` is missing here")).help(help));
    }

    /// A text of the right type and the wrong form.
    fn wrong_form(&mut self, path: Path, value: &Value, expected: &str, (around, form): (&Value, &str)) {
        let message = at(&path, &format!("expected {expected}, found {}", words::found(value)));
        let help = match (advice(form_name(form), value, |ours| entry(&path, ours)), example(around)) {
            (Some(help), _) => help,
            (None, Some(example)) => format!("write it like `{}`", entry(&path, example)),
            (None, None) => format!("write {expected}"),
        };
        let problem = self.problem("spec.value", message, self.map.value(&path));
        self.push(path, problem.help(help));
    }

    /// A value of the wrong type.
    fn mismatch(
        &mut self,
        path: Path,
        value: &Value,
        expected: &str,
        types: &[String],
        (around, form): (&Value, &str),
    ) {
        if value.is_null() {
            let message = at(&path, &format!("expected {expected}, found nothing"));
            let help = match path.key() {
                Some(key) => format!("write a value behind `{key}:`, or remove the line"),
                None => "write a value behind the `-`, or remove the line".to_owned(),
            };
            let problem = self.problem("spec.type", message, self.map.entry(&path));
            self.push(path, problem.label("no value").help(help));
            return;
        }
        // What stands in place of a secret ref may be the secret itself.
        let found = if form == "SecretRef" && value.is_string() { "text".to_owned() } else { words::found(value) };
        let span = self.map.value(&path);
        let problem = self.problem("spec.type", at(&path, &format!("expected {expected}, found {found}")), span);
        let help = if path.segments().is_empty() {
            Some("begin with `version: 1`; the other keys follow below, each on a line of its own".to_owned())
        } else {
            advice(form_name(form), value, |ours| entry(&path, ours))
                .or_else(|| remedy(&path, value, types, around, self.map.source().slice(span)))
                .or_else(|| example(around).map(|example| format!("write it like `{}`", entry(&path, example))))
        };
        let problem = match help {
            Some(help) => problem.help(help),
            None => problem,
        };
        self.push(path, problem);
    }

    /// A value that is none of a few.
    fn wrong_choice(&mut self, path: Path, value: &Value, options: &[String], around: &Value) {
        if value.is_null() {
            self.mismatch(path, value, &words::listed(options, "or"), &[], (around, ""));
            return;
        }
        let text = value.as_str().unwrap_or_default();
        let span = self.map.value(&path);
        if later::is_later_value(path.key().unwrap_or_default(), text) {
            let message = at(&path, &format!("`{text}` is part of the language but not of this version"));
            let help = format!("this version knows {}", words::listed(options, "and"));
            let problem = self.problem("spec.later", message, span);
            self.push(path, problem.label("not known yet").help(help));
            return;
        }
        let expected = words::listed(options, "or");
        let message = at(&path, &format!("expected {expected}, found {}", words::found(value)));
        let problem = self.problem("spec.value", message, span);
        let known: Vec<&str> = options.iter().map(String::as_str).collect();
        let right = later::value_synonym(text, &known).or_else(|| words::similar(text, known.iter().copied()));
        let problem = match (right, options) {
            (Some(right), _) if right == text => {
                problem.help(format!("in quotes it is text; write `{}`", entry(&path, right)))
            }
            (Some(right), _) => {
                problem.label(format!("did you mean `{right}`?")).help(format!("write `{}`", entry(&path, right)))
            }
            (None, [only]) => problem.help(format!("write `{}`", entry(&path, only))),
            (None, _) => problem,
        };
        self.push(path, problem);
    }

    /// A value that fits none of several schemas: judged by the one that it was meant for, if that can be told.
    fn union(&mut self, path: Path, value: &Value, context: &[Vec<ValidationError<'static>>], around: &Value) {
        let all = options(around);
        if !all.is_empty() {
            self.wrong_choice(path, value, &all, around);
            return;
        }
        let is_other_shape = |error: &ValidationError<'_>| {
            use ValidationErrorKind::{Constant, Enum, Type};
            path_of(error) == path && matches!(error.kind(), Type { .. } | Constant { .. } | Enum { .. })
        };
        let mut meant = context.iter().filter(|branch| !branch.iter().any(is_other_shape));
        if let (Some(branch), None) = (meant.next(), meant.next()) {
            self.errors(branch);
            return;
        }
        let choices: Vec<String> = branches(around).iter().flat_map(options).collect();
        let known = choices.iter().map(String::as_str);
        if value.as_str().is_some_and(|text| words::similar(text, known).is_some()) {
            self.wrong_choice(path, value, &choices, around);
            return;
        }
        let types: Vec<String> = branches(around).iter().flat_map(|branch| types(self.judge.target(branch))).collect();
        let expected = expectation(around)
            .unwrap_or_else(|| types.iter().map(|name| words::of_type(name)).collect::<Vec<_>>().join(" or "));
        self.mismatch(path, value, &expected, &types, (around, ""));
    }
}

/// What to type in place of a value of the wrong type.
fn remedy(path: &Path, value: &Value, types: &[String], around: &Value, written: &str) -> Option<String> {
    let wants = |name: &str| types.iter().any(|wanted| wanted == name);
    let is_quoted = written.starts_with(['"', '\'']);
    let write = |ours: &str| format!("write `{}`", entry(path, ours));
    match value {
        Value::String(text) if wants("boolean") => {
            let meant = match text.to_lowercase().as_str() {
                "no" | "n" | "off" | "false" => "false",
                "yes" | "y" | "on" | "true" => "true",
                _ => return None,
            };
            let why =
                if is_quoted { "in quotes it is text".to_owned() } else { format!("`{text}` is text in YAML 1.2") };
            Some(format!("{why}; {}", write(meant)))
        }
        Value::String(text) if (wants("integer") || wants("number")) && text.parse::<f64>().is_ok() => {
            Some(if is_quoted {
                format!("in quotes it is text; {}", write(text))
            } else {
                write(text.trim_start_matches('0'))
            })
        }
        Value::Number(_) | Value::Bool(_) if wants("string") && around.get("pattern").is_none() => {
            Some(format!("put it in quotes: `{}`", entry(path, &format!("\"{written}\""))))
        }
        Value::Object(_) if wants("array") && !wants("string") => {
            Some("begin each entry of the list with `- `".to_owned())
        }
        Value::Array(items) if wants("string") || wants("integer") => match items.as_slice() {
            [Value::String(only)] => Some(format!("write one value: `{}`", entry(path, &format!("\"{only}\"")))),
            _ => Some("write one value, not a list".to_owned()),
        },
        Value::Array(_) if wants("object") => Some("write `key: value` lines, without brackets and `- `".to_owned()),
        Value::Array(_) | Value::Object(_) | Value::Null => None,
        _ if wants("array") => Some(format!("write a list: `{}`", entry(path, &format!("[{written}]")))),
        _ if wants("object") => {
            let inner = required_key(around)?;
            Some(write(&format!("{{ {inner}: … }}")))
        }
        _ => None,
    }
}

/// The sentence for a bound that a value breaks.
fn bound(kind: &ValidationErrorKind, value: &Value) -> Option<String> {
    use ValidationErrorKind as Kind;
    let number = |words: &str, limit: &Value| format!("expected {words} {limit}, found {}", words::found(value));
    let count = |words: &str, limit: u64, one: &str, many: &str| {
        format!("expected {words} {limit} {}", if limit == 1 { one } else { many })
    };
    Some(match kind {
        Kind::Minimum { limit } => number("at least", limit),
        Kind::Maximum { limit } => number("at most", limit),
        Kind::ExclusiveMinimum { limit } => number("more than", limit),
        Kind::ExclusiveMaximum { limit } => number("less than", limit),
        Kind::MinItems { limit } => count("a list with at least", *limit, "entry", "entries"),
        Kind::MaxItems { limit } => count("a list with at most", *limit, "entry", "entries"),
        Kind::MinLength { limit } => count("text of at least", *limit, "character", "characters"),
        Kind::MaxLength { limit } => count("text of at most", *limit, "character", "characters"),
        Kind::MinProperties { limit } => count("a map with at least", *limit, "key", "keys"),
        Kind::MaxProperties { limit } => count("a map with at most", *limit, "key", "keys"),
        Kind::UniqueItems => "the list names one thing twice".into(),
        _ => return None,
    })
}

/// `key: value` as it stands in the file; in a list, only the value.
fn entry(path: &Path, value: &str) -> String {
    path.key().map_or_else(|| value.to_owned(), |key| format!("{key}: {value}"))
}

/// A sentence made fit to stand behind a comma; `None` for an empty one.
fn uncapitalised(sentence: &str) -> Option<String> {
    let first = sentence.chars().next()?;
    let rest = sentence[first.len_utf8()..].trim_end_matches('.');
    Some(format!("{}{rest}", first.to_lowercase()))
}

fn holder(path: &Path) -> String {
    if path.segments().is_empty() { "this file".to_owned() } else { format!("`{path}`") }
}

/// The known key that an unknown one was probably meant to be.
fn meant_key<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    later::synonym(key, known).or_else(|| words::similar(key, known.iter().copied()))
}

/// The first key that a schema requires.
fn required_key(schema: &Value) -> Option<&str> {
    schema.get("required")?.get(0)?.as_str()
}

fn example(schema: &Value) -> Option<&str> {
    schema.pointer("/examples/0")?.as_str()
}

/// The types that a schema allows.
fn types(schema: &Value) -> Vec<String> {
    match schema.get("type") {
        Some(Value::String(only)) => vec![only.clone()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// The name of a definition without the task kind or preset that brought it in.
fn form_name(definition: &str) -> &str {
    definition.rsplit(' ').next().unwrap_or(definition)
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
