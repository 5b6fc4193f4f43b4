//! What people decided about a task that waits for them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Timestamp;

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Approve,
    Reject,
}

impl Verdict {
    /// The word that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// One person's decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Who: the name that the door knows the person by.
    pub by: String,
    pub at: Timestamp,
    pub verdict: Verdict,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What was filled in.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub form: Map<String, Value>,
}

/// Where a question stands, by what each person said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// More people must say yes: so many have.
    Open(usize),
    Approved,
    Rejected,
}

/// Counts each person once, by what they said last: one no is a no, `quorum` times yes is a yes.
pub fn standing(decisions: &[Decision], quorum: usize) -> Standing {
    let last: std::collections::BTreeMap<&str, Verdict> =
        decisions.iter().map(|decision| (decision.by.as_str(), decision.verdict)).collect();
    let yes = last.values().filter(|verdict| **verdict == Verdict::Approve).count();
    if yes < last.len() {
        Standing::Rejected
    } else if yes >= quorum {
        Standing::Approved
    } else {
        Standing::Open(yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_person_counts_once() {
        let said = |by: &str, verdict| Decision {
            by: by.to_owned(),
            at: Timestamp::from_secs(0),
            verdict,
            comment: None,
            form: Map::new(),
        };
        let (yes, no) = (Verdict::Approve, Verdict::Reject);
        for (decisions, quorum, expected) in [
            (vec![], 1, Standing::Open(0)),
            (vec![said("li", yes)], 1, Standing::Approved),
            (vec![said("li", yes), said("li", yes)], 2, Standing::Open(1)),
            (vec![said("li", yes), said("wang", yes)], 2, Standing::Approved),
            (vec![said("li", yes), said("wang", no)], 2, Standing::Rejected),
            (vec![said("li", no)], 1, Standing::Rejected),
            (vec![said("li", yes), said("li", no)], 2, Standing::Rejected),
        ] {
            assert_eq!(standing(&decisions, quorum), expected, "{decisions:?}");
        }
    }
}
