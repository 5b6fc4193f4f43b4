//! The database of one query: filled, shut against everything but reading, asked.

use std::collections::BTreeSet;
use std::io::BufWriter;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, Value as Cell, ValueRef};
use rusqlite::{Connection, ErrorCode, Statement, ToSql};
use serde_json::{Map, Number, Value, json};

use super::{File, decimal, query_failure};
use crate::artifacts::{self, Label};
use crate::domain::failure::{Failure, Fault};
use crate::limits;
use crate::tasks::table::aside::{Aside, Push, write_failure};
use crate::tasks::table::source::Found;
use crate::tasks::table::write::TableWriter;
use crate::tasks::table::{Rows, RowsOut};

/// A query with all that it needs.
pub(super) struct Query {
    pub(super) tables: Vec<(String, Found)>,
    pub(super) sql: String,
    pub(super) params: Value,
    pub(super) rows_max: u64,
    pub(super) file: Option<File>,
}

/// Whether a text can be a query, without a database.
pub(super) fn check(sql: &str) -> Result<(), String> {
    let word: String = sql.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    let begins = sql.trim_start();
    // A comment may stand before it; then the database tells.
    if !begins.starts_with("--") && !begins.starts_with("/*") {
        let known = ["select", "with", "values"].contains(&word.to_ascii_lowercase().as_str());
        if !known {
            return Err("the query does not begin with `SELECT`, `WITH` or `VALUES`".to_owned());
        }
    }
    let database = Connection::open_in_memory().map_err(|error| error.to_string())?;
    match database.prepare(sql) {
        Err(rusqlite::Error::MultipleStatement) => Err("there is something behind the query".to_owned()),
        Err(rusqlite::Error::SqlInputError { msg, .. })
            if msg.contains("syntax error") || msg.contains("incomplete") =>
        {
            Err(format!("it is no SQL: {msg}"))
        }
        // Tables are not there yet.
        _ => Ok(()),
    }
}

impl Query {
    pub(super) fn run(self, aside: &Aside) -> Result<Map<String, Value>, Failure> {
        let scratch = aside.artifacts().scratch().to_owned();
        self.run_while(aside, move || artifacts::folder::room(&scratch))
    }

    /// Runs as long as the disk has `room`: the store beside it must go on.
    fn run_while(
        self,
        aside: &Aside,
        room: impl Fn() -> Result<(), artifacts::Error> + Send + Sync + 'static,
    ) -> Result<Map<String, Value>, Failure> {
        let disk = Arc::new(Disk { room: Box::new(room), full: OnceLock::new() });
        let done = self.run_on(aside, &disk);
        match disk.full.get() {
            Some(full) if done.is_err() => Err(full.failure()),
            _ => done,
        }
    }

    fn run_on(self, aside: &Aside, disk: &Arc<Disk>) -> Result<Map<String, Value>, Failure> {
        let scratch = aside.artifacts().scratch();
        std::fs::create_dir_all(scratch).map_err(|error| no_room(&format!("`{}`: {error}", scratch.display())))?;
        disk.look()?;
        let database = open(scratch)?;
        let (over, looked_at) = (aside.over(), Arc::clone(disk));
        let stop = move || over.load(Ordering::Acquire) || looked_at.look().is_err();
        let told = database.progress_handler(limits::TABLE_QUERY_LOOK_STEPS, Some(stop));
        told.and_then(|()| decimal::add_functions(&database)).map_err(|error| sql_failure(&error))?;
        for (name, found) in self.tables {
            let rows = found.clone().rows(aside).map_err(|trouble| trouble.failure(&name))?;
            fill(&database, &name, rows, found.typed(), aside, disk)?;
        }
        database.authorizer(Some(only_reading)).map_err(|error| sql_failure(&error))?;
        let mut statement = database.prepare(&self.sql).map_err(|error| sql_failure(&error))?;
        bind(&mut statement, &self.params)?;
        ask(&mut statement, self.rows_max, self.file, aside)
    }
}

/// The disk below the database.
struct Disk {
    room: Box<dyn Fn() -> Result<(), artifacts::Error> + Send + Sync>,
    /// Why the query had to end: SQLite only tells that it was interrupted.
    full: OnceLock<artifacts::Error>,
}

