//! What was expected of a test against what came of it. Everything that is not so is told, each at its place in the file.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::call::{Call, Likeness, Pattern};
use super::compare::{self, Difference};
use super::play::Played;
use super::stage::{Moment, Seen, Told, names};
use crate::domain::failure::Failure;
use crate::domain::run::{Run, TaskState};
use crate::domain::state::State;
use crate::id::AttemptNumber;
use crate::spec::raw;
use crate::spec::source_map::{Path, SourceMap};

/// Something that was expected and is not so, or that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Mismatch {
    /// What it is about, such as `state` or `calls.count`.
    pub subject: String,
    /// Line and column in the file of the test.
    pub at: (usize, usize),
    /// What was expected and what came, each by its place.
    pub differences: Vec<Change>,
    /// Further lines, for people.
    pub notes: Vec<String>,
}

impl Mismatch {
    /// The lines about it: `-` before what was expected, `+` before what came.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for Change { place, expected, actual } in &self.differences {
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            lines.extend(expected.as_ref().map(|text| Line::Expected(format!("{place}{text}"))));
            lines.extend(actual.as_ref().map(|text| Line::Actual(format!("{place}{text}"))));
        }
        lines.extend(self.notes.iter().cloned().map(Line::Note));
        lines
    }

    /// All of it as text.
    pub(super) fn plain(&self) -> String {
        let lines = self.lines().into_iter().map(|line| match line {
            Line::Expected(text) => format!("  - {text}"),
            Line::Actual(text) => format!("  + {text}"),
            Line::Note(text) => format!("  {text}"),
        });
        let head = format!("{} (line {})", self.subject, self.at.0);
        std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
    }
}

/// One line about a mismatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// What was expected.
    Expected(String),
    /// What came.
    Actual(String),
    /// Anything else.
    Note(String),
}

/// One difference between what was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// Where, such as `state.last_alerted.B-7`.
    pub place: String,
    /// Absent when it should not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Absent when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
}

impl From<Difference> for Change {
    fn from(Difference { place, expected, actual }: Difference) -> Self {
        Self { place, expected, actual }
    }
}

