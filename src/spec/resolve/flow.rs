//! Tasks that hold others, and the engine words of every task that say how often it is done: `for_each` and `poll`.

use serde_json::Value;

use super::desk::Desk;
use super::list::{Around, Written, is_together, resolve_list, written};
use super::scope::Scope;
use crate::domain::retry::Backoff;
use crate::limits;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::tasks::plan::{Case, Condition, ForEach, GROUP, PARALLEL, Poll, SWITCH, Work};

/// Whether tasks of this type hold others.
pub(super) fn holds_others(kind: &str) -> bool {
    [GROUP, PARALLEL, SWITCH].contains(&kind)
}

/// The work of a `group`, `parallel` or `switch`. `None` when it is not whole; why is told.
pub(super) fn resolve_flow(
    desk: &mut Desk<'_>,
    task: &Written<'_>,
    raw: &raw::Task,
    around: &Around<'_>,
) -> Option<Work> {
    tell_what_does_nothing(desk, &task.path, raw);
    if raw.kind == SWITCH {
        return switch(desk, &task.path, raw, around).map(Work::Switch);
    }
    let Some(tasks) = &raw.tasks else {
        let message = format!("a `{}` needs the `tasks` that it holds", raw.kind);
        let problem = desk.problem("spec.task", message, desk.map.value(&task.path.with("type")));
        desk.push(problem.help("write `tasks:` with a list of tasks under it"));
        return None;
    };
    let tasks = written(&task.path.with("tasks"), tasks);
    resolve_list(desk, &tasks, around, is_together(raw)).map(Work::Group)
}

fn switch(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task, around: &Around<'_>) -> Option<Vec<Case>> {
    if raw.cases.is_none() {
        let problem = desk.problem("spec.task", "a `switch` needs `cases`", desk.map.value(&path.with("type")));
        desk.push(problem.help("write `cases:` with entries such as `{ if: \"${{ … }}\", tasks: [ … ] }`"));
        return None;
    }
    let mut cases = Vec::new();
    for (index, case) in raw.cases.iter().flatten().enumerate() {
        let path = path.with("cases").with(index);
        let condition = desk.condition(&path.with("if"), Some(&case.condition), &around.scope(&raw.id));
        let list = resolve_list(desk, &written(&path.with("tasks"), &case.tasks), around, false);
        cases.push(condition.zip(list).map(|(condition, list)| Case { condition: Some(condition), list }));
    }
    if let Some(otherwise) = &raw.otherwise {
        let list = resolve_list(desk, &written(&path.with("else"), otherwise), around, false);
        cases.push(list.map(|list| Case { condition: None, list }));
    }
    cases.into_iter().collect()
}

/// Words that a task which holds others cannot keep.
fn tell_what_does_nothing(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task) {
    let is_switch = raw.kind == SWITCH;
    let given = [
        ("connection", raw.connection.is_some()),
        ("with", !raw.with.is_empty()),
        ("retry", raw.retry.is_some()),
        ("retry_delay", raw.retry_delay.is_some()),
        ("retry_backoff", raw.retry_backoff.is_some()),
        ("max_retry_delay", raw.max_retry_delay.is_some()),
        ("retry_on", raw.retry_on.is_some()),
        ("retry_unsafe", raw.retry_unsafe),
        ("timeout", raw.timeout.is_some()),
        ("poll", raw.poll.is_some()),
        ("redact", !raw.redact.is_empty()),
        ("tasks", is_switch && raw.tasks.is_some()),
        ("for_each", is_switch && raw.for_each.is_some()),
        ("cases", !is_switch && raw.cases.is_some()),
        ("else", !is_switch && raw.otherwise.is_some()),
    ];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        let help = match key {
            "for_each" => "put the `switch` into the `tasks` of a `group` that has the loop",
            "tasks" => "put the tasks under `cases`, or under `else`",
            "cases" | "else" => "write `type: switch`, or `tasks`",
            _ => "write it at the tasks inside",
        };
        let message = format!("a `{}` holds other tasks, and takes no `{key}` itself", raw.kind);
        let problem = desk.problem("spec.task", message, desk.map.key(path, key)).help(help);
        desk.push(problem);
    }
}

