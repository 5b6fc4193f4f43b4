//! `/v1/runs`: found, shown, watched, cancelled, replayed, resumed.

use actix_web::http::header::ACCEPT;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::input::{self, Empty, Reason, run_id};
use super::workflows::started;
use super::{Part, Resource, shown, stream};
use crate::domain::state::State;
use crate::domain::trigger::TriggerKind;
use crate::gateway::{Caller, Filter, Gateway, view};
use crate::http::control::Control;
use crate::http::problem::Problem;
use crate::http::query::{Query, misread, quoted};
use crate::id::{Seq, WorkflowName};

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(list_runs, show_run, run_events, cancel_run, replay_run, resume_run))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![
        Resource::at("/v1/runs").get(list_runs),
        Resource::at("/v1/runs/{id}").get(show_run),
        Resource::at("/v1/runs/{id}/events").get(run_events),
        Resource::at("/v1/runs/{id}/cancel").post(cancel_run),
        Resource::at("/v1/runs/{id}/replay").post(replay_run),
        Resource::at("/v1/runs/{id}/resume").post(resume_run),
    ]
}

/// What a list of runs can be asked for.
const FILTERS: &[&str] =
    &["workflow", "status", "trigger", "source", "since", "until", "label", "cause", "cursor", "limit"];

/// Lists runs, newest first. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/runs", tag = "runs", params(
    ("workflow" = Option<String>, Query, description = "Of this workflow"),
    ("status" = Option<String>, Query, description = "Any of these, between commas or repeated", example = "failed,waiting"),
    ("trigger" = Option<String>, Query, description = "`delivery`, `slot`, `manual`, `replay`, `parent`, `callback` or `edit`"),
    ("source" = Option<String>, Query, description = "The route, schedule, person or run behind the trigger"),
    ("since" = Option<String>, Query, description = "Accepted at or after, RFC 3339"),
    ("until" = Option<String>, Query, description = "Accepted before, RFC 3339"),
    ("label" = Option<String>, Query, description = "With this label; repeated, with each of them", example = "order=#1042"),
    ("cause" = Option<String>, Query, description = "Failed for this cause"),
    ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ("limit" = Option<u32>, Query, description = "Entries of a page, 1 to 200; 50 when left out")),
    responses((status = 200, body = view::Page<view::Run>)))]
async fn list_runs(gateway: Data<Gateway>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let filter = filter(request.query_string())?;
    Ok(shown(&gateway.runs(&caller, filter).await?))
}

fn filter(raw: &str) -> Result<Filter, Problem> {
    let query = Query::read(raw, FILTERS)?;
    let kinds = quoted(&TriggerKind::ALL.map(TriggerKind::as_str));
    Ok(Filter {
        workflow: query.parsed("workflow", "the name of a workflow", |text| WorkflowName::new(text).ok())?,
        states: states(&query)?,
        trigger: query.parsed("trigger", &format!("one of {kinds}"), TriggerKind::parse)?,
        source: query.one("source")?.map(ToOwned::to_owned),
        since: input::instant(&query, "since")?,
        until: input::instant(&query, "until")?,
        labels: query.all("label").map(label).collect::<Result<_, _>>()?,
        cause: query.one("cause")?.map(ToOwned::to_owned),
        cursor: query.parsed("cursor", "the `next` of another page", |text| text.parse().ok())?,
        limit: input::limit(&query)?,
    })
}

fn states(query: &Query<'_>) -> Result<Vec<State>, Problem> {
    let known = quoted(&State::ALL.map(State::as_str));
    let words = query.all("status").flat_map(|list| list.split(','));
    words.map(|word| State::parse(word).ok_or_else(|| misread("status", word, &format!("one of {known}")))).collect()
}

fn label(text: &str) -> Result<(String, String), Problem> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| misread("label", text, "a label and its value, such as `order=#1042`"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Shows a run with all that is on record: the delivery, every attempt, request and response. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/runs/{id}", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = view::RunDetail)))]
async fn show_run(
    gateway: Data<Gateway>,
    caller: Caller,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&gateway.run(&caller, run_id(&id)?).await?))
}

/// A run's log.
#[derive(Serialize, ToSchema)]
struct Events {
    /// Where the run stands now.
    status: String,
    items: Vec<view::Event>,
}

/// Shows a run's log, or follows it to its end as server-sent events. Scope `runs:read`.
///
/// With `Accept: text/event-stream` every event comes as it happens, its place in the log as the event's id, so that
/// `Last-Event-ID` goes on where a connection broke. The stream ends with an event `end` that holds the status.
#[utoipa::path(get, path = "/v1/runs/{id}/events", tag = "runs", params(
    ("id" = String, Path),
    ("from" = Option<u32>, Query, description = "From this place in the log on"),
    ("Last-Event-ID" = Option<u32>, Header, description = "Of a stream that broke: the last event that was seen")),
    responses((status = 200, description = "The log", content((Events = "application/json"), (String = "text/event-stream")))))]
