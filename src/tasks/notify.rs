//! `notify`: tells people on a channel.
//!
//! It may run again after a crash although a message went out: an alert that comes twice costs a look, one that never
//! comes may cost an order. What a platform may or may not have taken while the gateway lived is not sent to it again.

use std::time::Duration;

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, printed, read_mapping, read_with,
};
use crate::channels::alerts::{self, Alert, Told};
use crate::channels::message::{self, Message};
use crate::channels::words::Words;
use crate::clock::Timestamp;
use crate::domain::duration;
use crate::domain::failure::{Failure, Fault};
use crate::domain::masking::Masker;
use crate::expr::{Mapping, Place};
use crate::id::ChannelName;
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "notify",
    summary: "Tells people on a channel; alerts of one group are counted instead of repeated, and a rate is never exceeded.",
    connects: false,
    failures: &["notify", "http", "secret"],
    schema: || schema_for!(With),
    parse: |with, _| parse(read_with(with)?),
};

/// Settings of a `notify` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// Where: a channel of `clawhook.yaml`.
    channel: String,
    /// One line; expressions are allowed.
    title: String,
    /// Markdown; expressions are allowed.
    text: Option<String>,
    /// How bad it is; `error` in a run that failed, else `info` when left out.
    level: Option<Level>,
    /// Rows under the text.
    table: Option<RawTable>,
    /// Who is called by name, beside those of the channel.
    mentions: Option<RawMention>,
    /// What makes two alerts the same. Workflow, task and cause of the failure when left out; an `info` without it is
    /// never counted.
    group: Option<String>,
    /// Says that a problem is there, or that it is over.
    status: Option<Status>,
    /// How long alerts of one group are counted instead of sent; `10m` when left out.
    window: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Something did not work.
    Error,
}

/// What an alert says of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// It is there, until a notice of the same `group` says otherwise.
    Problem,
    /// It is over; told once, and only when people know of it.
    Recovered,
}

/// Rows under the text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawTable {
    /// The members of the rows to show, in order; those of the first row when left out.
    columns: Option<Vec<String>>,
    /// A list of objects, or of lists; one expression.
    rows: Value,
    /// How many rows are shown, 20 when left out; how many more there are is said.
    #[schemars(range(min = 1, max = 200))]
    max_rows: Option<usize>,
}

/// Who is called by name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawMention {
    /// User ids of the platform; expressions are allowed.
    #[serde(default)]
    people: Vec<String>,
    /// Telephone numbers, as text; expressions are allowed.
    #[serde(default)]
    phones: Vec<String>,
    /// Everybody there.
    #[serde(default)]
    all: bool,
}

#[derive(Debug)]
struct Notify {
    channel: ChannelName,
    title: Mapping,
    text: Mapping,
    level: Option<message::Level>,
    table: Option<Table>,
    people: Mapping,
    phones: Mapping,
    all: bool,
    group: Option<Mapping>,
    status: Option<Status>,
    window: Duration,
    /// What is looked up without being asked: whether the run failed, and its workflow.
    failure: Mapping,
    workflow: Mapping,
}

#[derive(Debug)]
struct Table {
    columns: Option<Vec<String>>,
    rows: Mapping,
    rows_max: usize,
}

