//! When a far end wants to be asked again.

use std::time::Duration;

use chrono::DateTime;

use crate::clock::Timestamp;

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, which some platforms send with a fraction, or a date.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Duration::try_from_secs_f64(text.parse().ok()?).ok();
    }
    DateTime::parse_from_rfc2822(text).ok().map(|at| Timestamp::from(at).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_all_its_forms() {
        let now = Timestamp::from_secs(1_795_338_000);
        for (text, expected) in [
            ("3", Some(Duration::from_secs(3))),
            ("2.0", Some(Duration::from_secs(2))),
            ("Sun, 22 Nov 2026 09:00:30 GMT", Some(Duration::from_secs(30))),
            ("Sun, 22 Nov 2026 08:00:00 GMT", Some(Duration::ZERO)),
            ("-1", None),
            ("soon", None),
            ("1e400", None),
        ] {
            assert_eq!(retry_after(text, now), expected, "{text}");
        }
    }
}
