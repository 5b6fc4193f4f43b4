//! What tasks ask of a database, in the words of Azure SQL.

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use serde_json::{Map, Value, json};
use tiberius::{ColumnData, ColumnType, Query, QueryItem, Row};

use super::failures::failure;
use super::params::bind;
use super::{Connection, cells, told};
use crate::domain::failure::{Class, Failure, Fault};
use crate::limits;
use crate::tasks::sql::{Answer, Loads, Session, Stage, sql_failure};

/// The table of marks. Keys differ in case, whatever the database thinks of letters.
const ONCE: &str = "CREATE TABLE clawhook_once ([key] nvarchar(400) COLLATE Latin1_General_BIN2 NOT NULL PRIMARY KEY, \
    at datetimeoffset(3) NOT NULL DEFAULT SYSDATETIMEOFFSET(), output nvarchar(max) NULL)";

/// There is already an object with this name.
const IS_THERE: u32 = 2714;

pub(super) struct AzureSqlSession {
    client: Connection,
}

impl AzureSqlSession {
    pub(super) fn new(client: Connection) -> Self {
        Self { client }
    }

    /// Statements of our own, without values.
    async fn batch(&mut self, sql: &str) -> tiberius::Result<Vec<Vec<Row>>> {
        self.client.simple_query(sql).await?.into_results().await
    }

    /// Statements with values: one call, which the server plans once and finds again.
    async fn change(&mut self, sql: &str, values: Vec<ColumnData<'static>>) -> Result<u64, Failure> {
        let mut query = Query::new(sql);
        query.bind_iter(values);
        query.execute(&mut self.client).await.map(tiberius::ExecuteResult::total).map_err(told)
    }

    /// A statement can end the transaction that it runs in, and open others.
    async fn check_transaction(&mut self) -> Result<(), Failure> {
        let rows = self.batch("SELECT @@TRANCOUNT AS open_ones, XACT_STATE() AS state").await.map_err(told)?;
        let row = rows.first().and_then(|rows| rows.first());
        let open = row.and_then(|row| row.try_get::<i32, _>(0).ok().flatten());
        let state = row.and_then(|row| row.try_get::<i16, _>(1).ok().flatten());
        if (open, state) == (Some(1), Some(1)) {
            return Ok(());
        }
        Err(sql_failure("a statement ended the transaction of the task, or opened another one")
            .help("remove `BEGIN`, `COMMIT` and `ROLLBACK`: the task has a transaction; what was committed stays"))
    }
}

#[async_trait]
impl Session for AzureSqlSession {
    async fn query(&mut self, sql: &str, params: &[Value], answer: &mut Answer<'_>) -> Result<(), Failure> {
        let params = bind(sql, params).map_err(sql_failure)?;
        self.begin().await?;
        let mut query = Query::new(sql);
        query.bind_iter(params);
        let mut stream = query.query(&mut self.client).await.map_err(told)?;
        let mut tables = 0;
        while let Some(item) = stream.try_next().await.map_err(told)? {
            match item {
                QueryItem::Metadata(table) => {
                    tables += 1;
                    if tables > 1 {
                        let why = "the statement gives more than one table of rows";
                        return Err(sql_failure(why).help("write one task for each query"));
                    }
                    let columns: Vec<String> = table.columns().iter().map(|column| column.name().to_owned()).collect();
                    if columns.iter().any(String::is_empty) {
                        return Err(sql_failure("a column of the query has no name; give it one with `AS`"));
                    }
                    answer.open(columns)?;
                }
                QueryItem::Row(row) => answer.add(&object(&row)?).await?,
            }
        }
        drop(stream);
        // The server has no transaction that can only read: what was written is undone.
        self.check_transaction().await?;
        self.batch("ROLLBACK TRANSACTION").await.map(|_| ()).map_err(told)
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.batch("BEGIN TRANSACTION").await.map(|_| ()).map_err(told)
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        self.check_transaction().await?;
        let done = self.batch("COMMIT TRANSACTION").await;
        done.map(|_| ()).map_err(|error| failure(&error, Stage::Committing))
    }

    async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, Failure> {
        let params = bind(sql, params).map_err(sql_failure)?;
        self.change(sql, params).await
    }

    async fn prepare_once(&mut self) -> Result<(), Failure> {
        let there = "SELECT OBJECT_ID(N'clawhook_once', N'U') AS there";
        for _ in 0..=limits::SQL_MAKE_TRIES_MAX {
            let rows = self.batch(there).await.map_err(told)?;
            let row = rows.first().and_then(|rows| rows.first());
            if row.is_some_and(|row| row.try_get::<i32, _>(0).ok().flatten().is_some()) {
                return Ok(());
            }
            match self.batch(ONCE).await {
                Ok(_) => return Ok(()),
                // Another made it at the same moment.
                Err(error) if error.code() == Some(IS_THERE) => {}
                Err(error) => {
                    let help = format!("`once` wants a table in the database; let its owner make it: `{ONCE}`");
                    return Err(Failure { help: Some(help), ..told(error) });
                }
            }
        }
        let why = "the table `clawhook_once` is there, but not for this user in the schema that it starts in";
        Err(sql_failure(why).help(format!("let the user read and write it, or let its owner make it: `{ONCE}`")))
    }

    async fn claim_once(&mut self, key: &str) -> Result<Option<Value>, Failure> {
        let key = || vec![ColumnData::String(Some(key.to_owned().into()))];
        // The lock on the gap where the key would stand is kept until the end of the transaction: who comes second waits.
        let claim = "INSERT INTO clawhook_once ([key]) SELECT @P1 WHERE NOT EXISTS \
            (SELECT 1 FROM clawhook_once WITH (UPDLOCK, HOLDLOCK) WHERE [key] = @P1)";
        if self.change(claim, key()).await? == 1 {
            return Ok(None);
        }
        let mut query = Query::new("SELECT output FROM clawhook_once WHERE [key] = @P1");
        query.bind_iter(key());
        let row = query.query(&mut self.client).await.map_err(told)?.into_row().await.map_err(told)?;
        let Some(row) = row else {
            return Err(Failure::new("sql.busy", Fault::Far, "the mark of this task came and went")
                .retriable(Class::Connect, None));
        };
        let output = row.try_get::<&str, _>(0).map_err(told)?.and_then(|text| serde_json::from_str(text).ok());
        self.batch("ROLLBACK TRANSACTION").await.map_err(told)?;
        Ok(Some(output.unwrap_or_else(|| json!({}))))
    }

    async fn keep_once(&mut self, key: &str, output: &Value) -> Result<(), Failure> {
        let texts = [key.to_owned(), output.to_string()];
        let values = texts.into_iter().map(|text| ColumnData::String(Some(text.into()))).collect();
        self.change("UPDATE clawhook_once SET output = @P2 WHERE [key] = @P1", values).await.map(|_| ())
    }

    fn loads(&mut self) -> Option<&mut dyn Loads> {
        None
    }
}

/// A row as an object.
fn object(row: &Row) -> Result<Value, Failure> {
    let mut members = Map::new();
    for (column, data) in row.cells() {
        let value = match column.column_type() {
            ColumnType::Udt => Err("values of this type cannot be read; write `CAST(… AS nvarchar(max))`".to_owned()),
            of => cells::value(of, data),
        };
        let value = value.map_err(|why| sql_failure(format!("the column `{}`: {why}", column.name())))?;
        members.insert(column.name().to_owned(), value);
    }
    Ok(Value::Object(members))
}
