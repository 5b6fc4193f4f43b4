//! Tells whoever wants to know that a run has ended: a POST, signed as Standard Webhooks has it, kept and tried again
//! as a run of its own.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use schemars::Schema;
use serde_json::{Map, Value, json};

use crate::domain::attempt::{Exchange, Pause};
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::masking::Masker;
use crate::domain::retry::{Backoff, RetryPolicy};
use crate::domain::run::Run;
use crate::domain::signing;
use crate::expr::{Context, Place};
use crate::id::{RunId, TaskId};
use crate::limits;
use crate::outbound::{Body, Cause, Redaction, Request};
use crate::tasks::plan::{Callback, KindTask, Plan, PlannedTask, TaskList, Work};
use crate::tasks::{Attempted, Done, Effect, Task, TaskContext, TaskKind, expression_failure};

/// Not in the table of kinds: nobody writes it in a file.
static KIND: TaskKind = TaskKind {
    name: "callback",
    summary: "Tells that a run has ended.",
    connects: false,
    failures: &["callback"],
    schema: || Schema::default(),
    parse: |_, _| Err(Vec::new()),
};

/// The plan of the run that tells the end of run `of`, whose plan is `plan`.
pub(super) fn plan(plan: &Plan, callback: &Arc<Callback>, of: RunId) -> Plan {
    let retry = RetryPolicy {
        retries: limits::CALLBACK_RETRIES,
        delay: limits::CALLBACK_DELAY,
        backoff: Backoff::Exponential,
        delay_max: limits::CALLBACK_DELAY_MAX,
        ..RetryPolicy::default()
    };
    let work = KindTask {
        kind: &KIND,
        task: Box::new(Tell { callback: Arc::clone(callback), of }),
        connection: None,
        retry,
        timeout: limits::TASK_TIMEOUT,
        poll: None,
        redact: Redaction::default(),
    };
    let task = TaskId::new(KIND.name).map(|id| PlannedTask {
        id,
        condition: None,
        each: None,
        continue_on_error: false,
        work: Work::Task(Box::new(work)),
    });
    Plan {
        name: plan.name.clone(),
        revision: plan.revision.clone(),
        description: None,
        labels: Vec::new(),
        inputs: Vec::new(),
        concurrency: None,
        timeout: limits::CALLBACK_TIMEOUT,
        tasks: TaskList::in_order(task.into_iter().collect()),
        on_failure: TaskList::default(),
        on_success: TaskList::default(),
        finally: TaskList::default(),
        callback: None,
        outputs: Vec::new(),
    }
}

#[derive(Debug)]
struct Tell {
    callback: Arc<Callback>,
    of: RunId,
}

#[async_trait]
impl Task for Tell {
    fn effect(&self) -> Effect {
        // `webhook-id` is the same each time, so the far end can tell a repeat.
        Effect::Call { repeatable: true }
    }

    fn names(&self) -> Vec<Place> {
        Vec::new()
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let run = match ctx.runs.ended(self.of).await {
            Ok(Some(run)) => run,
            Ok(None) => {
                let at = ctx.clock.now().plus(limits::CALLBACK_LOOK_AGAIN);
                return Ok(Done::Later { at, why: Pause::Run { run: self.of } }).into();
            }
            Err(failure) => return Err(failure).into(),
        };
        if !self.callback.events.contains(&run.state) {
            return Ok(Done::Output(json!({ "told": false, "status": run.state }))).into();
        }
        let mut masker = Masker::over(ctx.secrets.known());
        match self.request(ctx, &run, &mut masker).await {
            Ok(request) => self.send(ctx, request, &masker).await,
            Err(failure) => Err(failure).into(),
        }
    }
}

