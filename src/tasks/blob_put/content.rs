//! What goes into a file, and how it is written down.

use std::io::{self, BufWriter, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::{BlobPut, Written};
use crate::artifacts::Handle;
use crate::domain::failure::{Failure, Fault};
use crate::limits;
use crate::tasks::blob::{BlobPath, Blocking, Outlet, write_failure};
use crate::tasks::table::aside::{Aside, aside};
use crate::tasks::table::source::Found;
use crate::tasks::table::write::TableWriter;
use crate::tasks::table::{Format, Rows};
use crate::tasks::{TaskContext, printed};

/// What goes into a file.
#[derive(Debug)]
pub(super) enum Content {
    /// The bytes of a file, as they are.
    File(Box<Handle>),
    /// Bytes, and what they are.
    Bytes(Vec<u8>, &'static str),
    /// Rows; all their columns, when they are known before.
    Table { found: Box<Found>, format: Format, columns: Option<Vec<String>> },
}

/// Excel knows UTF-8 by it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn misfit(why: impl Into<String>) -> Failure {
    Failure::new("blob.content", Fault::Config, why)
        .help("give `source.from` the file or the rows of an earlier task, or name another `format`")
}

impl Content {
    /// How a value is written: by `format`, or by what it is and how `path` ends.
    pub(super) fn of(task: &BlobPut, value: Value, path: &BlobPath) -> Result<Self, Failure> {
        match Handle::read(&value) {
            Some(handle) => {
                let handle = handle.map_err(|why| misfit(format!("`source.from` is no file: {why}")))?;
                Self::of_file(task, handle, value, path)
            }
            None => Self::of_value(task, value, path),
        }
    }

    fn of_file(task: &BlobPut, handle: Handle, value: Value, path: &BlobPath) -> Result<Self, Failure> {
        let format = match task.format {
            Some(Written::Raw) => None,
            Some(format) => format.table(),
            // A table that we wrote takes the form that its new name promises; every other file stays what it is.
            None => ending(path).filter(|format| handle.columns.is_some() && format.media_type() != handle.media_type),
        };
        let Some(format) = format else { return Ok(Self::File(Box::new(handle))) };
        let columns = handle.columns;
        Ok(Self::Table { found: Box::new(task.source.table(value, "source")?), format, columns })
    }

    fn of_value(task: &BlobPut, value: Value, path: &BlobPath) -> Result<Self, Failure> {
        let is_table = |items: &[Value]| !items.is_empty() && items.iter().all(Value::is_object);
        let format = match (task.format, &value) {
            (_, Value::Null) => return Err(misfit("`source.from` is null: there is nothing to write")),
            (Some(format), _) => format,
            (None, Value::String(_)) => Written::Raw,
            (None, Value::Array(_)) => ending(path).map_or(Written::Json, Written::from),
            (None, _) => Written::Json,
        };
        let mut bytes = Vec::new();
        match (format, value) {
            (Written::Raw, Value::String(text)) => Ok(Self::Bytes(text.into_bytes(), "text/plain; charset=utf-8")),
            (Written::Raw, Value::Array(_) | Value::Object(_)) => {
                Err(misfit("`source.from` is a list or an object, which `format: raw` does not write"))
            }
            (Written::Raw, other) => Ok(Self::Bytes(printed(&other).into_bytes(), "text/plain; charset=utf-8")),
            (Written::Json, value) => {
                line(&mut bytes, &value)?;
                Ok(Self::Bytes(bytes, Format::Json.media_type()))
            }
            (Written::Jsonl, Value::Array(items)) => {
                for item in &items {
                    line(&mut bytes, item)?;
                }
                Ok(Self::Bytes(bytes, Format::Jsonl.media_type()))
            }
            (Written::Jsonl, value) => {
                line(&mut bytes, &value)?;
                Ok(Self::Bytes(bytes, Format::Jsonl.media_type()))
            }
            (Written::Csv | Written::Tsv, Value::Array(items)) if items.is_empty() || is_table(&items) => {
                let format = if format == Written::Csv { Format::Csv } else { Format::Tsv };
                let found = task.source.table(Value::Array(items), "source")?;
                Ok(Self::Table { found: Box::new(found), format, columns: None })
            }
            (Written::Csv | Written::Tsv, _) => {
                Err(misfit("`source.from` is no list of objects, so it has no columns"))
            }
        }
    }

    /// What it is for who fetches it.
    pub(super) fn content_type(&self, gzip: bool) -> String {
        if gzip {
            return "application/gzip".to_owned();
        }
        match self {
            Self::File(handle) if handle.media_type.is_empty() => "application/octet-stream".to_owned(),
            Self::File(handle) => match &handle.charset {
                Some(charset) => format!("{}; charset={charset}", handle.media_type),
                None => handle.media_type.clone(),
            },
            Self::Bytes(_, content_type) => (*content_type).to_owned(),
            // Browsers guess the charset of plain tables, and wrongly so for Chinese.
            Self::Table { format: format @ (Format::Csv | Format::Tsv), .. } => {
                format!("{}; charset=utf-8", format.media_type())
            }
            Self::Table { format, .. } => format.media_type().to_owned(),
        }
    }

    /// Writes it, a piece at a time.
    pub(super) async fn write(
        self,
        ctx: &TaskContext<'_>,
        mut outlet: Outlet,
        bom: bool,
        gzip: bool,
    ) -> Result<Outlet, Failure> {
        if let (Self::File(handle), false) = (&self, gzip) {
            let mut reader = ctx.artifacts.reader(handle).await.map_err(|error| error.failure())?;
            while let Some(piece) = reader.next().await.map_err(|error| error.failure())? {
                outlet.write(piece).await.map_err(|error| error.failure())?;
            }
            return Ok(outlet);
        }
        aside(ctx.artifacts, ctx.run, move |aside| {
            let out = BufWriter::with_capacity(limits::ARTIFACT_READ_BYTES, Blocking::new(aside, outlet));
            let out = if gzip {
                // No name and no time in its head: the same content is the same file.
                let packed = self.pour(aside, GzEncoder::new(out, Compression::default()), bom)?;
                packed.finish().map_err(|error| write_failure(&error))?
            } else {
                self.pour(aside, out, bom)?
            };
            let out = out.into_inner().map_err(|error| write_failure(error.error()))?;
            Ok(out.into_outlet())
        })
        .await
    }

    fn pour<W: Write>(self, aside: &Aside, mut out: W, bom: bool) -> Result<W, Failure> {
        if bom {
            out.write_all(BYTE_ORDER_MARK).map_err(|error| write_failure(&error))?;
        }
        match self {
            Self::Bytes(bytes, _) => out.write_all(&bytes).map_err(|error| write_failure(&error))?,
            Self::File(handle) => {
                let mut file = aside.read(&handle).map_err(|error| error.failure())?;
                io::copy(&mut file, &mut out).map_err(|error| write_failure(&error))?;
            }
            Self::Table { found, format, columns } => {
                let columns = match columns {
                    Some(columns) => columns,
                    None => all_columns(&found, aside)?,
                };
                let mut table = TableWriter::new(out, format, columns).map_err(|error| write_failure(&error))?;
                let mut rows = opened(&found, aside)?;
                while let Some(row) = rows.next() {
                    let row = row.map_err(|trouble| trouble.failure("source"))?;
                    table.row(&row.cells).map_err(|error| write_failure(&error))?;
                }
                return table.finish().map_err(|error| write_failure(&error));
            }
        }
        Ok(out)
    }
}

fn opened(found: &Found, aside: &Aside) -> Result<Box<dyn Rows>, Failure> {
    found.clone().rows(aside).map_err(|trouble| trouble.failure("source"))
}

/// The columns of a table. JSON adds to them up to its last row, so then it is read once more.
fn all_columns(found: &Found, aside: &Aside) -> Result<Vec<String>, Failure> {
    let mut rows = opened(found, aside)?;
    if !rows.has_all_columns() {
        while let Some(row) = rows.next() {
            row.map_err(|trouble| trouble.failure("source"))?;
            if aside.is_over() {
                return Err(crate::tasks::blob::Error::Over.failure());
            }
        }
    }
    Ok(rows.columns().to_vec())
}

fn line(bytes: &mut Vec<u8>, value: &Value) -> Result<(), Failure> {
    serde_json::to_writer(&mut *bytes, value).map_err(|error| misfit(format!("`source.from` is no JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(())
}

/// The form that the ending of a path promises, that of the packing left out.
fn ending(path: &BlobPath) -> Option<Format> {
    let name = path.name().to_ascii_lowercase();
    match name.strip_suffix(".gz").unwrap_or(&name).rsplit_once('.')?.1 {
        "csv" => Some(Format::Csv),
        "tsv" => Some(Format::Tsv),
        "json" => Some(Format::Json),
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        _ => None,
    }
}

impl Written {
    fn table(self) -> Option<Format> {
        match self {
            Self::Csv => Some(Format::Csv),
            Self::Tsv => Some(Format::Tsv),
            Self::Json => Some(Format::Json),
            Self::Jsonl => Some(Format::Jsonl),
            Self::Raw => None,
        }
    }
}

impl From<Format> for Written {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Tsv => Self::Tsv,
            Format::Json => Self::Json,
            Format::Jsonl => Self::Jsonl,
        }
    }
}
