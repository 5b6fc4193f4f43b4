//! What a load is made of, whatever server it goes to: the table that it fills, the rows on their way into a temporary
//! table, and those that are refused.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::sql_failure;
use crate::artifacts::{Artifacts, Handle, Label, Writer};
use crate::domain::failure::Failure;
use crate::id::RunId;
use crate::limits;

/// What tells a row that is there already.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::tasks) struct Upsert {
    /// The columns of a unique index of the table.
    #[schemars(length(min = 1))]
    pub(in crate::tasks) keys: Vec<String>,
    /// What happens to it; `update` when left out.
    #[serde(default)]
    pub(in crate::tasks) existing: Existing,
}

/// What happens to a row that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::tasks) enum Existing {
    /// It gets the values of the load.
    #[default]
    Update,
    /// It stays as it is.
    Keep,
}

/// The table to load into.
pub(in crate::tasks) struct Target {
    /// As people write it.
    pub(in crate::tasks) name: String,
    /// As SQL does.
    pub(super) quoted: String,
    pub(in crate::tasks) columns: Vec<Column>,
}

pub(in crate::tasks) struct Column {
    pub(in crate::tasks) name: String,
    /// Its type, with length and digits: `character varying(20)`.
    pub(super) of: String,
    /// It takes nothing for an answer.
    pub(super) needed: bool,
    /// Most characters, when the type says so.
    pub(super) chars_max: Option<i32>,
}

/// From the temporary table into the target.
pub(in crate::tasks) struct Merge<'a> {
    pub(in crate::tasks) target: &'a Target,
    /// The columns that are loaded; `c0`, `c1` and so on in the temporary table.
    pub(in crate::tasks) columns: &'a [String],
    pub(in crate::tasks) upsert: Option<&'a Upsert>,
}

impl Merge<'_> {
    /// Whether what tells a row is among what is loaded.
    pub(in crate::tasks) fn check_keys(&self) -> Result<(), Failure> {
        let keys = self.upsert.map(|upsert| upsert.keys.as_slice()).unwrap_or_default();
        match keys.iter().find(|key| !self.columns.contains(key)) {
            Some(key) => Err(sql_failure(format!("the key `{key}` is not among the columns that are loaded"))),
            None => Ok(()),
        }
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.target.columns.iter().find(|column| column.name == name)
    }

    /// Where the keys stand among the columns.
    pub(super) fn key_places(&self) -> Vec<usize> {
        let keys = self.upsert.map(|upsert| upsert.keys.as_slice()).unwrap_or_default();
        keys.iter().filter_map(|key| self.columns.iter().position(|name| name == key)).collect()
    }
}

/// What a load did.
pub(in crate::tasks) struct Merged {
    pub(in crate::tasks) inserted: i64,
    pub(in crate::tasks) updated: i64,
}

/// Rows with the lines that they stand in, one behind the other: the line, then each cell with its length before it.
#[derive(Debug, Default)]
pub(in crate::tasks) struct Piece(Vec<u8>);

/// The length of a cell that is nothing.
const NOTHING: u32 = u32::MAX;

impl Piece {
    pub(in crate::tasks) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::tasks) fn begin(&mut self, line: u64) {
        self.0.extend_from_slice(&line.to_le_bytes());
    }

    pub(in crate::tasks) fn cell(&mut self, text: Option<&str>) {
        // A row is far smaller than 4 GiB, and so is what is in it.
        let length = text.map_or(NOTHING, |text| u32::try_from(text.len()).unwrap_or(NOTHING));
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    /// The rows, of so many cells each.
    pub(super) fn rows(&self, cells: usize) -> PieceRows<'_> {
        PieceRows { rest: &self.0, cells }
    }
}

/// The rows of a piece: a line and its cells.
pub(super) struct PieceRows<'a> {
    rest: &'a [u8],
    cells: usize,
}

