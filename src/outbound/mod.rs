//! The one HTTP client of the gateway: every call that a workflow, a callback or a channel makes goes through here.
//!
//! It refuses addresses that the egress guard does not let through, answers past their cap, redirects that would
//! carry a secret away, and TLS it cannot verify. It reads no proxy from the environment, keeps no cookies and repeats
//! nothing that may have arrived, but for one thing: an idempotent request on a kept connection that turned out
//! to be closed is sent once more on another. Everything else about retries is the engine's.

/// How a connection proves who it is.
pub mod auth;
mod body;
/// Far ends that failed are left alone.
pub mod breaker;
/// How often a far end may be called.
pub mod budget;
/// One call of a workflow, with the proof of its connection.
pub mod call;
mod connect;
/// A named far end.
pub mod connection;
mod dial;
mod egress;
mod error;
mod gathered;
mod redaction;
mod redirect;
mod request;
mod response;
mod retry_after;
/// Signed calls to Amazon Web Services.
pub mod sigv4;
mod stream;
mod tls;
mod token;
mod trace;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::LOCATION;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::TokioTimer;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use body::{Body, Part};
pub use connect::{Network, Resolver, SystemResolver, Wire};
pub use dial::Dialed;
pub use egress::{Egress, Refusal};
pub use error::{Cause, Error, Phase};
pub use gathered::{Gathered, Pages};
pub use redaction::Redaction;
pub use request::{Request, Tls, parse_url};
pub use response::{Glance, Response};
pub use retry_after::retry_after;
pub use stream::{Opened, Pieces};

use crate::clock::Timestamp;
use crate::domain::failure::Sent;
use crate::domain::masking::Masker;
use crate::domain::secret::Secrets;
use crate::id::ConnectionName;
use crate::limits;
use breaker::Breakers;
use budget::Budgets;
use connect::Connector;
use request::place;
use response::{Reading, broken, header_pairs};
use tls::{MachineRoots, Trust};
use token::Tokens;
use trace::{Call, TRACE, Trace};

type Pool = legacy::Client<Connector, Full<Bytes>>;

/// Makes calls and keeps connections for the next ones. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

/// How a connection stands, as this process knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The far end wants nobody before this moment; in the past when it does not mind.
    pub paused_until: Option<Timestamp>,
    /// Calls that wait for its budgets.
    pub waiting: usize,
    /// It failed too often, and is left alone until then.
    pub open_until: Option<Timestamp>,
}

struct Inner {
    egress: Egress,
    resolver: Arc<dyn Resolver>,
    /// Stands in for the machine's network.
    network: Option<Arc<dyn Network>>,
    machine: Arc<MachineRoots>,
    /// One pool for each way to trust: a connection is only reused under the trust it was verified by.
    pools: Mutex<HashMap<Tls, Pool>>,
    tasks: Tasks,
    tokens: Tokens,
    gathered: Gathered,
    budgets: Budgets,
    breakers: Breakers,
}

impl Client {
    /// A client that resolves names as the machine does.
    pub fn new(egress: Egress) -> Self {
        Self::with_resolver(egress, Arc::new(SystemResolver))
    }

    /// A client with a resolver of its own.
    pub fn with_resolver(egress: Egress, resolver: Arc<dyn Resolver>) -> Self {
        Self::on(egress, resolver, None)
    }

    /// A client that leaves the process only through `network`: for tests of workflows.
    pub fn with_network(egress: Egress, network: Arc<dyn Network>) -> Self {
        Self::on(egress, Arc::new(SystemResolver), Some(network))
    }

    fn on(egress: Egress, resolver: Arc<dyn Resolver>, network: Option<Arc<dyn Network>>) -> Self {
        let (machine, pools) = (Arc::default(), Mutex::default());
        Self(Arc::new(Inner {
            egress,
            resolver,
            network,
            machine,
            pools,
            tasks: Tasks::default(),
            tokens: Tokens::default(),
            gathered: Gathered::default(),
            budgets: Budgets::default(),
            breakers: Breakers::default(),
        }))
    }

