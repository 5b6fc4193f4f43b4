//! What one file is resolved with, and the questions that come up everywhere in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use super::Callees;
use super::scope::Scope;
use super::secrets::SecretUse;
use crate::domain::rate::Rate;
use crate::domain::secret::SecretRef;
use crate::domain::{byte_size, duration};
use crate::expr::{self, Expression, Mapping, Name, Place, Template};
use crate::id::{ChannelName, ConnectionName, SecretName};
use crate::limits;
use crate::spec::diagnostic::{Problem, Severity, Spot};
use crate::spec::raw;
use crate::spec::source_map::{Path, SourceMap, Span};
use crate::spec::words;
use crate::tasks::Task;
use crate::tasks::command::settings as command;
use crate::tasks::plan::RateLimit;

/// One file on the table: its map, what is around it, and what was found so far.
pub(crate) struct Desk<'a> {
    pub(crate) map: &'a SourceMap,
    /// The connections that tasks may name; any when absent.
    pub(crate) connections: Option<&'a BTreeSet<ConnectionName>>,
    /// The workflows that tasks may start; any when absent.
    pub(crate) callees: Callees<'a>,
    /// The channels that tasks and schedules may name; any when absent.
    pub(crate) channels: Option<&'a BTreeSet<ChannelName>>,
    /// The databases that tasks may name, and whether tables can be loaded there; any when absent.
    pub(crate) databases: Option<&'a BTreeMap<String, bool>>,
    /// The places that tasks may name, and whether they give links; any when absent.
    pub(crate) blobs: Option<&'a BTreeMap<String, bool>>,
    /// The programs that tasks may run; any when absent.
    pub(crate) commands: Option<&'a command::Settings>,
    /// Body of a delivery, bytes, for routes that set none.
    pub(crate) body_bytes_max: usize,
    pub(crate) problems: &'a mut Vec<Problem>,
    pub(crate) secrets: &'a mut Vec<SecretUse>,
}

impl fmt::Debug for Desk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({})", self.map.source().name())
    }
}

impl<'a> Desk<'a> {
    /// A file with nothing around it: what it names may be anywhere.
    pub(crate) fn bare(map: &'a SourceMap, problems: &'a mut Vec<Problem>, secrets: &'a mut Vec<SecretUse>) -> Self {
        Self {
            map,
            connections: None,
            callees: None,
            channels: None,
            databases: None,
            blobs: None,
            commands: None,
            body_bytes_max: limits::BODY_BYTES_MAX,
            problems,
            secrets,
        }
    }
}

