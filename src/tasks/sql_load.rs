//! `sql_load`: a table into a table, however large. Rows stream into a temporary table, are looked through there, and
//! become visible in one transaction: all that are good, or none. A repeat after a crash changes nothing with `upsert`,
//! and does nothing with `once`.

mod stage;

use std::collections::BTreeMap;

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::Value;

use super::sql::{self, Loads, Merge, Refused, Session, Upsert, sql_failure};
use super::sql_exec::repeated;
use super::table::source::{RawSource, Source};
use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, read_with};
use crate::artifacts::Handle;
use crate::domain::failure::{Failure, Fault};
use crate::expr::Place;

pub(super) const KIND: TaskKind = TaskKind {
    name: "sql_load",
    summary: "Loads a table into a database; the output is `{ read, loaded, rejected, inserted, updated, rejects }`.",
    connects: false,
    failures: &["sql", "table", "secret"],
    schema: || schema_for!(With),
    parse: |with, _| parse(&read_with(with)?),
};

/// Settings of a `sql_load` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The database, as `databases` in clawhook.yaml names it.
    database: String,
    /// The table to load into, such as `stock` or `reports.stock`. Its columns say how values are read.
    table: String,
    /// The rows: `from` is a list of objects, or the file of an earlier task.
    source: RawSource,
    /// The columns to fill, each with the column of the source that it comes from. When left out, all columns of the
    /// source, by their own names.
    columns: Option<BTreeMap<String, String>>,
    /// What tells a row that is there already; without it every row is a new one. Rows without a key are refused.
    upsert: Option<Upsert>,
    /// What is no value but nothing; empty text when left out.
    nulls: Option<Vec<String>>,
    /// How many rows may be refused before the load fails and nothing is loaded: a number, or a share such as `1%`; none
    /// when left out.
    reject_threshold: Option<Threshold>,
    /// Does nothing when the same task of the same run has done it already, also across a crash; see `sql_exec`.
    #[serde(default)]
    once: bool,
}

/// Rows that may be refused.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Threshold {
    Rows(u64),
    Percent(f64),
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let percent =
            || value.as_str()?.strip_suffix('%')?.trim().parse().ok().filter(|share| (0.0..=100.0).contains(share));
        value
            .as_u64()
            .map(Self::Rows)
            .or_else(|| percent().map(Self::Percent))
            .ok_or_else(|| serde::de::Error::custom("a threshold is a number of rows, or a share such as `1%`"))
    }
}

impl JsonSchema for Threshold {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]+)?%$" },
            ],
            "examples": [10, "1%"],
        })
    }
}

impl Threshold {
    /// Whether so many rows of all may be refused.
    fn allows(self, rejected: u64, read: u64) -> bool {
        match self {
            Self::Rows(most) => rejected <= most,
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
            Self::Percent(share) => rejected as f64 * 100.0 <= share * read as f64,
        }
    }
}

#[derive(Debug)]
struct SqlLoad {
    database: String,
    table: Vec<String>,
    source: Source,
    columns: Option<BTreeMap<String, String>>,
    upsert: Option<Upsert>,
    nulls: Vec<String>,
    threshold: Threshold,
    once: bool,
}

fn parse(with: &With) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    let source = Source::of("/source", &with.source).map_err(|found| problems.extend(found)).ok();
    let table: Vec<String> = with.table.split('.').map(str::to_owned).collect();
    if table.len() > 2 || table.iter().any(String::is_empty) {
        let problem = WithProblem::new("/table", format!("`{}` is no name of a table", with.table));
        problems.push(problem.help("write `stock`, or `reports.stock` with its schema"));
    }
    if let (Some(columns), Some(upsert)) = (&with.columns, &with.upsert) {
        for (place, key) in upsert.keys.iter().enumerate().filter(|(_, key)| !columns.contains_key(*key)) {
            let problem = WithProblem::new(format!("/upsert/keys/{place}"), format!("`{key}` is not among `columns`"));
            problems.push(problem.help("a row is told by what is loaded: add it to `columns`"));
        }
    }
    let Some(source) = source.filter(|_| problems.is_empty()) else { return Err(problems) };
    Ok(Box::new(SqlLoad {
        database: with.database.clone(),
        table,
        source,
        columns: with.columns.clone(),
        upsert: with.upsert.clone(),
        nulls: with.nulls.clone().unwrap_or_else(|| vec![String::new()]),
        threshold: with.reject_threshold.unwrap_or(Threshold::Rows(0)),
        once: with.once,
    }))
}

#[async_trait]
impl Task for SqlLoad {
    fn effect(&self) -> Effect {
        Effect::Call { repeatable: self.once || self.upsert.is_some() }
    }

    fn names(&self) -> Vec<Place> {
        self.source.names()
    }

    fn databases(&self) -> Vec<(&'static str, &str)> {
        vec![("/database", &self.database)]
    }