impl Disk {
    fn look(&self) -> Result<(), Failure> {
        (self.room)().map_err(|error| self.full.get_or_init(|| error).failure())
    }
}

fn no_room(why: &str) -> Failure {
    Failure::new("table.failed", Fault::Here, format!("the query has no room to work: {why}"))
}

fn open(scratch: &Path) -> Result<Connection, Failure> {
    let here = |why: String| no_room(&why);
    let path = scratch.join(format!("query-{:016x}.db", rand::random::<u64>()));
    let database = Connection::open(&path).map_err(|error| here(error.to_string()))?;
    let pages = limits::TABLE_QUERY_BYTES_MAX / PAGE_BYTES;
    let prepared = database.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; \
         PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = FILE; PRAGMA cache_size = -{}; \
         PRAGMA max_page_count = {pages}; CREATE TABLE opened (a); DROP TABLE opened;",
        limits::TABLE_QUERY_CACHE_KIB,
    ));
    // Open it stays; nobody else can open it, and it is gone when the connection is.
    let unlinked = std::fs::remove_file(&path);
    prepared.map_err(|error| here(error.to_string()))?;
    unlinked.map_err(|error| here(format!("`{}`: {error}", path.display())))?;
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, limits::TABLE_QUERY_VALUE_BYTES_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, limits::TABLE_QUERY_SQL_BYTES_MAX),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        database.set_limit(limit, most).map_err(|error| here(error.to_string()))?;
    }
    Ok(database)
}

const PAGE_BYTES: u64 = 4096;

/// Rows between two looks at the room on the disk, so that even the widest stay within the bytes of one look.
const ROWS_A_LOOK: u64 = limits::ARTIFACT_ROOM_LOOK_BYTES as u64 / limits::TABLE_ROW_BYTES_MAX;

/// From here on the database can be read, and nothing else of this machine either.
fn only_reading(ctx: AuthContext<'_>) -> Authorization {
    match ctx.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

/// A table on its way into the database.
struct Filling<'d> {
    database: &'d Connection,
    name: String,
    /// Names as they stand in the database, where case makes no difference.
    taken: BTreeSet<String>,
    columns: usize,
}

impl Filling<'_> {
    fn quoted(name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    /// The name that a column gets.
    fn column(&mut self, name: &str) -> String {
        let mut own = name.to_owned();
        let mut number = 2;
        while !self.taken.insert(own.to_lowercase()) {
            own = format!("{name}_{number}");
            number += 1;
        }
        Self::quoted(&own)
    }

    fn grow(&mut self, columns: &[String]) -> rusqlite::Result<()> {
        for name in &columns[self.columns.min(columns.len())..] {
            let (table, column) = (Self::quoted(&self.name), self.column(name));
            let sql = if self.columns == 0 {
                format!("CREATE TABLE {table} ({column})")
            } else {
                format!("ALTER TABLE {table} ADD COLUMN {column}")
            };
            self.database.execute_batch(&sql)?;
            self.columns += 1;
        }
        Ok(())
    }

    fn insert(&self) -> rusqlite::Result<Statement<'_>> {
        let marks = vec!["?"; self.columns].join(",");
        self.database.prepare(&format!("INSERT INTO {} VALUES ({marks})", Self::quoted(&self.name)))
    }
}

