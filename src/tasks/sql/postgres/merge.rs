//! From the temporary table into the target: the quick way when all values fit, otherwise those that do not are found
//! and refused first.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use serde_json::{Map, Value};
use tokio_postgres::Client;

use super::params::Param;
use super::{quoted, told};
use crate::domain::failure::Failure;
use crate::tasks::sql::load::{Column, Existing};
use crate::tasks::sql::{Merge, Merged, Refused, Target, sql_failure};

/// The temporary table.
pub(super) const STAGED: &str = "pg_temp.clawhook_load";

const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
    CASE WHEN a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND a.atttypmod > 4 THEN a.atttypmod - 4 END \
    FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped \
    AND a.attgenerated = '' ORDER BY a.attnum";

/// Reads what columns the table has.
pub(super) async fn target(client: &Client, name: &[String]) -> Result<Target, Failure> {
    let quoted = name.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".");
    let rows = client.query(COLUMNS, &[&quoted]).await.map_err(told)?;
    let column = |row: &tokio_postgres::Row| {
        Ok(Column { name: row.try_get(0)?, of: row.try_get(1)?, needed: row.try_get(2)?, chars_max: row.try_get(3)? })
    };
    let columns = rows.iter().map(column).collect::<Result<Vec<_>, _>>().map_err(told)?;
    if columns.is_empty() {
        return Err(sql_failure(format!("there is no table `{}`", name.join(".")))
            .help("make it first, with the types that its columns are to have"));
    }
    Ok(Target { name: name.join("."), quoted, columns })
}

/// Puts the rows into the target, without those that do not fit.
pub(super) async fn run(client: &Client, merge: &Merge<'_>, refused: &mut Refused<'_>) -> Result<Merged, Failure> {
    let merging = Merging { client, merge };
    client.batch_execute("SAVEPOINT clawhook_merge").await.map_err(told)?;
    let error = match merging.merge().await {
        Ok(merged) => return Ok(merged),
        Err(error) => error,
    };
    // Class 22: a value does not fit its type. 23502: one is missing.
    let of_a_row = error.code().is_some_and(|code| code.code().starts_with("22") || code.code() == "23502");
    if !of_a_row {
        return Err(told(error));
    }
    client.batch_execute("ROLLBACK TO SAVEPOINT clawhook_merge").await.map_err(told)?;
    merging.refuse(refused).await?;
    merging.merge().await.map_err(told)
}

struct Merging<'a> {
    client: &'a Client,
    merge: &'a Merge<'a>,
}

impl Merging<'_> {
    /// Puts all rows of the temporary table into the target.
    async fn merge(&self) -> Result<Merged, tokio_postgres::Error> {
        let Merge { target, columns, upsert } = self.merge;
        let names: Vec<_> = columns.iter().map(|name| quoted(name)).collect();
        // Text that is too long for its column is refused by the assignment; a cast would cut it off in silence.
        let cast = |(place, name): (usize, &String)| match self.merge.column(name) {
            Some(column) if column.chars_max.is_none() => format!("c{place}::{}", column.of),
            _ => format!("c{place}"),
        };
        let values = columns.iter().enumerate().map(cast).collect::<Vec<_>>().join(", ");
        let (from, conflict) = match upsert {
            None => (format!("SELECT {values} FROM {STAGED} ORDER BY line"), String::new()),
            Some(upsert) => {
                let keys = self.merge.key_places();
                // As the target compares them: `1` and `01` are one number. Of rows that are the same the last one counts.
                let told_by = keys.iter().map(|place| cast((*place, &columns[*place]))).collect::<Vec<_>>().join(", ");
                let from =
                    format!("SELECT DISTINCT ON ({told_by}) {values} FROM {STAGED} ORDER BY {told_by}, line DESC");
                let set: Vec<_> = columns
                    .iter()
                    .filter(|name| !upsert.keys.contains(name))
                    .map(|name| format!("{0} = EXCLUDED.{0}", quoted(name)))
                    .collect();
                let keys: Vec<_> = upsert.keys.iter().map(|key| quoted(key)).collect();
                let action = if upsert.existing == Existing::Keep || set.is_empty() {
                    "DO NOTHING".to_owned()
                } else {
                    format!("DO UPDATE SET {}", set.join(", "))
                };
                (from, format!("ON CONFLICT ({}) {action}", keys.join(", ")))
            }
        };
        // `xmax` is zero in a row that nobody wrote before.
        let sql = format!(
            "WITH written AS (INSERT INTO {} ({}) {from} {conflict} RETURNING (xmax = 0) AS fresh) \
             SELECT count(*) FILTER (WHERE fresh), count(*) FILTER (WHERE NOT fresh) FROM written",
            target.quoted,
            names.join(", ")
        );
        let row = self.client.query_one(&sql, &[]).await?;
        Ok(Merged { inserted: row.try_get(0)?, updated: row.try_get(1)? })
    }

    /// Takes the rows out of the temporary table that do not fit the target, and tells why.
    async fn refuse(&self, refused: &mut Refused<'_>) -> Result<(), Failure> {
        // `pg_input_is_valid` came with version 16.
        self.client
            .batch_execute(
                "CREATE OR REPLACE FUNCTION pg_temp.clawhook_fits(value text, of text) RETURNS boolean \
                 LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SELECT CAST(%L AS %s)', value, of); RETURN true; \
                 EXCEPTION WHEN data_exception THEN RETURN false; END $$",
            )
            .await
            .map_err(told)?;
        let mut why = Vec::new();
        for (place, name) in self.merge.columns.iter().enumerate() {
            let Some(column) = self.merge.column(name) else { continue };
            let said = |text: String| literal(&text);
            if column.needed {
                why.push(format!("WHEN c{place} IS NULL THEN {}", said(format!("`{name}` is missing"))));
            }
            if let Some(chars) = column.chars_max {
                let text = said(format!("`{name}` has more than {chars} characters"));
                why.push(format!("WHEN char_length(c{place}) > {chars} THEN {text}"));
            } else if column.of != "text" {
                let text = said(format!("`{name}` is no {}: ", column.of));
                why.push(format!(
                    "WHEN c{place} IS NOT NULL AND NOT pg_temp.clawhook_fits(c{place}, {}) THEN {text} || left(c{place}, 80)",
                    literal(&column.of)
                ));
            }
        }
        if why.is_empty() {
            return Ok(());
        }
        let cells = (0..self.merge.columns.len()).map(|place| format!("c{place}")).collect::<Vec<_>>().join(", ");
        let find = format!(
            "WITH judged AS MATERIALIZED (SELECT ctid AS place, CASE {} END AS why FROM {STAGED}) \
             DELETE FROM {STAGED} s USING judged j WHERE s.ctid = j.place AND j.why IS NOT NULL \
             RETURNING s.line, j.why, {cells}",
            why.join(" ")
        );
        let statement = self.client.prepare(&find).await.map_err(told)?;
        let none: [Param; 0] = [];
        let mut rows = pin!(self.client.query_raw(&statement, none).await.map_err(told)?);
        while let Some(row) = rows.try_next().await.map_err(told)? {
            let (line, why): (i64, String) = (row.try_get(0).map_err(told)?, row.try_get(1).map_err(told)?);
            let mut members = Map::new();
            for (place, name) in self.merge.columns.iter().enumerate() {
                let cell: Option<String> = row.try_get(place + 2).map_err(told)?;
                members.insert(name.clone(), cell.map_or(Value::Null, Value::String));
            }
            refused.add(line.unsigned_abs(), &why, Some(members)).await?;
        }
        Ok(())
    }
}

/// A text in SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