/// Words that only a task which holds others can keep.
pub(super) fn tell_what_holds_nothing(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task) {
    let given = [("tasks", raw.tasks.is_some()), ("cases", raw.cases.is_some()), ("else", raw.otherwise.is_some())];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        let right = if key == "tasks" { "`type: group` or `type: parallel`" } else { "`type: switch`" };
        let message = format!("a `{}` holds no other tasks, and takes no `{key}`", raw.kind);
        let problem = desk.problem("spec.task", message, desk.map.key(path, key));
        desk.push(problem.help(format!("only {right} has it")));
    }
}

/// `for_each` and `max_parallel`; `scope` is that around the loop.
pub(super) fn for_each(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task, scope: &Scope<'_>) -> Option<ForEach> {
    let Some(raw::ItemList(list)) = &raw.for_each else {
        if raw.max_parallel.is_some() {
            let message = "`max_parallel` does nothing without `for_each`";
            let problem = desk.problem("spec.no_effect", message, desk.map.key(path, "max_parallel"));
            desk.push(problem.warning().help("add `for_each: ${{ … }}`, or remove the line"));
        }
        return None;
    };
    let here = path.with("for_each");
    if raw.kind == "stop" {
        let problem = desk.problem("spec.task", "a `stop` ends the run the first time", desk.map.key(path, "for_each"));
        desk.push(problem.help("put it into a `group` with an `if`"));
        return None;
    }
    let items = desk.mapping(&here, list, scope)?;
    let is_text = list.as_str().is_some_and(|text| !(text.trim().starts_with("${{") && text.trim().ends_with("}}")));
    if is_text {
        desk.bad_value(&here, "a loop goes over a list", "write one whole expression, such as `${{ inputs.orders }}`");
        return None;
    }
    Some(ForEach { items, parallel_max: raw.max_parallel.unwrap_or(1) })
}

/// `if`, and whether it is asked for each item.
pub(super) fn condition(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task, scope: &Scope<'_>) -> Option<Condition> {
    let expression = desk.condition(&path.with("if"), raw.condition.as_ref(), scope)?;
    let looks_at_item = |root: &String| root == "item" || root == "index";
    let of_item =
        raw.for_each.is_some() && expression.names().iter().any(|name| name.path.first().is_some_and(looks_at_item));
    Some(Condition { expression, of_item })
}

/// `poll`.
pub(super) fn poll(desk: &mut Desk<'_>, path: &Path, raw: &raw::Task, scope: &Scope<'_>) -> Option<Poll> {
    let raw = raw.poll.as_ref()?;
    let path = path.with("poll");
    let scope = Scope { response: true, ..*scope };
    let until = desk.condition(&path.with("until"), Some(&raw.until), &scope);
    let fail_if = desk.condition(&path.with("fail_if"), raw.fail_if.as_ref(), &scope);
    let interval = desk.duration(&path.with("interval"), raw.interval.as_ref()).unwrap_or(limits::POLL_INTERVAL);
    let longest = desk.duration(&path.with("max_interval"), raw.max_interval.as_ref());
    let timeout = desk.duration(&path.with("timeout"), raw.timeout.as_ref()).unwrap_or(limits::POLL_TIMEOUT);
    let backoff = backoff(raw.backoff);
    if raw.max_interval.is_some() && backoff == Backoff::Fixed {
        let message = "`max_interval` does nothing, because the pause does not grow";
        let problem = desk.problem("spec.no_effect", message, desk.map.key(&path, "max_interval"));
        desk.push(problem.warning().help("add `backoff: exponential`, or remove the line"));
    }
    Some(Poll {
        until: until?,
        fail_if,
        interval,
        backoff,
        interval_max: longest.unwrap_or(limits::POLL_INTERVAL_MAX.max(interval)),
        timeout,
    })
}

/// How a delay grows.
pub(super) fn backoff(raw: Option<raw::Backoff>) -> Backoff {
    match raw {
        None | Some(raw::Backoff::Fixed) => Backoff::Fixed,
        Some(raw::Backoff::Exponential) => Backoff::Exponential,
    }
}

/// What the schema of a file says about types that hold others: they have no settings of their own.
pub(in crate::spec) fn schemas() -> impl Iterator<Item = (String, Value)> {
    let nothing = || serde_json::json!({ "type": "object" });
    [GROUP, PARALLEL, SWITCH].into_iter().map(move |kind| (kind.to_owned(), nothing()))
}
