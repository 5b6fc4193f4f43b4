//! Stand-ins for tasks, channels, secrets and identities: the real task behind a door that knows of the test, a channel that
//! only listens, and values that are made up.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use serde_json::Value;

use super::stage::{ATTEMPT, Attempt, Mishap, Stage};
use crate::channels::{Channel, Notice, Sending, Trouble, Verdict, Wire};
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::secret::{self, SecretRef, SecretValue, Secrets};
use crate::expr::Place;
use crate::id::{ChannelName, WorkflowName};
use crate::limits;
use crate::spec::raw::FaultName;
use crate::tasks::command::settings as command;
use crate::tasks::plan::KindTask;
use crate::tasks::{Attempted, Done, Effect, Patience, Task, TaskContext, WithProblem};

/// A task in a test: itself, unless the test has a stub for it.
#[derive(Debug)]
pub(super) struct Actor {
    inner: Box<dyn Task>,
    kind: &'static str,
}

/// Kinds that reach elsewhere than HTTP, where a test has nobody: it says by a `stub` what they give.
pub(super) const ELSEWHERE: &[&str] = &["sql_query", "sql_exec", "sql_load", "blob_put", "blob_get", "command"];

#[async_trait]
impl Task for Actor {
    fn effect(&self) -> Effect {
        self.inner.effect()
    }

    fn names(&self) -> Vec<Place> {
        self.inner.names()
    }

    fn secrets(&self) -> Vec<(String, SecretRef)> {
        self.inner.secrets()
    }

    fn starts(&self) -> Option<&WorkflowName> {
        self.inner.starts()
    }

    fn patience(&self) -> Option<Patience> {
        self.inner.patience()
    }

    fn channels(&self) -> Vec<(String, ChannelName)> {
        self.inner.channels()
    }

    fn beyond(&self, commands: &command::Settings) -> Vec<WithProblem> {
        self.inner.beyond(commands)
    }

    fn databases(&self) -> Vec<(&'static str, &str)> {
        self.inner.databases()
    }

    fn loads(&self) -> bool {
        self.inner.loads()
    }

    fn of_answer(&self) -> Vec<Place> {
        self.inner.of_answer()
    }

    fn may_redact(&self) -> bool {
        self.inner.may_redact()
    }

    fn blob_place(&self) -> Option<(&str, bool)> {
        self.inner.blob_place()
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let Some(stage) = Stage::here() else { return self.inner.attempt(ctx).await };
        let attempt = stage.begin(ctx.run, ctx.task);
        let attempted = match stage.stub(ctx.task) {
            Some(output) => stubbed(&stage, &attempt, output).into(),
            None if ELSEWHERE.contains(&self.kind) => Err(no_stub(&attempt, self.kind)).into(),
            None => {
                // What is computed on a thread of its own takes real time, in which the clock of the test stands still.
                let _awake = (self.inner.effect() == Effect::Pure).then(Awake::start);
                ATTEMPT.scope(attempt.clone(), self.inner.attempt(ctx)).await
            }
        };
        let dies = |what: &Mishap| matches!(what, Mishap::Named(FaultName::Crash));
        if stage.mishap(&attempt, dies).is_some() {
            stage.crash.notify_one();
            // The gateway is dropped while it stands here.
            std::future::pending::<()>().await;
        }
        attempted
    }
}

fn no_stub(attempt: &Attempt, kind: &str) -> Failure {
    let task = attempt.step.task();
    let message = format!("a test reaches nothing but HTTP, and `{task}` is a `{kind}`");
    Failure::new("trial.stub", Fault::Config, message).help(format!("say what it gives: `stub: {{ {task}: {{ … }} }}`"))
}

/// What becomes of an attempt at a task that is not done.
fn stubbed(stage: &Stage, attempt: &Attempt, output: Value) -> Result<Done, Failure> {
    let failed = |message: &str| Failure::new("trial.fault", Fault::Far, message.to_owned());
    match stage.mishap(attempt, |what| !matches!(what, Mishap::Named(FaultName::Crash))) {
        None => Ok(Done::Output(output)),
        Some(Mishap::Named(FaultName::Connect)) => {
            Err(failed("the test lets nothing arrive").retriable(Class::Connect, None))
        }
        Some(Mishap::Named(_)) => {
            Err(failed("the test lets no answer come").retriable(Class::Timeout, None).sent(Sent::Maybe))
        }
        Some(Mishap::Answer(answer)) => {
            let message = format!("the test answers {}", answer.status);
            Err(failed(&message).retriable(Class::Status(answer.status), None).sent(Sent::Maybe))
        }
    }
}

