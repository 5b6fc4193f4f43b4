//! Signed times: how they are written, and how far they may be from ours.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::inbound::Reject;
use crate::clock::Timestamp;

/// What a timestamp counts since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum TimestampUnit {
    /// Seconds.
    #[default]
    S,
    /// Milliseconds.
    Ms,
}

impl TimestampUnit {
    /// The instant that ASCII digits stand for; no sign, no fraction, no overflow. Times past the range of
    /// [`Timestamp`] saturate, and are stale anyway.
    pub(super) fn read(self, digits: &[u8]) -> Option<Timestamp> {
        let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        let count = i64::try_from(text.parse::<u64>().ok()?).unwrap_or(i64::MAX);
        Some(match self {
            Self::S => Timestamp::from_secs(count),
            Self::Ms => Timestamp::from_millis(count),
        })
    }

    /// Our own time, as coarse as the sender's: a signature made in the same second is zero seconds old.
    fn round(self, now: Timestamp) -> Timestamp {
        match self {
            Self::S => Timestamp::from_secs(now.as_secs()),
            Self::Ms => now,
        }
    }
}

/// `|now - t| <= tolerance`, both ways: a time from the future would otherwise stay good for long.
pub(super) fn check(
    signed_at: Timestamp,
    unit: TimestampUnit,
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), Reject> {
    let now = unit.round(now);
    let skew_ms = i128::from(now.as_millis()) - i128::from(signed_at.as_millis());
    let tolerance_ms = tolerance.as_millis();
    if skew_ms.unsigned_abs() <= tolerance_ms { Ok(()) } else { Err(Reject::Stale { skew_ms, tolerance_ms }) }
}