impl<'a> Iterator for PieceRows<'a> {
    type Item = (u64, Vec<Option<&'a str>>);

    fn next(&mut self) -> Option<Self::Item> {
        let (line, mut rest) = self.rest.split_first_chunk()?;
        let mut cells = Vec::with_capacity(self.cells);
        for _ in 0..self.cells {
            let (length, after) = rest.split_first_chunk()?;
            let length = u32::from_le_bytes(*length);
            if length == NOTHING {
                cells.push(None);
                rest = after;
            } else {
                let (text, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                cells.push(Some(std::str::from_utf8(text).ok()?));
                rest = after;
            }
        }
        self.rest = rest;
        Some((u64::from_le_bytes(*line), cells))
    }
}

/// What the thread that reads has to say.
pub(in crate::tasks) enum Said {
    /// The columns of the target, once they are known.
    Columns(Vec<String>),
    /// Rows.
    Piece(Piece),
    /// A row that cannot be used.
    Refused { line: u64, why: String },
    /// All is read.
    End { read: u64 },
}

/// The rows as they come.
pub(in crate::tasks) struct Pieces<'p, 'a> {
    heard: mpsc::Receiver<Said>,
    refused: &'p mut Refused<'a>,
    read: Option<u64>,
}

impl<'p, 'a> Pieces<'p, 'a> {
    pub(in crate::tasks) fn new(heard: mpsc::Receiver<Said>, refused: &'p mut Refused<'a>) -> Self {
        Self { heard, refused, read: None }
    }

    /// The next ones; none at the end, and when the reader gave up.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        while let Some(said) = self.heard.recv().await {
            match said {
                Said::Piece(piece) => return Ok(Some(piece)),
                Said::Refused { line, why } => self.refused.add(line, &why, None).await?,
                Said::End { read } => {
                    self.read = Some(read);
                    return Ok(None);
                }
                Said::Columns(_) => {}
            }
        }
        Ok(None)
    }

    /// How many rows the source had; none when the reader gave up.
    pub(in crate::tasks) fn read(&self) -> Option<u64> {
        self.read
    }
}

/// Rows that were refused: where, why, and what they were as far as that is known.
pub(in crate::tasks) struct Refused<'a> {
    artifacts: &'a Artifacts,
    run: RunId,
    writer: Option<Writer>,
    count: u64,
}

impl<'a> Refused<'a> {
    pub(in crate::tasks) fn new(artifacts: &'a Artifacts, run: RunId) -> Self {
        Self { artifacts, run, writer: None, count: 0 }
    }

    pub(in crate::tasks) fn count(&self) -> u64 {
        self.count
    }

    pub(super) async fn add(&mut self, line: u64, why: &str, row: Option<Map<String, Value>>) -> Result<(), Failure> {
        self.count += 1;
        if self.count > limits::SQL_REJECTS_MAX {
            let why = format!("more than {} rows are of no use; line {line}: {why}", limits::SQL_REJECTS_MAX);
            return Err(sql_failure(why).help("this may be another kind of file; look at it before it is loaded"));
        }
        let mut reject = json!({ "line": line, "reason": why });
        if let Some(row) = row {
            reject["row"] = Value::Object(row);
        }
        if self.writer.is_none() {
            let writer = self.artifacts.writer(self.run, limits::SQL_REJECTS_BYTES_MAX).await;
            self.writer = Some(writer.map_err(|error| error.failure())?);
        }
        if let Some(writer) = &mut self.writer {
            writer.write(format!("{reject}\n").as_bytes()).await.map_err(|error| error.failure())?;
        }
        Ok(())
    }

    pub(in crate::tasks) async fn publish(self) -> Result<Option<Handle>, Failure> {
        let Some(writer) = self.writer else { return Ok(None) };
        let label = Label {
            media_type: "application/x-ndjson".to_owned(),
            rows: Some(self.count),
            columns: Some(["line", "reason", "row"].map(str::to_owned).to_vec()),
            name: Some("rejects.jsonl".to_owned()),
            ..Label::default()
        };
        writer.publish(label).await.map(Some).map_err(|error| error.failure())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_of_a_piece_as_they_went_in() {
        let mut piece = Piece::default();
        let rows = [(2, vec![Some("A-1"), None, Some("")]), (3, vec![Some("橡木灯"), Some("a\tb\n"), None])];
        for (line, cells) in &rows {
            piece.begin(*line);
            for cell in cells {
                piece.cell(*cell);
            }
        }
        assert!(piece.rows(3).eq(rows));
        assert_eq!(Piece::default().rows(3).count(), 0);
    }
}
