//! Lists of objects, and objects a line: never more than one row of a file in memory.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::{Bounded, Row, Rows, Seen, Trouble};
use crate::limits;

/// Columns in the order in which they were first seen.
#[derive(Default)]
struct Columns {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Columns {
    fn cells(&mut self, line: u64, value: Value) -> Result<Row, Trouble> {
        let Value::Object(members) = value else {
            return Err(Trouble::Row { line, why: "a row is an object".to_owned() });
        };
        let mut cells = Vec::with_capacity(self.names.len());
        for (name, value) in members {
            let place = match self.places.get(&name) {
                Some(place) => *place,
                None if self.names.len() == limits::TABLE_COLUMNS_MAX => {
                    let why = format!("it has more than {} columns", limits::TABLE_COLUMNS_MAX);
                    return Err(Trouble::end(Some(line), why));
                }
                None => {
                    self.names.push(name.clone());
                    self.places.insert(name, self.names.len() - 1);
                    self.names.len() - 1
                }
            };
            if cells.len() <= place {
                cells.resize(place + 1, Value::Null);
            }
            cells[place] = value;
        }
        Ok(Row { line, cells })
    }
}

/// Objects of a file.
pub(super) struct Objects<R> {
    text: BufReader<Bounded<R>>,
    seen: Arc<Seen>,
    columns: Columns,
    line: u64,
    form: Form,
    over: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Lines,
    /// A list: before its bracket, before the first object, or behind one.
    Before,
    First,
    Behind,
}

impl<R: Read> Objects<R> {
    pub(super) fn lines(text: Bounded<R>) -> Self {
        Self::new(text, Form::Lines)
    }

    pub(super) fn array(text: Bounded<R>) -> Self {
        Self::new(text, Form::Before)
    }

    fn new(text: Bounded<R>, form: Form) -> Self {
        let seen = Arc::clone(&text.seen);
        Self { text: BufReader::new(text), seen, columns: Columns::default(), line: 1, form, over: false }
    }

    /// The bytes of the next object, and its line.
    fn piece(&mut self) -> Result<Option<(u64, Vec<u8>)>, Trouble> {
        self.seen.since_row.store(0, Ordering::Relaxed);
        if self.form == Form::Lines { self.next_line() } else { self.next_item() }
    }

    fn next_line(&mut self) -> Result<Option<(u64, Vec<u8>)>, Trouble> {
        loop {
            let (line, mut piece) = (self.line, Vec::new());
            let read = self.text.read_until(b'\n', &mut piece);
            if read.map_err(|error| Trouble::of_read(Some(line), &error))? == 0 {
                return Ok(None);
            }
            self.line += 1;
            if !piece.trim_ascii().is_empty() {
                return Ok(Some((line, piece)));
            }
            self.seen.since_row.store(0, Ordering::Relaxed);
        }
    }

    fn next_item(&mut self) -> Result<Option<(u64, Vec<u8>)>, Trouble> {
        let wrong = |line: u64, why: &str| Trouble::end(Some(line), why);
        if self.form == Form::Before {
            match self.peek()? {
                Some(b'[') => self.text.consume(1),
                None => return Ok(None),
                Some(_) => return Err(wrong(self.line, "a table in JSON is a list of objects")),
            }
            self.form = Form::First;
        }
        match (self.peek()?, self.form) {
            (Some(b']'), _) => {
                self.text.consume(1);
                return match self.peek()? {
                    None => Ok(None),
                    Some(_) => Err(wrong(self.line, "there is something behind the list")),
                };
            }
            (Some(b','), Form::Behind) => {
                self.text.consume(1);
                if self.peek()?.is_none() {
                    return Err(wrong(self.line, "the list ends in the middle"));
                }
            }
            (Some(_), Form::Behind) => return Err(wrong(self.line, "a comma is missing between two rows")),
            (Some(_), _) => {}
            (None, _) => return Err(wrong(self.line, "the list ends in the middle")),
        }
        self.form = Form::Behind;
        let line = self.line;
        let piece = self.value()?;
        Ok(Some((line, piece)))
    }

    /// The next byte that is no white space, still to be read.
    fn peek(&mut self) -> Result<Option<u8>, Trouble> {
        loop {
            let line = self.line;
            let buffer = self.text.fill_buf().map_err(|error| Trouble::of_read(Some(line), &error))?;
            match buffer.first().copied() {
                None => return Ok(None),
                Some(space @ (b' ' | b'\t' | b'\r' | b'\n')) => {
                    self.line += u64::from(space == b'\n');
                    self.text.consume(1);
                }
                Some(byte) => return Ok(Some(byte)),
            }
        }
    }

    /// The bytes of one value, up to the comma or bracket behind it.
    fn value(&mut self) -> Result<Vec<u8>, Trouble> {
        let (mut piece, mut depth, mut in_text, mut escaped) = (Vec::new(), 0_usize, false, false);
        loop {
            let line = self.line;
            let buffer = self.text.fill_buf().map_err(|error| Trouble::of_read(Some(line), &error))?;
            if buffer.is_empty() {
                return Err(Trouble::end(Some(line), "the list ends in the middle"));
            }
            let mut taken = 0;
            let mut ended = false;
            for byte in buffer {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_text => escaped = true,
                    b'"' => in_text = !in_text,
                    _ if in_text => {}
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' if depth > 0 => {
                        depth -= 1;
                        if depth == 0 {
                            taken += 1;
                            ended = true;
                            break;
                        }
                    }
                    b',' | b']' | b'}' if depth == 0 => {
                        ended = true;
                        break;
                    }
                    _ => {}
                }
                self.line += u64::from(*byte == b'\n');
                taken += 1;
            }
            piece.extend_from_slice(&buffer[..taken]);
            self.text.consume(taken);
            if ended {
                return Ok(piece);
            }
        }
    }
}

impl<R: Read + Send> Rows for Objects<R> {
    fn columns(&self) -> &[String] {
        &self.columns.names
    }

    fn next(&mut self) -> Option<Result<Row, Trouble>> {
        if self.over {
            return None;
        }
        let row = match self.piece() {
            Ok(None) => {
                self.over = true;
                return None;
            }
            Ok(Some((line, piece))) => match serde_json::from_slice(&piece) {
                Ok(value) => self.columns.cells(line, value),
                Err(error) => Err(Trouble::Row { line, why: format!("it is no JSON: {error}") }),
            },
            Err(trouble) => Err(trouble),
        };
        self.over = matches!(row, Err(Trouble::End { .. } | Trouble::Artifact(_)));
        Some(row)
    }
}

/// Objects of a list in memory.
pub(super) struct Listed {
    items: std::vec::IntoIter<Value>,
    columns: Columns,
    line: u64,
}

impl Listed {
    pub(super) fn new(items: Vec<Value>) -> Self {
        Self { items: items.into_iter(), columns: Columns::default(), line: 0 }
    }
}

impl Rows for Listed {
    fn columns(&self) -> &[String] {
        &self.columns.names
    }

    fn next(&mut self) -> Option<Result<Row, Trouble>> {
        let item = self.items.next()?;
        self.line += 1;
        Some(self.columns.cells(self.line, item))
    }
}
