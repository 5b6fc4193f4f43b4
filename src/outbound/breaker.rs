//! Leaves a far end alone that failed several times in a row (`circuit_breaker`): after a while one call looks whether it
//! is back. Nothing here waits or reads a clock.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::id::ConnectionName;

/// What the settings say of a connection's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Failures in a row that open it: no connection, no answer in time, a status of 500 and more.
    pub failures: NonZeroU32,
    /// How long nobody calls.
    pub open_for: Duration,
}

/// The breakers of a process.
#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<ConnectionName, Arc<Breaker>>>);

#[derive(Debug, Default)]
struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Timestamp>,
    /// One call is out to look.
    probing: bool,
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Breakers {
    /// Lets a call through, or tells it when to come again.
    pub(super) fn enter(&self, name: &ConnectionName, settings: Settings, now: Timestamp) -> Result<Pass, Timestamp> {
        let breaker = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(name.clone()).or_default())
        };
        let mut state = breaker.lock();
        let probe = match state.open_until {
            None => false,
            Some(until) if now >= until && !state.probing => {
                state.probing = true;
                true
            }
            // Those who wait do not come back all at once.
            Some(until) => {
                return Err(until.max(now).plus(settings.open_for.mul_f64(0.1 + rand::random::<f64>() / 2.0)));
            }
        };
        drop(state);
        Ok(Pass { breaker, settings, name: name.clone(), probe })
    }

    /// Until when nobody calls this far end.
    pub(super) fn open_until(&self, name: &ConnectionName) -> Option<Timestamp> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).and_then(|breaker| breaker.lock().open_until)
    }
}

/// A call that was let through.
#[derive(Debug)]
pub(super) struct Pass {
    breaker: Arc<Breaker>,
    settings: Settings,
    name: ConnectionName,
    probe: bool,
}

impl Pass {
    /// The call ended; `well` when the far end is there.
    pub(super) fn ended(self, well: bool, now: Timestamp) {
        let mut state = self.breaker.lock();
        if well {
            if state.open_until.take().is_some() {
                tracing::info!(connection = %self.name, "connection `{}` is back", self.name);
            }
            state.failures = 0;
        } else {
            state.failures = state.failures.saturating_add(1);
            if self.probe || (state.open_until.is_none() && state.failures >= self.settings.failures.get()) {
                state.open_until = Some(now.plus(self.settings.open_for));
                tracing::warn!(
                    connection = %self.name,
                    failures = state.failures,
                    "connection `{}` failed {} times in a row and is left alone for a while",
                    self.name,
                    state.failures
                );
            }
        }
        let open = f64::from(u8::from(state.open_until.is_some()));
        metrics::gauge!("clawhook_connection_open", "connection" => self.name.to_string()).set(open);
    }
}

/// A look that was cut off tells nothing: the next call looks.
impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn it_opens_lets_one_look_and_closes() {
        let breakers = Breakers::default();
        let name = ConnectionName::new("erp").unwrap();
        let settings = Settings { failures: NonZeroU32::new(3).unwrap(), open_for: Duration::from_secs(30) };
        let start = Timestamp::from_secs(1_795_338_000);
        let at = |secs| start.plus(Duration::from_secs(secs));
        let call = |well, secs| breakers.enter(&name, settings, at(secs)).unwrap().ended(well, at(secs));
        call(false, 0);
        call(false, 0);
        call(true, 0);
        call(false, 1);
        call(false, 1);
        // Two calls under way: the later one does not open it a second time.
        let slow = breakers.enter(&name, settings, at(1)).unwrap();
        assert_eq!(breakers.open_until(&name), None, "not three in a row yet");
        call(false, 1);
        slow.ended(false, at(20));
        assert_eq!(breakers.open_until(&name), Some(at(31)));
        assert!(breakers.enter(&name, settings, at(30)).unwrap_err() > at(31));
        let probe = breakers.enter(&name, settings, at(31)).unwrap();
        assert!(breakers.enter(&name, settings, at(31)).is_err(), "one looks, the others wait");
        drop(probe);
        call(false, 32);
        assert_eq!(breakers.open_until(&name), Some(at(62)));
        call(true, 62);
        assert_eq!(breakers.open_until(&name), None);
        call(false, 63);
        assert_eq!(breakers.open_until(&name), None, "it counts from the beginning");
    }
}
