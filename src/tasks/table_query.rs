//! `table_query`: SQL over tables that earlier tasks gave. Each attempt has a database of its own, in a file that is
//! unlinked as soon as it is open: small tables never leave its cache, large ones do not fill the memory, and nothing is
//! left of it, whatever happens.

mod database;
mod decimal;

use std::collections::BTreeMap;

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::table::Format;
use super::table::aside::aside;
use super::table::source::{RawSource, Source};
use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, read_mapping, read_with};
use crate::domain::failure::{Failure, Fault};
use crate::expr::{Mapping, Place};
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "table_query",
    summary: "Asks tables of earlier tasks with SQL; the output is `{ rows, count, columns }`.",
    connects: false,
    failures: &["table"],
    schema: || schema_for!(With),
    parse: |with, _| parse(&read_with(with)?, with),
};

/// Settings of a `table_query` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The tables by the names that the query uses: rows, such as `${{ tasks.orders.body.items }}`, or `from` with how a
    /// file is to be read.
    tables: BTreeMap<String, Table>,
    /// One `SELECT` (or `WITH … SELECT`, or `VALUES`) in the SQL of SQLite.
    sql: String,
    /// Values for `:name` in the query.
    params: Option<Map<String, Value>>,
    /// The most rows that the query may give; 1,000,000 when left out.
    max_rows: Option<u64>,
    /// Writes the rows into a file, whose handle is the output's `file`, instead of giving them as `rows`.
    file: Option<File>,
}

/// A file to write.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    /// How the table is written down.
    format: Format,
    /// What the file is called, such as `stock.csv`.
    name: Option<String>,
}

/// A table: rows, or a map with `from`.
#[derive(Debug, Deserialize)]
struct Table(Value);

impl JsonSchema for Table {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Table".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let source = generator.subschema_for::<RawSource>();
        schemars::json_schema!({
            "description": "rows, such as `${{ tasks.orders.body.items }}`, or `from` with how a file is to be read",
            "anyOf": [{ "type": "string" }, { "type": "array" }, source],
        })
    }
}

#[derive(Debug)]
struct TableQuery {
    tables: Vec<(String, Source)>,
    sql: String,
    params: Option<Mapping>,
    rows_max: u64,
    file: Option<File>,
}

fn parse(with: &With, raw: &Value) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    let mut tables: Vec<(String, Source)> = Vec::new();
    for (name, Table(value)) in &with.tables {
        let pointer = format!("/tables/{}", name.replace('~', "~0").replace('/', "~1"));
        if tables.iter().any(|(there, _)| there.eq_ignore_ascii_case(name)) {
            let problem = WithProblem::new(&*pointer, format!("there is a table `{name}` already, but for its case"));
            problems.push(problem.help("SQL does not tell upper and lower case apart: write another name"));
        }
        if name.to_ascii_lowercase().starts_with("sqlite_") {
            let problem = WithProblem::new(&*pointer, format!("`{name}` cannot be the name of a table"));
            problems.push(problem.help("write a name that does not begin with `sqlite_`"));
        }
        match Source::read(&pointer, value) {
            Ok(source) => tables.push((name.clone(), source)),
            Err(found) => problems.extend(found),
        }
    }
    if with.sql.contains("${{") {
        let problem = WithProblem::new("/sql", "an expression in SQL lets data become part of the query");
        problems.push(problem.help("write `:name` in the query, and `params: { name: \"${{ … }}\" }`"));
    } else if let Err(why) = database::check(&with.sql) {
        problems.push(WithProblem::new("/sql", why).help("write one `SELECT`, `WITH … SELECT` or `VALUES`"));
    }
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
    Ok(Box::new(TableQuery { tables, sql: with.sql.clone(), params, rows_max, file: with.file.clone() }))
}

#[async_trait]
impl Task for TableQuery {
    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn names(&self) -> Vec<Place> {
        let mut names: Vec<Place> = self.tables.iter().flat_map(|(_, source)| source.names()).collect();
        names.extend(self.params.iter().flat_map(|params| names_of("/params", params)));
        names
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        self.query(ctx).await.map(Done::Output).into()
    }
}

impl TableQuery {
    async fn query(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
        let find = |(name, source): &(String, Source)| Ok((name.clone(), source.find(ctx.values, name)?));
        let tables = self.tables.iter().map(find).collect::<Result<Vec<_>, Failure>>()?;
        let params = match &self.params {
            Some(params) => ctx.eval(params)?,
            None => Value::Null,
        };
        let query =
            database::Query { tables, sql: self.sql.clone(), params, rows_max: self.rows_max, file: self.file.clone() };
        aside(ctx.artifacts, ctx.run, move |aside| query.run(aside)).await.map(Value::Object)
    }
}

/// The query, or what it was given, is wrong.
fn query_failure(why: impl std::fmt::Display) -> Failure {
    Failure::new("table.query", Fault::Config, format!("the query failed: {why}"))
        .help("try it on the rows that `clawhook runs show RUN --full` shows")
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
        check(&json!({ "tables": { "a": "${{ tasks.a.rows }}" }, "sql": "select * from a where x > :least" }), &[]);
        check(
            &json!({ "tables": { "a": [], "A": { "from": [], "charset": "x", "delimiter": ";;" }, "sqlite_a": [] },
                "sql": "select ${{ inputs.x }}", "params": { "x": "${{ " } }),
            &[
                "/tables/A/charset: there is no charset `x`",
                "/tables/A/delimiter: a delimiter is one ASCII character",
                "/tables/sqlite_a: `sqlite_a` cannot be the name of a table",
                "/sql: an expression in SQL lets data become part of the query",
                "/params/x: this expression is never closed",
            ],
        );
        check(
            &json!({ "tables": {}, "sql": "delete from a" }),
            &["/sql: the query does not begin with `SELECT`, `WITH` or `VALUES`"],
        );
        check(&json!({ "tables": {}, "sql": "select 1; select 2" }), &["/sql: there is something behind the query"]);
    }
}