    /// Makes one call and reads its answer, any status. The error says whether the request may have arrived.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let mut call = Call::start();
        let mut at = place(&request.url);
        let (after, deadline) = (request.timeout, call.started() + request.timeout);
        let outcome = timeout_at(deadline, self.follow(request, &mut call, &mut at)).await;
        let cause = match outcome {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(cause)) => cause,
            Err(_) => {
                // What was handed to a connection may still go out, so this counts as sent.
                let phase = call.phase();
                let handed_over = call.link().is_some();
                call.failed(handed_over);
                Cause::Timeout { host: at.clone(), phase, after }
            }
        };
        let timings = call.timings();
        let sent = if call.sent_before() { Sent::Maybe } else { Sent::No };
        Err(Error { cause: Box::new(cause), sent, timings, remote: call.remote(), place: at })
    }

    /// Closes all connections and waits until they are gone. Calls that are under way fail.
    pub async fn close(&self) {
        self.0.tasks.stop.cancel();
        self.0.tasks.tracker.close();
        self.0.tasks.tracker.wait().await;
    }

    /// A masker that knows all secrets that were resolved so far, and the tokens that were made of them.
    pub fn known(&self, secrets: &dyn Secrets) -> Arc<Masker> {
        self.0.tokens.known(secrets.known())
    }

    /// How a connection stands at this moment.
    pub fn standing(&self, connection: &ConnectionName) -> Standing {
        let (paused_until, waiting) = self.0.budgets.standing(connection);
        Standing { paused_until, waiting, open_until: self.0.breakers.open_until(connection) }
    }

    /// Pages that tasks have read through this client so far.
    pub fn gathered(&self) -> &Gathered {
        &self.0.gathered
    }

    /// The tokens of all connections.
    fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Runs work to its end whoever waits for it, until `close`.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        hyper::rt::Executor::execute(&self.0.tasks, work);
    }

    /// Follows redirects to the last answer and reads it.
    async fn follow(&self, mut request: Request, call: &mut Call, at: &mut String) -> Result<Response, Cause> {
        let pool = self.pool(&request.tls);
        let redirects_max = request.redirects_max.min(limits::REDIRECTS_MAX);
        let mut redirects = Vec::new();
        loop {
            at.clone_from(&place(&request.url));
            let answer = exchange(&pool, &request, call).await?;
            let location = answer.headers().get(LOCATION).map(http::HeaderValue::as_bytes);
            let next = if redirects_max == 0 { None } else { redirect::follow(&request, answer.status(), location)? };
            let Some(next) = next else { return finish(&request, answer, redirects, call, at).await };
            if redirects.len() == redirects_max {
                let why = format!("it is one more than the {redirects_max} that are followed");
                return Err(Cause::Redirect { host: at.clone(), why });
            }
            // Reading a short body leaves the connection usable; a long one costs the connection.
            let reading = Reading { host: at, method: &request.method, bytes_max: limits::REDIRECT_BODY_BYTES_MAX };
            reading.read(answer).await.ok();
            redirects.push(next.url.clone());
            request = next;
        }
    }

    fn pool(&self, tls: &Tls) -> Pool {
        let mut pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(tls) {
            return pool.clone();
        }
        // Only certificates that were replaced many times get here; the pools in use are soon made again.
        if pools.len() == limits::TLS_POOLS_MAX {
            pools.clear();
        }
        let pool = self.0.new_pool(tls);
        pools.insert(tls.clone(), pool.clone());
        pool
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("egress", &self.0.egress).finish_non_exhaustive()
    }
}

