//! Filters on lists. An object counts as the list of its keys.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Value as Json};

use super::super::eval::{Value, equal, is_true, order};
use super::{Args, Fault, apply_named, attribute, check_named, made};

/// Items of a list, members of an object, or characters of text.
pub(super) fn length(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    Ok(Json::from(match value {
        Json::String(text) => text.chars().count(),
        Json::Array(items) => items.len(),
        Json::Object(members) => members.len(),
        other => return Err(args.refuse("a list, an object or text", other)),
    }))
}

pub(super) fn first<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    end(value, args, |text| text.chars().next(), |items| if items.is_empty() { None } else { Some(0) })
}

pub(super) fn last<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    end(value, args, |text| text.chars().next_back(), |items| items.len().checked_sub(1))
}

fn end<'a>(
    value: Value<'a>,
    args: &Args<'_, 'a>,
    char_of: fn(&str) -> Option<char>,
    place_of: fn(&[Json]) -> Option<usize>,
) -> Result<Value<'a>, Fault> {
    let empty = || {
        Fault::value(format!("`{}` of an empty list", args.filter.name))
            .with_help("test it first: `x | first if x else …`")
    };
    match value {
        Cow::Borrowed(Json::Array(items)) => {
            place_of(items).map(|place| Cow::Borrowed(&items[place])).ok_or_else(empty)
        }
        Cow::Owned(Json::Array(mut items)) => {
            place_of(&items).map(|place| Cow::Owned(items.swap_remove(place))).ok_or_else(empty)
        }
        value => match &*value {
            Json::String(text) => char_of(text).map(|c| made(c.to_string())).ok_or_else(empty),
            other => Err(args.refuse("a list or text", other)),
        },
    }
}

/// The items of a list, the keys of an object, or the characters of text, as a list.
pub(super) fn list<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    match &*value {
        Json::Array(_) => Ok(value),
        Json::String(text) => {
            args.budget.steps(text.len())?;
            args.collect(text.chars().map(|c| made(c.to_string()))).map(Cow::Owned)
        }
        _ => args.collect(args.items(value)?).map(Cow::Owned),
    }
}

/// The `[key, value]` pairs of an object.
pub(super) fn items(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let Json::Object(members) = value else { return Err(args.refuse("an object", value)) };
    let pairs = members.iter().collect();
    pairs_list(pairs, args)
}

/// The `[key, value]` pairs of an object, sorted `by` `"key"` or `"value"`.
pub(super) fn dictsort(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let Json::Object(members) = value else { return Err(args.refuse("an object", value)) };
    let mut pairs: Vec<_> = members.iter().collect();
    match args.text(0)?.unwrap_or("key") {
        "key" => pairs.sort_by_key(|(key, _)| *key),
        "value" => try_sort(&mut pairs, |(_, a), (_, b)| order(a, b))?,
        _ => return Err(Fault::value("`by` of `dictsort` must be `\"key\"` or `\"value\"`")),
    }
    if args.flag(1) {
        pairs.reverse();
    }
    pairs_list(pairs, args)
}

fn pairs_list(pairs: Vec<(&String, &Json)>, args: &Args<'_, '_>) -> Result<Json, Fault> {
    args.budget.steps(pairs.len())?;
    let pair = |(key, value): (&String, &Json)| {
        args.budget.bytes(key.len() + 2 * size_of::<Json>())?;
        Ok(Json::Array(vec![Json::from(key.as_str()), args.budget.own(Cow::Borrowed(value))?]))
    };
    pairs.into_iter().map(pair).collect::<Result<_, _>>().map(Json::Array)
}

pub(super) fn reverse<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    if value.is_string() {
        return Ok(made(args.input(&value)?.chars().rev().collect::<String>()));
    }
    args.collect(args.items(value)?.into_iter().rev()).map(Cow::Owned)
}

/// Sorted, smallest first, by `attribute` when given. Equal items keep their order.
pub(super) fn sort<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (mut items, path) = (args.items(value)?, args.text(1)?);
    let flip = |ordering: Ordering| if args.flag(0) { ordering.reverse() } else { ordering };
    try_sort(&mut items, |a, b| Ok(flip(order(keyed(a, path)?, keyed(b, path)?)?)))?;
    args.collect(items).map(Cow::Owned)
}

/// Sorts by an order that can fail, answering the first failure.
fn try_sort<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Result<Ordering, Fault>) -> Result<(), Fault> {
    let mut failure = None;
    items.sort_by(|a, b| {
        if failure.is_some() {
            return Ordering::Equal;
        }
        compare(a, b).unwrap_or_else(|fault| {
            failure = Some(fault);
            Ordering::Equal
        })
    });
    failure.map_or(Ok(()), Err)
}

fn keyed<'v>(item: &'v Json, path: Option<&str>) -> Result<&'v Json, Fault> {
    match path {
        Some(path) => attribute(item, path).ok_or_else(|| Fault::value(format!("an item has no `{path}`"))),
        None => Ok(item),
    }
}

/// Without items that came before, compared by `attribute` when given.
pub(super) fn unique(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let path = args.text(0)?;
    let items = args.items(Cow::Borrowed(value))?;
    let mut kept: Vec<&Value<'_>> = Vec::new();
    for item in &items {
        let key = keyed(item, path)?;
        args.budget.steps(kept.len() / 16)?;
        if !kept.iter().any(|other| keyed(other, path).is_ok_and(|other| equal(key, other))) {
            kept.push(item);
        }
    }
    args.collect(kept.into_iter().map(|item| Cow::Borrowed(&**item)))
}

