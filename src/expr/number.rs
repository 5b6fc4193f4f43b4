//! Numbers without floats: integers to 128 bits, decimals to 28 digits, and text beyond.

use std::cmp::Ordering;

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Number, Value as Json};

use super::Fault;
use super::ast::Operator;

/// A number that can be computed with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Exact {
    Integer(i128),
    Decimal(Decimal),
}

/// Digits after the point at most: what [`Decimal`] holds.
pub(super) const PLACES_MAX: u32 = Decimal::MAX_SCALE;
/// Largest power of a decimal; more would leave the exact range for any base that matters.
const POWER_MAX: u32 = 1_000;

impl Exact {
    /// Reads the text of a JSON number. `None` when it does not fit.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(integer) = text.parse() {
            return Some(Self::Integer(integer));
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let well_formed = mantissa.bytes().any(|b| b.is_ascii_digit())
            && mantissa.strip_prefix('-').unwrap_or(mantissa).bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && !mantissa.starts_with('.')
            && !mantissa.ends_with('.');
        let decimal = well_formed.then(|| Decimal::from_str_exact(mantissa).ok()).flatten()?;
        let scale = i64::from(decimal.scale()).checked_sub(exponent)?;
        let decimal = if scale >= 0 {
            let scale = u32::try_from(scale).ok().filter(|scale| *scale <= PLACES_MAX)?;
            Decimal::try_from_i128_with_scale(decimal.mantissa(), scale).ok()?
        } else {
            let factor = 10i128.checked_pow(u32::try_from(-scale).ok()?)?;
            Decimal::try_from_i128_with_scale(decimal.mantissa().checked_mul(factor)?, 0).ok()?
        };
        Some(Self::Decimal(decimal))
    }

    fn of(number: &Number) -> Result<Self, Fault> {
        Self::parse(number.as_str()).ok_or_else(|| {
            Fault::value(format!("`{}` has more digits than can be computed with", shorten(number.as_str())))
                .with_help("integers compute to 128 bits, decimals to 28 digits")
        })
    }

    fn decimal(self) -> Result<Decimal, Fault> {
        match self {
            Self::Decimal(decimal) => Ok(decimal),
            Self::Integer(integer) => Decimal::try_from_i128_with_scale(integer, 0)
                .map_err(|_| Fault::value(format!("`{integer}` is too large for decimal arithmetic"))),
        }
    }

    pub(super) fn is_zero(self) -> bool {
        match self {
            Self::Integer(integer) => integer == 0,
            Self::Decimal(decimal) => decimal.is_zero(),
        }
    }

    pub(super) fn json(self) -> Json {
        match self {
            Self::Integer(integer) => constant(&integer.to_string()),
            Self::Decimal(decimal) => constant(&decimal.to_string()),
        }
    }

    /// The whole part, towards zero.
    pub(super) fn whole(self) -> Self {
        match self {
            Self::Decimal(decimal) => decimal.trunc().to_i128().map_or(self, Self::Integer),
            Self::Integer(_) => self,
        }
    }

    /// This number with exactly `places` digits after the point, halves away from zero.
    pub(super) fn rescaled(self, places: u32) -> Result<Self, Fault> {
        let mut decimal = self.decimal()?.round_dp_with_strategy(places, RoundingStrategy::MidpointAwayFromZero);
        decimal.rescale(places);
        if decimal.scale() != places {
            return Err(Fault::value(format!("`{decimal}` has no room for {places} digits after the point")));
        }
        Ok(Self::Decimal(decimal))
    }

    /// This number rounded to `places` digits after the point; below zero rounds tens and hundreds.
    pub(super) fn rounded(self, places: i32) -> Result<Self, Fault> {
        let Ok(digits) = u32::try_from(places) else {
            let unit = 10i128.checked_pow(places.unsigned_abs()).ok_or_else(|| Fault::value("this rounds too far"))?;
            let shifted = binary(Operator::Divide, self, Self::Integer(unit))?.rounded(0)?.whole();
            return binary(Operator::Multiply, shifted, Self::Integer(unit));
        };
        Ok(match self {
            Self::Integer(_) => self,
            Self::Decimal(decimal) => {
                let rounded = decimal.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
                if digits == 0 { Self::Decimal(rounded).whole() } else { Self::Decimal(rounded) }
            }
        })
    }

    pub(super) fn absolute(self) -> Result<Self, Fault> {
        match self {
            Self::Integer(integer) => integer.checked_abs().map(Self::Integer).ok_or_else(overflow),
            Self::Decimal(decimal) => Ok(Self::Decimal(decimal.abs())),
        }
    }

    pub(super) fn negated(self) -> Result<Self, Fault> {
        match self {
            Self::Integer(integer) => integer.checked_neg().map(Self::Integer).ok_or_else(overflow),
            Self::Decimal(decimal) => Ok(Self::Decimal(-decimal)),
        }
    }
}

/// A number written in source or made here, as JSON; its text is kept.
pub(super) fn constant(text: &str) -> Json {
    text.parse::<Number>().map_or_else(|_| Json::String(text.to_owned()), Json::Number)
}

