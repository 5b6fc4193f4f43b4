//! Walks the nodes of an expression. Values are borrowed from the context until something new is made.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::ast::{Comparison, Node, Operator, Shape};
use super::context::Member;
use super::filters::Args;
use super::{Context, Error, Fault, Kind, did_you_mean, number};
use crate::limits;

/// A value: part of the context, or made by the expression.
pub(super) type Value<'a> = Cow<'a, Json>;

/// What one evaluation may still spend.
#[derive(Debug)]
pub(super) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<usize>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { steps: Cell::new(limits::EXPRESSION_FUEL), bytes: Cell::new(limits::EXPRESSION_MEMORY_BYTES_MAX) }
    }

    /// Pays for `count` nodes or items visited.
    pub(super) fn steps(&self, count: usize) -> Result<(), Fault> {
        let left = self.steps.get().checked_sub(count as u64);
        self.steps.set(left.unwrap_or(0));
        let message = || format!("this expression needs more than {} steps", limits::EXPRESSION_FUEL);
        left.map(|_| ()).ok_or_else(|| Fault::limit(message()).with_help("use a `transform` task for large data"))
    }

    /// Pays for `count` bytes that are about to be made or gone through.
    pub(super) fn bytes(&self, count: usize) -> Result<(), Fault> {
        let left = self.bytes.get().checked_sub(count);
        self.bytes.set(left.unwrap_or(0));
        let message = || format!("this expression makes more than {} bytes", limits::EXPRESSION_MEMORY_BYTES_MAX);
        left.map(|_| ()).ok_or_else(|| Fault::limit(message()).with_help("use a `transform` task for large data"))
    }

    /// Steps and bytes paid for so far.
    #[cfg(test)]
    pub(super) fn spent(&self) -> (u64, usize) {
        (limits::EXPRESSION_FUEL - self.steps.get(), limits::EXPRESSION_MEMORY_BYTES_MAX - self.bytes.get())
    }

    /// A copy of `value`, paid for.
    pub(super) fn own(&self, value: Value<'_>) -> Result<Json, Fault> {
        match value {
            Cow::Owned(value) => Ok(value),
            Cow::Borrowed(value) => {
                self.bytes(weight(value))?;
                Ok(value.clone())
            }
        }
    }
}

/// About the bytes of memory that a value takes.
pub(super) fn weight(value: &Json) -> usize {
    const SLOT: usize = size_of::<Json>();
    SLOT + match value {
        Json::Null | Json::Bool(_) => 0,
        Json::Number(number) => number.as_str().len(),
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(weight).sum(),
        Json::Object(members) => members.iter().map(|(key, value)| SLOT + key.len() + weight(value)).sum(),
    }
}

/// Evaluates `node`; a path that leads nowhere is an error that names it.
pub(super) fn evaluate<'a>(node: &'a Node, ctx: &'a Context, budget: &Budget) -> Result<Value<'a>, Error> {
    Walk { ctx, budget }.value(node)
}

struct Walk<'a, 'b> {
    ctx: &'a Context,
    budget: &'b Budget,
}

