//! `/v1/reload`: reads all files again.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use utoipa::OpenApi;

use super::input::{self, Empty};
use super::{Part, Resource};
use crate::gateway::{Caller, Gateway, view};
use crate::http::control::Control;
use crate::http::problem::Problem;
use crate::http::query::Query;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(reload_files))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![Resource::at("/v1/reload").post(reload_files)]
}

/// Reads all files again and puts them in force together; when any is wrong, none. Scope `admin`.
#[utoipa::path(post, path = "/v1/reload", tag = "gateway", responses((status = 200, body = view::Reloaded)))]
async fn reload_files(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let body = input::json::<Empty>(&request, payload, &control).await?;
    control.answers.once(&caller, &request, &body, gateway.reload(&caller)).await
}
