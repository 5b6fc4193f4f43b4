//! One workflow file: from what is written to a plan.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Callee;
use super::desk::Desk;
use super::list::{Around, Written, inner_lists, resolve_list};
use super::scope::{Scope, Step, Where};
use crate::domain::duration;
use crate::domain::input::Input;
use crate::domain::state::State;
use crate::expr::{Mapping, Template};
use crate::id::{NAME_BYTES_MAX, Revision, TaskId, WorkflowName};
use crate::limits;
use crate::spec::raw;
use crate::spec::source_map::{Path, Span};
use crate::spec::structure::{Item, WorkflowFile};
use crate::tasks::plan::{Callback, Concurrency, ConcurrencyBehavior, Plan, PlannedTask, TaskList, Work};

/// What routes and schedules must know of this workflow.
pub(in crate::spec) fn callee(file: &WorkflowFile) -> Option<Callee> {
    let input = |item: &Item<raw::Input>| {
        let name = item.path.key()?.to_owned();
        let known = item.raw.as_ref().map(|raw| declared(&name, raw));
        Some((name, known))
    };
    Some(Callee { name: file.name.clone()?, inputs: file.inputs.iter().filter_map(input).collect() })
}

/// Makes a workflow runnable. `None` when it is not; why is told.
pub(in crate::spec) fn resolve_workflow(desk: &mut Desk<'_>, file: &WorkflowFile, revision: Revision) -> Option<Plan> {
    let errors = desk.errors();
    let steps = steps(desk, file);
    let names: Vec<&str> = file.inputs.iter().filter_map(|item| item.path.key()).collect();
    let inputs = inputs(desk, file);
    let [main, on_failure, on_success, finally] = lists(file).map(|(list, tasks)| {
        let before = before(list, &steps);
        let place = match list {
            "tasks" => Where::Task,
            "on_success" => Where::OnSuccess,
            _ => Where::Handler,
        };
        let around = Around { place, inputs: &names, all: &steps, before: &before, in_loop: false };
        resolve_list(desk, &tasks, &around, false)
    });
    let head = file.head.as_ref()?;
    let name = desk.name(&Path::root().with("name"), WorkflowName::new(&head.name));
    let head_around = Around { place: Where::Head, inputs: &names, all: &steps, before: &[], in_loop: false };
    let before_tasks = head_around.scope("");
    let labels = labels(desk, head, &before_tasks);
    let concurrency = concurrency(desk, head, &before_tasks);
    let timeout = desk.duration(&Path::root().with("timeout"), head.timeout.as_ref()).unwrap_or(limits::RUN_TIMEOUT);
    tell_too_patient(desk, main.as_ref(), timeout);
    let callback = callback(desk, head, &before_tasks);
    let seen = before(OUTPUTS, &steps);
    let outputs = outputs(desk, head, &Around { place: Where::Task, before: &seen, ..head_around }.scope(""));
    let complete = inputs.len() == file.inputs.len();
    if desk.errors() > errors || !complete {
        return None;
    }
    Some(Plan {
        name: name?,
        revision,
        description: head.description.clone(),
        labels,
        inputs,
        concurrency,
        timeout,
        tasks: main?,
        on_failure: on_failure?,
        on_success: on_success?,
        finally: finally?,
        callback,
        outputs,
    })
}

fn lists(file: &WorkflowFile) -> [(&'static str, Vec<Written<'_>>); 4] {
    [
        ("tasks", items(&file.tasks)),
        ("on_failure", items(&file.on_failure)),
        ("on_success", items(&file.on_success)),
        ("finally", items(&file.finally)),
    ]
}

fn items(items: &[Item<raw::Task>]) -> Vec<Written<'_>> {
    items
        .iter()
        .map(|item| Written {
            path: item.path.clone(),
            id: item.text("id").unwrap_or_default(),
            raw: item.raw.as_ref(),
        })
        .collect()
}

/// Where `outputs` stand among the lists.
const OUTPUTS: &str = "outputs";

/// The tasks that have had their turn before a list begins.
fn before<'s>(list: &str, steps: &[Step<'s>]) -> Vec<Step<'s>> {
    let ran = |step: &&Step<'_>| match (step.list, list) {
        _ if step.in_loop => false,
        ("tasks", list) => list != "tasks",
        ("on_failure" | "on_success", "finally") => true,
        _ => false,
    };
    steps.iter().filter(ran).copied().collect()
}

