//! One step of a report: one call, and what follows from its answer.

use http::Method;
use serde_json::Value;

use super::mark::{At, Step, earliest};
use super::{Ask, Heard, Next, Platform, Report};
use crate::clock::Timestamp;
use crate::domain::attempt::{Exchange, Pause};
use crate::domain::body;
use crate::domain::failure::{Class, Failure, Fault, Retry, Sent};
use crate::domain::masking::Masker;
use crate::domain::retry::{Backoff, grown};
use crate::domain::secret::SecretValue;
use crate::id::SecretName;
use crate::limits;
use crate::outbound::{Body, Cause, Request, Response};
use crate::tasks::http::{Answer, Stead, send_as};
use crate::tasks::{Attempted, Done, TaskContext};

/// A step that was answered: what follows, and the call on record.
pub(super) type Answered = (Next, Option<Box<Exchange>>);

impl<P: Platform> Report<P> {
    /// One attempt.
    pub(super) async fn go(&self, ctx: &TaskContext<'_>) -> Attempted {
        let at = At::of(ctx);
        let wish = match self.platform.wish(ctx) {
            Ok(wish) => wish,
            Err(failure) => return Attempted { checkpoint: at.keep(ctx), ..Err(failure).into() },
        };
        match &at.step {
            Step::Fetch { .. } => self.fetch(ctx, &at, &wish).await,
            Step::Reason { .. } => self.reason(ctx, &at, &wish).await,
            Step::Ask | Step::Find | Step::Look { .. } | Step::Why { .. } => {
                let mut masker = Masker::over(ctx.client.known(ctx.secrets));
                match self.answered(ctx, &at, &wish, &mut masker).await {
                    Ok((next, exchange)) => {
                        let attempted = self.follow(ctx, at, next).await;
                        Attempted { exchange, ..attempted }
                    }
                    Err(attempted) => *attempted,
                }
            }
        }
    }

    /// Makes the call of a step. Without an answer that says something the attempt ends as is, and the step is to be
    /// made again.
    pub(super) async fn answered(
        &self,
        ctx: &TaskContext<'_>,
        at: &At,
        wish: &Value,
        masker: &mut Masker,
    ) -> Result<Answered, Box<Attempted>> {
        let token = match self.platform.pass(&at.step) {
            None => None,
            Some(pass) => {
                let mut found = None;
                let judge = |response: &Response, masker: &Masker| {
                    Answer::default().judge(ctx, &pass.ask.method, response, masker)?;
                    let token = read(response)[pass.member].as_str().map(str::to_owned);
                    found = Some(token.ok_or_else(|| no_token(pass.member))?);
                    Ok(Done::Output(Value::Null))
                };
                let request = request(ctx, &pass.ask).map_err(|failure| Box::new(failed(ctx, at, failure)))?;
                let attempted = send_as(ctx, ctx.connection, None, request, masker, judge).await;
                let Some(token) = found else { return Err(Box::new(again(ctx, at, attempted))) };
                let token = SecretValue::new(token);
                if let Ok(name) = SecretName::new("restricted-data-token") {
                    masker.add(&name, &token);
                }
                Some((pass.header, token))
            }
        };
        let stead = token.as_ref().map(|(header, token)| Stead { header, token });
        let ask = self.platform.ask(&at.step, wish, earliest(ctx));
        let request = request(ctx, &ask).map_err(|failure| Box::new(failed(ctx, at, failure)))?;
        let (mut found, mut over) = (None, false);
        let judge = |response: &Response, masker: &Masker| {
            let judged = Answer::default().judge(ctx, &ask.method, response, masker).map(drop);
            let heard = Heard {
                status: response.status.as_u16(),
                body: &read(response),
                wish,
                since: earliest(ctx),
                doubt: at.doubt,
                refused: at.refused,
                said: at.said.as_deref(),
                now: ctx.clock.now(),
                judged,
            };
            match self.platform.read(&at.step, &heard)? {
                Next::Failed(failure) => {
                    over = true;
                    Err(failure)
                }
                next => {
                    found = Some(next);
                    Ok(Done::Output(Value::Null))
                }
            }
        };
        let attempted = send_as(ctx, ctx.connection, stead, request, masker, judge).await;
        match (found, over) {
            (Some(next), _) => Ok((next, attempted.exchange)),
            (None, true) => Err(Box::new(lost(ctx, at, attempted))),
            (None, false) => Err(Box::new(again(ctx, at, attempted))),
        }
    }

