//! What the expressions of a run see: one context for the tasks outside loops, and one for each item under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::keep::Full;
use crate::domain::event::Prepared;
use crate::domain::failure::{Failure, Fault};
use crate::domain::run::{Items, Opened, Run, TaskState};
use crate::domain::step::StepId;
use crate::engine::values;
use crate::expr::{self, Context};
use crate::limits;
use crate::tasks::plan::{Plan, PlannedTask, TaskList, Work};

/// The contexts of one run. All of it is made anew from the log when the run goes on elsewhere.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    base: Context,
    /// By the item, such as `returns[3]`.
    items: HashMap<StepId, Context>,
    /// What each open loop goes over.
    lists: HashMap<StepId, Arc<Vec<Value>>>,
    /// What the loops that are through came to.
    tables: HashMap<StepId, Arc<Value>>,
    /// What tasks gave, where the log has handles only.
    full: Full,
}

impl Scopes {
    /// What a run sees that goes on from here; `full` is what its log has handles of only.
    pub(super) fn new(plan: &Plan, run: &Run, prepared: &Prepared, full: Full) -> Self {
        let mut scopes = Self { base: values::of_run(run, prepared), full, ..Self::default() };
        scopes.base.set_group("tasks");
        for list in [&plan.tasks, &plan.on_failure, &plan.on_success, &plan.finally] {
            scopes.values_of(plan, run, list, None);
        }
        scopes
    }

    /// What tasks outside loops, and the outputs, see.
    pub(super) fn base(&self) -> &Context {
        &self.base
    }

    /// Handlers see why they run.
    pub(super) fn see_failure(&mut self, failure: &Failure) {
        self.base.set("failure", values::failure_value(failure));
    }

    /// What the expressions of a step see.
    pub(super) fn of(&mut self, plan: &Plan, run: &Run, step: &StepId) -> Result<&Context, Failure> {
        let Some(item) = step.within() else { return Ok(&self.base) };
        if !self.items.contains_key(&item) {
            self.open(plan, run, &item)?;
        }
        // It was put there just now.
        Ok(self.items.get(&item).unwrap_or(&self.base))
    }

    fn open(&mut self, plan: &Plan, run: &Run, item: &StepId) -> Result<(), Failure> {
        let Some((of, index)) = item.loops().last() else { return Ok(()) };
        let list = self.list(plan, run, &of)?;
        let mut context = self.of(plan, run, &of)?.clone();
        context.set("item", list.get(index as usize).cloned().unwrap_or(Value::Null));
        context.set("index", json!(index));
        self.items.insert(item.clone(), context);
        // Nothing of an item that begins is on record yet.
        if let Some(inside) = task_of(plan, &of).and_then(inside)
            && run.tasks.contains_key(item)
        {
            self.values_of(plan, run, inside, Some(item));
        }
        Ok(())
    }

    /// What a loop goes over: the same whenever it is worked out, because all that it reads is on record.
    pub(super) fn list(&mut self, plan: &Plan, run: &Run, of: &StepId) -> Result<Arc<Vec<Value>>, Failure> {
        if let Some(list) = self.lists.get(of) {
            return Ok(Arc::clone(list));
        }
        let each = task_of(plan, of).and_then(|task| task.each.as_ref());
        let Some(each) = each else { return Ok(Arc::default()) };
        let value = each.items.eval(self.of(plan, run, of)?).map_err(|error| not_evaluated(&error))?;
        let list = match value {
            Value::Array(items) if items.len() <= limits::LOOP_ITEMS_MAX as usize => Arc::new(items),
            Value::Array(items) => return Err(too_many(items.len())),
            // What is not there is no item: APIs leave out empty lists.
            Value::Null => Arc::default(),
            other => return Err(no_list(&other)),
        };
        self.lists.insert(of.clone(), Arc::clone(&list));
        Ok(list)
    }

    /// A task gave this. Items of loops are seen in the table of their loop, not one by one.
    pub(super) fn set(&mut self, step: &StepId, value: impl Into<Arc<Value>>) {
        if step.item().is_some() {
            // It has ended, and nobody asks for what it saw.
            self.items.remove(step);
            return;
        }
        let context = match step.within() {
            Some(item) => self.items.get_mut(&item),
            None => Some(&mut self.base),
        };
        if let Some(context) = context {
            context.set_member("tasks", step.task().as_str(), value);
        }
    }

    /// A task gave this, of which the log has handles only.
    pub(super) fn set_full(&mut self, step: &StepId, value: Arc<Value>) {
        self.set(step, Arc::clone(&value));
        self.full.insert(step.clone(), value);
    }

