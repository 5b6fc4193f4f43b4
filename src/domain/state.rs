//! Where a run stands, and the one table of what may happen next.

use serde::{Deserialize, Serialize};

use super::event::{Event, Finished};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It wants a worker.
    Queued,
    /// A worker drives it.
    Running,
    /// It waits for a moment or a person, and holds no worker.
    Waiting,
    /// It was asked to stop while a worker drove it.
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
}

/// An event that cannot happen to a run where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot happen to a run that is {}", from.map_or("not there yet", State::as_str))]
pub struct IllegalTransition {
    pub from: Option<State>,
    pub event: &'static str,
}

impl State {
    /// All states, in the order of their codes.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Running, Self::Waiting, Self::Cancelling, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The state before any event: only `Accepted` leads out of it.
    pub fn first(event: &Event) -> Result<Self, IllegalTransition> {
        match event {
            Event::Accepted(accepted) if accepted.held => Ok(Self::Waiting),
            Event::Accepted(_) => Ok(Self::Queued),
            other => Err(IllegalTransition { from: None, event: other.name() }),
        }
    }

    /// Where `event` leads from here. Every pair that is not named is an error.
    #[expect(clippy::match_same_arms, reason = "one row for each row of the table")]
    pub fn on(self, event: &Event) -> Result<Self, IllegalTransition> {
        use State::{Cancelled, Cancelling, Failed, Queued, Running, Succeeded, Waiting};
        match (self, event) {
            (Queued | Waiting, Event::SuspectedReplay { .. } | Event::Decided { .. } | Event::Nudged { .. }) => {
                Ok(self)
            }
            (Queued, Event::Claimed { .. }) => Ok(Running),
            (
                Running,
                Event::Prepared(_)
                | Event::TaskSkipped { .. }
                | Event::Opened { .. }
                | Event::Closed { .. }
                | Event::Decided { .. }
                | Event::Nudged { .. }
                | Event::AttemptStarted { .. }
                | Event::AttemptEnded(_)
                | Event::LeaseRenewed { .. },
            ) => Ok(Running),
            (Running, Event::Suspended { .. }) => Ok(Waiting),
            (Waiting, Event::Woken) | (Running, Event::LeaseExpired) => Ok(Queued),
            (Queued | Waiting, Event::CancelRequested { .. }) => Ok(Cancelled),
            (Running, Event::CancelRequested { .. }) => Ok(Cancelling),
            (Cancelling, Event::AttemptEnded(_) | Event::LeaseRenewed { .. }) => Ok(Cancelling),
            (Cancelling, Event::Stopped | Event::LeaseExpired) => Ok(Cancelled),
            (Running | Cancelling, Event::Finished(finished)) => Ok(match finished.as_ref() {
                Finished::Succeeded { .. } => Succeeded,
                Finished::Failed { .. } => Failed,
            }),
            (Failed | Cancelled, Event::Resumed { .. }) => Ok(Queued),
            (from, event) => Err(IllegalTransition { from: Some(from), event: event.name() }),
        }
    }

    /// Nothing more happens to it unless a person resumes it.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The word that people read and type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word that people type.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
