//! `/v1/workflows`: what is in force, and starting it.

use std::time::Duration;

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{OpenApi, ToSchema};

use super::{Part, Resource, input, shown};
use crate::domain::duration;
use crate::domain::state::State;
use crate::gateway::{Caller, Gateway, Trigger, view};
use crate::http::control::Control;
use crate::http::problem::{self, Problem};
use crate::http::query::Query;
use crate::limits;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(list_workflows, show_workflow, trigger_workflow, show_state, set_state))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![
        Resource::at("/v1/workflows").get(list_workflows),
        // Before the name, which it is not.
        Resource::at("/v1/workflows/trigger").post(trigger_workflow),
        Resource::at("/v1/workflows/{name}").get(show_workflow),
        Resource::at("/v1/workflows/{name}/state").get(show_state).post(set_state),
    ]
}

/// All workflows in force.
#[derive(Serialize, ToSchema)]
struct Workflows {
    items: Vec<view::Workflow>,
}

/// Lists the workflows in force, by name. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/workflows", tag = "workflows", responses((status = 200, body = Workflows)))]
async fn list_workflows(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&Workflows { items: gateway.workflows(&caller)? }))
}

/// Shows a workflow with its text. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/workflows/{name}", tag = "workflows", params(("name" = String, Path)),
    responses((status = 200, body = view::WorkflowDetail)))]
async fn show_workflow(
    gateway: Data<Gateway>,
    caller: Caller,
    request: HttpRequest,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&gateway.workflow(&caller, &name)?))
}

/// Shows the state of a workflow. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/workflows/{name}/state", tag = "workflows", params(("name" = String, Path)),
    responses((status = 200, body = Object)))]
async fn show_state(
    gateway: Data<Gateway>,
    caller: Caller,
    request: HttpRequest,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&gateway.state(&caller, &name).await?))
}

/// Members of a state to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Setting {
    /// null removes a member; the others stay as they are.
    #[schema(value_type = Object)]
    set: Map<String, Value>,
}

/// Sets members of the state of a workflow. Scope `admin`.
#[utoipa::path(post, path = "/v1/workflows/{name}/state", tag = "workflows", params(("name" = String, Path)),
    request_body = Setting, responses((status = 200, body = view::StateSet)))]
async fn set_state(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let body = input::json::<Setting>(&request, payload, &control).await?;
    let act = gateway.set_state(&caller, &name, body.value.set.clone());
    control.answers.once(&caller, &request, &body, act).await
}

/// What to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TriggerBody {
    workflow: String,
    /// What the workflow declares under `inputs`.
    #[serde(default)]
    #[schema(value_type = Object)]
    inputs: Map<String, Value>,
    /// The same key again gives the same run; the header `Idempotency-Key` says the same.
    idempotency_key: Option<String>,
    /// Wait for the end: `true`, or how long, such as `20s`. At most a minute.
    #[schema(value_type = Option<String>, example = "20s")]
    wait: Option<Value>,
}

/// Starts a workflow. Scope `workflows:trigger`.
///
/// 202 when the run is on disk; 200 with its outputs when `wait` saw the end.
#[utoipa::path(post, path = "/v1/workflows/trigger", tag = "workflows", request_body = TriggerBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the same run")),
    responses((status = 200, body = view::Triggered, description = "It has ended"),
        (status = 202, body = view::Triggered, description = "It is accepted")))]
async fn trigger_workflow(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let body = input::json::<TriggerBody>(&request, payload, &control).await?.value;
    let trigger = Trigger {
        workflow: body.workflow,
        inputs: body.inputs,
        idempotency_key: one_key(input::idempotency_key(&request)?, body.idempotency_key.as_deref())?,
        wait: wait(body.wait.as_ref())?,
    };
    Ok(started(&gateway.trigger(&caller, trigger).await?))
}

/// 202 with the place of the run, or 200 when it has ended.
pub(super) fn started(triggered: &view::Triggered) -> HttpResponse {
    let ended = State::parse(&triggered.status).is_some_and(State::is_ended);
    let mut answer = if ended { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    answer.insert_header((LOCATION, format!("/v1/runs/{}", triggered.run_id))).json(triggered)
}

fn one_key(header: Option<String>, body: Option<&str>) -> Result<Option<String>, Problem> {
    let body = body.map(input::checked_key).transpose()?;
    match (header, body) {
        (Some(header), Some(body)) if header != body => {
            Err(Problem::new(problem::HEADER, "`Idempotency-Key` and `idempotency_key` do not say the same"))
        }
        (header, body) => Ok(header.or(body)),
    }
}

fn wait(value: Option<&Value>) -> Result<Duration, Problem> {
    let read = match value {
        None | Some(Value::Null | Value::Bool(false)) => Some(Duration::ZERO),
        Some(Value::Bool(true)) => Some(limits::TRIGGER_WAIT_MAX),
        Some(Value::Number(secs)) => secs.as_u64().map(Duration::from_secs),
        Some(Value::String(text)) => duration::parse(text).ok(),
        Some(Value::Array(_) | Value::Object(_)) => None,
    };
    read.filter(|wait| *wait <= limits::TRIGGER_WAIT_MAX).ok_or_else(|| {
        let max = duration::format(limits::TRIGGER_WAIT_MAX);
        Problem::new(problem::BODY, format!("`wait` is `true` or how long, such as `20s`, and at most {max}"))
            .help("a longer run is watched at `/v1/runs/{id}/events`")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn waits() {
        let check = |value: Value, secs: Option<u64>| {
            assert_eq!(wait(Some(&value)).ok(), secs.map(Duration::from_secs), "{value}");
        };
        check(json!(null), Some(0));
        check(json!(false), Some(0));
        check(json!(true), Some(60));
        check(json!("20s"), Some(20));
        check(json!("1m"), Some(60));
        check(json!(5), Some(5));
        check(json!("61s"), None);
        check(json!(1.5), None);
        check(json!(-1), None);
        check(json!("soon"), None);
        check(json!([]), None);
    }

    #[test]
    fn keys_in_two_places() {
        let check = |header: Option<&str>, body: Option<&str>, expected: Option<Option<&str>>| {
            let found = one_key(header.map(ToOwned::to_owned), body).ok();
            assert_eq!(found, expected.map(|key| key.map(ToOwned::to_owned)));
        };
        check(None, None, Some(None));
        check(Some("a"), None, Some(Some("a")));
        check(None, Some("a"), Some(Some("a")));
        check(Some("a"), Some("a"), Some(Some("a")));
        check(Some("a"), Some("b"), None);
        check(None, Some(""), None);
    }
}
