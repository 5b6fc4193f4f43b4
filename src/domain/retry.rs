//! When to try again. The decision is pure: policy, attempts so far, failure, a random number in; next step out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::{Class, Failure, Retry, Sent};
use crate::limits;

/// How delays grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Backoff {
    /// Always `retry_delay`.
    #[default]
    Fixed,
    /// Doubling from `retry_delay` up to `max_retry_delay`.
    Exponential,
}

/// One entry of `retry_on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// `connect`
    Connect,
    /// `timeout`
    Timeout,
    /// A status, such as `429`.
    Status(u16),
    /// A hundred of statuses, such as `5xx`.
    StatusClass(u16),
    /// `exit`
    Exit,
}

impl RetryOn {
    /// What `retry_on` is when it is left out.
    pub const DEFAULT: [Self; 7] = [
        Self::Connect,
        Self::Timeout,
        Self::Status(408),
        Self::Status(425),
        Self::Status(429),
        Self::StatusClass(5),
        Self::Exit,
    ];

    fn covers(self, class: Class) -> bool {
        match (self, class) {
            (Self::Connect, Class::Connect) | (Self::Timeout, Class::Timeout) | (Self::Exit, Class::Exit) => true,
            (Self::Status(wanted), Class::Status(status)) => wanted == status,
            (Self::StatusClass(hundred), Class::Status(status)) => status / 100 == hundred,
            _ => false,
        }
    }
}

/// A task's retry settings, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first; `retry: 3` means at most four attempts.
    pub retries: u32,
    /// The first delay.
    pub delay: Duration,
    /// How delays grow.
    pub backoff: Backoff,
    /// The longest delay of our own; a `Retry-After` may be longer.
    pub delay_max: Duration,
    /// Which troubles are worth another attempt.
    pub on: Vec<RetryOn>,
    /// `retry_unsafe: true`: repeat even what may have arrived and is not idempotent.
    pub repeat_unsafe: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 0,
            delay: Duration::from_secs(1),
            backoff: Backoff::Fixed,
            delay_max: limits::RETRY_DELAY_MAX,
            on: RetryOn::DEFAULT.to_vec(),
            repeat_unsafe: false,
        }
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again after this long.
    Retry { after: Duration },
    /// The task has failed.
    GiveUp(GiveUp),
}

/// Why no further attempt follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// The attempts are used up, or there were none to begin with.
    Exhausted,
    /// The failure is of a kind that `retry_on` does not name, or that no retry mends.
    Pointless,
    /// It may have arrived, and repeating it could do it twice.
    Unsafe,
}

/// Decides what follows `failure` when `failed` attempts have failed so far (this one included).
///
/// `repeatable` says that the far end can tell a repeat: an idempotent method, or an idempotency key.
/// `random` in `[0, 1)` spreads the delay over its full range (full jitter), so that many runs that fail
/// together do not come back together. A `Retry-After` wins over our own delay, up to `limits::RETRY_AFTER_MAX`.
pub fn after_failure(policy: &RetryPolicy, failed: u32, failure: &Failure, repeatable: bool, random: f64) -> Next {
    if failure.retry == Retry::Never || !policy.on.iter().any(|on| on.covers(failure.class)) {
        return Next::GiveUp(GiveUp::Pointless);
    }
    if failed > policy.retries {
        return Next::GiveUp(GiveUp::Exhausted);
    }
    if failure.sent == Sent::Maybe && !repeatable && !policy.repeat_unsafe && !refused_untouched(failure.class) {
        return Next::GiveUp(GiveUp::Unsafe);
    }
    let own = delay(policy, failed).mul_f64(random.clamp(0.0, 1.0));
    let after = match failure.retry {
        Retry::After(millis) => Duration::from_millis(millis).min(limits::RETRY_AFTER_MAX) + own.min(JITTER_AFTER_MAX),
        _ => own,
    };
    Next::Retry { after }
}

