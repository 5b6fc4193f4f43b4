//! Exact decimals for SQL: text in, text out, 28 digits. `null` in, `null` out.

use std::cmp::Ordering;

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};
use rust_decimal::{Decimal, RoundingStrategy};

/// Two decimals to one.
type Binary = fn(Decimal, Decimal) -> Option<Decimal>;

const BINARY: &[(&str, Binary)] = &[
    ("decimal_add", Decimal::checked_add),
    ("decimal_sub", Decimal::checked_sub),
    ("decimal_mul", Decimal::checked_mul),
    ("decimal_div", Decimal::checked_div),
];

/// Makes `decimal_add`, `_sub`, `_mul`, `_div`, `_cmp`, `_round` and the aggregate `decimal_sum` known.
pub(super) fn add_functions(database: &Connection) -> rusqlite::Result<()> {
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    for (name, compute) in BINARY {
        database.create_scalar_function(*name, 2, pure, move |ctx| {
            let (Some(a), Some(b)) = (argument(ctx, 0)?, argument(ctx, 1)?) else { return Ok(None) };
            let result = compute(a, b).ok_or_else(|| wrong(format!("`{name}` of {a} and {b} has no exact result")))?;
            Ok(Some(result.to_string()))
        })?;
    }
    database.create_scalar_function("decimal_cmp", 2, pure, |ctx| {
        let (Some(a), Some(b)) = (argument(ctx, 0)?, argument(ctx, 1)?) else { return Ok(None) };
        Ok(Some(match a.cmp(&b) {
            Ordering::Less => -1_i64,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }))
    })?;
    database.create_scalar_function("decimal_round", 2, pure, |ctx| {
        let Some(number) = argument(ctx, 0)? else { return Ok(None) };
        let digits = u32::try_from(ctx.get::<i64>(1)?).map_err(|_| wrong("digits are 0 or more".to_owned()))?;
        let mut rounded = number.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
        rounded.rescale(digits);
        Ok(Some(rounded.to_string()))
    })?;
    database.create_aggregate_function("decimal_sum", 1, pure, Sum)
}

fn wrong(why: String) -> Error {
    Error::UserFunctionError(why.into())
}

/// An argument as a decimal; null, and text without anything in it, are none.
fn argument(ctx: &Context<'_>, place: usize) -> rusqlite::Result<Option<Decimal>> {
    match ctx.get_raw(place) {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(number) => Ok(Some(number.into())),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).unwrap_or_default().trim();
            if text.is_empty() {
                return Ok(None);
            }
            let read = Decimal::from_str_exact(text);
            read.map(Some).map_err(|_| wrong(format!("`{text}` is no decimal of at most 28 digits")))
        }
        ValueRef::Real(_) | ValueRef::Blob(_) => Err(wrong("a float is no exact decimal".to_owned())),
    }
}

struct Sum;

impl Aggregate<Option<Decimal>, Option<String>> for Sum {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Option<Decimal>> {
        Ok(None)
    }

    fn step(&self, ctx: &mut Context<'_>, sum: &mut Option<Decimal>) -> rusqlite::Result<()> {
        if let Some(number) = argument(ctx, 0)? {
            let total = sum.unwrap_or_default().checked_add(number);
            *sum = Some(total.ok_or_else(|| wrong("the sum has more than 28 digits".to_owned()))?);
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, sum: Option<Option<Decimal>>) -> rusqlite::Result<Option<String>> {
        Ok(sum.flatten().map(|sum| sum.to_string()))
    }
}
