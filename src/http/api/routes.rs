//! `/v1/routes`: listed, paused, resumed.

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::input::{self, Empty, Reason};
use super::{Part, Resource, shown};
use crate::gateway::{Caller, Gateway, view};
use crate::http::control::Control;
use crate::http::problem::Problem;
use crate::http::query::Query;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(list_routes, pause_route, resume_route))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![
        Resource::at("/v1/routes").get(list_routes),
        Resource::at("/v1/routes/{name}/pause").post(pause_route),
        Resource::at("/v1/routes/{name}/resume").post(resume_route),
    ]
}

/// All routes in force.
#[derive(Serialize, ToSchema)]
struct Routes {
    items: Vec<view::Route>,
}

/// Lists the routes in force, by name. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", responses((status = 200, body = Routes)))]
async fn list_routes(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&Routes { items: gateway.routes(&caller)? }))
}

/// Pauses a route: it goes on accepting, and holds what it accepts. Scope `runs:write`.
#[utoipa::path(post, path = "/v1/routes/{name}/pause", tag = "routes", params(("name" = String, Path)),
    request_body = Option<Reason>, responses((status = 200, body = view::Route)))]
async fn pause_route(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let body = input::json::<Reason>(&request, payload, &control).await?;
    let act = gateway.pause_route(&caller, &name, &body.value.reason);
    control.answers.once(&caller, &request, &body, act).await
}

/// Lets a paused route go on, and with it every run that it held. Scope `runs:write`.
#[utoipa::path(post, path = "/v1/routes/{name}/resume", tag = "routes", params(("name" = String, Path)),
    responses((status = 200, body = view::RouteResumed)))]
async fn resume_route(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let body = input::json::<Empty>(&request, payload, &control).await?;
    control.answers.once(&caller, &request, &body, gateway.resume_route(&caller, &name)).await
}
