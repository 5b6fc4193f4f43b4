//! Why a run exists.

use serde::{Deserialize, Serialize};

use super::delivery::{Delivery, RouteRef};
use super::step::StepId;
use crate::clock::Timestamp;
use crate::id::{Revision, RunId, ScheduleName};

/// Why a run exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A webhook; or what a sweep found in its place, when the delivery says so.
    Delivery { route: RouteRef, delivery: Box<Delivery> },
    /// A schedule's slot; `backfill` when a person entered a missed one.
    Slot { schedule: ScheduleName, revision: Revision, due: Timestamp, backfill: bool },
    /// A person or a program, by REST or command line.
    Manual { by: String },
    /// A new run with an old run's input.
    Replay { of: RunId, by: String },
    /// A `workflow` task of another run; `depth` counts the runs above.
    Parent { run: RunId, task: StepId, depth: u32 },
    /// The end of another run, which is to be told to whoever wants to know.
    Callback { of: RunId },
    /// A person who set the workflow's state: the run holds that change and does nothing else.
    Edit { by: String },
}

/// The kinds of trigger, as lists filter by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    Delivery,
    Slot,
    Manual,
    Replay,
    Parent,
    Callback,
    Edit,
    Sweep,
}

impl TriggerKind {
    /// All kinds, in the order of their codes.
    pub const ALL: [Self; 8] =
        [Self::Delivery, Self::Slot, Self::Manual, Self::Replay, Self::Parent, Self::Callback, Self::Edit, Self::Sweep];

    /// The word that people type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Slot => "slot",
            Self::Manual => "manual",
            Self::Replay => "replay",
            Self::Parent => "parent",
            Self::Callback => "callback",
            Self::Edit => "edit",
            Self::Sweep => "sweep",
        }
    }

    /// Reads the word that people type.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Trigger {
    /// Which kind it is.
    pub fn kind(&self) -> TriggerKind {
        match self {
            Self::Delivery { delivery, .. } if delivery.swept_by.is_some() => TriggerKind::Sweep,
            Self::Delivery { .. } => TriggerKind::Delivery,
            Self::Slot { .. } => TriggerKind::Slot,
            Self::Manual { .. } => TriggerKind::Manual,
            Self::Replay { .. } => TriggerKind::Replay,
            Self::Parent { .. } => TriggerKind::Parent,
            Self::Callback { .. } => TriggerKind::Callback,
            Self::Edit { .. } => TriggerKind::Edit,
        }
    }

    /// Where it came from: the route's or schedule's name, the person, or the other run.
    pub fn source(&self) -> String {
        match self {
            Self::Delivery { route, .. } => route.name.to_string(),
            Self::Slot { schedule, .. } => schedule.to_string(),
            Self::Manual { by } | Self::Edit { by } => by.clone(),
            Self::Replay { of, .. } | Self::Callback { of } => of.to_string(),
            Self::Parent { run, .. } => run.to_string(),
        }
    }
}