fn parse(with: With) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    let mut mapping =
        |pointer: &str, value: Value| read_mapping(pointer, &value).map_err(|found| problems.extend(found)).ok();
    let mentions = with.mentions.unwrap_or_default();
    let title = mapping("/title", Value::String(with.title));
    let text = mapping("/text", with.text.map_or(Value::Null, Value::String));
    let people = mapping("/mentions/people", mentions.people.into());
    let phones = mapping("/mentions/phones", mentions.phones.into());
    let named = with.group.is_some();
    let group = with.group.map(|group| mapping("/group", Value::String(group)));
    let rows = with.table.as_ref().map(|table| mapping("/table/rows", table.rows.clone()));
    let channel = ChannelName::new(&with.channel);
    if let Err(error) = &channel {
        let help = "name a channel of `channels` in clawhook.yaml; it is the same for every run";
        problems.push(WithProblem::new("/channel", error.to_string()).help(help));
    }
    let window = with.window.as_deref().map_or(Ok(limits::ALERT_WINDOW), duration::parse);
    if let Err(error) = &window {
        problems.push(WithProblem::new("/window", error.problem()).help(error.help()));
    }
    if with
        .table
        .as_ref()
        .and_then(|table| table.columns.as_ref())
        .is_some_and(|all| all.len() > limits::NOTICE_COLUMNS_MAX)
    {
        let message = format!("a table in a notice has at most {} columns", limits::NOTICE_COLUMNS_MAX);
        problems.push(WithProblem::new("/table/columns", message).help("people read it on a telephone: show fewer"));
    }
    if with.status == Some(Status::Recovered) && !named {
        let help = "add the `group` of the notice with `status: problem`";
        problems
            .push(WithProblem::new("/status", "`recovered` needs the `group` of the problem that is over").help(help));
    }
    let own = |text: &str| Mapping::parse(&Value::String(text.to_owned()));
    let (failure, workflow) = (own("${{ failure }}"), own("${{ run.workflow }}"));
    let all = (title, text, people, phones, channel, window, group.unwrap_or(None), rows, failure, workflow);
    match all {
        (
            Some(title),
            Some(text),
            Some(people),
            Some(phones),
            Ok(channel),
            Ok(window),
            group,
            rows,
            Ok(failure),
            Ok(workflow),
        ) if problems.is_empty() => {
            let table = with.table.zip(rows.flatten()).map(|(table, rows)| Table {
                columns: table.columns,
                rows,
                rows_max: table.max_rows.unwrap_or(limits::NOTICE_ROWS).min(limits::NOTICE_ROWS_MAX),
            });
            let level = with.level.map(|level| match level {
                Level::Info => message::Level::Info,
                Level::Warning => message::Level::Warning,
                Level::Error => message::Level::Error,
            });
            let all = mentions.all;
            let status = with.status;
            Ok(Box::new(Notify {
                channel,
                title,
                text,
                level,
                table,
                people,
                phones,
                all,
                group,
                status,
                window,
                failure,
                workflow,
            }))
        }
        _ => Err(problems),
    }
}

#[async_trait]
impl Task for Notify {
    fn effect(&self) -> Effect {
        // Doubtful deliveries say `Retry::Never`, so only a crash makes the engine repeat one.
        Effect::Call { repeatable: true }
    }

    fn names(&self) -> Vec<Place> {
        let mut names = names_of("/title", &self.title);
        names.extend(names_of("/text", &self.text));
        names.extend(names_of("/mentions/people", &self.people));
        names.extend(names_of("/mentions/phones", &self.phones));
        names.extend(self.group.iter().flat_map(|group| names_of("/group", group)));
        names.extend(self.table.iter().flat_map(|table| names_of("/table/rows", &table.rows)));
        names
    }

    fn channels(&self) -> Vec<(String, ChannelName)> {
        vec![("/channel".to_owned(), self.channel.clone())]
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let since = ctx.checkpoint.and_then(|checkpoint| checkpoint["since"].as_i64()).map(Timestamp::from_millis);
        let since = since.unwrap_or_else(|| ctx.clock.now());
        let (alert, rows) = match self.alert(ctx, since) {
            Ok(alert) => alert,
            Err(failure) => return Err(failure).into(),
        };
        let telling = ctx.alerts.tell(ctx.channels, &self.channel, alert).await;
        let mut checkpoint = None;
        let result = telling.result.map(|told| match told {
            Told::Over(report) => {
                let mut output = json!(report);
                if rows > 0 {
                    output["rows"] = json!(rows);
                }
                Done::Output(output)
            }
            Told::Later { at, why } => {
                checkpoint = Some(json!({ "since": since.as_millis() }));
                Done::Later { at, why }
            }
        });
        Attempted { result, exchange: telling.exchange, checkpoint }
    }
}

