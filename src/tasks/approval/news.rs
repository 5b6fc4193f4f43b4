//! What people are told of a question, and when: that it is asked, that it still waits, how it ended.
//!
//! How far this has come stands in the checkpoint of the task, so a restart goes on where it was. A channel that takes
//! nothing never decides anything: the question stays open, and its end waits for no message.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Approval, Question};
use crate::channels::alerts::{Alert, Status, Told};
use crate::channels::message::{Level, Mention, Message};
use crate::channels::words::Words;
use crate::clock::Timestamp;
use crate::domain::approval::{Decision, Standing, Verdict, standing};
use crate::domain::attempt::{Exchange, Pause};
use crate::domain::duration;
use crate::domain::failure::Failure;
use crate::domain::retry::{self, Backoff};
use crate::id::ChannelName;
use crate::limits;
use crate::tasks::{Done, TaskContext, WithProblem};

/// Where people are told, and how often.
#[derive(Debug)]
pub(super) struct Herald {
    pub(super) channel: ChannelName,
    remind: Option<Duration>,
}

impl Herald {
    /// Reads `channel` and `remind`.
    pub(super) fn read(
        channel: Option<&str>,
        remind: Option<&str>,
        expires: Duration,
    ) -> Result<Option<Self>, Vec<WithProblem>> {
        let mut problems = Vec::new();
        let mut told = |pointer: &str, message: String, help: &str| {
            problems.push(WithProblem::new(pointer, message).help(help));
        };
        let every = match remind.map(duration::parse) {
            None => None,
            Some(Ok(every)) => Some(every),
            Some(Err(error)) => {
                told("/remind", error.problem(), &error.help());
                None
            }
        };
        if let Some(every) = every {
            let (least, most) = (limits::APPROVAL_REMIND_MIN, limits::APPROVAL_REMINDERS_MAX);
            if every < least {
                told(
                    "/remind",
                    format!("people are reminded every {} at most", duration::format(least)),
                    "write `remind: 4h`",
                );
            } else if every >= expires {
                let message =
                    format!("the approval expires after {}, before anybody is reminded", duration::format(expires));
                told("/remind", message, "remind sooner, or let it expire later");
            } else if expires.as_millis() / every.as_millis() > u128::from(most) {
                let message = format!("that would be more than {most} reminders until it expires");
                told("/remind", message, "remind less often");
            }
        }
        let channel = channel.map(ChannelName::new).transpose();
        match channel {
            Err(error) => told("/channel", error.to_string(), "name a channel of `channels` in clawhook.yaml"),
            Ok(None) if remind.is_some() => {
                told("/remind", "nobody can be reminded without a channel".to_owned(), "add `channel: NAME`");
            }
            Ok(channel) if problems.is_empty() => {
                return Ok(channel.map(|channel| Self { channel, remind: every }));
            }
            Ok(_) => {}
        }
        Err(problems)
    }
}

/// How far people were told of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    pub channel: ChannelName,
    /// People know that it is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    asked: bool,
    /// The reminders that are behind us, those that were passed over included.
    #[serde(default, skip_serializing_if = "is_zero")]
    reminded: u32,
    /// What waits for its turn at the channel, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<(What, Timestamp)>,
    /// How often the channel did not take the question, and when it is told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    again: Option<(u32, Timestamp)>,
    /// When the question was closed, and by how many decisions: what people say after that does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<(Timestamp, usize)>,
    /// Why the last message did not go out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One thing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Asked,
    Reminder(u32),
    Over,
}

impl What {
    /// The same at every attempt.
    fn key(self, task: &str) -> String {
        match self {
            Self::Asked => format!("{task}-asked"),
            Self::Reminder(number) => format!("{task}-reminder-{number}"),
            Self::Over => format!("{task}-over"),
        }
    }
}

impl News {
    pub(super) fn new(channel: ChannelName) -> Self {
        Self { channel, asked: false, reminded: 0, pending: None, again: None, closed: None, trouble: None }
    }

    /// What is to be told now of a question that is open since `asked_at`.
    fn due(&self, remind: Option<Duration>, asked_at: Timestamp, now: Timestamp) -> Option<What> {
        if let Some((what, _)) = self.pending {
            return Some(what);
        }
        if !self.asked {
            return self.again.is_none_or(|(_, at)| at <= now).then_some(What::Asked);
        }
        // After a long stop one reminder stands for all that were missed.
        let number = reminders(remind, asked_at, now);
        (number > self.reminded).then_some(What::Reminder(number))
    }