/// Judges one test.
pub(super) struct Judge<'a> {
    pub(super) map: &'a SourceMap,
    /// The test.
    pub(super) path: Path,
    pub(super) raw: &'a raw::Trial,
    pub(super) played: &'a Played,
    found: Vec<Mismatch>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(map: &'a SourceMap, path: Path, raw: &'a raw::Trial, played: &'a Played) -> Self {
        Self { map, path, raw, played, found: Vec::new() }
    }

    /// Everything that is not as expected.
    pub(super) fn judge(mut self) -> Vec<Mismatch> {
        let expect = &self.raw.expect;
        let here = self.path.with("expect");
        for trouble in &self.played.trouble {
            self.tell("run", &self.path.clone(), Vec::new(), vec![trouble.clone()]);
        }
        self.calls_without_exchange();
        self.end(&here, expect);
        if let Some(failure) = &expect.failure {
            self.failure(&here.with("failure"), failure);
        }
        if let Some(run) = self.played.run.as_ref() {
            self.tasks(&here, expect, run);
        }
        self.order(&here.with("order"), &expect.order);
        if let Some(calls) = &expect.calls {
            self.calls(&here.with("calls"), calls);
        }
        if let Some(notices) = &expect.notify {
            self.notices(&here.with("notify"), notices);
        }
        if let Some(state) = &expect.state {
            let differences = compare::exact("", &object(state), &object(&self.played.state));
            self.unless_none("state", &here.with("state"), differences);
        }
        self.what_did_nothing();
        self.found
    }

    fn tell(&mut self, subject: &str, path: &Path, differences: Vec<Difference>, notes: Vec<String>) {
        let span = self.map.entry(path);
        let at = self.map.source().position(span.start);
        let differences = differences.into_iter().map(Change::from).collect();
        self.found.push(Mismatch { subject: subject.to_owned(), at, differences, notes });
    }

    fn unless_none(&mut self, subject: &str, path: &Path, differences: Vec<Difference>) {
        if !differences.is_empty() {
            self.tell(subject, path, differences, Vec::new());
        }
    }

    fn calls_without_exchange(&mut self) {
        let unexpected = self.played.stage.seen().unexpected.clone();
        for call in unexpected {
            let mut notes = vec![format!("no exchange is for `{}`", call.call)];
            if call.near.is_empty() {
                notes.push(
                    "help: record a run with `clawhook record`, or add the call and its answer to `fixtures`"
                        .to_owned(),
                );
            } else {
                notes.push("nearest:".to_owned());
                notes.extend(call.near.iter().map(|near| format!("  {near}")));
            }
            let place = if self.raw.fixtures.0.is_empty() { self.path.clone() } else { self.path.with("fixtures") };
            self.tell("unexpected call", &place, Vec::new(), notes);
        }
    }

    fn end(&mut self, here: &Path, expect: &raw::Expect) {
        let expected = match (expect.run, &expect.failure) {
            (Some(expected), _) => expected,
            (None, Some(_)) => raw::ExpectRun::Failed,
            (None, None) => raw::ExpectRun::Succeeded,
        };
        let state = self.played.run.as_ref().map(|run| run.state);
        let fits = match expected {
            raw::ExpectRun::Succeeded => state == Some(State::Succeeded),
            raw::ExpectRun::Failed => state == Some(State::Failed),
            raw::ExpectRun::Cancelled => state == Some(State::Cancelled),
            raw::ExpectRun::Waiting => state == Some(State::Waiting),
            raw::ExpectRun::None => state.is_none(),
        };
        // A run that was told that there is nothing for it fails in ways that say nothing new.
        let echo = expected == raw::ExpectRun::Succeeded && !self.played.stage.seen().unexpected.is_empty();
        if fits || echo {
            return;
        }
        let word = match expected {
            raw::ExpectRun::Succeeded => "succeeded",
            raw::ExpectRun::Failed => "failed",
            raw::ExpectRun::Cancelled => "cancelled",
            raw::ExpectRun::Waiting => "waiting",
            raw::ExpectRun::None => "none",
        };
        let actual = state.map_or("none", State::as_str);
        let mut notes: Vec<String> =
            self.played.run.as_ref().and_then(|run| run.failure.as_ref()).map(said).into_iter().flatten().collect();
        let cancel = self.played.run.as_ref().and_then(|run| run.cancel.as_ref());
        notes.extend(cancel.map(|cancel| format!("`{}` cancelled it: {}", cancel.by, cancel.reason)));
        if state.is_none() {
            notes.push("the filter of the route let nothing through".to_owned());
        }
        let path = if expect.run.is_some() { here.with("run") } else { self.path.clone() };
        self.tell("run", &path, vec![Difference::new("", word, actual)], notes);
    }

    fn failure(&mut self, path: &Path, expected: &raw::ExpectFailure) {
        let Some(failure) = self.played.run.as_ref().and_then(|run| run.failure.as_ref()) else {
            self.tell("failure", path, Vec::new(), vec!["the run did not fail".to_owned()]);
            return;
        };
        let mut differences = Vec::new();
        if let Some(task) = &expected.task {
            let fits = failure.task.as_ref().is_some_and(|step| names(task, step));
            let actual = failure.task.as_ref().map(ToString::to_string).unwrap_or_default();
            differences.extend((!fits).then(|| Difference::new("task", task, actual)));
        }
        if let Some(code) = expected.code.as_ref().filter(|code| **code != failure.code) {
            differences.push(Difference::new("code", code, &failure.code));
        }
        if let Some(text) = expected.contains.as_ref().filter(|text| !failure.message.contains(*text)) {
            differences.push(Difference::new("message", format!("… {text} …"), &failure.message));
        }
        self.unless_none("failure", path, differences);
    }

    fn tasks(&mut self, here: &Path, expect: &raw::Expect, run: &Run) {
        let mut differences = Vec::new();
        for (task, wanted) in &expect.attempts {
            let steps = run.tasks.iter().filter(|(step, _)| names(task, step));
            let there: u32 = steps.filter_map(|(_, record)| record.attempt).map(AttemptNumber::get).sum();
            if there != *wanted {
                differences.push(Difference::new(task, wanted.to_string(), there.to_string()));
            }
        }
        self.unless_none("attempts", &here.with("attempts"), differences);
        if let Some(wanted) = &expect.outputs {
            let outputs = run.outputs.clone().unwrap_or_default();
            self.unless_none("outputs", &here.with("outputs"), compare::subset("", &object(wanted), &object(&outputs)));
        }
        let labels = run.prepared.as_ref().map(|prepared| text_map(&prepared.labels)).unwrap_or_default();
        let wanted = object(&text_map(&expect.labels));
        self.unless_none("labels", &here.with("labels"), compare::subset("", &wanted, &object(&labels)));
        for (task, wanted) in &expect.tasks {
            let path = here.with("tasks").with(task.as_str());
            let step = run.tasks.iter().find(|(step, _)| names(task, step));
            let differences = task_differs(wanted, step.map(|(_, record)| &record.state));
            self.unless_none(&format!("tasks.{task}"), &path, differences);
        }
    }

    /// The wanted moments come in this order, whatever comes between them.
    fn order(&mut self, path: &Path, wanted: &[String]) {
        if wanted.is_empty() {
            return;
        }
        let seen = self.played.stage.seen();
        let bases = &self.played.stage.bases;
        let mut moments = seen.moments.iter();
        let missing = wanted.iter().position(|text| {
            let pattern = text.contains(' ').then(|| Pattern::parse(&raw::CallText(text.clone())).ok()).flatten();
            !moments.any(|moment| match (moment, &pattern) {
                (Moment::Attempt(step), None) => names(text, step),
                (Moment::Call(place), Some(pattern)) => {
                    seen.calls.get(*place).is_some_and(|call| pattern.means(call, bases))
                }
                _ => false,
            })
        });
        let Some(missing) = missing else { return };
        let before = if missing == 0 { "at all" } else { "in its place" };
        let mut notes = vec![format!("`{}` did not come {before}; what came:", wanted[missing])];
        notes.extend(seen.moments.iter().take(SHOWN_MAX).map(|moment| match moment {
            Moment::Attempt(step) => format!("  {step}"),
            Moment::Call(place) => {
                let shown = seen.calls.get(*place).map(|call| call.shown(bases)).unwrap_or_default();
                format!("    {shown}")
            }
        }));
        drop(seen);
        self.tell("order", &path.with(missing), Vec::new(), notes);
    }

    fn calls(&mut self, path: &Path, expected: &raw::ExpectCalls) {
        let stage = &self.played.stage;
        let seen = stage.seen();
        let mut told: Vec<(String, Path, Vec<Difference>, Vec<String>)> = Vec::new();
        let all = || seen.calls.iter().take(SHOWN_MAX).map(|call| format!("  {}", call.shown(&stage.bases)));
        let sent = |pattern: &raw::CallText| {
            let pattern = Pattern::parse(pattern).ok();
            seen.calls
                .iter()
                .filter(move |call| pattern.as_ref().is_some_and(|pattern| pattern.means(call, &stage.bases)))
        };
        let mut differences = Vec::new();
        for (text, wanted) in &expected.count {
            let there = sent(&raw::CallText(text.clone())).count();
            if u32::try_from(there) != Ok(*wanted) {
                differences.push(Difference::new(text, wanted.to_string(), there.to_string()));
            }
        }
        if !differences.is_empty() {
            let notes = std::iter::once("what went out:".to_owned()).chain(all()).collect();
            told.push(("calls.count".to_owned(), path.with("count"), differences, notes));
        }
        for (place, pattern) in expected.none_to.iter().enumerate() {
            let there: Vec<_> = sent(pattern).map(|call| format!("  {}", call.shown(&stage.bases))).collect();
            if !there.is_empty() {
                let notes = std::iter::once(format!("`{}` was called:", pattern.0)).chain(there).collect();
                told.push(("calls.none_to".to_owned(), path.with("none_to").with(place), Vec::new(), notes));
            }
        }
        for (place, wanted) in expected.to.iter().enumerate() {
            let to: Vec<_> = sent(&wanted.request).collect();
            if let Some(notes) = call_differs(wanted, &to, &seen, &self.played.stage.bases) {
                told.push(("calls.to".to_owned(), path.with("to").with(place), Vec::new(), notes));
            }
        }
        drop(seen);
        let unused = if expected.all_used { stage.unused() } else { Vec::new() };
        if !unused.is_empty() {
            let notes =
                std::iter::once("nothing was sent to:".to_owned()).chain(unused.iter().map(|one| format!("  {one}")));
            told.push(("calls.all_used".to_owned(), path.with("all_used"), Vec::new(), notes.collect()));
        }
        for (subject, path, differences, notes) in told {
            self.tell(&subject, &path, differences, notes);
        }
    }

    fn notices(&mut self, path: &Path, wanted: &[raw::ExpectNotice]) {
        let told = self.played.stage.seen().messages.clone();
        let mut differences = Vec::new();
        for (place, wanted) in wanted.iter().enumerate() {
            match told.get(place) {
                Some(told) => notice_differs(&format!("[{place}]"), wanted, told, &mut differences),
                None => differences.push(Difference {
                    place: format!("[{place}]"),
                    expected: Some("a message".to_owned()),
                    actual: None,
                }),
            }
        }
        for (place, told) in told.iter().enumerate().skip(wanted.len()) {
            let actual = Some(format!("{}: {}", told.channel, told.message.title));
            differences.push(Difference { place: format!("[{place}]"), expected: None, actual });
        }
        self.unless_none("notify", path, differences);
    }

    /// Faults and decisions that came to nothing: the test does not show what it seems to.
    fn what_did_nothing(&mut self) {
        for place in self.played.stage.idle_faults() {
            let path = self.path.with("faults").with(place);
            let Some(fault) = self.raw.faults.get(place) else { continue };
            let attempt = fault.attempt.unwrap_or(1);
            let note = format!("it happened to nothing: `{}` made no call at attempt {attempt}", fault.task);
            self.tell("faults", &path, Vec::new(), vec![note]);
        }
        for place in self.played.unasked.clone() {
            let path = self.path.with("decide").with(place);
            let Some(decision) = self.raw.decide.get(place) else { continue };
            let note = format!("nobody was asked by `{}`", decision.task);
            self.tell("decide", &path, Vec::new(), vec![note]);
        }
    }
}

