//! CSV (RFC 4180) and TSV, CRLF or LF, with or without a line of names.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use csv::StringRecord;
use serde_json::Value;

use super::{Bounded, Format, Options, Row, Rows, Seen, Trouble};
use crate::limits;

pub(super) struct Delimited<R> {
    reader: csv::Reader<Bounded<R>>,
    seen: Arc<Seen>,
    columns: Vec<String>,
    record: StringRecord,
    stand: Stand,
    lenient: bool,
    /// Lines end with CR and LF.
    crlf: bool,
}

/// Where the reading stands.
#[derive(Clone, Copy, PartialEq)]
enum Stand {
    /// The first row was read to count the columns, and is still to be given.
    Held,
    Between,
    Over,
}

impl<R: Read + Send> Delimited<R> {
    /// Reads the line of names, or the first row.
    pub(super) fn open(text: Bounded<R>, format: Format, options: &Options, crlf: bool) -> Result<Self, Trouble> {
        let seen = Arc::clone(&text.seen);
        let reader = csv::ReaderBuilder::new()
            .delimiter(options.delimiter.unwrap_or(if format == Format::Tsv { b'\t' } else { b',' }))
            // Tab-separated files of the platforms hold quotes as they are.
            .quoting(options.quotes.unwrap_or(format == Format::Csv))
            .flexible(true)
            .has_headers(false)
            .from_reader(text);
        let record = StringRecord::new();
        let mut table =
            Self { reader, seen, columns: Vec::new(), record, stand: Stand::Between, lenient: options.lenient, crlf };
        if table.read()? {
            if options.header {
                table.columns = names(&table.record);
            } else {
                table.columns = (1..=table.record.len()).map(|number| format!("column_{number}")).collect();
                table.stand = Stand::Held;
            }
        } else {
            table.stand = Stand::Over;
        }
        if table.columns.len() > limits::TABLE_COLUMNS_MAX {
            let why = format!("it has {} columns, more than {}", table.columns.len(), limits::TABLE_COLUMNS_MAX);
            return Err(Trouble::end(Some(1), why));
        }
        Ok(table)
    }

    fn read(&mut self) -> Result<bool, Trouble> {
        self.seen.since_row.store(0, Ordering::Relaxed);
        let line = self.reader.position().line();
        let read = self.reader.read_record(&mut self.record).map_err(|error| match error.kind() {
            csv::ErrorKind::Io(error) => Trouble::of_read(Some(line), error),
            _ => Trouble::end(Some(line), error.to_string()),
        })?;
        if read && self.is_left_open() {
            let last = self.record.len().saturating_sub(1);
            let before = self.record.iter().take(last).map(|field| field.matches('\n').count()).sum::<usize>() as u64;
            let why = "a quote that opens here is never closed, and swallows all rows behind it";
            return Err(Trouble::end(Some(self.line() + before), why));
        }
        Ok(read)
    }

    /// Whether the end of the file stands inside of quotes. Only there, or in a last line without its LF, does a record
    /// last until the end of the file; and only in quotes does a field hold a line break.
    fn is_left_open(&self) -> bool {
        let last = self.record.iter().next_back().unwrap_or_default();
        let (end, inside) = (self.seen.last.load(Ordering::Relaxed), self.seen.last_inside.load(Ordering::Relaxed));
        self.seen.end.load(Ordering::Relaxed) && last.contains(['\r', '\n']) && (end == b'\n' || inside != b'"')
    }

    /// The line where the record begins that was just read. The reader itself counts from the end of the one before,
    /// blank lines included; so this counts back from where it stands now: behind the LF, before the LF of a CR LF, or
    /// at the end of the file.
    fn line(&self) -> u64 {
        let inside = self.record.iter().map(|field| field.matches('\n').count()).sum::<usize>() as u64;
        let behind = u64::from(!self.crlf && !self.seen.end.load(Ordering::Relaxed));
        self.reader.position().line().saturating_sub(inside + behind)
    }

    fn row(&self) -> Result<Row, Trouble> {
        let line = self.line();
        let (fields, columns) = (self.record.len(), self.columns.len());
        if fields != columns && !self.lenient {
            let word = if fields == 1 { "field" } else { "fields" };
            let why = format!("it has {fields} {word} where there are {columns} columns");
            return Err(Trouble::Row { line, why });
        }
        let cells = self.record.iter().take(columns).map(|text| Value::String(text.to_owned())).collect();
        Ok(Row { line, cells })
    }
}

impl<R: Read + Send> Rows for Delimited<R> {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn has_all_columns(&self) -> bool {
        true
    }

    fn next(&mut self) -> Option<Result<Row, Trouble>> {
        match std::mem::replace(&mut self.stand, Stand::Over) {
            Stand::Over => return None,
            Stand::Held => {}
            Stand::Between => match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(trouble) => return Some(Err(trouble)),
            },
        }
        self.stand = Stand::Between;
        Some(self.row())
    }
}

/// Names of columns: one that is empty is called by its place, one that was there gets a number.
fn names(record: &StringRecord) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let name = |(place, text): (usize, &str)| {
        let text = text.trim();
        let base = if text.is_empty() { format!("column_{}", place + 1) } else { text.to_owned() };
        let mut name = base.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{base}_{number}");
            number += 1;
        }
        name
    };
    record.iter().enumerate().map(name).collect()
}
