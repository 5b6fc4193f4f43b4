//! Tables as tasks read and write them: rows out of a list of objects or out of a file, one at a time. Values stay the
//! text that they were; a number of JSON keeps its digits; nothing ever becomes a float.
//!
//! Reading is plain blocking code on a thread of its own ([`aside`]); a task that is cut off ends it at the next read.

pub(super) mod aside;
mod charset;
mod delimited;
mod json;
mod out;
pub(super) mod source;
pub(super) mod types;
pub(super) mod write;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub(super) use self::out::RowsOut;
use crate::artifacts;
use crate::domain::failure::{Failure, Fault};
use crate::limits;

/// A row: cells in the order of the columns that are known so far; those that are missing at the end are null.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// The line of the file where it begins, or its place in the list; from 1.
    pub(super) line: u64,
    pub(super) cells: Vec<Value>,
}

/// What keeps a row, or the rest of a table, from being read.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// This row is of no use; the next one may be.
    Row { line: u64, why: String },
    /// Nothing more can be read.
    End { line: Option<u64>, why: String },
    /// The artifact behind it.
    Artifact(artifacts::Error),
}

/// Rows, one at a time.
pub(super) trait Rows: Send {
    /// The columns that are known so far; JSON adds to them as it goes.
    fn columns(&self) -> &[String];
    /// Whether every column is known before the first row.
    fn has_all_columns(&self) -> bool {
        false
    }
    /// The next row; `None` at the end.
    fn next(&mut self) -> Option<Result<Row, Trouble>>;
}

/// How a table is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// Values between commas, RFC 4180.
    Csv,
    /// Values between tabs, without quotes.
    Tsv,
    /// A list of objects.
    Json,
    /// One object a line.
    Jsonl,
}

impl Format {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Tsv => "text/tab-separated-values",
            Self::Json => "application/json",
            Self::Jsonl => "application/x-ndjson",
        }
    }
}

/// How a file is read; what is absent is found out.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) format: Option<Format>,
    pub(super) charset: Option<&'static encoding_rs::Encoding>,
    pub(super) delimiter: Option<u8>,
    /// Whether values may stand in quotes.
    pub(super) quotes: Option<bool>,
    /// Whether the first line names the columns.
    pub(super) header: bool,
    /// Bytes that are no text of the charset become `�`, rows that are too short are filled, and those that are too long
    /// cut.
    pub(super) lenient: bool,
}

impl Trouble {
    fn end(line: Option<u64>, why: impl Into<String>) -> Self {
        Self::End { line, why: why.into() }
    }

    /// An error of the layers below, which carry troubles of ours through `io::Error`.
    fn of_read(line: Option<u64>, error: &std::io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<artifacts::Error>()) {
            return Self::Artifact(error.clone());
        }
        Self::end(line, error.to_string())
    }

    /// The failure of a task that wanted all of the table `name`.
    pub(super) fn failure(&self, name: &str) -> Failure {
        let (line, why) = match self {
            Self::Artifact(error) => return error.failure(),
            Self::Row { line, why } => (Some(*line), why),
            Self::End { line, why } => (*line, why),
        };
        let place = line.map(|line| format!(", line {line}")).unwrap_or_default();
        Failure::new("table.unreadable", Fault::Sender, format!("the table `{name}`{place}: {why}"))
            .help("look at that line; name the `format`, `charset` or `delimiter`, or write `lenient: true`")
    }
}

/// Rows of a file. `media_type` and `charset` are what its handle says.
pub(super) fn open(
    mut file: impl Read + Send + 'static,
    media_type: &str,
    charset: Option<&str>,
    options: &Options,
) -> Result<Box<dyn Rows>, Trouble> {
    let mut head = Vec::new();
    let sniffed = (&mut file).take(limits::TABLE_SNIFF_BYTES).read_to_end(&mut head);
    sniffed.map_err(|error| Trouble::of_read(None, &error))?;
    let whole = (head.len() as u64) < limits::TABLE_SNIFF_BYTES;
    let named = charset.and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()));
    let encoding = options.charset.unwrap_or_else(|| charset::find(&head, whole, named));
    let first = encoding.decode(&head).0;
    let crlf = first.find('\n').is_some_and(|end| first[..end].ends_with('\r'));
    let format = options.format.or_else(|| of_media_type(media_type)).unwrap_or_else(|| guess(&first));
    drop(first);
    let text = charset::Decoded::new(std::io::Cursor::new(head).chain(file), encoding, options.lenient);
    let text = Bounded { inner: text, seen: Arc::default() };
    match format {
        Format::Csv | Format::Tsv => Ok(Box::new(delimited::Delimited::open(text, format, options, crlf)?)),
        Format::Json => Ok(Box::new(json::Objects::array(text))),
        Format::Jsonl => Ok(Box::new(json::Objects::lines(text))),
    }
}

fn of_media_type(media_type: &str) -> Option<Format> {
    match media_type {
        "text/csv" | "application/csv" => Some(Format::Csv),
        "text/tab-separated-values" => Some(Format::Tsv),
        "application/json" => Some(Format::Json),
        "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" | "application/jsonlines" => {
            Some(Format::Jsonl)
        }
        _ => None,
    }
}