impl<'a> Walk<'a, '_> {
    fn value(&self, node: &'a Node) -> Result<Value<'a>, Error> {
        self.found(node)?.ok_or_else(|| self.undefined(node))
    }

    /// The value of `node`, or `None` when it is a path that leads nowhere.
    fn found(&self, node: &'a Node) -> Result<Option<Value<'a>>, Error> {
        let at = |fault: Fault| fault.at(&node.range);
        self.budget.steps(1).map_err(at)?;
        let value = match &node.shape {
            Shape::Constant(value) => Cow::Borrowed(value),
            Shape::Name(name) => return self.root(name).map_err(at),
            Shape::Item(base, key) => return self.item(base, key, node),
            Shape::Slice(base, bounds) => {
                let base = self.value(base)?;
                let mut given = [None; 3];
                for (place, bound) in given.iter_mut().zip(bounds) {
                    *place = bound.as_ref().map(|bound| self.index(bound)).transpose()?;
                }
                Cow::Owned(slice(&base, given, self.budget).map_err(at)?)
            }
            Shape::List(items) => {
                Cow::Owned(Json::Array(items.iter().map(|item| self.owned(item)).collect::<Result<_, _>>()?))
            }
            Shape::Map(pairs) => Cow::Owned(Json::Object(self.pairs(pairs)?)),
            Shape::Not(value) => truth(!is_true(&*self.value(value)?)),
            Shape::Negate(value) => {
                let operand = self.value(value)?;
                Cow::Owned(number::exact(&operand).and_then(number::Exact::negated).map_err(at)?.json())
            }
            Shape::Binary(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                Cow::Owned(binary(*operator, &left, &right, self.budget).map_err(at)?)
            }
            Shape::Compare(first, rest) => truth(self.compare(first, rest)?),
            Shape::And(left, right) => match self.value(left)? {
                left if is_true(&left) => self.value(right)?,
                left => left,
            },
            Shape::Or(left, right) => match self.value(left)? {
                left if is_true(&left) => left,
                _ => self.value(right)?,
            },
            Shape::If { test, yes, no } => match (is_true(&*self.value(test)?), no) {
                (true, _) => self.value(yes)?,
                (false, Some(no)) => self.value(no)?,
                (false, None) => return Ok(None),
            },
            Shape::Filter(filter, value, args) => {
                let value = self.value(value)?;
                let given = args.iter().map(|arg| arg.as_ref().map(|arg| self.value(arg)).transpose());
                let args = Args::new(filter, given.collect::<Result<_, _>>()?, self.budget);
                filter.apply(value, &args).map_err(at)?
            }
            Shape::Default(value, fallback, flag) => self.default(value, fallback.as_deref(), flag.as_deref())?,
            Shape::Check(check, value, arg) => {
                let value = self.value(value)?;
                let arg = arg.as_ref().map(|arg| self.value(arg)).transpose()?;
                truth((check.holds)(&value, arg.as_deref().unwrap_or(&Json::Null)).map_err(at)?)
            }
            Shape::Defined(value) => truth(self.found(value)?.is_some()),
            Shape::Range(bounds) => Cow::Owned(self.range(bounds, &node.range)?),
        };
        Ok(Some(value))
    }

    fn owned(&self, node: &'a Node) -> Result<Json, Error> {
        let value = self.value(node)?;
        self.budget.own(value).map_err(|fault| fault.at(&node.range))
    }

    fn root(&self, name: &str) -> Result<Option<Value<'a>>, Fault> {
        let value = self.ctx.root(name);
        if let Some(Cow::Owned(copied)) = &value {
            self.budget.bytes(weight(copied))?;
        }
        Ok(value)
    }

    fn item(&self, base: &'a Node, key: &'a Node, whole: &Node) -> Result<Option<Value<'a>>, Error> {
        let key = self.value(key)?;
        if let (Shape::Name(name), Json::String(member)) = (&base.shape, &*key) {
            match self.ctx.member(name, member) {
                Member::Found(value) => return Ok(Some(Cow::Borrowed(value))),
                Member::Missing => return Ok(None),
                Member::NotInGroup => {}
            }
        }
        let Some(base) = self.found(base)? else { return Ok(None) };
        if !matches!(&*key, Json::String(_) | Json::Number(_)) {
            let message = format!("{} cannot be a key", described(&key));
            return Err(Error::new(Kind::Value, whole.range.clone(), message));
        }
        match base {
            Cow::Borrowed(base) => Ok(member(base, &key).map(Cow::Borrowed)),
            Cow::Owned(base) => {
                let copied = member(&base, &key).map(|found| self.budget.own(Cow::Borrowed(found)));
                Ok(copied.transpose().map_err(|fault| fault.at(&whole.range))?.map(Cow::Owned))
            }
        }
    }

    fn index(&self, node: &'a Node) -> Result<i64, Error> {
        whole(&*self.value(node)?).map_err(|fault| fault.at(&node.range))
    }

    fn pairs(&self, pairs: &'a [(Node, Node)]) -> Result<Map<String, Json>, Error> {
        let mut members = Map::new();
        for (key, value) in pairs {
            let key = match &*self.value(key)? {
                Json::String(key) => key.clone(),
                other => {
                    let message = format!("a key must be text, not {}", described(other));
                    return Err(Error::new(Kind::Value, key.range.clone(), message));
                }
            };
            members.insert(key, self.owned(value)?);
        }
        Ok(members)
    }

    fn compare(&self, first: &'a Node, rest: &'a [(Comparison, Node)]) -> Result<bool, Error> {
        let mut left = self.value(first)?;
        let mut start = first.range.start;
        for (comparison, node) in rest {
            let right = self.value(node)?;
            let range = start..node.range.end;
            if !compare(*comparison, &left, &right, self.budget).map_err(|fault| fault.at(&range))? {
                return Ok(false);
            }
            (left, start) = (right, node.range.start);
        }
        Ok(true)
    }

    /// Jinja's `default`: for what is missing, and with `boolean=true` for what is false as well.
    fn default(&self, value: &'a Node, fallback: Option<&'a Node>, flag: Option<&'a Node>) -> Result<Value<'a>, Error> {
        let also_false = match flag {
            Some(flag) => is_true(&*self.value(flag)?),
            None => false,
        };
        match (self.found(value)?, fallback) {
            (Some(value), _) if !also_false || is_true(&value) => Ok(value),
            (_, Some(fallback)) => self.value(fallback),
            (_, None) => Ok(Cow::Owned(Json::String(String::new()))),
        }
    }

    fn range(&self, bounds: &'a [Node], place: &Range<usize>) -> Result<Json, Error> {
        let given = bounds.iter().map(|bound| self.index(bound)).collect::<Result<Vec<_>, _>>()?;
        let (start, end, step) = match given[..] {
            [end] => (0, end, 1),
            [start, end] => (start, end, 1),
            [start, end, step] => (start, end, step),
            _ => (0, 0, 1),
        };
        let fault = |fault: Fault| fault.at(place);
        if step == 0 {
            return Err(fault(Fault::value("the step of a range cannot be 0")));
        }
        let mut items = Vec::new();
        let mut at = start;
        while (step > 0 && at < end) || (step < 0 && at > end) {
            self.budget.steps(1).map_err(fault)?;
            self.budget.bytes(size_of::<Json>()).map_err(fault)?;
            items.push(Json::from(at));
            let Some(next) = at.checked_add(step) else { break };
            at = next;
        }
        Ok(Json::Array(items))
    }

    /// Names the first part of a path that is missing.
    fn undefined(&self, node: &'a Node) -> Error {
        let error = |message: String| Error::new(Kind::Undefined, node.range.clone(), message);
        match &node.shape {
            Shape::Name(name) => {
                let error = error(format!("`{name}` is not defined"));
                Error { help: did_you_mean(name, self.ctx.names()), ..error }
            }
            Shape::If { .. } => {
                error("this `if` is false and has no `else`".into()).with_help("add `else` and a value")
            }
            Shape::Item(base, key) => match (self.found(base), self.value(key)) {
                (Ok(None), _) => self.undefined(base),
                (Ok(Some(base)), Ok(key)) => missing(&error(String::new()), &base, &key),
                (Err(error), _) | (_, Err(error)) => error,
            },
            _ => error("this has no value".into()),
        }
    }
}

