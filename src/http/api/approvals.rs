//! `/v1/approvals`: questions to people, listed, shown and decided.

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{OpenApi, ToSchema};

use super::{Part, Resource, input, shown};
use crate::domain::approval::Verdict;
use crate::gateway::{Answer, Caller, Gateway, view};
use crate::http::control::Control;
use crate::http::problem::Problem;
use crate::http::query::Query;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(list_approvals, show_approval, decide_approval))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![
        Resource::at("/v1/approvals").get(list_approvals),
        Resource::at("/v1/approvals/{id}").get(show_approval).post(decide_approval),
    ]
}

/// What a person decides.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Deciding {
    /// `approve` or `reject`.
    #[schema(value_type = String)]
    decision: Verdict,
    /// Why, for the record.
    #[serde(default)]
    comment: Option<String>,
    /// What the form asks for.
    #[serde(default)]
    #[schema(value_type = Object)]
    form: Map<String, Value>,
}

/// Lists the questions that are open. Scope `approvals`.
#[utoipa::path(get, path = "/v1/approvals", tag = "approvals",
    responses((status = 200, body = view::Page<view::Approval>)))]
async fn list_approvals(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&gateway.approvals(&caller).await?))
}

/// Shows a question, open or decided. Scope `approvals`.
#[utoipa::path(get, path = "/v1/approvals/{id}", tag = "approvals", params(("id" = String, Path)),
    responses((status = 200, body = view::Approval)))]
async fn show_approval(
    gateway: Data<Gateway>,
    caller: Caller,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&gateway.approval(&caller, &id).await?))
}

/// Decides a question. Scope `approvals`.
#[utoipa::path(post, path = "/v1/approvals/{id}", tag = "approvals", params(("id" = String, Path)),
    request_body = Deciding, responses((status = 200, body = view::Approval)))]
async fn decide_approval(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let body = input::json::<Deciding>(&request, payload, &control).await?;
    let Deciding { decision, comment, form } = &body.value;
    let answer = Answer { verdict: *decision, comment: comment.clone(), form: form.clone() };
    control.answers.once(&caller, &request, &body, gateway.decide(&caller, &id, answer)).await
}
