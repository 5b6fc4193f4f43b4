//! Rows that a task gives: a list in the log of the run while they are few, a file of one object a line when not.

use serde_json::{Map, Value, json};

use crate::artifacts::{Artifacts, Error, Label, Writer};
use crate::id::RunId;
use crate::limits;

/// Rows on their way out.
pub(in crate::tasks) struct RowsOut<'a> {
    artifacts: &'a Artifacts,
    run: RunId,
    columns: Vec<String>,
    /// The rows so far, one a line, while they are few.
    held: Vec<u8>,
    writer: Option<Writer>,
    count: u64,
}

impl<'a> RowsOut<'a> {
    pub(in crate::tasks) fn new(artifacts: &'a Artifacts, run: RunId, columns: Vec<String>) -> Self {
        Self { artifacts, run, columns, held: Vec::new(), writer: None, count: 0 }
    }

    pub(in crate::tasks) fn count(&self) -> u64 {
        self.count
    }

    /// Adds a row, JSON in one line.
    pub(in crate::tasks) async fn add(&mut self, row: &[u8]) -> Result<(), Error> {
        self.count += 1;
        self.held.extend_from_slice(row);
        self.held.push(b'\n');
        let room = if self.writer.is_some() { limits::ARTIFACT_READ_BYTES } else { self.artifacts.inline_bytes_max() };
        if self.held.len() > room {
            self.spill().await?;
        }
        Ok(())
    }

    async fn spill(&mut self) -> Result<(), Error> {
        if self.writer.is_none() {
            self.writer = Some(self.artifacts.writer(self.run, limits::TABLE_BYTES_MAX).await?);
        }
        if let Some(writer) = &mut self.writer {
            writer.write(&self.held).await?;
            self.held.clear();
        }
        Ok(())
    }

    /// What the task says of them: `rows` (a list, or the handle of a file), `count` and `columns`.
    pub(in crate::tasks) async fn finish(mut self) -> Result<Map<String, Value>, Error> {
        let rows = if self.writer.is_some() {
            self.spill().await?;
            match self.writer.take() {
                Some(writer) => {
                    let label = Label {
                        media_type: "application/x-ndjson".to_owned(),
                        rows: Some(self.count),
                        columns: Some(self.columns.clone()),
                        ..Label::default()
                    };
                    writer.publish(label).await?.to_value()
                }
                None => Value::Null,
            }
        } else {
            // We wrote these lines ourselves.
            let lines = self.held.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            Value::Array(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
        };
        let mut output = Map::new();
        output.insert("rows".to_owned(), rows);
        output.insert("count".to_owned(), json!(self.count));
        output.insert("columns".to_owned(), json!(self.columns));
        Ok(output)
    }
}