impl Desk<'_> {
    pub(crate) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// How many errors there are so far: whoever made none of the later ones is healthy.
    pub(crate) fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// A problem with a span of this file.
    pub(crate) fn problem(&self, code: &'static str, message: impl Into<String>, span: Span) -> Problem {
        Problem::new(code, message, self.map.source(), span)
    }

    /// A problem with the value at `path`.
    pub(crate) fn at(&self, code: &'static str, message: impl Into<String>, path: &Path) -> Problem {
        self.problem(code, message, self.map.value(path))
    }

    /// A problem with the form of the value at `path`: the message begins with the path.
    pub(crate) fn bad_value(&mut self, path: &Path, sentence: &str, help: impl Into<String>) {
        let problem = self.at("spec.value", format!("`{path}`: {sentence}"), path).help(help);
        self.push(problem);
    }

    pub(super) fn spot(&self, path: &Path) -> Spot {
        Spot { source: self.map.source().clone(), span: self.map.value(path), label: String::new() }
    }

    /// An unknown name: with the one that was meant, or all that there are.
    pub(crate) fn unknown(&mut self, code: &'static str, message: String, path: &Path, name: &str, known: &[&str]) {
        let problem = self.at(code, message, path);
        let entry = |right: &str| path.key().map_or_else(|| right.to_owned(), |key| format!("{key}: {right}"));
        let problem = match words::similar(name, known.iter().copied()) {
            Some(right) => problem.label(format!("did you mean `{right}`?")).help(format!("write `{}`", entry(right))),
            None => problem.help(there_are(known)),
        };
        self.push(problem);
    }

    /// A channel that is named at `path` must be there.
    pub(super) fn channel(&mut self, path: &Path, name: &str) {
        let Some(known) = self.channels.filter(|known| !known.contains(name)) else { return };
        let known: Vec<&str> = known.iter().map(ChannelName::as_str).collect();
        self.unknown("spec.unknown_channel", format!("there is no channel `{name}`"), path, name, &known);
    }

    /// The channels that the settings of a task name.
    pub(super) fn channels_of(&mut self, path: &Path, with: &Value, task: &dyn Task) {
        for (pointer, name) in task.channels() {
            let (place, _) = below(path, with, &pointer);
            self.channel(&place, name.as_str());
        }
    }

    /// A duration of at least a millisecond.
    pub(crate) fn duration(&mut self, path: &Path, raw: Option<&raw::Duration>) -> Option<Duration> {
        let raw = raw?;
        match duration::parse(&raw.0) {
            Ok(duration) if duration.is_zero() => {
                self.bad_value(
                    path,
                    "expected some time, found none",
                    format!("write it like `{}`", entry(path, "30s")),
                );
                None
            }
            Ok(duration) => Some(duration),
            Err(error) => {
                self.bad_value(path, &error.problem(), error.help());
                None
            }
        }
    }

    /// A size in bytes, of at least one and at most `max`.
    pub(crate) fn size(&mut self, path: &Path, raw: Option<&raw::Size>, max: usize) -> Option<usize> {
        let raw = raw?;
        match byte_size::parse(&raw.0) {
            Ok(bytes) => {
                let fits = usize::try_from(bytes).ok().filter(|bytes| (1..=max).contains(bytes));
                if fits.is_none() {
                    let most = byte_size::format(max as u64);
                    let sentence = format!("expected between `1B` and `{most}`, found `{}`", raw.0);
                    self.bad_value(path, &sentence, format!("write `{}`, or less", entry(path, &most)));
                }
                fits
            }
            Err(error) => {
                self.bad_value(path, &error.problem(), error.help());
                None
            }
        }
    }

    fn rate(&mut self, path: &Path, raw: Option<&raw::Rate>) -> Option<Rate> {
        raw?.0
            .parse()
            .map_err(|error: crate::domain::rate::Error| self.bad_value(path, &error.problem(), error.help()))
            .ok()
    }

    /// `rate` and `burst` beside each other under `path`.
    pub(crate) fn rate_limit(
        &mut self,
        path: &Path,
        rate: Option<&raw::Rate>,
        burst: Option<u32>,
    ) -> Option<RateLimit> {
        if rate.is_none() && burst.is_some() {
            let problem =
                self.problem("spec.no_effect", "`burst` does nothing without `rate`", self.map.key(path, "burst"));
            self.push(problem.warning().help("add a `rate`, such as `rate: 50/s`, or remove the line"));
        }
        let rate = self.rate(&path.with("rate"), rate)?;
        Some(RateLimit { rate, burst: Self::count(burst).unwrap_or(rate.count()) })
    }

    /// A range of addresses, or one address.
    pub(crate) fn network(&mut self, path: &Path, text: &str) -> Option<IpNet> {
        let text = text.trim();
        let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        if network.is_none() {
            let sentence = format!("`{}` is not an address or a range of addresses", words::short(text));
            self.bad_value(path, &sentence, "write it like `203.0.113.0/24`, `203.0.113.9` or `2001:db8::/32`");
        }
        network
    }

    /// A count that the schema bounds from below.
    pub(super) fn count(raw: Option<u32>) -> Option<NonZeroU32> {
        raw.and_then(NonZeroU32::new)
    }

    /// A name of ours, such as a task's id.
    pub(super) fn name<T>(&mut self, path: &Path, read: Result<T, crate::id::Error>) -> Option<T> {
        read.map_err(|error| {
            let text = error.to_string();
            let (message, help) = text.split_once(": ").unwrap_or((&text, "write another name"));
            let problem = self.at("spec.name", message, path).help(help);
            self.push(problem);
        })
        .ok()
    }

    /// Text that may hold expressions, with the names it may look up.
    pub(super) fn template(&mut self, path: &Path, text: &str, scope: &Scope<'_>) -> Option<Template> {
        match Template::parse(text) {
            Ok(template) => {
                self.names(path, text, &template.names(), scope);
                Some(template)
            }
            Err(error) => {
                self.expression_error(path, text, error);
                None
            }
        }
    }

    /// One whole expression, or `true` or `false`.
    pub(super) fn condition(
        &mut self,
        path: &Path,
        raw: Option<&raw::Condition>,
        scope: &Scope<'_>,
    ) -> Option<Expression> {
        let text = match raw? {
            raw::Condition::Fixed(fixed) => return Expression::parse(&fixed.to_string()).ok(),
            raw::Condition::Expression(text) => text,
        };
        let key = path.key().unwrap_or_default();
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => {
                self.expression_error(path, text, error);
                return None;
            }
        };
        if !template.is_expression() {
            let (message, help) = if template.is_constant() {
                (
                    "this is text, and text is always true".to_owned(),
                    format!("write `{key}: ${{{{ {} }}}}`", text.trim()),
                )
            } else {
                let help = "write one expression, as in `${{ inputs.total > 100 and inputs.paid }}`";
                (format!("`{key}` takes one whole expression, and here is text beside it"), help.to_owned())
            };
            let problem = self.at("spec.expression", message, path).help(help);
            self.push(problem);
            return None;
        }
        self.names(path, text, &template.names(), scope);
        let source = text.trim().strip_prefix("${{").and_then(|text| text.strip_suffix("}}"))?;
        Expression::parse(source).map_err(|error| self.expression_error(path, text, error)).ok()
    }

    /// Values that may hold expressions; a secret among them is told.
    pub(super) fn mapping(&mut self, path: &Path, value: &Value, scope: &Scope<'_>) -> Option<Mapping> {
        self.no_secrets(path, value, &[]);
        match Mapping::parse(value) {
            Ok(mapping) => {
                self.places(path, value, &mapping.names(), scope);
                Some(mapping)
            }
            Err(errors) => {
                for error in errors {
                    let span = self.blame(path, value, &error.pointer, Some(&error.range));
                    self.told("spec.expression", error.message, span, error.help);
                }
                None
            }
        }
    }

    /// Checks the names that the texts inside `value` look up.
    pub(super) fn places(&mut self, path: &Path, value: &Value, places: &[Place], scope: &Scope<'_>) {
        for same in places.chunk_by(|a, b| a.pointer == b.pointer) {
            let (path, text) = below(path, value, &same[0].pointer);
            let names: Vec<Name> = same.iter().map(|place| place.name.clone()).collect();
            self.names(&path, text, &names, scope);
        }
    }

    /// An expression that cannot be read.
    pub(super) fn expression_error(&mut self, path: &Path, text: &str, error: expr::Error) {
        let span = self.map.inside(path, text, &error.range);
        self.told("spec.expression", error.message, span, error.help);
    }

    /// A problem whose help may be absent.
    pub(super) fn told(&mut self, code: &'static str, message: String, span: Span, help: Option<String>) {
        let mut problem = self.problem(code, message, span);
        problem.help = help;
        self.push(problem);
    }

    /// What to underline for the bytes `range` of the text that a JSON pointer leads to below `value`, which stands at
    /// `path`; in a map, for the key that is an expression.
    pub(super) fn blame(&self, path: &Path, value: &Value, pointer: &str, range: Option<&Range<usize>>) -> Span {
        let (path, text) = below(path, value, pointer);
        match (range, value.pointer(pointer)) {
            (Some(range), Some(Value::String(_))) => self.map.inside(&path, text, range),
            (Some(_), Some(Value::Object(members))) => {
                let key = members.keys().find(|key| key.contains("${{"));
                key.map_or_else(|| self.map.value(&path), |key| self.map.key(&path, key))
            }
            _ => self.map.value(&path),
        }
    }

    /// Tells every `secret_ref` inside `value` that does not stand in one of `allowed` (JSON pointers).
    pub(super) fn no_secrets(&mut self, path: &Path, value: &Value, allowed: &[&str]) {
        let mut found = Vec::new();
        find_secrets(value, &mut String::new(), &mut found);
        for pointer in found.iter().filter(|pointer| !allowed.contains(&pointer.as_str())) {
            let (path, _) = below(path, value, pointer);
            let span = self.map.key(&path, "secret_ref");
            let help = "name it in the `auth` or `headers` of a connection, in a channel, in the `headers` of an `http_request` \
                        task, in the `env` of a `command`, or in a route's `verify`";
            let problem = self.problem("spec.secret_place", "a secret cannot stand here", span);
            self.push(problem.label("it would be stored with the run").help(help));
        }
    }

    /// A secret that must exist; it is noted where it is named.
    pub(crate) fn secret(&mut self, path: &Path, raw: &raw::SecretRef) -> Option<SecretRef> {
        // The schema has judged the name by the same rule.
        let name = SecretName::new(&raw.secret_ref.0).ok()?;
        let reference =
            SecretRef { name, prefix: raw.prefix.clone(), version: raw.version.clone(), field: raw.field.clone() };
        self.uses_secret(&path.with("secret_ref"), reference.clone());
        Some(reference)
    }

    /// Notes a secret that must exist.
    pub(crate) fn uses_secret(&mut self, path: &Path, reference: SecretRef) {
        let spot = self.spot(path);
        self.secrets.push(SecretUse { reference, spot });
    }

    fn names(&mut self, path: &Path, text: &str, names: &[Name], scope: &Scope<'_>) {
        // `tasks.erp-stock` reads as a subtraction; what follows the minus is told already.
        let mut swallowed = None;
        for name in names.iter().filter(|name| !name.path.is_empty()) {
            if swallowed == Some(name.range.start) {
                continue;
            }
            let Some(finding) = scope.check(name, &text[name.range.end..]) else { continue };
            swallowed = finding.swallows.then_some(name.range.end + 1);
            let span = self.map.inside(path, text, &name.range);
            let mut problem = self.problem(finding.code, finding.message, span).label(finding.label);
            problem.help = finding.help;
            if let Some((span, label)) = finding.related {
                problem = problem.related(span, label);
            }
            self.push(problem);
        }
    }
}

