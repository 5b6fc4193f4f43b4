//! One call of an attempt: sent with all that its connection wants, judged by the kind, and kept for people to read.

use super::failures::{at_connection, masked, unproved};
use crate::domain::attempt::Exchange;
use crate::domain::failure::Failure;
use crate::domain::masking::Masker;
use crate::outbound::call::{Called, Caller, Outcome};
use crate::outbound::{Request, Response};
use crate::tasks::{Attempted, Done, TaskContext};

/// Sends `request` and lets `judge` say what its answer means; secrets are masked in whatever comes of it. The masker
/// that `judge` is given knows every secret of the call.
pub(in crate::tasks) async fn send(
    ctx: &TaskContext<'_>,
    request: Request,
    masker: &mut Masker,
    judge: impl FnOnce(&Response, &Masker) -> Result<Done, Failure>,
) -> Attempted {
    let caller = Caller { connection: ctx.connection, secrets: ctx.secrets, clock: ctx.clock };
    let Called { outcome, request } = ctx.client.call(&caller, request, masker).await;
    let (result, response, timings) = match outcome {
        Outcome::Answered(response) => {
            let result = judge(&response, masker);
            let record = response.record(masker, result.is_err());
            (result, Some(record), response.timings)
        }
        Outcome::Broken(error) => (Err(at_connection(error.failure(), ctx)), None, error.timings),
        Outcome::Unproved(error) => return Err(masked(unproved(&error, ctx), masker)).into(),
    };
    let exchange = request.map(|request| Box::new(Exchange { request, response, timings }));
    Attempted { result: result.map_err(|failure| masked(failure, masker)), exchange, checkpoint: None }
}
