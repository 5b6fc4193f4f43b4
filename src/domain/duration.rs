//! Durations as people write them: `500ms`, `90s`, `20m`, `2h`, `3d`, and joined, `1h30m`.
//!
//! A number without a unit is refused, because `timeout: 30` has meant both seconds and
//! milliseconds to somebody. A day is 24 hours; what follows the calendar is a cron rule.

use std::time::Duration;

use crate::limits;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.problem(), self.help())]
pub enum Error {
    /// A bare number.
    NoUnit { text: String },
    /// A unit that we do not use, though we may know what is meant.
    Unit { text: String, unit: String },
    /// `30m1h` or `1h1h`: units come once each, the largest first.
    Order { text: String },
    /// `1.5h`: whole numbers only, so that every duration prints as it was written.
    Fraction { text: String },
    /// Longer than [`limits::DURATION_MAX`].
    TooLong { text: String },
    /// Anything else.
    Other { text: String },
}

impl Error {
    /// What is wrong, without the remedy.
    pub fn problem(&self) -> String {
        match self {
            Self::NoUnit { text } => format!("`{text}` has no unit"),
            Self::Unit { text, unit } => format!("`{unit}` in `{text}` is not a unit of time"),
            Self::Order { text } => format!("`{text}` does not go from the largest unit to the smallest"),
            Self::Fraction { text } => format!("`{text}` has a fraction"),
            Self::TooLong { text } => format!("`{text}` is longer than {}", format(limits::DURATION_MAX)),
            Self::Other { text } => format!("`{text}` is not a duration"),
        }
    }

    /// What to write instead.
    pub fn help(&self) -> String {
        match self {
            Self::NoUnit { text } => format!("write `{text}s` for seconds, or use `ms`, `m`, `h` or `d`"),
            Self::Unit { text, unit } => match meant(unit) {
                Some(right) => format!("write `{}`", text.replacen(unit.as_str(), right, 1).replace(' ', "")),
                None => "use `ms`, `s`, `m`, `h` or `d`, as in `90s` or `1h30m`".into(),
            },
            Self::Order { .. } => "write each unit once and the largest first, as in `1h30m`".into(),
            Self::Fraction { .. } => "write a whole number of a smaller unit, as in `90m` or `1h30m`".into(),
            Self::TooLong { .. } => "write a shorter time".into(),
            Self::Other { .. } => "write a number and a unit, as in `90s`, `20m` or `1h30m`".into(),
        }
    }
}

/// Units from the largest to the smallest, with their milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration of whole milliseconds, from zero to [`limits::DURATION_MAX`].
pub fn parse(text: &str) -> Result<Duration, Error> {
    let text = text.trim();
    let shown = || text.chars().take(40).collect::<String>();
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() || units.len() == UNITS.len() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(Error::Other { text: shown() });
        }
        if tail.starts_with(['.', ',']) {
            return Err(Error::Fraction { text: shown() });
        }
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        if unit.is_empty() {
            return Err(Error::NoUnit { text: shown() });
        }
        let Some((_, millis)) = units.find(|(name, _)| *name == unit) else {
            let known = UNITS.iter().any(|(name, _)| *name == unit);
            return Err(if known {
                Error::Order { text: shown() }
            } else {
                Error::Unit { text: shown(), unit: unit.chars().take(20).collect() }
            });
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*millis));
        total = part
            .and_then(|part| total.checked_add(part))
            .filter(|total| Duration::from_millis(*total) <= limits::DURATION_MAX)
            .ok_or_else(|| Error::TooLong { text: shown() })?;
        rest = next;
    }
    Ok(Duration::from_millis(total))
}

/// Prints a duration in its shortest exact form, such as `1h30m`; zero is `0s`. Parts of a
/// millisecond are dropped.
pub fn format(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, millis) in UNITS {
        if left >= millis {
            text += &(left / millis).to_string();
            text += name;
            left %= millis;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// The unit that a longer spelling stands for.
fn meant(unit: &str) -> Option<&'static str> {
    match unit.trim().to_ascii_lowercase().as_str() {
        "d" | "day" | "days" => Some("d"),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "ms" | "msec" | "millis" | "milliseconds" => Some("ms"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, millis: u64, printed: &str) {
        assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        assert_eq!(format(Duration::from_millis(millis)), printed, "{text}");
    }

    #[track_caller]
    fn refuse(text: &str, message: &str) {
        let error = parse(text).map_or_else(|error| error.to_string(), |value| format!("{value:?}"));
        assert_eq!(error, message, "{text}");
    }

    #[test]
    fn reads_and_prints() {
        check("90s", 90_000, "1m30s");
        check("2s", 2_000, "2s");
        check("1m", 60_000, "1m");
        check("20m", 1_200_000, "20m");
        check("2h", 7_200_000, "2h");
        check("90d", 90 * 86_400_000, "90d");
        check("500ms", 500, "500ms");
        check("1h30m", 5_400_000, "1h30m");
        check(" 1d2h3m4s5ms ", 93_784_005, "1d2h3m4s5ms");
        check("0s", 0, "0s");
        check("1500ms", 1_500, "1s500ms");
        check("36500d", 36_500 * 86_400_000, "36500d");
    }

    #[test]
    fn refuses_and_says_what_to_write() {
        refuse("30", "`30` has no unit: write `30s` for seconds, or use `ms`, `m`, `h` or `d`");
        refuse("1h30", "`1h30` has no unit: write `1h30s` for seconds, or use `ms`, `m`, `h` or `d`");
        refuse("5min", "`min` in `5min` is not a unit of time: write `5m`");
        refuse("2 days", "` days` in `2 days` is not a unit of time: write `2d`");
        refuse("2H", "`H` in `2H` is not a unit of time: write `2h`");
        refuse("2w", "`w` in `2w` is not a unit of time: use `ms`, `s`, `m`, `h` or `d`, as in `90s` or `1h30m`");
        refuse(
            "30m1h",
            "`30m1h` does not go from the largest unit to the smallest: write each unit once and the largest first, \
             as in `1h30m`",
        );
        refuse("1.5h", "`1.5h` has a fraction: write a whole number of a smaller unit, as in `90m` or `1h30m`");
        for text in ["", " ", "-5s", "s", "soon", "１s"] {
            assert!(matches!(parse(text), Err(Error::Other { .. })), "{text}");
        }
        for text in ["36501d", "99999999999999999999s", "18446744073709551615d", "36500d1ms"] {
            assert!(matches!(parse(text), Err(Error::TooLong { .. })), "{text}");
        }
    }
}