fn guess(head: &str) -> Format {
    let head = head.trim_start_matches(['\u{feff}', ' ', '\r', '\n']);
    match head.chars().next() {
        Some('[') => Format::Json,
        Some('{') => Format::Jsonl,
        _ => {
            let line = head.lines().next().unwrap_or_default();
            if line.matches('\t').count() > line.matches(',').count() { Format::Tsv } else { Format::Csv }
        }
    }
}

/// Text that is read; a row that never ends does not fill the memory.
struct Bounded<R> {
    inner: R,
    seen: Arc<Seen>,
}

/// What was seen of a text, for whoever reads rows out of it.
#[derive(Default)]
struct Seen {
    /// Bytes since the last row was whole.
    since_row: AtomicU64,
    /// The end of the text was asked for.
    end: AtomicBool,
    /// The last byte.
    last: AtomicU8,
    /// The last byte that ends no line.
    last_inside: AtomicU8,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buf)?;
        if read == 0 {
            self.seen.end.store(true, Ordering::Relaxed);
        }
        let bytes = &buf[..read];
        if let Some(last) = bytes.last() {
            self.seen.last.store(*last, Ordering::Relaxed);
        }
        if let Some(last) = bytes.iter().rfind(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.seen.last_inside.store(*last, Ordering::Relaxed);
        }
        if self.seen.since_row.fetch_add(read as u64, Ordering::Relaxed) > limits::TABLE_ROW_BYTES_MAX {
            let why = format!("a row has more than {} bytes; a quote may be left open", limits::TABLE_ROW_BYTES_MAX);
            return Err(std::io::Error::other(why));
        }
        Ok(read)
    }
}

