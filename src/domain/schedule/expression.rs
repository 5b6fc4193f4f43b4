//! Cron expressions: what they may say, and exactly what is wrong with one that says something else.
//!
//! Croner does the reading, but it skips empty list parts, takes names in any field and does not
//! name the field that is wrong; so every part is checked here first. Fields, in order:
//!
//! | Field | Values |
//! |---|---|
//! | second, only with six fields | 0-59 |
//! | minute | 0-59 |
//! | hour | 0-23 |
//! | day of month | 1-31, `?` as `*`, `L` the last day, `LW` the last weekday, `15W` the weekday nearest the 15th |
//! | month | 1-12, JAN-DEC |
//! | weekday | 0-7 (0 and 7 are Sunday), SUN-SAT, `?` as `*`, `FRI#2` the second Friday, `FRIL` the last |
//!
//! Everywhere `*`, `*/15`, `1-5`, `1-30/2` and lists of these. `15W` stays in its month. When day of month and weekday
//! are both set, a date that matches **either** is due; when one of them begins with `*`, as in `*/2`, it must match
//! **both**. That is crontab(5)'s rule, not croner's. `+` before the weekday asks for both in any case, as in
//! `0 0 13 * +FRI`.
//!
//! Nicknames: `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`. There is no year field:
//! one day in one year is a run by hand or a `wait`, not a schedule.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::Error;
use super::rule::Timing;
use crate::limits;

/// Reads an expression: croner's form of it, and how it behaves when the clocks change.
pub(super) fn parse(text: &str) -> Result<(Cron, Timing), Error> {
    let text = text.trim();
    if text.len() > limits::CRON_BYTES_MAX {
        return Err(Error::TooLong { bytes: text.len() });
    }
    let full = if text.starts_with('@') { nickname(text)? } else { text };
    let fields: Vec<&str> = full.split_whitespace().collect();
    if fields.iter().any(|field| field.contains("TZ=")) {
        return Err(Error::ZoneInside { expression: text.into() });
    }
    let kinds = match fields.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        count => return Err(Error::FieldCount { expression: text.into(), count }),
    };
    for (kind, field) in kinds.iter().zip(&fields) {
        kind.check(field).map_err(|(part, wrong)| Error::Field {
            expression: text.into(),
            field: kind.name,
            part,
            problem: wrong.problem,
            help: wrong.help,
        })?;
    }
    let (time_of_day, dates) = fields.split_at(fields.len() - 3);
    let timing =
        if time_of_day.iter().any(|field| field.starts_with('*')) { Timing::RealTime } else { Timing::ClockBound };
    let both = dates[0].starts_with(['*', '?']) || dates[2].starts_with(['*', '?']);
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).dom_and_dow(both).build();
    let cron =
        parser.parse(full).map_err(|cause| Error::Refused { expression: text.into(), cause: cause.to_string() })?;
    Ok((cron, timing))
}

fn nickname(text: &str) -> Result<&'static str, Error> {
    match text.to_ascii_lowercase().as_str() {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ => Err(Error::Nickname { text: text.into() }),
    }
}

/// What one field may hold.
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    /// Three-letter names, of `min` and up.
    names: &'static [&'static str],
    /// The unit that `every` uses for a step past the end of this field.
    every: Option<&'static str>,
}

/// Why a part of a field is refused.
struct Wrong {
    problem: &'static str,
    help: String,
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIELDS: [Field; 6] = [
    Field { name: "second", min: 0, max: 59, names: &[], every: Some("s") },
    Field { name: "minute", min: 0, max: 59, names: &[], every: Some("m") },
    Field { name: "hour", min: 0, max: 23, names: &[], every: Some("h") },
    Field { name: DAY, min: 1, max: 31, names: &[], every: None },
    Field { name: "month", min: 1, max: 12, names: &MONTHS, every: None },
    Field { name: WEEKDAY, min: 0, max: 7, names: &WEEKDAYS, every: None },
];
const DAY: &str = "day of month";
const WEEKDAY: &str = "weekday";

impl Field {
    /// Checks each part of the list; the first wrong one comes back with its reason.
    fn check(&self, field: &str) -> Result<(), (String, Wrong)> {
        let field = if self.name == WEEKDAY { field.strip_prefix('+').unwrap_or(field) } else { field };
        field.split(',').try_for_each(|part| self.check_part(part).map_err(|wrong| (part.to_owned(), wrong)))
    }