/// Most calls or moments that are listed.
const SHOWN_MAX: usize = 30;

fn object(members: &Map<String, Value>) -> Value {
    Value::Object(members.clone())
}

fn text_map(map: &BTreeMap<String, String>) -> Map<String, Value> {
    map.iter().map(|(name, text)| (name.clone(), Value::String(text.clone()))).collect()
}

/// What a failure says.
fn said(failure: &Failure) -> Vec<String> {
    let task = failure.task.as_ref().map(|task| format!("`{task}`: ")).unwrap_or_default();
    let mut lines = vec![format!("{task}{} ({})", failure.message, failure.code)];
    lines.extend(failure.help.as_ref().map(|help| format!("help: {help}")));
    lines
}

fn task_differs(wanted: &raw::ExpectTask, state: Option<&TaskState>) -> Vec<Difference> {
    let mut differences = Vec::new();
    let status = match state {
        None => raw::ExpectStatus::Untouched,
        Some(TaskState::Succeeded { .. } | TaskState::Closed { failure: None, .. }) => raw::ExpectStatus::Succeeded,
        Some(TaskState::Failed { .. } | TaskState::Closed { failure: Some(_), .. }) => raw::ExpectStatus::Failed,
        Some(TaskState::Skipped) => raw::ExpectStatus::Skipped,
        Some(_) => raw::ExpectStatus::Waiting,
    };
    if let Some(wanted) = wanted.status.filter(|wanted| *wanted != status) {
        differences.push(Difference::new("status", wanted.as_str(), status.as_str()));
    }
    if let Some(wanted) = &wanted.output {
        match state {
            Some(TaskState::Succeeded { output }) => differences.extend(compare::subset("output", wanted, output)),
            _ => differences.push(Difference {
                place: "output".to_owned(),
                expected: Some(compare::shown(wanted)),
                actual: None,
            }),
        }
    }
    if let Some(wanted) = &wanted.failure {
        let code = match state {
            Some(TaskState::Failed { failure } | TaskState::Closed { failure: Some(failure), .. }) => {
                failure.code.as_str()
            }
            _ => "none",
        };
        differences.extend((code != wanted).then(|| Difference::new("failure", wanted, code)));
    }
    differences
}

