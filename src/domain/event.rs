//! What is written to a run's log. The log is the truth about a run; everything else is a fold of it.
//!
//! Events are stored as JSON by name, so a newer version reads what an older one wrote: fields are added with a
//! default, never renamed, and no variant is ever removed.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::approval::Decision;
use super::attempt::{AttemptEnded, AttemptResult, Pause};
use super::failure::Failure;
use super::step::StepId;
use super::trigger::Trigger;
use crate::clock::Timestamp;
use crate::id::{AttemptNumber, Revision, RunId, Seq, WorkflowName};

/// One event of a run's log, at its place, with the raw bytes that belong to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub seq: Seq,
    pub at: Timestamp,
    pub event: Event,
    /// Body of the delivery, beside `Accepted`; empty elsewhere.
    pub body: Bytes,
}

/// What happened to a run. The table of `state.rs` says what may follow what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It exists: always the first event.
    Accepted(Box<Accepted>),
    /// Its body was seen before under another id, in this run.
    SuspectedReplay { of: RunId },
    /// A worker took it, until the lease ends.
    Claimed { worker: String, lease_until: Timestamp },
    /// Its inputs, labels and state were read; written once.
    Prepared(Box<Prepared>),
    /// Its worker is still alive.
    LeaseRenewed { lease_until: Timestamp },
    /// Its worker was not heard of in time, or its process ended.
    LeaseExpired,
    /// A task was passed over.
    TaskSkipped { task: StepId },
    /// A task that holds others began: a loop over so many items, the case of a switch that was chosen, or one item of a
    /// loop, or a group.
    Opened {
        task: StepId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        items: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        case: Option<u32>,
    },
    /// All that it held has ended.
    Closed {
        task: StepId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Box<Failure>>,
    },
    /// A person decided about a task that waits for people.
    Decided { task: StepId, decision: Box<Decision> },
    /// What a paused task waits for has come, so that it need not wait any longer.
    Nudged { task: StepId },
    /// A try at a task began, under this idempotency key.
    AttemptStarted { task: StepId, attempt: AttemptNumber, key: String },
    /// A try at a task ended.
    AttemptEnded(Box<AttemptEnded>),
    /// It waits, and holds no worker.
    Suspended { until: Timestamp, reason: WaitReason },
    /// The wait is over.
    Woken,
    /// Somebody wants it to stop.
    CancelRequested { by: String, reason: String },
    /// Its worker stopped for a cancel.
    Stopped,
    /// It ended.
    Finished(Box<Finished>),
    /// Somebody wants it to go on: `again` names the tasks whose results are forgotten (the failed one, and the
    /// handlers); `reopened` names what holds them and goes on with what it had opened with; `repin` gives the
    /// revisions to use when nothing had run yet.
    Resumed {
        by: String,
        again: Vec<StepId>,
        #[serde(default)]
        reopened: Vec<StepId>,
        repin: Option<Box<Repin>>,
    },
}

/// The first event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    pub workflow: WorkflowName,
    /// The workflow file as it stood.
    pub revision: Revision,
    pub trigger: Trigger,
    /// Inputs given as values (by API, replay); otherwise they are computed from the trigger when the run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Map<String, Value>>,
    /// State that a replay reads instead of the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Map<String, Value>>,
    /// It was accepted while its route or schedule was paused, and is held until that ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Its payloads were let go by retention; it can be read, but not run again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stripped: bool,
    /// At most this many runs of its route at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_concurrency: Option<u32>,
}

/// What a run reads, fixed when it first starts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Prepared {
    pub inputs: Map<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub state: Map<String, Value>,
}

/// Why a run waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// Its route or schedule is paused.
    Held { source: String },
    /// A failed attempt is tried again later.
    Retry { task: StepId, attempt: AttemptNumber, message: String },
    /// A task that is not over although nothing of it is under way.
    Paused { task: StepId, why: Pause },
    /// What a task gave is kept beside the log and cannot be read now.
    Unread { task: StepId, why: String },
    /// The gateway is shutting down and gave it back.
    Drained,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finished {
    /// All tasks did their work; `state` is what `set_state` tasks wrote, committed with this event.
    Succeeded { outputs: Map<String, Value>, state: Map<String, Value> },
    /// A task failed for good.
    Failed { failure: Failure },
}

/// The revisions that a resumed run goes on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repin {
    pub workflow: Revision,
    /// Of the route's or schedule's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Revision>,
}

impl Accepted {
    /// A run of `workflow` that starts as soon as it can, its inputs still to be computed.
    pub fn new(workflow: WorkflowName, revision: Revision, trigger: Trigger) -> Self {
        Self {
            workflow,
            revision,
            trigger,
            inputs: None,
            state: None,
            held: false,
            stripped: false,
            route_concurrency: None,
        }
    }
}

impl Event {
    /// The name under which it is stored and shown.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::SuspectedReplay { .. } => "suspected_replay",
            Self::Claimed { .. } => "claimed",
            Self::Prepared(_) => "prepared",
            Self::LeaseRenewed { .. } => "lease_renewed",
            Self::LeaseExpired => "lease_expired",
            Self::TaskSkipped { .. } => "task_skipped",
            Self::Opened { .. } => "opened",
            Self::Closed { .. } => "closed",
            Self::Decided { .. } => "decided",
            Self::Nudged { .. } => "nudged",
            Self::AttemptStarted { .. } => "attempt_started",
            Self::AttemptEnded(_) => "attempt_ended",
            Self::Suspended { .. } => "suspended",
            Self::Woken => "woken",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::Stopped => "stopped",
            Self::Finished(_) => "finished",
            Self::Resumed { .. } => "resumed",
        }
    }
}

impl Entry {
    /// The same entry without what came in or went out: bodies, headers, inputs, outputs. What is left still folds.
    /// Retention of payloads writes this over the original.
    #[must_use]
    pub fn without_payloads(mut self) -> Self {
        self.body = Bytes::new();
        match &mut self.event {
            Event::Accepted(accepted) => {
                accepted.stripped = true;
                accepted.inputs = None;
                accepted.state = None;
                if let Trigger::Delivery { delivery, .. } = &mut accepted.trigger {
                    delivery.headers.clear();
                    delivery.query.clear();
                }
            }
            Event::Prepared(prepared) => {
                prepared.inputs.clear();
                prepared.state.clear();
            }
            Event::AttemptEnded(ended) => ended.strip(),
            Event::Decided { decision, .. } => decision.form.clear(),
            Event::Finished(finished) => {
                if let Finished::Succeeded { outputs, state } = finished.as_mut() {
                    outputs.clear();
                    state.clear();
                }
            }
            _ => {}
        }
        self
    }
}

impl AttemptEnded {
    fn strip(&mut self) {
        if let AttemptResult::Succeeded { output } = &mut self.result {
            *output = Value::Null;
        }
        self.kept.clear();
        self.checkpoint = None;
        if let Some(exchange) = &mut self.exchange {
            exchange.request.headers.clear();
            exchange.request.body = None;
            if let Some(response) = &mut exchange.response {
                response.headers.clear();
                response.body = None;
            }
        }
    }
}
