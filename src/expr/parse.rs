//! Reads tokens into nodes: the grammar of a Jinja expression, by recursive descent.

use std::ops::Range;

use serde_json::Value as Json;

use super::ast::{Comparison, Node, Operator, Shape};
use super::lex::{self, Token};
use super::{Error, Kind, check_names, checks, did_you_mean, filter_names, filters, number};
use crate::limits;

/// Reads the expression that starts at `at` in `text`, up to the end of the text or, when `fenced`, up to
/// and including `}}`. Answers the node and where the rest of the text begins.
pub(super) fn expression(text: &str, at: usize, fenced: bool) -> Result<(Node, usize), Error> {
    let tokens = lex::tokens(text, at, fenced)?;
    let end = tokens.last().map_or(text.len(), |(_, range)| range.end);
    if end - at > limits::EXPRESSION_SOURCE_BYTES_MAX {
        let message = format!("this expression is longer than {} bytes", limits::EXPRESSION_SOURCE_BYTES_MAX);
        return Err(Error::new(Kind::Limit, at..end, message));
    }
    let mut parser = Parser { text, tokens, next: 0, depth: 0 };
    if parser.peek() == &Token::End {
        let help = "write a value, such as `inputs.order.id`";
        return Err(Error::new(Kind::Syntax, at.saturating_sub(3)..end, "this expression is empty").with_help(help));
    }
    let node = parser.conditional()?;
    match parser.peek() {
        Token::End => Ok((node, end)),
        _ => Err(parser.unexpected("the end of the expression")),
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(Token, Range<usize>)>,
    next: usize,
    /// How deep the parser has called itself.
    depth: usize,
}

type Parsed = Result<Node, Error>;

impl Parser<'_> {
    /// `a if test else b`, the weakest binding.
    fn conditional(&mut self) -> Parsed {
        self.deeper(|parser| {
            let mut node = parser.either()?;
            while parser.skip_word("if") {
                let test = Box::new(parser.either()?);
                let no = if parser.skip_word("else") { Some(Box::new(parser.conditional()?)) } else { None };
                let start = node.range.start;
                node = parser.node(Shape::If { test, yes: Box::new(node), no }, start)?;
            }
            Ok(node)
        })
    }

    fn either(&mut self) -> Parsed {
        let mut node = self.both()?;
        while self.skip_word("or") {
            let right = self.both()?;
            let start = node.range.start;
            node = self.node(Shape::Or(node.into(), right.into()), start)?;
        }
        Ok(node)
    }

    fn both(&mut self) -> Parsed {
        let mut node = self.negation()?;
        while self.skip_word("and") {
            let right = self.negation()?;
            let start = node.range.start;
            node = self.node(Shape::And(node.into(), right.into()), start)?;
        }
        Ok(node)
    }

    fn negation(&mut self) -> Parsed {
        let start = self.place().start;
        if !self.skip_word("not") {
            return self.comparison();
        }
        let value = self.deeper(Self::negation)?;
        self.node(Shape::Not(value.into()), start)
    }

    fn comparison(&mut self) -> Parsed {
        let first = self.sum()?;
        let start = first.range.start;
        let mut rest = Vec::new();
        while let Some(comparison) = self.skip_comparison()? {
            rest.push((comparison, self.sum()?));
        }
        if rest.is_empty() { Ok(first) } else { self.node(Shape::Compare(first.into(), rest), start) }
    }

    fn skip_comparison(&mut self) -> Result<Option<Comparison>, Error> {
        let comparison = match self.peek() {
            Token::Symbol("==") => Comparison::Equal,
            Token::Symbol("!=") => Comparison::NotEqual,
            Token::Symbol("<") => Comparison::Less,
            Token::Symbol("<=") => Comparison::LessOrEqual,
            Token::Symbol(">") => Comparison::Greater,
            Token::Symbol(">=") => Comparison::GreaterOrEqual,
            Token::Word if self.word() == "in" => Comparison::In,
            Token::Word if self.word() == "not" => {
                self.next += 1;
                if self.word() != "in" {
                    return Err(self.unexpected("`in`"));
                }
                Comparison::NotIn
            }
            _ => return Ok(None),
        };
        self.next += 1;
        Ok(Some(comparison))
    }

    fn sum(&mut self) -> Parsed {
        self.operators(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::concat)
    }

    fn concat(&mut self) -> Parsed {
        self.operators(&[("~", Operator::Concat)], Self::product)
    }

    fn product(&mut self) -> Parsed {
        let table = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Remainder),
        ];
        self.operators(&table, Self::power)
    }

    fn power(&mut self) -> Parsed {
        self.operators(&[("**", Operator::Power)], Self::piped)
    }

    /// Operators of one strength, from left to right.
    fn operators(&mut self, table: &[(&str, Operator)], operand: fn(&mut Self) -> Parsed) -> Parsed {
        let mut node = operand(self)?;
        loop {
            let Token::Symbol(symbol) = *self.peek() else { return Ok(node) };
            let Some((_, operator)) = table.iter().find(|(text, _)| *text == symbol) else { return Ok(node) };
            self.next += 1;
            let right = operand(self)?;
            let start = node.range.start;
            node = self.node(Shape::Binary(*operator, node.into(), right.into()), start)?;
        }
    }

    /// A value with its filters and tests.
    fn piped(&mut self) -> Parsed {
        let mut node = self.signed()?;
        loop {
            if self.skip("|") {
                node = self.filter(node)?;
            } else if self.skip_word("is") {
                node = self.check(node)?;
            } else {
                return Ok(node);
            }
        }
    }

    fn signed(&mut self) -> Parsed {
        let start = self.place().start;
        if !self.skip("-") {
            return self.path();
        }
        let value = self.deeper(Self::signed)?;
        self.node(Shape::Negate(value.into()), start)
    }

    /// A value with its members: `.name`, `[key]`, `[from:to]`.
    fn path(&mut self) -> Parsed {
        let mut node = self.primary()?;
        loop {
            let start = node.range.start;
            if self.skip(".") {
                let key = self.member_name()?;
                node = self.node(Shape::Item(node.into(), key.into()), start)?;
            } else if self.skip("[") {
                let shape = self.subscript(node)?;
                node = self.node(shape, start)?;
            } else if self.peek() == &Token::Symbol("(") {
                return Err(method(&node));
            } else {
                return Ok(node);
            }
        }
    }

    fn member_name(&mut self) -> Parsed {
        let range = self.place();
        let key = match self.peek() {
            Token::Word => Json::String(self.word().to_owned()),
            Token::Number if self.word().bytes().all(|b| b.is_ascii_digit()) => number::constant(self.word()),
            _ => return Err(self.unexpected("a name after `.`")),
        };
        self.next += 1;
        self.node(Shape::Constant(key), range.start)
    }

    fn subscript(&mut self, base: Node) -> Result<Shape, Error> {
        let mut bounds = [None, None, None];
        let mut colons = 0;
        while !self.skip("]") {
            if self.skip(":") && colons < 2 {
                colons += 1;
            } else if bounds[colons].is_none() {
                bounds[colons] = Some(Box::new(self.conditional()?));
            } else {
                return Err(self.unexpected("`]`"));
            }
        }
        match (colons, bounds) {
            (0, [Some(key), _, _]) => Ok(Shape::Item(base.into(), key)),
            (0, _) => Err(self.previous("a key is missing between `[` and `]`")),
            (_, bounds) => Ok(Shape::Slice(base.into(), bounds)),
        }
    }

    fn primary(&mut self) -> Parsed {
        let range = self.place();
        let shape = match self.peek().clone() {
            Token::Text(mut text) => {
                // As in Jinja, strings side by side are one.
                while let Some((Token::Text(more), _)) = self.tokens.get(self.next + 1) {
                    text.push_str(more);
                    self.next += 1;
                }
                Shape::Constant(Json::String(text))
            }
            Token::Number => Shape::Constant(number::constant(&self.text[range.clone()])),
            Token::Word => return self.named(),
            Token::Symbol("(") => {
                self.next += 1;
                let mut node = self.conditional()?;
                if self.peek() == &Token::Symbol(",") {
                    return Err(self.unexpected("`)`").with_help("write a list with `[` and `]`"));
                }
                self.expect(")")?;
                node.range = range.start..self.tokens[self.next - 1].1.end;
                return Ok(node);
            }
            Token::Symbol("[") => {
                self.next += 1;
                let shape = Shape::List(self.items("]", Self::conditional)?);
                return self.node(shape, range.start);
            }
            Token::Symbol("{") => {
                self.next += 1;
                let pair = |parser: &mut Self| {
                    let key = parser.conditional()?;
                    parser.expect(":")?;
                    Ok((key, parser.conditional()?))
                };
                let shape = Shape::Map(self.items("}", pair)?);
                return self.node(shape, range.start);
            }
            _ => return Err(self.unexpected("a value")),
        };
        self.next += 1;
        self.node(shape, range.start)
    }

    /// A name, a word that is a value, or a call of one of the few functions.
    fn named(&mut self) -> Parsed {
        let range = self.place();
        let word = self.word().to_owned();
        let shape = match word.as_str() {
            "true" | "True" => Shape::Constant(Json::Bool(true)),
            "false" | "False" => Shape::Constant(Json::Bool(false)),
            "none" | "None" | "null" => Shape::Constant(Json::Null),
            "and" | "or" | "not" | "in" | "is" | "if" | "else" => return Err(self.unexpected("a value")),
            _ => Shape::Name(word.as_str().into()),
        };
        self.next += 1;
        if self.peek() != &Token::Symbol("(") {
            return self.node(shape, range.start);
        }
        match word.as_str() {
            "range" => {
                self.next += 1;
                let bounds = self.items(")", Self::conditional)?;
                if !(1..=3).contains(&bounds.len()) {
                    return Err(self.since(range.start, "`range` takes one to three numbers"));
                }
                self.node(Shape::Range(bounds), range.start)
            }
            "dict" => {
                self.next += 1;
                let pair = |parser: &mut Self| {
                    let key = parser.member_name()?;
                    parser.expect("=")?;
                    Ok((key, parser.conditional()?))
                };
                let pairs = self.items(")", pair)?;
                self.node(Shape::Map(pairs), range.start)
            }
            "now" | "utcnow" | "today" => {
                let message = format!("`{word}()` does not exist: a replay must compute the same again");
                Err(Error::new(Kind::Syntax, range, message).with_help("use `run.started_at`"))
            }
            _ => {
                let message = format!("there is no function `{word}`");
                let error = Error::new(Kind::Syntax, range, message);
                let filter = filters::find(&word).map(|_| format!("write `value | {word}`"));
                Err(Error { help: filter.or_else(|| did_you_mean(&word, ["range", "dict"].into_iter())), ..error })
            }
        }
    }

    fn filter(&mut self, value: Node) -> Parsed {
        let (name, range) = self.callable_name("a filter's name after `|`")?;
        let start = value.range.start;
        if name == "default" || name == "d" {
            let mut args = self.arguments(&name, &["value", "boolean"], 0)?.into_iter();
            let mut take = || args.next().flatten().map(Box::new);
            let (fallback, flag) = (take(), take());
            return self.node(Shape::Default(value.into(), fallback, flag), start);
        }
        let Some(filter) = filters::find(&name) else {
            let message = format!("there is no filter `{name}`");
            let help = did_you_mean(&name, filter_names());
            return Err(Error { help, ..Error::new(Kind::Syntax, range, message) });
        };
        let args = self.arguments(&name, filter.params, filter.required)?;
        self.node(Shape::Filter(filter, value.into(), args), start)
    }

    fn check(&mut self, value: Node) -> Parsed {
        let negated = self.skip_word("not");
        let (name, range) = self.callable_name("a test's name after `is`")?;
        let start = value.range.start;
        let shape = if name == "defined" || name == "undefined" {
            let defined = Shape::Defined(value.into());
            if name == "defined" { defined } else { Shape::Not(self.node(defined, start)?.into()) }
        } else {
            let Some(check) = checks::find(&name) else {
                let message = format!("there is no test `{name}`");
                let help = did_you_mean(&name, check_names());
                return Err(Error { help, ..Error::new(Kind::Syntax, range, message) });
            };
            let arg = if check.takes_argument { Some(Box::new(self.check_argument(&name)?)) } else { None };
            Shape::Check(check, value.into(), arg)
        };
        let node = self.node(shape, start)?;
        if negated { self.node(Shape::Not(node.into()), start) } else { Ok(node) }
    }

    /// `is divisibleby(3)` or `is divisibleby 3`.
    fn check_argument(&mut self, name: &str) -> Parsed {
        if self.peek() != &Token::Symbol("(") {
            return self.deeper(Self::signed);
        }
        let start = self.place().start;
        let mut args = self.arguments(name, &["value"], 1)?;
        args.pop().flatten().ok_or_else(|| self.since(start, format!("`{name}` takes one value")))
    }

    fn callable_name(&mut self, wanted: &str) -> Result<(String, Range<usize>), Error> {
        if self.peek() != &Token::Word {
            return Err(self.unexpected(wanted));
        }
        let found = (self.word().to_owned(), self.place());
        self.next += 1;
        Ok(found)
    }

    /// `(a, b, name=c)`, put into the places of `params`. No brackets mean no arguments.
    fn arguments(&mut self, name: &str, params: &[&str], required: usize) -> Result<Vec<Option<Node>>, Error> {
        let start = self.tokens[self.next.saturating_sub(1)].1.start;
        let mut places: Vec<Option<Node>> = params.iter().map(|_| None).collect();
        let mut positional = 0;
        if self.skip("(") {
            let named = |parser: &mut Self| {
                let next = parser.tokens.get(parser.next + 1).map(|(token, _)| token);
                let word = (parser.peek() == &Token::Word && next == Some(&Token::Symbol("=")))
                    .then(|| (parser.word().to_owned(), parser.place()));
                if word.is_some() {
                    parser.next += 2;
                }
                Ok((word, parser.conditional()?))
            };
            for (word, node) in self.items(")", named)? {
                let place = match &word {
                    Some((word, range)) => params.iter().position(|param| param == word).ok_or_else(|| {
                        let error =
                            Error::new(Kind::Syntax, range.clone(), format!("`{name}` takes no argument `{word}`"));
                        let help = did_you_mean(word, params.iter().copied()).unwrap_or_else(|| takes(params));
                        error.with_help(help)
                    })?,
                    None => positional,
                };
                positional += usize::from(word.is_none());
                let range = node.range.clone();
                match places.get_mut(place) {
                    Some(empty @ None) => *empty = Some(node),
                    Some(Some(_)) => return Err(Error::new(Kind::Syntax, range, "this argument is given twice")),
                    None => {
                        let message = format!("`{name}` takes no further argument");
                        return Err(Error::new(Kind::Syntax, range, message).with_help(takes(params)));
                    }
                }
            }
        }
        match places.iter().take(required).position(Option::is_none) {
            Some(missing) => Err(self.since(start, format!("`{name}` needs its argument `{}`", params[missing]))),
            None => Ok(places),
        }
    }

    /// Items with commas between them, up to `close`; a comma before `close` is fine.
    fn items<T>(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        while !self.skip(close) {
            items.push(item(self)?);
            if !self.skip(",") && self.peek() != &Token::Symbol(static_symbol(close)) {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
        Ok(items)
    }

    // What every rule above is made of.

    fn node(&self, shape: Shape, start: usize) -> Parsed {
        let end = self.tokens.get(self.next.saturating_sub(1)).map_or(start, |(_, range)| range.end);
        let node = Node::new(shape, start..end.max(start));
        if node.depth > limits::EXPRESSION_DEPTH_MAX { Err(too_deep(node.range)) } else { Ok(node) }
    }

    fn deeper(&mut self, rule: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth >= limits::EXPRESSION_DEPTH_MAX / 2 {
            return Err(too_deep(self.place()));
        }
        self.depth += 1;
        let parsed = rule(self);
        self.depth -= 1;
        parsed
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    fn place(&self) -> Range<usize> {
        self.tokens.get(self.next).map_or(self.text.len()..self.text.len(), |(_, range)| range.clone())
    }

    /// The source of the next token.
    fn word(&self) -> &str {
        &self.text[self.place()]
    }

    fn skip(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(next) if *next == symbol);
        self.next += usize::from(found);
        found
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let found = self.peek() == &Token::Word && self.word() == word;
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Error> {
        if self.skip(symbol) { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let place = self.place();
        let help = match self.peek() {
            Token::Symbol("=") => Some("write `==` to compare"),
            Token::Symbol("&&") => Some("write `and`"),
            Token::Symbol("!") => Some("write `not`"),
            Token::Symbol("?") => Some("write `value if test else other`"),
            Token::Word if self.word() == "for" => Some("use a filter such as `map`, `select` or `selectattr`"),
            _ => None,
        };
        let message = match self.peek() {
            Token::End => format!("expected {wanted}, but the expression ends here"),
            _ => format!("expected {wanted}, found `{}`", &self.text[place.clone()]),
        };
        Error { help: help.map(str::to_owned), ..Error::new(Kind::Syntax, place, message) }
    }

    fn previous(&self, message: &str) -> Error {
        let place = self.tokens.get(self.next.saturating_sub(1)).map_or(0..0, |(_, range)| range.clone());
        Error::new(Kind::Syntax, place, message)
    }

    fn since(&self, start: usize, message: impl Into<String>) -> Error {
        let end = self.tokens.get(self.next.saturating_sub(1)).map_or(start, |(_, range)| range.end);
        Error::new(Kind::Syntax, start..end.max(start), message)
    }
}

/// Says what to write instead of a call.
fn method(callee: &Node) -> Error {
    let message = "a value cannot be called";
    let error = Error::new(Kind::Syntax, callee.range.clone(), message);
    match &callee.shape {
        Shape::Item(_, key) => match &key.shape {
            Shape::Constant(Json::String(name)) if filters::find(name).is_some() => {
                error.with_help(format!("write `value | {name}` instead of `value.{name}()`"))
            }
            _ => error.with_help("values have no methods; use a filter: `value | filter`"),
        },
        _ => error,
    }
}

fn static_symbol(close: &str) -> &'static str {
    match close {
        ")" => ")",
        "]" => "]",
        _ => "}",
    }
}

fn takes(params: &[&str]) -> String {
    match params {
        [] => "it takes no arguments".into(),
        params => format!("it takes `{}`", params.join("`, `")),
    }
}

fn too_deep(range: Range<usize>) -> Error {
    let message = format!("this expression is nested more than {} levels deep", limits::EXPRESSION_DEPTH_MAX);
    Error::new(Kind::Limit, range, message).with_help("split it over several values")
}
