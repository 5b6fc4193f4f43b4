//! Values of the server as JSON, with every digit: numbers as numbers, days and times as ISO 8601, bytes as base64.

use std::fmt::Write as _;

use chrono::{Days, NaiveDate, NaiveDateTime, TimeDelta};
use data_encoding::BASE64;
use serde_json::{Number, Value};
use tiberius::numeric::Numeric;
use tiberius::time::Time;
use tiberius::{ColumnData, ColumnType};

/// Up to this, 2^51 ten-thousandths, an amount of `money` can be told from the binary fraction that the driver gives.
const MONEY_EXACT_MAX: f64 = 2_251_799_813_685_248.0;

/// What a value is in JSON, or why it cannot be told.
pub(super) fn value(of: ColumnType, cell: &ColumnData<'_>) -> Result<Value, String> {
    let value = match cell {
        ColumnData::U8(value) => value.map(Value::from),
        ColumnData::I16(value) => value.map(Value::from),
        ColumnData::I32(value) => value.map(Value::from),
        ColumnData::I64(value) => value.map(Value::from),
        ColumnData::Bit(value) => value.map(Value::from),
        ColumnData::F64(Some(amount)) if matches!(of, ColumnType::Money | ColumnType::Money4) => Some(money(*amount)?),
        ColumnData::F64(value) => value.map(Value::from),
        // As text, so that no digits come up that it does not have.
        ColumnData::F32(value) => value.map(|value| number(&value.to_string())).transpose()?,
        ColumnData::Numeric(value) => value.map(decimal).transpose()?,
        ColumnData::String(text) => text.as_ref().map(|text| Value::from(text.as_ref())),
        ColumnData::Xml(xml) => xml.as_ref().map(|xml| Value::from(xml.to_string())),
        ColumnData::Guid(id) => id.map(|id| Value::from(id.to_string())),
        ColumnData::Binary(bytes) => bytes.as_ref().map(|bytes| Value::from(BASE64.encode(bytes))),
        ColumnData::Date(date) => {
            date.map(|date| day(1, date.days()).map(|day| Value::from(day.to_string()))).transpose()?
        }
        ColumnData::Time(time) => time.map(|time| Value::from(clock(time))),
        ColumnData::DateTime2(at) => {
            at.map(|at| moment(at.date().days(), at.time(), 0).map(Value::from)).transpose()?
        }
        ColumnData::DateTimeOffset(at) => at
            .map(|at| {
                // The wire has the time of UTC, and beside it how far away the clock on the wall was.
                let (date, time) = (at.datetime2().date(), at.datetime2().time());
                let (sign, minutes) = (if at.offset() < 0 { '-' } else { '+' }, at.offset().unsigned_abs());
                let text = moment(date.days(), time, at.offset())?;
                Ok::<_, String>(Value::from(format!("{text}{sign}{:02}:{:02}", minutes / 60, minutes % 60)))
            })
            .transpose()?,
        ColumnData::DateTime(at) => at
            .map(|at| {
                // Three-hundredths of a second, to the nearest thousandth as the server writes them.
                let thousandths = (u64::from(at.seconds_fragments()) * 10 + 1) / 3;
                let start = NaiveDate::from_ymd_opt(1900, 1, 1).unwrap_or_default();
                let date = start.checked_add_signed(TimeDelta::days(at.days().into())).ok_or_else(unheard_of)?;
                Ok::<_, String>(Value::from(format!("{date}T{}", clock(Time::new(thousandths, 3)))))
            })
            .transpose()?,
        ColumnData::SmallDateTime(at) => at
            .map(|at| {
                let date = day(1900, at.days().into())?;
                let time = clock(Time::new(u64::from(at.seconds_fragments()) * 60, 0));
                Ok::<_, String>(Value::from(format!("{date}T{time}")))
            })
            .transpose()?,
    };
    Ok(value.unwrap_or(Value::Null))
}

fn unheard_of() -> String {
    "the day is not in any calendar".to_owned()
}

/// The day that comes so many days after the first one of a year.
fn day(year: i32, days: u32) -> Result<NaiveDate, String> {
    let start = NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default();
    start.checked_add_days(Days::new(days.into())).ok_or_else(unheard_of)
}

/// A day with its time, so many minutes away.
fn moment(days: u32, time: Time, minutes: i16) -> Result<String, String> {
    let at: NaiveDateTime = day(1, days)?.and_time(chrono::NaiveTime::MIN);
    let unit = 10_u64.pow(time.scale().into());
    let seconds = i64::try_from(time.increments() / unit).map_err(|_| unheard_of())?;
    let away = TimeDelta::seconds(seconds) + TimeDelta::minutes(minutes.into());
    let at = at.checked_add_signed(away).ok_or_else(unheard_of)?;
    Ok(format!("{}{}", at.format("%Y-%m-%dT%H:%M:%S"), fraction(time)))
}

/// A time of the day.
fn clock(time: Time) -> String {
    let seconds = time.increments() / 10_u64.pow(time.scale().into());
    format!("{:02}:{:02}:{:02}{}", seconds / 3600, seconds / 60 % 60, seconds % 60, fraction(time))
}

