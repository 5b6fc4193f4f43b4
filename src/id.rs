//! Typed identifiers. A name and a number of one kind can never be taken for another's.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Why a text is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Names are short, plain and safe in paths, URLs, labels and logs.
    #[error(
        "`{text}` is not a {kind} name: use 1 to {max} letters, digits, `-`, `_` or `.`, starting with a letter or digit"
    )]
    Name { kind: &'static str, text: String, max: usize },
    /// Run ids are `run_` and thirteen characters.
    #[error("`{0}` is not a run id: it looks like `run_01k4q8zr5m2c7`")]
    Run(String),
}

/// Longest name of a workflow, route, schedule, task, connection, channel or secret, in bytes.
pub const NAME_BYTES_MAX: usize = 80;

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= NAME_BYTES_MAX && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain)
}

/// Declares a cheap-to-clone name type that can only hold a valid name.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Reads a name, or says what a name looks like.
            pub fn new(text: &str) -> Result<Self, Error> {
                if is_name(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Error::Name { kind: $kind, text: text.into(), max: NAME_BYTES_MAX })
                }
            }

            /// The name as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(/// The `name` of a workflow.
    WorkflowName, "workflow");
name!(/// The name of a route: written, or made from its path.
    RouteName, "route");
name!(/// The `name` of a schedule.
    ScheduleName, "schedule");
name!(/// The `name` of a source: where deliveries are fetched.
    SourceName, "source");
name!(/// The `id` of a task, unique in its workflow.
    TaskId, "task");
name!(/// The name of a secret ref: freely printed, unlike its value.
    SecretName, "secret");
name!(/// The name of a connection.
    ConnectionName, "connection");
name!(/// The name of a channel: a place where people are told.
    ChannelName, "channel");

/// A run: 43 bits of milliseconds since the Unix epoch, then 20 bits that tell runs of one
/// millisecond apart. Numbers grow with time, so a store that keeps runs in id order keeps
/// them in order of arrival. Printed as `run_` and thirteen base-32 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(u64);

const RUN_PREFIX: &str = "run_";
const RUN_DIGITS: usize = 13;
/// Crockford's base 32 in lower case: no i, l, o, u, so an id can be read out on the phone.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SEQUENCE_BITS: u32 = 20;

impl RunId {
    /// The id with this number; stores use it as their key. The top bit is never set.
    pub const fn from_u64(number: u64) -> Self {
        Self(number & (u64::MAX >> 1))
    }

    /// The number behind the id; fits an `i64`.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The earliest id that a run made at `at` or later can have.
    pub fn floor(at: Timestamp) -> Self {
        Self::from_u64(u64::try_from(at.as_millis()).unwrap_or(0) << SEQUENCE_BITS)
    }

    /// When the run was made, to the millisecond.
    pub fn made_at(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.0 >> SEQUENCE_BITS).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; RUN_DIGITS];
        for (place, digit) in text.iter_mut().rev().enumerate() {
            *digit = DIGITS[usize::try_from((self.0 >> (5 * place)) & 31).unwrap_or(0)];
        }
        write!(f, "{RUN_PREFIX}{}", String::from_utf8_lossy(&text))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Run(text.chars().take(40).collect());
        let digits = text.strip_prefix(RUN_PREFIX).filter(|d| d.len() == RUN_DIGITS).ok_or_else(wrong)?;
        let mut number: u64 = 0;
        for byte in digits.bytes() {
            let digit = DIGITS.iter().position(|d| *d == byte.to_ascii_lowercase()).ok_or_else(wrong)?;
            number = number.checked_mul(32).and_then(|n| n.checked_add(digit as u64)).ok_or_else(wrong)?;
        }
        if number > u64::MAX >> 1 { Err(wrong()) } else { Ok(Self(number)) }
    }
}

impl TryFrom<String> for RunId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.to_string()
    }
}

/// Hands out run ids that only grow, even when the wall clock steps back.
///
/// Each new millisecond starts at a random place in the first half of its numbers, so that two
/// gateways on one store rarely meet; a store that sees a collision asks again.
#[derive(Debug, Default)]
pub struct RunIds {
    last: AtomicU64,
}

impl RunIds {
    /// The next id for a run made at `now`.
    pub fn next(&self, now: Timestamp) -> RunId {
        let fresh = RunId::floor(now).0 | u64::from(rand::random::<u32>() >> (32 - SEQUENCE_BITS + 1));
        let step =
            |last: u64| if fresh > last && fresh >> SEQUENCE_BITS > last >> SEQUENCE_BITS { fresh } else { last + 1 };
        let last = self.last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(step(last)));
        RunId::from_u64(step(last.unwrap_or_else(|seen| seen)))
    }

    /// Never hands out an id at or below `id` from now on: called with the newest stored run.
    pub fn skip_to(&self, id: RunId) {
        self.last.fetch_max(id.0, Ordering::SeqCst);
    }
}

/// The place of an event in its run's log; the first event is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Seq(pub u32);

impl Seq {
    /// The place `count` events later.
    #[must_use]
    pub fn plus(self, count: usize) -> Self {
        Self(self.0.saturating_add(u32::try_from(count).unwrap_or(u32::MAX)))
    }
}

/// One try at a task; attempt 1 is not a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptNumber(pub NonZeroU32);

impl AttemptNumber {
    /// The first attempt.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The attempt after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number, from 1.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for AttemptNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The content hash of a workflow file as it stood when a run pinned it: 16 hex digits of SHA-256.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(Arc<str>);

impl Revision {
    /// The revision of this content.
    pub fn of(content: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
        Self(data_encoding::HEXLOWER.encode(&digest.as_ref()[..8]).into())
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Revision {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_print_and_read_back() {
        for number in [0, 1, 31, 32, u64::MAX >> 1, 1_795_338_000_123 << 20] {
            let id = RunId::from_u64(number);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in ["", "run_", "run_01k4q8zr5m2c", "run_01k4q8zr5m2cu", "run_zzzzzzzzzzzzz", "01k4q8zr5m2c7aaaa"] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn run_ids_grow_when_the_clock_steps_back() {
        let ids = RunIds::default();
        let later = Timestamp::from_millis(2_000_000);
        let mut last = ids.next(later);
        for now in [later, Timestamp::from_millis(1_000_000), Timestamp::from_millis(2_000_001)] {
            let id = ids.next(now);
            assert!(id > last);
            last = id;
        }
        assert_eq!(last.made_at(), Timestamp::from_millis(2_000_001));
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "shopify-order-to-erp", "A.b_c-9"] {
            assert!(WorkflowName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "订单", "a/b", &"a".repeat(81)] {
            assert!(WorkflowName::new(bad).is_err(), "{bad}");
        }
    }
}
