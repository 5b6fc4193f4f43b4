//! Cuts expression source into tokens. It knows nothing of precedence or names.

use std::ops::Range;

use super::{Error, Kind};

/// One token; names, numbers and symbols are read back from the source by range.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name or a word such as `and`.
    Word,
    /// Digits, with an optional fraction and exponent.
    Number,
    /// A quoted string, unescaped.
    Text(String),
    /// An operator or bracket, two characters at most.
    Symbol(&'static str),
    /// The end of the expression: `}}`, or the end of the source.
    End,
}

const SYMBOLS: &[&str] = &[
    "==", "!=", "<=", ">=", "//", "**", "&&", "||", "+", "-", "*", "/", "%", "~", "|", "<", ">", "(", ")", "[", "]",
    "{", "}", ",", ":", ".", "=", "!", "?",
];

/// Cuts `text` from `at` on, until the end of the text or, when `fenced`, until `}}` outside of
/// every brace. Answers the tokens with their ranges, the last one being [`Token::End`].
pub(super) fn tokens(text: &str, mut at: usize, fenced: bool) -> Result<Vec<(Token, Range<usize>)>, Error> {
    let start = at;
    let mut found = Vec::new();
    let mut braces = 0usize;
    loop {
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else { break };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if fenced && braces == 0 && rest.starts_with("}}") {
            found.push((Token::End, at..at + 2));
            return Ok(found);
        }
        let (token, length) = match first {
            '"' | '\'' => quoted(text, at)?,
            '0'..='9' => (Token::Number, number_length(rest)),
            c if c.is_alphabetic() || c == '_' => (Token::Word, word_length(rest)),
            _ => (Token::Symbol(symbol(text, at)?), 0),
        };
        let length = if let Token::Symbol(symbol) = token { symbol.len() } else { length };
        match token {
            Token::Symbol("{") => braces += 1,
            Token::Symbol("}") => braces = braces.saturating_sub(1),
            _ => {}
        }
        found.push((token, at..at + length));
        at += length;
    }
    if fenced {
        let open = start.saturating_sub(3)..text.len();
        return Err(Error::new(Kind::Syntax, open, "this expression is never closed").with_help("close it with `}}`"));
    }
    found.push((Token::End, text.len()..text.len()));
    Ok(found)
}

fn symbol(text: &str, at: usize) -> Result<&'static str, Error> {
    let rest = &text[at..];
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
        return Ok(symbol);
    }
    let length = rest.chars().next().map_or(0, char::len_utf8);
    Err(Error::new(Kind::Syntax, at..at + length, format!("`{}` means nothing in an expression", &rest[..length])))
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

fn digits(rest: &str) -> usize {
    rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
}

fn number_length(rest: &str) -> usize {
    let mut length = digits(rest);
    if let Some(fraction) = rest[length..].strip_prefix('.') {
        length += if digits(fraction) > 0 { 1 + digits(fraction) } else { 0 };
    }
    if let Some(exponent) = rest[length..].strip_prefix(['e', 'E']) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let power = digits(&exponent[sign..]);
        length += if power > 0 { 1 + sign + power } else { 0 };
    }
    length
}

/// Reads the string that opens at `at`, with the escapes of JSON plus `\'`.
fn quoted(text: &str, at: usize) -> Result<(Token, usize), Error> {
    let quote = text[at..].chars().next().unwrap_or('"');
    let mut content = String::new();
    let mut chars = text[at + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        let place = at + 1 + offset;
        match c {
            c if c == quote => return Ok((Token::Text(content), place + 1 - at)),
            '\\' => {
                let wrong = || Error::new(Kind::Syntax, place..place + 1, "this escape is not known");
                let help =
                    || wrong().with_help("use `\\n`, `\\t`, `\\r`, `\\\\`, `\\\"`, `\\'` or `\\u` and four hex digits");
                match chars.next().map(|(_, escape)| escape) {
                    Some('n') => content.push('\n'),
                    Some('t') => content.push('\t'),
                    Some('r') => content.push('\r'),
                    Some('b') => content.push('\u{8}'),
                    Some('f') => content.push('\u{c}'),
                    Some(c @ ('\\' | '"' | '\'' | '/')) => content.push(c),
                    Some('u') => content.push(unicode(&mut chars).ok_or_else(help)?),
                    _ => return Err(help()),
                }
            }
            c => content.push(c),
        }
    }
    Err(Error::new(Kind::Syntax, at..text.len(), "this string is never closed")
        .with_help(format!("close it with `{quote}`")))
}

/// The character behind `\uXXXX`, where two surrogates make one character.
fn unicode(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    let mut unit = |prefix: &str| {
        let mut value = 0;
        for expected in prefix.chars() {
            chars.next().filter(|(_, c)| *c == expected)?;
        }
        for _ in 0..4 {
            value = value * 16 + chars.next()?.1.to_digit(16)?;
        }
        Some(value)
    };
    let high = unit("")?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high);
    }
    let low = unit("\\u")?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + low)
}
