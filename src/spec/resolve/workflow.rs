//! One workflow file: from what is written to a plan.

use std::collections::HashMap;

use serde_json::Value;

use super::Callee;
use super::desk::Desk;
use super::scope::{Scope, Step, Where};
use super::task::resolve_task;
use crate::domain::input::Input;
use crate::expr::{Mapping, Template};
use crate::id::{NAME_BYTES_MAX, Revision, TaskId, WorkflowName};
use crate::limits;
use crate::spec::raw;
use crate::spec::source_map::{Path, Span};
use crate::spec::structure::{Item, WorkflowFile};
use crate::tasks::plan::{Concurrency, ConcurrencyBehavior, Plan, PlannedTask};

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
    let [main, on_failure, on_success, finally] = lists(file).map(|(list, items)| {
        let tasks = Tasks { list, items, names: &names, steps: &steps };
        tasks.resolve(desk)
    });
    let head = file.head.as_ref()?;
    let name = desk.name(&Path::root().with("name"), WorkflowName::new(&head.name));
    let before_tasks = Scope { place: Where::Head, inputs: &names, before: &[], own: "", all: &steps };
    let labels = labels(desk, head, &before_tasks);
    let concurrency = concurrency(desk, head, &before_tasks);
    let timeout = desk.duration(&Path::root().with("timeout"), head.timeout.as_ref()).unwrap_or(limits::RUN_TIMEOUT);
    let main_steps: Vec<Step<'_>> = steps.iter().filter(|step| step.list == "tasks").copied().collect();
    let after = Scope { place: Where::Task, inputs: &names, before: &main_steps, own: "", all: &steps };
    let outputs = outputs(desk, head, &after);
    let complete = main.len() == file.tasks.len() && inputs.len() == file.inputs.len();
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
        tasks: main,
        on_failure,
        on_success,
        finally,
        outputs,
    })
}

fn lists(file: &WorkflowFile) -> [(&'static str, &[Item<raw::Task>]); 4] {
    [
        ("tasks", &file.tasks),
        ("on_failure", &file.on_failure),
        ("on_success", &file.on_success),
        ("finally", &file.finally),
    ]
}

/// Every task by its id, in the order of the file; an id that stands twice is told.
fn steps<'f>(desk: &mut Desk<'_>, file: &'f WorkflowFile) -> Vec<Step<'f>> {
    let mut first: HashMap<&str, Span> = HashMap::new();
    let mut steps = Vec::new();
    for (list, items) in lists(file) {
        for item in items {
            let Some(id) = item.text("id") else { continue };
            let span = desk.map.value(&item.path.with("id"));
            if let Some(first) = first.get(id) {
                let problem = desk.problem("spec.duplicate_name", format!("two tasks have the id `{id}`"), span);
                let problem = problem.label("again here").related(*first, "first here");
                desk.push(problem.help("give one of them another id; handlers count too"));
                continue;
            }
            first.insert(id, span);
            steps.push(Step { id, list, span });
        }
    }
    let count: usize = lists(file).iter().map(|(_, items)| items.len()).sum();
    if count > limits::TASKS_MAX {
        let message =
            format!("the workflow has {count} tasks, handlers included; at most {} are run", limits::TASKS_MAX);
        let problem = desk.problem("spec.limit", message, desk.map.key(&Path::root(), "tasks"));
        desk.push(problem.help("split it into several workflows"));
    }
    steps
}

/// One list of tasks.
struct Tasks<'f> {
    list: &'static str,
    items: &'f [Item<raw::Task>],
    names: &'f [&'f str],
    steps: &'f [Step<'f>],
}

impl Tasks<'_> {
    fn resolve(&self, desk: &mut Desk<'_>) -> Vec<PlannedTask> {
        let task = |(index, item)| {
            let id = item_id(item);
            let before = self.before(index);
            let place = match self.list {
                "tasks" => Where::Task,
                "on_success" => Where::OnSuccess,
                _ => Where::Handler,
            };
            let scope = Scope { place, inputs: self.names, before: &before, own: id, all: self.steps };
            resolve_task(desk, item, &scope)
        };
        self.items.iter().enumerate().filter_map(task).collect()
    }

    /// The tasks that have had their turn before the one at `index` of this list.
    fn before(&self, index: usize) -> Vec<Step<'_>> {
        let earlier: Vec<&str> = self.items[..index].iter().map(item_id).collect();
        let ran = |step: &&Step<'_>| match (step.list, self.list) {
            (list, own) if list == own => earlier.contains(&step.id),
            ("tasks", _) | ("on_failure" | "on_success", "finally") => true,
            _ => false,
        };
        self.steps.iter().filter(ran).copied().collect()
    }
}

fn item_id(item: &Item<raw::Task>) -> &str {
    item.text("id").unwrap_or_default()
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
