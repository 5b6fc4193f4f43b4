//! What tasks ask of a database, in the words of PostgreSQL.

use std::pin::pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::failures::failure;
use super::merge::{self, STAGED};
use super::params::bind;
use super::told;
use crate::domain::failure::Failure;
use crate::limits;
use crate::tasks::sql::{Answer, Loads, Merge, Merged, Piece, Pieces, Refused, Session, Stage, Target, sql_failure};

pub(super) struct PostgresSession {
    client: Client,
}

impl PostgresSession {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Session for PostgresSession {
    async fn query(&mut self, sql: &str, params: &[Value], answer: &mut Answer<'_>) -> Result<(), Failure> {
        self.client.batch_execute("BEGIN READ ONLY").await.map_err(told)?;
        let sql = sql.trim().trim_end_matches(';');
        let statement = self.client.prepare(sql).await.map_err(told)?;
        answer.open(statement.columns().iter().map(|column| column.name().to_owned()).collect())?;
        let params = bind(params, statement.params()).map_err(sql_failure)?;
        // The server writes each row as JSON: every type as text of its own, numbers with all their digits.
        let as_json = format!("SELECT to_json(q)::text FROM (\n{sql}\n) AS q");
        let statement = self.client.prepare_typed(&as_json, statement.params()).await.map_err(told)?;
        let mut rows = pin!(self.client.query_raw(&statement, params).await.map_err(told)?);
        while let Some(row) = rows.try_next().await.map_err(told)? {
            let text: &str = row.try_get(0).map_err(told)?;
            // A value of type `json` may have line breaks of its own.
            let row: Value = serde_json::from_str(text).map_err(|error| sql_failure(error.to_string()))?;
            answer.add(&row).await?;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.client.batch_execute("BEGIN").await.map_err(told)
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        self.client.batch_execute("COMMIT").await.map_err(|error| failure(&error, Stage::Committing))
    }

    async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, Failure> {
        let statement = self.client.prepare(sql).await.map_err(told)?;
        let params = bind(params, statement.params()).map_err(sql_failure)?;
        self.client.execute_raw(&statement, params).await.map_err(told)
    }

    async fn prepare_once(&mut self) -> Result<(), Failure> {
        let client = &self.client;
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
                Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                    made = client.batch_execute(definition).await;
                }
                _ => break,
            }
        }
        made.map_err(|error| Failure {
            help: Some(format!("`once` wants a table in the database; let its owner make it: `{definition}`")),
            ..told(error)
        })
    }

    async fn claim_once(&mut self, key: &str) -> Result<Option<Value>, Failure> {
        let client = &self.client;
        let claim = "INSERT INTO clawhook_once (key) VALUES ($1) ON CONFLICT (key) DO NOTHING";
        if client.execute(claim, &[&key]).await.map_err(told)? == 1 {
            return Ok(None);
        }
        let row = client.query_one("SELECT output FROM clawhook_once WHERE key = $1", &[&key]).await.map_err(told)?;
        let output: Option<String> = row.try_get(0).map_err(told)?;
        client.batch_execute("ROLLBACK").await.map_err(told)?;
        let output = output.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Some(output.unwrap_or_else(|| json!({}))))
    }

    async fn keep_once(&mut self, key: &str, output: &Value) -> Result<(), Failure> {
        let output = output.to_string();
        let kept = self.client.execute("UPDATE clawhook_once SET output = $2 WHERE key = $1", &[&key, &output]).await;
        kept.map(|_| ()).map_err(told)
    }

    fn loads(&mut self) -> Option<&mut dyn Loads> {
        Some(self)
    }
}

#[async_trait]
impl Loads for PostgresSession {
    async fn target(&mut self, table: &[String]) -> Result<Target, Failure> {
        merge::target(&self.client, table).await
    }

    async fn stage(&mut self, cells: usize, pieces: &mut Pieces<'_, '_>) -> Result<(), Failure> {
        let names: Vec<String> = (0..cells).map(|place| format!("c{place}")).collect();
        let make = format!(
            "CREATE TEMPORARY TABLE clawhook_load (line bigint, {} text) ON COMMIT DROP",
            names.join(" text, ")
        );
        self.client.batch_execute(&make).await.map_err(told)?;
        let copy = format!("COPY {STAGED} FROM STDIN");
        let mut sink = pin!(self.client.copy_in::<_, Bytes>(&copy).await.map_err(told)?);
        while let Some(piece) = pieces.next().await? {
            sink.send(copied(&piece, cells).into()).await.map_err(told)?;
        }
        sink.as_mut().finish().await.map(|_| ()).map_err(told)
    }

    async fn merge(&mut self, merge: &Merge<'_>, refused: &mut Refused<'_>) -> Result<Merged, Failure> {
        merge::run(&self.client, merge, refused).await
    }
}

/// Rows in the text form of COPY. <https://www.postgresql.org/docs/current/sql-copy.html>
fn copied(piece: &Piece, cells: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(piece.len());
    for (line, cells) in piece.rows(cells) {
        text.extend_from_slice(line.to_string().as_bytes());
        for cell in cells {
            text.push(b'\t');
            match cell {
                None => text.extend_from_slice(b"\\N"),
                Some(cell) => escape(cell, &mut text),
            }
        }
        text.push(b'\n');
    }
    text
}

fn escape(cell: &str, text: &mut Vec<u8>) {
    for byte in cell.bytes() {
        match byte {
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'\t' => text.extend_from_slice(b"\\t"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            // The server has no such character.
            0 => {}
            plain => text.push(plain),
        }
    }
}