/// Why the calls to a place are not as wanted.
fn call_differs(
    wanted: &raw::ExpectCall,
    to: &[&Call],
    seen: &Seen,
    bases: &super::call::Bases,
) -> Option<Vec<String>> {
    let like = Likeness {
        json: wanted.json.clone(),
        contains: wanted.contains.clone(),
        headers: wanted.headers.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect(),
    };
    let (fit, unfit): (Vec<&Call>, Vec<&Call>) = to.iter().partition(|call| like.misfit(call).is_none());
    let enough = wanted.times.map_or(!fit.is_empty(), |times| u32::try_from(fit.len()) == Ok(times));
    if !enough {
        let times = wanted.times.map_or("at least one such call".to_owned(), |times| format!("{times} such calls"));
        let mut notes = vec![format!("expected {times} to `{}`, found {}", wanted.request.0, fit.len())];
        if to.is_empty() {
            notes.push("what went out:".to_owned());
            notes.extend(seen.calls.iter().take(SHOWN_MAX).map(|call| format!("  {}", call.shown(bases))));
        }
        for call in unfit.iter().take(SHOWN_MAX) {
            let why = like.misfit(call).unwrap_or_default();
            notes.push(format!("  {}: {why}", call.shown(bases)));
        }
        return Some(notes);
    }
    for name in &wanted.same {
        let mut values: Vec<_> = fit.iter().map(|call| call.header(name).unwrap_or("none")).collect();
        values.dedup();
        if values.len() > 1 || values == ["none"] {
            let notes = vec![format!(
                "the header `{name}` is not the same in all calls to `{}`: {}",
                wanted.request.0,
                values.join(", ")
            )];
            return Some(notes);
        }
    }
    None
}

fn notice_differs(place: &str, wanted: &raw::ExpectNotice, told: &Told, differences: &mut Vec<Difference>) {
    let mut differ = |key: &str, wanted: &str, there: &str| {
        if wanted != there {
            differences.push(Difference::new(&format!("{place}.{key}"), wanted, there));
        }
    };
    let message = &told.message;
    if let Some(channel) = &wanted.channel {
        differ("channel", channel, &told.channel);
    }
    if let Some(title) = &wanted.title {
        differ("title", title, &message.title);
    }
    if let Some(level) = wanted.level {
        differ("level", level.as_str(), message.level.as_str());
    }
    if let Some(rows) = wanted.rows {
        let there = message.table.as_ref().map_or(0, |table| table.rows.len() + table.more);
        differ("rows", &rows.to_string(), &there.to_string());
    }
    if let Some(text) = &wanted.contains {
        let cells = message.table.iter().flat_map(|table| table.rows.iter().flatten());
        let whole = std::iter::once(&message.title).chain([&message.text]).chain(cells);
        let whole = whole.map(String::as_str).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" | ");
        if !whole.contains(text) {
            differences.push(Difference::new(&format!("{place}.contains"), text, whole));
        }
    }
}
