//! Reports that a platform makes in its own time: asked for once, looked at until they are there, then fetched. The life
//! cycle is here, once; what is a platform's own, its paths, its words and its odd answers, is a [`Platform`].
//!
//! Each call is an attempt of its own, made of the parts that every other call is made of, so it keeps to the budget of
//! its connection and is on record. Between two calls the task holds no worker, and what it knows is in its checkpoint:
//! a process that dies goes on with the report that was asked for, and does not ask for another.

mod cycle;
mod file;
mod mark;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub(super) use self::file::given_up;
pub(super) use self::mark::Step;
use super::download::{Packing, Wanted};
use super::{Attempted, Effect, Patience, Task, TaskContext, WithProblem};
use crate::clock::Timestamp;
use crate::domain::duration;
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::expr::Place;

/// Settings that every report has.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RawReport {
    /// How often the platform is asked whether the report is there.
    poll: Option<RawPoll>,
    /// The largest file, as it comes and as it is kept, such as `500MiB`; 2 GiB when left out.
    max_size: Option<String>,
    /// The longest silence in the middle of the file, 30 s when left out.
    idle_timeout: Option<String>,
    /// What the file is, instead of what the far end says, such as `text/csv`.
    media_type: Option<String>,
    /// The charset of the file, instead of what the far end says, such as `windows-1252`.
    charset: Option<String>,
}

/// Looks at a report.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawPoll {
    /// The first pause; they double.
    interval: Option<String>,
    /// The longest pause.
    max_interval: Option<String>,
    /// How long the report may take.
    timeout: Option<String>,
}

/// What a platform does with a step of a report.
pub(super) trait Platform: Send + Sync + fmt::Debug + 'static {
    /// How patient to be when the settings do not say.
    fn pace(&self) -> Pace;

    /// What the file is when nobody says.
    fn media_type(&self) -> &'static str;

    /// What the expressions of its settings look up.
    fn names(&self) -> Vec<Place>;

    /// The report that is wanted, its expressions evaluated: the same in each attempt.
    fn wish(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure>;

    /// The call that a step makes.
    fn ask(&self, step: &Step, wish: &Value, since: Timestamp) -> Ask;

    /// What its answer means. An error is one of this call: the step is made again when a retry follows.
    fn read(&self, step: &Step, heard: &Heard<'_>) -> Result<Next, Failure>;

    /// The call that gives a token for this step alone.
    fn pass(&self, step: &Step) -> Option<Pass> {
        let _ = step;
        None
    }
}

/// When a report is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// The first pause; they double.
    pub(super) interval: Duration,
    pub(super) interval_max: Duration,
    /// The longest that a report may take.
    pub(super) timeout: Duration,
}

/// A call behind the connection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) json: Option<Value>,
}

impl Ask {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Vec::new(), headers: &[], json: None }
    }

    pub(super) fn post(path: impl Into<String>, json: Value) -> Self {
        Self { method: Method::POST, json: Some(json), ..Self::get(path) }
    }

    pub(super) fn query<const N: usize>(mut self, pairs: [(&str, String); N]) -> Self {
        self.query.extend(pairs.map(|(name, value)| (name.to_owned(), value)));
        self
    }
}

/// A call that gives a token for one other call.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) ask: Ask,
    /// The member of its answer that holds the token.
    pub(super) member: &'static str,
    /// The header of the other call that it goes into.
    pub(super) header: &'static str,
}

/// An answer, with what a platform needs to make sense of it.
pub(super) struct Heard<'h> {
    pub(super) status: u16,
    /// The body as it came, JSON when it is.
    pub(super) body: &'h Value,
    pub(super) wish: &'h Value,
    /// Nobody asked for this report on behalf of the task before this moment.
    pub(super) since: Timestamp,
    /// It may have been asked for already.
    pub(super) doubt: bool,
    /// Times that the platform would not take it now.
    pub(super) refused: u32,
    /// What it said when it would not.
    pub(super) said: Option<&'h str>,
    pub(super) now: Timestamp,
    /// Whether the status is a good one, and why not.
    pub(super) judged: Result<(), Failure>,
}

impl Heard<'_> {
    /// A text of the answer, numbers by their digits; nothing when it is not there or empty.
    pub(super) fn text(&self, pointer: &str) -> Option<String> {
        text(self.body, pointer)
    }

    /// The list at this place.
    pub(super) fn list(&self, pointer: &str) -> &[Value] {
        self.body.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// An answer that is not what the platform documents.
    pub(super) fn odd(&self, what: &str) -> Failure {
        let body: String = self.body.to_string().chars().take(QUOTED_CHARS_MAX).collect();
        Failure::new("report.answer", Fault::Far, format!("the answer {what}: {body}"))
            .help("look at the exchange of this attempt, and at the `base_url` of the connection")
            .retriable(Class::Status(502), None)
            .sent(Sent::Maybe)
    }
}

