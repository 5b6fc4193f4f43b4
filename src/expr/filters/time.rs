//! Filters on instants, which are RFC 3339 text with an offset. None of them reads the clock.
//!
//! Days, weeks, months and years are calendar steps: with `zone` they keep the wall time of that zone,
//! without it that of the offset in the text. Hours and less are exact durations. A wall time inside a
//! spring gap moves to the first valid moment after it; of the two in an autumn overlap, the first is meant.

use std::ops::RangeInclusive;

use chrono::{
    DateTime, Days, FixedOffset, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, SecondsFormat,
};
use chrono::{Datelike, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::Value as Json;

use super::super::eval;
use super::{Args, Fault};

pub(super) const SPAN_PARAMS: &[&str] =
    &["span", "years", "months", "weeks", "days", "hours", "minutes", "seconds", "zone"];

/// Where `zone` stands in [`SPAN_PARAMS`].
const SPAN_ZONE: usize = 8;

/// Years that RFC 3339 can write.
const YEARS: RangeInclusive<i32> = 0..=9999;

/// Longest wall-clock gap that any zone has had (Samoa skipped a day in 2011), minutes.
const GAP_MINUTES_MAX: i64 = 25 * 60;

/// Reads a time and writes it as RFC 3339. Without `format`: RFC 3339, a date, or a date and time. With it:
/// a `strftime` format, or `"unix"` / `"unix_ms"`. `zone` is that of a text without an offset (UTC by default);
/// a time that has one is moved to `zone`.
pub(super) fn parse_date(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let zone = Zone::of(args, 1)?;
    let format = args.text(0)?;
    let at = if let Some("unix" | "unix_ms") = format {
        epoch(value, format == Some("unix_ms"))?
    } else {
        let text = args.input(value)?;
        match (format, read_offset(&text, format), read_naive(&text, format)) {
            (_, Some(at), _) => in_range(at)?,
            (_, None, Some(naive)) => zone.unwrap_or(Zone::Named(Tz::UTC)).earliest(naive)?,
            (Some(format), ..) => {
                return Err(Fault::value(format!("`{}` is not a time of the form `{format}`", short(&text))));
            }
            (None, ..) => return Err(not_a_time(&text)),
        }
    };
    written(zone.map_or(at, |zone| zone.shown(at)))
}

/// Writes a time in a `strftime` format, or as `"unix"` seconds or `"unix_ms"`, in `zone` when given.
pub(super) fn format_date(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let at = instant(value, args)?;
    let at = Zone::of(args, 1)?.map_or(at, |zone| zone.shown(at));
    let format = args.text(0)?.unwrap_or_default();
    match format {
        "unix" => return Ok(Json::from(at.timestamp())),
        "unix_ms" => return Ok(Json::from(at.timestamp_millis())),
        _ => {}
    }
    let items = chrono::format::StrftimeItems::new(format).parse();
    let items = items.map_err(|_| {
        Fault::value(format!("`{}` is not a format", short(format))).with_help("use `%Y-%m-%d %H:%M:%S`")
    })?;
    args.budget.bytes(64 * items.len())?;
    Ok(Json::from(at.format_with_items(items.iter()).to_string()))
}

pub(super) fn plus(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    moved(value, args, 1)
}

pub(super) fn minus(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    moved(value, args, -1)
}

/// The first moment of the day.
pub(super) fn start_of_day(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let at = instant(value, args)?;
    let zone = Zone::of(args, 0)?.unwrap_or(Zone::Offset(*at.offset()));
    let day = zone.wall(at).date();
    written(zone.earliest(day.and_time(NaiveTime::MIN))?)
}

/// The last millisecond of the day.
pub(super) fn end_of_day(value: &Json, args: &Args<'_, '_>) -> Result<Json, Fault> {
    let at = instant(value, args)?;
    let zone = Zone::of(args, 0)?.unwrap_or(Zone::Offset(*at.offset()));
    let tomorrow = zone.wall(at).date().succ_opt().ok_or_else(out_of_range)?;
    let end = zone.earliest(tomorrow.and_time(NaiveTime::MIN))? - TimeDelta::milliseconds(1);
    written(zone.shown(end))
}

/// What wall time is read in.
#[derive(Clone, Copy)]
enum Zone {
    Named(Tz),
    Offset(FixedOffset),
}

impl Zone {
    fn of(args: &Args<'_, '_>, place: usize) -> Result<Option<Self>, Fault> {
        let Some(name) = args.text(place)? else { return Ok(None) };
        let zone = name.parse().map_err(|_| {
            Fault::value(format!("there is no time zone `{}`", short(name)))
                .with_help("use a name such as `Europe/Berlin`")
        })?;
        Ok(Some(Self::Named(zone)))
    }

    fn wall(self, at: DateTime<FixedOffset>) -> NaiveDateTime {
        self.shown(at).naive_local()
    }

    /// The same instant with the offset of this zone.
    fn shown(self, at: DateTime<FixedOffset>) -> DateTime<FixedOffset> {
        match self {
            Self::Named(zone) => {
                let local = at.with_timezone(&zone);
                at.with_timezone(&local.offset().fix())
            }
            Self::Offset(offset) => at.with_timezone(&offset),
        }
    }

    /// The instant of a wall time: the first of two, or the first valid one after a gap.
    fn earliest(self, wall: NaiveDateTime) -> Result<DateTime<FixedOffset>, Fault> {
        if !YEARS.contains(&wall.year()) {
            return Err(out_of_range());
        }
        let Self::Named(zone) = self else {
            let Self::Offset(offset) = self else { return Err(out_of_range()) };
            return offset.from_local_datetime(&wall).single().ok_or_else(out_of_range);
        };
        let valid = |wall: &NaiveDateTime| match zone.from_local_datetime(wall) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.fixed_offset()),
            LocalResult::None => None,
        };
        if let Some(at) = valid(&wall) {
            return Ok(at);
        }
        // Gaps end on a whole minute of wall time.
        let minute = wall - TimeDelta::nanoseconds(i64::from(wall.and_utc().timestamp_subsec_nanos()));
        let minute = minute - TimeDelta::seconds(minute.and_utc().timestamp().rem_euclid(60));
        (1..=GAP_MINUTES_MAX)
            .find_map(|minutes| valid(&minute.checked_add_signed(TimeDelta::minutes(minutes))?))
            .ok_or_else(out_of_range)
    }
}

