//! `/v1/audit` and `/v1/events`: who did what, and what happened to the gateway itself.

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
#[openapi(paths(list_audit, list_events))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![Resource::at("/v1/audit").get(list_audit), Resource::at("/v1/events").get(list_events)]
}

/// Lists control actions, newest first: who, what, on what, from where. Scope `admin`.
#[utoipa::path(get, path = "/v1/audit", tag = "journals", params(
    ("subject" = Option<String>, Query, description = "Done to this run, route or schedule"),
    ("what" = Option<String>, Query, description = "This action", example = "run.cancel"),
    ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ("limit" = Option<u32>, Query, description = "Entries of a page, 1 to 200; 50 when left out")),
    responses((status = 200, body = view::Page<view::JournalEntry>)))]
async fn list_audit(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::read(request.query_string(), &["subject", "what", "cursor", "limit"])?;
    let (subject, what) = (query.one("subject")?, query.one("what")?);
    let limit = input::limit(&query)?.unwrap_or(limits::PAGE_DEFAULT);
    let cursor = input::journal_cursor(&query)?;
    Ok(shown(&gateway.audit_log(&caller, subject, what, cursor, limit).await?))
}

/// Lists what happened to the gateway, newest first: starts, stops, reloads, missed slots. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/events", tag = "journals", params(
    ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ("limit" = Option<u32>, Query, description = "Entries of a page, 1 to 200; 50 when left out")),
    responses((status = 200, body = view::Page<view::JournalEntry>)))]
async fn list_events(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::read(request.query_string(), &["cursor", "limit"])?;
    let limit = input::limit(&query)?.unwrap_or(limits::PAGE_DEFAULT);
    let cursor = input::journal_cursor(&query)?;
    Ok(shown(&gateway.gateway_events(&caller, cursor, limit).await?))
}
