//! The expression language: `${{ … }}` in YAML, and jq for reshaping. Parse once, evaluate often.
//!
//! The grammar is that of a Jinja expression. A value is a JSON value and nothing else: there are no
//! floats, so 64-bit ids and amounts keep every digit (see [below](self#numbers)). This module
//! refuses to do I/O, to read the clock (a replay must compute the same again; use `run.started_at`),
//! and to see a secret.
//!
//! # What an expression is made of
//!
//! - literals: `12`, `12.50`, `"text"` or `'text'`, `true`, `false`, `none`, `[1, 2]`, `{"a": 1}`
//! - names and paths: `inputs.order.id`, `headers["x-shopify-topic"]`, `tasks.push.body.lines[-1].sku`, `text[0:8]`
//! - operators, weakest first: `x if test else y`, `or`, `and`, `not`, comparisons (`==`, `!=`, `<`, `<=`, `>`, `>=`,
//!   `in`, `not in`, which chain), `+ -`, `~` (joins as text), `* / // %`, `**`, unary `-`, `x | filter(…)`, `x is test`
//! - the functions `range(…)` and `dict(…)`, the filters of [`filter_names`] and the tests of [`check_names`]
//!
//! A path that leads nowhere is an error that names it, except before `| default(…)`, `is defined` and
//! `is undefined`. A condition that is not a boolean counts as false when it is `none`, zero, or empty.
//!
//! # Numbers
//!
//! A number that only passes through keeps its text. Integers compute exactly up to 128 bits, everything with
//! a fraction in decimal with 28 digits; `/` and a product that needs more digits round half to even at the
//! 28th. A number beyond those bounds can be passed on and compared for equality, not computed with. Text is
//! never taken for a number: `"510.00"` needs `| decimal`.
//!
//! # Text
//!
//! Inside a longer string a value is printed: text as it is, everything else as compact JSON (`true`, `null`,
//! `12.50`, `[1,2]`). Nothing is escaped.
//!
//! # Bounds
//!
//! Source length, nesting, steps and bytes made are bounded by the `EXPRESSION_…` constants of [`crate::limits`].

mod ast;
mod checks;
mod context;
mod eval;
mod filters;
pub mod jq;
mod lex;
mod mapping;
mod number;
mod parse;
mod path;
#[cfg(test)]
mod reference;
mod template;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use self::context::Context;
pub use self::mapping::{Mapping, Place};
pub use self::path::JsonPath;
pub use self::template::{Expression, Name, Template};

/// The names that can stand after `|`, in the order of the guide.
pub fn filter_names() -> impl Iterator<Item = &'static str> {
    filters::FILTERS.iter().map(|filter| filter.name).chain(["default"])
}

/// Each filter as it is written, such as `round(places)`, with what it gives; arguments that may be left out stand in
/// square brackets.
pub fn filter_reference() -> impl Iterator<Item = (String, &'static str)> {
    let row = |filter: &filters::Filter| {
        let params = filter.params.iter().enumerate();
        let params = params.map(|(n, name)| if n < filter.required { (*name).to_owned() } else { format!("[{name}]") });
        let params: Vec<_> = params.collect();
        let written =
            if params.is_empty() { filter.name.to_owned() } else { format!("{}({})", filter.name, params.join(", ")) };
        (written, filter.says)
    };
    let default = ("default(value)".to_owned(), "The value, or this one when the path before it leads nowhere");
    filters::FILTERS.iter().map(row).chain([default])
}

/// The names that can stand after `is`.
pub fn check_names() -> impl Iterator<Item = &'static str> {
    checks::CHECKS.iter().map(|check| check.name).chain(["defined", "undefined"])
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The source cannot be read; found when it is parsed.
    Syntax,
    /// A path leads nowhere in this context.
    Undefined,
    /// A value is not of a kind, or not in a range, that the operation takes.
    Value,
    /// A bound of [`crate::limits`] is passed.
    Limit,
}

/// Why an expression cannot be read or evaluated, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of thing is wrong.
    pub kind: Kind,
    /// What is wrong, one sentence without a period.
    pub message: String,
    /// The bytes of the parsed text that are to blame.
    pub range: Range<usize>,
    /// What to type instead, when there is something.
    pub help: Option<String>,
    /// JSON pointer (RFC 6901) of the string inside a [`Mapping`]; empty for a lone expression.
    pub pointer: String,
}

impl Error {
    fn new(kind: Kind, range: Range<usize>, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), range, help: None, pointer: String::new() }
    }

    fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// An [`Error`] that does not know its place yet: what filters, tests and operators answer.
#[derive(Debug)]
struct Fault {
    kind: Kind,
    message: String,
    help: Option<String>,
}

impl Fault {
    fn value(message: impl Into<String>) -> Self {
        Self { kind: Kind::Value, message: message.into(), help: None }
    }

    fn limit(message: impl Into<String>) -> Self {
        Self { kind: Kind::Limit, message: message.into(), help: None }
    }

    fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn at(self, range: &Range<usize>) -> Error {
        let Self { kind, message, help } = self;
        Error { kind, message, range: range.clone(), help, pointer: String::new() }
    }
}

/// The known word nearest to what was written, as a help sentence.
fn did_you_mean<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|word| (strsim::damerau_levenshtein(written, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len().min(written.len()) / 4)
        .min()
        .map(|(_, word)| format!("did you mean `{word}`?"))
}
