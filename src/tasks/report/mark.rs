//! How far a report has come, as the checkpoint of its task remembers it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::limits;
use crate::tasks::TaskContext;

/// The next call of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::tasks) enum Step {
    /// Ask for it.
    Ask,
    /// Find out whether it was asked for.
    Find,
    /// See whether it is there.
    Look { id: String },
    /// Find out why it was cancelled.
    Why { id: String },
    /// Get a link to it, and the file behind it.
    Fetch {
        id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        document: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        partial: bool,
    },
    /// Read what the platform says about its failure.
    Reason { id: String, document: String },
}

impl Step {
    /// The id of the report, once it has one.
    pub(in crate::tasks) fn id(&self) -> &str {
        match self {
            Self::Ask | Self::Find => "",
            Self::Look { id } | Self::Why { id } | Self::Fetch { id, .. } | Self::Reason { id, .. } => id,
        }
    }
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    #[serde(flatten)]
    pub(super) at: At,
    /// The attempt that left this mark. When a later one than the next finds it, those between were cut off.
    attempt: u32,
}

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct At {
    pub(super) step: Step,
    /// When the wait that goes on now began.
    pub(super) since: Timestamp,
    /// Looks so far.
    #[serde(default)]
    pub(super) looks: u32,
    /// Reports that the platform gave up, one after the other.
    #[serde(default)]
    pub(super) given_up: u32,
    /// It may have been asked for, although no answer says so.
    #[serde(default)]
    pub(super) doubt: bool,
    /// Times that the platform would not take it now.
    #[serde(default)]
    pub(super) refused: u32,
    /// What it said then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) said: Option<String>,
}

impl At {
    /// The beginning: nobody asked for the report.
    pub(super) fn beginning(now: Timestamp) -> Self {
        Self { step: Step::Ask, since: now, looks: 0, given_up: 0, doubt: false, refused: 0, said: None }
    }

    /// The same at another step.
    pub(super) fn step(&self, step: Step) -> Self {
        Self { step, ..self.clone() }
    }

    /// Where the task stands. An attempt that was cut off may have asked for the report: then that is found out first.
    pub(super) fn of(ctx: &TaskContext<'_>) -> Self {
        let left = ctx.checkpoint.and_then(|left| serde_json::from_value::<Mark>(left.clone()).ok());
        let before = left.as_ref().map_or(0, |mark| mark.attempt);
        let cut_off = before + 1 < ctx.attempt.get();
        let mut at = left.map_or_else(|| Self::beginning(ctx.clock.now()), |mark| mark.at);
        if at.step == Step::Ask && (at.doubt || cut_off) {
            at.doubt = true;
            at.step = Step::Find;
        }
        at
    }

    /// The checkpoint that an attempt leaves.
    pub(super) fn keep(self, ctx: &TaskContext<'_>) -> Option<serde_json::Value> {
        serde_json::to_value(Mark { at: self, attempt: ctx.attempt.get() }).ok()
    }
}

/// Nobody asked for this report on behalf of the run before this moment, clocks that differ a little allowed for.
pub(super) fn earliest(ctx: &TaskContext<'_>) -> Timestamp {
    ctx.run.made_at().minus(limits::REPORT_CLOCKS_DIFFER_MAX)
}