/// Every task by its id, those inside others included, in the order of the file; an id that stands twice is told.
fn steps<'f>(desk: &mut Desk<'_>, file: &'f WorkflowFile) -> Vec<Step<'f>> {
    let mut found = Found::default();
    for (list, tasks) in lists(file) {
        for task in &tasks {
            found.add(desk, list, task, false);
        }
    }
    if found.count > limits::TASKS_MAX {
        let (count, most) = (found.count, limits::TASKS_MAX);
        let message = format!("the workflow has {count} tasks, handlers included; at most {most} are run");
        let problem = desk.problem("spec.limit", message, desk.map.key(&Path::root(), "tasks"));
        desk.push(problem.help("split it into several workflows"));
    }
    found.steps
}

/// The tasks of a file so far.
#[derive(Default)]
struct Found<'f> {
    steps: Vec<Step<'f>>,
    first: HashMap<&'f str, Span>,
    count: usize,
}

impl<'f> Found<'f> {
    fn add(&mut self, desk: &mut Desk<'_>, list: &'static str, task: &Written<'f>, in_loop: bool) {
        self.count += 1;
        let span = desk.map.value(&task.path.with("id"));
        match self.first.get(task.id) {
            _ if task.id.is_empty() => {}
            Some(first) => {
                let problem = desk.problem("spec.duplicate_name", format!("two tasks have the id `{}`", task.id), span);
                let problem = problem.label("again here").related(*first, "first here");
                desk.push(problem.help("give one of them another id; handlers count too"));
            }
            None => {
                self.first.insert(task.id, span);
                let redact = task.raw.map(|raw| raw.redact.as_slice()).unwrap_or_default();
                let redact_in = task.raw.filter(|raw| raw.kind == "http_request").map(|_| "body");
                self.steps.push(Step { id: task.id, list, span, in_loop, redact, redact_in });
            }
        }
        let in_loop = in_loop || task.raw.is_some_and(|raw| raw.for_each.is_some());
        for inner in inner_lists(task).iter().flatten() {
            self.add(desk, list, inner, in_loop);
        }
    }
}

fn inputs(desk: &mut Desk<'_>, file: &WorkflowFile) -> Vec<Input> {
    let mut inputs = Vec::new();
    for item in &file.inputs {
        let (Some(raw), Some(name)) = (&item.raw, item.path.key()) else { continue };
        let input = declared(name, raw);
        if TaskId::new(name).is_err() {
            let message = format!("`{name}` cannot be the name of an input");
            let problem = desk.problem("spec.name", message, desk.map.entry(&item.path));
            let help =
                format!("use 1 to {NAME_BYTES_MAX} letters, digits, `_`, `-` or `.`, starting with a letter or digit");
            desk.push(problem.help(help));
        }
        check_values(desk, &item.path, &input);
        inputs.push(input);
    }
    inputs
}

fn declared(name: &str, raw: &raw::Input) -> Input {
    Input {
        name: name.to_owned(),
        of: raw.kind,
        required: raw.required,
        default: raw.default.clone().filter(|value| !value.is_null()),
        one_of: raw.allowed.clone().unwrap_or_default(),
        description: raw.description.clone(),
    }
}

/// Checks `default` and `enum` against the type and each other.
fn check_values(desk: &mut Desk<'_>, path: &Path, input: &Input) {
    let of = input.of.as_str();
    for (index, value) in input.one_of.iter().enumerate().filter(|(_, value)| !input.of.admits(value)) {
        let help = format!("write a value of type `{of}`, or change `type`");
        desk.bad_value(&path.with("enum").with(index), &format!("`{value}` is not of type `{of}`"), help);
    }
    let Some(default) = &input.default else { return };
    desk.no_secrets(&path.with("default"), default, &[]);
    let place = path.with("default");
    if !input.of.admits(default) {
        desk.bad_value(
            &place,
            &format!("`{default}` is not of type `{of}`"),
            format!("write a value of type `{of}`, or change `type`"),
        );
    } else if !input.one_of.is_empty() && !input.one_of.contains(default) {
        desk.bad_value(
            &place,
            &format!("`{default}` is not among the values of `enum`"),
            "write one of them, or add it there",
        );
    }
    if default.as_str().is_some_and(|text| text.contains("${{")) {
        let help = "put the expression where the input is given, in a route or a schedule";
        desk.bad_value(&place, "a default cannot be an expression", help);
    }
    if input.required {
        let problem =
            desk.problem("spec.no_effect", "a required input never takes its default", desk.map.key(path, "default"));
        desk.push(problem.warning().help("remove `required: true`, or the default"));
    }
}