/// Says that `base` has no `key`, and what it has.
fn missing(place: &Error, base: &Json, key: &Json) -> Error {
    let with = |message: String| Error { message, ..place.clone() };
    match (base, key) {
        (Json::Object(members), Json::String(key)) => {
            let help = did_you_mean(key, members.keys().take(200).map(String::as_str));
            let help = help.unwrap_or_else(|| "write `| default(…)` when it may be missing".into());
            with(format!("`{key}` is not defined")).with_help(help)
        }
        (Json::Array(items), Json::Number(index)) => {
            with(format!("there is no item {index} in a list of {}", items.len()))
        }
        _ => with(format!("`{}` is not defined: it is looked up in {}", printed_short(key), described(base))),
    }
}

/// The member of an object or item of a list.
pub(super) fn member<'v>(base: &'v Json, key: &Json) -> Option<&'v Json> {
    match (base, key) {
        (Json::Object(members), Json::String(key)) => members.get(key),
        (Json::Object(members), Json::Number(key)) => members.get(key.as_str()),
        (Json::Array(items), Json::Number(_)) => {
            let index = whole(key).ok()?;
            let from_end = || items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
            let place = usize::try_from(index).ok().or_else(from_end)?;
            items.get(place)
        }
        _ => None,
    }
}

/// Whether a value counts as true: not `none`, `false`, zero, or empty.
pub(super) fn is_true(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(number) => {
            number.as_str().bytes().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| (b'1'..=b'9').contains(&b))
        }
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(members) => !members.is_empty(),
    }
}

