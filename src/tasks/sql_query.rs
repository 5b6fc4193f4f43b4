//! `sql_query`: rows out of a database, with their digits. The query runs in a transaction that can only read.

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::sql::{self, Answer, Session, sql_failure};
use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, read_mapping, read_with};
use crate::domain::failure::Failure;
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
    Ok(Box::new(SqlQuery { database: with.database.clone(), sql: with.sql.clone(), params, rows_max }))
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
        let work = |mut session: Box<dyn Session>| async move { self.query(ctx, session.as_mut()).await };
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
    async fn query(&self, ctx: &TaskContext<'_>, session: &mut dyn Session) -> Result<Map<String, Value>, Failure> {
        let values = values(self.params.as_ref(), ctx)?;
        let mut answer = Answer::new(ctx, self.rows_max);
        session.query(&self.sql, &values, &mut answer).await?;
        answer.finish().await
    }
}
