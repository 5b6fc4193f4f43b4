//! Rates as people write them: `50/s`, `20/m`, `1000/h`, or over any duration, `100/10s`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::duration;

/// So many events in each stretch of time. Neither part can be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    per: Duration,
}

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.problem(), self.help())]
pub enum Error {
    /// No `/`.
    NoTime { text: String },
    /// What stands before the `/` is not a whole number from 1 to 4,294,967,295.
    Count { text: String },
    /// What stands behind the `/` is neither a unit nor a duration.
    Time { text: String, cause: duration::Error },
    /// Over no time at all.
    Zero { text: String },
}

impl Error {
    /// What is wrong, without the remedy.
    pub fn problem(&self) -> String {
        match self {
            Self::NoTime { text } => format!("`{text}` does not say in which time"),
            Self::Count { text } => format!("`{text}` does not start with a whole number of at least 1"),
            Self::Time { text, cause } => format!("`{text}` is not a rate, as {}", cause.problem()),
            Self::Zero { text } => format!("`{text}` is a rate over no time"),
        }
    }

    /// What to write instead.
    pub fn help(&self) -> String {
        match self {
            Self::NoTime { text } if text.parse::<NonZeroU32>().is_ok() => {
                format!("write `{text}/s`, or use `/m` or `/h`")
            }
            Self::Time { cause, .. } => cause.help(),
            _ => "write a number, `/` and a unit of time, as in `50/s`, `20/m` or `1000/h`".into(),
        }
    }
}

impl Rate {
    /// `count` events in each `per`; `None` when `per` is zero.
    pub fn new(count: NonZeroU32, per: Duration) -> Option<Self> {
        (!per.is_zero()).then_some(Self { count, per })
    }

    /// Events in each stretch of time.
    pub fn count(self) -> NonZeroU32 {
        self.count
    }

    /// The stretch of time, never zero.
    pub fn per(self) -> Duration {
        self.per
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let shown = || text.trim().chars().take(40).collect::<String>();
        let (count, per) = text.trim().split_once('/').ok_or_else(|| Error::NoTime { text: shown() })?;
        let plain = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse().ok().filter(|_| plain).ok_or_else(|| Error::Count { text: shown() })?;
        let one = if per.starts_with(|c: char| c.is_ascii_alphabetic()) { "1" } else { "" };
        let per = duration::parse(&format!("{one}{per}")).map_err(|cause| Error::Time { text: shown(), cause })?;
        Self::new(count, per).ok_or_else(|| Error::Zero { text: shown() })
    }
}

/// As people write it: `50/s`, `100/10s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = duration::format(self.per);
        let unit = per.strip_prefix('1').filter(|unit| unit.starts_with(|c: char| c.is_ascii_alphabetic()));
        let unit = unit.filter(|unit| !unit.contains(|c: char| c.is_ascii_digit()));
        write!(f, "{}/{}", self.count, unit.unwrap_or(&per))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, count: u32, seconds: u64, printed: &str) {
        let rate: Result<Rate, Error> = text.parse();
        assert_eq!(
            rate,
            Ok(Rate { count: NonZeroU32::new(count).unwrap_or(NonZeroU32::MAX), per: Duration::from_secs(seconds) })
        );
        assert_eq!(rate.map(|rate| rate.to_string()).as_deref(), Ok(printed));
    }

    #[track_caller]
    fn refuse(text: &str, message: &str) {
        let rate: Result<Rate, Error> = text.parse();
        assert_eq!(rate.map_or_else(|error| error.to_string(), |rate| rate.to_string()), message);
    }

    #[test]
    fn reads_and_prints() {
        check("50/s", 50, 1, "50/s");
        check("20/m", 20, 60, "20/m");
        check("1000/h", 1000, 3_600, "1000/h");
        check("100/10s", 100, 10, "100/10s");
        check("1/1m30s", 1, 90, "1/1m30s");
        check("4294967295/d", u32::MAX, 86_400, "4294967295/d");
    }

    #[test]
    fn refuses_and_says_what_to_write() {
        const HELP: &str = "write a number, `/` and a unit of time, as in `50/s`, `20/m` or `1000/h`";
        refuse("50", "`50` does not say in which time: write `50/s`, or use `/m` or `/h`");
        refuse("fast", &format!("`fast` does not say in which time: {HELP}"));
        refuse("0/s", &format!("`0/s` does not start with a whole number of at least 1: {HELP}"));
        refuse("+5/s", &format!("`+5/s` does not start with a whole number of at least 1: {HELP}"));
        refuse("4294967296/s", &format!("`4294967296/s` does not start with a whole number of at least 1: {HELP}"));
        refuse("5/0s", &format!("`5/0s` is a rate over no time: {HELP}"));
        refuse("5/min", "`5/min` is not a rate, as `min` in `1min` is not a unit of time: write `1m`");
        refuse(
            "5/",
            "`5/` is not a rate, as `` is not a duration: write a number and a unit, as in `90s`, `20m` or `1h30m`",
        );
    }
}
