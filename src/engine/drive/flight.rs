//! One attempt at one step, under way.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;

use super::failures::{attempt_timeout, no_connection};
use super::keep::{self, Kept};
use crate::domain::approval::Decision;
use crate::domain::step::StepId;
use crate::engine::Engine;
use crate::expr::Context;
use crate::id::{AttemptNumber, RunId};
use crate::tasks::plan::KindTask;
use crate::tasks::{Attempted, Done, TaskContext};

/// An attempt on its way to its end.
pub(super) type Flight<'p> = BoxFuture<'p, Flown<'p>>;

/// What an attempt starts with. It sees a snapshot of the values, so that the log stays free meanwhile.
pub(super) struct Ticket<'p> {
    pub(super) run: RunId,
    pub(super) step: StepId,
    pub(super) task: &'p KindTask,
    pub(super) handler: bool,
    pub(super) attempt: AttemptNumber,
    pub(super) key: String,
    pub(super) checkpoint: Option<Value>,
    pub(super) values: Context,
    pub(super) limit: Duration,
    pub(super) decisions: Vec<Decision>,
}

/// An attempt that has ended.
pub(super) struct Flown<'p> {
    pub(super) step: StepId,
    pub(super) task: &'p KindTask,
    pub(super) handler: bool,
    pub(super) attempt: AttemptNumber,
    pub(super) took: Duration,
    pub(super) attempted: Attempted,
    /// What of its output was written aside.
    pub(super) kept: Vec<Kept>,
}

/// Makes the attempt, inside its time limit.
pub(super) async fn fly<'p>(engine: &'p Engine, ticket: Ticket<'p>) -> Flown<'p> {
    let started = Instant::now();
    let attempted = attempt(engine, &ticket).await;
    let took = started.elapsed();
    let kept = match &attempted.result {
        Ok(Done::Output(output)) => keep::keep(engine, &ticket, output).await,
        _ => Vec::new(),
    };
    let Ticket { step, task, handler, attempt, .. } = ticket;
    Flown { step, task, handler, attempt, took, attempted, kept }
}

async fn attempt(engine: &Engine, ticket: &Ticket<'_>) -> Attempted {
    let parts = &engine.0.parts;
    let Ticket { step, task, limit, .. } = ticket;
    let (connections, channels) = (parts.files.connections(), parts.files.channels());
    let connection = match &task.connection {
        Some(name) => match connections.get(name) {
            Some(connection) => Some(Arc::clone(connection)),
            None => return Err(no_connection(name)).into(),
        },
        None => None,
    };
    let ctx = TaskContext {
        run: ticket.run,
        task: step,
        idempotency_key: &ticket.key,
        attempt: ticket.attempt,
        checkpoint: ticket.checkpoint.as_ref(),
        values: &ticket.values,
        connection: connection.as_deref(),
        client: &parts.client,
        secrets: parts.secrets.as_ref(),
        commands: &parts.commands,
        channels: &channels,
        alerts: &engine.0.alerts,
        artifacts: &parts.artifacts,
        databases: &parts.databases,
        redact: &task.redact,
        blobs: &parts.blobs,
        time_limit: *limit,
        decisions: &ticket.decisions,
        runs: engine,
        clock: parts.clock.as_ref(),
    };
    let done = tokio::time::timeout(*limit, task.task.attempt(&ctx)).await;
    done.unwrap_or_else(|_| {
        // What the attempt before it left still holds.
        let result = Err(attempt_timeout(step, *limit));
        Attempted { result, exchange: None, checkpoint: ticket.checkpoint.clone() }
    })
}
