//! `approval`: a question to people. The run waits, holding no worker, until enough of them said yes, one said no, or
//! time is up. With a `channel`, people are told when it is asked, reminded, and told how it ended.

/// What people are told of a question, and when.
mod news;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::news::Herald;
pub use self::news::News;
use super::{
    Attempted, Done, Effect, Patience, Task, TaskContext, TaskKind, WithProblem, names_of, printed, read_mapping,
    read_with,
};
use crate::clock::Timestamp;
use crate::domain::approval::{Decision, Standing, standing};
use crate::domain::attempt::Pause;
use crate::domain::duration;
use crate::domain::failure::{Failure, Fault};
use crate::domain::input::{Input, InputType};
use crate::expr::{Mapping, Place};
use crate::id::ChannelName;
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "approval",
    summary: "Asks people, and waits until enough of them said yes, one said no, or time is up.",
    connects: false,
    failures: &["approval"],
    schema: || schema_for!(With),
    parse: |with, _| {
        let raw: With = read_with(with)?;
        let expires = match &raw.expires {
            None => limits::APPROVAL_EXPIRES,
            Some(text) => duration::parse(text)
                .map_err(|error| vec![WithProblem::new("/expires", error.problem()).help(error.help())])?,
        };
        let herald = Herald::read(raw.channel.as_deref(), raw.remind.as_deref(), expires)?;
        if !raw.approvers.is_empty() && raw.approvers.len() < raw.quorum {
            let message = format!("{} people can never make a quorum of {}", raw.approvers.len(), raw.quorum);
            return Err(vec![WithProblem::new("/quorum", message).help("name more `approvers`, or ask for fewer")]);
        }
        Ok(Box::new(Approval {
            title: read_mapping("/title", &Value::String(raw.title))?,
            text: raw.text.map(|text| read_mapping("/text", &Value::String(text))).transpose()?,
            details: raw.details.map(|details| read_mapping("/details", &details)).transpose()?,
            form: raw.form,
            approvers: raw.approvers,
            quorum: raw.quorum,
            expires,
            herald,
            on_expire: raw.on_expire.unwrap_or(OnExpire::Fail),
            goes_on_after_no: raw.on_reject == Some(OnReject::Continue),
        }))
    },
};

/// Settings of an `approval` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The question, in one line.
    title: String,
    /// What people need to know, as Markdown.
    text: Option<String>,
    /// Values to show with it, such as the order.
    details: Option<Value>,
    /// What people fill in, by name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = limits::APPROVAL_FIELDS_MAX))]
    form: BTreeMap<String, Field>,
    /// Who may decide, by the names that the control door knows them by; everyone with the scope `approvals` when left
    /// out.
    #[serde(default)]
    approvers: Vec<String>,
    /// How many people must say yes; one when left out.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = limits::APPROVAL_QUORUM_MAX))]
    quorum: usize,
    /// How long people have; 12 hours when left out.
    expires: Option<String>,
    /// The channel where people are told: when it is asked, by each reminder, and when it was decided or has expired.
    channel: Option<String>,
    /// How often people are reminded there until they decide, such as `4h`; never when left out.
    remind: Option<String>,
    /// What happens when they do not use it; the task fails when left out.
    on_expire: Option<OnExpire>,
    /// What happens after a no; the task fails when left out.
    on_reject: Option<OnReject>,
}

fn one() -> usize {
    1
}

/// A field of a form.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Field {
    /// What kind of value it takes.
    #[serde(rename = "type")]
    of: InputType,
    /// Refuses a decision that does not give it.
    #[serde(default)]
    required: bool,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The values it may have.
    #[serde(rename = "enum", default, skip_serializing_if = "Vec::is_empty")]
    one_of: Vec<Value>,
}

/// What happens when nobody decides in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnExpire {
    /// The task fails.
    Fail,
    /// It counts as a no.
    Reject,
    /// It counts as a yes.
    Approve,
}

/// What happens after a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnReject {
    /// The task fails.
    Fail,
    /// The run goes on, and later tasks see what was decided.
    Continue,
}

#[derive(Debug)]
struct Approval {
    title: Mapping,
    text: Option<Mapping>,
    details: Option<Mapping>,
    form: BTreeMap<String, Field>,
    approvers: Vec<String>,
    quorum: usize,
    expires: Duration,
    herald: Option<Herald>,
    on_expire: OnExpire,
    goes_on_after_no: bool,
}

/// A question as it was asked: what the task remembers, and what people are shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    form: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    pub quorum: usize,
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
    /// How far people were told, when there is a channel for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<News>,
}

impl Question {
    /// The question of a task that waits for people, by what its last attempt left.
    pub fn of(checkpoint: Option<&Value>) -> Option<Self> {
        serde_json::from_value(checkpoint?.clone()).ok()
    }

    /// It waits for people until then, or until one of them says something.
    fn waits(&self, at: Timestamp) -> Done {
        Done::Later { at, why: Pause::Approval { title: self.title.clone() } }
    }

