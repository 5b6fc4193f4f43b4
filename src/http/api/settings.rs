//! `/v1/settings`: what the settings in force say, as hashes.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use utoipa::OpenApi;

use super::{Part, Resource, shown};
use crate::gateway::{Caller, Gateway, view};
use crate::http::problem::Problem;
use crate::http::query::Query;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(show_settings))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![Resource::at("/v1/settings").get(show_settings)]
}

/// Shows the hashes of what the settings in force say, key by key, and none of the values. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/settings", tag = "gateway", responses((status = 200, body = view::Settings)))]
async fn show_settings(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&gateway.settings(&caller)?))
}
