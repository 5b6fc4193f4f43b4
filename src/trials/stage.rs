//! What a test in progress has ready and what it has seen: exchanges, faults, stubs; calls, messages, attempts. One
//! stage for each test; tasks, channels and the network find it through the task of tokio that they run in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use super::call::{Bases, Call};
use super::exchange::{Answer, Exchange};
use crate::channels::message::Message;
use crate::domain::step::StepId;
use crate::id::RunId;
use crate::limits;
use crate::spec::raw::{FaultName, Times};

tokio::task_local! {
    /// The test that is played here.
    pub(super) static STAGE: Arc<Stage>;
    /// The attempt that is under way here.
    pub(super) static ATTEMPT: Attempt;
}

/// One attempt at a step.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) run: RunId,
    pub(super) step: StepId,
    pub(super) number: u32,
}

/// Something that goes wrong with attempts at a task.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// A step, or the name of a task in whatever loop.
    pub(super) task: String,
    /// The first attempt that it happens to.
    pub(super) attempt: u32,
    pub(super) times: Times,
    pub(super) what: Mishap,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub(super) enum Mishap {
    Named(FaultName),
    Answer(Answer),
}

/// A message that people got.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) channel: String,
    pub(super) message: Message,
}

/// Something that happened, for `order`.
#[derive(Debug, Clone)]
pub(super) enum Moment {
    /// An attempt at a step began.
    Attempt(StepId),
    /// The call of this number went out.
    Call(usize),
}

/// How a far end takes a call.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Answer(Answer),
    /// Nothing ever comes.
    Silence,
    /// The connection breaks.
    Break,
    /// The answer breaks off in the middle.
    BrokenAnswer(Answer),
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) bases: Bases,
    /// The gateway is to die.
    pub(super) crash: Notify,
    seen: Mutex<Seen>,
}

/// An attempt that a fault happened to.
type Struck = (RunId, StepId, u32);

/// What has happened, and what is left.
#[derive(Debug, Default)]
pub(super) struct Seen {
    exchanges: Vec<(Exchange, u32)>,
    /// Each with the attempts that it happened to.
    faults: Vec<(Fault, Vec<Struck>)>,
    stubs: HashMap<String, Value>,
    attempts: HashMap<(RunId, StepId), u32>,
    pub(super) calls: Vec<Call>,
    pub(super) messages: Vec<Told>,
    pub(super) moments: Vec<Moment>,
    /// Calls that no exchange was for, each once.
    pub(super) unexpected: Vec<Unexpected>,
    tokens: u32,
}

/// A call that no exchange was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unexpected {
    pub(super) call: String,
    /// The exchanges that come nearest, and why they are not for it.
    pub(super) near: Vec<String>,
}

/// What a test starts with.
#[derive(Debug, Clone, Default)]
pub(super) struct Props {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) faults: Vec<Fault>,
    pub(super) stubs: HashMap<String, Value>,
}

impl Stage {
    pub(super) fn new(bases: Bases, props: Props) -> Arc<Self> {
        let seen = Seen {
            exchanges: props.exchanges.into_iter().map(|exchange| (exchange, 0)).collect(),
            faults: props.faults.into_iter().map(|fault| (fault, Vec::new())).collect(),
            stubs: props.stubs,
            ..Seen::default()
        };
        Arc::new(Self { bases, crash: Notify::new(), seen: Mutex::new(seen) })
    }

