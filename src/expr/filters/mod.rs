//! The filters that stand after `|`: one table, one file per family. `default` is part of the grammar.

mod bytes;
mod json;
mod list;
mod numeric;
mod text;
mod time;

use std::borrow::Cow;

use serde_json::Value as Json;

use super::eval::{self, Budget, Value};
use super::{Fault, checks};

/// One filter.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: &'static str,
    /// Names of the arguments, in order; each can be given by place or by name.
    pub(super) params: &'static [&'static str],
    /// How many of them must be given.
    pub(super) required: usize,
    /// What it gives, for the reference.
    pub(super) says: &'static str,
    apply: Apply,
}

/// What a filter does with the value before `|`.
#[derive(Debug)]
pub(super) enum Apply {
    /// Makes something new.
    Make(fn(&Json, &Args<'_, '_>) -> Result<Json, Fault>),
    /// Can pass on the value or parts of it, uncopied.
    Pick(for<'a> fn(Value<'a>, &Args<'_, 'a>) -> Result<Value<'a>, Fault>),
}

use Apply::{Make, Pick};

impl Filter {
    pub(super) fn apply<'a>(&self, value: Value<'a>, args: &Args<'_, 'a>) -> Result<Value<'a>, Fault> {
        match self.apply {
            Make(apply) => apply(&value, args).map(Cow::Owned),
            Pick(apply) => apply(value, args),
        }
    }
}

