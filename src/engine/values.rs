//! What expressions see: in a route, the delivery; in a workflow, inputs, tasks, state, run, slot.

use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::domain::attempt::AttemptResult;
use crate::domain::body;
use crate::domain::delivery::Delivery;
use crate::domain::event::Prepared;
use crate::domain::failure::{Class, Failure};
use crate::domain::run::{Run, TaskState};
use crate::domain::schedule::Schedule;
use crate::domain::trigger::Trigger;
use crate::expr::Context;

/// What a route's expressions see of a delivery: `headers`, `query`, `path`, `body`, `delivery`.
pub fn of_delivery(delivery: &Delivery, bytes: &[u8], at: Timestamp) -> Context {
    let mut headers = Map::new();
    for (name, value) in &delivery.headers {
        // RFC 9110 section 5.3: repeated fields read as one list.
        match headers.get_mut(name) {
            Some(Value::String(list)) => {
                list.push_str(", ");
                list.push_str(value);
            }
            _ => {
                headers.insert(name.clone(), Value::String(value.clone()));
            }
        }
    }
    let query = body::pairs(delivery.query.as_bytes());
    let content_type = headers.get("content-type").and_then(Value::as_str).unwrap_or_default();
    let body = body::read(content_type, bytes);
    Context::new()
        .with("body", body)
        .with("query", Value::Object(query))
        .with("path", Value::String(delivery.path.clone()))
        .with(
            "delivery",
            json!({
                "id": delivery.id,
                "method": delivery.method,
                "remote": delivery.remote,
                "received_at": at.to_string(),
                "verified_by": delivery.verified_by,
            }),
        )
        .with("headers", Value::Object(headers))
}

/// What a schedule's inputs see: `slot`.
pub fn of_slot(schedule: &Schedule, due: Timestamp) -> Context {
    Context::new().with("slot", slot(schedule.name.as_str(), due, Some(schedule)))
}

fn slot(name: &str, due: Timestamp, schedule: Option<&Schedule>) -> Value {
    let zone = schedule.and_then(|schedule| schedule.rule.zone()).unwrap_or(chrono_tz::UTC);
    json!({ "schedule": name, "due": due.to_string(), "local": due.to_utc().with_timezone(&zone).to_rfc3339() })
}

/// What a workflow's tasks see when the run goes on from here.
pub fn of_run(run: &Run, prepared: &Prepared) -> Context {
    let mut values = Context::new()
        .with("inputs", Value::Object(prepared.inputs.clone()))
        .with("state", Value::Object(prepared.state.clone()))
        .with("run", run_value(run));
    if let Trigger::Slot { schedule, due, .. } = &run.accepted.trigger {
        values.set("slot", slot(schedule.as_str(), *due, None));
    }
    values
}

fn run_value(run: &Run) -> Value {
    json!({
        "id": run.id,
        "workflow": run.accepted.workflow,
        "revision": run.accepted.revision,
        "trigger": run.accepted.trigger.kind(),
        "source": run.accepted.trigger.source(),
        "accepted_at": run.accepted_at.to_string(),
        "started_at": run.started_at.map(|at| at.to_string()),
    })
}

/// What `tasks.<id>` is: the output, or a note that there is none.
pub(super) fn task_value(state: &TaskState) -> Option<Value> {
    match state {
        TaskState::Succeeded { output } => Some(output.clone()),
        TaskState::Skipped => Some(skipped()),
        TaskState::Failed { failure } | TaskState::Closed { failure: Some(failure), .. } => Some(failed(failure)),
        TaskState::Closed { failure: None, .. } => Some(json!({})),
        TaskState::Again
        | TaskState::Started { .. }
        | TaskState::Retrying { .. }
        | TaskState::Paused { .. }
        | TaskState::Open(_) => None,
    }
}

/// What `tasks.<id>` is after an attempt ended for good.
pub(super) fn task_result(result: &AttemptResult) -> Option<Value> {
    match result {
        AttemptResult::Succeeded { output } => Some(output.clone()),
        AttemptResult::Failed { failure, retry_at: None } => Some(failed(failure)),
        AttemptResult::Failed { .. } | AttemptResult::Paused { .. } => None,
    }
}

/// What `tasks.<id>` is after the task was passed over.
pub(super) fn skipped() -> Value {
    json!({ "skipped": true })
}

/// What `tasks.<id>` is after a failure that the run goes on from.
pub(super) fn failed(failure: &Failure) -> Value {
    json!({ "failed": true, "failure": failure_value(failure) })
}

/// What `failure` is in a handler.
pub(super) fn failure_value(failure: &Failure) -> Value {
    let status = match failure.class {
        Class::Status(status) => Some(status),
        _ => None,
    };
    json!({
        "task": failure.task,
        "code": failure.code,
        "message": failure.message,
        "help": failure.help,
        "fault": failure.fault,
        "status": status,
        "place": failure.place,
    })
}
