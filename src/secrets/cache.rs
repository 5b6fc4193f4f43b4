//! What was read lately. A source on this machine is asked again when a value is too old. A remote one is asked ahead
//! of that, once for all who wait, and left alone when it is in trouble; meanwhile the last value serves.
//!
//! A reading runs on the runtime on which the cache was made, whoever needs it: a request that is given up must not
//! take the reading along on which others wait.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Found, SecretSource};
use crate::domain::secret::Error;
use crate::id::SecretName;
use crate::limits;

/// Uses of a value past its time, by secret, because its source did not give a newer one.
const STALE: &str = "clawhook_secret_stale_total";

/// A secret, and the version that is pinned.
pub(super) type Key = (SecretName, Option<String>);

/// The values of one source.
pub(super) struct Cache {
    source: Arc<dyn SecretSource>,
    /// Absent for a source on this machine.
    flights: Option<Flights>,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
}

/// Where readings of a remote source run.
struct Flights {
    runtime: Handle,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// One secret.
#[derive(Default)]
struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    held: Option<Held>,
    trouble: Option<Trouble>,
    /// Closes when the reading that is under way has ended.
    landing: Option<watch::Receiver<()>>,
}

/// The last value, and what it is good for until when.
struct Held {
    found: Found,
    refresh_at: Instant,
    fresh_until: Instant,
    stale_until: Instant,
}

/// Why the last reading failed, and when the source is asked again.
struct Trouble {
    error: Error,
    again_at: Instant,
    failures: u32,
}

/// What to do for somebody who needs the secret.
enum Next {
    Serve(Found),
    /// Serve, and read again beside.
    Refresh(Found),
    /// Serve a value past its time.
    Stale(Found),
    /// The same, and read again beside.
    StaleRefresh(Found),
    Refuse(Error),
    Wait,
}

impl Cache {
    /// For a source on this machine: it is asked whenever a value is too old.
    pub(super) fn local(source: Arc<dyn SecretSource>) -> Self {
        Self { source, flights: None, slots: Mutex::default() }
    }

    /// For a source that is asked over a network.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, on which the readings run.
    pub(super) fn remote(source: Arc<dyn SecretSource>) -> Self {
        let (runtime, tracker, stop) = (Handle::current(), TaskTracker::new(), CancellationToken::new());
        Self { source, flights: Some(Flights { runtime, tracker, stop }), slots: Mutex::default() }
    }

    /// Whether the source is on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.flights.is_none()
    }

    /// The source.
    pub(super) fn source(&self) -> &dyn SecretSource {
        self.source.as_ref()
    }

    /// The secret, from memory or from the source.
    pub(super) async fn get(&self, key: Key) -> Result<Found, Error> {
        let slot = self.slot(&key);
        match &self.flights {
            Some(flights) => self.get_remote(flights, key, &slot).await,
            None => self.get_local(&key, &slot).await,
        }
    }

    /// The secret as the source has it now. What is in memory stays as it is.
    pub(super) async fn ask(&self, key: &Key) -> Result<Found, Error> {
        match &self.flights {
            Some(_) => read(self.source.as_ref(), key).await,
            None => self.source.read(&key.0, key.1.as_deref()).await,
        }
    }

    /// The next use of every secret asks the source.
    pub(super) fn age(&self) {
        let now = Instant::now();
        for slot in lock(&self.slots).values() {
            let mut state = slot.state();
            state.trouble = None;
            if let Some(held) = &mut state.held {
                (held.refresh_at, held.fresh_until) = (now, now);
            }
        }
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        match slots.get(key) {
            Some(slot) => Arc::clone(slot),
            None => Arc::clone(slots.entry(key.clone()).or_default()),
        }
    }

    async fn get_local(&self, key: &Key, slot: &Slot) -> Result<Found, Error> {
        let now = Instant::now();
        if let Some(held) = slot.state().held.as_ref().filter(|held| now < held.fresh_until) {
            return Ok(held.found.clone());
        }
        let found = self.source.read(&key.0, key.1.as_deref()).await?;
        slot.state().held = Some(Held::new(found.clone(), Instant::now(), 0.0));
        Ok(found)
    }

    async fn get_remote(&self, flights: &Flights, key: Key, slot: &Arc<Slot>) -> Result<Found, Error> {
        let mut landing = {
            let mut state = slot.state();
            match state.next(Instant::now()) {
                Next::Serve(found) => return Ok(found),
                Next::Stale(found) => return Ok(stale(&key.0, found)),
                Next::Refuse(error) => return Err(error),
                Next::Refresh(found) => {
                    self.take_off(flights, &key, slot, &mut state);
                    return Ok(found);
                }
                Next::StaleRefresh(found) => {
                    self.take_off(flights, &key, slot, &mut state);
                    return Ok(stale(&key.0, found));
                }
                Next::Wait => self.take_off(flights, &key, slot, &mut state),
            }
        };
        // The sender is dropped at the end of the reading; nothing is ever sent.
        let waited = tokio::time::timeout(limits::SECRET_WAIT_MAX, landing.changed()).await;
        let state = slot.state();
        match (state.next(Instant::now()), waited.is_ok()) {
            (Next::Serve(found) | Next::Refresh(found), _) => Ok(found),
            (Next::Stale(found) | Next::StaleRefresh(found), _) => Ok(stale(&key.0, found)),
            (Next::Refuse(error), _) => Err(error),
            (Next::Wait, landed) => match state.last_resort(Instant::now()) {
                Some(found) => Ok(stale(&key.0, found)),
                None if landed => Err(self.failed(key.0, "the reading was given up".to_owned())),
                None => {
                    let why = format!("no answer within {} s", limits::SECRET_WAIT_MAX.as_secs());
                    Err(self.failed(key.0, why))
                }
            },
        }
    }

    /// Starts a reading if none is under way.
    fn take_off(&self, flights: &Flights, key: &Key, slot: &Arc<Slot>, state: &mut State) -> watch::Receiver<()> {
        // A reading that broke off has dropped its end without a word.
        if let Some(landing) = state.landing.as_ref().filter(|landing| landing.has_changed().is_ok()) {
            return landing.clone();
        }
        let (flight, landing) = watch::channel(());
        state.landing = Some(landing.clone());
        let (source, key, slot, stop) = (Arc::clone(&self.source), key.clone(), Arc::clone(slot), flights.stop.clone());
        let reading = async move {
            if let Some(outcome) = stop.run_until_cancelled(read(source.as_ref(), &key)).await {
                slot.state().land(&key.0, outcome, Instant::now(), rand::random());
            }
            drop(flight);
        };
        flights.tracker.spawn_on(reading, &flights.runtime);
        landing
    }

    fn failed(&self, name: SecretName, why: String) -> Error {
        Error::Source { name, source_name: self.source.place(), why, retry_after: None }
    }
}

