//! The hooks door: takes deliveries off the wire as they are, hands them to the gateway, and says what it says. It
//! serves the paths of routes and nothing else, parses no body, and never tells a stranger which check failed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{self, Body, Budget};
use super::problem;
use super::server::{self, Door};
use super::tls::{self, ClientChain};
use crate::clock::Clock;
use crate::gateway::{Gateway, Inbound, Receipt, Refusal, RefusalKind};
use crate::id::RunId;
use crate::limits;
use crate::signature::{self, Answer, Headers};

const KIND: server::Kind = server::Kind { name: "hooks", connections_max: limits::HOOKS_CONNECTIONS_MAX };

/// Says that the delivery had come before; the rest of the answer is the same as it was then.
const DUPLICATE: HeaderName = HeaderName::from_static("clawhook-duplicate");

/// What every request needs; one for all workers.
struct Hooks {
    gateway: Gateway,
    clock: Arc<dyn Clock>,
    budget: Budget,
    requests: TaskTracker,
}

/// Binds the hooks door. It takes deliveries once it runs, and closes when `stop` says so.
pub fn open(
    settings: &server::Settings,
    gateway: Gateway,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<Door, server::Error> {
    let requests = TaskTracker::new();
    let asks: tls::Asks = {
        let gateway = gateway.clone();
        Arc::new(move || gateway.wants_client_certificates())
    };
    if matches!(settings.encryption, server::Encryption::Plain { .. }) && asks() {
        tracing::warn!(
            "routes verify with `mtls`, but the hooks door does not speak TLS: no client certificate reaches it, and every \
             delivery to them is refused; set `listen.hooks.tls`, or verify in another way behind a proxy"
        );
    }
    let hooks = Arc::new(Hooks { gateway, clock, budget: Budget::default(), requests: requests.clone() });
    server::open(KIND, settings, stop, requests, Some(asks), move |config| {
        let hooks = hooks.clone();
        // No middleware, no router: whatever comes is one call.
        config.default_service(web::to(move |request: HttpRequest, payload: web::Payload| {
            let hooks = hooks.clone();
            async move { hooks.take(&request, payload).await }
        }));
    })
}

/// Why nothing was accepted, before or behind the gateway.
enum Refused {
    Headers,
    Body(body::Error),
    Gateway(RefusalKind),
    /// In words of the platform's protocol.
    Told(Box<Answer>),
}

impl Hooks {
    async fn take(&self, request: &HttpRequest, payload: web::Payload) -> HttpResponse {
        let _in_flight = self.requests.token();
        let answer = match self.receive(request, payload).await {
            Ok(receipt) => accepted(receipt),
            Err(refused) => refuse(refused),
        };
        tracing::debug!(
            path = request.path(),
            status = answer.status().as_u16(),
            "{} {}",
            request.method(),
            request.path()
        );
        answer
    }

    async fn receive(&self, request: &HttpRequest, payload: web::Payload) -> Result<Receipt, Refused> {
        let (received_at, random) = (self.clock.now(), rand::random());
        let headers = headers(request.headers())?;
        let url = url(request);
        let inbound = |body: &Body| Inbound {
            request: signature::Inbound {
                method: request.method().as_str(),
                path: request.path(),
                query: request.query_string(),
                url: url.as_deref(),
                headers: &headers,
                body: &[],
                client_chain: request.conn_data::<ClientChain>().map_or(&[], ClientChain::certificates),
                received_at,
                random,
            },
            body: body.bytes.clone(),
            peer: request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip()),
        };
        // A body that no route wants is not read.
        let body = match self.gateway.body_bytes_max(request.path()) {
            Some(bytes_max) => match body::read(payload, request.headers(), bytes_max, &self.budget).await {
                Ok(body) => body,
                Err(error) => {
                    self.gateway.refused_at_the_door(&inbound(&Body::default()), error.code()).await;
                    return Err(Refused::Body(error));
                }
            },
            None => Body::default(),
        };
        let mut inbound = inbound(&body);
        inbound.request.body = &body.bytes;
        self.gateway
            .receive(inbound)
            .await
            .map_err(|Refusal { kind, answer, .. }| answer.map_or(Refused::Gateway(kind), Refused::Told))
    }
}

/// The headers by name, repeats in the order they came in. The server does not keep the order of different names.
fn headers(headers: &HeaderMap) -> Result<Headers<'_>, Refused> {
    let mut pairs: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > limits::HTTP_HEADER_BYTES_MAX {
        return Err(Refused::Headers);
    }
    pairs.sort_by_key(|(name, _)| *name);
    Ok(pairs.into_iter().collect())
}

