//! Why an attempt, or a run, did not succeed: data that is stored and shown to people, and the one
//! word (`retry`) that the engine reads.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::step::StepId;

/// Whose side a failure is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Our files: a workflow, a route, a connection, a secret.
    Config,
    /// What the sender sent.
    Sender,
    /// The other end of a call.
    Far,
    /// This gateway.
    Here,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same attempt would fail the same way.
    Never,
    /// Later may be better; the task's own delays apply.
    Backoff,
    /// The far end said when, in milliseconds from now.
    After(u64),
}

/// What kind of trouble, in the words of `retry_on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// No connection was made: nothing was sent.
    Connect,
    /// No answer in time.
    Timeout,
    /// An answer with this HTTP status.
    Status(u16),
    /// The process or its lease ended while the attempt was in flight.
    Interrupted,
    /// A program ended in a way that is not accepted.
    Exit,
    /// Anything else.
    Other,
}

/// Whether a request can have reached the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// Certainly not.
    No,
    /// It may have arrived, whether or not an answer came back.
    Maybe,
}

/// Why something did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code with a page in `docs/errors/`, such as `http.status`.
    pub code: String,
    /// One sentence: what happened, to what.
    pub message: String,
    /// What to do next, when we know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Whose side it is on.
    pub fault: Fault,
    /// Whether trying again can help.
    pub retry: Retry,
    /// The class that `retry_on` looks at.
    pub class: Class,
    /// Whether a request may have arrived.
    pub sent: Sent,
    /// The connection, route or host it happened with: part of the cause key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The task it happened in, when it is the failure of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<StepId>,
}

impl Failure {
    /// A failure that no retry mends and that nothing was sent for.
    pub fn new(code: &'static str, fault: Fault, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            help: None,
            fault,
            retry: Retry::Never,
            class: Class::Other,
            sent: Sent::No,
            place: None,
            task: None,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says that a retry can help, and after what kind of trouble.
    #[must_use]
    pub fn retriable(mut self, class: Class, after: Option<Duration>) -> Self {
        self.class = class;
        self.retry =
            after.map_or(Retry::Backoff, |after| Retry::After(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)));
        self
    }

    /// Says that a request may have arrived.
    #[must_use]
    pub fn sent(mut self, sent: Sent) -> Self {
        self.sent = sent;
        self
    }

    /// Names the connection, route or host.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Names the task.
    #[must_use]
    pub fn in_task(mut self, task: StepId) -> Self {
        self.task = Some(task);
        self
    }

    /// The key by which failures of one cause are found together: code, place and status.
    pub fn cause(&self) -> String {
        let place = self.place.as_deref().unwrap_or("-");
        match self.class {
            Class::Status(status) => format!("{}/{place}/{status}", self.code),
            _ => format!("{}/{place}", self.code),
        }
    }
}