    /// When there is something to tell next.
    fn next(&self, remind: Option<Duration>, asked_at: Timestamp) -> Option<Timestamp> {
        match (self.asked, self.again) {
            (false, Some((_, at))) => Some(at),
            (false, None) => Some(asked_at),
            (true, _) => remind.map(|every| asked_at.plus(every.saturating_mul(self.reminded.saturating_add(1)))),
        }
    }

    /// Takes in what became of it; answers when it must be brought again.
    fn heard(
        &mut self,
        what: What,
        told: Result<Told, Failure>,
        (since, now): (Timestamp, Timestamp),
        reminded: u32,
    ) -> Option<Timestamp> {
        self.pending = None;
        match told {
            Ok(Told::Later { at, .. }) => {
                self.pending = Some((what, since));
                return Some(at);
            }
            Ok(Told::Over(_)) => {
                (self.trouble, self.again, self.asked) = (None, None, true);
            }
            Err(failure) => {
                // What may have arrived is not told again.
                self.asked |= failure.code == "notify.unknown";
                if !self.asked {
                    let tries = self.again.map_or(0, |(tries, _)| tries);
                    let (first, longest) = (limits::APPROVAL_TELL_AGAIN, limits::APPROVAL_TELL_AGAIN_MAX);
                    let pause = retry::grown(first, Backoff::Exponential, tries, longest);
                    self.again = Some((tries.saturating_add(1), now.plus(pause)));
                }
                self.trouble = Some(failure.message);
            }
        }
        self.reminded = self.reminded.max(reminded);
        None
    }
}

/// How many reminders should have gone out by now.
fn reminders(remind: Option<Duration>, asked_at: Timestamp, now: Timestamp) -> u32 {
    let Some(every) = remind.filter(|every| !every.is_zero()) else { return 0 };
    u32::try_from(now.since(asked_at).as_millis() / every.as_millis()).unwrap_or(u32::MAX)
}

/// The result of an attempt, and the call that it made.
type Attempt = (Result<Done, Failure>, Option<Box<Exchange>>);

impl Approval {
    /// One attempt at a question that people are told of.
    pub(super) async fn tell(&self, ctx: &TaskContext<'_>, question: &Question, news: &mut News) -> Attempt {
        let now = ctx.clock.now();
        let (at, heard) = news.closed.unwrap_or((now, ctx.decisions.len()));
        let decisions = ctx.decisions.get(..heard).unwrap_or(ctx.decisions);
        let result = self.answer(question, decisions, at);
        if matches!(result, Ok(Done::Later { .. })) {
            return self.tell_that_it_waits(ctx, question, news, now).await;
        }
        if news.closed.is_none() {
            if let Some((what, _)) = &news.pending {
                match ctx.alerts.withdraw(&news.channel, &what.key(ctx.idempotency_key)).await {
                    Ok(went_out) => news.asked |= went_out,
                    Err(at) => {
                        let why = "others are being told".to_owned();
                        let why = Pause::Channel { name: news.channel.to_string(), why };
                        return (Ok(Done::Later { at, why }), None);
                    }
                }
                news.pending = None;
            }
            if !news.asked {
                return (result, None);
            }
            // Closed on record first: nobody may change their mind while others are told.
            news.closed = Some((now, heard));
            let why = Pause::Channel { name: news.channel.to_string(), why: "people are told how it ended".to_owned() };
            return (Ok(Done::Later { at: now, why }), None);
        }
        let message = over(ctx, question, &news.channel, decisions, &result);
        let (told, exchange) = bring(ctx, news, What::Over, now, message).await;
        // One try: the run does not wait for a message, and what has to wait goes out with the next one there.
        if let Err(failure) = told {
            tracing::warn!(run.id = %ctx.run, code = %failure.code, "people were not told how approval {} ended: {}", ctx.task, failure.message);
        }
        (result, exchange)
    }

    async fn tell_that_it_waits(
        &self,
        ctx: &TaskContext<'_>,
        question: &Question,
        news: &mut News,
        now: Timestamp,
    ) -> Attempt {
        let remind = self.herald.as_ref().and_then(|herald| herald.remind);
        let (mut again, mut exchange) = (None, None);
        if let Some(what) = news.due(remind, question.asked_at, now) {
            let since = news.pending.map_or(now, |(_, since)| since);
            let message = waiting(ctx, question, &news.channel, what != What::Asked);
            let (told, call) = bring(ctx, news, what, since, message).await;
            if let Err(failure) = &told {
                tracing::warn!(run.id = %ctx.run, code = %failure.code, "people were not told of approval {}: {}", ctx.task, failure.message);
            }
            let reminded = reminders(remind, question.asked_at, ctx.clock.now());
            (again, exchange) = (news.heard(what, told, (since, ctx.clock.now()), reminded), call);
        }
        let next = again.or_else(|| news.next(remind, question.asked_at)).unwrap_or(question.expires_at);
        (Ok(question.waits(next.min(question.expires_at))), exchange)
    }
}