/// The URL as the sender seems to know it: by its own `Host`, without what proxies add. A scheme that signs the URL
/// covers it, and a route behind a proxy sets `url`.
fn url(request: &HttpRequest) -> Option<String> {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST)?.to_str().ok()?,
    };
    let scheme = if request.app_config().secure() { "https" } else { "http" };
    let target = request.uri().path_and_query()?.as_str();
    Some([scheme, "://", host, target].concat())
}

fn accepted(receipt: Receipt) -> HttpResponse {
    match receipt {
        Receipt::Accepted { status, runs, duplicate, answer } => {
            let mut told = match answer {
                Some(answer) => own(answer),
                None => json(success(status), status, accepted_body(&runs)),
            };
            if duplicate {
                told.headers_mut().insert(DUPLICATE, HeaderValue::from_static("true"));
            }
            told
        }
        Receipt::Filtered { answer: Some(answer), .. } | Receipt::Handshake(answer) => own(answer),
        Receipt::Filtered { status, answer: None } => {
            json(success(status), status, r#"{"status":"filtered"}"#.to_owned())
        }
    }
}

/// The answer that the platform wants, to the letter.
fn own(Answer { status, content_type, body, headers }: Answer) -> HttpResponse {
    let mut answer = success(status);
    if let Some(content_type) = content_type {
        answer.insert_header((CONTENT_TYPE, HeaderValue::from_static(content_type)));
    }
    for header in headers {
        answer.insert_header(header);
    }
    answer.body(body)
}

/// The status that the route asked for; `spec` lets only successes through.
fn success(status: u16) -> HttpResponseBuilder {
    HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED))
}

fn json(mut answer: HttpResponseBuilder, status: u16, body: String) -> HttpResponse {
    // These have no content (RFC 9110, sections 15.3.5 and 15.3.6).
    if matches!(status, 204 | 205) {
        return answer.finish();
    }
    answer.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(body)
}

/// `run_id` for one run, `run_ids` for several. Ids need no escaping.
fn accepted_body(runs: &[RunId]) -> String {
    if let [run] = runs {
        return format!(r#"{{"run_id":"{run}","status":"accepted"}}"#);
    }
    let runs: Vec<_> = runs.iter().map(|run| format!("\"{run}\"")).collect();
    format!(r#"{{"run_ids":[{}],"status":"accepted"}}"#, runs.join(","))
}

/// What a stranger is told: a status and its own words, the same for every check behind it.
fn refuse(refused: Refused) -> HttpResponse {
    let store_is_busy = Duration::from_secs(u64::from(limits::RETRY_AFTER_SECS));
    let (status, retry_after) = match refused {
        Refused::Headers => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, None),
        Refused::Body(body::Error::TooLarge { .. }) | Refused::Gateway(RefusalKind::TooLarge) => {
            (StatusCode::PAYLOAD_TOO_LARGE, None)
        }
        Refused::Body(body::Error::TooSlow) => (StatusCode::REQUEST_TIMEOUT, None),
        Refused::Body(body::Error::Broken) => (StatusCode::BAD_REQUEST, None),
        Refused::Body(body::Error::Full) => (StatusCode::SERVICE_UNAVAILABLE, Some(store_is_busy)),
        Refused::Told(answer) => return own(*answer),
        Refused::Gateway(RefusalKind::NoRoute) => (StatusCode::NOT_FOUND, None),
        Refused::Gateway(RefusalKind::Unverified) => (StatusCode::UNAUTHORIZED, None),
        Refused::Gateway(RefusalKind::Address) => (StatusCode::FORBIDDEN, None),
        Refused::Gateway(RefusalKind::Rate { retry_after }) => (StatusCode::TOO_MANY_REQUESTS, Some(retry_after)),
        Refused::Gateway(RefusalKind::Unavailable { retry_after }) => {
            (StatusCode::SERVICE_UNAVAILABLE, Some(retry_after))
        }
    };
    let mut answer = HttpResponse::build(status);
    answer.insert_header((CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE)));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110, section 15.5.2 wants a challenge; this one is the same for every scheme.
        answer.insert_header((WWW_AUTHENTICATE, HeaderValue::from_static(r#"Signature realm="hooks""#)));
    }
    if let Some(wait) = retry_after {
        answer.insert_header((RETRY_AFTER, problem::whole_secs(wait)));
    }
    let title = status.canonical_reason().unwrap_or_default();
    answer.body(format!(r#"{{"type":"about:blank","title":"{title}","status":{}}}"#, status.as_u16()))
}