/// A span of calendar steps, then an exact duration.
#[derive(Default)]
struct Span {
    months: i64,
    days: i64,
    millis: i64,
}

fn moved(value: &Json, args: &Args<'_, '_>, sign: i64) -> Result<Json, Fault> {
    let at = instant(value, args)?;
    let span = span(args)?;
    let zone = Zone::of(args, SPAN_ZONE)?;
    let mut at = zone.map_or(at, |zone| zone.shown(at));
    if span.months != 0 || span.days != 0 {
        let zone = zone.unwrap_or(Zone::Offset(*at.offset()));
        let wall = shift(zone.wall(at), span.months * sign, span.days * sign).ok_or_else(out_of_range)?;
        at = zone.earliest(wall)?;
    }
    let exact = TimeDelta::try_milliseconds(span.millis * sign).ok_or_else(out_of_range)?;
    at = in_range(at.checked_add_signed(exact).ok_or_else(out_of_range)?)?;
    written(zone.map_or(at, |zone| zone.shown(at)))
}

/// Months first, to the last day of a shorter month, then days.
fn shift(wall: NaiveDateTime, months: i64, days: i64) -> Option<NaiveDateTime> {
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    let wall = if months < 0 { wall.checked_sub_months(count) } else { wall.checked_add_months(count) }?;
    let count = Days::new(days.unsigned_abs());
    if days < 0 { wall.checked_sub_days(count) } else { wall.checked_add_days(count) }
}

