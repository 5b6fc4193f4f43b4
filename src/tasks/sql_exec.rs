//! `sql_exec`: statements that write, all of them or none. With `once` the task leaves its mark in the same transaction,
//! so a repeat after a crash finds it and does nothing.

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::sql::{self, Stage, bind, failure, sql_failure};
use super::sql_query::{check_sql, values};
use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, read_mapping, read_with};
use crate::domain::failure::Failure;
use crate::expr::{Mapping, Place};
use crate::limits;

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
        let work = |client| async move { self.execute(ctx, &client).await };
        sql::with(ctx, &self.database, work).await.map(Done::Output).into()
    }
}

impl SqlExec {
    async fn execute(&self, ctx: &TaskContext<'_>, client: &Client) -> Result<Value, Failure> {
        let told = |error: tokio_postgres::Error| failure(&error, Stage::Working);
        if self.once {
            prepare_once(client).await?;
        }
        client.batch_execute("BEGIN").await.map_err(told)?;
        if self.once
            && let Some(before) = claim_once(client, ctx.idempotency_key).await?
        {
            return Ok(before);
        }
        let mut counts = Vec::new();
        for (sql, params) in &self.statements {
            let statement = client.prepare(sql).await.map_err(told)?;
            let params = bind(&values(params.as_ref(), ctx)?, statement.params()).map_err(sql_failure)?;
            counts.push(client.execute_raw(&statement, params).await.map_err(told)?);
        }
        let output = json!({
            "affected": counts.iter().sum::<u64>(),
            "statements": counts.iter().map(|affected| json!({ "affected": affected })).collect::<Vec<_>>(),
            "repeated": false,
        });
        if self.once {
            keep_once(client, ctx.idempotency_key, &output).await?;
        }
        client.batch_execute("COMMIT").await.map_err(|error| failure(&error, Stage::Committing))?;
        Ok(output)
    }
}

/// Makes the table of marks when it is not there.
pub(super) async fn prepare_once(client: &Client) -> Result<(), Failure> {
    let told = |error: tokio_postgres::Error| failure(&error, Stage::Working);
    let there = client.query_one("SELECT to_regclass('clawhook_once') IS NOT NULL", &[]).await.map_err(told)?;
    if there.try_get::<_, bool>(0).map_err(told)? {
        return Ok(());
    }
    let definition = "CREATE TABLE IF NOT EXISTS clawhook_once \
        (key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), output text)";
    let mut made = client.batch_execute(definition).await;
    for _ in 0..limits::SQL_MAKE_TRIES_MAX {
        // Two who make it at once meet in the catalogue.
        match &made {
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION) => {
                made = client.batch_execute(definition).await;
            }
            _ => break,
        }
    }
    made.map_err(|error| {
        let failure = failure(&error, Stage::Working);
        Failure {
            help: Some(format!("`once` wants a table in the database; let its owner make it: `{definition}`")),
            ..failure
        }
    })
}

/// Takes the mark of this task inside the open transaction; what it gave when it has run before. A second one that is
/// under way at this moment waits here for the first.
pub(super) async fn claim_once(client: &Client, key: &str) -> Result<Option<Value>, Failure> {
    let told = |error: tokio_postgres::Error| failure(&error, Stage::Working);
    let claim = "INSERT INTO clawhook_once (key) VALUES ($1) ON CONFLICT (key) DO NOTHING";
    if client.execute(claim, &[&key]).await.map_err(told)? == 1 {
        return Ok(None);
    }
    let row = client.query_one("SELECT output FROM clawhook_once WHERE key = $1", &[&key]).await.map_err(told)?;
    let output: Option<String> = row.try_get(0).map_err(told)?;
    client.batch_execute("ROLLBACK").await.map_err(told)?;
    let mut output: Value = output.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| json!({}));
    output["repeated"] = Value::Bool(true);
    Ok(Some(output))
}

/// Puts what the task gives to its mark.
pub(super) async fn keep_once(client: &Client, key: &str, output: &Value) -> Result<(), Failure> {
    let output = output.to_string();
    let kept = client.execute("UPDATE clawhook_once SET output = $2 WHERE key = $1", &[&key, &output]).await;
    kept.map(|_| ()).map_err(|error| failure(&error, Stage::Working))
}