    fn loads(&self) -> bool {
        true
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        // What was refused is kept also when the load fails: that is when it is wanted.
        let rejects = std::sync::Mutex::new(None);
        let work = |mut session: Box<dyn Session>| {
            let rejects = &rejects;
            async move { self.load(ctx, session.as_mut(), rejects).await }
        };
        let result = sql::with(ctx, &self.database, work).await;
        let rejects = rejects.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let checkpoint = rejects.filter(|_| result.is_err()).map(|handle: Handle| {
            let mut kept = serde_json::Map::new();
            kept.insert("rejects".to_owned(), handle.to_value());
            Value::Object(kept)
        });
        Attempted { result: result.map(Done::Output), exchange: None, checkpoint }
    }
}

impl SqlLoad {
    async fn load(
        &self,
        ctx: &TaskContext<'_>,
        session: &mut dyn Session,
        kept: &std::sync::Mutex<Option<Handle>>,
    ) -> Result<Value, Failure> {
        loads(session)?;
        let found = self.source.find(ctx.values, "source")?;
        if self.once {
            session.prepare_once().await?;
        }
        session.begin().await?;
        if self.once
            && let Some(before) = session.claim_once(ctx.idempotency_key).await?
        {
            return Ok(repeated(before));
        }
        let target = loads(session)?.target(&self.table).await?;
        // Nothing is never in conflict with nothing: without its key, a row would be put in anew at each repeat.
        let keys = self.upsert.as_ref().map(|upsert| upsert.keys.as_slice()).unwrap_or_default();
        let staged =
            stage::fill(ctx, loads(session)?, found, self.columns.as_ref(), &self.nulls, keys, &target).await?;
        let merge = Merge { target: &target, columns: &staged.columns, upsert: self.upsert.as_ref() };
        let mut refused = staged.refused;
        merge.check_keys()?;
        let merged = loads(session)?.merge(&merge, &mut refused).await?;
        let (read, rejected) = (staged.read, refused.count());
        let rejects = self.keep(refused, kept).await?;
        if !self.threshold.allows(rejected, read) {
            let place =
                rejects.as_ref().map(|handle| format!("; why stands in `{}`", handle.artifact)).unwrap_or_default();
            let message = format!("{rejected} of {read} rows were refused, so nothing was loaded{place}");
            return Err(Failure::new("sql.rejects", Fault::Sender, message).help(format!(
                "see them with `clawhook runs artifact {} ARTIFACT`; correct the data, or raise `reject_threshold`",
                ctx.run
            )));
        }
        let output = serde_json::json!({
            "read": read,
            "loaded": read - rejected,
            "rejected": rejected,
            "inserted": merged.inserted,
            "updated": merged.updated,
            "rejects": rejects.map(|handle| handle.to_value()),
            "repeated": false,
        });
        if self.once {
            session.keep_once(ctx.idempotency_key, &output).await?;
        }
        session.commit().await?;
        Ok(output)
    }

    async fn keep(
        &self,
        refused: Refused<'_>,
        kept: &std::sync::Mutex<Option<Handle>>,
    ) -> Result<Option<Handle>, Failure> {
        let handle = refused.publish().await?;
        kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone_from(&handle);
        Ok(handle)
    }
}

/// How the server is loaded; `check` says the same where it knows the databases.
fn loads(session: &mut dyn Session) -> Result<&mut dyn Loads, Failure> {
    session.loads().ok_or_else(|| sql_failure(sql::NO_LOAD).help(sql::NO_LOAD_HELP))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(with: &Value, expected: &[&str]) {
        crate::tasks::check_with(&KIND, with, expected);
    }

    #[test]
    fn settings_are_checked_together() {
        let source = json!({ "from": "${{ tasks.report.file }}" });
        check(&json!({ "database": "d", "table": "s.t", "source": source, "reject_threshold": "0.5%" }), &[]);
        check(
            &json!({ "database": "d", "table": "a.b.c", "source": { "from": "${{ " }, "columns": { "a": "A" },
                "upsert": { "keys": ["b"] } }),
            &[
                "/source/from: this expression is never closed",
                "/table: `a.b.c` is no name of a table",
                "/upsert/keys/0: `b` is not among `columns`",
            ],
        );
    }

    #[test]
    fn thresholds() {
        let read = |value: Value| serde_json::from_value::<Threshold>(value).ok();
        assert_eq!(read(json!(3)), Some(Threshold::Rows(3)));
        assert_eq!(read(json!("0.5%")), Some(Threshold::Percent(0.5)));
        for bad in [json!("3"), json!("101%"), json!(-1), json!(1.5)] {
            assert_eq!(read(bad), None);
        }
        for (threshold, rejected, read, allowed) in [
            (Threshold::Rows(0), 0, 10, true),
            (Threshold::Rows(0), 1, 10, false),
            (Threshold::Percent(1.0), 1, 100, true),
            (Threshold::Percent(1.0), 1, 99, false),
            (Threshold::Percent(1.0), 0, 0, true),
        ] {
            assert_eq!(threshold.allows(rejected, read), allowed);
        }
    }
}