/// A text as one segment of a path, whatever stands in it.
pub(super) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, SEGMENT).to_string()
}

/// All but the unreserved characters of RFC 3986 section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The report that the settings want cannot be: what `problems` say, found when its expressions were evaluated.
pub(super) fn unwanted(problems: &[WithProblem]) -> Failure {
    let say = |problem: &WithProblem| format!("`with{}`: {}", problem.pointer, problem.message);
    let message = problems.iter().map(say).collect::<Vec<_>>().join("; ");
    let failure = Failure::new("report.wanted", Fault::Config, format!("this report cannot be asked for: {message}"));
    match problems.iter().find_map(|problem| problem.help.clone()) {
        Some(help) => failure.help(help),
        None => failure,
    }
}

/// Whether a setting is only known when the task runs.
pub(super) fn is_computed(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("${{"))
}

/// A text at a place of a value, numbers by their digits.
pub(super) fn text(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Characters of an odd answer that its failure quotes.
const QUOTED_CHARS_MAX: usize = 300;

/// What follows an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// The report is asked for, by us or for us, and has this id.
    Taken { id: String },
    /// Whether it was asked for already is to be found out, because the platform would not take it.
    Find { said: String },
    /// It is to be asked for, after this long.
    Ask { after: Duration, said: String },
    /// It is being made.
    Working { said: String },
    /// It was cancelled, and why is to be found out.
    Why,
    /// It is there.
    Ready { document: Option<String>, partial: bool },
    /// It is over, and there is nothing in it.
    NoData,
    /// It will never be there, and this document says why.
    Reason { document: String },
    /// It will never be there.
    Failed(Failure),
    /// Its file is here.
    Link { url: String, packing: Packing },
}

/// A report task.
#[derive(Debug)]
pub(super) struct Report<P> {
    platform: P,
    pace: Pace,
    /// `poll.timeout`, when it is written.
    patience: Option<Duration>,
    wanted: Wanted,
}

impl<P: Platform> Report<P> {
    /// The task, unless something is wrong with its settings; `problems` are those of the platform's own.
    pub(super) fn read(
        raw: &RawReport,
        connected: bool,
        platform: Option<P>,
        mut problems: Vec<WithProblem>,
    ) -> Result<Box<dyn Task>, Vec<WithProblem>> {
        if !connected {
            let help = "name the `connection` that has the host and the credentials";
            problems.push(WithProblem::new("", "a report wants a connection").help(help));
        }
        let (max_size, idle) = (raw.max_size.as_deref(), raw.idle_timeout.as_deref());
        let wanted = Wanted::read(max_size, idle, raw.media_type.as_ref(), raw.charset.as_ref(), &mut problems);
        let mut time = |key: &str, text: Option<&String>| {
            let read = duration::parse(text?);
            let bad = |error: duration::Error| {
                WithProblem::new(format!("/poll/{key}"), error.to_string()).help("write a time such as `90s`")
            };
            read.map_err(|error| problems.push(bad(error))).ok()
        };
        let poll = raw.poll.as_ref();
        let interval = time("interval", poll.and_then(|poll| poll.interval.as_ref()));
        let longest = time("max_interval", poll.and_then(|poll| poll.max_interval.as_ref()));
        let patience = time("timeout", poll.and_then(|poll| poll.timeout.as_ref()));
        if interval == Some(Duration::ZERO) {
            let problem =
                WithProblem::new("/poll/interval", "without a pause the platform would be asked all the time");
            problems.push(problem.help("write some seconds, such as `15s`"));
        }
        let Some(platform) = platform.filter(|_| problems.is_empty()) else { return Err(problems) };
        let pace = platform.pace();
        let interval = interval.unwrap_or(pace.interval);
        let pace = Pace {
            interval,
            // A first pause that is longer than our own bound is meant.
            interval_max: longest.unwrap_or(pace.interval_max.max(interval)),
            timeout: patience.unwrap_or(pace.timeout),
        };
        let wanted = Wanted { vague: Some(platform.media_type()), ..wanted };
        Ok(Box::new(Self { platform, pace, patience, wanted }))
    }
}

#[async_trait]
impl<P: Platform> Task for Report<P> {
    fn effect(&self) -> Effect {
        // Whoever comes after an attempt that was cut off looks first whether the report was asked for.
        Effect::Call { repeatable: true }
    }

    fn names(&self) -> Vec<Place> {
        self.platform.names()
    }

    fn patience(&self) -> Option<Patience> {
        self.patience.map(|longest| Patience { longest, of: "for a report", setting: "poll.timeout" })
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        self.go(ctx).await
    }
}