/// "there are `a` and `b`", or that there are none.
pub(super) fn there_are(known: &[&str]) -> String {
    /// Names that a help line lists; more tell a reader nothing.
    const LISTED_MAX: usize = 12;
    match known.len() {
        0 => "there are none yet".to_owned(),
        1 => format!("there is only {}", words::listed(known, "and")),
        count if count > LISTED_MAX => {
            format!("there are {count}, such as {}", words::listed(&known[..LISTED_MAX], "and"))
        }
        _ => format!("there are {}", words::listed(known, "and")),
    }
}

/// `key: value` as it stands in the file.
pub(super) fn entry(path: &Path, value: &str) -> String {
    path.key().map_or_else(|| value.to_owned(), |key| format!("{key}: {value}"))
}

/// Where a JSON pointer (RFC 6901) below `base` leads, and the text there.
pub(super) fn below<'v>(base: &Path, value: &'v Value, pointer: &str) -> (Path, &'v str) {
    let mut path = base.clone();
    let mut here = Some(value);
    for token in pointer.split('/').skip(1) {
        let key = token.replace("~1", "/").replace("~0", "~");
        if let (Some(Value::Array(items)), Ok(index)) = (here, key.parse::<usize>()) {
            path = path.with(index);
            here = items.get(index);
        } else {
            here = here.and_then(|value| value.get(&key));
            path = path.with(key.as_str());
        }
    }
    (path, here.and_then(Value::as_str).unwrap_or_default())
}

fn find_secrets(value: &Value, pointer: &mut String, found: &mut Vec<String>) {
    let length = pointer.len();
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointer.push('/');
                pointer.push_str(&index.to_string());
                find_secrets(item, pointer, found);
                pointer.truncate(length);
            }
        }
        Value::Object(members) => {
            if members.contains_key("secret_ref") {
                found.push(pointer.clone());
            }
            for (key, member) in members {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                find_secrets(member, pointer, found);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}