impl Tell {
    async fn request(&self, ctx: &TaskContext<'_>, run: &Run, masker: &mut Masker) -> Result<Request, Failure> {
        let inputs = run.prepared.as_ref().map(|prepared| prepared.inputs.clone()).unwrap_or_default();
        let values = Context::new().with("inputs", Value::Object(inputs));
        let url = self.callback.url.eval(&values).map_err(|error| expression_failure(&error))?;
        let url = url.as_str().map_or_else(|| url.to_string(), str::to_owned);
        let mut request = Request::new(Method::POST, &url).map_err(Cause::unsendable)?;
        request.timeout = ctx.time_limit.min(limits::REQUEST_TIMEOUT);
        request.body = Body::json(&message(run));
        let id = format!("{}.{}", run.id, run.resumes);
        let timestamp = ctx.clock.now().as_secs();
        request.header("webhook-id", id.as_bytes()).map_err(Cause::unsendable)?;
        request.header("webhook-timestamp", timestamp.to_string().as_bytes()).map_err(Cause::unsendable)?;
        if let Some(reference) = &self.callback.sign {
            let key = ctx.secrets.resolve(reference).await.map_err(|error| {
                Failure::new("secret.unavailable", Fault::Config, error.to_string())
                    .retriable(Class::Connect, None)
                    .help("put the key into its source; the callback is tried again")
            })?;
            masker.add(&reference.name, &key);
            let signature = signing::standard_webhook(key.expose(), &id, timestamp, &request.body.bytes);
            let signature = signature.ok_or_else(|| {
                let message = format!("secret `{}` begins with `whsec_` and is not base64 behind it", reference.name);
                Failure::new("secret.unavailable", Fault::Config, message).help("copy the key whole, as `whsec_…`")
            })?;
            request.header("webhook-signature", signature.as_bytes()).map_err(Cause::unsendable)?;
        }
        Ok(request)
    }

    async fn send(&self, ctx: &TaskContext<'_>, request: Request, masker: &Masker) -> Attempted {
        let record = request.record(masker);
        match ctx.client.send(request).await {
            Ok(response) => {
                let (status, timings) = (response.status.as_u16(), response.timings);
                let result = if response.status.is_success() {
                    Ok(Done::Output(json!({ "told": true, "status": status })))
                } else {
                    Err(refused(status))
                };
                let exchange = Exchange { request: record, response: Some(response.record(masker, true)), timings };
                Attempted { result, exchange: Some(Box::new(exchange)), checkpoint: None }
            }
            Err(error) => {
                let exchange = Exchange { request: record, response: None, timings: error.timings };
                Attempted { result: Err(error.failure()), exchange: Some(Box::new(exchange)), checkpoint: None }
            }
        }
    }
}

fn refused(status: u16) -> Failure {
    Failure::new("callback.refused", Fault::Far, format!("the receiver of the callback answered {status}"))
        .help("mend the receiver; then resume this run if it is not tried again by itself")
        .retriable(Class::Status(status), None)
        .sent(Sent::Maybe)
}

/// `{ type, timestamp, data }`, as Standard Webhooks proposes.
fn message(run: &Run) -> Value {
    let mut data = Map::from_iter([
        ("run_id".to_owned(), json!(run.id)),
        ("workflow".to_owned(), json!(run.accepted.workflow)),
        ("status".to_owned(), json!(run.state)),
        ("accepted_at".to_owned(), json!(run.accepted_at.to_string())),
        ("labels".to_owned(), json!(run.prepared.as_ref().map(|prepared| &prepared.labels))),
    ]);
    if let Some(outputs) = &run.outputs {
        data.insert("outputs".to_owned(), Value::Object(outputs.clone()));
    }
    if let Some(failure) = &run.failure {
        let failure = json!({ "code": failure.code, "message": failure.message, "task": failure.task });
        data.insert("failure".to_owned(), failure);
    }
    if let Some(cancel) = &run.cancel {
        data.insert("cancel".to_owned(), json!({ "by": cancel.by, "reason": cancel.reason }));
    }
    let ended = run.ended_at.map(|at| at.to_string());
    json!({ "type": format!("run.{}", run.state), "timestamp": ended, "data": data })
}
