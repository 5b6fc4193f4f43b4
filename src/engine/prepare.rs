//! Turns a trigger into inputs: evaluated once, when the run first starts, and pinned in its log.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::lanes::Lane;
use super::{Engine, values};
use crate::domain::event::Prepared;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::input;
use crate::domain::run::Run;
use crate::domain::schedule::Overlap;
use crate::domain::trigger::Trigger;
use crate::expr;
use crate::limits;
use crate::tasks::plan::{ConcurrencyBehavior, Plan};

/// A lane, and what to do when it is full.
#[derive(Debug, Clone)]
pub(super) struct WantedLane {
    pub(super) lane: Lane,
    pub(super) behavior: ConcurrencyBehavior,
}

impl Engine {
    /// Inputs, labels and state of a run that starts for the first time.
    pub(super) async fn prepare(&self, run: &Run, plan: &Plan) -> Result<Prepared, Failure> {
        let given = self.given_inputs(run).await?;
        let inputs = input::fit(&plan.inputs, given).map_err(|misfit| inputs_failure(run, &misfit))?;
        let state = match &run.accepted.state {
            Some(state) => state.clone(),
            None => self.0.parts.store.state(&run.accepted.workflow).await.map_err(|error| {
                Failure::new(
                    "store.failed",
                    Fault::Here,
                    format!("the state of the workflow could not be read: {error}"),
                )
                .retriable(Class::Other, None)
            })?,
        };
        let mut prepared = Prepared { inputs, labels: BTreeMap::new(), state };
        prepared.labels = labels(plan, run, &prepared)?;
        Ok(prepared)
    }

    /// The inputs before they are checked: given as values, or mapped from the delivery or slot.
    pub(super) async fn given_inputs(&self, run: &Run) -> Result<Map<String, Value>, Failure> {
        if let Some(inputs) = &run.accepted.inputs {
            return Ok(inputs.clone());
        }
        let (mapped, place) = match &run.accepted.trigger {
            Trigger::Delivery { route, delivery } => {
                let plan = self.0.parts.files.route(route).await?;
                let context = values::of_delivery(delivery, &run.body, run.accepted_at);
                (plan.inputs.eval(&context), format!("route `{}`", route.name))
            }
            Trigger::Slot { schedule, revision, due, .. } => {
                let plan = self.0.parts.files.schedule(schedule, revision).await?;
                (plan.inputs.eval(&values::of_slot(&plan.schedule, *due)), format!("schedule `{schedule}`"))
            }
            Trigger::Manual { .. }
            | Trigger::Replay { .. }
            | Trigger::Parent { .. }
            | Trigger::Callback { .. }
            | Trigger::Edit { .. } => {
                return Ok(Map::new());
            }
        };
        match mapped {
            Ok(Value::Object(inputs)) => Ok(inputs),
            Ok(_) => Ok(Map::new()),
            Err(error) => Err(mapping_failure(&place, &error).at(run.accepted.trigger.source())),
        }
    }

    /// The lanes that a run must hold while it is under way.
    pub(super) fn lanes_of(&self, run: &Run, plan: &Plan, prepared: &Prepared) -> Result<Vec<WantedLane>, Failure> {
        let mut lanes = Vec::new();
        if let Some(limit) = run.accepted.route_concurrency {
            lanes.push(lane(format!("route/{}", run.accepted.trigger.source()), limit, ConcurrencyBehavior::Queue));
        }
        if let Trigger::Slot { schedule, .. } = &run.accepted.trigger {
            let overlap = self.overlap(schedule);
            if overlap == Some(Overlap::Queue) {
                lanes.push(lane(format!("schedule/{schedule}"), 1, ConcurrencyBehavior::Queue));
            }
        }
        if let Some(concurrency) = &plan.concurrency {
            let key = match &concurrency.key {
                Some(key) => {
                    let value = key.eval(&values::of_run(run, prepared));
                    print(&value.map_err(|error| mapping_failure("`concurrency.key`", &error))?)
                }
                None => String::new(),
            };
            let name = format!("workflow/{}/{key}", plan.name);
            lanes.push(lane(name, concurrency.limit.get(), concurrency.behavior));
        }
        Ok(lanes)
    }

    fn overlap(&self, schedule: &crate::id::ScheduleName) -> Option<Overlap> {
        let schedules = self.0.parts.files.schedules();
        schedules.iter().find(|plan| plan.schedule.name == *schedule).map(|plan| plan.schedule.overlap)
    }
}

fn lane(name: String, room: u32, behavior: ConcurrencyBehavior) -> WantedLane {
    WantedLane { lane: Lane { name, room: usize::try_from(room).unwrap_or(usize::MAX) }, behavior }
}

fn labels(plan: &Plan, run: &Run, prepared: &Prepared) -> Result<BTreeMap<String, String>, Failure> {
    if plan.labels.is_empty() {
        return Ok(BTreeMap::new());
    }
    let context = values::of_run(run, prepared);
    let mut labels = BTreeMap::new();
    for (name, template) in plan.labels.iter().take(limits::LABELS_MAX) {
        let value = template.eval(&context).map_err(|error| mapping_failure(&format!("label `{name}`"), &error))?;
        labels.insert(name.clone(), cut(print(&value)));
    }
    Ok(labels)
}

/// A value as a label or a key shows it.
fn print(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::LABEL_BYTES_MAX));
    text
}

fn inputs_failure(run: &Run, misfit: &input::Misfit) -> Failure {
    let fault = if run.accepted.inputs.is_some() { Fault::Sender } else { Fault::Config };
    Failure::new("inputs.misfit", fault, format!("the inputs do not fit the workflow: {misfit}"))
        .help("mend the `inputs` of the route or schedule, or those of the workflow; then resume the run")
        .at(run.accepted.trigger.source())
}

fn mapping_failure(place: &str, error: &expr::Error) -> Failure {
    let pointer = if error.pointer.is_empty() { String::new() } else { format!(" at `inputs{}`", error.pointer) };
    let help = error.help.clone().unwrap_or_else(|| "mend the expression, then resume the run".to_owned());
    Failure::new("expression.failed", Fault::Config, format!("an expression of {place}{pointer} failed: {error}"))
        .help(help)
}