    /// The stage of the test that is played here.
    pub(super) fn here() -> Option<Arc<Self>> {
        STAGE.try_with(Arc::clone).ok()
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt at a step begins.
    pub(super) fn begin(&self, run: RunId, step: &StepId) -> Attempt {
        let mut seen = self.seen();
        let number = seen.attempts.entry((run, step.clone())).or_default();
        *number += 1;
        let number = *number;
        seen.moments.push(Moment::Attempt(step.clone()));
        Attempt { run, step: step.clone(), number }
    }

    /// The output of a task that is not done.
    pub(super) fn stub(&self, step: &StepId) -> Option<Value> {
        let seen = self.seen();
        let own = seen.stubs.get(&step.to_string());
        own.or_else(|| seen.stubs.get(step.task().as_str())).cloned()
    }

    /// What goes wrong with this attempt, of what `wanted` takes. It goes wrong once for each attempt.
    pub(super) fn mishap(&self, attempt: &Attempt, wanted: impl Fn(&Mishap) -> bool) -> Option<Mishap> {
        let mut seen = self.seen();
        let this = (attempt.run, attempt.step.clone(), attempt.number);
        let (fault, struck) = seen.faults.iter_mut().find(|(fault, struck)| {
            let last = match fault.times {
                Times::Any => u32::MAX,
                Times::Count(count) => fault.attempt.saturating_add(count - 1),
            };
            names(&fault.task, &attempt.step)
                && (fault.attempt..=last).contains(&attempt.number)
                && wanted(&fault.what)
                && !struck.contains(&this)
        })?;
        struck.push(this);
        Some(fault.what.clone())
    }

    /// Faults that happened to nothing.
    pub(super) fn idle_faults(&self) -> Vec<usize> {
        let seen = self.seen();
        (0..).zip(&seen.faults).filter(|(_, (_, struck))| struck.is_empty()).map(|(place, _)| place).collect()
    }

    /// Exchanges that nothing was sent to.
    pub(super) fn unused(&self) -> Vec<String> {
        let seen = self.seen();
        let unused = seen.exchanges.iter().filter(|(_, used)| *used == 0);
        unused.map(|(exchange, _)| format!("{} ({})", exchange.pattern, exchange.place)).collect()
    }

    /// Takes a call, and says how it is answered.
    pub(super) fn take(&self, call: &Call, attempt: Option<&Attempt>) -> Reply {
        let token = call.asks_for_token();
        if token && !self.seen().exchanges.iter().any(|(exchange, _)| exchange.is_for(call, &self.bases)) {
            return Reply::Answer(self.token());
        }
        let is_for_calls = |what: &Mishap| !matches!(what, Mishap::Named(FaultName::Connect | FaultName::Crash));
        let mishap = attempt.filter(|_| !token).and_then(|attempt| self.mishap(attempt, is_for_calls));
        let place = {
            let mut seen = self.seen();
            let place = seen.calls.len();
            if place < limits::TRIAL_CALLS_MAX {
                seen.calls.push(call.clone());
                seen.moments.push(Moment::Call(place));
            }
            place
        };
        match mishap {
            Some(Mishap::Answer(answer)) => return Reply::Answer(answer),
            Some(Mishap::Named(FaultName::Timeout)) => return Reply::Silence,
            Some(Mishap::Named(FaultName::Lost)) => return Reply::Break,
            _ => {}
        }
        let answer = if place < limits::TRIAL_CALLS_MAX { self.answer(call) } else { unexpected() };
        match mishap {
            Some(Mishap::Named(FaultName::Cut)) => Reply::BrokenAnswer(answer),
            _ => Reply::Answer(answer),
        }
    }

    /// The answer of the first exchange that is for the call and is left.
    fn answer(&self, call: &Call) -> Answer {
        let mut seen = self.seen();
        let left = |times: Times, used: u32| match times {
            Times::Any => true,
            Times::Count(count) => used < count,
        };
        let found = seen
            .exchanges
            .iter_mut()
            .find(|(exchange, used)| left(exchange.times, *used) && exchange.is_for(call, &self.bases));
        if let Some((exchange, used)) = found {
            *used += 1;
            return exchange.answer.clone();
        }
        let mut near: Vec<_> = seen
            .exchanges
            .iter()
            .map(|(exchange, used)| {
                let (distance, why) = exchange.misfit(call, &self.bases).unwrap_or_else(|| {
                    let times = if *used == 1 { "once".to_owned() } else { format!("{used} times") };
                    (0, format!("it was used {times}; write `times: any`, or one more"))
                });
                (distance, format!("{} ({}): {why}", exchange.pattern, exchange.place))
            })
            .collect();
        near.sort_by_key(|(distance, _)| *distance);
        let near = near.into_iter().filter(|(distance, _)| *distance < 4).take(NEAR_MAX).map(|(_, text)| text);
        let told = Unexpected { call: call.shown(&self.bases), near: near.collect() };
        if !seen.unexpected.contains(&told) {
            seen.unexpected.push(told);
        }
        unexpected()
    }

    fn token(&self) -> Answer {
        let mut seen = self.seen();
        seen.tokens += 1;
        let token = format!("made-up-token-{}", seen.tokens);
        Answer::json(200, &serde_json::json!({ "access_token": token, "token_type": "bearer", "expires_in": 3600 }))
    }

    /// People get a message.
    pub(super) fn tell(&self, channel: &str, message: &Message) {
        self.seen().messages.push(Told { channel: channel.to_owned(), message: message.clone() });
    }
}

/// Most exchanges that are shown beside an unexpected call.
const NEAR_MAX: usize = 3;

/// A status that no task accepts or tries again by itself.
fn unexpected() -> Answer {
    let told = serde_json::json!({ "error": "the test has no exchange for this call" });
    Answer::json(http::StatusCode::MISDIRECTED_REQUEST.as_u16(), &told)
}

/// Whether `task`, as a test writes it, is this step: the whole step, or the task in whatever loop and item.
pub(super) fn names(task: &str, step: &StepId) -> bool {
    task == step.task().as_str() || task == step.to_string()
}