/// Holds the paused clock while something is computed, up to the limit that jq has: paused time jumps as soon as the
/// runtime has nothing to do, and another thread that works is nothing to it.
struct Awake(Option<mpsc::Sender<()>>);

impl Awake {
    fn start() -> Self {
        let (held, holds) = mpsc::channel::<()>();
        // Ends as soon as the sender is dropped.
        drop(tokio::task::spawn_blocking(move || holds.recv_timeout(limits::JQ_TIMEOUT)));
        Self(Some(held))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// A channel that hands nothing over: the test keeps what it was given.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) name: ChannelName,
    pub(super) text_bytes_max: usize,
}

#[async_trait]
impl Channel for Ear {
    fn secrets(&self) -> Vec<&SecretRef> {
        Vec::new()
    }

    fn text_bytes_max(&self) -> usize {
        self.text_bytes_max
    }

    async fn send(&self, _: &Wire<'_>, notice: &Notice<'_>) -> Sending {
        let Some(stage) = Stage::here() else {
            return trouble(Verdict::Refused, "there is no test here").into();
        };
        let attempt = ATTEMPT.try_with(Clone::clone).ok();
        let mishap =
            attempt.and_then(|attempt| stage.mishap(&attempt, |what| !matches!(what, Mishap::Named(FaultName::Crash))));
        match mishap {
            None => {
                stage.tell(self.name.as_str(), notice.message);
                Sending { result: Ok(Value::Null), exchange: None }
            }
            Some(Mishap::Named(FaultName::Connect)) => trouble(Verdict::Down, "nothing arrives").into(),
            Some(Mishap::Named(_)) => {
                // It arrived, and nobody can know.
                stage.tell(self.name.as_str(), notice.message);
                trouble(Verdict::Unknown, "no answer comes").into()
            }
            Some(Mishap::Answer(answer)) => match answer.status {
                429 => trouble(Verdict::Busy { wait: BUSY }, "too many messages").into(),
                status @ 500.. => trouble(Verdict::Down, &format!("it answers {status}")).into(),
                status => trouble(Verdict::Refused, &format!("it answers {status}")).into(),
            },
        }
    }
}

/// How long a channel that is busy takes nothing.
const BUSY: Duration = Duration::from_mins(1);

fn trouble(verdict: Verdict, why: &str) -> Trouble {
    let failure = Failure::new("trial.fault", Fault::Far, format!("by the test: {why}"));
    let failure = match verdict {
        Verdict::Down | Verdict::Busy { .. } => failure.retriable(Class::Connect, None),
        Verdict::Unknown => failure.sent(Sent::Maybe),
        Verdict::Refused => failure,
    };
    Trouble { verdict, failure: Box::new(failure) }
}

/// Secrets whose values are made up of their names.
#[derive(Debug)]
pub(super) struct MadeUp;

#[async_trait]
impl Secrets for MadeUp {
    async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, secret::Error> {
        let prefix = reference.prefix.as_deref().unwrap_or_default();
        Ok(SecretValue::new(format!("{prefix}made-up-{}", reference.in_full().replace(' ', "-"))))
    }
}

/// An identity whose tokens are made up.
#[derive(Debug)]
pub(super) struct Nobody;

#[async_trait]
impl TokenCredential for Nobody {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new("made-up-identity-token", OffsetDateTime::now_utc() + LIFETIME))
    }
}

const LIFETIME: Duration = Duration::from_hours(24);

/// A task behind its door.
pub(super) fn on_stage(work: &mut KindTask) {
    let inner = std::mem::replace(&mut work.task, Box::new(Gone));
    work.task = Box::new(Actor { inner, kind: work.kind.name });
}

/// Stands where a task was taken out for a moment.
#[derive(Debug)]
struct Gone;

#[async_trait]
impl Task for Gone {
    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn names(&self) -> Vec<Place> {
        Vec::new()
    }

    async fn attempt(&self, _: &TaskContext<'_>) -> Attempted {
        Err(Failure::new("trial.fault", Fault::Here, "the task is not there")).into()
    }
}

/// A listening channel in place of a real one.
pub(super) fn listening(name: &ChannelName, channel: &Arc<dyn Channel>) -> Arc<dyn Channel> {
    Arc::new(Ear { name: name.clone(), text_bytes_max: channel.text_bytes_max() })
}
