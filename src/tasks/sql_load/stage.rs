//! Rows on their way into the temporary table: read on a thread of their own, copied as they come.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::pin::pin;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::domain::failure::Failure;
use crate::limits;
use crate::tasks::TaskContext;
use crate::tasks::sql::{Loads, Piece, Pieces, Refused, Said, Target, sql_failure};
use crate::tasks::table::aside::{Aside, aside};
use crate::tasks::table::source::Found;
use crate::tasks::table::{Row, Rows, Trouble};

/// What stands in the temporary table.
pub(super) struct Staged<'a> {
    /// The columns of the target that it has, in order; `c0`, `c1` and so on there.
    pub(super) columns: Vec<String>,
    /// Rows of the source.
    pub(super) read: u64,
    pub(super) refused: Refused<'a>,
}

/// Reads the source into the temporary table.
pub(super) async fn fill<'a>(
    ctx: &'a TaskContext<'_>,
    session: &mut dyn Loads,
    found: Found,
    columns: Option<&BTreeMap<String, String>>,
    nulls: &[String],
    keys: &[String],
    target: &Target,
) -> Result<Staged<'a>, Failure> {
    let (say, mut heard) = mpsc::channel(limits::SQL_PIECES_AHEAD);
    let reading = Reading {
        columns: columns.cloned(),
        known: target.columns.iter().map(|column| column.name.clone()).collect(),
        nulls: nulls.to_vec(),
        keys: keys.to_vec(),
        table: target.name.clone(),
        say,
    };
    let mut reader = pin!(aside(ctx.artifacts, ctx.run, move |aside| reading.run(found, aside)));
    let mut refused = Refused::new(ctx.artifacts, ctx.run);
    let copying = async {
        let Some(Said::Columns(columns)) = heard.recv().await else { return Ok(None) };
        let mut pieces = Pieces::new(heard, &mut refused);
        session.stage(columns.len(), &mut pieces).await?;
        Ok(pieces.read().map(|read| (columns, read)))
    };
    // When the database says no, the reader finds nobody to talk to and ends; when the reader does, it knows better why.
    let copied = {
        let mut copying = pin!(copying);
        tokio::select! {
            copied = &mut copying => {
                let copied = copied?;
                reader.await?;
                copied
            }
            read = &mut reader => {
                read?;
                copying.await?
            }
        }
    };
    let Some((columns, read)) = copied else { return Err(sql_failure("the source broke off")) };
    Ok(Staged { columns, read, refused })
}

/// The reading side.
struct Reading {
    columns: Option<BTreeMap<String, String>>,
    known: Vec<String>,
    nulls: Vec<String>,
    /// The columns of the target that tell its rows.
    keys: Vec<String>,
    table: String,
    say: mpsc::Sender<Said>,
}

/// Nobody listens any more.
fn unheard<T>(_: T) -> Failure {
    sql_failure("the load is over")
}

impl Reading {
    fn run(self, found: Found, aside: &Aside) -> Result<(), Failure> {
        let typed = found.typed();
        let mut rows = found.rows(aside).map_err(|trouble| trouble.failure("source"))?;
        let mut next = rows.next();
        // The first row of JSON says what there is, the line of names does for the others.
        let mapped = self.mapped(rows.as_ref(), &typed)?;
        let places: Vec<Option<usize>> = Self::places(&mapped, rows.as_ref());
        let fixed = rows.columns().len();
        let columns = mapped.iter().map(|(to, _)| to.clone()).collect();
        let told_by: Vec<usize> =
            self.keys.iter().filter_map(|key| mapped.iter().position(|(to, _)| to == key)).collect();
        self.say.blocking_send(Said::Columns(columns)).map_err(unheard)?;
        let (mut read, mut piece, mut places) = (0, Piece::default(), places);
        while let Some(row) = next {
            read += 1;
            match row {
                Ok(row) => {
                    if rows.columns().len() > fixed && self.columns.is_some() {
                        places = Self::places(&mapped, rows.as_ref());
                    }
                    let keyless = || {
                        let place = told_by.iter().find(|place| self.text(&row, places[**place]).is_none())?;
                        Some(format!("the key `{}` is missing", mapped[*place].0))
                    };
                    match self.stray(&row, rows.as_ref(), fixed).or_else(keyless) {
                        Some(why) => {
                            self.say.blocking_send(Said::Refused { line: row.line, why }).map_err(unheard)?;
                        }
                        None => self.write(&row, &places, &mut piece),
                    }
                }
                Err(Trouble::Row { line, why }) => {
                    self.say.blocking_send(Said::Refused { line, why }).map_err(unheard)?;
                }
                Err(trouble) => return Err(trouble.failure("source")),
            }
            if piece.len() >= limits::SQL_PIECE_BYTES {
                self.say.blocking_send(Said::Piece(std::mem::take(&mut piece))).map_err(unheard)?;
            }
            next = rows.next();
        }
        if piece.len() > 0 {
            self.say.blocking_send(Said::Piece(piece)).map_err(unheard)?;
        }
        self.say.blocking_send(Said::End { read }).map_err(unheard)
    }

