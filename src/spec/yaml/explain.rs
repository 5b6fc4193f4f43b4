//! Why a text is no YAML, said in the words of the language that people think they are writing.
//!
//! The parser says what it was doing when it gave up. What a person needs is the character to change, so this looks
//! at the text around the place for the mistakes that people make. The parser's own words are the last resort.

use std::sync::Arc;

use crate::spec::diagnostic::Problem;
use crate::spec::source_map::{Source, Span};
use crate::spec::words;

/// What is open around the place where reading stopped.
pub(super) struct Surroundings {
    /// The innermost `{` or `[` that is not closed yet.
    pub(super) bracket: Option<usize>,
    /// The outermost of these.
    pub(super) first_bracket: Option<usize>,
}

/// Makes a problem of a syntax error at byte `at`.
pub(super) fn explain(source: &Arc<Source>, at: usize, around: &Surroundings, parser_says: &str) -> Problem {
    let here = source.line(at);
    let before = source.line(previous_text(source, here.start));
    let after = source.line(next_text(source, here.end));
    let brackets_from = around.first_bracket.unwrap_or(here.start).min(at);
    tab(source, here)
        .or_else(|| tab(source, after))
        .or_else(|| unclosed_quote(source, at))
        .or_else(|| expression_in_brackets(source, brackets_from, here.end))
        .or_else(|| needs_quotes(source, here))
        .or_else(|| needs_quotes(source, before))
        .or_else(|| quote_unclosed_above(source, here))
        .or_else(|| no_space_after_colon(source, here))
        .or_else(|| no_space_after_colon(source, before))
        .or_else(|| around.bracket.map(|bracket| unclosed_bracket(source, bracket)))
        .or_else(|| bad_indent(source, at))
        .unwrap_or_else(|| plainly(source, at, parser_says))
}

/// `{{ … }}` where `${{ … }}` is meant; `start` is the first brace.
pub(super) fn bare_braces(source: &Arc<Source>, start: usize) -> Problem {
    let line = source.line(start);
    let rest = source.slice(Span::new(start, line.end));
    let length = rest.find("}}").map_or(rest.len(), |end| end + 2);
    let inner = rest[..length].trim_start_matches('{').trim_end_matches('}').trim();
    let tail = rest[length..].split([' ', ',', '}', ']', '\t']).next().unwrap_or_default();
    Problem::new("spec.bare_braces", "an expression begins with a dollar", source, Span::new(start, start + length))
        .label("YAML reads this as a map")
        .help(format!("write `${{{{ {inner} }}}}{tail}`"))
}

/// ` #` inside an unquoted expression: YAML ends the value there.
pub(super) fn comment_in_expression(source: &Arc<Source>, span: Span, text: &str) -> Option<Problem> {
    let open = text.matches("${{").count() > text.matches("}}").count();
    let rest = source.slice(Span::new(span.end, source.line(span.end).end));
    if !open || !rest.trim_start().starts_with('#') || !rest.contains("}}") {
        return None;
    }
    let whole = Span::new(span.start, source.line(span.end).end);
    let hash = span.end + rest.find('#')?;
    Some(
        Problem::new("spec.quotes", "a comment begins inside the expression", source, Span::new(hash, hash + 1))
            .label("YAML ends the value here")
            .help(format!("put the value in quotes: {}", quoted(source.slice(whole)))),
    )
}

/// The first byte of the nearest line above that holds something.
fn previous_text(source: &Source, line_start: usize) -> usize {
    source.text()[..line_start].trim_end().len().saturating_sub(1)
}

/// The first byte of the nearest line below that holds something.
fn next_text(source: &Source, line_end: usize) -> usize {
    let rest = &source.text()[line_end..];
    let blank = rest.len() - rest.trim_start().len();
    // Back to the start of that line: its indentation is what is looked at.
    line_end + rest[..blank].rfind('\n').map_or(blank, |newline| newline + 1)
}

