//! An answer that is read piece by piece, for what is too large to hold. There is no limit on the whole: what is
//! bounded is the time until the head is there, and the silence between two pieces.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::{timeout, timeout_at};
use url::Url;

use super::error::{Cause, Error, Phase};
use super::request::{Request, place};
use super::response::{Reading, broken, header_pairs};
use super::trace::Call;
use super::{Client, exchange, redirect};
use crate::domain::attempt::{ExchangeResponse, Timings};
use crate::domain::failure::Sent;
use crate::domain::masking::Masker;
use crate::limits;

/// The head of an answer, and the body to come.
#[derive(Debug)]
pub struct Opened {
    pub status: StatusCode,
    /// Headers as they came; one that came twice is there twice.
    pub headers: Vec<(String, String)>,
    /// The URL that answered, after redirects.
    pub url: Url,
    pub remote: Option<SocketAddr>,
    /// The time up to the head of the answer.
    pub timings: Timings,
    pub body: Pieces,
}

/// A body on its way. As sent: nothing is decompressed.
#[derive(Debug)]
pub struct Pieces {
    incoming: Incoming,
    host: String,
    idle: Duration,
}

impl Opened {
    /// The first header of this name, any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The answer as people see it, without its body.
    pub fn record(&self, masker: &Masker) -> ExchangeResponse {
        let shown = |(name, value): &(String, String)| (name.clone(), masker.mask(value).into_owned());
        ExchangeResponse { status: self.status.as_u16(), headers: self.headers.iter().map(shown).collect(), body: None }
    }
}

impl Pieces {
    /// The next piece; none at the end. A body that ends before its announced length is an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Cause> {
        loop {
            let frame = timeout(self.idle, self.incoming.frame()).await;
            let late = |_| Cause::Timeout { host: self.host.clone(), phase: Phase::Body, after: self.idle };
            let Some(frame) = frame.map_err(late)? else { return Ok(None) };
            let frame = frame.map_err(|error| broken(&self.host, Phase::Body, error))?;
            // Trailers are not data.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The bytes that are left, when the far end said.
    pub fn announced(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// The rest, cut at `bytes_max`: the words of a refusal.
    pub async fn words(mut self, bytes_max: usize) -> Bytes {
        let mut words = Vec::new();
        while words.len() < bytes_max {
            let Ok(Some(piece)) = self.next().await else { break };
            words.extend_from_slice(&piece);
        }
        words.truncate(bytes_max);
        words.into()
    }
}

impl Client {
    /// Makes one call and answers with the head of its answer, any status. `request.timeout` bounds the way to the
    /// head; `idle` bounds each silence after it.
    pub async fn open(&self, request: Request, idle: Duration) -> Result<Opened, Error> {
        let mut call = Call::start();
        let mut at = place(&request.url);
        let (after, deadline) = (request.timeout, call.started() + request.timeout);
        let cause = match timeout_at(deadline, self.head(request, idle, &mut call, &mut at)).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(cause)) => cause,
            Err(_) => {
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

    /// Follows redirects to the last answer.
    async fn head(
        &self,
        mut request: Request,
        idle: Duration,
        call: &mut Call,
        at: &mut String,
    ) -> Result<Opened, Cause> {
        let pool = self.pool(&request.tls);
        let redirects_max = request.redirects_max.min(limits::REDIRECTS_MAX);
        let mut followed = 0;
        loop {
            at.clone_from(&place(&request.url));
            let answer = exchange(&pool, &request, call).await?;
            let location = answer.headers().get(LOCATION).map(http::HeaderValue::as_bytes);
            let next = if redirects_max == 0 { None } else { redirect::follow(&request, answer.status(), location)? };
            let Some(next) = next else {
                let (status, headers) = (answer.status(), header_pairs(answer.headers()));
                let timings = call.timings();
                let body = Pieces { incoming: answer.into_body(), host: at.clone(), idle };
                return Ok(Opened { status, headers, url: request.url, remote: call.remote(), timings, body });
            };
            if followed == redirects_max {
                let why = format!("it is one more than the {redirects_max} that are followed");
                return Err(Cause::Redirect { host: at.clone(), why });
            }
            let reading = Reading { host: at, method: &Method::GET, bytes_max: limits::REDIRECT_BODY_BYTES_MAX };
            reading.read(answer).await.ok();
            followed += 1;
            request = next;
        }
    }
}
