//! What a run is found by, in numbers. A class is a standing and a shape: all runs of one workflow, trigger and source
//! that stand alike. One index over (class, id) then answers every filter by seeking in each class that matches.
//! Labels and causes are terms: hashes under which (class, id) is listed again.

use aws_lc_rs::digest;

use crate::domain::run::RunHead;
use crate::domain::state::State;
use crate::domain::trigger::{Trigger, TriggerKind};
use crate::id::WorkflowName;

/// A state, told apart further where the store needs it. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing(i64);

impl Standing {
    pub(super) const QUEUED: Self = Self(0);
    /// Queued, and hidden until its lane is free.
    pub(super) const PARKED: Self = Self(7);
    /// Not ended, in the list of terms.
    pub(super) const OPEN: Self = Self(0);
    /// Added to an ended state when its payloads are stripped.
    const STRIPPED: i64 = 4;

    pub(super) const fn of(state: State) -> Self {
        Self(match state {
            State::Queued => 0,
            State::Running => 1,
            State::Waiting => 2,
            State::Cancelling => 3,
            State::Succeeded => 4,
            State::Failed => 5,
            State::Cancelled => 6,
        })
    }

    /// The same standing with its payloads gone.
    pub(super) const fn stripped(self) -> Self {
        if matches!(self.0, 4..=6) { Self(self.0 + Self::STRIPPED) } else { self }
    }

    /// All standings that people see as `state`.
    pub(super) fn seen_as(state: State) -> impl Iterator<Item = Self> {
        let own = Self::of(state);
        let other = if state == State::Queued { Self::PARKED } else { own.stripped() };
        [Some(own), (other != own).then_some(other)].into_iter().flatten()
    }

    /// The class of this standing and shape.
    pub(super) const fn class(self, shape: i64) -> i64 {
        (self.0 << SHAPE_BITS) | shape
    }

    /// All classes of this standing.
    pub(super) const fn classes(self) -> (i64, i64) {
        (self.0 << SHAPE_BITS, (self.0 + 1) << SHAPE_BITS)
    }

    pub(super) const fn in_class(class: i64) -> Self {
        Self(class >> SHAPE_BITS)
    }

    /// The state that people see.
    pub(super) fn state(self) -> Option<State> {
        State::ALL.into_iter().find(|state| Self::seen_as(*state).any(|standing| standing == self))
    }
}

const SHAPE_BITS: u32 = 32;

/// The shape's number in a class.
pub(super) const fn shape_in(class: i64) -> i64 {
    class & ((1 << SHAPE_BITS) - 1)
}

/// The class under which a run's terms are listed: one for all that have not ended, so that they move once, at its end.
pub(super) fn term_class(class: i64) -> i64 {
    let standing = match Standing::in_class(class).state() {
        Some(state) if state.is_ended() => Standing::of(state),
        _ => Standing::OPEN,
    };
    standing.class(shape_in(class))
}

/// What runs are found by that does not change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) workflow: WorkflowName,
    pub(super) trigger: TriggerKind,
    /// The route or schedule. Empty for people and replays: they are many, and found by a term.
    pub(super) source: String,
}

impl Shape {
    pub(super) fn of(workflow: &WorkflowName, trigger: &Trigger) -> Self {
        let kind = trigger.kind();
        let source = if source_is_term(kind) { String::new() } else { trigger.source() };
        Self { workflow: workflow.clone(), trigger: kind, source }
    }
}

/// Whether the source of such runs is a term, and not part of their shape.
pub(super) const fn source_is_term(trigger: TriggerKind) -> bool {
    matches!(
        trigger,
        TriggerKind::Manual | TriggerKind::Replay | TriggerKind::Parent | TriggerKind::Callback | TriggerKind::Edit
    )
}

