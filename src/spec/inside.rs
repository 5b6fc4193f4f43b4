//! Where a part of a text stands in its file, whatever quotes, escapes and line breaks lie between.
//!
//! What was written is walked beside what it means. When the two do not fit together the answer is the whole value:
//! an underline that is too long misleads nobody.

use std::ops::Range;

use super::source_map::{Path, SourceMap, Span};

impl SourceMap {
    /// The place of the bytes `range` of the `text` that stands at `path`.
    pub fn inside(&self, path: &Path, text: &str, range: &Range<usize>) -> Span {
        let whole = self.value(path);
        let Some(places) = align(self.source().slice(whole), text) else { return whole };
        let Some(first) = places.get(range.start) else { return whole };
        let last = range.end.checked_sub(1).filter(|last| *last >= range.start).and_then(|last| places.get(last));
        let end = last.map_or(first.start, |last| last.end);
        Span::new(whole.start + first.start, whole.start + end)
    }
}

/// The written bytes of each byte of `text`, and of its end.
fn align(written: &str, text: &str) -> Option<Vec<Span>> {
    let start = properties_bytes(written);
    let style = match written.as_bytes().get(start)? {
        b'\'' => Style::Single,
        b'"' => Style::Double,
        b'|' | b'>' => Style::Block,
        _ => Style::Plain,
    };
    let mut walk = Walk { written, at: 0, style };
    walk.at = match style {
        Style::Plain => start,
        Style::Single | Style::Double => start + 1,
        Style::Block => start + written[start..].find('\n')? + 1,
    };
    let mut places = Vec::with_capacity(text.len() + 1);
    for c in text.chars() {
        let place = walk.step(c)?;
        places.extend(std::iter::repeat_n(place, c.len_utf8()));
    }
    places.push(Span::new(walk.at, walk.at));
    Some(places)
}

/// Bytes of the anchor and tag before a value.
fn properties_bytes(written: &str) -> usize {
    let mut rest = written;
    while rest.starts_with(['&', '!']) {
        rest = rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
    }
    written.len() - rest.len()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Block,
}

struct Walk<'t> {
    written: &'t str,
    at: usize,
    style: Style,
}

impl Walk<'_> {
    fn peek(&self) -> Option<char> {
        self.written[self.at..].chars().next()
    }

    fn skip_blanks(&mut self) {
        let rest = &self.written[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// The written form of the next character.
    fn step(&mut self, c: char) -> Option<Span> {
        if matches!(c, ' ' | '\n') && self.peek() != Some('\\') {
            return Some(self.blank(c));
        }
        if self.peek() != Some(c) {
            self.skip_blanks();
        }
        let start = self.at;
        match (self.style, self.peek()?) {
            (Style::Double, '\\') => self.at += self.escape_bytes()?,
            (Style::Single, '\'') if c == '\'' => self.at += 2,
            (_, found) if found == c => self.at += c.len_utf8(),
            _ => return None,
        }
        (self.at <= self.written.len()).then(|| Span::new(start, self.at))
    }

    /// A space or line break: as it is, or what a line break and the margin behind it were folded into.
    fn blank(&mut self, c: char) -> Span {
        let start = self.at;
        match self.peek() {
            Some(found) if found == c => self.at += 1,
            Some(' ' | '\t' | '\n' | '\r') => self.skip_blanks(),
            _ => {}
        }
        Span::new(start, self.at)
    }

    /// YAML 1.2.2, section 5.7; a line break that is escaped takes the margin of the next line with it.
    fn escape_bytes(&mut self) -> Option<usize> {
        Some(match self.written[self.at + 1..].chars().next()? {
            'x' => 4,
            'u' => 6,
            'U' => 10,
            '\n' | '\r' => {
                self.at += 1;
                self.skip_blanks();
                return self.peek().map(|c| if c == '\\' { 2 } else { c.len_utf8() });
            }
            c => 1 + c.len_utf8(),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::spec::source_map::Source;
    use crate::spec::yaml;

    use super::*;

    /// The first `needle` of the text at `a`, as written in the file.
    #[track_caller]
    fn check(file: &str, needle: &str, written: &str) {
        let source = Source::new("t.yaml", file);
        let mut problems = Vec::new();
        let document = yaml::parse(&source, &mut problems).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let text = document.value["a"].as_str().unwrap();
        let start = text.find(needle).unwrap();
        let span = document.map.inside(&Path::root().with("a"), text, &(start..start + needle.len()));
        assert_eq!(source.slice(span), written, "{file:?}");
    }

    #[test]
    fn parts_are_found_in_every_style() {
        check("a: x ${{ body.id }} y\n", "body.id", "body.id");
        check("a: 订单 ${{ body.名 }}\n", "body.名", "body.名");
        check("a: 'it''s ${{ body.id }}'\n", "body.id", "body.id");
        check("a: '${{ body[''k''] }}'\n", "body['k']", "body[''k'']");
        check("a: \"\\u00e9\\n\\\"${{ body.id }}\"\n", "body.id", "body.id");
        check("a: \"${{ body[\\\"k\\\"] }}\"\n", "body[\"k\"]", "body[\\\"k\\\"]");
        check("a: |\n  one\n    two ${{ body.id }}\n  three\n", "body.id", "body.id");
        check("a: |-\n\n  one\n\n  ${{ body.id }}", "body.id", "body.id");
        check("a: >\n  one\n  two ${{ body.id }}\n\n  three\n", "body.id", "body.id");
        check("a: one\n  two\n\n  ${{ body.id }}\n", "body.id", "body.id");
        check("a: \"one\n  two \\\n  ${{ body.id }}\"\n", "body.id", "body.id");
        check("a: &x \"${{ body.id }}\"\nb: *x\n", "body.id", "body.id");
        check("a: !!str ${{ body.id }}\n", "body.id", "body.id");
        check("x: &x 'it ${{ body.id }}'\na: *x\n", "body.id", "body.id");
        check("a: |\r\n  one\r\n  ${{ body.id }}\r\n", "body.id", "body.id");
    }
}