impl Notify {
    /// What is to be told, and how many rows it shows.
    fn alert<'c>(&self, ctx: &TaskContext<'c>, since: Timestamp) -> Result<(Alert<'c>, usize), Failure> {
        let masker = ctx.secrets.known();
        let text = |mapping: &Mapping| Ok(masker.mask(&printed(&ctx.eval(mapping)?)).into_owned());
        let list = |mapping: &Mapping| {
            let items = ctx.eval(mapping)?;
            Ok(items.as_array().into_iter().flatten().map(printed).filter(|item| !item.is_empty()).collect())
        };
        // A notice may stand where nothing has failed.
        let failure = self.failure.eval(ctx.values).unwrap_or_default();
        let level = self.level.unwrap_or(if failure.is_null() { message::Level::Info } else { message::Level::Error });
        let table = self.table.as_ref().map(|table| table.read(ctx, &masker)).transpose()?;
        let rows = table.as_ref().map_or(0, |table| table.rows.len());
        let words = ctx.channels.get(&self.channel).map_or(Words::of(<_>::default()), |plan| plan.words());
        let message = Message { title: text(&self.title)?, text: text(&self.text)?, level, table }.bounded(words);
        let group = match &self.group {
            Some(group) => Some(text(group)?),
            None if level == message::Level::Info => None,
            None => Some(self.own_group(ctx, &failure)),
        };
        let status = match self.status {
            Some(Status::Recovered) => alerts::Status::Recovered,
            Some(Status::Problem) => alerts::Status::Problem,
            None => alerts::Status::Passing,
        };
        let alert = Alert {
            key: ctx.idempotency_key,
            message,
            mention: message::Mention { people: list(&self.people)?, phones: list(&self.phones)?, all: self.all },
            group: group.map(|group| (group, self.window)),
            status,
            again: ctx.checkpoint.is_some(),
            since,
            time_limit: ctx.time_limit.saturating_sub(HEADROOM),
        };
        Ok((alert, rows))
    }

    /// Workflow, task, and the cause of the failure when there is one.
    fn own_group(&self, ctx: &TaskContext<'_>, failure: &Value) -> String {
        let workflow = self.workflow.eval(ctx.values).unwrap_or_default();
        let part = |name: &str| printed(&failure[name]);
        format!("{}/{}/{}/{}/{}", printed(&workflow), ctx.task, part("code"), part("place"), part("status"))
    }
}

/// The channel gives up this much before the engine cuts the attempt off.
const HEADROOM: Duration = Duration::from_millis(50);

impl Table {
    fn read(&self, ctx: &TaskContext<'_>, masker: &Masker) -> Result<message::Table, Failure> {
        let value = ctx.eval(&self.rows)?;
        let Value::Array(rows) = masker.mask_json(value) else {
            let message = "`table.rows` is not a list";
            return Err(Failure::new("expression.failed", Fault::Config, message).help("give a list of objects"));
        };
        let columns = self.columns.clone().unwrap_or_else(|| match rows.first() {
            Some(Value::Object(row)) => row.keys().take(limits::NOTICE_COLUMNS_MAX).cloned().collect(),
            Some(Value::Array(row)) => (1..=row.len().min(limits::NOTICE_COLUMNS_MAX)).map(|n| n.to_string()).collect(),
            _ => vec![String::new()],
        });
        let cell = |value: &Value| message::cut_cell(&printed(value));
        let row = |row: &Value| match row {
            Value::Object(members) => {
                columns.iter().map(|column| members.get(column).map(cell).unwrap_or_default()).collect()
            }
            Value::Array(cells) => cells.iter().take(columns.len()).map(cell).collect(),
            one => vec![cell(one)],
        };
        let shown: Vec<Vec<String>> = rows.iter().take(self.rows_max).map(row).collect();
        Ok(message::Table { more: rows.len() - shown.len(), rows: shown, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(with: &Value, expected: &[&str]) {
        crate::tasks::check_with(&KIND, with, expected);
    }

    #[test]
    fn settings_are_checked_together() {
        check(&json!({"channel": "ops", "title": "${{ inputs.a }}", "table": {"rows": "${{ inputs.rows }}"}}), &[]);
        check(
            &json!({"channel": "op s", "title": "${{ ", "status": "recovered", "window": "soon"}),
            &[
                "/title: this expression is never closed",
                "/channel: `op s` is not a channel name: use 1 to 80 letters, digits, `-`, `_` or `.`, starting with a letter or digit",
                "/window: `soon` is not a duration",
                "/status: `recovered` needs the `group` of the problem that is over",
            ],
        );
    }
}