impl Drop for Flights {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tracker.close();
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl State {
    fn next(&self, now: Instant) -> Next {
        let resting = self.trouble.as_ref().filter(|trouble| now < trouble.again_at);
        // Known to be in trouble: the next reading is not waited for, it may well fail like the last.
        let doubtful = self.trouble.as_ref().is_some_and(|trouble| now < trouble.again_at + limits::SECRET_REST_MAX);
        match (&self.held, resting) {
            (Some(held), _) if now < held.refresh_at => Next::Serve(held.found.clone()),
            (Some(held), Some(_)) if now < held.fresh_until => Next::Serve(held.found.clone()),
            (Some(held), None) if now < held.fresh_until => Next::Refresh(held.found.clone()),
            (Some(held), Some(_)) if now < held.stale_until => Next::Stale(held.found.clone()),
            (Some(held), None) if doubtful && now < held.stale_until => Next::StaleRefresh(held.found.clone()),
            (_, Some(trouble)) => Next::Refuse(trouble.error.clone()),
            (_, None) => Next::Wait,
        }
    }

    /// A value past its time, when nothing better is to be had.
    fn last_resort(&self, now: Instant) -> Option<Found> {
        self.held.as_ref().filter(|held| now < held.stale_until).map(|held| held.found.clone())
    }

    /// Keeps what a reading brought. `share` in 0..1 spreads what comes next.
    fn land(&mut self, name: &SecretName, outcome: Result<Found, Error>, now: Instant, share: f64) {
        match outcome {
            Ok(found) => {
                if self.trouble.take().is_some() {
                    tracing::info!(secret = %name, "secret {name} can be read again");
                }
                self.held = Some(Held::new(found, now, share));
            }
            Err(error) => {
                let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures) + 1;
                match (&error, &self.held) {
                    (Error::Source { .. }, Some(held)) if now < held.stale_until => {
                        tracing::warn!(secret = %name, %error, "{error}; the last value goes on serving");
                    }
                    (_, Some(_)) => {
                        tracing::error!(secret = %name, %error, "{error}; its last value is not used any more");
                        // Whoever took the secret away meant it.
                        self.held = None;
                    }
                    (_, None) => {}
                }
                self.trouble = Some(Trouble { again_at: now + rest(&error, failures, share), error, failures });
            }
        }
        self.landing = None;
    }
}

impl Held {
    fn new(found: Found, now: Instant, share: f64) -> Self {
        Self {
            found,
            refresh_at: now + limits::SECRET_REFRESH_FROM + limits::SECRET_REFRESH_SPREAD.mul_f64(share),
            fresh_until: now + limits::SECRET_TTL,
            stale_until: now + limits::SECRET_STALE_MAX,
        }
    }
}

/// How long the source is left alone after a failure: as it asks, else longer each time; what it says for certain
/// is believed for a moment.
fn rest(error: &Error, failures: u32, share: f64) -> Duration {
    let Error::Source { retry_after, .. } = error else { return limits::SECRET_MISSING_TTL };
    let doubled = limits::SECRET_REST_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let own = doubled.min(limits::SECRET_REST_MAX).mul_f64(f64::midpoint(1.0, share));
    retry_after.map_or(own, |asked| asked.min(limits::SECRET_RETRY_AFTER_MAX).max(own))
}

/// One reading of a remote source: a few tries, bounded in time together. A source that asks to be left alone for long is.
async fn read(source: &dyn SecretSource, key: &Key) -> Result<Found, Error> {
    let (name, version) = key;
    let tries = async {
        let mut pause = limits::SECRET_RETRY_FIRST;
        for _ in 1..limits::SECRET_TRIES_MAX {
            let asked = match source.read(name, version.as_deref()).await {
                Err(Error::Source { retry_after, .. }) if retry_after <= Some(limits::SECRET_WAIT_MAX) => retry_after,
                settled => return settled,
            };
            let own = pause.mul_f64(0.5 + rand::random::<f64>());
            tokio::time::sleep(asked.map_or(own, |asked| asked.max(own))).await;
            pause *= 2;
        }
        source.read(name, version.as_deref()).await
    };
    tokio::time::timeout(limits::AZURE_CALL_MAX, tries).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", limits::AZURE_CALL_MAX.as_secs());
        Err(Error::Source { name: name.clone(), source_name: source.place(), why, retry_after: None })
    })
}

fn stale(name: &SecretName, found: Found) -> Found {
    metrics::counter!(STALE, "secret" => name.to_string()).increment(1);
    found
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