fn tab(source: &Arc<Source>, line: Span) -> Option<Problem> {
    let text = source.slice(line);
    let indent = &text[..text.len() - text.trim_start().len()];
    let at = line.start + indent.find('\t')?;
    let tabs = indent.trim_start_matches(' ').len();
    Some(
        Problem::new("spec.syntax", "a line is indented with a tab", source, Span::new(at, at + tabs))
            .label("tab")
            .help("indent with spaces, two for each level"),
    )
}

fn unclosed_quote(source: &Arc<Source>, at: usize) -> Option<Problem> {
    let quote = source.text()[at..].chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let line = source.line(at);
    let rest = source.slice(Span::new(at + 1, line.end));
    if rest.contains(quote) {
        return None;
    }
    Some(
        Problem::new("spec.syntax", "a quote is not closed", source, Span::new(at, line.end))
            .label("opened here")
            .help(format!("end the text with `{quote}`")),
    )
}

/// A quote that a line above opens, and that took everything up to a quote on this line for its text.
fn quote_unclosed_above(source: &Arc<Source>, line: Span) -> Option<Problem> {
    let text = source.slice(line);
    let mut start = line.start;
    while start > 0 {
        let above = source.line(start - 1);
        start = above.start;
        let Some(value) = value_of(source, above) else { continue };
        let quote = source.text()[value.start..].chars().next().filter(|c| matches!(c, '"' | '\''));
        if let Some(quote) = quote.filter(|quote| text.contains(*quote)) {
            return unclosed_quote(source, value.start).filter(|_| !source.slice(value)[1..].contains(quote));
        }
    }
    None
}

/// A line that begins in a column where nothing above it begins.
fn bad_indent(source: &Arc<Source>, at: usize) -> Option<Problem> {
    let line = source.line(at);
    let text = source.slice(line);
    let column = text.len() - text.trim_start().len() + 1;
    let above = source.text()[..line.start].lines().rev().flat_map(columns);
    let nearest = above.min_by_key(|level| level.abs_diff(column))?;
    if at != line.start + column - 1 || nearest == column {
        return None;
    }
    Some(
        Problem::new(
            "spec.syntax",
            "the indentation of this line fits nothing above it",
            source,
            Span::new(at, line.end),
        )
        .label(format!("begins in column {column}"))
        .help(format!("begin it in column {nearest}, as the entries above do")),
    )
}

/// The columns, from 1, in which something begins on a line: innermost first.
fn columns(line: &str) -> Vec<usize> {
    let entry = line.trim_start_matches([' ', '-']);
    let item = line.trim_start_matches(' ');
    if item.is_empty() || item.starts_with('#') {
        return Vec::new();
    }
    vec![line.len() - entry.len() + 1, line.len() - item.len() + 1]
}

/// An unquoted `${{` where a brace begins a map: inside `{ }` and `[ ]`.
fn expression_in_brackets(source: &Arc<Source>, from: usize, to: usize) -> Option<Problem> {
    let text = source.slice(Span::new(from, to));
    let mut depth = 0_usize;
    let mut quote = None;
    let mut value = 0;
    let mut skip_to = 0;
    for (at, c) in text.char_indices() {
        if at < skip_to {
            continue;
        }
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '$') if text[at..].starts_with("${{") => {
                skip_to = text[at..].find("}}").map_or(text.len(), |end| at + end + 2);
                if depth > 0 {
                    let tail = text[skip_to..].find([',', '}', ']', '\n']).unwrap_or(text.len() - skip_to);
                    let whole = text[value..skip_to + tail].trim();
                    let start = from + value + (text[value..].len() - text[value..].trim_start().len());
                    let span = Span::new(start, start + whole.len());
                    let message = "an expression inside `{ }` or `[ ]` needs quotes";
                    return Some(
                        Problem::new("spec.quotes", message, source, span)
                            .label("YAML reads the brace as the start of a map")
                            .help(format!("put the whole value in quotes: {}", quoted(whole))),
                    );
                }
            }
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => (depth, value) = (depth + 1, at + 1),
            (None, '}' | ']') => depth = depth.saturating_sub(1),
            (None, ':' | ',') => value = at + 1,
            _ => {}
        }
    }
    None
}