    /// What follows from an answer.
    async fn follow(&self, ctx: &TaskContext<'_>, at: At, next: Next) -> Attempted {
        let now = ctx.clock.now();
        let id = at.step.id().to_owned();
        match next {
            Next::Taken { id } => {
                let said = format!("report {id} is asked for");
                let look = At { given_up: at.given_up, ..At::beginning(now) }.step(Step::Look { id });
                self.later(ctx, look, now.plus(self.pace.interval), said)
            }
            Next::Find { said } => {
                let find = At { said: Some(said.clone()), ..at.step(Step::Find) };
                self.later(ctx, find, now, said)
            }
            Next::Ask { after, said } => {
                // What was waited for is over; then a refusal is news again.
                let refused = if after.is_zero() && at.said.is_some() { at.refused + 1 } else { 0 };
                let ask = At { doubt: false, refused, said: None, ..at.step(Step::Ask) };
                self.later(ctx, ask, now.plus(after), said)
            }
            Next::Working { said } => {
                let pause = grown(self.pace.interval, Backoff::Exponential, at.looks, self.pace.interval_max);
                let looked = At { looks: at.looks + 1, ..at };
                self.later(ctx, looked, now.plus(pause), said)
            }
            Next::Why => self.later(ctx, at.step(Step::Why { id }), now, "it was cancelled".to_owned()),
            Next::Ready { document, partial } => {
                let fetch = At::beginning(now).step(Step::Fetch { id, document, partial });
                self.later(ctx, fetch, now, "the report is there".to_owned())
            }
            Next::Reason { document } => {
                self.later(ctx, at.step(Step::Reason { id, document }), now, "it failed".to_owned())
            }
            Next::NoData => self.nothing(ctx, &id).await,
            Next::Failed(failure) => lost(ctx, &at, Err(failure).into()),
            // Only the step that fetches is answered by a link, and it takes the link itself.
            Next::Link { .. } => self.later(ctx, at, now, "the report is there".to_owned()),
        }
    }

    /// The task goes on later, unless that is later than its patience.
    pub(super) fn later(&self, ctx: &TaskContext<'_>, at: At, when: Timestamp, said: String) -> Attempted {
        if when.since(at.since) > self.pace.timeout {
            let limit = crate::domain::duration::format(self.pace.timeout);
            let what = match at.step.id() {
                "" => "the report could not be asked for".to_owned(),
                id => format!("report {id} was not there"),
            };
            let failure = Failure::new("report.timeout", Fault::Far, format!("{what} within {limit}: {said}"))
                .help("raise `poll.timeout`, or find out why the far end takes so long; then resume the run")
                .sent(Sent::Maybe);
            return failed(ctx, &at, failure);
        }
        let result = Ok(Done::Later { at: when, why: Pause::Poll { said } });
        Attempted { result, exchange: None, checkpoint: at.keep(ctx) }
    }
}

/// The request of a call.
fn request(ctx: &TaskContext<'_>, ask: &Ask) -> Result<Request, Failure> {
    let Some(connection) = ctx.connection else {
        return Err(Failure::new("connection.unknown", Fault::Config, "a report wants a connection"));
    };
    let mut request = connection.request(ask.method.clone(), &ask.path, &ask.query).map_err(Cause::unsendable)?;
    if let Some(json) = &ask.json {
        request.body = Body::json(json);
    }
    for (name, value) in ask.headers {
        request.header(name, value.as_bytes()).map_err(Cause::unsendable)?;
    }
    if ask.method == Method::GET {
        request.response_bytes_max = limits::DOWNLOAD_LINK_BYTES_MAX;
    }
    Ok(request)
}

fn read(response: &Response) -> Value {
    body::read(response.header("content-type").unwrap_or_default(), &response.body)
}

/// The step is made again, if at all: it waits for quota, or its call failed.
pub(super) fn again(ctx: &TaskContext<'_>, at: &At, attempted: Attempted) -> Attempted {
    let mut at = at.clone();
    if let (Step::Ask, Err(failure)) = (&at.step, &attempted.result) {
        // What was refused was not taken; after anything else it may have been.
        at.doubt |= failure.sent == Sent::Maybe && !matches!(failure.class, Class::Status(400..=499));
    }
    Attempted { checkpoint: at.keep(ctx), ..attempted }
}

/// This report is lost; a retry asks for another, unless so many were lost in a row. The engine's count of retries cannot
/// hold that, because it begins anew with each answer on the way.
pub(super) fn lost(ctx: &TaskContext<'_>, at: &At, mut attempted: Attempted) -> Attempted {
    let mut anew = At::beginning(ctx.clock.now());
    if let Err(failure) = &mut attempted.result
        && failure.retry != Retry::Never
    {
        anew.given_up = at.given_up + 1;
        if anew.given_up >= limits::REPORTS_GIVEN_UP_MAX {
            failure.retry = Retry::Never;
            failure.message = format!("{} ({} reports in a row)", failure.message, anew.given_up);
            // Whoever resumes the run begins anew.
            anew.given_up = 0;
        }
    }
    Attempted { checkpoint: anew.keep(ctx), ..placed(ctx, attempted) }
}

/// An attempt that failed without a call.
pub(super) fn failed(ctx: &TaskContext<'_>, at: &At, failure: Failure) -> Attempted {
    let attempted = Attempted { result: Err(failure), exchange: None, checkpoint: at.clone().keep(ctx) };
    placed(ctx, attempted)
}

/// Names the connection where a failure has no place.
fn placed(ctx: &TaskContext<'_>, mut attempted: Attempted) -> Attempted {
    if let (Err(failure), Some(connection)) = (&mut attempted.result, ctx.connection) {
        failure.place.get_or_insert_with(|| connection.name.to_string());
    }
    attempted
}

fn no_token(member: &str) -> Failure {
    Failure::new("report.answer", Fault::Far, format!("the answer holds no `{member}`"))
        .help("look at what the application may see, and at `restricted` of the task")
        .sent(Sent::Maybe)
}
