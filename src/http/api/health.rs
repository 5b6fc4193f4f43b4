//! What machines ask: `/healthz`, `/readyz`, `/metrics` and `/openapi.json`. They answer without credentials, except
//! that `/metrics`, which names routes and workflows, tells only this machine's own programs without the scope for it.

use actix_web::http::header::{CONTENT_TYPE, FORWARDED, HeaderName, X_FORWARDED_FOR};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::{Part, Resource, openapi, shown};
use crate::gateway::{Caller, Gateway, Scope};
use crate::http::control::Control;
use crate::http::problem::Problem;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(healthz, readyz, metrics, openapi_json))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![
        Resource::at("/healthz").get(healthz),
        Resource::at("/readyz").get(readyz),
        Resource::at("/metrics").get(metrics),
        Resource::at("/openapi.json").get(openapi_json),
    ]
}

/// The process is alive.
#[derive(Serialize, ToSchema)]
struct Alive {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Says that the process is alive, and nothing about whether it can work.
#[utoipa::path(get, path = "/healthz", tag = "gateway", security(()), responses((status = 200, body = Alive)))]
async fn healthz() -> HttpResponse {
    shown(&Alive { status: "ok" })
}

/// Work is taken.
#[derive(Serialize, ToSchema)]
struct Ready {
    #[schema(example = "ready")]
    status: &'static str,
    /// Writes that wait for the store.
    writes_queued: usize,
    /// Time of the last commit, milliseconds.
    commit_ms: u64,
    /// Bytes that the store takes on disk.
    disk_bytes: u64,
}

/// Says whether the store works and deliveries are taken; 503 when not, so that a load balancer goes elsewhere.
#[utoipa::path(get, path = "/readyz", tag = "gateway", security(()), responses((status = 200, body = Ready)))]
async fn readyz(gateway: Data<Gateway>) -> Result<HttpResponse, Problem> {
    let health = gateway.ready().await?;
    Ok(shown(&Ready {
        status: "ready",
        writes_queued: health.writes_queued,
        commit_ms: health.commit_ms,
        disk_bytes: health.disk_bytes,
    }))
}

/// Shows the metrics in Prometheus text form. Scope `runs:read`, unless this machine asks, and no proxy on it.
#[utoipa::path(get, path = "/metrics", tag = "gateway",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(control: Data<Control>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    if !is_local(&request) {
        Caller::extract(&request).await?.require(Scope::RunsRead)?;
    }
    let text = control.metrics.render();
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")).body(text))
}

/// Whether a program of this machine asks for itself: a proxy on it says for whom it asks.
fn is_local(request: &HttpRequest) -> bool {
    let marks: [HeaderName; 2] = [FORWARDED, X_FORWARDED_FOR];
    let behind_proxy = marks.iter().any(|mark| request.headers().contains_key(mark));
    request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback()) && !behind_proxy
}

/// Describes this API (OpenAPI 3.1).
#[utoipa::path(get, path = "/openapi.json", tag = "gateway", security(()), responses((status = 200, body = Object)))]
async fn openapi_json() -> HttpResponse {
    shown(&openapi())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn who_asks_for_itself() {
        let check = |peer: &str, headers: &[&'static str], local: bool| {
            let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
            for header in headers {
                request = request.insert_header((*header, "203.0.113.9"));
            }
            assert_eq!(is_local(&request.to_http_request()), local, "{peer} {headers:?}");
        };
        check("127.0.0.1:5", &[], true);
        check("[::1]:5", &[], true);
        check("[::ffff:127.0.0.1]:5", &[], true);
        check("127.0.0.1:5", &["x-forwarded-for"], false);
        check("127.0.0.1:5", &["forwarded"], false);
        check("10.0.0.1:5", &[], false);
    }
}
