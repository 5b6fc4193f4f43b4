//! `/v1/refusals`: requests that were not accepted, kept for people to look into.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use utoipa::OpenApi;

use super::{Part, Resource, input, shown};
use crate::gateway::{Caller, Gateway, view};
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::limits;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(list_refusals))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![Resource::at("/v1/refusals").get(list_refusals)]
}

/// Lists refused requests, newest first. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/refusals", tag = "journals", params(
    ("route" = Option<String>, Query, description = "Of this route, or at this path when there is no route"),
    ("cause" = Option<String>, Query, description = "Refused for this cause"),
    ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ("limit" = Option<u32>, Query, description = "Entries of a page, 1 to 200; 50 when left out")),
    responses((status = 200, body = view::Page<view::Refusal>)))]
async fn list_refusals(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::read(request.query_string(), &["route", "cause", "cursor", "limit"])?;
    let (route, cause) = (query.one("route")?, query.one("cause")?);
    let limit = input::limit(&query)?.unwrap_or(limits::PAGE_DEFAULT);
    let cursor = input::journal_cursor(&query)?;
    Ok(shown(&gateway.refusals(&caller, route, cause, cursor, limit).await?))
}