/// Rows of a list of objects.
pub(super) fn of_list(items: Vec<Value>) -> Box<dyn Rows> {
    Box::new(json::Listed::new(items))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn read(bytes: &[u8], options: &Options) -> Result<(Vec<String>, Vec<Row>), Trouble> {
        // A reader that gives one byte at a time splits everything that can be split.
        struct Slow(std::io::Cursor<Vec<u8>>);
        impl Read for Slow {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                let end = buf.len().min(1);
                self.0.read(&mut buf[..end])
            }
        }
        let mut rows = open(Slow(std::io::Cursor::new(bytes.to_vec())), "", None, options)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next() {
            all.push(row?);
        }
        Ok((rows.columns().to_vec(), all))
    }

    fn header() -> Options {
        Options { header: true, ..Options::default() }
    }

    #[track_caller]
    fn check(bytes: &[u8], options: &Options, columns: &[&str], rows: &[(u64, Value)]) {
        let (found, all) = read(bytes, options).unwrap();
        assert_eq!(found, columns);
        let all: Vec<_> = all.into_iter().map(|row| (row.line, Value::Array(row.cells))).collect();
        assert_eq!(all, rows);
    }

    #[test]
    fn the_forms_of_a_table() {
        let rows = [(2, json!(["A-1", "3"])), (3, json!(["B,2", "a \"q\""]))];
        check(b"sku,note\r\nA-1,3\r\n\"B,2\",\"a \"\"q\"\"\"\r\n", &header(), &["sku", "note"], &rows);
        check(b"sku\tnote\nA-1\t3\nB,2\ta \"q\"\n", &header(), &["sku", "note"], &rows);
        let semicolon = Options { delimiter: Some(b';'), ..header() };
        check(b"sku;note\nA-1;3", &semicolon, &["sku", "note"], &rows[..1]);
        check(
            b"a,b\n1,2\n",
            &Options { header: false, ..Options::default() },
            &["column_1", "column_2"],
            &[(1, json!(["a", "b"])), (2, json!(["1", "2"]))],
        );
        check(
            b"a,,a\n1,\"x\ny\",3\n\n4,5,6\n",
            &header(),
            &["a", "column_2", "a_2"],
            &[(2, json!(["1", "x\ny", "3"])), (5, json!(["4", "5", "6"]))],
        );
        let exact: Value = serde_json::from_str("12345678901234567890.10").unwrap();
        check(
            b" [ {\"id\": 12345678901234567890.10, \"t\": \"a,]}\\\"\"},\n{\"u\": [1, {\"x\": 2}], \"id\": null} ] ",
            &header(),
            &["id", "t", "u"],
            &[(1, json!([exact, "a,]}\""])), (2, json!([null, null, [1, { "x": 2 }]]))],
        );
        check(b"{\"a\":1}\r\n\r\n{\"b\":2}", &header(), &["a", "b"], &[(1, json!([1])), (3, json!([null, 2]))]);
        check(b"", &header(), &[], &[]);
        check(b"[]", &header(), &[], &[]);
    }

    #[test]
    fn charsets() {
        let text = "名称,价格\n橡木灯,1299.50\n";
        let utf16 = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let with = |mark: &[u8], bytes: Vec<u8>| [mark.to_vec(), bytes].concat();
        let long = |text: &str| format!("{text}{}", "订单已经发货，请注意查收。,1\n".repeat(30));
        let named = |label: &str| Options { charset: encoding_rs::Encoding::for_label(label.as_bytes()), ..header() };
        for (bytes, options) in [
            (text.as_bytes().to_vec(), header()),
            (with(b"\xef\xbb\xbf", text.into()), header()),
            (with(b"\xff\xfe", utf16(u16::to_le_bytes)), header()),
            (with(b"\xfe\xff", utf16(u16::to_be_bytes)), header()),
            (utf16(u16::to_le_bytes), named("utf-16le")),
            (utf16(u16::to_be_bytes), named("utf-16be")),
            (encoding_rs::GB18030.encode(&long(text)).0.into_owned(), header()),
            (encoding_rs::GB18030.encode(text).0.into_owned(), named("gb18030")),
        ] {
            let (columns, rows) = read(&bytes, &options).unwrap();
            assert_eq!(columns, ["名称", "价格"], "{options:?}");
            assert_eq!(rows[0].cells, [json!("橡木灯"), json!("1299.50")]);
        }
        let latin = read(b"name,city\nJos\xe9,M\xfcnchen\n\x80,\x93x\x94\n", &named("windows-1252")).unwrap().1;
        assert_eq!(latin[0].cells, [json!("José"), json!("München")]);
        assert_eq!(latin[1].cells, [json!("€"), json!("“x”")]);
        let japanese = encoding_rs::SHIFT_JIS.encode("商品,数量\nランプ,3\n").0.into_owned();
        assert_eq!(read(&japanese, &named("shift_jis")).unwrap().1[0].cells[0], json!("ランプ"));
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_line() {
        #[track_caller]
        fn check(bytes: &[u8], options: &Options, line: Option<u64>, says: &str) {
            match read(bytes, options).unwrap_err() {
                Trouble::Row { line: at, why } => assert!(line == Some(at) && why.contains(says), "{at}: {why}"),
                Trouble::End { line: at, why } => assert!(line == at && why.contains(says), "{at:?}: {why}"),
                Trouble::Artifact(error) => panic!("{error}"),
            }
        }
        let lenient = Options { lenient: true, ..header() };
        check(b"a,b\n1,2\n3\n", &header(), Some(3), "1 field where there are 2 columns");
        check(b"a,b\n1,2,3\n", &header(), Some(2), "3 fields where there are 2 columns");
        assert_eq!(read(b"a,b\n1\n1,2,3\n", &lenient).unwrap().1[1].cells, [json!("1"), json!("2")]);
        let utf8 = Options { charset: Some(encoding_rs::UTF_8), ..header() };
        check(b"a\n\xe9\n", &utf8, Some(1), "no text in UTF-8");
        let lenient_utf8 = Options { lenient: true, ..utf8 };
        assert_eq!(read(b"a\n\xe9\n", &lenient_utf8).unwrap().1[0].cells, [json!("\u{fffd}")]);
        check(b"[{\"a\":1},", &header(), Some(1), "ends in the middle");
        check(b"[{\"a\":1} {\"a\":2}]", &header(), Some(1), "a comma");
        check(b"[{\"a\":1}] x", &header(), Some(1), "behind the list");
        check(b"[1]", &header(), Some(1), "an object");
        check(b"{\"a\":1}\n{\"a\":\n", &header(), Some(2), "no JSON");
        for (text, line) in [
            ("a,b\n1,\"x\n2,y\n3,z\n", 2),
            ("a,b\n1,2\n\"3\n4\",\"x\n5,y", 4),
            ("a,b\r\n1,2\r\n\r\n2,\"x\r\n3,y\r\n", 4),
            ("a,\"b\n1,2\n", 1),
            // What looks like its end is a quote inside.
            ("a,b\n1,\"x\n2,5\"\"\n", 2),
        ] {
            check(text.as_bytes(), &header(), Some(line), "a quote that opens here is never closed");
        }
        for closed in ["a,b\n1,\"x\ny\"", "a,b\n1,\"x\ny\"\r\n", "a,b\n1,\"x\n\"", "a,b\n1,\"x\ny\" \n", "a,b\n1,5\" x"]
        {
            assert_eq!(read(closed.as_bytes(), &header()).unwrap().1.len(), 1, "{closed:?}");
        }
        let open = [b"a,b\n\"".to_vec(), vec![b'x'; usize::try_from(limits::TABLE_ROW_BYTES_MAX).unwrap() + 100_000]];
        assert!(matches!(open_all(&open.concat()), Err(Trouble::End { why, .. }) if why.contains("a quote")));
    }

    fn open_all(bytes: &[u8]) -> Result<usize, Trouble> {
        let mut rows = super::open(std::io::Cursor::new(bytes.to_vec()), "text/csv", None, &header())?;
        let mut count = 0;
        while let Some(row) = rows.next() {
            row?;
            count += 1;
        }
        Ok(count)
    }
}