fn labels(desk: &mut Desk<'_>, head: &raw::Workflow, scope: &Scope<'_>) -> Vec<(String, Template)> {
    let mut labels = Vec::new();
    for (name, raw::Label(text)) in &head.labels {
        let path = Path::root().with("labels").with(name.as_str());
        if TaskId::new(name).is_err() {
            let message = format!("`{name}` cannot be the name of a label");
            let problem = desk.problem("spec.name", message, desk.map.entry(&path));
            desk.push(problem.help(format!(
                "use 1 to {NAME_BYTES_MAX} letters, digits, `_`, `-` or `.`, starting with a letter or digit"
            )));
        }
        let Some(template) = desk.template(&path, text, scope) else { continue };
        if template.is_constant() && text.len() > limits::LABEL_BYTES_MAX {
            let sentence =
                format!("a label has at most {} bytes, and this has {}", limits::LABEL_BYTES_MAX, text.len());
            desk.bad_value(&path, &sentence, "write less; a description can be long");
        }
        labels.push((name.clone(), template));
    }
    labels
}

fn concurrency(desk: &mut Desk<'_>, head: &raw::Workflow, scope: &Scope<'_>) -> Option<Concurrency> {
    let raw = head.concurrency.as_ref()?;
    let path = Path::root().with("concurrency").with("key");
    let key = raw.key.as_ref().and_then(|key| desk.template(&path, key, scope));
    let behavior = match raw.behavior {
        None | Some(raw::ConcurrencyBehavior::Queue) => ConcurrencyBehavior::Queue,
        Some(raw::ConcurrencyBehavior::Skip) => ConcurrencyBehavior::Skip,
        Some(raw::ConcurrencyBehavior::CancelRunning) => ConcurrencyBehavior::CancelRunning,
    };
    Some(Concurrency { key, limit: Desk::count(Some(raw.limit))?, behavior })
}

fn outputs(desk: &mut Desk<'_>, head: &raw::Workflow, scope: &Scope<'_>) -> Vec<(String, Mapping)> {
    let path = Path::root().with("outputs");
    let output =
        |(name, value): (&String, &Value)| Some((name.clone(), desk.mapping(&path.with(name.as_str()), value, scope)?));
    head.outputs.iter().filter_map(output).collect()
}

fn callback(desk: &mut Desk<'_>, head: &raw::Workflow, scope: &Scope<'_>) -> Option<Arc<Callback>> {
    let raw = head.callback.as_ref()?;
    let path = Path::root().with("callback");
    let place = path.with("url");
    let url = desk.template(&place, &raw.url, scope)?;
    let begins_well = ["https://", "http://", "${{"].iter().any(|begin| raw.url.trim_start().starts_with(begin));
    if !begins_well {
        let sentence = format!("`{}` is not a URL", crate::spec::words::short(&raw.url));
        desk.bad_value(&place, &sentence, "write it whole, such as `https://oms.example.com/hooks/clawhook`");
    }
    let event = |event: &raw::CallbackEvent| match event {
        raw::CallbackEvent::Succeeded => State::Succeeded,
        raw::CallbackEvent::Failed => State::Failed,
        raw::CallbackEvent::Cancelled => State::Cancelled,
    };
    let events = raw.events.as_ref().map(|events| events.iter().map(event).collect());
    let sign = raw.sign.as_ref().and_then(|sign| desk.secret(&path.with("sign"), sign));
    Some(Arc::new(Callback { url, events: events.unwrap_or_else(|| vec![State::Succeeded, State::Failed]), sign }))
}

/// Tasks that may wait longer than the run.
fn tell_too_patient(desk: &mut Desk<'_>, tasks: Option<&TaskList>, timeout: Duration) {
    let patience = |task: &PlannedTask| match &task.work {
        Work::Task(work) => work.task.patience().map(|patience| (task.id.clone(), patience)),
        Work::Group(_) | Work::Switch(_) => None,
    };
    let asked = tasks.into_iter().flat_map(TaskList::all).filter_map(patience);
    let too_long = asked.filter(|(_, patience)| patience.longest >= timeout);
    let Some((id, patience)) = too_long.max_by_key(|(_, patience)| patience.longest) else { return };
    let (of, setting) = (patience.of, patience.setting);
    let (patience, limit) = (duration::format(patience.longest), duration::format(timeout));
    let message = format!("task `{id}` may wait {patience} {of}, and the run may take {limit} in all");
    let problem = desk.problem("spec.value", message, desk.map.entry(&Path::root().with("timeout")));
    desk.push(
        problem.help(format!("write a longer `timeout` at the workflow than {patience}, or a shorter `{setting}`")),
    );
}