/// The number that a value is, ready to compute with.
pub(super) fn exact(value: &Json) -> Result<Exact, Fault> {
    match value {
        Json::Number(number) => Exact::of(number),
        Json::String(text) if Exact::parse(text).is_some() => {
            Err(Fault::value(format!("`{text}` is text, not a number"))
                .with_help("write `value | decimal` to compute with an amount in a string"))
        }
        other => Err(Fault::value(format!("expected a number, found {}", super::eval::described(other)))),
    }
}

/// `left operator right`, never rounded but where the module says so.
pub(super) fn binary(operator: Operator, left: Exact, right: Exact) -> Result<Exact, Fault> {
    let divides = matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Remainder);
    if divides && right.is_zero() {
        return Err(Fault::value("this divides by zero").with_help("test the divisor first: `a / b if b else 0`"));
    }
    if let (Exact::Integer(a), Exact::Integer(b)) = (left, right) {
        let integer = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::FloorDivide => floor_divide(a, b),
            Operator::Remainder => floor_divide(a, b).and_then(|quotient| a.checked_sub(quotient.checked_mul(b)?)),
            Operator::Divide if a.checked_rem(b) == Some(0) => a.checked_div(b),
            Operator::Power if b >= 0 => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            Operator::Divide | Operator::Power | Operator::Concat => return in_decimal(operator, left, right),
        };
        return integer.map(Exact::Integer).ok_or_else(overflow);
    }
    in_decimal(operator, left, right)
}

fn in_decimal(operator: Operator, left: Exact, right: Exact) -> Result<Exact, Fault> {
    let (a, b) = (left.decimal()?, right.decimal()?);
    // The remainder has the sign of the divisor, as in Jinja.
    let rest = || {
        let rest = a.checked_rem(b)?;
        let astray = !rest.is_zero() && rest.is_sign_negative() != b.is_sign_negative();
        if astray { rest.checked_add(b) } else { Some(rest) }
    };
    let decimal = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => a.checked_div(b).map(|quotient| quotient.normalize()),
        Operator::FloorDivide => rest().and_then(|rest| a.checked_sub(rest)?.checked_div(b)).map(|whole| whole.round()),
        Operator::Remainder => rest(),
        Operator::Power => {
            let power = b.to_i32().filter(|power| b.fract().is_zero() && power.unsigned_abs() <= POWER_MAX);
            let power =
                power.ok_or_else(|| Fault::value(format!("a power must be a whole number up to {POWER_MAX}")))?;
            let product = (0..power.unsigned_abs()).try_fold(Decimal::ONE, |product, _| product.checked_mul(a));
            if power < 0 {
                product.and_then(|product| Decimal::ONE.checked_div(product)).map(|inverse| inverse.normalize())
            } else {
                product
            }
        }
        Operator::Concat => None,
    };
    let result = decimal.map(Exact::Decimal).ok_or_else(overflow)?;
    Ok(if operator == Operator::FloorDivide { result.whole() } else { result })
}

fn floor_divide(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    let exact = a.checked_rem(b)? == 0;
    if exact || (a < 0) == (b < 0) { Some(quotient) } else { quotient.checked_sub(1) }
}

fn overflow() -> Fault {
    Fault::value("the result is too large to be exact").with_help("integers compute to 128 bits, decimals to 28 digits")
}

/// Which of two numbers is greater.
pub(super) fn order(left: &Number, right: &Number) -> Result<Ordering, Fault> {
    match (Exact::of(left)?, Exact::of(right)?) {
        (Exact::Integer(a), Exact::Integer(b)) => Ok(a.cmp(&b)),
        // An integer that no decimal can hold lies beyond every decimal on its side of zero.
        (Exact::Integer(a), b @ Exact::Decimal(_)) if Exact::Integer(a).decimal().is_err() => {
            b.decimal().map(|_| a.cmp(&0))
        }
        (Exact::Decimal(_), Exact::Integer(b)) if Exact::Integer(b).decimal().is_err() => Ok(0.cmp(&b)),
        (a, b) => Ok(a.decimal()?.cmp(&b.decimal()?)),
    }
}

/// Whether two numbers are the same number, however they are written. Beyond the exact range the
/// texts decide.
pub(super) fn equal(left: &Number, right: &Number) -> bool {
    left.as_str() == right.as_str() || order(left, right).is_ok_and(Ordering::is_eq)
}

fn shorten(text: &str) -> String {
    if text.len() <= 40 { text.to_owned() } else { format!("{}…", text.chars().take(40).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_fits_and_nothing_else() {
        let read = |text| Exact::parse(text).map(|exact| exact.json().to_string());
        for (text, expected) in [
            ("12.50", Some("12.50")),
            ("-0.1", Some("-0.1")),
            ("1e3", Some("1000")),
            ("1.5e-3", Some("0.0015")),
            ("1.25E2", Some("125")),
            ("9223372036854775808", Some("9223372036854775808")),
            ("170141183460469231731687303715884105727", Some("170141183460469231731687303715884105727")),
            ("170141183460469231731687303715884105728", None),
            ("0.12345678901234567890123456789", None),
            ("1e400", None),
            ("1e9223372036854775807", None),
            ("1e-9223372036854775808", None),
            ("1_000", None),
            ("", None),
            ("abc", None),
            ("1.", None),
            (".5", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }
}
