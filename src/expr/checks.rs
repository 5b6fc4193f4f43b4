//! The tests that stand after `is`. `defined` and `undefined` are part of the grammar.

use serde_json::Value as Json;

use super::ast::Comparison;
use super::eval::{self, Budget, equal};
use super::{Fault, number};

/// One test.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) takes_argument: bool,
    pub(super) holds: fn(&Json, &Json) -> Result<bool, Fault>,
}

/// Every test.
pub(super) const CHECKS: &[Check] = &[
    plain("none", |value, _| Ok(value.is_null())),
    plain("boolean", |value, _| Ok(value.is_boolean())),
    plain("true", |value, _| Ok(*value == Json::Bool(true))),
    plain("false", |value, _| Ok(*value == Json::Bool(false))),
    plain("number", |value, _| Ok(value.is_number())),
    plain("integer", |value, _| Ok(matches!(value, Json::Number(n) if !n.as_str().contains(['.', 'e', 'E'])))),
    plain("string", |value, _| Ok(value.is_string())),
    plain("sequence", |value, _| Ok(value.is_array())),
    plain("iterable", |value, _| Ok(value.is_array() || value.is_object() || value.is_string())),
    plain("mapping", |value, _| Ok(value.is_object())),
    plain("odd", |value, _| eval::whole(value).map(|number| number % 2 != 0)),
    plain("even", |value, _| eval::whole(value).map(|number| number % 2 == 0)),
    against("divisibleby", |value, by| {
        let rest = number::binary(super::ast::Operator::Remainder, number::exact(value)?, number::exact(by)?)?;
        Ok(rest.is_zero())
    }),
    against("startingwith", |value, start| Ok(text(value)?.starts_with(text(start)?))),
    against("endingwith", |value, end| Ok(text(value)?.ends_with(text(end)?))),
    against("eq", |value, other| Ok(equal(value, other))),
    against("equalto", |value, other| Ok(equal(value, other))),
    against("ne", |value, other| Ok(!equal(value, other))),
    against("lt", |value, other| compared(Comparison::Less, value, other)),
    against("le", |value, other| compared(Comparison::LessOrEqual, value, other)),
    against("gt", |value, other| compared(Comparison::Greater, value, other)),
    against("ge", |value, other| compared(Comparison::GreaterOrEqual, value, other)),
    against("in", |value, other| compared(Comparison::In, value, other)),
];

/// The test of that name.
pub(super) fn find(name: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.name == name)
}

const fn plain(name: &'static str, holds: fn(&Json, &Json) -> Result<bool, Fault>) -> Check {
    Check { name, takes_argument: false, holds }
}

const fn against(name: &'static str, holds: fn(&Json, &Json) -> Result<bool, Fault>) -> Check {
    Check { name, takes_argument: true, holds }
}

fn compared(comparison: Comparison, value: &Json, other: &Json) -> Result<bool, Fault> {
    eval::compare(comparison, value, other, &Budget::new())
}

fn text(value: &Json) -> Result<&str, Fault> {
    value.as_str().ok_or_else(|| Fault::value(format!("expected text, found {}", eval::described(value))))
}