async fn run_events(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(request.query_string(), &["from"])?;
    let from = query.parsed("from", "the place of an event in the log", |text| text.parse().ok().map(Seq))?;
    let (id, from) = (run_id(&id)?, from.unwrap_or_default());
    if wants_stream(&request) {
        let from = stream::resumed_at(&request)?.unwrap_or(from);
        return stream::follow(&gateway, &control, caller, id, from).await;
    }
    let (items, state) = gateway.events(&caller, id, from).await?;
    Ok(shown(&Events { status: state.to_string(), items }))
}

fn wants_stream(request: &HttpRequest) -> bool {
    let lists = request.headers().get_all(ACCEPT).filter_map(|list| list.to_str().ok());
    let mut kinds = lists.flat_map(|list| list.split(',')).filter_map(|kind| kind.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case(stream::MEDIA_TYPE))
}

/// Asks a run to stop. Scope `runs:write`.
#[utoipa::path(post, path = "/v1/runs/{id}/cancel", tag = "runs", params(("id" = String, Path)),
    request_body = Option<Reason>, responses((status = 200, body = view::Cancelled)))]
async fn cancel_run(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let id = run_id(&id)?;
    let body = input::json::<Reason>(&request, payload, &control).await?;
    let act = gateway.cancel(&caller, id, &body.value.reason);
    control.answers.once(&caller, &request, &body, act).await
}

/// Starts a new run with the input of an old one, on the workflow as it stands now. Scope `runs:write`.
#[utoipa::path(post, path = "/v1/runs/{id}/replay", tag = "runs", params(
    ("id" = String, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the same run")),
    responses((status = 202, body = view::Triggered)))]
async fn replay_run(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let id = run_id(&id)?;
    input::json::<Empty>(&request, payload, &control).await?;
    let key = input::idempotency_key(&request)?;
    Ok(started(&gateway.replay(&caller, id, key.as_deref()).await?))
}

/// Lets a failed or cancelled run go on from the task that failed. Scope `runs:write`.
#[utoipa::path(post, path = "/v1/runs/{id}/resume", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = view::Resumed)))]
async fn resume_run(
    gateway: Data<Gateway>,
    control: Data<Control>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let id = run_id(&id)?;
    let body = input::json::<Empty>(&request, payload, &control).await?;
    control.answers.once(&caller, &request, &body, gateway.resume(&caller, id)).await
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn filters() {
        let full = filter(
            "workflow=w&status=failed,waiting&status=queued&trigger=slot&source=s&since=2026-11-01T08:00:00%2B08:00\
             &until=2026-11-02T00:00:00Z&label=order%3D%231042&label=a=b=c&cause=http.status/erp/500&limit=200\
             &cursor=run_01k4q8zr5m2c7",
        );
        let full = full.unwrap();
        assert_eq!(full.states, [State::Failed, State::Waiting, State::Queued]);
        assert_eq!(full.labels, [("order".into(), "#1042".into()), ("a".into(), "b=c".into())]);
        assert_eq!(full.since.map(|at| at.to_string()).as_deref(), Some("2026-11-01T00:00:00.000Z"));
        assert_eq!((full.limit, full.trigger), (Some(200), Some(TriggerKind::Slot)));
        assert!(full.cursor.is_some() && full.until.is_some() && full.cause.is_some() && full.source.is_some());

        let check = |raw: &str, says: &str| {
            let problem = filter(raw).unwrap_err().to_string();
            assert!(problem.contains(says), "{raw}: {problem}");
        };
        check("statuses=failed", "no parameter `statuses`");
        check("status=", "`status` is ``");
        check("status=done", "`status` is `done`, which is not one of `queued`, `running`");
        check("trigger=cron", "one of `delivery`, `slot`, `manual`, `replay`, `parent`, `callback`, `edit`");
        check("workflow=a/b", "the name of a workflow");
        check("since=2026-11-01", "a time with a zone");
        check("label=order", "a label and its value");
        check("label=%3D1", "a label and its value");
        check("limit=0", "a number from 1 to 200");
        check("limit=201", "a number from 1 to 200");
        check("cursor=5", "the `next` of another page");
        check("workflow=a&workflow=b", "`workflow` occurs more than once");
    }

    #[test]
    fn who_wants_a_stream() {
        let check = |accept: &str, stream: bool| {
            let request = TestRequest::default().insert_header((ACCEPT, accept)).to_http_request();
            assert_eq!(wants_stream(&request), stream, "{accept}");
        };
        check("text/event-stream", true);
        check("application/json;q=0.1, Text/Event-Stream;q=1", true);
        check("*/*", false);
        check("text/*", false);
    }
}
