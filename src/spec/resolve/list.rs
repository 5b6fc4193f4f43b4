//! Lists of tasks: what runs after what, and who sees what which task gave.

use std::collections::BTreeSet;

use super::desk::Desk;
use super::scope::{Scope, Step, Where};
use super::task::resolve_task;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::spec::words;
use crate::tasks::plan::{PARALLEL, TaskList};

/// A task as it stands in a file.
#[derive(Debug)]
pub(super) struct Written<'f> {
    pub(super) path: Path,
    pub(super) id: &'f str,
    /// Nothing when its form is wrong.
    pub(super) raw: Option<&'f raw::Task>,
}

/// What is around a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) place: Where,
    pub(super) inputs: &'a [&'a str],
    /// Every task of the workflow.
    pub(super) all: &'a [Step<'a>],
    /// The tasks that have had their turn before any of this list.
    pub(super) before: &'a [Step<'a>],
    /// `item` and `index` are known.
    pub(super) in_loop: bool,
}

impl<'a> Around<'a> {
    /// What the task `own` can use.
    pub(super) fn scope(&self, own: &'a str) -> Scope<'a> {
        let Self { place, inputs, all, before, in_loop } = *self;
        Scope { place, inputs, before, own, all, item: in_loop, response: false }
    }
}

/// The tasks inside a task, list by list.
pub(super) fn inner_lists<'f>(task: &Written<'f>) -> Vec<Vec<Written<'f>>> {
    let Some(raw) = task.raw else { return Vec::new() };
    let listed = |path: Path, tasks: &'f [raw::Task]| written(&path, tasks);
    let cases = raw.cases.iter().flatten().enumerate();
    let of_case =
        |(place, case): (usize, &'f raw::Case)| listed(task.path.with("cases").with(place).with("tasks"), &case.tasks);
    let own = raw.tasks.iter().map(|tasks| listed(task.path.with("tasks"), tasks));
    let otherwise = raw.otherwise.iter().map(|tasks| listed(task.path.with("else"), tasks));
    own.chain(cases.map(of_case)).chain(otherwise).collect()
}

/// The tasks of a list that stands at `path`.
pub(super) fn written<'f>(path: &Path, tasks: &'f [raw::Task]) -> Vec<Written<'f>> {
    let one = |(place, raw): (usize, &'f raw::Task)| Written { path: path.with(place), id: &raw.id, raw: Some(raw) };
    tasks.iter().enumerate().map(one).collect()
}

/// Makes a list runnable; `together` when its tasks do not wait for each other. `None` when one of them is not.
pub(super) fn resolve_list(
    desk: &mut Desk<'_>,
    tasks: &[Written<'_>],
    around: &Around<'_>,
    together: bool,
) -> Option<TaskList> {
    let needs = needs(desk, tasks, together);
    let order = order(desk, tasks, &needs);
    let mut resolved = Vec::new();
    for (place, task) in tasks.iter().enumerate() {
        let mut before = around.before.to_vec();
        for earlier in ancestors(&needs, place) {
            let seen = seen_after(&tasks[earlier]);
            before.extend(around.all.iter().filter(|step| seen.contains(step.id)).copied());
        }
        resolved.push(resolve_task(desk, task, &Around { before: &before, ..*around }));
    }
    let order = order?;
    let mut place_of = vec![0; tasks.len()];
    for (now, was) in order.iter().enumerate() {
        place_of[*was] = now;
    }
    let mut resolved: Vec<_> = resolved.into_iter().map(Some).collect();
    let in_order = order.iter().map(|was| resolved[*was].take().flatten()).collect::<Option<Vec<_>>>()?;
    let by_needs = together || tasks.iter().any(|task| task.raw.is_some_and(|raw| raw.needs.is_some()));
    let needs = by_needs.then(|| {
        let moved = |was: &usize| needs[*was].iter().map(|needed| place_of[*needed]).collect();
        order.iter().map(moved).collect()
    });
    Some(TaskList { tasks: in_order, needs })
}

/// For each task, the places of those that it waits for itself.
fn needs(desk: &mut Desk<'_>, tasks: &[Written<'_>], together: bool) -> Vec<Vec<usize>> {
    let declared = tasks.iter().any(|task| task.raw.is_some_and(|raw| raw.needs.is_some()));
    if !declared {
        let before = |place: usize| if together || place == 0 { Vec::new() } else { vec![place - 1] };
        return (0..tasks.len()).map(before).collect();
    }
    let mut all = Vec::new();
    for task in tasks {
        let mut own = BTreeSet::new();
        let names = task.raw.and_then(|raw| raw.needs.as_deref()).unwrap_or_default();
        for (index, name) in names.iter().enumerate() {
            let path = task.path.with("needs").with(index);
            if name == task.id {
                desk.bad_value(&path, "a task cannot need itself", "name the tasks that must be through before it");
                continue;
            }
            let Some(place) = tasks.iter().position(|other| other.id == name) else {
                let known: Vec<_> = tasks.iter().map(|other| other.id).filter(|id| *id != task.id).collect();
                let message = format!("there is no task `{name}` in this list");
                desk.unknown("spec.name", message, &path, name, &known);
                continue;
            };
            own.insert(place);
        }
        all.push(own.into_iter().collect());
    }
    all
}

/// The places in an order in which every task stands behind those that it needs, otherwise as in the file; nothing when
/// tasks wait for each other in a ring.
fn order(desk: &mut Desk<'_>, tasks: &[Written<'_>], needs: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < tasks.len() {
        let is_next = |place: &usize| !order.contains(place) && needs[*place].iter().all(|need| order.contains(need));
        let Some(next) = (0..tasks.len()).find(is_next) else {
            let ring: Vec<_> = (0..tasks.len()).filter(|place| !order.contains(place)).collect();
            let ids: Vec<_> = ring.iter().map(|place| tasks[*place].id).collect();
            let path = tasks[ring[0]].path.with("needs");
            let sentence = format!("{} wait for each other, so none of them can begin", words::listed(&ids, "and"));
            desk.bad_value(&path, &sentence, "take one of the names out of `needs`");
            return None;
        };
        order.push(next);
    }
    Some(order)
}

/// All that a task waits for, directly or by others.
fn ancestors(needs: &[Vec<usize>], place: usize) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::new(), needs[place].clone());
    while let Some(next) = open.pop() {
        // A ring is told elsewhere.
        if next != place && found.insert(next) {
            open.extend(&needs[next]);
        }
    }
    found
}

/// The tasks whose outputs are seen once this one is through: itself, and those inside it unless it is a loop.
pub(super) fn seen_after<'f>(task: &Written<'f>) -> BTreeSet<&'f str> {
    let mut seen = BTreeSet::from([task.id]);
    if task.raw.is_some_and(|raw| raw.for_each.is_none()) {
        seen.extend(inner_lists(task).iter().flatten().flat_map(seen_after));
    }
    seen
}

/// Whether a task of this type does what it holds all at once.
pub(super) fn is_together(raw: &raw::Task) -> bool {
    raw.kind == PARALLEL
}
