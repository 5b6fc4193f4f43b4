//! One task: its kind's settings, and the engine words around them.

use std::time::Duration;

use serde_json::Value;

use super::desk::{Desk, below};
use super::flow;
use super::list::{Around, Written};
use super::redact;
use super::route;
use super::scope::Scope;
use crate::domain::retry::{RetryOn, RetryPolicy};
use crate::id::{ConnectionName, TaskId};
use crate::limits;
use crate::outbound::Redaction;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::tasks::plan::{KindTask, PlannedTask, Work};
use crate::tasks::{self, Task, TaskKind, WithProblem, sql};

/// Makes a task runnable. `None` when it is not; why is told.
pub(super) fn resolve_task(desk: &mut Desk<'_>, task: &Written<'_>, around: &Around<'_>) -> Option<PlannedTask> {
    let raw = task.raw?;
    let path = &task.path;
    let errors = desk.errors();
    let id = desk.name(&path.with("id"), TaskId::new(&raw.id));
    let each = flow::for_each(desk, path, raw, &around.scope(&raw.id));
    let around = Around { in_loop: around.in_loop || raw.for_each.is_some(), ..*around };
    let scope = around.scope(&raw.id);
    let condition = flow::condition(desk, path, raw, &scope);
    let work = if flow::holds_others(&raw.kind) {
        flow::resolve_flow(desk, task, raw, &around)
    } else {
        flow::tell_what_holds_nothing(desk, path, raw);
        work(desk, path, raw, &scope).map(Box::new).map(Work::Task)
    };
    if desk.errors() > errors {
        return None;
    }
    Some(PlannedTask { id: id?, condition, each, continue_on_error: raw.continue_on_error, work: work? })
}

/// The work of a task of a kind.
fn work(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task, scope: &Scope<'_>) -> Option<KindTask> {
    let kind = tasks::kind(&raw.kind)?;
    let connection = connection(desk, path, raw, kind);
    let task = settings(desk, path, raw, kind, scope);
    let retry = retry(desk, path, raw);
    let timeout = desk.duration(&path.with("timeout"), raw.timeout.as_ref()).unwrap_or(limits::TASK_TIMEOUT);
    let poll = flow::poll(desk, path, raw, scope);
    let redact = Redaction::new(redact::paths(desk, &path.with("redact"), &raw.redact));
    if task.as_ref().is_some_and(|task| !raw.redact.is_empty() && !task.may_redact()) {
        tell_kept(desk, path, raw);
    }
    Some(KindTask { kind, task: task?, connection, retry, timeout, poll, redact })
}

/// A task that keeps more than its call and its output, or keeps it elsewhere.
fn tell_kept(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task) {
    let message = format!("a `{}` task keeps more than `redact` can blank", raw.kind);
    let problem = desk.problem("spec.task", message, desk.map.key(path, "redact"));
    desk.push(problem.help("only `http_request` and `transform` have it; give this task less"));
}

fn connection(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task, kind: &TaskKind) -> Option<ConnectionName> {
    let name = raw.connection.as_ref()?;
    let here = path.with("connection");
    if !kind.connects {
        let span = desk.map.key(path, "connection");
        let message = format!("a `{}` task calls nobody, so it takes no connection", kind.name);
        let problem = desk.problem("spec.connection", message, span).help("remove the line");
        desk.push(problem);
        return None;
    }
    if let Some(known) = desk.connections
        && !known.contains(name.as_str())
    {
        let known: Vec<&str> = known.iter().map(ConnectionName::as_str).collect();
        desk.unknown("spec.unknown_connection", format!("there is no connection `{name}`"), &here, name, &known);
        return None;
    }
    desk.name(&here, ConnectionName::new(name))
}

