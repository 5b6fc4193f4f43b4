//! `${{ … }}` inside text.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value as Json;

use super::ast::Node;
use super::eval::{self, Budget, Value};
use super::{Context, Error, Kind, parse};
use crate::limits;

/// A path that an expression looks up, such as `inputs.order.id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The root, then the keys that are fixed in the source: `["inputs", "order", "id"]`. A key that is
    /// computed ends the path.
    pub path: Vec<String>,
    /// The bytes of the parsed text that hold it.
    pub range: Range<usize>,
    /// Whether the expression expects that it may be missing: `| default(…)`, `is defined`.
    pub optional: bool,
}

/// One expression, as `if`, `filter` and `until` hold, parsed once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Expression {
    node: Arc<Node>,
}

impl Expression {
    /// Reads an expression that is written alone, without `${{ }}`.
    pub fn parse(source: &str) -> Result<Self, Error> {
        let (node, _) = parse::expression(source, 0, false)?;
        Ok(Self { node: Arc::new(node) })
    }

    /// The value of the expression in `ctx`.
    pub fn eval(&self, ctx: &Context) -> Result<Json, Error> {
        let budget = Budget::new();
        let value = eval::evaluate(&self.node, ctx, &budget)?;
        bounded(&value, &self.node.range)?;
        Ok(value.into_owned())
    }

    /// Whether the value counts as true: not `false`, `none`, zero, or empty.
    pub fn is_true(&self, ctx: &Context) -> Result<bool, Error> {
        Ok(eval::is_true(&*eval::evaluate(&self.node, ctx, &Budget::new())?))
    }

    /// Steps and bytes that an evaluation takes.
    #[cfg(test)]
    pub(super) fn spent(&self, ctx: &Context) -> (u64, usize) {
        let budget = Budget::new();
        let _ = eval::evaluate(&self.node, ctx, &budget);
        budget.spent()
    }

    /// The paths that the expression looks up, in order; one that stands twice is told twice.
    pub fn names(&self) -> Vec<Name> {
        let mut names = Vec::new();
        self.node.collect_names(false, &mut names);
        names
    }
}

/// Text that may hold expressions, parsed once. Cheap to clone.
///
/// Text that is one expression and white space keeps the type of its value. In longer text each value is printed
/// (see the [module](super#text)). `$${{` stands for `${{` itself.
#[derive(Debug, Clone)]
pub struct Template {
    parts: Arc<[Part]>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Expression(Node),
}

impl Template {
    /// Reads text. Bare `{{ … }}` and `{% … %}` are errors, since one spelling is enough.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("${{") {
            let open = at + found;
            if text[..open].ends_with('$') && open > at {
                check_plain(text, at..open - 1)?;
                plain.push_str(&text[at..open - 1]);
                plain.push_str("${{");
                at = open + 3;
                continue;
            }
            check_plain(text, at..open)?;
            plain.push_str(&text[at..open]);
            let (node, end) = parse::expression(text, open + 3, true)?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Expression(node));
            at = end;
        }
        check_plain(text, at..text.len())?;
        plain.push_str(&text[at..]);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts: without_margin(parts).into() })
    }

    /// Whether the text holds no expression, so that it means itself.
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether the text is one expression, so that its value keeps its type. A condition should be: as soon as
    /// there is other text, it counts as true for ever.
    pub fn is_expression(&self) -> bool {
        matches!(&*self.parts, [Part::Expression(_)])
    }

    /// The value of the text in `ctx`.
    pub fn eval(&self, ctx: &Context) -> Result<Json, Error> {
        let budget = Budget::new();
        match &*self.parts {
            [] => Ok(Json::String(String::new())),
            [Part::Text(text)] => Ok(Json::String(text.clone())),
            [Part::Expression(node)] => {
                let value = eval::evaluate(node, ctx, &budget)?;
                bounded(&value, &node.range)?;
                Ok(value.into_owned())
            }
            parts => Ok(Json::String(print(parts, ctx, &budget)?)),
        }
    }

    /// Whether the value counts as true, as [`Expression::is_true`] does.
    pub fn is_true(&self, ctx: &Context) -> Result<bool, Error> {
        match &*self.parts {
            [Part::Expression(node)] => Ok(eval::is_true(&*eval::evaluate(node, ctx, &Budget::new())?)),
            _ => self.eval(ctx).map(|value| eval::is_true(&value)),
        }
    }

    /// The paths that the expressions look up, in order.
    pub fn names(&self) -> Vec<Name> {
        let mut names = Vec::new();
        for part in &*self.parts {
            if let Part::Expression(node) = part {
                node.collect_names(false, &mut names);
            }
        }
        names
    }
}

fn print(parts: &[Part], ctx: &Context, budget: &Budget) -> Result<String, Error> {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(plain) => text.push_str(plain),
            Part::Expression(node) => {
                let value = eval::evaluate(node, ctx, budget)?;
                bounded_by(text.len() + eval::printed_bytes(&value), &node.range)?;
                text.push_str(&eval::printed(&value));
            }
        }
    }
    Ok(text)
}

/// White space around a lone expression is the file's, not the value's.
fn without_margin(mut parts: Vec<Part>) -> Vec<Part> {
    let blank = |part: &Part| matches!(part, Part::Text(text) if text.trim().is_empty());
    let lone = parts.iter().filter(|part| !blank(part)).count() == 1;
    if lone && parts.iter().any(|part| matches!(part, Part::Expression(_))) {
        parts.retain(|part| !blank(part));
    }
    parts
}

/// Refuses the other spellings of an expression in text that is taken literally.
fn check_plain(text: &str, range: Range<usize>) -> Result<(), Error> {
    let plain = &text[range.clone()];
    for (open, close, what) in [("{{", "}}", "`{{ … }}`"), ("{%", "%}", "`{% … %}`")] {
        let Some(start) = plain.find(open) else { continue };
        let Some(length) = plain[start..].find(close) else { continue };
        let place = range.start + start..range.start + start + length + close.len();
        let error = Error::new(Kind::Syntax, place, format!("{what} is not how an expression is written here"));
        return Err(error.with_help("write `${{ … }}`"));
    }
    Ok(())
}

fn bounded(value: &Value<'_>, range: &Range<usize>) -> Result<(), Error> {
    match &**value {
        Json::Array(_) | Json::Object(_) => bounded_by(eval::text_bytes(value), range),
        Json::String(text) => bounded_by(text.len(), range),
        _ => Ok(()),
    }
}

fn bounded_by(bytes: usize, range: &Range<usize>) -> Result<(), Error> {
    if bytes <= limits::EXPRESSION_OUTPUT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("this makes more than {} bytes", limits::EXPRESSION_OUTPUT_BYTES_MAX);
    Err(Error::new(Kind::Limit, range.clone(), message))
}
