//! The rows of a query on their way out, whatever server they come from.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::sql_failure;
use crate::artifacts::Artifacts;
use crate::domain::failure::{Failure, Fault};
use crate::id::RunId;
use crate::tasks::TaskContext;
use crate::tasks::table::RowsOut;

/// What a query gave.
pub(in crate::tasks) struct Answer<'a> {
    artifacts: &'a Artifacts,
    run: RunId,
    rows_max: u64,
    out: Option<RowsOut<'a>>,
}

impl<'a> Answer<'a> {
    pub(in crate::tasks) fn new(ctx: &TaskContext<'a>, rows_max: u64) -> Self {
        Self { artifacts: ctx.artifacts, run: ctx.run, rows_max, out: None }
    }

    /// Names the columns, before the first row.
    pub(super) fn open(&mut self, columns: Vec<String>) -> Result<(), Failure> {
        if columns.is_empty() {
            return Err(sql_failure("the statement gives no rows").help("use `sql_exec` for what writes"));
        }
        let told_apart: BTreeSet<_> = columns.iter().collect();
        if told_apart.len() < columns.len() {
            let why = "two columns of the query have the same name; give one of them another with `AS`";
            return Err(sql_failure(why));
        }
        self.out = Some(RowsOut::new(self.artifacts, self.run, columns));
        Ok(())
    }

    /// Adds a row: an object with the columns.
    pub(super) async fn add(&mut self, row: &Value) -> Result<(), Failure> {
        let Some(out) = &mut self.out else { return Err(sql_failure("a row came before its columns")) };
        if out.count() == self.rows_max {
            let why = format!("the query gives more than {} rows", self.rows_max);
            return Err(Failure::new("sql.rows", Fault::Config, why)
                .help("ask for fewer with `LIMIT` or `WHERE`, or raise `max_rows`"));
        }
        out.add(row.to_string().as_bytes()).await.map_err(|error| error.failure())
    }

    /// What the task says of them.
    pub(in crate::tasks) async fn finish(self) -> Result<Map<String, Value>, Failure> {
        match self.out {
            Some(out) => out.finish().await.map_err(|error| error.failure()),
            None => Err(sql_failure("the statement gives no rows").help("use `sql_exec` for what writes")),
        }
    }
}