/// Every filter, in the order of the guide.
pub(super) const FILTERS: &[Filter] = &[
    row(
        "decimal",
        &["places"],
        0,
        "The number that a text holds, exactly; with `places` rounded to that many digits",
        Pick(numeric::decimal),
    ),
    row("int", &[], 0, "The whole number that a text holds, or a number without its fraction", Pick(numeric::int)),
    row("round", &["places"], 0, "A number rounded half away from zero", Make(numeric::round)),
    row("abs", &[], 0, "A number without its sign", Make(numeric::abs)),
    row("sum", &["attribute", "start"], 0, "The sum of a list, or of one member of its maps", Make(numeric::sum)),
    row("upper", &[], 0, "Text in capitals", Make(text::upper)),
    row("lower", &[], 0, "Text in small letters", Make(text::lower)),
    row("capitalize", &[], 0, "Text whose first letter is a capital", Make(text::capitalize)),
    row("title", &[], 0, "Text whose words begin with capitals", Make(text::title)),
    row("trim", &["chars"], 0, "Text without space, or `chars`, at its ends", Make(text::trim)),
    row("replace", &["old", "new"], 2, "Text with every `old` replaced", Make(text::replace)),
    row(
        "split",
        &["separator", "parts"],
        0,
        "The parts of a text between separators, or between white space",
        Make(text::split),
    ),
    row("lines", &[], 0, "The lines of a text", Make(text::lines)),
    row("string", &[], 0, "A value as text", Pick(text::string)),
    row("join", &["separator", "attribute"], 0, "A list as one text", Make(text::join)),
    row("length", &[], 0, "How many items, members or characters", Make(list::length)),
    row("count", &[], 0, "The same as `length`", Make(list::length)),
    row("first", &[], 0, "The first item", Pick(list::first)),
    row("last", &[], 0, "The last item", Pick(list::last)),
    row("list", &[], 0, "A list of the items, the keys or the characters", Pick(list::list)),
    row("items", &[], 0, "A list of `[key, value]` of a map", Make(list::items)),
    row("dictsort", &["by", "reverse"], 0, "The same, sorted by `key` or `value`", Make(list::dictsort)),
    row("reverse", &[], 0, "A list or a text from its end", Pick(list::reverse)),
    row("sort", &["reverse", "attribute"], 0, "A sorted list", Pick(list::sort)),
    row("unique", &["attribute"], 0, "A list without repeats", Make(list::unique)),
    row("min", &["attribute"], 0, "The smallest item", Pick(list::min)),
    row("max", &["attribute"], 0, "The greatest item", Pick(list::max)),
    row(
        "map",
        &["filter", "argument", "second", "attribute", "default"],
        0,
        "What a filter, or one member, gives for each item",
        Pick(list::map),
    ),
    row(
        "select",
        &["test", "value"],
        0,
        "The items that pass a test; those that are true without one",
        Pick(list::select),
    ),
    row("reject", &["test", "value"], 0, "The items that do not", Pick(list::reject)),
    row(
        "selectattr",
        &["attribute", "test", "value"],
        1,
        "The maps whose member passes a test",
        Pick(list::selectattr),
    ),
    row("rejectattr", &["attribute", "test", "value"], 1, "The maps whose member does not", Pick(list::rejectattr)),
    row(
        "groupby",
        &["attribute"],
        1,
        "A list of `{ grouper, list }`, one for each value of the member",
        Make(list::groupby),
    ),
    row("batch", &["size"], 1, "A list of lists of at most `size` items", Make(list::batch)),
    row("zip", &["other"], 1, "A list of pairs of two lists", Make(list::zip)),
    row("bool", &[], 0, "True or false, from text or number", Make(json::bool)),
    row("tojson", &["indent"], 0, "A value as JSON", Make(json::tojson)),
    row("fromjson", &[], 0, "The value of a JSON text", Make(json::fromjson)),
    row("jsonpath", &["path"], 1, "What a JSONPath without filters, slices and unions finds", Make(json::jsonpath)),
    row("base64", &[], 0, "Text as Base64", Make(bytes::base64)),
    row("base64_decode", &[], 0, "The text in Base64", Make(bytes::base64_decode)),
    row("urlencode", &[], 0, "Text fit for a URL, or a map as a query", Make(bytes::urlencode)),
    row("sha256", &[], 0, "The SHA-256 of a text, in hexadecimal digits", Make(bytes::sha256)),
    row(
        "parse_date",
        &["format", "zone"],
        0,
        "The moment that a text names; RFC 3339 without `format`",
        Make(time::parse_date),
    ),
    row("format_date", &["format", "zone"], 1, "A moment written by a strftime format", Make(time::format_date)),
    row("plus", time::SPAN_PARAMS, 0, "A moment later by spans of the calendar", Make(time::plus)),
    row("minus", time::SPAN_PARAMS, 0, "A moment earlier by spans of the calendar", Make(time::minus)),
    row("start_of_day", &["zone"], 0, "Midnight before a moment, in a zone", Make(time::start_of_day)),
    row("end_of_day", &["zone"], 0, "The last millisecond of a moment's day, in a zone", Make(time::end_of_day)),
];

const fn row(
    name: &'static str,
    params: &'static [&'static str],
    required: usize,
    says: &'static str,
    apply: Apply,
) -> Filter {
    Filter { name, params, required, says, apply }
}

/// The filter of that name.
pub(super) fn find(name: &str) -> Option<&'static Filter> {
    FILTERS.iter().find(|filter| filter.name == name)
}

/// The arguments of one use of a filter, in the places that its row names.
pub(super) struct Args<'f, 'a> {
    filter: &'f Filter,
    given: Vec<Option<Value<'a>>>,
    budget: &'f Budget,
}

impl<'f, 'a> Args<'f, 'a> {
    pub(super) fn new(filter: &'f Filter, given: Vec<Option<Value<'a>>>, budget: &'f Budget) -> Self {
        Self { filter, given, budget }
    }

    /// The argument in that place, unless it is left out or `none`.
    fn get(&self, place: usize) -> Option<&Json> {
        self.given.get(place)?.as_deref().filter(|value| !value.is_null())
    }

    fn text(&self, place: usize) -> Result<Option<&str>, Fault> {
        self.get(place).map(|value| value.as_str().ok_or_else(|| self.wrong(place, "text", value))).transpose()
    }

