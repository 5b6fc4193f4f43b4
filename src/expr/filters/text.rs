//! Filters on text. They take numbers by their text and refuse everything else.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::super::eval::{self, Value};
use super::{Args, Fault, attribute, made};

pub(super) fn upper(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    Ok(Json::from(args.input(value)?.to_uppercase()))
}

pub(super) fn lower(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    Ok(Json::from(args.input(value)?.to_lowercase()))
}

/// The first character in upper case, the rest in lower case.
pub(super) fn capitalize(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    Ok(Json::from(capitalized(&args.input(value)?)))
}

/// Every word capitalized.
pub(super) fn title(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let text = args.input(value)?;
    let words = text.split_inclusive(|c: char| c.is_whitespace() || c == '-');
    Ok(Json::from(words.map(capitalized).collect::<String>()))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars.flat_map(char::to_lowercase)).collect()
}

/// Without white space at both ends, or without any of `chars`.
pub(super) fn trim(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let text = args.input(value)?;
    let trimmed = match args.text(0)? {
        Some(chars) => text.trim_matches(|c| chars.contains(c)),
        None => text.trim(),
    };
    Ok(Json::from(trimmed))
}

pub(super) fn replace(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let text = args.input(value)?;
    let (old, new) = (args.text(0)?.unwrap_or(""), args.text(1)?.unwrap_or(""));
    // Paid for before it is made: every place may grow.
    let places = if new.len() > old.len() { text.matches(old).count() } else { 0 };
    args.budget.bytes(text.len() + places.saturating_mul(new.len()))?;
    Ok(Json::from(text.replace(old, new)))
}

/// The parts between separators; without a separator, the words. `parts` is the most that are cut off.
pub(super) fn split(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let text = args.input(value)?;
    let most = args.whole(1)?.and_then(|parts| usize::try_from(parts).ok());
    let parts: Box<dyn Iterator<Item = &str>> = match (args.text(0)?, most) {
        (Some(""), _) => return Err(Fault::value("`separator` of `split` is empty")),
        (Some(separator), Some(most)) => Box::new(text.splitn(most.saturating_add(1), separator)),
        (Some(separator), None) => Box::new(text.split(separator)),
        (None, _) => Box::new(text.split_whitespace()),
    };
    pieces(parts, args)
}

pub(super) fn lines(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    pieces(args.input(value)?.lines(), args)
}

fn pieces<'t>(parts: impl Iterator<Item = &'t str>, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let piece = |part: &str| {
        args.budget.bytes(size_of::<Json>() + part.len())?;
        Ok(Json::from(part))
    };
    parts.map(piece).collect::<Result<_, _>>().map(Json::Array)
}

/// The text that the value is printed as.
pub(super) fn string<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    if value.is_string() {
        return Ok(value);
    }
    args.budget.bytes(eval::printed_bytes(&value))?;
    Ok(made(eval::printed(&value)))
}

/// The items, or one attribute of them, as text with `separator` between them.
pub(super) fn join(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let (separator, path) = (args.text(0)?.unwrap_or(""), args.text(1)?);
    let mut text = String::new();
    for (place, item) in args.items(Cow::Borrowed(value))?.iter().enumerate() {
        let part = match path {
            Some(path) => attribute(item, path).ok_or_else(|| Fault::value(format!("an item has no `{path}`")))?,
            None => item,
        };
        args.budget.bytes(separator.len() + eval::printed_bytes(part))?;
        if place > 0 {
            text.push_str(separator);
        }
        text.push_str(&eval::printed(part));
    }
    Ok(Json::from(text))
}
