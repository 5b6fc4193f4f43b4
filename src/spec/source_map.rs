//! Where things stand in a file: texts, spans, and one map from path (`routes[2].verify.tolerance`) to place.
//!
//! Paths survive everything that is done to a value after parsing; positions kept inside values do not.
//! So values carry no positions, and whoever finds something wrong at a path asks here where that is.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A range of bytes in a [`Source`]'s text; the end is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The range from `start` to `end`; an end before the start makes it empty.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }
}

/// The text of one file, with the name that people know it by.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// Takes a file's text. A byte order mark at its head is left out, and no column counts it.
    pub fn new(name: impl Into<String>, text: &str) -> Arc<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { name: name.into(), text, line_starts })
    }

    /// The file's name, as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span, cut to what the file holds.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start.min(self.text.len())..span.end.min(self.text.len())).unwrap_or_default()
    }

    /// Line and column of a byte, both from 1; columns count characters, whatever their width.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let byte = self.text.floor_char_boundary(byte.min(self.text.len()));
        let line = self.line_starts.partition_point(|start| *start <= byte);
        let start = self.line_starts[line - 1];
        (line, self.text[start..byte].chars().count() + 1)
    }

    /// The span of the line that holds this byte, without its line break.
    pub fn line(&self, byte: usize) -> Span {
        let index = self.line_starts.partition_point(|start| *start <= byte.min(self.text.len())) - 1;
        let start = self.line_starts[index];
        let rest = &self.text[start..];
        let line = rest.split('\n').next().unwrap_or_default();
        Span::new(start, start + line.trim_end_matches('\r').len())
    }
}

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Into a map, by key.
    Key(Arc<str>),
    /// Into a list, from 0.
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.into())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// The way from a file's root to a value. Prints as `tasks[2].with.url`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<Segment>);

impl Path {
    /// The whole file.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path one step further.
    #[must_use]
    pub fn with(&self, segment: impl Into<Segment>) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment.into());
        Self(segments)
    }

    /// The steps, outermost first.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// True when this path is `other` or leads further down from it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The path without its last step; `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// The last step's key, if it goes into a map.
    pub fn key(&self) -> Option<&str> {
        match self.0.last()? {
            Segment::Key(key) => Some(key),
            Segment::Index(_) => None,
        }
    }
}

impl FromIterator<Segment> for Path {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if !is_plain(key) => write!(f, "[{key:?}]")?,
                Segment::Key(key) if place == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
}

/// Where one value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The key that leads to it; `None` at the root and in lists.
    pub key: Option<Span>,
    /// The value itself.
    pub value: Span,
}

/// From path to place, for one file.
#[derive(Debug)]
pub struct SourceMap {
    source: Arc<Source>,
    root: Branch,
}

/// One value of the tree behind a [`SourceMap`].
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub(super) place: Place,
    /// Reported already: whatever else is wrong here or below would be an echo.
    pub(super) refused: bool,
    pub(super) children: Children,
}

/// What is below a [`Branch`].
#[derive(Debug, Clone)]
pub(super) enum Children {
    None,
    List(Vec<Branch>),
    Map(HashMap<Arc<str>, Branch>),
}

impl Branch {
    /// Moves everything so many bytes on.
    pub(super) fn shift(&mut self, bytes: usize) {
        let moved = |span: Span| Span::new(span.start + bytes, span.end + bytes);
        self.place = Place { key: self.place.key.map(moved), value: moved(self.place.value) };
        match &mut self.children {
            Children::None => {}
            Children::List(items) => items.iter_mut().for_each(|item| item.shift(bytes)),
            Children::Map(entries) => entries.values_mut().for_each(|entry| entry.shift(bytes)),
        }
    }

    fn child(&self, segment: &Segment) -> Option<&Self> {
        match (&self.children, segment) {
            (Children::List(items), Segment::Index(index)) => items.get(*index),
            (Children::Map(entries), Segment::Key(key)) => entries.get(key),
            _ => None,
        }
    }

    fn refused(&self, path: &Path, found: &mut Vec<Path>) {
        if self.refused {
            found.push(path.clone());
            return;
        }
        match &self.children {
            Children::None => {}
            Children::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.refused(&path.with(index), found);
                }
            }
            Children::Map(entries) => {
                for (key, entry) in entries {
                    entry.refused(&path.with(key.as_ref()), found);
                }
            }
        }
    }
}

impl SourceMap {
    pub(super) fn new(source: Arc<Source>, root: Branch) -> Self {
        Self { source, root }
    }

    pub(super) fn into_root(self) -> Branch {
        self.root
    }

    /// The file.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Where the value at this path stands; for a path that the file does not hold, its nearest parent.
    pub fn place(&self, path: &Path) -> Place {
        self.walk(path).0.place
    }

    /// The span to underline when the value at this path is wrong.
    pub fn value(&self, path: &Path) -> Span {
        self.place(path).value
    }

    /// The span to underline when something about the whole entry is wrong, such as a missing key:
    /// its own key, or for a list item and for the root the first key inside.
    pub fn entry(&self, path: &Path) -> Span {
        let branch = self.walk(path).0;
        let first = || match &branch.children {
            Children::Map(entries) => entries.values().filter_map(|entry| entry.place.key).min(),
            _ => None,
        };
        branch.place.key.or_else(first).unwrap_or(branch.place.value)
    }

    /// The span of a key inside the map at `path`.
    pub fn key(&self, path: &Path, key: &str) -> Span {
        self.place(&path.with(key)).key.unwrap_or_else(|| self.entry(path))
    }

    /// True when this value, or one around it, was refused while reading: judge it no further.
    pub fn is_refused(&self, path: &Path) -> bool {
        self.walk(path).1
    }

    /// The path of everything that was refused while reading.
    pub fn refused(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.root.refused(&Path::root(), &mut paths);
        paths
    }

    fn walk(&self, path: &Path) -> (&Branch, bool) {
        let mut branch = &self.root;
        let mut refused = branch.refused;
        for segment in path.segments() {
            match branch.child(segment) {
                Some(child) => branch = child,
                None => break,
            }
            refused |= branch.refused;
        }
        (branch, refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_people_write_them() {
        let path = Path::root().with("routes").with(2).with("verify").with("tolerance");
        assert_eq!(path.to_string(), "routes[2].verify.tolerance");
        assert_eq!(Path::root().with("headers").with("X Y").to_string(), r#"headers["X Y"]"#);
        assert_eq!(Path::root().with("标签").to_string(), "标签");
    }

    #[test]
    fn positions_count_characters() {
        let source = Source::new("a.yaml", "\u{feff}标题: x\r\n\tb: 名\r\n");
        let at = |needle: &str| source.position(source.text().find(needle).unwrap_or_default());
        assert_eq!(at("标"), (1, 1));
        assert_eq!(at("x"), (1, 5));
        assert_eq!(at("b"), (2, 2));
        assert_eq!(at("名"), (2, 5));
        assert_eq!(source.position(usize::MAX), (3, 1));
        assert_eq!(source.slice(source.line(0)), "标题: x");
    }
}