pub(super) fn min<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    extreme(value, args, Ordering::Less)
}

pub(super) fn max<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    extreme(value, args, Ordering::Greater)
}

fn extreme<'a>(value: Value<'a>, args: &Args<'_, 'a>, wanted: Ordering) -> Result<Value<'a>, Fault> {
    let path = args.text(0)?;
    let mut items = args.items(value)?.into_iter();
    let mut best = items.next().ok_or_else(|| Fault::value(format!("`{}` of an empty list", args.filter.name)))?;
    for item in items {
        if order(keyed(&item, path)?, keyed(&best, path)?)? == wanted {
            best = item;
        }
    }
    Ok(best)
}

/// `map("upper")` applies a filter to each item; `map(attribute="sku")` takes one member of each.
pub(super) fn map<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    let items = args.items(value)?;
    if let Some(path) = args.text(3)? {
        let taken = items.iter().map(|item| {
            let found = attribute(item, path).or(args.get(4));
            found.map(Cow::Borrowed).ok_or_else(|| {
                Fault::value(format!("an item has no `{path}`")).with_help("add `default=…` when it may be missing")
            })
        });
        return args.collect(taken.collect::<Result<Vec<_>, _>>()?).map(Cow::Owned);
    }
    let Some(name) = args.text(0)? else {
        return Err(Fault::value("`map` needs a filter's name or `attribute=…`"));
    };
    let given = |place: usize| args.given.get(place).cloned().flatten();
    let mapped = items.into_iter().map(|item| {
        let mut given = vec![given(1), given(2)];
        while matches!(given.last(), Some(None)) {
            given.pop();
        }
        apply_named(name, item, given, args.budget)
    });
    args.collect(mapped.collect::<Result<Vec<_>, _>>()?).map(Cow::Owned)
}

pub(super) fn select<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    filtered(value, args, None, 0, true)
}

pub(super) fn reject<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    filtered(value, args, None, 0, false)
}

pub(super) fn selectattr<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    filtered(value, args, args.text(0)?, 1, true)
}

pub(super) fn rejectattr<'a>(value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
    filtered(value, args, args.text(0)?, 1, false)
}

/// Keeps the items for which the test in place `test` (being true, by default) answers `wanted`. An
/// item without the attribute counts as `none`, and is `defined` only with it.
fn filtered<'a>(
    value: Value<'a>,
    args: &Args<'_, 'a>,
    path: Option<&str>,
    test: usize,
    wanted: bool,
) -> Result<Value<'a>, Fault> {
    let items = args.items(value)?;
    let name = args.text(test)?;
    let check = name.filter(|name| !["defined", "undefined"].contains(name)).map(check_named).transpose()?;
    let other = args.get(test + 1).unwrap_or(&Json::Null);
    let mut kept = Vec::new();
    for item in items {
        let found = path.map_or(Some(&*item), |path| attribute(&item, path));
        let subject = found.unwrap_or(&Json::Null);
        let holds = match (check, name) {
            (Some(check), _) => (check.holds)(subject, other)?,
            (None, Some(name)) => found.is_some() == (name == "defined"),
            (None, None) => is_true(subject),
        };
        if holds == wanted {
            kept.push(item);
        }
    }
    args.collect(kept).map(Cow::Owned)
}

/// `[{"grouper": …, "list": […]}, …]`, groups in the order of their value.
pub(super) fn groupby(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let path = args.text(0)?;
    let mut items = args.items(Cow::Borrowed(value))?;
    try_sort(&mut items, |a, b| order(keyed(a, path)?, keyed(b, path)?))?;
    let mut groups = Vec::new();
    for group in items.chunk_by(|a, b| keyed(a, path).ok().zip(keyed(b, path).ok()).is_some_and(|(a, b)| equal(a, b))) {
        let members = group.iter().map(|item| args.budget.own(Cow::Borrowed(&**item)));
        let mut object = Map::new();
        object.insert("grouper".into(), args.budget.own(Cow::Borrowed(keyed(&group[0], path)?))?);
        object.insert("list".into(), Json::Array(members.collect::<Result<_, _>>()?));
        groups.push(Json::Object(object));
    }
    Ok(Json::Array(groups))
}

/// Lists of `size` items, the last one shorter.
pub(super) fn batch(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let size = args.whole(0)?.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let size = size.ok_or_else(|| Fault::value("`size` of `batch` must be at least 1"))?;
    let items = args.items(Cow::Borrowed(value))?;
    let batches = items.chunks(size).map(|chunk| args.collect(chunk.iter().map(|item| Cow::Borrowed(&**item))));
    batches.collect::<Result<_, _>>().map(Json::Array)
}

/// `[item, other]` pairs of two lists, as many as the shorter has.
pub(super) fn zip(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let Some(Json::Array(others)) = args.get(0) else { return Err(Fault::value("`other` of `zip` must be a list")) };
    let pairs = args.items(Cow::Borrowed(value))?.into_iter().zip(others);
    let pairs = pairs.map(|(item, other)| args.collect([item, Cow::Borrowed(other)]));
    pairs.collect::<Result<_, _>>().map(Json::Array)
}
