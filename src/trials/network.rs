//! The network of a test: HTTP/1.1 over memory. Every connection ends at the exchanges of the test, whatever its host.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::call::Call;
use super::exchange::Answer;
use super::stage::{ATTEMPT, Attempt, Mishap, Reply, Stage};
use crate::limits;
use crate::outbound::{Network, Wire};
use crate::spec::raw::FaultName;

/// Serves the far ends of whatever test a connection is opened in.
#[derive(Debug, Clone, Default)]
pub(super) struct FarEnds {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl FarEnds {
    /// Ends what still serves.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[async_trait]
impl Network for FarEnds {
    async fn connect(&self, host: &str, port: u16, secure: bool) -> io::Result<Box<dyn Wire>> {
        let stage = Stage::here().ok_or_else(|| io::Error::other("there is no test here"))?;
        let attempt = ATTEMPT.try_with(Clone::clone).ok();
        let refused = |what: &Mishap| matches!(what, Mishap::Named(FaultName::Connect));
        if attempt.as_ref().is_some_and(|attempt| stage.mishap(attempt, refused).is_some()) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(limits::TRIAL_WIRE_BYTES);
        let scheme = if secure { "https" } else { "http" };
        let place = Arc::new(format!("{scheme}://{host}:{port}"));
        let serve = service_fn(move |request| answer(Arc::clone(&stage), attempt.clone(), Arc::clone(&place), request));
        // One call for each connection, so that each is known by the attempt that opened it.
        let serving = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(theirs), serve);
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            // A client that goes away, and an answer that is to break off, end here with an error: both are meant.
            let _ = stop.run_until_cancelled(serving).await;
        });
        Ok(Box::new(ours))
    }
}

type Body = BoxBody<Bytes, io::Error>;

async fn answer(
    stage: Arc<Stage>,
    attempt: Option<Attempt>,
    place: Arc<String>,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let call = read(&place, request).await?;
    match stage.take(&call, attempt.as_ref()) {
        Reply::Answer(answer) => Ok(whole(answer)),
        Reply::Silence => std::future::pending().await,
        Reply::Break => Err(io::ErrorKind::ConnectionReset.into()),
        Reply::BrokenAnswer(answer) => Ok(broken(&answer)),
    }
}

async fn read(place: &str, request: Request<Incoming>) -> io::Result<Call> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, limits::TRIAL_BODY_BYTES_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let url = Url::parse(&format!("{place}{path}")).map_err(io::Error::other)?;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok(Call { method: head.method.to_string(), url, headers, body })
}

fn head(answer: &Answer) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or(http::StatusCode::OK);
    for (name, value) in &answer.headers {
        head.headers_mut().append(name, value.clone());
    }
    head
}

fn whole(answer: Answer) -> Response<Body> {
    let head = head(&answer);
    head.map(|()| Full::new(answer.body).map_err(|never| match never {}).boxed())
}

/// Half of the answer, and then nothing.
fn broken(answer: &Answer) -> Response<Body> {
    let mut head = head(answer);
    let length = answer.body.len().max(1);
    head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let half = answer.body.slice(..answer.body.len() / 2);
    let pieces: [io::Result<Frame<Bytes>>; 2] = [Ok(Frame::data(half)), Err(io::ErrorKind::ConnectionReset.into())];
    let body: Pin<Box<dyn stream::Stream<Item = _> + Send + Sync>> = Box::pin(stream::iter(pieces));
    head.map(|()| BoxBody::new(StreamBody::new(body)))
}
