//! `/v1/schedules`: listed with their coming slots, paused, resumed, backfilled.

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::input::{self, Empty, INSTANT, Reason};
use super::{Part, Resource, shown};
use crate::clock::Timestamp;
use crate::gateway::{Caller, Gateway, view};
use crate::http::control::Control;
use crate::http::problem::{self, Problem};
use crate::http::query::Query;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(list_schedules, pause_schedule, resume_schedule, backfill_schedule))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![
        Resource::at("/v1/schedules").get(list_schedules),
        Resource::at("/v1/schedules/{name}/pause").post(pause_schedule),
        Resource::at("/v1/schedules/{name}/resume").post(resume_schedule),
        Resource::at("/v1/schedules/{name}/backfill").post(backfill_schedule),
    ]
}

/// All schedules in force.
#[derive(Serialize, ToSchema)]
struct Schedules {
    items: Vec<view::Schedule>,
}

/// Lists the schedules in force with their coming slots, by name. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/schedules", tag = "schedules", responses((status = 200, body = Schedules)))]
async fn list_schedules(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&Schedules { items: gateway.schedules(&caller).await? }))
}

/// Pauses a schedule: no slot is entered until it is resumed. Scope `runs:write`.
#[utoipa::path(post, path = "/v1/schedules/{name}/pause", tag = "schedules", params(("name" = String, Path)),
    request_body = Option<Reason>, responses((status = 200, body = view::Schedule)))]
async fn pause_schedule(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let body = input::json::<Reason>(&request, payload, &control).await?;
    let act = gateway.pause_schedule(&caller, &name, &body.value.reason);
    control.answers.once(&caller, &request, &body, act).await
}

/// Lets a schedule go on; what passed meanwhile is missed, and its `catchup` rules. Scope `runs:write`.
#[utoipa::path(post, path = "/v1/schedules/{name}/resume", tag = "schedules", params(("name" = String, Path)),
    responses((status = 200, body = view::Schedule)))]
async fn resume_schedule(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let body = input::json::<Empty>(&request, payload, &control).await?;
    control.answers.once(&caller, &request, &body, gateway.resume_schedule(&caller, &name)).await
}

/// Which slots to enter.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BackfillBody {
    /// From this moment on, RFC 3339.
    #[schema(example = "2026-11-01T08:00:00+08:00")]
    since: String,
    /// Before this moment, RFC 3339; up to now when left out.
    until: Option<String>,
}

/// Enters the slots of a range that were missed; the others stay as they are. Scope `runs:write`.
#[utoipa::path(post, path = "/v1/schedules/{name}/backfill", tag = "schedules", params(("name" = String, Path)),
    request_body = BackfillBody, responses((status = 200, body = view::Backfilled)))]
async fn backfill_schedule(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let body = input::json::<BackfillBody>(&request, payload, &control).await?;
    let (since, until) = range(&body.value)?;
    let act = gateway.backfill(&caller, &name, since, until);
    control.answers.once(&caller, &request, &body, act).await
}

fn range(body: &BackfillBody) -> Result<(Timestamp, Timestamp), Problem> {
    let since = instant("since", &body.since)?;
    // The gateway never goes past now.
    let until = body.until.as_deref().map_or(Ok(Timestamp::from_millis(i64::MAX)), |text| instant("until", text))?;
    if since < until { Ok((since, until)) } else { Err(Problem::new(problem::BODY, "`since` must lie before `until`")) }
}

fn instant(name: &str, text: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| Problem::new(problem::BODY, format!("`{name}` is not {INSTANT}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |since: &str, until: Option<&str>, ok: bool| {
            let body = BackfillBody { since: since.into(), until: until.map(Into::into) };
            assert_eq!(range(&body).is_ok(), ok, "{body:?}");
        };
        check("2026-11-01T08:00:00+08:00", None, true);
        check("2026-11-01T08:00:00+08:00", Some("2026-11-01T00:00:01Z"), true);
        check("2026-11-01T08:00:00+08:00", Some("2026-11-01T00:00:00Z"), false);
        check("yesterday", None, false);
        check("2026-11-01T08:00:00+08:00", Some("now"), false);
    }
}
