//! What is left of something that is used up and comes back at a steady rate: requests, or points of a query.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::limits;

/// A token bucket. Time comes in as an argument; it never runs backwards here.
#[derive(Debug, Clone)]
pub(super) struct Gauge {
    /// The most there can be.
    capacity: f64,
    /// What comes back in a second; more than zero.
    per_second: f64,
    /// What one request takes.
    unit: f64,
    level: f64,
    at: Timestamp,
}

impl Gauge {
    /// A full gauge of requests.
    pub(super) fn full(burst: f64, per_second: f64, now: Timestamp) -> Self {
        let per_second = per_second.max(RATE_MIN);
        let capacity = usable(burst, per_second);
        Self { capacity, per_second, unit: 1.0, level: capacity, at: now }
    }

    /// Follows what a far end tells of its own bucket: nothing of ours is left in it.
    pub(super) fn follow(capacity: f64, per_second: f64, unit: f64, left: f64, now: Timestamp) -> Self {
        let (capacity, per_second) = (capacity.max(1.0), per_second.max(RATE_MIN));
        Self { capacity, per_second, unit: unit.clamp(0.0, capacity), level: left.min(capacity), at: now }
    }

    pub(super) fn unit(&self) -> f64 {
        self.unit
    }

    pub(super) fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Another size and rate; what is left stays, as far as it fits.
    pub(super) fn resize(&mut self, burst: f64, per_second: f64, now: Timestamp) {
        self.refill(now);
        self.per_second = per_second.max(RATE_MIN);
        self.capacity = usable(burst, self.per_second);
        self.level = self.level.min(self.capacity);
    }

    /// There is no more than this left.
    pub(super) fn at_most(&mut self, left: f64, now: Timestamp) {
        self.refill(now);
        self.level = self.level.min(left);
    }

    /// When there is enough for one request behind `ahead` others, if all of them are taken.
    pub(super) fn ready_at(&mut self, ahead: usize, now: Timestamp) -> Timestamp {
        self.refill(now);
        #[expect(clippy::cast_precision_loss, reason = "a queue is far shorter than 2^52")]
        let missing = (ahead + 1) as f64 * self.unit - self.level;
        if missing <= ROUNDING {
            return now;
        }
        let wait = Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(limits::RETRY_AFTER_MAX);
        // Rounded up to the clock's step, so that whoever comes at that moment does not come too soon.
        now.plus(wait.min(limits::RETRY_AFTER_MAX) + Duration::from_millis(1))
    }

    /// One request goes out.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.refill(now);
        self.level -= self.unit;
    }

    fn refill(&mut self, now: Timestamp) {
        self.level = (self.level + now.since(self.at).as_secs_f64() * self.per_second).min(self.capacity);
        self.at = self.at.max(now);
    }
}

/// The slowest rate: one in a day.
const RATE_MIN: f64 = 1.0 / 86_400.0;
/// Smaller differences come from computing, not from the far end.
const ROUNDING: f64 = 1e-6;

/// The part of a burst that can be sent at once. Requests do not all take the same time to arrive, so a far end with the
/// same burst and rate can see more of them in a while than we sent in it: what comes back in the spread of arrival times
/// is kept back.
fn usable(burst: f64, per_second: f64) -> f64 {
    (burst - per_second * limits::QUOTA_ARRIVAL_SPREAD.as_secs_f64()).max(1.0)
}