/// A value that YAML cannot read without quotes.
fn needs_quotes(source: &Arc<Source>, line: Span) -> Option<Problem> {
    let span = value_of(source, line)?;
    let value = source.slice(span);
    if value.starts_with("{{") {
        return Some(bare_braces(source, span.start));
    }
    let first = value.chars().next()?;
    if let Some(name) = value.strip_prefix('*').filter(|name| is_key(name)) {
        return Some(
            Problem::new("spec.alias", format!("the alias `{value}` repeats nothing"), source, span)
                .label(format!("no `&{name}` stands above"))
                .help(format!(
                    "put `&{name}` before the value to repeat, or write {} if you mean the text",
                    quoted(value)
                )),
        );
    }
    let (message, label) = match first {
        '*' => ("a value that begins with `*` needs quotes", "YAML reads `*` as an alias"),
        '&' => ("a value that begins with `&` needs quotes", "YAML reads `&` as an anchor"),
        '@' | '`' | '%' => {
            ("a value that begins with this character needs quotes", "YAML keeps this character for itself")
        }
        '"' | '\'' => {
            let close = value[1..].find(first)? + 2;
            let after = value[close..].trim_start();
            if after.is_empty() || after.starts_with('#') {
                return None;
            }
            ("text follows the closing quote", "the text ends at its second quote")
        }
        '[' | '{' | '|' | '>' | '!' | '#' => return None,
        _ if value.contains(": ") || value.ends_with(':') => {
            ("a value with a colon in it needs quotes", "YAML reads the colon as the end of a key")
        }
        _ => return None,
    };
    let help = format!("put the value in quotes: {}", quoted(value));
    Some(Problem::new("spec.quotes", message, source, span).label(label).help(help))
}

/// `key:value`, which YAML reads as one text.
fn no_space_after_colon(source: &Arc<Source>, line: Span) -> Option<Problem> {
    let text = source.slice(line);
    let entry = text.trim_start_matches([' ', '-']);
    let name = entry.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-'))?;
    let after = entry[name..].strip_prefix(':')?;
    if name == 0 || after.is_empty() || after.starts_with([' ', '/', ':']) {
        return None;
    }
    let start = line.start + text.len() - entry.len();
    let (key, value) = (&entry[..name], after.trim_end());
    Some(
        Problem::new("spec.syntax", "a space is missing after the colon", source, Span::new(start, line.end))
            .label("YAML reads this as one text")
            .help(format!("write `{key}: {}`", words::short(value))),
    )
}

fn unclosed_bracket(source: &Arc<Source>, bracket: usize) -> Problem {
    let (open, close) = if source.text()[bracket..].starts_with('{') { ('{', '}') } else { ('[', ']') };
    Problem::new("spec.syntax", format!("a `{open}` is not closed"), source, Span::new(bracket, bracket + 1))
        .label("opened here")
        .help(format!("close it with `{close}`, and put commas between its entries"))
}

fn plainly(source: &Arc<Source>, at: usize, parser_says: &str) -> Problem {
    let end = source.text()[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    Problem::new("spec.syntax", format!("this is not YAML: {parser_says}"), source, Span::new(at, end))
        .label("reading stopped here")
        .help(
            "the keys of one map begin in the same column; a value goes behind its key or, two spaces deeper, below it",
        )
}

/// The value on a line of the form `key: value` or `- value`; `None` for every other line.
fn value_of(source: &Source, line: Span) -> Option<Span> {
    let text = source.slice(line);
    let entry = text.trim_start_matches(' ').trim_start_matches("- ");
    let colon = entry.find(": ").filter(|at| is_key(&entry[..*at]));
    let is_item = text.trim_start().starts_with("- ");
    let value = match colon {
        Some(at) => entry[at + 1..].trim_start(),
        None if is_item => entry,
        None => return None,
    };
    let start = line.start + text.len() - value.len();
    let value = value.trim_end();
    (!value.is_empty()).then(|| Span::new(start, start + value.len()))
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\''))
}

/// The text as a quoted YAML scalar, in backticks.
fn quoted(text: &str) -> String {
    let text = text.trim();
    if text.contains(['"', '\\']) { format!("`'{}'`", text.replace('\'', "''")) } else { format!("`\"{text}\"`") }
}