    /// What people fill in.
    pub fn fields(&self) -> Vec<Input> {
        let field = |(name, field): (&String, &Value)| {
            let field: Field = serde_json::from_value(field.clone()).ok()?;
            let Field { of, required, description, one_of } = field;
            Some(Input { name: name.clone(), of, required, default: None, one_of, description })
        };
        self.form.iter().filter_map(field).collect()
    }
}

#[async_trait]
impl Task for Approval {
    fn effect(&self) -> Effect {
        // A message that comes twice costs a look.
        if self.herald.is_some() { Effect::Call { repeatable: true } } else { Effect::Pure }
    }

    fn names(&self) -> Vec<Place> {
        let mut names = names_of("/title", &self.title);
        names.extend(self.text.iter().flat_map(|text| names_of("/text", text)));
        names.extend(self.details.iter().flat_map(|details| names_of("/details", details)));
        names
    }

    fn patience(&self) -> Option<Patience> {
        Some(Patience { longest: self.expires, of: "for people", setting: "expires" })
    }

    fn channels(&self) -> Vec<(String, ChannelName)> {
        self.herald.iter().map(|herald| ("/channel".to_owned(), herald.channel.clone())).collect()
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let known = Question::of(ctx.checkpoint);
        let is_new = known.is_none();
        let mut question = match known.map_or_else(|| self.ask(ctx), Ok) {
            Ok(question) => question,
            Err(failure) => return Err(failure).into(),
        };
        let (result, exchange) = match question.news.take() {
            Some(mut news) => {
                // The question is on record before anybody is told of it, so that whoever reads of it can decide.
                let told = if is_new {
                    (Ok(question.waits(ctx.clock.now())), None)
                } else {
                    self.tell(ctx, &question, &mut news).await
                };
                question.news = Some(news);
                told
            }
            None => (self.answer(&question, ctx.decisions, ctx.clock.now()), None),
        };
        let checkpoint = serde_json::to_value(question).ok();
        Attempted { result, exchange, checkpoint }
    }
}

impl Approval {
    fn ask(&self, ctx: &TaskContext<'_>) -> Result<Question, Failure> {
        let eval = |mapping: &Mapping| ctx.eval(mapping);
        let text = self.text.as_ref().map(eval).transpose()?.map(|text| printed(&text));
        let now = ctx.clock.now();
        let form = self.form.iter().map(|(name, field)| (name.clone(), json!(field)));
        Ok(Question {
            title: cut(printed(&eval(&self.title)?), limits::APPROVAL_TITLE_BYTES_MAX),
            text: text.map(|text| cut(text, limits::APPROVAL_TEXT_BYTES_MAX)),
            details: self.details.as_ref().map(eval).transpose()?,
            form: form.collect(),
            approvers: self.approvers.clone(),
            quorum: self.quorum,
            asked_at: now,
            expires_at: now.plus(self.expires),
            news: self.herald.as_ref().map(|herald| News::new(herald.channel.clone())),
        })
    }

    fn answer(&self, question: &Question, decisions: &[Decision], now: Timestamp) -> Result<Done, Failure> {
        let in_time: Vec<_> = decisions.iter().filter(|said| said.at < question.expires_at).cloned().collect();
        let decisions = &in_time[..];
        match standing(decisions, question.quorum) {
            Standing::Approved => Ok(Done::Output(output("approved", true, decisions))),
            Standing::Rejected => self.rejected(decisions),
            Standing::Open(_) if now < question.expires_at => Ok(question.waits(question.expires_at)),
            Standing::Open(yes) => match self.on_expire {
                OnExpire::Approve => Ok(Done::Output(output("expired", true, decisions))),
                OnExpire::Reject if self.goes_on_after_no => Ok(Done::Output(output("expired", false, decisions))),
                OnExpire::Reject | OnExpire::Fail => Err(expired(question, yes)),
            },
        }
    }

    fn rejected(&self, decisions: &[Decision]) -> Result<Done, Failure> {
        if self.goes_on_after_no {
            return Ok(Done::Output(output("rejected", false, decisions)));
        }
        let last = decisions.last();
        let by = last.map(|decision| decision.by.as_str()).unwrap_or_default();
        let why = last.and_then(|decision| decision.comment.as_ref()).map(|why| format!(": {why}"));
        Err(Failure::new("approval.rejected", Fault::Sender, format!("`{by}` said no{}", why.unwrap_or_default()))
            .help("what stands behind the approval did not run; a resume asks again"))
    }
}

fn expired(question: &Question, yes: usize) -> Failure {
    let message = format!("{yes} of {} people said yes before the approval expired", question.quorum);
    Failure::new("approval.expired", Fault::Here, message).help("resume the run to ask again")
}

/// What later tasks see: `decision` is `approved`, `rejected` or `expired`; `approved` says whether it counts as a yes;
/// `form` is what was filled in last, by field.
fn output(decision: &str, approved: bool, decisions: &[Decision]) -> Value {
    let mut form = Map::new();
    for decision in decisions {
        form.extend(decision.form.clone());
    }
    let said = decisions.iter().map(|decision| {
        json!({ "by": decision.by, "at": decision.at.to_string(), "verdict": decision.verdict, "comment": decision.comment })
    });
    json!({ "decision": decision, "approved": approved, "form": form, "decisions": said.collect::<Vec<_>>() })
}

/// Cuts at a character.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}