fn fill(
    database: &Connection,
    name: &str,
    mut rows: Box<dyn Rows>,
    typed: Vec<String>,
    aside: &Aside,
    disk: &Disk,
) -> Result<(), Failure> {
    let wrong = |error: rusqlite::Error| sql_failure(&error);
    let mut filling = Filling { database, name: name.to_owned(), taken: BTreeSet::new(), columns: 0 };
    database.execute_batch("BEGIN").map_err(wrong)?;
    let mut next = rows.next();
    filling.grow(rows.columns()).map_err(wrong)?;
    let mut filled: u64 = 0;
    'columns: while next.is_some() {
        let known = filling.columns;
        let mut insert = filling.insert().map_err(wrong)?;
        while let Some(row) = next {
            let row = row.map_err(|trouble| trouble.failure(name))?;
            if rows.columns().len() > known {
                drop(insert);
                filling.grow(rows.columns()).map_err(wrong)?;
                next = Some(Ok(row));
                continue 'columns;
            }
            for place in 0..known {
                insert.raw_bind_parameter(place + 1, Json(row.cells.get(place))).map_err(wrong)?;
            }
            insert.raw_execute().map_err(wrong)?;
            if aside.is_over() {
                return Err(query_failure("the attempt is over"));
            }
            filled += 1;
            if filled.is_multiple_of(ROWS_A_LOOK) {
                disk.look()?;
            }
            next = rows.next();
        }
    }
    // A table without rows has the columns that `types` names, so that a query over it still works.
    let mut columns = rows.columns().to_vec();
    columns.extend(typed.into_iter().filter(|column| !rows.columns().contains(column)));
    if columns.is_empty() {
        columns.push("column_1".to_owned());
    }
    filling.grow(&columns).and_then(|()| database.execute_batch("COMMIT")).map_err(wrong)
}

/// A value of JSON in the database: whole numbers of 64 bits as such, other numbers by their digits.
struct Json<'v>(Option<&'v Value>);

impl ToSql for Json<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            None | Some(Value::Null) => ToSqlOutput::Owned(Cell::Null),
            Some(Value::Bool(flag)) => ToSqlOutput::Owned(Cell::Integer(i64::from(*flag))),
            Some(Value::String(text)) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Some(Value::Number(number)) => ToSqlOutput::Owned(match number.as_i64() {
                Some(number) => Cell::Integer(number),
                None => Cell::Text(number.to_string()),
            }),
            Some(other) => ToSqlOutput::Owned(Cell::Text(other.to_string())),
        })
    }
}

fn bind(statement: &mut Statement<'_>, params: &Value) -> Result<(), Failure> {
    let wrong = |error: rusqlite::Error| sql_failure(&error);
    let empty = Map::new();
    let params = params.as_object().unwrap_or(&empty);
    for place in 1..=statement.parameter_count() {
        let name = statement.parameter_name(place).unwrap_or("?").to_owned();
        let Some(value) = params.get(name.trim_start_matches([':', '@', '$'])) else {
            return Err(query_failure(format!("there is no value for `{name}` in `params`")));
        };
        statement.raw_bind_parameter(place, Json(Some(value))).map_err(wrong)?;
    }
    Ok(())
}

/// Where the rows of a query go.
enum Outgoing<'a> {
    Record(RowsOut<'a>),
    File(Box<TableWriter<BufWriter<Push>>>, File),
}

impl Outgoing<'_> {
    fn count(&self) -> u64 {
        match self {
            Self::Record(out) => out.count(),
            Self::File(writer, _) => writer.rows(),
        }
    }

    fn add(&mut self, columns: &[String], cells: Vec<Value>, aside: &Aside) -> Result<(), Failure> {
        match self {
            Self::Record(out) => {
                let row: Map<String, Value> = columns.iter().cloned().zip(cells).collect();
                let line = serde_json::to_vec(&row).map_err(query_failure)?;
                aside.wait(out.add(&line)).map_err(|error| error.failure())
            }
            Self::File(writer, _) => writer.row(&cells).map_err(|error| write_failure(&error)),
        }
    }

    fn finish(self, columns: &[String], aside: &Aside) -> Result<Map<String, Value>, Failure> {
        let (writer, File { format, name }) = match self {
            Self::Record(out) => return aside.wait(out.finish()).map_err(|error| error.failure()),
            Self::File(writer, file) => (writer, file),
        };
        let count = writer.rows();
        let file = writer.finish().and_then(|file| file.into_inner().map_err(std::io::IntoInnerError::into_error));
        let label = Label {
            media_type: format.media_type().to_owned(),
            rows: Some(count),
            columns: Some(columns.to_vec()),
            charset: None,
            name,
        };
        let handle = file.map_err(|error| write_failure(&error))?.publish(label).map_err(|error| error.failure())?;
        let output = json!({ "file": handle.to_value(), "count": count, "columns": columns });
        Ok(output.as_object().cloned().unwrap_or_default())
    }
}

