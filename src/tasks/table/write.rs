//! Tables written down.

use std::io::{self, Write};

use serde_json::Value;

use super::Format;

/// Writes rows in one form. The columns are fixed before the first row.
pub(in crate::tasks) struct TableWriter<W: Write> {
    to: To<W>,
    columns: Vec<String>,
    rows: u64,
}

enum To<W: Write> {
    Delimited(Box<csv::Writer<W>>),
    Lines(W),
    List(W),
}

impl<W: Write> TableWriter<W> {
    /// Begins with the line of names, or the bracket of the list.
    pub(in crate::tasks) fn new(mut out: W, format: Format, columns: Vec<String>) -> io::Result<Self> {
        let to = match format {
            Format::Csv | Format::Tsv => {
                let mut writer = csv::WriterBuilder::new();
                if format == Format::Tsv {
                    writer.delimiter(b'\t');
                }
                let mut writer = writer.terminator(csv::Terminator::CRLF).from_writer(out);
                if !columns.is_empty() {
                    writer.write_record(&columns)?;
                }
                To::Delimited(Box::new(writer))
            }
            Format::Jsonl => To::Lines(out),
            Format::Json => {
                out.write_all(b"[")?;
                To::List(out)
            }
        };
        Ok(Self { to, columns, rows: 0 })
    }

    /// Adds a row; cells that are missing at its end are null.
    pub(in crate::tasks) fn row(&mut self, cells: &[Value]) -> io::Result<()> {
        let cell = |place: usize| cells.get(place).unwrap_or(&Value::Null);
        match &mut self.to {
            To::Delimited(writer) => {
                writer.write_record((0..self.columns.len()).map(|place| text(cell(place))))?;
            }
            To::Lines(out) => {
                object(out, &self.columns, cell)?;
                out.write_all(b"\n")?;
            }
            To::List(out) => {
                out.write_all(if self.rows == 0 { b"\n" } else { b",\n" })?;
                object(out, &self.columns, cell)?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    pub(in crate::tasks) fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends the table, and gives back what it was written to.
    pub(in crate::tasks) fn finish(self) -> io::Result<W> {
        match self.to {
            To::Delimited(writer) => writer.into_inner().map_err(|error| io::Error::other(error.to_string())),
            To::Lines(out) => Ok(out),
            To::List(mut out) => {
                out.write_all(if self.rows == 0 { b"]\n" } else { b"\n]\n" })?;
                Ok(out)
            }
        }
    }
}

/// A cell between delimiters: text as it is, null as nothing, everything else as JSON.
fn text(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn object<'c>(out: &mut impl Write, columns: &[String], cell: impl Fn(usize) -> &'c Value) -> io::Result<()> {
    out.write_all(b"{")?;
    for (place, column) in columns.iter().enumerate() {
        if place > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, column)?;
        out.write_all(b":")?;
        serde_json::to_writer(&mut *out, cell(place))?;
    }
    out.write_all(b"}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_forms_of_a_table() {
        let exact: Value = serde_json::from_str("12345678901234567890.10").unwrap();
        let rows = [vec![json!("A,\"1\""), exact], vec![json!(null)], vec![json!("橡木\n灯"), json!([1])]];
        for (format, expected) in [
            (Format::Csv, "sku,n\r\n\"A,\"\"1\"\"\",12345678901234567890.10\r\n,\r\n\"橡木\n灯\",[1]\r\n"),
            (
                Format::Jsonl,
                "{\"sku\":\"A,\\\"1\\\"\",\"n\":12345678901234567890.10}\n{\"sku\":null,\"n\":null}\n{\"sku\":\"橡木\\n灯\",\"n\":[1]}\n",
            ),
            (
                Format::Json,
                "[\n{\"sku\":\"A,\\\"1\\\"\",\"n\":12345678901234567890.10},\n{\"sku\":null,\"n\":null},\n{\"sku\":\"橡木\\n灯\",\"n\":[1]}\n]\n",
            ),
        ] {
            let mut writer = TableWriter::new(Vec::new(), format, vec!["sku".into(), "n".into()]).unwrap();
            for row in &rows {
                writer.row(row).unwrap();
            }
            assert_eq!(writer.rows(), 3);
            assert_eq!(String::from_utf8(writer.finish().unwrap()).unwrap(), expected);
        }
    }
}
