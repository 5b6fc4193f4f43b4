//! The sentences of what goes wrong around an attempt.

use std::time::Duration;

use serde_json::Value;

use super::size_of_json;
use crate::domain::attempt::AttemptResult;
use crate::domain::duration::format;
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::retry::GiveUp;
use crate::domain::step::StepId;
use crate::expr;
use crate::id::ConnectionName;
use crate::limits;

/// A checkpoint that is too large to keep is a mistake of the task kind; going on without it could do its work twice.
pub(super) fn with_checkpoint(result: AttemptResult, checkpoint: Option<Value>) -> (AttemptResult, Option<Value>) {
    let bytes = checkpoint.as_ref().map_or(0, size_of_json);
    if bytes <= limits::CHECKPOINT_BYTES_MAX {
        return (result, checkpoint);
    }
    let message = format!("it wants to remember {bytes} bytes, more than {}", limits::CHECKPOINT_BYTES_MAX);
    let failure = Failure::new("task.output_too_large", Fault::Here, message).sent(Sent::Maybe);
    (AttemptResult::Failed { failure: Box::new(failure), retry_at: None }, None)
}

pub(super) fn too_large(bytes: usize) -> Failure {
    let message = format!("the output has {bytes} bytes, more than {}", limits::TASK_OUTPUT_BYTES_MAX);
    Failure::new("task.output_too_large", Fault::Config, message)
        .help("keep only what later tasks need, for example with a narrower query or a `transform`")
}

/// There is nothing to do, nothing to wait for, and it is not over: a mistake of ours.
pub(super) fn stuck() -> Failure {
    Failure::new("run.stuck", Fault::Here, "the run found nothing to do and nothing to wait for, and is not over")
        .help("tell us, with `clawhook export` of the run; a replay runs it anew")
}

pub(super) fn explain(failure: Failure, why: GiveUp) -> Failure {
    match why {
        GiveUp::Unsafe => failure.help(
            "it may have arrived, and repeating it could do it twice: look at the far end, then resume or cancel the run; \
             an `idempotency_key`, or `retry_unsafe: true`, would let the gateway repeat it",
        ),
        GiveUp::Exhausted | GiveUp::Pointless => failure,
    }
}

pub(super) fn condition_failure(error: &expr::Error) -> Failure {
    Failure::new("expression.failed", Fault::Config, format!("the condition `if` failed: {error}"))
        .help(error.help.clone().unwrap_or_else(|| "mend the condition, then resume the run".to_owned()))
}

pub(super) fn no_connection(name: &ConnectionName) -> Failure {
    Failure::new("connection.unknown", Fault::Config, format!("there is no connection `{name}` any more"))
        .help("add it to `connections` in clawhook.yaml, reload, then resume the run")
        .at(name.as_str())
}

pub(super) fn attempt_timeout(step: &StepId, limit: Duration) -> Failure {
    let message = format!("task `{step}` took longer than its limit of {}", format(limit));
    Failure::new("task.timeout", Fault::Far, message)
        .help("raise `timeout` of the task, or find out why the far end is slow")
        .retriable(Class::Timeout, None)
        .sent(Sent::Maybe)
}

pub(super) fn poll_failure(name: &str, error: &expr::Error) -> Failure {
    Failure::new("expression.failed", Fault::Config, format!("the condition `poll.{name}` failed: {error}"))
        .help(error.help.clone().unwrap_or_else(|| "mend the condition, then resume the run".to_owned()))
}

pub(super) fn poll_failed(step: &StepId, output: &Value) -> Failure {
    let message = format!("`poll.fail_if` of task `{step}` is true: {}", short(output));
    Failure::new("poll.failed", Fault::Far, message)
        .help("look at the last answer; resume the run to begin this task anew")
        .sent(Sent::Maybe)
}

pub(super) fn poll_timeout(step: &StepId, limit: Duration) -> Failure {
    let message = format!("`poll.until` of task `{step}` was not true within {}", format(limit));
    Failure::new("poll.timeout", Fault::Far, message)
        .help("raise `poll.timeout`, or find out why the far end takes so long; then resume the run")
        .sent(Sent::Maybe)
}

/// The beginning of what an attempt gave, for people: the body of an answer, anything else as it is.
pub(super) fn short(output: &Value) -> String {
    /// Characters that fit on a line of a list.
    const SHOWN_MAX: usize = 160;
    let text = output.get("body").unwrap_or(output).to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