    fn check_part(&self, part: &str) -> Result<(), Wrong> {
        let part = part.to_ascii_uppercase();
        if part == "*" || (part == "?" && (self.name == DAY || self.name == WEEKDAY)) {
            return Ok(());
        }
        if part.is_empty() {
            return Err(Wrong { problem: "is empty", help: format!("write {}", self.values()) });
        }
        if let Some((range, step)) = part.split_once('/') {
            return self.check_step(range, step);
        }
        if self.name == DAY {
            if part == "L" || part == "LW" {
                return Ok(());
            }
            if let Some(day) = part.strip_suffix('W') {
                return self.value(day).map(|_| ());
            }
        }
        if self.name == WEEKDAY {
            if let Some((days, nth)) = part.split_once('#') {
                if !matches!(nth, "1" | "2" | "3" | "4" | "5" | "L") {
                    let help = "write `#1` to `#5`, or `#L` for the last, as in `FRI#2`".into();
                    return Err(Wrong { problem: "does not count weekdays", help });
                }
                return self.check_range(days);
            }
            if let Some(day) = part.strip_suffix('L') {
                let help = "write which weekday: `FRIL` is the last Friday of the month".into();
                return if day.is_empty() {
                    Err(Wrong { problem: "names no weekday", help })
                } else {
                    self.value(day).map(|_| ())
                };
            }
        }
        self.check_range(&part)
    }

    fn check_step(&self, range: &str, step: &str) -> Result<(), Wrong> {
        let number: Option<u16> = step.parse().ok();
        let Some(number) = number.filter(|number| *number > 0) else {
            let help = format!("write a whole number of at least 1 behind the `/`, as in `*/{}`", self.max / 4 + 1);
            return Err(Wrong { problem: "has no step", help });
        };
        if range == "*" {
            if number <= self.max - self.min {
                return Ok(());
            }
            let help = match self.every {
                Some(unit) => format!("write `every: {number}{unit}` instead of `cron`"),
                None => format!("use a step of at most {}", self.max - self.min),
            };
            return Err(Wrong { problem: "steps past the end of its field", help });
        }
        if range.contains('-') {
            return self.check_range(range);
        }
        let start = if range.is_empty() { self.min } else { self.value(range)? };
        let range = if start == self.min { "*".into() } else { format!("{start}-{}", self.max) };
        Err(Wrong { problem: "steps without a range", help: format!("write `{range}/{number}`") })
    }

    /// `a` or `a-b`.
    fn check_range(&self, part: &str) -> Result<(), Wrong> {
        let Some((first, last)) = part.split_once('-') else {
            return self.value(part).map(|_| ());
        };
        let (first, mut last) = (self.value(first)?, (self.value(last)?, last));
        if self.name == WEEKDAY && last.1 == "SUN" {
            last.0 = 7;
        }
        let last = last.0;
        if first <= last {
            return Ok(());
        }
        let span = |from: u16, to: u16| if from == to { from.to_string() } else { format!("{from}-{to}") };
        let fixed = match (self.name, first) {
            (WEEKDAY, 7) => span(0, last),
            (WEEKDAY, _) => format!("{},{}", span(first, 6), span(0, last)),
            _ => format!("{},{}", span(first, self.max), span(self.min, last)),
        };
        Err(Wrong { problem: "runs backwards", help: format!("write `{fixed}`") })
    }

