//! Writes as stores with rows want them: JSON is made, and what indexes show is worked out, where the caller is, and not
//! where all writes wait for each other.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::class::{Shape, Standing, Term, Terms, runs_only, source_is_term};
use super::{Append, Error, NewRun};
use crate::clock::Timestamp;
use crate::domain::event::{Entry, Event};
use crate::domain::run::{Run, RunHead};
use crate::domain::state::State;
use crate::id::{RunId, Seq, WorkflowName};

/// What callers of `accept` are told they were doing.
pub(super) const ACCEPTING: &str = "accepting a delivery";
/// What callers of `append` are told they were doing.
pub(super) const APPENDING: &str = "adding to a run's log";

/// The moment of a run that is held: it has none, so it is not in the index of moments.
const HELD: i64 = i64::MAX;
/// A run that runs has its log folded when it is listed, as long as the log is this short: most end with the next
/// append, which writes the head.
const HEAD_FOLDED_UNTIL: Seq = Seq(12);

/// A run of an acceptance, ready to be written.
#[derive(Debug)]
pub(super) struct ReadyRun {
    pub(super) shape: Shape,
    pub(super) standing: Standing,
    pub(super) terms: Terms,
    pub(super) event: String,
    pub(super) body: Bytes,
}

impl ReadyRun {
    /// All runs of an acceptance.
    pub(super) fn all_of(runs: Vec<NewRun>) -> Result<Vec<Self>, Error> {
        runs.into_iter().map(Self::new).collect()
    }

    fn new(new: NewRun) -> Result<Self, Error> {
        let NewRun { accepted, body } = new;
        let trigger = &accepted.trigger;
        let source = source_is_term(trigger.kind()).then(|| Term::source(&trigger.source()));
        let terms = Terms { all: source.into_iter().collect(), listed: true };
        let standing = if accepted.held { Standing::of(State::Waiting) } else { Standing::QUEUED };
        let shape = Shape::of(&accepted.workflow, trigger);
        let event = to_json(ACCEPTING, &Event::Accepted(Box::new(accepted)))?;
        Ok(Self { shape, standing, terms, event, body })
    }

    /// Bytes that it holds until it is written.
    pub(super) fn bytes(&self) -> usize {
        self.event.len() + self.body.len()
    }
}

/// An append, ready to be written.
#[derive(Debug)]
pub(super) struct ReadyAppend {
    pub(super) run: RunId,
    pub(super) after: Seq,
    pub(super) count: usize,
    pub(super) at: Timestamp,
    pub(super) events: String,
    pub(super) head: String,
    pub(super) state: State,
    pub(super) due: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) terms: Vec<Term>,
    pub(super) workflow: WorkflowName,
    /// Members of the workflow's state to set, as JSON; none removes one.
    pub(super) changes: Vec<(String, Option<String>)>,
}

impl ReadyAppend {
    pub(super) fn new(append: Append) -> Result<Self, Error> {
        let Append { run, after, at, events, head, state } = append;
        Ok(Self {
            run,
            after,
            count: events.len(),
            at,
            events: to_json(APPENDING, &events)?,
            head: to_json(APPENDING, &head)?,
            state: head.state,
            due: moment(head.due),
            ended: head.ended_at.map(Timestamp::as_millis),
            terms: Term::all_of(&head),
            workflow: head.workflow,
            changes: changes(state.unwrap_or_default())?,
        })
    }

    /// Bytes that it holds until it is written.
    pub(super) fn bytes(&self) -> usize {
        self.events.len() + self.head.len()
    }

    /// Where the log goes on after it.
    pub(super) fn next(&self) -> Seq {
        self.after.plus(self.count)
    }

    /// Whether lists should find the head, and not fold the log.
    pub(super) fn shows_head(&self) -> bool {
        !runs_only(self.state) || self.next() > HEAD_FOLDED_UNTIL
    }
}

/// A run with its whole log, of another store or of a backup.
#[derive(Debug)]
pub(super) struct ReadyLog<'a> {
    pub(super) head: RunHead,
    pub(super) shape: Shape,
    pub(super) standing: Standing,
    pub(super) terms: Terms,
    pub(super) due: Option<i64>,
    pub(super) ended: Option<i64>,
    log: &'a [Entry],
}

impl<'a> ReadyLog<'a> {
    /// The error says what is wrong with the log.
    pub(super) fn new(id: RunId, log: &'a [Entry]) -> Result<Self, String> {
        let head = Run::fold(id, log.iter().cloned()).map_err(|error| error.to_string())?.head();
        let Some(Entry { event: Event::Accepted(accepted), .. }) = log.first() else {
            return Err(format!("the log of {id} does not begin with its acceptance"));
        };
        let standing = Standing::of(head.state);
        Ok(Self {
            shape: Shape::of(&accepted.workflow, &accepted.trigger),
            standing: if accepted.stripped { standing.stripped() } else { standing },
            terms: Terms { all: Term::all_of(&head), listed: !runs_only(head.state) },
            due: moment(head.due),
            ended: head.ended_at.map(Timestamp::as_millis),
            head,
            log,
        })
    }

    /// Where its log goes on.
    pub(super) fn next(&self) -> Seq {
        Seq(0).plus(self.log.len())
    }

    /// What was written at one moment, as it was when it was written.
    pub(super) fn writes(&self) -> impl Iterator<Item = &'a [Entry]> {
        self.log.chunk_by(|one, next| one.at == next.at)
    }
}

/// The first of the runs of one delivery, which these stores remember by it and by how many there are.
pub(super) fn first_of(runs: &[RunId]) -> Result<Option<RunId>, String> {
    let Some(first) = runs.first().copied() else { return Ok(None) };
    if runs.iter().zip(first.as_u64()..).all(|(run, number)| run.as_u64() == number) {
        return Ok(Some(first));
    }
    Err(format!("the runs of one delivery, from {first} on, do not follow each other, as they must here"))
}

/// A value as JSON; the error says what was being done.
pub(super) fn to_json<T: serde::Serialize>(doing: &'static str, value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Failed { doing, why: error.to_string() })
}

/// A moment as indexes keep it.
fn moment(due: Option<Timestamp>) -> Option<i64> {
    due.map(Timestamp::as_millis).filter(|due| *due != HELD)
}

fn changes(state: Map<String, Value>) -> Result<Vec<(String, Option<String>)>, Error> {
    let change = |(name, value): (String, Value)| match value {
        Value::Null => Ok((name, None)),
        value => Ok((name, Some(to_json(APPENDING, &value)?))),
    };
    state.into_iter().map(change).collect()
}