/// How it ended, and who said what.
fn over(
    ctx: &TaskContext<'_>,
    question: &Question,
    channel: &ChannelName,
    decisions: &[Decision],
    result: &Result<Done, Failure>,
) -> Message {
    let words = words(ctx, channel);
    let (decision, approved) = match result {
        Ok(Done::Output(output)) => (output["decision"].as_str().unwrap_or_default(), output["approved"] == true),
        Ok(Done::Later { .. }) => ("", false),
        Err(failure) => (failure.code.strip_prefix("approval.").unwrap_or_default(), false),
    };
    let said = decisions.iter().map(|said| {
        words.decision_said(&said.by, said.verdict == Verdict::Approve, said.comment.as_deref().unwrap_or_default())
    });
    let text = std::iter::once(format!("`{}`", id(ctx))).chain(said).collect::<Vec<_>>().join("\n");
    let level = if decision == "expired" { Level::Warning } else { Level::Info };
    message(ctx, words, &words.decision_over(&question.title, decision, approved), &text, level)
}

/// What people must know to decide.
fn waiting(ctx: &TaskContext<'_>, question: &Question, channel: &ChannelName, again: bool) -> Message {
    let words = words(ctx, channel);
    let id = id(ctx);
    let yes = match standing(ctx.decisions, question.quorum) {
        Standing::Open(yes) => yes,
        Standing::Approved | Standing::Rejected => 0,
    };
    let required = question.fields().into_iter().filter(|field| field.required).map(|field| field.name);
    let required: Vec<String> = required.collect();
    let fields: Vec<_> = required.iter().map(|name| format!(" --field {name}=…")).collect();
    let fields = fields.concat();
    let mut body = Map::from_iter([("decision".to_owned(), Value::from("approve"))]);
    if !required.is_empty() {
        body.insert("form".to_owned(), required.iter().map(|name| (name.clone(), Value::from("…"))).collect());
    }
    let rest = format!("`POST /v1/approvals/{id}` `{}`", Value::Object(body));
    let how = words.decision_how(
        &format!("clawhook approvals approve {id}{fields}"),
        &format!("clawhook approvals reject {id}"),
        &rest,
    );
    // The line that names it stands first: a digest keeps the beginning.
    let open = words.decision_open(&id, &question.expires_at.to_string(), yes, question.quorum);
    let text = std::iter::once(open).chain(question.text.clone()).chain([how]).collect::<Vec<_>>().join("\n\n");
    let level = if again { Level::Warning } else { Level::Info };
    message(ctx, words, &words.decision_wanted(&question.title, again), &text, level)
}

fn message(ctx: &TaskContext<'_>, words: Words, title: &str, text: &str, level: Level) -> Message {
    let masker = ctx.secrets.known();
    let (title, text) = (masker.mask(title).into_owned(), masker.mask(text).into_owned());
    Message { title, text, level, table: None }.bounded(words)
}

async fn bring(
    ctx: &TaskContext<'_>,
    news: &News,
    what: What,
    since: Timestamp,
    message: Message,
) -> (Result<Told, Failure>, Option<Box<Exchange>>) {
    let key = what.key(ctx.idempotency_key);
    let alert = Alert {
        key: &key,
        message,
        mention: Mention::default(),
        group: None,
        status: Status::Passing,
        again: news.pending.is_some(),
        since,
        time_limit: ctx.time_limit.saturating_sub(HEADROOM),
    };
    let telling = ctx.alerts.tell(ctx.channels, &news.channel, alert);
    // An attempt that is cut off would fail the task, and no channel may decide for people.
    if let Ok(telling) = tokio::time::timeout(ctx.time_limit.saturating_sub(HEADROOM), telling).await {
        return (telling.result, telling.exchange);
    }
    let why = Pause::Channel { name: news.channel.to_string(), why: "it takes too long".to_owned() };
    (Ok(Told::Later { at: ctx.clock.now().plus(limits::APPROVAL_REMIND_MIN), why }), None)
}

/// The attempt ends this much before the engine cuts it off.
const HEADROOM: Duration = Duration::from_millis(50);

/// Names the question in the API.
fn id(ctx: &TaskContext<'_>) -> String {
    format!("{}:{}", ctx.run, ctx.task.as_key())
}

fn words(ctx: &TaskContext<'_>, channel: &ChannelName) -> Words {
    ctx.channels.get(channel).map_or(Words::of(<_>::default()), |plan| plan.words())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