fn truth(value: bool) -> Value<'static> {
    Cow::Owned(Json::Bool(value))
}

/// A whole number that fits 64 bits.
pub(super) fn whole(value: &Json) -> Result<i64, Fault> {
    match number::exact(value)? {
        number::Exact::Integer(integer) => {
            i64::try_from(integer).map_err(|_| Fault::value(format!("`{integer}` is too large here")))
        }
        number::Exact::Decimal(decimal) => Err(Fault::value(format!("expected a whole number, found `{decimal}`"))),
    }
}

/// What a value is, for messages.
pub(super) fn described(value: &Json) -> &'static str {
    match value {
        Json::Null => "none",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// The text of a value inside a longer string.
pub(super) fn printed(value: &Json) -> Cow<'_, str> {
    match value {
        Json::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn printed_short(value: &Json) -> String {
    printed(value).chars().take(40).collect()
}

/// About the bytes that [`printed`] makes, before they are made.
pub(super) fn printed_bytes(value: &Json) -> usize {
    if let Json::String(text) = value { text.len() } else { weight(value) }
}

fn binary(operator: Operator, left: &Json, right: &Json, budget: &Budget) -> Result<Json, Fault> {
    match (operator, left, right) {
        (Operator::Concat, ..) => {
            budget.bytes(printed_bytes(left) + printed_bytes(right))?;
            Ok(Json::String([printed(left), printed(right)].concat()))
        }
        (Operator::Add, Json::String(a), Json::String(b)) => {
            budget.bytes(a.len() + b.len())?;
            Ok(Json::String([a.as_str(), b.as_str()].concat()))
        }
        (Operator::Add, Json::Array(a), Json::Array(b)) => {
            budget.bytes(weight(left) + weight(right))?;
            Ok(Json::Array(a.iter().chain(b).cloned().collect()))
        }
        (Operator::Add, Json::String(_), _) | (Operator::Add, _, Json::String(_)) => {
            let message = format!("`+` cannot add {} and {}", described(left), described(right));
            Err(Fault::value(message)
                .with_help("write `~` to join as text, or `value | decimal` to add an amount in a string"))
        }
        (Operator::Multiply, Json::String(_) | Json::Array(_), _)
        | (Operator::Multiply, _, Json::String(_) | Json::Array(_)) => {
            let message = format!("`*` cannot multiply {} and {}", described(left), described(right));
            Err(Fault::value(message).with_help("write `value | decimal` to multiply an amount in a string"))
        }
        _ => number::binary(operator, number::exact(left)?, number::exact(right)?).map(number::Exact::json),
    }
}

/// Whether the comparison holds.
pub(super) fn compare(comparison: Comparison, left: &Json, right: &Json, budget: &Budget) -> Result<bool, Fault> {
    Ok(match comparison {
        Comparison::Equal => equal(left, right),
        Comparison::NotEqual => !equal(left, right),
        Comparison::Less => order(left, right)?.is_lt(),
        Comparison::LessOrEqual => order(left, right)?.is_le(),
        Comparison::Greater => order(left, right)?.is_gt(),
        Comparison::GreaterOrEqual => order(left, right)?.is_ge(),
        Comparison::In => contains(right, left, budget)?,
        Comparison::NotIn => !contains(right, left, budget)?,
    })
}

/// Whether two values are the same; numbers by value (`12.50 == 12.5`), objects in any order.
pub(super) fn equal(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(a), Json::Number(b)) => number::equal(a, b),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => left == right,
    }
}

