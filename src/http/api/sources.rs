//! `/v1/sources`: listed, with how each stands.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::{Part, Resource, shown};
use crate::gateway::{Caller, Gateway, view};
use crate::http::problem::Problem;
use crate::http::query::Query;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(list_sources))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![Resource::at("/v1/sources").get(list_sources)]
}

/// All sources in force.
#[derive(Serialize, ToSchema)]
struct Sources {
    items: Vec<view::Source>,
}

/// Lists the sources in force, by name, as this gateway sees them. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/sources", tag = "routes", responses((status = 200, body = Sources)))]
async fn list_sources(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&Sources { items: gateway.sources(&caller)? }))
}