impl Inner {
    fn new_pool(&self, tls: &Tls) -> Pool {
        let trust = Arc::new(Trust::new(self.machine.clone(), tls.clone()));
        let (egress, resolver, network) = (self.egress.clone(), self.resolver.clone(), self.network.clone());
        let connector = Connector { egress, resolver, trust, network };
        let head_bytes_max = u32::try_from(limits::RESPONSE_HEAD_BYTES_MAX).unwrap_or(u32::MAX);
        legacy::Client::builder(self.tasks.clone())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(limits::IDLE_TIMEOUT)
            .pool_max_idle_per_host(limits::IDLE_PER_HOST_MAX)
            .http1_max_buf_size(limits::RESPONSE_HEAD_BYTES_MAX)
            .http2_max_header_list_size(head_bytes_max)
            // Sends again only what was never handed to a connection: the pool's connection closed before.
            .retry_canceled_requests(true)
            .build(connector)
    }
}

/// The tasks that drive connections; they end with their connection, or at `close`.
#[derive(Clone, Default)]
struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }
}

/// Sends `request` as it is and returns the head of its answer. An idempotent request that a kept connection lost is
/// sent once more (RFC 9110 section 9.2.2): the far end had closed the connection while the request was on its way.
async fn exchange(pool: &Pool, request: &Request, call: &mut Call) -> Result<http::Response<Incoming>, Cause> {
    let first = try_once(pool, request, call).await;
    match first {
        Err((Cause::Lost { .. }, Reused(true))) if request.method.is_idempotent() => {
            try_once(pool, request, call).await.map_err(|(cause, _)| cause)
        }
        Err((cause, _)) => Err(cause),
        Ok(answer) => Ok(answer),
    }
}

/// Whether a try was given a connection that an earlier one had opened.
struct Reused(bool);

async fn try_once(
    pool: &Pool,
    request: &Request,
    call: &mut Call,
) -> Result<http::Response<Incoming>, (Cause, Reused)> {
    let mut wire = wire(request).map_err(|cause| (cause, Reused(false)))?;
    let trace = Arc::new(Trace::new(request.connect_timeout));
    call.attempt(trace.clone(), capture_connection(&mut wire));
    let error = match TRACE.scope(trace, pool.request(wire)).await {
        Ok(answer) => {
            call.answered();
            return Ok(answer);
        }
        Err(error) => error,
    };
    let host = place(&request.url);
    let reused = Reused(call.is_reused());
    // No connection, or one on which no byte went out before it ended: nothing can have arrived.
    let sent = !error.is_connect() && call.link().is_some_and(|link| !link.is_untouched());
    let cause = match call.take_cause() {
        Some(cause) if error.is_connect() => cause,
        _ => broken(&host, call.phase(), error),
    };
    call.failed(sent);
    Err((cause, reused))
}

fn wire(request: &Request) -> Result<http::Request<Full<Bytes>>, Cause> {
    let bad = |error: &dyn std::fmt::Display| Cause::BadUrl { url: place(&request.url), why: error.to_string() };
    let uri: http::Uri = request.url.as_str().parse().map_err(|error: http::uri::InvalidUri| bad(&error))?;
    if request.method == http::Method::CONNECT {
        return Err(bad(&"the method CONNECT opens a tunnel, which this client does not do"));
    }
    let mut wire = http::Request::new(Full::new(request.body.bytes.clone()));
    *wire.method_mut() = request.method.clone();
    *wire.uri_mut() = uri;
    *wire.headers_mut() = request.wire_headers();
    Ok(wire)
}

/// Reads the last answer.
async fn finish(
    request: &Request,
    answer: http::Response<Incoming>,
    redirects: Vec<url::Url>,
    call: &mut Call,
    host: &str,
) -> Result<Response, Cause> {
    let (status, version, headers) = (answer.status(), answer.version(), header_pairs(answer.headers()));
    let reading = Reading { host, method: &request.method, bytes_max: request.response_bytes_max };
    let body = reading.read(answer).await?;
    let timings = call.timings();
    Ok(Response { status, headers, body, version, url: request.url.clone(), redirects, timings, remote: call.remote() })
}
