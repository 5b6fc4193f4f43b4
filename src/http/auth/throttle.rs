//! Slows down who guesses passwords: a bounded table of failures by address. Success costs nothing and is never
//! counted. It knows no passwords, and forgets everything with the process.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// Failures by address, as a leaky bucket each: `AUTH_FAILURES_MAX` at once, then one every `AUTH_FAILURE_EVERY`.
///
/// `governor` counts what it is asked about and cannot be asked whether it would refuse, which is what must be known
/// before a password is looked at; hence a table of our own.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    empty_at: Mutex<Table>,
}

/// When the bucket of an address will be empty again; absent when it is. `None` is the bucket of all who find no place
/// of their own.
type Table = HashMap<Option<IpAddr>, Instant>;

impl Throttle {
    /// How long this address has to wait before its credentials are looked at; nothing when it may try.
    pub(super) fn wait(&self, address: IpAddr) -> Option<Duration> {
        let table = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        let fill = table.get(&place(&table, address))?.saturating_duration_since(Instant::now());
        let room = limits::AUTH_FAILURE_EVERY * (limits::AUTH_FAILURES_MAX - 1);
        fill.checked_sub(room).filter(|wait| !wait.is_zero())
    }

    /// Counts a failure of this address.
    pub(super) fn failed(&self, address: IpAddr) {
        let now = Instant::now();
        let mut table = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= limits::AUTH_ADDRESSES_MAX {
            table.retain(|_, empty_at| *empty_at > now);
        }
        let place = place(&table, address);
        let empty_at = table.entry(place).or_insert(now);
        *empty_at = (*empty_at).max(now) + limits::AUTH_FAILURE_EVERY;
    }
}

/// Where an address is counted: in its own bucket while there is place for one, else with all strangers.
fn place(table: &Table, address: IpAddr) -> Option<IpAddr> {
    let own = Some(network(address));
    if table.len() < limits::AUTH_ADDRESSES_MAX || table.contains_key(&own) { own } else { None }
}

/// What counts as one address: of IPv6 the 64 bits that one site gets, since it may use any address below them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test(start_paused = true)]
    async fn failures_use_up_the_room_and_time_gives_it_back() {
        let throttle = Throttle::default();
        for _ in 0..limits::AUTH_FAILURES_MAX {
            assert_eq!(throttle.wait(ip(1)), None);
            throttle.failed(ip(1));
        }
        assert_eq!(throttle.wait(ip(1)), Some(limits::AUTH_FAILURE_EVERY));
        assert_eq!(throttle.wait(ip(2)), None);
        tokio::time::advance(limits::AUTH_FAILURE_EVERY).await;
        assert_eq!(throttle.wait(ip(1)), None);
        throttle.failed(ip(1));
        assert_eq!(throttle.wait(ip(1)), Some(limits::AUTH_FAILURE_EVERY));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded() {
        let throttle = Throttle::default();
        for number in 0..=u32::try_from(limits::AUTH_ADDRESSES_MAX).unwrap_or(u32::MAX) + 10 {
            throttle.failed(IpAddr::V4(number.into()));
        }
        let kept = throttle.empty_at.lock().map(|table| table.len());
        assert!(throttle.wait(ip(1)).is_some(), "strangers share a bucket that is full by now");
        assert_eq!(kept.ok(), Some(limits::AUTH_ADDRESSES_MAX + 1));
    }

    #[test]
    fn one_site_is_one_address() {
        let check = |address: &str, expected: &str| {
            assert_eq!(address.parse().map(network).map(|ip| ip.to_string()).as_deref(), Ok(expected));
        };
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("192.0.2.1", "192.0.2.1");
    }
}