/// The part of a second, without what says nothing.
fn fraction(time: Time) -> String {
    let part = time.increments() % 10_u64.pow(time.scale().into());
    let width = usize::from(time.scale());
    let text = format!(".{part:0width$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn number(text: &str) -> Result<Value, String> {
    text.parse::<Number>().map(Value::Number).map_err(|error| format!("`{text}` is no number: {error}"))
}

/// All digits, those behind the point as many as the column has.
fn decimal(value: Numeric) -> Result<Value, String> {
    let scale = usize::from(value.scale());
    let mut text = format!("{:0width$}", value.value().unsigned_abs(), width = scale + 1);
    if scale > 0 {
        text.insert(text.len() - scale, '.');
    }
    if value.value() < 0 {
        text.insert(0, '-');
    }
    number(&text)
}

/// The driver gives amounts as binary fractions: the nearest ten-thousandth is what the server has, unless it is huge.
fn money(amount: f64) -> Result<Value, String> {
    let scaled = (amount * 10_000.0).round();
    if scaled.abs() >= MONEY_EXACT_MAX {
        return Err(
            "this amount of `money` is too large to be read exactly; write `CAST(… AS decimal(19, 4))`".to_owned()
        );
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is a whole number, and was just found small enough")]
    let scaled = scaled as i64;
    let mut text = String::new();
    let sign = if scaled < 0 { "-" } else { "" };
    let (whole, part) = (scaled.unsigned_abs() / 10_000, scaled.unsigned_abs() % 10_000);
    // Writing to a text cannot fail.
    let _ = write!(text, "{sign}{whole}.{part:04}");
    number(&text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime};

    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "so a test stays a line of data")]
    fn check(of: ColumnType, data: ColumnData<'_>, expected: &str) {
        assert_eq!(value(of, &data).unwrap().to_string(), expected);
    }

    #[test]
    fn values_keep_their_digits() {
        use ColumnType::{BigVarBin, Float4, Guid, Int8, Money, NVarchar, Numericn};
        check(Int8, ColumnData::I64(Some(i64::MIN)), "-9223372036854775808");
        check(Int8, ColumnData::I64(None), "null");
        check(Numericn, ColumnData::Numeric(Some(Numeric::new_with_scale(-5, 2))), "-0.05");
        check(Numericn, ColumnData::Numeric(Some(Numeric::new_with_scale(1250, 2))), "12.50");
        let most = 99_999_999_999_999_999_999_999_999_999_999_999_999;
        check(
            Numericn,
            ColumnData::Numeric(Some(Numeric::new_with_scale(most, 10))),
            "9999999999999999999999999999.9999999999",
        );
        check(
            Numericn,
            ColumnData::Numeric(Some(Numeric::new_with_scale(7, 38))),
            "0.00000000000000000000000000000000000007",
        );
        check(Money, ColumnData::F64(Some(-0.07)), "-0.0700");
        check(Money, ColumnData::F64(Some(225_179_981_368.524_7)), "225179981368.5247");
        assert!(value(Money, &ColumnData::F64(Some(225_179_981_368.6))).is_err());
        check(Float4, ColumnData::F32(Some(0.1)), "0.1");
        check(NVarchar, ColumnData::String(Some("橡木灯".into())), "\"橡木灯\"");
        check(BigVarBin, ColumnData::Binary(Some((&[0_u8, 255][..]).into())), "\"AP8=\"");
        check(Guid, ColumnData::Guid(Some(tiberius::Uuid::from_u128(1))), "\"00000000-0000-0000-0000-000000000001\"");
    }

    #[test]
    fn days_and_times() {
        use ColumnType::{Daten, Datetime, Datetime2, Datetime4, DatetimeOffsetn, Timen};
        // 2026-11-22 is the 739,941st day after the first.
        let day = Date::new(739_941);
        check(Daten, ColumnData::Date(Some(day)), "\"2026-11-22\"");
        check(Daten, ColumnData::Date(Some(Date::new(0))), "\"0001-01-01\"");
        check(Timen, ColumnData::Time(Some(Time::new(863_999_999_999, 7))), "\"23:59:59.9999999\"");
        let at = DateTime2::new(day, Time::new(612_000_500, 4));
        check(Datetime2, ColumnData::DateTime2(Some(at)), "\"2026-11-22T17:00:00.05\"");
        let offset = DateTimeOffset::new(DateTime2::new(day, Time::new(72_000, 0)), 480);
        check(DatetimeOffsetn, ColumnData::DateTimeOffset(Some(offset)), "\"2026-11-23T04:00:00+08:00\"");
        let offset = DateTimeOffset::new(DateTime2::new(day, Time::new(0, 0)), -210);
        check(DatetimeOffsetn, ColumnData::DateTimeOffset(Some(offset)), "\"2026-11-21T20:30:00-03:30\"");
        check(
            Datetime,
            ColumnData::DateTime(Some(DateTime::new(46_346, 300 * 3600 + 1))),
            "\"2026-11-22T01:00:00.003\"",
        );
        check(Datetime, ColumnData::DateTime(Some(DateTime::new(-53_690, 2))), "\"1753-01-01T00:00:00.007\"");
        check(Datetime4, ColumnData::SmallDateTime(Some(SmallDateTime::new(46_346, 61))), "\"2026-11-22T01:01:00\"");
    }
}
