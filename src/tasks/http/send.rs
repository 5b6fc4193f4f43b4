//! One call of an attempt: sent with all that its connection wants, judged by the kind, and kept for people to read.

use std::time::Duration;

use super::failures::{at_connection, masked, unproved};
use crate::domain::attempt::{Exchange, Pause};
use crate::domain::failure::Failure;
use crate::domain::masking::Masker;
pub(in crate::tasks) use crate::outbound::call::Stead;
use crate::outbound::call::{Called, Caller, Outcome};
use crate::outbound::connection::Connection;
use crate::outbound::{Request, Response};
use crate::tasks::{Attempted, Done, TaskContext};

/// The client gives up this much before the engine cuts the attempt off, so that the time split is kept.
const HEADROOM: Duration = Duration::from_millis(20);

/// Who calls `connection` for an attempt.
pub(in crate::tasks) fn caller<'c>(
    ctx: &'c TaskContext<'_>,
    connection: Option<&'c Connection>,
    stead: Option<Stead<'c>>,
) -> Caller<'c> {
    Caller {
        connection,
        stead,
        run: ctx.run,
        ticket: ctx.idempotency_key,
        secrets: ctx.secrets,
        clock: ctx.clock,
        time_limit: ctx.time_limit.saturating_sub(HEADROOM),
    }
}

/// Sends `request` to the connection of the task and lets `judge` say what its answer means, which has lost what the task
/// redacts; secrets are masked in whatever comes of it. The masker that `judge` is given knows every secret of the call.
pub(in crate::tasks) async fn send(
    ctx: &TaskContext<'_>,
    request: Request,
    masker: &mut Masker,
    judge: impl FnOnce(&Response, &Masker) -> Result<Done, Failure>,
) -> Attempted {
    send_as(ctx, ctx.connection, None, request, masker, judge).await
}

/// The same to `connection`, or to nobody in particular, with another proof than the connection's own when there is one.
pub(in crate::tasks) async fn send_as(
    ctx: &TaskContext<'_>,
    connection: Option<&Connection>,
    stead: Option<Stead<'_>>,
    request: Request,
    masker: &mut Masker,
    judge: impl FnOnce(&Response, &Masker) -> Result<Done, Failure>,
) -> Attempted {
    let caller = caller(ctx, connection, stead);
    let Called { outcome, request } = ctx.client.call(&caller, request, masker).await;
    let later = |at, why| Done::Later { at, why };
    let (result, response, timings) = match outcome {
        Outcome::Answered(response) => {
            let response = response.redacted(ctx.redact);
            let result = judge(&response, masker);
            let record = response.record(masker, result.is_err());
            (result, Some(record), response.timings)
        }
        Outcome::Throttled { response, at, place } => {
            let response = response.redacted(ctx.redact);
            // A 429 may be welcome, if the settings say so. A query that was refused with status 200 holds nothing.
            let welcome = if response.status.as_u16() == 429 { judge(&response, masker).ok() } else { None };
            let result = Ok(welcome.unwrap_or_else(|| later(at, Pause::Quota { place })));
            (result, Some(response.record(masker, true)), response.timings)
        }
        Outcome::Later { at, why } => {
            let checkpoint = ctx.checkpoint.cloned();
            return Attempted { result: Ok(later(at, why)), exchange: None, checkpoint };
        }
        Outcome::Broken(error) => (Err(at_connection(error.failure(), ctx)), None, error.timings),
        Outcome::Unproved(error) => return Err(masked(unproved(&error, ctx), masker)).into(),
    };
    let exchange = request.map(|request| Box::new(Exchange { request, response, timings }));
    // Whoever is attempted again finds what the last attempt found, unless the kind leaves something else.
    let checkpoint = if matches!(result, Ok(Done::Later { .. })) { ctx.checkpoint.cloned() } else { None };
    Attempted { result: result.map_err(|failure| masked(failure, masker)), exchange, checkpoint }
}