    /// All that a step gave, when it succeeded.
    pub(super) fn output<'v>(&'v self, run: &'v Run, step: &StepId) -> Option<&'v Value> {
        let Some(TaskState::Succeeded { output }) = run.tasks.get(step).map(|record| &record.state) else {
            return None;
        };
        Some(self.full.get(step).map_or(output, |full| &**full))
    }

    /// A task was passed over, with all that is in it.
    pub(super) fn set_skipped(&mut self, step: &StepId, task: &PlannedTask) {
        self.set(step, values::skipped());
        let Some(within) = step.item().is_none().then(|| step.within()) else { return };
        for inner in inner_tasks(task) {
            self.set(&StepId::of(within.as_ref(), &inner.id), values::skipped());
        }
    }

    /// The cases of a switch that were not chosen.
    pub(super) fn set_unchosen(&mut self, step: &StepId, task: &PlannedTask, chosen: Option<u32>) {
        let within = step.within();
        for inner in unchosen(task, chosen) {
            self.set(&StepId::of(within.as_ref(), &inner.id), values::skipped());
        }
    }

    /// All that a task held has ended: what later tasks see of it.
    pub(super) fn close(&mut self, plan: &Plan, run: &Run, step: &StepId, failure: Option<&Failure>) {
        if step.item().is_some() {
            self.items.remove(step);
            return;
        }
        let value = match (&run.tasks.get(step).map(|record| &record.state), failure) {
            (Some(TaskState::Open(Opened { items: Some(items), .. })), _) => {
                let table = self.table(plan, run, step, items, failure);
                self.lists.remove(step);
                table
            }
            (_, Some(failure)) => Arc::new(values::failed(failure)),
            (_, None) => Arc::new(json!({})),
        };
        self.set(step, value);
        if let (Some(task), Some(_)) = (task_of(plan, step), failure) {
            for inner in unbegun(run, task, step.within().as_ref()) {
                self.set(&inner, values::skipped());
            }
        }
    }

    /// `{ count, succeeded, failed, skipped, items: [{ index, item, status, output | failure }], failure? }`.
    fn table(&mut self, plan: &Plan, run: &Run, of: &StepId, items: &Items, failure: Option<&Failure>) -> Arc<Value> {
        if let Some(table) = self.tables.get(of) {
            return Arc::clone(table);
        }
        let list = self.list(plan, run, of).unwrap_or_default();
        let mut counts = BTreeMap::from([("succeeded", 0), ("failed", 0), ("skipped", 0), ("not_run", 0)]);
        let mut rows = Vec::new();
        for index in 0..items.count {
            let (status, rest) = self.item(plan, run, of, index);
            let mut row = Map::from_iter([
                ("index".to_owned(), json!(index)),
                ("item".to_owned(), list.get(index as usize).cloned().unwrap_or(Value::Null)),
                ("status".to_owned(), status.into()),
            ]);
            row.extend(rest.map(|(key, value)| (key.to_owned(), value)));
            counts.entry(status).and_modify(|count| *count += 1);
            rows.push(Value::Object(row));
        }
        let mut table = json!({ "count": items.count, "items": rows });
        for (status, count) in counts.into_iter().filter(|(status, _)| *status != "not_run") {
            table[status] = json!(count);
        }
        if let Some(failure) = failure {
            table["failure"] = values::failure_value(failure);
        }
        let table = Arc::new(table);
        self.tables.insert(of.clone(), Arc::clone(&table));
        table
    }

