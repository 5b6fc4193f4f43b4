//! Why a text is no YAML, said in the words of the language that people think they are writing.
//!
//! The parser says what it was doing when it gave up. What a person needs is the character to change, so this looks
//! at the text around the place for the mistakes that people make. The parser's own words are the last resort.

use crate::spec::diagnostic::Problem;
use crate::spec::source_map::{Source, Span};
use crate::spec::words;

use std::sync::Arc;

/// Makes a problem of a syntax error at byte `at`; `open_flow` is the innermost bracket still open there.
pub(super) fn explain(source: &Arc<Source>, at: usize, open_flow: Option<usize>, parser_says: &str) -> Problem {
    let here = source.line(at);
    let before = source.line(previous_text(source, here.start));
    tab(source, here)
        .or_else(|| unclosed_quote(source, at))
        .or_else(|| expression_in_brackets(source, open_flow.unwrap_or(here.start), here.end))
        .or_else(|| needs_quotes(source, here))
        .or_else(|| needs_quotes(source, before))
        .or_else(|| no_space_after_colon(source, here))
        .or_else(|| no_space_after_colon(source, before))
        .or_else(|| open_flow.map(|bracket| unclosed_bracket(source, bracket)))
        .unwrap_or_else(|| plainly(source, at, parser_says))
}

/// `{{ … }}` where `${{ … }}` is meant; `start` is the first brace.
pub(super) fn bare_braces(source: &Arc<Source>, start: usize) -> Problem {
    let line = source.line(start);
    let rest = source.slice(Span::new(start, line.end));
    let length = rest.find("}}").map_or(rest.len(), |end| end + 2);
    let inner = rest[..length].trim_start_matches('{').trim_end_matches('}').trim();
    Problem::new("spec.bare_braces", "an expression begins with a dollar", source, Span::new(start, start + length))
        .label("YAML reads this as a map")
        .help(format!("write `${{{{ {inner} }}}}`"))
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

/// An unquoted `${{` where a brace begins a map: inside `{ }` and `[ ]`.
fn expression_in_brackets(source: &Arc<Source>, from: usize, to: usize) -> Option<Problem> {
    let text = source.slice(Span::new(from, to));
    let mut depth = 0_usize;
    let mut quote = None;
    let mut skip_to = 0;
    for (at, c) in text.char_indices().filter(|(at, _)| *at >= from.saturating_sub(from)) {
        if at < skip_to {
            continue;
        }
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '$') if text[at..].starts_with("${{") => {
                let end = text[at..].find("}}").map_or(text.len(), |end| at + end + 2);
                if depth > 0 {
                    let span = Span::new(from + at, from + end);
                    return Some(
                        Problem::new("spec.quotes", "an expression inside `{ }` or `[ ]` needs quotes", source, span)
                            .label("YAML reads the brace as the start of a map")
                            .help(format!("put the whole value in quotes: {}", quoted(&text[at..end]))),
                    );
                }
                skip_to = end;
            }
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth = depth.saturating_sub(1),
            (None, _) => {}
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
    let (message, label) = match first {
        '*' => ("a value that begins with `*` needs quotes", "YAML reads `*` as an alias"),
        '&' => ("a value that begins with `&` needs quotes", "YAML reads `&` as an anchor"),
        '@' | '`' | '%' => ("a value that begins with this character needs quotes", "YAML keeps this character for itself"),
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
        .help("the keys of one map begin in the same column; a value goes behind its key or, two spaces deeper, below it")
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
    if !text.contains(['"', '\\']) {
        format!("`\"{text}\"`")
    } else {
        format!("`'{}'`", text.replace('\'', "''"))
    }
}
