//! Where a table comes from: a list of objects, or a file, as `with` says it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::aside::Aside;
use super::types::ColumnType;
use super::{Format, Options, Row, Rows, Trouble, of_list, open};
use crate::artifacts::Handle;
use crate::domain::failure::{Failure, Fault};
use crate::expr::{Context, Mapping, Place};
use crate::tasks::{CHARSET_HELP, WithProblem, expression_failure, names_of, read_mapping};

/// A table with what is said about it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::tasks) struct RawSource {
    /// The rows: a list of objects, or the file of an earlier task, such as `${{ tasks.report.file }}`.
    from: Value,
    /// How the file is written; found out when left out.
    format: Option<Format>,
    /// The charset of the file, such as `gb18030`; found out when left out.
    charset: Option<String>,
    /// What stands between two values, one character.
    delimiter: Option<String>,
    /// Whether values may stand in quotes: yes in CSV, no in TSV when left out.
    quotes: Option<bool>,
    /// Whether the first line names the columns; yes when left out. Without it they are `column_1`, `column_2` and so on.
    header: Option<bool>,
    /// Takes rows that are too short or too long, and bytes that are no text.
    #[serde(default)]
    lenient: bool,
    /// What columns are; text, or what JSON says, when left out.
    #[serde(default)]
    types: BTreeMap<String, ColumnType>,
}

#[derive(Debug)]
pub(in crate::tasks) struct Source {
    from: Mapping,
    at: String,
    options: Options,
    types: BTreeMap<String, ColumnType>,
}

/// A table that was looked up, to be read.
#[derive(Debug, Clone)]
pub(in crate::tasks) struct Found {
    of: Of,
    options: Options,
    types: BTreeMap<String, ColumnType>,
}

#[derive(Debug, Clone)]
enum Of {
    List(Vec<Value>),
    File(Box<Handle>),
}

impl Source {
    /// Reads the value at `pointer` of `with`: a map with `from`, or the rows themselves.
    pub(in crate::tasks) fn read(pointer: &str, value: &Value) -> Result<Self, Vec<WithProblem>> {
        if value.get("from").is_none() {
            let options = Options { header: true, ..Options::default() };
            let from = read_mapping(pointer, value)?;
            return Ok(Self { from, at: pointer.to_owned(), options, types: BTreeMap::new() });
        }
        let raw: RawSource = serde_json::from_value(value.clone())
            .map_err(|error| vec![WithProblem::new(pointer, error.to_string())])?;
        Self::of(pointer, &raw)
    }

    /// Reads what stands at `pointer` of `with`.
    pub(in crate::tasks) fn of(pointer: &str, raw: &RawSource) -> Result<Self, Vec<WithProblem>> {
        let mut problems = Vec::new();
        let at = format!("{pointer}/from");
        let from = read_mapping(&at, &raw.from).map_err(|found| problems.extend(found)).ok();
        let charset = raw.charset.as_ref().and_then(|label| {
            let found = encoding_rs::Encoding::for_label(label.as_bytes());
            if found.is_none() {
                let message = format!("there is no charset `{label}`");
                problems.push(WithProblem::new(format!("{pointer}/charset"), message).help(CHARSET_HELP));
            }
            found
        });
        let delimiter = raw.delimiter.as_ref().and_then(|text| match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Some(*byte),
            _ => {
                let problem = WithProblem::new(format!("{pointer}/delimiter"), "a delimiter is one ASCII character");
                problems.push(problem.help("write it in quotes, such as `\";\"` or `\"\\t\"`"));
                None
            }
        });
        let Some(from) = from.filter(|_| problems.is_empty()) else { return Err(problems) };
        let options = Options {
            format: raw.format,
            charset,
            delimiter,
            quotes: raw.quotes,
            header: raw.header.unwrap_or(true),
            lenient: raw.lenient,
        };
        Ok(Self { from, at, options, types: raw.types.clone() })
    }

    pub(in crate::tasks) fn names(&self) -> Vec<Place> {
        names_of(&self.at, &self.from)
    }

    /// Looks the table `name` up.
    pub(in crate::tasks) fn find(&self, values: &Context, name: &str) -> Result<Found, Failure> {
        self.table(self.value(values)?, name)
    }

    /// What `from` gives, table or not.
    pub(in crate::tasks) fn value(&self, values: &Context) -> Result<Value, Failure> {
        self.from.eval(values).map_err(|error| expression_failure(&error))
    }

    /// Such a value as the table `name`.
    pub(in crate::tasks) fn table(&self, value: Value, name: &str) -> Result<Found, Failure> {
        Found::of(value, self.options.clone(), self.types.clone(), name)
    }
}

impl Found {
    fn of(value: Value, options: Options, types: BTreeMap<String, ColumnType>, name: &str) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::new("table.unreadable", Fault::Config, format!("`{name}` is no table: {why}"))
                .help("give it a list of objects, or the file of an earlier task, such as `${{ tasks.report.file }}`")
        };
        let of = match (Handle::read(&value), value) {
            (Some(handle), _) => Of::File(Box::new(handle.map_err(wrong)?)),
            (None, Value::Array(items)) => Of::List(items),
            (None, other) => {
                let kind = match other {
                    Value::Null => "null",
                    Value::Object(_) => "an object",
                    _ => "a single value",
                };
                return Err(wrong(format!("it is {kind}")));
            }
        };
        Ok(Self { of, options, types })
    }

    /// The columns whose types were said.
    pub(in crate::tasks) fn typed(&self) -> Vec<String> {
        self.types.keys().cloned().collect()
    }

    /// Begins to read it.
    pub(in crate::tasks) fn rows(self, aside: &Aside) -> Result<Box<dyn Rows>, Trouble> {
        let rows = match self.of {
            Of::List(items) => of_list(items),
            Of::File(handle) => {
                let file = aside.read(&handle).map_err(Trouble::Artifact)?;
                open(file, &handle.media_type, handle.charset.as_deref(), &self.options)?
            }
        };
        if self.types.is_empty() {
            return Ok(rows);
        }
        Ok(Box::new(Typed { rows, types: self.types, places: Vec::new() }))
    }
}

/// Rows whose columns are read as what they are said to be.
struct Typed {
    rows: Box<dyn Rows>,
    types: BTreeMap<String, ColumnType>,
    /// The types of the columns that are known so far.
    places: Vec<Option<ColumnType>>,
}

impl Rows for Typed {
    fn columns(&self) -> &[String] {
        self.rows.columns()
    }

    fn has_all_columns(&self) -> bool {
        self.rows.has_all_columns()
    }

    fn next(&mut self) -> Option<Result<Row, Trouble>> {
        let mut row = match self.rows.next()? {
            Ok(row) => row,
            Err(trouble) => return Some(Err(trouble)),
        };
        let columns = self.rows.columns();
        for column in &columns[self.places.len()..] {
            self.places.push(self.types.get(column).copied());
        }
        for (place, cell) in row.cells.iter_mut().enumerate() {
            let Some(of) = self.places.get(place).copied().flatten() else { continue };
            match of.read(cell.take()) {
                Ok(value) => *cell = value,
                Err(why) => {
                    return Some(Err(Trouble::Row { line: row.line, why: format!("`{}`: {why}", columns[place]) }));
                }
            }
        }
        Some(Ok(row))
    }
}
