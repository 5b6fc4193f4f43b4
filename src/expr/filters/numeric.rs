//! Filters that compute.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::super::ast::Operator;
use super::super::eval::Value;
use super::super::number::{self, Exact, PLACES_MAX};
use super::{Args, Fault, attribute, made};

/// Reads an amount, from text such as `"510.00"` or a number; with `places`, to exactly so many
/// digits after the point, halves away from zero.
pub(super) fn decimal<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    let places = args.whole(0)?;
    if places.is_none() && value.is_number() {
        return Ok(value);
    }
    let read = read(&value, args)?;
    let Some(places) = places else { return Ok(made(read.json())) };
    let places = u32::try_from(places).ok().filter(|places| *places <= PLACES_MAX);
    let places = places.ok_or_else(|| Fault::value(format!("`places` must be 0 to {PLACES_MAX}")))?;
    Ok(made(read.rescaled(places)?.json()))
}

/// The whole part, towards zero.
pub(super) fn int<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    match &*value {
        Json::Number(number) if !number.as_str().contains(['.', 'e', 'E']) => Ok(value),
        Json::Bool(flag) => Ok(made(i64::from(*flag))),
        other => Ok(made(read(other, args)?.whole().json())),
    }
}

/// Rounds to `places` digits after the point (none by default), halves away from zero.
pub(super) fn round(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let places = args.whole(0)?.unwrap_or(0);
    let places = i32::try_from(places).map_err(|_| Fault::value("`places` is too large"))?;
    Ok(number::exact(value)?.rounded(places)?.json())
}

pub(super) fn abs(value: &Json, _: &Args<'_, '_>) -> Result<Json, Fault> {
    Ok(number::exact(value)?.absolute()?.json())
}

/// The exact sum of a list, or of one attribute of its items.
pub(super) fn sum(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let path = args.text(0)?;
    let start = args.get(1).map_or(Ok(Exact::Integer(0)), number::exact)?;
    let mut total = start;
    for item in args.items(Cow::Borrowed(value))? {
        let amount = match path {
            Some(path) => attribute(&item, path).ok_or_else(|| Fault::value(format!("an item has no `{path}`")))?,
            None => &*item,
        };
        total = number::binary(Operator::Add, total, number::exact(amount)?)?;
    }
    Ok(total.json())
}

fn read(value: &Json, args: &Args<'_, '_>) -> Result<Exact, Fault> {
    match value {
        Json::String(text) => Exact::parse(text.trim()).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Fault::value(format!("`{shown}` is not a number"))
                .with_help("a number looks like `-12.50`, without separators")
        }),
        Json::Number(_) => number::exact(value),
        other => Err(args.refuse("a number, or text that holds one", other)),
    }
}
