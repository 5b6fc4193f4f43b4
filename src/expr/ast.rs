//! The parsed form of an expression: nodes with their place in the source.

use std::ops::Range;

use serde_json::Value as Json;

use super::checks::Check;
use super::filters::Filter;
use super::template::Name;

/// A node with the bytes of source it was read from.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) shape: Shape,
    pub(super) range: Range<usize>,
    /// Levels of nodes from here down; bounds the recursion of everything that walks the tree.
    pub(super) depth: usize,
}

/// What a node does.
#[derive(Debug)]
pub(super) enum Shape {
    Constant(Json),
    Name(Box<str>),
    /// `base.key` and `base[key]` alike.
    Item(Box<Node>, Box<Node>),
    /// `base[start:stop:step]`.
    Slice(Box<Node>, [Option<Box<Node>>; 3]),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    /// The first operand, then each comparison with the next.
    Compare(Box<Node>, Vec<(Comparison, Node)>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If {
        test: Box<Node>,
        yes: Box<Node>,
        no: Option<Box<Node>>,
    },
    Filter(&'static Filter, Box<Node>, Vec<Option<Node>>),
    /// `| default(value, also_when_false)`, the one filter that sees a path that leads nowhere.
    Default(Box<Node>, Option<Box<Node>>, Option<Box<Node>>),
    Check(&'static Check, Box<Node>, Option<Box<Node>>),
    Defined(Box<Node>),
    Range(Vec<Node>),
}

/// An operator that computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
    Concat,
}

/// An operator that compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

impl Node {
    pub(super) fn new(shape: Shape, range: Range<usize>) -> Self {
        let mut depth = 0;
        shape.each_child(&mut |child| depth = depth.max(child.depth));
        Self { shape, range, depth: depth + 1 }
    }

    /// Adds every path below this node that starts at a name to `names`. `optional` tells that a
    /// missing value is expected here.
    pub(super) fn collect_names(&self, optional: bool, names: &mut Vec<Name>) {
        let mut keys = Vec::new();
        let mut node = self;
        while let Shape::Item(base, key) = &node.shape {
            keys.push((key, node.range.end));
            node = base;
        }
        if let Shape::Name(root) = &node.shape {
            let mut path = vec![root.to_string()];
            let mut end = node.range.end;
            let fixed = keys.iter().rev().map_while(|(key, end)| Some((key.as_key()?, *end)));
            for (text, key_end) in fixed {
                path.push(text);
                end = key_end;
            }
            names.push(Name { path, range: node.range.start..end, optional });
            for (key, _) in keys {
                key.collect_names(false, names);
            }
            return;
        }
        match &self.shape {
            Shape::Default(value, fallback, flag) => {
                value.collect_names(true, names);
                [fallback, flag].into_iter().flatten().for_each(|node| node.collect_names(optional, names));
            }
            Shape::Defined(value) => value.collect_names(true, names),
            shape => shape.each_child(&mut |child| child.collect_names(false, names)),
        }
    }

    /// The text of a constant key: `a.b`, `a["b"]`, `a[0]`.
    fn as_key(&self) -> Option<String> {
        match &self.shape {
            Shape::Constant(Json::String(text)) => Some(text.clone()),
            Shape::Constant(Json::Number(number)) => Some(number.to_string()),
            _ => None,
        }
    }
}

impl Shape {
    fn each_child<'a>(&'a self, visit: &mut dyn FnMut(&'a Node)) {
        match self {
            Self::Constant(_) | Self::Name(_) => {}
            Self::Not(a) | Self::Negate(a) | Self::Defined(a) => visit(a),
            Self::Item(a, b) | Self::Binary(_, a, b) | Self::And(a, b) | Self::Or(a, b) => {
                visit(a);
                visit(b);
            }
            Self::Slice(base, bounds) => {
                visit(base);
                bounds.iter().flatten().for_each(|bound| visit(bound));
            }
            Self::List(items) | Self::Range(items) => items.iter().for_each(visit),
            Self::Map(pairs) => pairs.iter().for_each(|(key, value)| {
                visit(key);
                visit(value);
            }),
            Self::Compare(first, rest) => {
                visit(first);
                for (_, node) in rest {
                    visit(node);
                }
            }
            Self::If { test, yes, no } => {
                visit(test);
                visit(yes);
                if let Some(no) = no {
                    visit(no);
                }
            }
            Self::Filter(_, value, args) => {
                visit(value);
                args.iter().flatten().for_each(visit);
            }
            Self::Default(value, fallback, flag) => {
                visit(value);
                [fallback, flag].into_iter().flatten().for_each(|node| visit(node));
            }
            Self::Check(_, value, arg) => {
                visit(value);
                if let Some(arg) = arg {
                    visit(arg);
                }
            }
        }
    }
}
