//! An answer that is read piece by piece, for what is too large to hold. There is no limit on the whole: what is
//! bounded is the time until the head is there, and the silence between two pieces.

use std::collections::VecDeque;
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
use super::response::{Glance, Reading, broken, header_pairs};
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
    /// Another place answered than the one that was asked.
    pub redirected: bool,
    /// The time up to the head of the answer.
    pub timings: Timings,
    pub body: Pieces,
}

/// A body on its way. As sent: nothing is decompressed.
#[derive(Debug)]
pub struct Pieces {
    /// What was read before anybody asked for it, in order.
    ahead: VecDeque<Bytes>,
    incoming: Incoming,
    host: String,
    idle: Duration,
}

impl Opened {
    /// The first header of this name, any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Reads the beginning of a refusal, which tells why; it is still there for whoever reads the body.
    pub(super) async fn look_into(&mut self) {
        if self.status.is_client_error() || self.status.is_server_error() {
            self.body.look_ahead(limits::REFUSAL_BYTES_MAX).await;
        }
    }

    /// What of it tells of tokens and quotas.
    pub(super) fn glance<'a>(&'a self, beginning: &'a [u8]) -> Glance<'a> {
        Glance { status: self.status, headers: &self.headers, body: beginning, redirected: self.redirected }
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
        match self.ahead.pop_front() {
            Some(piece) => Ok(Some(piece)),
            None => self.arriving().await,
        }
    }

    /// Reads about so many bytes ahead. What breaks off breaks off again for whoever reads on.
    async fn look_ahead(&mut self, bytes_max: usize) {
        while self.ahead.iter().map(Bytes::len).sum::<usize>() < bytes_max {
            let Ok(Some(piece)) = self.arriving().await else { break };
            self.ahead.push_back(piece);
        }
    }

    /// What was read ahead.
    pub(super) fn beginning(&self) -> Vec<u8> {
        self.ahead.iter().flat_map(|piece| piece.iter().copied()).collect()
    }

    async fn arriving(&mut self) -> Result<Option<Bytes>, Cause> {
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
        let ahead: u64 = self.ahead.iter().map(|piece| piece.len() as u64).sum();
        self.incoming.size_hint().exact().map(|left| left + ahead)
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
                let body = Pieces { ahead: VecDeque::new(), incoming: answer.into_body(), host: at.clone(), idle };
                let (remote, redirected) = (call.remote(), followed > 0);
                return Ok(Opened { status, headers, url: request.url, remote, redirected, timings, body });
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
