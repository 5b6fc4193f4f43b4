//! `sql_exec`: statements that write, all of them or none. With `once` the task leaves its mark in the same transaction,
//! so a repeat after a crash finds it and does nothing.

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};

use super::sql::{self, Session};
use super::sql_query::{check_sql, values};
use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, read_mapping, read_with};
use crate::domain::failure::Failure;
use crate::expr::{Mapping, Place};

pub(super) const KIND: TaskKind = TaskKind {
    name: "sql_exec",
    summary: "Runs statements in one transaction; the output is `{ affected, statements, repeated }`.",
    connects: false,
    failures: &["sql", "secret"],
    schema: || schema_for!(With),
    parse: |with, _| parse(&read_with(with)?, with),
};

/// Settings of a `sql_exec` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The database, as `databases` in clawhook.yaml names it.
    database: String,
    /// The statements, in order.
    #[schemars(length(min = 1, max = 100))]
    statements: Vec<RawStatement>,
    /// Does nothing when the same task of the same run has done it already, also across a crash. It keeps a small table
    /// `clawhook_once` in the database, which it makes if it may.
    #[serde(default)]
    once: bool,
}

/// One statement.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawStatement {
    /// The statement, with `$1`, `$2` for values.
    sql: String,
    /// The values of `$1`, `$2` and so on.
    params: Option<Vec<Value>>,
}

#[derive(Debug)]
struct SqlExec {
    database: String,
    statements: Vec<(String, Option<Mapping>)>,
    once: bool,
}

fn parse(with: &With, raw: &Value) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    let mut statements = Vec::new();
    for (place, statement) in with.statements.iter().enumerate() {
        check_sql(&format!("/statements/{place}/sql"), &statement.sql, &mut problems);
        let pointer = format!("/statements/{place}/params");
        let params = statement.params.as_ref().and_then(|_| {
            let value = raw.pointer(&pointer).unwrap_or(&Value::Null);
            read_mapping(&pointer, value).map_err(|found| problems.extend(found)).ok()
        });
        statements.push((statement.sql.clone(), params));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Box::new(SqlExec { database: with.database.clone(), statements, once: with.once }))
}

#[async_trait]
impl Task for SqlExec {
    fn effect(&self) -> Effect {
        Effect::Call { repeatable: self.once }
    }

    fn names(&self) -> Vec<Place> {
        let of = |(place, (_, params)): (usize, &(String, Option<Mapping>))| {
            params
                .iter()
                .flat_map(|params| names_of(&format!("/statements/{place}/params"), params))
                .collect::<Vec<_>>()
        };
        self.statements.iter().enumerate().flat_map(of).collect()
    }

    fn databases(&self) -> Vec<(&'static str, &str)> {
        vec![("/database", &self.database)]
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let work = |mut session: Box<dyn Session>| async move { self.execute(ctx, session.as_mut()).await };
        sql::with(ctx, &self.database, work).await.map(Done::Output).into()
    }
}

impl SqlExec {
    async fn execute(&self, ctx: &TaskContext<'_>, session: &mut dyn Session) -> Result<Value, Failure> {
        if self.once {
            session.prepare_once().await?;
        }
        session.begin().await?;
        if self.once
            && let Some(before) = session.claim_once(ctx.idempotency_key).await?
        {
            return Ok(repeated(before));
        }
        let mut counts = Vec::new();
        for (sql, params) in &self.statements {
            counts.push(session.execute(sql, &values(params.as_ref(), ctx)?).await?);
        }
        let output = json!({
            "affected": counts.iter().sum::<u64>(),
            "statements": counts.iter().map(|affected| json!({ "affected": affected })).collect::<Vec<_>>(),
            "repeated": false,
        });
        if self.once {
            session.keep_once(ctx.idempotency_key, &output).await?;
        }
        session.commit().await?;
        Ok(output)
    }
}

/// What a task gives that has run before.
pub(super) fn repeated(mut output: Value) -> Value {
    output["repeated"] = Value::Bool(true);
    output
}