    /// A number or a name of this field.
    fn value(&self, text: &str) -> Result<u16, Wrong> {
        if let Some(place) = self.names.iter().position(|name| *name == text) {
            return Ok(self.min + u16::try_from(place).unwrap_or(0));
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        let problem = if digits { "is out of range" } else { "cannot be read" };
        let inside = number.filter(|number| (self.min..=self.max).contains(number));
        inside.ok_or_else(|| Wrong { problem, help: format!("write {}", self.values()) })
    }

    /// The values of this field, for people.
    fn values(&self) -> String {
        match self.name {
            DAY => "1 to 31, `L` for the last day, or `15W` for the weekday nearest the 15th".into(),
            WEEKDAY => "0 to 7 (0 and 7 are Sunday) or SUN to SAT, `FRI#2` or `FRIL`".into(),
            _ if self.names.is_empty() => format!("{} to {}, or `*`", self.min, self.max),
            _ => format!("{} to {} or {} to {}", self.min, self.max, self.names[0], self.names[self.names.len() - 1]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, message: &str) {
        let error = parse(expression).map_or_else(|error| error.to_string(), |(_, timing)| format!("{timing:?}"));
        assert_eq!(error, message, "{expression}");
    }

    #[test]
    fn says_which_field_is_wrong() {
        check("61 * * * *", "minute `61` in cron `61 * * * *` is out of range: write 0 to 59, or `*`");
        check("0 24 * * *", "hour `24` in cron `0 24 * * *` is out of range: write 0 to 23, or `*`");
        check(
            "0 0 32 * *",
            "day of month `32` in cron `0 0 32 * *` is out of range: write 1 to 31, `L` for the last day, or `15W` for \
             the weekday nearest the 15th",
        );
        check("0 0 1 13 *", "month `13` in cron `0 0 1 13 *` is out of range: write 1 to 12 or JAN to DEC");
        check(
            "0 0 * * XYZ",
            "weekday `XYZ` in cron `0 0 * * XYZ` cannot be read: write 0 to 7 (0 and 7 are Sunday) or SUN to SAT, \
             `FRI#2` or `FRIL`",
        );
        check("60 * * * * *", "second `60` in cron `60 * * * * *` is out of range: write 0 to 59, or `*`");
        check("0 MON * * *", "hour `MON` in cron `0 MON * * *` cannot be read: write 0 to 23, or `*`");
        check("1,,2 * * * *", "minute `` in cron `1,,2 * * * *` is empty: write 0 to 59, or `*`");
        check(
            "*/90 * * * *",
            "minute `*/90` in cron `*/90 * * * *` steps past the end of its field: write `every: 90m` instead of \
            `cron`",
        );
        check(
            "*/0 * * * *",
            "minute `*/0` in cron `*/0 * * * *` has no step: write a whole number of at least 1 behind the `/`, as in \
            `*/15`",
        );
        check("5/15 * * * *", "minute `5/15` in cron `5/15 * * * *` steps without a range: write `5-59/15`");
        check("0/15 * * * *", "minute `0/15` in cron `0/15 * * * *` steps without a range: write `*/15`");
        check("0 22-2 * * *", "hour `22-2` in cron `0 22-2 * * *` runs backwards: write `22-23,0-2`");
        check("0 0 * * FRI-MON", "weekday `FRI-MON` in cron `0 0 * * FRI-MON` runs backwards: write `5-6,0-1`");
        check("0 0 * * 7-2", "weekday `7-2` in cron `0 0 * * 7-2` runs backwards: write `0-2`");
        check(
            "0 0 * * L",
            "weekday `L` in cron `0 0 * * L` names no weekday: write which weekday: `FRIL` is the last Friday of the \
            month",
        );
        check(
            "0 0 * * FRI#6",
            "weekday `FRI#6` in cron `0 0 * * FRI#6` does not count weekdays: write `#1` to `#5`, or `#L` for the \
            last, as in `FRI#2`",
        );
    }

    #[test]
    fn says_what_is_wrong_with_the_whole() {
        check(
            "0 2 * *",
            "cron `0 2 * *` has 4 fields: write five (minute, hour, day of month, month, weekday), or six with the \
            second first",
        );
        check(
            "0 0 2 * * * 2027",
            "cron `0 0 2 * * * 2027` has 7 fields: leave the year out; for one day in one year, trigger the workflow \
            by hand",
        );
        check(
            "@reboot",
            "`@reboot` is not a nickname: use `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` or \
            `@annually`",
        );
        check("@every 5m", "`@every 5m` is not a nickname: write `every: 5m` instead of `cron`");
        check(
            "CRON_TZ=Asia/Tokyo 0 2 * * *",
            "cron `CRON_TZ=Asia/Tokyo 0 2 * * *` names a time zone: write it beside the expression, as in `timezone: \
            Asia/Shanghai`",
        );
        check(&"1,".repeat(200), "the cron expression has 400 bytes: write at most 256, or split the schedule");
        check(
            "",
            "cron `` has 0 fields: write five (minute, hour, day of month, month, weekday), or six with the second \
            first",
        );
    }

    #[test]
    fn a_star_in_the_time_of_day_follows_real_time() {
        for expression in
            ["* * * * *", "*/15 * * * *", "0 * * * *", "0 */2 * * *", "*/10 2 * * *", "* 30 2 * * *", "@hourly"]
        {
            check(expression, "RealTime");
        }
        for expression in [
            "30 2 * * *",
            "0,30 2 * * *",
            "0 9-17 * * MON-FRI",
            "0 0-23 * * *",
            "0 30 2 * * *",
            "@daily",
            "@midnight",
            "@weekly",
        ] {
            check(expression, "ClockBound");
        }
    }

    #[test]
    fn takes_everything_the_table_promises() {
        for expression in [
            "0 0 ? * ?",
            "0 0 L * *",
            "0 0 LW * *",
            "0 0 15W * *",
            "0 0 * * FRI#2",
            "0 0 * * friL",
            "0 0 * * 5#L",
            "0 0 1 * +MON",
            "0 0 * * MON-FRI#2",
            "0 0 * * SAT-SUN",
            "0 0 * * 5-7",
            "0 0 * jan-mar,DEC *",
            "1-30/2 0 * * *",
            "0 0 1-7 * */2",
        ] {
            check(expression, "ClockBound");
        }
    }
}
