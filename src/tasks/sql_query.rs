//! `sql_query`: rows out of a database, with their digits. The query runs in a transaction that can only read.

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::pin::pin;
use tokio_postgres::Client;

use super::sql::{self, Stage, bind, failure, sql_failure};
use super::table::RowsOut;
use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, read_mapping, read_with};
use crate::domain::failure::{Failure, Fault};
use crate::expr::{Mapping, Place};
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "sql_query",
    summary: "Reads rows from a database; the output is `{ rows, count, columns }`.",
    connects: false,
    failures: &["sql", "secret"],
    schema: || schema_for!(With),
    parse: |with, _| parse(&read_with(with)?, with),
};

/// Settings of a `sql_query` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The database, as `databases` in clawhook.yaml names it.
    database: String,
    /// One query, with `$1`, `$2` for values.
    sql: String,
    /// The values of `$1`, `$2` and so on.
    params: Option<Vec<Value>>,
    /// The most rows that the query may give; 1,000,000 when left out.
    max_rows: Option<u64>,
}

#[derive(Debug)]
struct SqlQuery {
    database: String,
    sql: String,
    params: Option<Mapping>,
    rows_max: u64,
}

/// What is wrong with SQL that holds an expression.
pub(super) fn check_sql(pointer: &str, sql: &str, problems: &mut Vec<WithProblem>) {
    if sql.contains("${{") {
        let problem = WithProblem::new(pointer, "an expression in SQL lets data become part of the statement");
        problems.push(problem.help("write `$1` in the statement, and `params: [\"${{ … }}\"]`"));
    }
}

fn parse(with: &With, raw: &Value) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    check_sql("/sql", &with.sql, &mut problems);
    let params = with.params.as_ref().and_then(|_| match read_mapping("/params", &raw["params"]) {
        Ok(params) => Some(params),
        Err(found) => {
            problems.extend(found);
            None
        }
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let rows_max = with.max_rows.unwrap_or(limits::TABLE_ROWS_MAX).min(limits::TABLE_ROWS_CEILING);
    let sql = with.sql.trim().trim_end_matches(';').to_owned();
    Ok(Box::new(SqlQuery { database: with.database.clone(), sql, params, rows_max }))
}

#[async_trait]
impl Task for SqlQuery {
    fn effect(&self) -> Effect {
        Effect::Call { repeatable: true }
    }

    fn names(&self) -> Vec<Place> {
        self.params.iter().flat_map(|params| names_of("/params", params)).collect()
    }

    fn databases(&self) -> Vec<(&'static str, &str)> {
        vec![("/database", &self.database)]
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let work = |client| async move { self.query(ctx, &client).await };
        sql::with(ctx, &self.database, work).await.map(|rows| Done::Output(Value::Object(rows))).into()
    }
}

/// The values that a mapping of a list gives.
pub(super) fn values(params: Option<&Mapping>, ctx: &TaskContext<'_>) -> Result<Vec<Value>, Failure> {
    let Some(params) = params else { return Ok(Vec::new()) };
    match ctx.eval(params)? {
        Value::Array(values) => Ok(values),
        _ => Err(sql_failure("`params` is no list")),
    }
}

impl SqlQuery {
    async fn query(&self, ctx: &TaskContext<'_>, client: &Client) -> Result<Map<String, Value>, Failure> {
        let values = values(self.params.as_ref(), ctx)?;
        let told = |error: tokio_postgres::Error| failure(&error, Stage::Working);
        client.batch_execute("BEGIN READ ONLY").await.map_err(told)?;
        let statement = client.prepare(&self.sql).await.map_err(told)?;
        let columns: Vec<String> = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        if columns.is_empty() {
            return Err(sql_failure("the statement gives no rows").help("use `sql_exec` for what writes"));
        }
        let told_apart: BTreeSet<_> = columns.iter().collect();
        if told_apart.len() < columns.len() {
            let why = "two columns of the query have the same name; give one of them another with `AS`";
            return Err(sql_failure(why));
        }
        let params = bind(&values, statement.params()).map_err(sql_failure)?;
        // The server writes each row as JSON: every type as text of its own, numbers with all their digits.
        let as_json = format!("SELECT to_json(q)::text FROM (\n{}\n) AS q", self.sql);
        let statement = client.prepare_typed(&as_json, statement.params()).await.map_err(told)?;
        let mut rows = pin!(client.query_raw(&statement, params).await.map_err(told)?);
        let mut out = RowsOut::new(ctx.artifacts, ctx.run, columns);
        while let Some(row) = rows.try_next().await.map_err(told)? {
            if out.count() == self.rows_max {
                let why = format!("the query gives more than {} rows", self.rows_max);
                return Err(Failure::new("sql.rows", Fault::Config, why)
                    .help("ask for fewer with `LIMIT` or `WHERE`, or raise `max_rows`"));
            }
            let text: &str = row.try_get(0).map_err(told)?;
            // A value of type `json` may have line breaks of its own.
            let row: Value = serde_json::from_str(text).map_err(|error| sql_failure(error.to_string()))?;
            out.add(row.to_string().as_bytes()).await.map_err(|error| error.failure())?;
        }
        out.finish().await.map_err(|error| error.failure())
    }
}