fn span(args: &Args<'_, '_>) -> Result<Span, Fault> {
    let mut span = Span::default();
    if let Some(text) = args.text(0)? {
        read_span(text, &mut span).ok_or_else(|| {
            Fault::value(format!("`{}` is not a span of time", short(text)))
                .with_help("write `1d`, `2h30m` or `1y2mo`, with `y`, `mo`, `w`, `d`, `h`, `m`, `s`, `ms`")
        })?;
    }
    for (place, unit) in ["y", "mo", "w", "d", "h", "m", "s"].into_iter().enumerate() {
        if let Some(count) = args.whole(place + 1)? {
            add(&mut span, count, unit).ok_or_else(out_of_range)?;
        }
    }
    Ok(span)
}

fn read_span(text: &str, span: &mut Span) -> Option<()> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        add(span, count, &rest[..unit])?;
        rest = &rest[unit..];
    }
    Some(())
}

fn add(span: &mut Span, count: i64, unit: &str) -> Option<()> {
    let (sum, factor) = match unit {
        "y" => (&mut span.months, 12),
        "mo" => (&mut span.months, 1),
        "w" => (&mut span.days, 7),
        "d" => (&mut span.days, 1),
        "h" => (&mut span.millis, 3_600_000),
        "m" => (&mut span.millis, 60_000),
        "s" => (&mut span.millis, 1_000),
        "ms" => (&mut span.millis, 1),
        _ => return None,
    };
    *sum = sum.checked_add(count.checked_mul(factor)?)?;
    Some(())
}

fn instant(value: &Json, args: &Args<'_, '_>) -> Result<DateTime<FixedOffset>, Fault> {
    let Json::String(text) = value else {
        return Err(args.refuse("a time as text", value).with_help("read numbers with `parse_date(\"unix\")`"));
    };
    in_range(read_offset(text, None).ok_or_else(|| not_a_time(text))?)
}

fn read_offset(text: &str, format: Option<&str>) -> Option<DateTime<FixedOffset>> {
    match format {
        Some(format) => DateTime::parse_from_str(text, format).ok(),
        None => DateTime::parse_from_rfc3339(text).ok(),
    }
}

fn read_naive(text: &str, format: Option<&str>) -> Option<NaiveDateTime> {
    let day = |date: NaiveDate| date.and_time(NaiveTime::MIN);
    let read = |format: &str| {
        let time = NaiveDateTime::parse_from_str(text, format).ok();
        time.or_else(|| NaiveDate::parse_from_str(text, format).ok().map(day))
    };
    match format {
        Some(format) => read(format),
        None => ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d"].into_iter().find_map(read),
    }
}

fn epoch(value: &Json, millis: bool) -> Result<DateTime<FixedOffset>, Fault> {
    let count = match value {
        Json::String(text) => text.trim().parse().map_err(|_| not_a_time(text))?,
        other => eval::whole(other)?,
    };
    let at = if millis { DateTime::<Utc>::from_timestamp_millis(count) } else { DateTime::from_timestamp(count, 0) };
    in_range(at.ok_or_else(out_of_range)?.fixed_offset())
}

/// Refuses years that RFC 3339 cannot write.
fn in_range(at: DateTime<FixedOffset>) -> Result<DateTime<FixedOffset>, Fault> {
    if YEARS.contains(&at.naive_utc().year()) { Ok(at) } else { Err(out_of_range()) }
}

fn written(at: DateTime<FixedOffset>) -> Result<Json, Fault> {
    if YEARS.contains(&at.year()) {
        Ok(Json::from(at.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
    } else {
        Err(out_of_range())
    }
}

fn not_a_time(text: &str) -> Fault {
    Fault::value(format!("`{}` is not a time with an offset, as RFC 3339 writes it", short(text)))
        .with_help("times look like `2026-11-01T08:00:00+08:00`; read others with `parse_date(format, zone=…)`")
}

fn out_of_range() -> Fault {
    Fault::value("this time is out of range")
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