/// The kind's own settings.
fn settings(
    desk: &mut Desk<'_>,
    path: &Path,
    raw: &raw::Task,
    kind: &TaskKind,
    scope: &Scope<'_>,
) -> Option<Box<dyn Task>> {
    let (path, with) = (path.with("with"), Value::Object(raw.with.clone()));
    let task = match (kind.parse)(&with, raw.connection.is_some()) {
        Ok(task) => task,
        Err(problems) => {
            for problem in problems {
                with_problem(desk, &path, &with, problem);
            }
            return None;
        }
    };
    for problem in desk.commands.map(|commands| task.beyond(commands)).unwrap_or_default() {
        with_problem(desk, &path, &with, problem);
    }
    if let Some(name) = task.starts() {
        let given = with.get("inputs").and_then(Value::as_object).cloned().unwrap_or_default();
        let callees = desk.callees;
        route::workflow(desk, &path, name.as_str(), callees);
        route::check_inputs(desk, &path, &given, name.as_str(), callees);
    }
    desk.channels_of(&path, &with, &*task);
    for (pointer, name) in task.databases() {
        let (place, _) = below(&path, &with, pointer);
        match desk.databases.map(|known| (known, known.get(name))) {
            Some((known, None)) => {
                let known: Vec<&str> = known.keys().map(String::as_str).collect();
                desk.unknown("sql.database", format!("there is no database `{name}`"), &place, name, &known);
            }
            Some((_, Some(false))) if task.loads() => {
                let problem = desk.at("spec.later", sql::NO_LOAD, &place);
                desk.push(problem.help(sql::NO_LOAD_HELP));
            }
            _ => {}
        }
    }
    if let Some((name, wants_link)) = task.blob_place() {
        match desk.blobs.map(|known| (known, known.get(name))) {
            Some((known, None)) => {
                let known: Vec<&str> = known.keys().map(String::as_str).collect();
                let (place, _) = below(&path, &with, "/place");
                desk.unknown("blob.place", format!("there is no place `{name}`"), &place, name, &known);
            }
            Some((_, Some(false))) if wants_link => {
                let message = format!("the place `{name}` gives no links: a shared access signature signs nothing");
                let problem = WithProblem::new("/link", message);
                let help = "let the place use the identity (no `sas`), or the `key` of the account";
                with_problem(desk, &path, &with, problem.help(help));
            }
            _ => {}
        }
    }
    desk.places(&path, &with, &task.names(), scope);
    desk.places(&path, &with, &task.of_answer(), &Scope { response: true, ..*scope });
    let secrets = task.secrets();
    let declared: Vec<&str> = secrets.iter().map(|(pointer, _)| pointer.as_str()).collect();
    desk.no_secrets(&path, &with, &declared);
    for (pointer, reference) in &secrets {
        let (place, _) = below(&path, &with, pointer);
        desk.uses_secret(&place.with("secret_ref"), reference.clone());
    }
    Some(task)
}

pub(super) fn with_problem(desk: &mut Desk<'_>, path: &Path, with: &Value, problem: WithProblem) {
    let WithProblem { pointer, range, message, help } = problem;
    if pointer.is_empty() {
        // Something about the whole: the key shows where better than all of its lines.
        let mut problem = desk.problem("spec.task", message, desk.map.entry(path));
        problem.help = help;
        return desk.push(problem);
    }
    let code = if range.is_some() { "spec.expression" } else { "spec.task" };
    let span = desk.blame(path, with, &pointer, range.as_ref());
    desk.told(code, message, span, help);
}

fn retry(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task) -> RetryPolicy {
    let default = RetryPolicy::default();
    let delay = desk.duration(&path.with("retry_delay"), raw.retry_delay.as_ref()).unwrap_or(default.delay);
    let longest = desk.duration(&path.with("max_retry_delay"), raw.max_retry_delay.as_ref());
    if let Some(longest) = longest.filter(|longest| *longest < delay) {
        shorter(desk, path, delay, longest);
    }
    let given = [
        ("retry_delay", raw.retry_delay.is_some()),
        ("retry_backoff", raw.retry_backoff.is_some()),
        ("max_retry_delay", raw.max_retry_delay.is_some()),
        ("retry_on", raw.retry_on.is_some()),
        ("retry_unsafe", raw.retry_unsafe),
    ];
    if raw.retry.is_none_or(|retry| retry == 0)
        && let Some((key, _)) = given.iter().find(|(_, given)| *given)
    {
        let message = format!("`{key}` does nothing, because this task is not retried");
        let problem = desk.problem("spec.no_effect", message, desk.map.key(path, key));
        desk.push(problem.warning().help("add `retry: 3` for three more attempts, or remove the line"));
    }
    RetryPolicy {
        retries: raw.retry.unwrap_or_default(),
        delay,
        backoff: flow::backoff(raw.retry_backoff),
        // A first delay that is longer than our own bound is meant.
        delay_max: longest.unwrap_or(default.delay_max.max(delay)),
        on: raw.retry_on.as_ref().map_or(default.on, |on| on.iter().map(retry_on).collect()),
        repeat_unsafe: raw.retry_unsafe,
    }
}

fn shorter(desk: &mut Desk<'_>, path: &Path, delay: Duration, longest: Duration) {
    use crate::domain::duration::format;
    let path = path.with("max_retry_delay");
    let sentence = format!("the longest delay, `{}`, is shorter than the first, `{}`", format(longest), format(delay));
    desk.bad_value(&path, &sentence, format!("write `max_retry_delay: {}`, or more", format(delay)));
}

fn retry_on(raw: &raw::RetryOn) -> RetryOn {
    match raw {
        raw::RetryOn::Connect => RetryOn::Connect,
        raw::RetryOn::Timeout => RetryOn::Timeout,
        raw::RetryOn::Exit => RetryOn::Exit,
        raw::RetryOn::Status(status) => RetryOn::Status(*status),
        raw::RetryOn::Class(hundred) => RetryOn::StatusClass(u16::from(*hundred)),
    }
}