/// Jitter that is added to a `Retry-After`, so that all who were told the same moment do not share it.
const JITTER_AFTER_MAX: Duration = Duration::from_secs(1);

/// Statuses by which a far end says that it did not act on the request (RFC 6585 section 4, RFC 8470 section 5.2).
fn refused_untouched(class: Class) -> bool {
    matches!(class, Class::Status(425 | 429))
}

fn delay(policy: &RetryPolicy, failed: u32) -> Duration {
    grown(policy.delay, policy.backoff, failed.saturating_sub(1), policy.delay_max)
}

/// A delay that began as `first` and was waited out `times` times, at most `longest`.
pub fn grown(first: Duration, backoff: Backoff, times: u32, longest: Duration) -> Duration {
    match backoff {
        Backoff::Fixed => first.min(longest),
        Backoff::Exponential => first.saturating_mul(1 << times.min(31)).min(longest),
    }
}

#[cfg(test)]
mod tests {
    use super::super::failure::Fault;
    use super::*;

    fn policy(retries: u32, backoff: Backoff) -> RetryPolicy {
        RetryPolicy {
            retries,
            backoff,
            delay: Duration::from_secs(2),
            delay_max: Duration::from_mins(1),
            ..Default::default()
        }
    }

    fn status(status: u16) -> Failure {
        Failure::new("http.status", Fault::Far, "x").retriable(Class::Status(status), None).sent(Sent::Maybe)
    }

    #[track_caller]
    fn check(policy: &RetryPolicy, failed: u32, failure: &Failure, repeatable: bool, expected: Next) {
        assert_eq!(after_failure(policy, failed, failure, repeatable, 1.0), expected);
    }

    #[test]
    fn attempts_are_counted() {
        let retry = |secs| Next::Retry { after: Duration::from_secs(secs) };
        let fixed = policy(2, Backoff::Fixed);
        check(&fixed, 1, &status(503), true, retry(2));
        check(&fixed, 2, &status(503), true, retry(2));
        check(&fixed, 3, &status(503), true, Next::GiveUp(GiveUp::Exhausted));
        let growing = policy(40, Backoff::Exponential);
        check(&growing, 1, &status(500), true, retry(2));
        check(&growing, 4, &status(500), true, retry(16));
        check(&growing, 40, &status(500), true, retry(60));
    }

    #[test]
    fn only_what_can_help_is_repeated() {
        let policy = policy(3, Backoff::Fixed);
        check(&policy, 1, &status(404), true, Next::GiveUp(GiveUp::Pointless));
        let interrupted = Failure { class: Class::Interrupted, ..status(0) };
        check(&policy, 1, &interrupted, true, Next::GiveUp(GiveUp::Pointless));
        check(&policy, 1, &status(502), false, Next::GiveUp(GiveUp::Unsafe));
        check(&policy, 1, &status(429), false, Next::Retry { after: Duration::from_secs(2) });
        let connect = Failure { class: Class::Connect, sent: Sent::No, ..status(0) };
        check(&policy, 1, &connect, false, Next::Retry { after: Duration::from_secs(2) });
        let unsafe_policy = RetryPolicy { repeat_unsafe: true, ..policy };
        check(&unsafe_policy, 1, &status(502), false, Next::Retry { after: Duration::from_secs(2) });
    }

    #[test]
    fn retry_after_wins() {
        let told = status(429).retriable(Class::Status(429), Some(Duration::from_secs(90)));
        let next = after_failure(&policy(3, Backoff::Fixed), 1, &told, true, 0.0);
        assert_eq!(next, Next::Retry { after: Duration::from_secs(90) });
        let absurd = status(429).retriable(Class::Status(429), Some(Duration::MAX));
        let next = after_failure(&policy(3, Backoff::Fixed), 1, &absurd, true, 0.0);
        assert_eq!(next, Next::Retry { after: limits::RETRY_AFTER_MAX });
    }
}
