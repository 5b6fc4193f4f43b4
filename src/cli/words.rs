//! Times, sizes and JSON members in the words of people.

use std::time::Duration;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::domain::duration;

/// A moment that somebody typed: an instant, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    Ago(Duration),
}

impl Moment {
    /// Reads RFC 3339 (`2026-11-01T08:00:00+08:00`) or a duration (`2h`, `1d12h`).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(at) = Timestamp::parse_rfc3339(text) {
            return Ok(Self::At(at));
        }
        let wrong = || format!("`{text}` is neither a time nor a duration: write `2026-11-01T08:00:00+08:00`, or `2h`");
        duration::parse(text).map(Self::Ago).map_err(|_| wrong())
    }

    /// The instant, seen from `now`.
    pub(super) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.minus(ago),
        }
    }
}

/// `3 s ago`, `2 h ago`, `in 5 min`: one unit, rounded down.
pub(super) fn age(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!("in {}", rough(at.since(now))) } else { format!("{} ago", rough(now.since(at))) }
}

/// `age` of an RFC 3339 text; nothing when it is none.
pub(super) fn age_of(text: &str, now: Timestamp) -> String {
    Timestamp::parse_rfc3339(text).map(|at| age(at, now)).unwrap_or_default()
}

fn rough(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        7_200..=172_799 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// `12 ms`, `1.23 s`, `2 min 5 s`.
pub(super) fn took(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis} ms"),
        1_000..=59_999 => format!("{}.{:02} s", millis / 1000, millis % 1000 / 10),
        60_000..=3_599_999 => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
        _ => format!("{} h {} min", millis / 3_600_000, millis % 3_600_000 / 60_000),
    }
}

/// The time from one RFC 3339 text to another.
pub(super) fn between(start: &str, end: &str) -> Option<String> {
    let (start, end) = (Timestamp::parse_rfc3339(start)?, Timestamp::parse_rfc3339(end)?);
    Some(took(u64::try_from(end.since(start).as_millis()).unwrap_or(u64::MAX)))
}

/// `0.4 ms`, `120 ms`, `1.23 s`.
pub(super) fn micros(us: u64) -> String {
    if us < 100_000 { format!("{}.{} ms", us / 1000, us % 1000 / 100) } else { took(us / 1000) }
}

/// `312 bytes`, `1.5 KiB`, `2.0 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        1 => "1 byte".to_owned(),
        0..KIB => format!("{bytes} bytes"),
        KIB..MIB => format!("{} KiB", tenths(KIB)),
        _ => format!("{} MiB", tenths(MIB)),
    }
}

/// `1 run`, `2 runs`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A member that is text; empty when it is not there.
pub(super) fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_default()
}

/// A member that is a whole number; zero when it is not there.
pub(super) fn number(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or_default()
}

/// A member that is a list; empty when it is not there.
pub(super) fn list<'v>(value: &'v Value, member: &str) -> &'v [Value] {
    value[member].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        let now = Timestamp::from_secs(1_795_338_000);
        for (secs, expected) in
            [(0, "0 s ago"), (90, "90 s ago"), (125, "2 min ago"), (7200, "2 h ago"), (400_000, "4 d ago")]
        {
            assert_eq!(age(now.minus(Duration::from_secs(secs)), now), expected);
        }
        assert_eq!(age(now.plus(Duration::from_mins(5)), now), "in 5 min");
        assert_eq!(age_of("2026-11-22T17:00:00+08:00", now), "0 s ago");
        assert_eq!(age_of("yesterday", now), "");
        for (millis, expected) in [(7, "7 ms"), (1_234, "1.23 s"), (125_000, "2 min 5 s"), (7_500_000, "2 h 5 min")] {
            assert_eq!(took(millis), expected);
        }
        for (us, expected) in [(432, "0.4 ms"), (99_950, "99.9 ms"), (120_400, "120 ms"), (10_000_000, "10.00 s")] {
            assert_eq!(micros(us), expected);
        }
    }

    #[test]
    fn sizes_in_words() {
        for (bytes, expected) in [(1, "1 byte"), (312, "312 bytes"), (1536, "1.5 KiB"), (2 << 20, "2.0 MiB")] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn moments_are_absolute_or_relative() {
        let now = Timestamp::from_secs(7200);
        assert_eq!(Moment::parse("2h").map(|moment| moment.at(now)), Ok(Timestamp::from_secs(0)));
        assert_eq!(Moment::parse("1970-01-01T01:00:00Z").map(|moment| moment.at(now)), Ok(Timestamp::from_secs(3600)));
        assert!(Moment::parse("yesterday").is_err());
    }
}
