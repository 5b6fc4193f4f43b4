//! What people are told, in one neutral form that every channel renders as its platform can.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::words::Words;
use crate::limits;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    #[default]
    Info,
    /// Somebody should look.
    Warning,
    /// Something did not work.
    Error,
}

impl Level {
    /// The word that people type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Message {
    /// One line.
    pub title: String,
    /// Markdown: bold, lists, links, code; what a platform does not know stays as typed.
    pub text: String,
    pub level: Level,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Table>,
}

/// Rows under a text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Rows that were left out.
    pub more: usize,
}

/// Who is to be called by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mention {
    /// User ids, as the platform has them.
    #[serde(default)]
    pub people: Vec<String>,
    /// Telephone numbers.
    #[serde(default)]
    pub phones: Vec<String>,
    /// Everybody there.
    #[serde(default)]
    pub all: bool,
}

impl Mention {
    /// Nobody.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty() && self.phones.is_empty() && !self.all
    }

    /// Those of both, each once.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let both = |ours: &[String], theirs: &[String]| {
            let mut both = ours.to_vec();
            both.extend(theirs.iter().filter(|one| !ours.contains(one)).cloned());
            both
        };
        Self {
            people: both(&self.people, &other.people),
            phones: both(&self.phones, &other.phones),
            all: self.all || other.all,
        }
    }
}

impl Message {
    /// A message within the bounds, its title on one line.
    #[must_use]
    pub fn bounded(mut self, words: Words) -> Self {
        self.title = cut(&one_line(&self.title), limits::NOTICE_TITLE_BYTES_MAX, "…").into_owned();
        self.text = cut(&self.text, limits::NOTICE_TEXT_BYTES_MAX, words.cut()).into_owned();
        self
    }

    /// Bytes of its words.
    pub(super) fn bytes(&self) -> usize {
        let table = self.table.iter().flat_map(|table| table.columns.iter().chain(table.rows.iter().flatten()));
        self.title.len() + self.text.len() + table.map(String::len).sum::<usize>()
    }

    /// Title and text on one line, for digests and samples.
    pub fn line(&self, bytes_max: usize) -> String {
        let text = one_line(&self.text);
        let line = if text.is_empty() { self.title.clone() } else { format!("{}: {text}", self.title) };
        cut(&line, bytes_max, "…").into_owned()
    }

    /// Text and table as markdown without tables: a list item a row.
    pub(super) fn markdown(&self, words: Words) -> String {
        self.with_table(Table::items, words)
    }

    /// Text and table as markdown with tables.
    pub(super) fn markdown_with_table(&self, words: Words) -> String {
        self.with_table(Table::markdown, words)
    }

    fn with_table(&self, render: impl Fn(&Table) -> String, words: Words) -> String {
        let mut parts: Vec<String> = Vec::new();
        parts.extend((!self.text.trim().is_empty()).then(|| self.text.trim_end().to_owned()));
        if let Some(table) = &self.table {
            parts.extend((!table.rows.is_empty()).then(|| render(table)));
            parts.extend((table.more > 0).then(|| words.more(table.more)));
        }
        parts.join("\n\n")
    }
}

impl Table {
    /// `- sku: A-1, shop: 5` for each row; a row of one column is its cell.
    pub(super) fn items(&self) -> String {
        let item = |row: &Vec<String>| {
            let cell = |(place, cell): (usize, &String)| match self.columns.get(place) {
                Some(column) if self.columns.len() > 1 => format!("{column}: {}", one_line(cell)),
                _ => one_line(cell),
            };
            format!("- {}", row.iter().enumerate().map(cell).collect::<Vec<_>>().join(", "))
        };
        self.rows.iter().map(item).collect::<Vec<_>>().join("\n")
    }

    /// A markdown table (GitHub Flavored Markdown section 4.10), its cells escaped.
    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| one_line(cell).replace('|', "\\|")).collect();
            format!("| {} |", cells.join(" | "))
        };
        let rule = format!("|{}", " --- |".repeat(self.columns.len()));
        let mut lines = vec![line(&self.columns), rule];
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines.join("\n")
    }

    /// Columns side by side in plain text, for a platform that shows code in one width.
    pub(super) fn plain(&self) -> String {
        let width = |text: &str| text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>();
        let all: Vec<_> = std::iter::once(&self.columns).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|place| all.iter().filter_map(|row| row.get(place)).map(|cell| width(&one_line(cell))).max())
            .map(Option::unwrap_or_default)
            .collect();
        let line = |row: &&Vec<String>| {
            let cell = |(place, cell): (usize, &String)| {
                let cell = one_line(cell);
                let space = widths.get(place).copied().unwrap_or_default().saturating_sub(width(&cell));
                format!("{cell}{}", " ".repeat(space))
            };
            row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The text without line breaks and other control characters.
pub(super) fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control()).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A cell of a table, on one line and within its bound.
pub fn cut_cell(text: &str) -> String {
    cut(&one_line(text), limits::NOTICE_CELL_BYTES_MAX, "…").into_owned()
}

/// At most `bytes_max` bytes of `text`: whole characters, with `mark` where it was cut.
pub(super) fn cut<'t>(text: &'t str, bytes_max: usize, mark: &str) -> Cow<'t, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let mut end = bytes_max.saturating_sub(mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}{mark}", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_characters_and_says_so() {
        assert_eq!(cut("订单", 6, "…"), "订单");
        assert_eq!(cut("订单已同步", 10, "…"), "订单…");
        assert_eq!(cut("abcdef", 4, "…"), "a…");
        for bytes_max in 3..40 {
            assert!(cut("订单 #1042 已同步 €😀 done and more", bytes_max, "…").len() <= bytes_max);
        }
    }

    #[test]
    fn tables_in_every_form() {
        let table = Table {
            columns: vec!["sku".into(), "差".into()],
            rows: vec![vec!["A-1".into(), "5".into()], vec!["B|7\n".into(), "-2".into()]],
            more: 12,
        };
        assert_eq!(table.items(), "- sku: A-1, 差: 5\n- sku: B|7, 差: -2");
        assert_eq!(table.markdown(), "| sku | 差 |\n| --- | --- |\n| A-1 | 5 |\n| B\\|7 | -2 |");
        assert_eq!(table.plain(), "sku  差\nA-1  5\nB|7  -2");
        let message = Message { text: "gaps\n".into(), table: Some(table), ..Message::default() };
        let words = Words::of(super::super::words::Language::En);
        assert_eq!(message.markdown(words), "gaps\n\n- sku: A-1, 差: 5\n- sku: B|7, 差: -2\n\nand 12 more");
    }

    #[test]
    fn a_title_is_one_line() {
        let message = Message { title: "a\r\nBcc: b\u{0}c".into(), text: " x\n y".into(), ..Message::default() };
        let message = message.bounded(Words::of(super::super::words::Language::Zh));
        assert_eq!(message.title, "a Bcc: b c");
        assert_eq!(message.line(100), "a Bcc: b c: x y");
    }
}
