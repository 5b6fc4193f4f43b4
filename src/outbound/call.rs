//! One call of a workflow, with all that its connection wants: it waits for its turn, gets its proof, goes out, and goes
//! out once more when the far end says that our token is over.

use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use super::auth::{self, Means, Proof};
use super::breaker::Pass;
use super::budget::{Handle, Permit, Take, Ticket};
use super::connection::Connection;
use super::error::{Cause, Error};
use super::request::Request;
use super::response::{Glance, Response};
use super::stream::Opened;
use crate::clock::{Clock, Timestamp};
use crate::domain::attempt::{ExchangeRequest, Pause};
use crate::domain::failure::Class;
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretValue, Secrets};
use crate::id::RunId;
use crate::limits;

/// Who calls, and what may be used for it.
#[derive(Clone, Copy)]
pub struct Caller<'c> {
    /// The far end; none for a call to a whole URL, which nobody proves or counts anything for.
    pub connection: Option<&'c Connection>,
    /// What proves this call instead of the connection's own token.
    pub stead: Option<Stead<'c>>,
    /// Runs share the budget of a connection evenly.
    pub run: RunId,
    /// Names the call in the queue of its budget: the same when it comes back.
    pub ticket: &'c str,
    pub secrets: &'c dyn Secrets,
    pub clock: &'c dyn Clock,
    /// Longest that the call may take with all its waiting.
    pub time_limit: Duration,
}

/// A token that a far end gave for a single call, and the header that it goes into.
#[derive(Debug, Clone, Copy)]
pub struct Stead<'c> {
    pub header: &'c str,
    pub token: &'c SecretValue,
}

/// How a call ended, and what was sent last.
#[derive(Debug)]
pub struct Called<A = Response> {
    pub outcome: Outcome<A>,
    /// The request as people see it; none when nothing was sent.
    pub request: Option<ExchangeRequest>,
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome<A = Response> {
    /// With an answer, any status.
    Answered(A),
    /// With the answer that the quota is used up, and it is known until when. Nothing was done.
    Throttled { response: A, at: Timestamp, place: String },
    /// Nothing was sent: it is not its turn before this moment. Its place is kept a while longer.
    Later { at: Timestamp, why: Pause },
    /// Nothing was sent: the request could not be given its proof.
    Unproved(auth::Error),
    /// Without an answer.
    Broken(Error),
}

impl Stead<'_> {
    fn put(self, request: &mut Request) -> Result<(), Cause> {
        request.headers.retain(|(there, _)| !there.as_str().eq_ignore_ascii_case(self.header));
        request.secret_header(self.header, self.token.expose())
    }
}

impl<A> From<Outcome<A>> for Called<A> {
    fn from(outcome: Outcome<A>) -> Self {
        Self { outcome, request: None }
    }
}

/// How much of its answer a call waits for.
trait Wait: Send + Sync {
    type Answer: Send;

    fn send(&self, client: &Client, request: Request) -> impl Future<Output = Result<Self::Answer, Error>> + Send;