fn ask(
    statement: &mut Statement<'_>,
    rows_max: u64,
    file: Option<File>,
    aside: &Aside,
) -> Result<Map<String, Value>, Failure> {
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let told_apart: BTreeSet<_> = columns.iter().collect();
    if told_apart.len() < columns.len() {
        return Err(query_failure("two of its columns have the same name; give one of them another with `AS`"));
    }
    let mut out = match file {
        None => Outgoing::Record(RowsOut::new(aside.artifacts(), aside.run(), columns.clone())),
        Some(file) => {
            let push = aside.write(limits::TABLE_BYTES_MAX).map_err(|error| error.failure())?;
            let writer = TableWriter::new(BufWriter::new(push), file.format, columns.clone());
            Outgoing::File(Box::new(writer.map_err(|error| write_failure(&error))?), file)
        }
    };
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(|error| sql_failure(&error))? {
        if out.count() == rows_max {
            return Err(query_failure(format!("it gives more than {rows_max} rows"))
                .help("ask for fewer with `LIMIT` or `WHERE`, or raise `max_rows`"));
        }
        let cell = |place| row.get_ref(place).map(told).map_err(|error| sql_failure(&error));
        let cells = (0..columns.len()).map(cell).collect::<Result<Vec<_>, _>>()?;
        out.add(&columns, cells, aside)?;
    }
    out.finish(&columns, aside)
}

fn told(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Number(number.into()),
        ValueRef::Real(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        ValueRef::Text(text) => Value::String(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::String(data_encoding::BASE64.encode(bytes)),
    }
}

fn sql_failure(error: &rusqlite::Error) -> Failure {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            let most = crate::domain::byte_size::format(limits::TABLE_QUERY_BYTES_MAX);
            let why = format!("its tables and their indexes need more than {most}, or the disk is full");
            Failure::new("table.too_large", Fault::Config, format!("the query failed: {why}"))
                .help("read fewer columns or rows, or do it in a database with `sql_load` and `sql_query`")
        }
        Some(ErrorCode::TooBig) => query_failure("a value in it is too large"),
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            query_failure("it wants more than to read its tables, which is all that it may")
        }
        _ => query_failure(error),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::artifacts::Artifacts;
    use crate::expr::Context;
    use crate::id::RunId;
    use crate::tasks::table::aside::aside;
    use crate::tasks::table::source::Source;

    /// Asks on a disk that is full at the `looks`th look; answers the code of the failure and how often it was looked.
    async fn ask_until_full(tables: Vec<(String, Found)>, sql: &str, looks: usize) -> (String, usize) {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::in_folder(folder.path());
        let query = Query { tables, sql: sql.to_owned(), params: Value::Null, rows_max: 10, file: None };
        let looked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&looked);
        let room = move || match count.fetch_add(1, Ordering::Relaxed) + 1 {
            look if look == looks => Err(artifacts::Error::Full { why: "the disk is full".to_owned() }),
            _ => Ok(()),
        };
        let run = RunId::floor(crate::clock::Timestamp::from_secs(1_795_338_000));
        let done = aside(&artifacts, run, move |aside| query.run_while(aside, room)).await;
        (done.unwrap_err().code, looked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_query_ends_before_it_takes_the_room_of_the_store() {
        let full = |looks| ("artifact.full".to_owned(), looks);
        assert_eq!(ask_until_full(Vec::new(), "SELECT 1", 1).await, full(1), "before it begins");

        let rows: Vec<Value> = (0..ROWS_A_LOOK * 3).map(|number| json!({ "a": number })).collect();
        let source = Source::read("/tables/a", &Value::Array(rows)).unwrap();
        let table = source.find(&Context::default(), "a").unwrap();
        assert_eq!(ask_until_full(vec![("a".to_owned(), table)], "SELECT 1", 3).await, full(3), "while it is filled");

        let long =
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT sum(i) FROM n";
        assert_eq!(ask_until_full(Vec::new(), long, 9).await, full(9), "while it runs");
    }
}