    /// The columns of the target, each with the one of the source.
    fn mapped(&self, rows: &dyn Rows, typed: &[String]) -> Result<Vec<(String, String)>, Failure> {
        let own = || {
            let seen = rows.columns().iter();
            let absent = typed.iter().filter(|column| !rows.columns().contains(column));
            seen.chain(absent).map(|name| (name.clone(), name.clone())).collect()
        };
        let mapped: Vec<(String, String)> = match &self.columns {
            Some(columns) => columns.iter().map(|(to, from)| (to.clone(), from.clone())).collect(),
            None if rows.columns().is_empty() => self.known.iter().map(|name| (name.clone(), name.clone())).collect(),
            None => own(),
        };
        if let Some((to, _)) = mapped.iter().find(|(to, _)| !self.known.contains(to)) {
            let why = format!("the table `{}` has no column `{to}`; it has {}", self.table, listed(&self.known));
            return Err(
                sql_failure(why).help("name the columns to load under `columns`, each with the one it comes from")
            );
        }
        // A list without rows has no columns, and a line of JSON need not have all.
        let strict = self.columns.is_some() && !rows.columns().is_empty() && rows.has_all_columns();
        if let Some((_, from)) = mapped.iter().filter(|_| strict).find(|(_, from)| !rows.columns().contains(from)) {
            let why = format!("the source has no column `{from}`; it has {}", listed(rows.columns()));
            return Err(sql_failure(why).help("correct it under `columns`"));
        }
        Ok(mapped)
    }

    fn places(mapped: &[(String, String)], rows: &dyn Rows) -> Vec<Option<usize>> {
        mapped.iter().map(|(_, from)| rows.columns().iter().position(|column| column == from)).collect()
    }

    /// Why a row is refused that has what nobody asked for.
    fn stray(&self, row: &Row, rows: &dyn Rows, fixed: usize) -> Option<String> {
        if self.columns.is_some() {
            return None;
        }
        let place = (fixed..row.cells.len()).find(|place| !row.cells[*place].is_null())?;
        Some(format!(
            "the column `{}` is not in the first row; name the columns under `columns`",
            rows.columns()[place]
        ))
    }

    fn write(&self, row: &Row, places: &[Option<usize>], piece: &mut Piece) {
        piece.begin(row.line);
        for place in places {
            piece.cell(self.text(row, *place).as_deref());
        }
    }

    /// The text of a cell; none when it is nothing.
    fn text<'r>(&self, row: &'r Row, place: Option<usize>) -> Option<Cow<'r, str>> {
        let text = match row.cells.get(place?)? {
            Value::Null => return None,
            Value::String(text) => Cow::Borrowed(text.as_str()),
            other => Cow::Owned(other.to_string()),
        };
        Some(text).filter(|text| !self.nulls.iter().any(|null| null == text))
    }
}

fn listed(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > shown.len() { " and more" } else { "" };
    format!("{}{more}", shown.join(", "))
}
