//! The control door: the API, health and metrics. What every request goes through stands here: whom it is addressed
//! to, that answers are not kept by anybody, and that whatever went wrong is told as a problem.

use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{Error, HttpResponse, web};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api;
use super::api::idempotency::Answers;
use super::auth::{Auth, HostNames};
use super::body::Budget;
use super::problem::{self, Problem};
use super::server::{self, Door};
use crate::gateway::Gateway;
use crate::limits;

const KIND: server::Kind = server::Kind { name: "control", connections_max: limits::CONTROL_CONNECTIONS_MAX };

/// What the control door works with.
#[derive(Debug, Clone)]
pub struct Parts {
    pub gateway: Gateway,
    pub auth: Arc<Auth>,
    /// Names under which it may be addressed.
    pub hosts: HostNames,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
}

/// What handlers share beside the gateway.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) metrics: PrometheusHandle,
    pub(super) budget: Budget,
    pub(super) answers: Answers,
    /// Room for event streams.
    pub(super) streams: Arc<Semaphore>,
    /// Event streams end when the door closes.
    pub(super) stop: CancellationToken,
    hosts: HostNames,
    requests: TaskTracker,
}

/// Binds the control door. It serves once it runs, and closes when `stop` says so. A door that lets everybody in is
/// bound to loopback addresses only.
pub fn open(settings: &server::Settings, parts: Parts, stop: CancellationToken) -> Result<Door, server::Error> {
    if parts.auth.is_open() && !settings.address.ip().is_loopback() {
        return Err(server::Error::Open(settings.address));
    }
    let requests = TaskTracker::new();
    let configure = configure(parts, stop.clone(), requests.clone());
    server::open(KIND, settings, stop, requests, None, configure)
}

/// Everything that is mounted, for the door and for tests.
fn configure(
    parts: Parts,
    stop: CancellationToken,
    requests: TaskTracker,
) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let Parts { gateway, auth, hosts, metrics } = parts;
    let streams = Arc::new(Semaphore::new(limits::EVENT_STREAMS_MAX));
    let (budget, answers) = (Budget::default(), Answers::default());
    let control = Data::new(Control { metrics, budget, answers, streams, stop, hosts, requests });
    let (gateway, auth) = (Data::new(gateway), Data::from(auth));
    move |config| {
        config.app_data(control.clone()).app_data(gateway.clone()).app_data(auth.clone());
        let everything = web::scope("").wrap(from_fn(guard)).configure(api::mount);
        config.service(everything.default_service(web::to(nothing_here)));
    }
}

async fn nothing_here() -> Result<HttpResponse, Problem> {
    let nothing = Problem::new(problem::NOT_FOUND, "there is nothing at this path");
    Err(nothing.help("`/openapi.json` lists what there is"))
}

async fn guard(
    control: Data<Control>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let _in_flight = control.requests.token();
    let answer = match control.hosts.check(request.head()) {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(problem) => request.error_response(problem),
    };
    let mut answer = told_as_problem(answer);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (method, path, status) = (answer.request().method(), answer.request().path(), answer.status().as_u16());
    tracing::debug!(path, status, "{method} {path}: {status}");
    Ok(answer)
}

/// Gives a problem the path that was asked for, and puts the server's own refusals into the same form.
fn told_as_problem(answer: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let known = answer.response().error().and_then(|error| error.as_error::<Problem>().cloned());
    let problem = match (known, answer.status()) {
        (Some(problem), _) => problem,
        (None, StatusCode::METHOD_NOT_ALLOWED) => not_allowed(answer.headers().get(ALLOW)),
        _ => return answer,
    };
    let (request, _) = answer.into_parts();
    let body = problem.answer(Some(request.path()));
    ServiceResponse::new(request, body)
}

fn not_allowed(methods: Option<&HeaderValue>) -> Problem {
    let problem = Problem::new(problem::METHOD, "this path is not for this method");
    match methods {
        Some(methods) => problem.allow(methods.clone()),
        None => problem,
    }
}
