//! How a source goes on after failures: longer and longer pauses, jittered, so that gateways that failed together do
//! not come again together.

use std::time::Duration;

use crate::limits;

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
}

impl Pace {
    /// It went well.
    pub(super) fn well(&mut self) {
        self.failures = 0;
    }

    /// It failed again; answers how often it did in a row.
    pub(super) fn failed(&mut self) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// How long to leave the far end alone: between half of what is due and all of it.
    pub(super) fn pause(&self) -> Duration {
        pause(self.failures, rand::random_range(0.5..=1.0))
    }
}

/// The pause after so many failures, by a share of it.
fn pause(failures: u32, share: f64) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    limits::SOURCE_PAUSE.saturating_mul(doubled).min(limits::SOURCE_PAUSE_MAX).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        for (failures, share, secs) in
            [(1, 1.0, 1), (2, 1.0, 2), (4, 0.5, 4), (7, 1.0, 60), (40, 1.0, 60), (u32::MAX, 1.0, 60)]
        {
            assert_eq!(pause(failures, share), Duration::from_secs(secs), "{failures} {share}");
        }
        let mut pace = Pace::default();
        assert_eq!((pace.failed(), pace.failed()), (1, 2));
        pace.well();
        assert_eq!(pace.failed(), 1);
    }
}
