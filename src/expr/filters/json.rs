//! Filters that write, read and search JSON.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value as Json;

use super::super::eval;
use super::super::path::{self, Step};
use super::{Args, Fault};

/// Bytes of memory that a byte of JSON text can take once it is read: `[[],[],…`.
const READ_FACTOR: usize = 16;

/// Whether the value counts as true; the words `false`, `no`, `off` and `0` in text do not.
#[expect(clippy::unnecessary_wraps, reason = "every filter has this shape")]
pub(super) fn bool(value: &Json, _: &Args<'_, '_>) -> Result<Json, Fault> {
    let refused = |text: &str| ["false", "no", "off", "0"].contains(&text.trim().to_lowercase().as_str());
    Ok(Json::from(eval::is_true(value) && !value.as_str().is_some_and(refused)))
}

/// Compact JSON; with `indent`, over several lines.
pub(super) fn tojson(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let indent = match args.get(0) {
        Some(Json::Bool(indented)) => i64::from(*indented) * 2,
        _ => args.whole(0)?.unwrap_or(0),
    };
    let indent = usize::try_from(indent).ok().filter(|indent| *indent <= 8);
    let indent = indent.ok_or_else(|| Fault::value("`indent` must be 0 to 8"))?;
    args.budget.bytes(eval::weight(value) * (1 + indent))?;
    if indent == 0 {
        return Ok(Json::from(value.to_string()));
    }
    let spaces = " ".repeat(indent);
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter));
    written.map_err(|cause| Fault::value(format!("this cannot be written as JSON: {cause}")))?;
    Ok(Json::from(String::from_utf8_lossy(&text)))
}

/// The value that JSON text holds; numbers keep their text.
pub(super) fn fromjson(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let text = value.as_str().ok_or_else(|| args.refuse("text", value))?;
    args.budget.bytes(text.len().saturating_mul(READ_FACTOR))?;
    serde_json::from_str(text).map_err(|cause| Fault::value(format!("this is not JSON: {cause}")))
}

/// The list of values that a path matches. The subset of RFC 9535: `$`, `.key`, `['key']`, `[0]`, `[-1]`,
/// `.*`, `[*]` and `..key`; no filters, slices or unions (use a `transform` task for those).
pub(super) fn jsonpath(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let text = args.text(0)?.unwrap_or("$");
    let steps = path::read(text)
        .ok_or_else(|| Fault::value(format!("`{text}` is not a path that `jsonpath` knows")).with_help(path::FORMS))?;
    let mut found = vec![value];
    for step in &steps {
        let mut next = Vec::new();
        for value in found {
            args.budget.steps(1)?;
            match (step, value) {
                (Step::Key(key), Json::Object(members)) => next.extend(members.get(key)),
                (Step::Index(index), Json::Array(_)) => next.extend(eval::member(value, &Json::from(*index))),
                (Step::All, Json::Array(items)) => next.extend(items),
                (Step::All, Json::Object(members)) => next.extend(members.values()),
                (Step::Anywhere(key), value) => anywhere(value, key, args, &mut next)?,
                _ => {}
            }
        }
        found = next;
    }
    args.collect(found.into_iter().map(Cow::Borrowed))
}

fn anywhere<'v>(value: &'v Json, key: &str, args: &Args<'_, '_>, found: &mut Vec<&'v Json>) -> Result<(), Fault> {
    args.budget.steps(1)?;
    match value {
        Json::Array(items) => items.iter().try_for_each(|item| anywhere(item, key, args, found)),
        Json::Object(members) => {
            found.extend(members.get(key));
            members.values().try_for_each(|member| anywhere(member, key, args, found))
        }
        _ => Ok(()),
    }
}