    /// What became of one item.
    fn item(
        &mut self,
        plan: &Plan,
        run: &Run,
        of: &StepId,
        index: u32,
    ) -> (&'static str, Option<(&'static str, Value)>) {
        let item = of.at(index);
        match run.tasks.get(&item).map(|record| &record.state) {
            Some(TaskState::Succeeded { .. }) => {
                let output = self.output(run, &item).cloned();
                ("succeeded", Some(("output", output.unwrap_or_default())))
            }
            Some(TaskState::Closed { failure: None, .. }) => {
                let inside = task_of(plan, of).and_then(inside);
                let values = inside.map(|list| self.values_of(plan, run, list, Some(&item))).unwrap_or_default();
                // A loop inside may have opened it again, to look at its list.
                self.items.remove(&item);
                let output = values.into_iter().map(|(task, value)| (task, Value::clone(&value))).collect();
                ("succeeded", Some(("output", Value::Object(output))))
            }
            Some(TaskState::Failed { failure } | TaskState::Closed { failure: Some(failure), .. }) => {
                ("failed", Some(("failure", values::failure_value(failure))))
            }
            Some(TaskState::Skipped) => ("skipped", None),
            _ => ("not_run", None),
        }
    }

    /// What the tasks of a list gave, by id, as far as they have ended; what stands later in the list sees what stands
    /// before it.
    fn values_of(
        &mut self,
        plan: &Plan,
        run: &Run,
        list: &TaskList,
        within: Option<&StepId>,
    ) -> Vec<(String, Arc<Value>)> {
        let mut found = Vec::new();
        for task in &list.tasks {
            let step = StepId::of(within, &task.id);
            let Some(state) = run.tasks.get(&step).map(|record| &record.state) else { continue };
            let value = match state {
                TaskState::Closed { was: Opened { items: Some(items), .. }, failure } => {
                    Some(self.table(plan, run, &step, items, failure.as_deref()))
                }
                TaskState::Succeeded { .. } if self.full.contains_key(&step) => self.full.get(&step).cloned(),
                state => values::task_value(state).map(Arc::new),
            };
            if let Some(value) = value {
                self.set(&step, Arc::clone(&value));
                found.push((task.id.to_string(), value));
            }
            let (skipped, inside) = match state {
                _ if task.each.is_some() => continue,
                TaskState::Skipped => (inner_tasks(task).collect(), None),
                TaskState::Open(was) | TaskState::Closed { was, .. } => {
                    (unchosen(task, was.case).collect::<Vec<_>>(), chosen(task, was.case))
                }
                _ => continue,
            };
            for inner in skipped {
                let value = Arc::new(values::skipped());
                self.set(&StepId::of(within, &inner.id), Arc::clone(&value));
                found.push((inner.id.to_string(), value));
            }
            if let Some(inside) = inside {
                found.extend(self.values_of(plan, run, inside, within));
            }
            if matches!(state, TaskState::Closed { failure: Some(_), .. }) {
                for inner in unbegun(run, task, within) {
                    let value = Arc::new(values::skipped());
                    self.set(&inner, Arc::clone(&value));
                    found.push((inner.task().to_string(), value));
                }
            }
        }
        found
    }
}

/// The task of a plan by which a step is known.
pub(super) fn task_of<'p>(plan: &'p Plan, step: &StepId) -> Option<&'p PlannedTask> {
    plan.all_tasks().find(|task| task.id == *step.task())
}

/// The tasks of each item of a loop over a group.
fn inside(task: &PlannedTask) -> Option<&TaskList> {
    match &task.work {
        Work::Group(list) => Some(list),
        Work::Task(_) | Work::Switch(_) => None,
    }
}

fn chosen(task: &PlannedTask, case: Option<u32>) -> Option<&TaskList> {
    match &task.work {
        Work::Task(_) => None,
        Work::Group(list) => Some(list),
        Work::Switch(cases) => cases.get(case? as usize).map(|case| &case.list),
    }
}

fn unchosen(task: &PlannedTask, chosen: Option<u32>) -> impl Iterator<Item = &PlannedTask> {
    let cases = match &task.work {
        Work::Switch(cases) => cases.as_slice(),
        Work::Task(_) | Work::Group(_) => &[],
    };
    let other = move |place: usize| u32::try_from(place).ok() != chosen;
    cases.iter().enumerate().filter(move |(place, _)| other(*place)).flat_map(|(_, case)| case.list.all())
}

/// The tasks in a task that failed which never had their turn.
fn unbegun(run: &Run, task: &PlannedTask, within: Option<&StepId>) -> Vec<StepId> {
    let steps = inner_tasks(task).map(|inner| StepId::of(within, &inner.id));
    steps.filter(|step| !run.tasks.contains_key(step)).collect()
}

/// The tasks in a task that are known by their own names beside it.
fn inner_tasks(task: &PlannedTask) -> impl Iterator<Item = &PlannedTask> {
    let list = if task.each.is_some() { None } else { inside(task) };
    list.into_iter().flat_map(TaskList::all).chain(unchosen(task, None))
}

fn not_evaluated(error: &expr::Error) -> Failure {
    let failure = Failure::new("expression.failed", Fault::Config, format!("the list `for_each` failed: {error}"));
    failure.help(error.help.clone().unwrap_or_else(|| "mend the expression, then resume the run".to_owned()))
}

fn no_list(value: &Value) -> Failure {
    let kind = match value {
        Value::Object(_) => "an object",
        Value::String(_) => "text",
        Value::Number(_) => "a number",
        _ => "no list",
    };
    Failure::new("loop.no_list", Fault::Config, format!("`for_each` gave {kind}, and a loop goes over a list"))
        .help("give a list, such as `${{ tasks.open.body.returns }}`")
}

fn too_many(count: usize) -> Failure {
    let message = format!("`for_each` gave {count} items, and a loop takes at most {}", limits::LOOP_ITEMS_MAX);
    Failure::new("loop.too_long", Fault::Config, message)
        .help("ask for fewer at a time, or hand pages of them to another workflow")
}