/// Which of two values is greater: numbers by value, text by code points, false before true, lists
/// item by item. Values of different kinds have no order.
pub(super) fn order(left: &Json, right: &Json) -> Result<Ordering, Fault> {
    match (left, right) {
        (Json::Number(a), Json::Number(b)) => number::order(a, b),
        (Json::String(a), Json::String(b)) => Ok(a.cmp(b)),
        (Json::Bool(a), Json::Bool(b)) => Ok(a.cmp(b)),
        (Json::Array(a), Json::Array(b)) => {
            for (a, b) in a.iter().zip(b) {
                match order(a, b)? {
                    Ordering::Equal => {}
                    unequal => return Ok(unequal),
                }
            }
            Ok(a.len().cmp(&b.len()))
        }
        _ => {
            let fault = Fault::value(format!("{} and {} cannot be compared", described(left), described(right)));
            let amount =
                matches!((left, right), (Json::String(_), Json::Number(_)) | (Json::Number(_), Json::String(_)));
            Err(if amount {
                fault.with_help("write `value | decimal` to compare an amount in a string")
            } else {
                fault
            })
        }
    }
}

fn contains(container: &Json, item: &Json, budget: &Budget) -> Result<bool, Fault> {
    match (container, item) {
        (Json::Array(items), item) => {
            budget.steps(items.len())?;
            Ok(items.iter().any(|other| equal(other, item)))
        }
        (Json::Object(members), Json::String(key)) => Ok(members.contains_key(key)),
        (Json::String(text), Json::String(part)) => Ok(text.contains(part.as_str())),
        _ => Err(Fault::value(format!("`in` cannot look for {} in {}", described(item), described(container)))),
    }
}

/// Python's slice: `[start, stop, step]`, negative from the end, clipped to what is there.
fn slice(base: &Json, [from, to, step]: [Option<i64>; 3], budget: &Budget) -> Result<Json, Fault> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Fault::value("the step of a slice cannot be 0"));
    }
    let places = |length: usize| -> Vec<usize> {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let clip = |at: i64| (if at < 0 { at.saturating_add(length) } else { at }).clamp(low, high);
        let (first, last) = if step > 0 { (low, high) } else { (high, low) };
        let (mut at, end) = (from.map_or(first, clip), to.map_or(last, clip));
        let mut places = Vec::new();
        while (step > 0 && at < end) || (step < 0 && at > end) {
            places.extend(usize::try_from(at));
            at = at.saturating_add(step);
        }
        places
    };
    match base {
        Json::String(text) => {
            budget.bytes(text.len() * size_of::<char>())?;
            let chars: Vec<char> = text.chars().collect();
            Ok(Json::String(places(chars.len()).into_iter().map(|place| chars[place]).collect()))
        }
        Json::Array(items) => {
            budget.steps(items.len())?;
            places(items.len()).into_iter().map(|place| budget.own(Cow::Borrowed(&items[place]))).collect()
        }
        other => Err(Fault::value(format!("{} cannot be cut with `[from:to]`", described(other)))),
    }
}

/// About the bytes of a value's JSON text.
pub(super) fn text_bytes(value: &Json) -> usize {
    match value {
        Json::Null | Json::Bool(_) => 5,
        Json::Number(number) => number.as_str().len(),
        Json::String(text) => text.len() + 2,
        Json::Array(items) => 2 + items.iter().map(|item| 1 + text_bytes(item)).sum::<usize>(),
        Json::Object(members) => {
            2 + members.iter().map(|(key, value)| 4 + key.len() + text_bytes(value)).sum::<usize>()
        }
    }
}