    /// Lets `look` see what of an answer tells of tokens and quotas.
    fn see<T>(answer: &Self::Answer, look: impl FnOnce(&Glance<'_>) -> T) -> T;
}

/// All of it.
struct Whole;

impl Wait for Whole {
    type Answer = Response;

    async fn send(&self, client: &Client, request: Request) -> Result<Response, Error> {
        client.send(request).await
    }

    fn see<T>(answer: &Response, look: impl FnOnce(&Glance<'_>) -> T) -> T {
        look(&answer.glance())
    }
}

/// Its head, and the words of a refusal. Nobody waits longer for the rest than `idle` at once.
struct Head {
    idle: Duration,
}

impl Wait for Head {
    type Answer = Opened;

    async fn send(&self, client: &Client, request: Request) -> Result<Opened, Error> {
        let mut opened = client.open(request, self.idle).await?;
        opened.look_into().await;
        Ok(opened)
    }

    fn see<T>(answer: &Opened, look: impl FnOnce(&Glance<'_>) -> T) -> T {
        look(&answer.glance(&answer.body.beginning()))
    }
}

impl Client {
    /// Makes a call. The masker knows every secret of it afterwards.
    pub async fn call(&self, caller: &Caller<'_>, request: Request, masker: &mut Masker) -> Called {
        self.make(&Whole, caller, request, masker).await
    }

    /// Makes a call whose answer is read piece by piece. What it counts for, it counts for by its head: a body that
    /// breaks off later is no failure for the breaker, and holds nobody else up.
    pub async fn call_open(
        &self,
        caller: &Caller<'_>,
        request: Request,
        idle: Duration,
        masker: &mut Masker,
    ) -> Called<Opened> {
        self.make(&Head { idle }, caller, request, masker).await
    }

    async fn make<W: Wait>(
        &self,
        wait: &W,
        caller: &Caller<'_>,
        request: Request,
        masker: &mut Masker,
    ) -> Called<W::Answer> {
        let Some(connection) = caller.connection else { return self.plainly(wait, caller, request, masker).await };
        let started = Instant::now();
        let path = connection.base_url.behind(&request.url);
        let budget = self.0.budgets.of(&connection.name, &connection.rate_limit, &request.method, path);
        let mut means = Means { client: self, secrets: caller.secrets, clock: caller.clock, refused: None };
        loop {
            let pass = match self.pass(connection, caller.clock.now()) {
                Ok(pass) => pass,
                Err(at) => {
                    return Outcome::Later { at, why: Pause::Open { place: connection.name.to_string() } }.into();
                }
            };
            let mut proved = request.clone();
            let proof = match connection.prove(&mut proved, &means, masker).await {
                Ok(proof) => proof,
                Err(error) => return Outcome::Unproved(error).into(),
            };
            let proof = match caller.stead {
                None => proof,
                Some(stead) => match stead.put(&mut proved) {
                    Ok(()) => Proof::Fixed,
                    Err(cause) => return Outcome::Unproved(cause.into()).into(),
                },
            };
            let permit = match turn(&budget, caller, started).await {
                Ok(permit) => permit,
                Err(at) => {
                    metrics::counter!("clawhook_quota_waits_total", "place" => budget.place.clone()).increment(1);
                    return Outcome::Later { at, why: Pause::Quota { place: budget.place } }.into();
                }
            };
            proved.timeout = proved.timeout.min(caller.time_limit.saturating_sub(started.elapsed()));
            let record = Some(proved.record(masker));
            let sent = wait.send(self, proved).await;
            let now = caller.clock.now();
            if let Some(pass) = pass {
                pass.ended(is_there::<W>(&sent), now);
            }
            let response = match sent {
                Ok(response) => response,
                Err(error) => return Called { outcome: Outcome::Broken(error), request: record },
            };
            let over = |answer: &Glance<'_>| connection.auth.as_ref().is_some_and(|auth| auth.is_refusal(answer));
            let (throttled, refused, redirected) =
                W::see(&response, |answer| (budget.told(answer, now), over(answer), answer.redirected));
            drop(permit);
            let replaces =
                |token, means: &Means<'_>| connection.auth.as_ref().is_some_and(|auth| auth.may_replace(token, means));
            // Another place answered: the call was taken where it was sent first, whatever is said behind the redirect.
            if redirected {
                return Called { outcome: Outcome::Answered(response), request: record };
            }
            if let Some(at) = throttled {
                let outcome = Outcome::Throttled { response, at, place: budget.place };
                return Called { outcome, request: record };
            }
            match proof {
                // What was refused for its token was not done, so it can be sent again, whatever its method.
                Proof::Token(token) if refused && means.refused.is_none() && replaces(token, &means) => {
                    means.refused = Some(token);
                }
                _ => return Called { outcome: Outcome::Answered(response), request: record },
            }
        }
    }

    /// A call that belongs to no connection.
    async fn plainly<W: Wait>(
        &self,
        wait: &W,
        caller: &Caller<'_>,
        mut request: Request,
        masker: &Masker,
    ) -> Called<W::Answer> {
        request.timeout = request.timeout.min(caller.time_limit);
        let record = Some(request.record(masker));
        let outcome = match wait.send(self, request).await {
            Ok(response) => Outcome::Answered(response),
            Err(error) => Outcome::Broken(error),
        };
        Called { outcome, request: record }
    }

    /// Whether the breaker of a connection lets a call through, or when it may.
    fn pass(&self, connection: &Connection, now: Timestamp) -> Result<Option<Pass>, Timestamp> {
        let Some(settings) = connection.circuit_breaker else { return Ok(None) };
        self.0.breakers.enter(&connection.name, settings, now).map(Some)
    }
}

/// Waits for the turn of a call when it is near; otherwise says when it comes.
async fn turn(budget: &Handle, caller: &Caller<'_>, started: Instant) -> Result<Permit, Timestamp> {
    let ticket = Ticket { run: caller.run, key: caller.ticket };
    // Half of the time is left for the call itself.
    let wait_max = limits::QUOTA_WAIT_MAX.min(caller.time_limit.saturating_sub(started.elapsed()) / 2);
    let patient_until = Instant::now() + wait_max;
    loop {
        let now = caller.clock.now();
        let at = match budget.take(ticket, now) {
            Take::Go(permit) => return Ok(permit),
            Take::Wait(at) => at,
        };
        let come = Instant::now() + at.since(now);
        if come > patient_until {
            return Err(at);
        }
        tokio::time::sleep_until(come).await;
    }
}

/// Whether a far end is there and well, as a breaker sees it.
fn is_there<W: Wait>(sent: &Result<W::Answer, Error>) -> bool {
    match sent {
        Ok(answer) => !W::see(answer, |answer| answer.status.is_server_error()),
        Err(error) => !matches!(error.cause.class(), Class::Connect | Class::Timeout),
    }
}