/// The number of a trigger on disk.
pub(super) const fn trigger_code(trigger: TriggerKind) -> i64 {
    match trigger {
        TriggerKind::Delivery => 0,
        TriggerKind::Slot => 1,
        TriggerKind::Manual => 2,
        TriggerKind::Replay => 3,
        TriggerKind::Parent => 4,
        TriggerKind::Callback => 5,
        TriggerKind::Edit => 6,
        TriggerKind::Sweep => 7,
    }
}

/// The trigger behind a number.
pub(super) fn trigger_of(code: i64) -> Option<TriggerKind> {
    TriggerKind::ALL.into_iter().find(|trigger| trigger_code(*trigger) == code)
}

/// The hash of something that a run is listed under. Two that meet by chance cost a lookup: lists check the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Term(pub(super) i64);

impl Term {
    pub(super) fn label(name: &str, value: &str) -> Self {
        Self::hash(&["label", name, value])
    }

    pub(super) fn cause(cause: &str) -> Self {
        Self::hash(&["cause", cause])
    }

    pub(super) fn source(source: &str) -> Self {
        Self::hash(&["source", source])
    }

    /// Every term of a run.
    pub(super) fn all_of(head: &RunHead) -> Vec<Self> {
        let labels = head.labels.iter().map(|(name, value)| Self::label(name, value));
        let cause = head.cause.as_deref().map(Self::cause);
        let source = source_is_term(head.trigger).then(|| Self::source(&head.source));
        labels.chain(cause).chain(source).collect()
    }

    fn hash(parts: &[&str]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut number = [0; 8];
        number.copy_from_slice(&context.finish().as_ref()[..8]);
        Self(i64::from_le_bytes(number))
    }
}

/// The terms of a run as its row keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Terms {
    pub(super) all: Vec<Term>,
    /// They are in the list of terms. A run that runs is not, until it waits or ends for the first time: there are few,
    /// and most of them end soon.
    pub(super) listed: bool,
}

impl Terms {
    /// The terms of a run that goes from `before` to `state`.
    pub(super) fn after(before: &Self, all: Vec<Term>, state: State) -> Self {
        Self { all, listed: before.listed || !runs_only(state) }
    }

    pub(super) fn pack(&self) -> Option<Vec<u8>> {
        let terms = self.all.iter().flat_map(|term| term.0.to_le_bytes());
        (!self.all.is_empty()).then(|| terms.chain(self.listed.then_some(1)).collect())
    }

    pub(super) fn unpack(bytes: Option<&[u8]>) -> Self {
        let (numbers, rest) = bytes.unwrap_or_default().as_chunks::<8>();
        let all = numbers.iter().map(|number| Term(i64::from_le_bytes(*number))).collect();
        Self { all, listed: !rest.is_empty() }
    }
}

/// States whose runs may not be listed by term: at most as many as there are workers.
pub(super) const fn runs_only(state: State) -> bool {
    matches!(state, State::Running | State::Cancelling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standing_has_one_state() {
        for state in State::ALL {
            for standing in Standing::seen_as(state) {
                assert_eq!(standing.state(), Some(state));
                assert_eq!(Standing::in_class(standing.class(7)), standing);
                assert_eq!(
                    Standing::in_class(term_class(standing.class(7))).state().map(State::is_ended),
                    Some(state.is_ended())
                );
                assert_eq!(shape_in(term_class(standing.class(7))), 7);
            }
        }
        assert_eq!(State::ALL.into_iter().flat_map(Standing::seen_as).count(), 11);
    }

    #[test]
    fn terms_pack_and_unpack() {
        let all = vec![Term::label("a", "b"), Term::label("ab", ""), Term::cause("x")];
        assert_ne!(all[0], all[1]);
        for listed in [true, false] {
            let terms = Terms { all: all.clone(), listed };
            assert_eq!(Terms::unpack(terms.pack().as_deref()), terms);
        }
        assert_eq!(Terms::default().pack(), None);
        assert_eq!(Terms::unpack(None), Terms::default());
    }
}