    fn whole(&self, place: usize) -> Result<Option<i64>, Fault> {
        let read = |value| eval::whole(value).map_err(|_| self.wrong(place, "a whole number", value));
        self.get(place).map(read).transpose()
    }

    fn flag(&self, place: usize) -> bool {
        self.get(place).is_some_and(eval::is_true)
    }

    fn wrong(&self, place: usize, wanted: &str, found: &Json) -> Fault {
        let (filter, param) = (self.filter.name, self.filter.params.get(place).unwrap_or(&""));
        Fault::value(format!("`{param}` of `{filter}` must be {wanted}, not {}", eval::described(found)))
    }

    /// What the filter says about a value that it does not take.
    fn refuse(&self, wanted: &str, found: &Json) -> Fault {
        Fault::value(format!("`{}` takes {wanted}, not {}", self.filter.name, eval::described(found)))
    }

    /// Text to work on. Numbers are taken by their text, as ids come both ways.
    fn input<'v>(&self, value: &'v Json) -> Result<Cow<'v, str>, Fault> {
        match value {
            Json::String(_) | Json::Number(_) => {
                let text = eval::printed(value);
                self.budget.bytes(text.len())?;
                Ok(text)
            }
            other => Err(self.refuse("text", other)),
        }
    }

    /// The items to work on: of a list, or the keys of an object.
    fn items<'v>(&self, value: Value<'v>) -> Result<Vec<Value<'v>>, Fault> {
        let items: Vec<Value<'v>> = match value {
            Cow::Borrowed(Json::Array(items)) => items.iter().map(Cow::Borrowed).collect(),
            Cow::Owned(Json::Array(items)) => items.into_iter().map(Cow::Owned).collect(),
            Cow::Borrowed(Json::Object(members)) => members.keys().map(|key| made(key.as_str())).collect(),
            Cow::Owned(Json::Object(members)) => members.into_iter().map(|(key, _)| made(key)).collect(),
            other => return Err(self.refuse("a list", &other)),
        };
        self.budget.steps(items.len())?;
        self.budget.bytes(items.len() * size_of::<Value<'v>>())?;
        Ok(items)
    }

    /// A list of `items`, paid for.
    fn collect<'v>(&self, items: impl IntoIterator<Item = Value<'v>>) -> Result<Json, Fault> {
        items.into_iter().map(|item| self.budget.own(item)).collect::<Result<_, _>>().map(Json::Array)
    }
}

/// A value that a filter made.
fn made<'a>(value: impl Into<Json>) -> Value<'a> {
    Cow::Owned(value.into())
}

/// The value at a dotted path such as `customer.address.0`; `None` when there is none.
fn attribute<'v>(value: &'v Json, path: &str) -> Option<&'v Json> {
    path.split('.').try_fold(value, |value, key| match value {
        Json::Object(members) => members.get(key),
        Json::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Applies a filter that was named by a value, as `map("upper")` does.
fn apply_named<'a>(
    name: &str,
    value: Value<'a>,
    args: Vec<Option<Value<'a>>>,
    budget: &Budget,
) -> Result<Value<'a>, Fault> {
    let filter = find(name).ok_or_else(|| unknown("filter", name, FILTERS.iter().map(|filter| filter.name)))?;
    let given = args.iter().flatten().count();
    if given > filter.params.len() || given < filter.required {
        return Err(Fault::value(format!("`{name}` takes {} to {} arguments", filter.required, filter.params.len())));
    }
    filter.apply(value, &Args::new(filter, args, budget))
}

/// The test that was named by a value, as `select("gt", 3)` does.
fn check_named(name: &str) -> Result<&'static checks::Check, Fault> {
    checks::find(name).ok_or_else(|| unknown("test", name, checks::CHECKS.iter().map(|check| check.name)))
}

fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> Fault {
    Fault { help: super::did_you_mean(name, known), ..Fault::value(format!("there is no {what} `{name}`")) }
}
