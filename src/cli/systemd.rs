//! What the service manager is told (`sd_notify(3)`): ready, reloading, stopping, still alive. Without `NOTIFY_SOCKET`
//! in the environment nobody is told anything.

use sd_notify::NotifyState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;
use crate::limits;

/// The doors are open, or the files were read again.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Files are read again; [`ready`] ends it. The time tells the manager which of several reloads this is.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager is not told of the reload: no clock"),
    }
}

/// Doors close, running work drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that we are alive, twice as often as the manager asks for, until `stop`. That this runs shows that the main
/// runtime makes progress; and the store must have answered lately how it is, yes or no: an outage is not mended by a
/// restart, a thread that hangs is.
pub(super) async fn watchdog(gateway: Gateway, stop: CancellationToken) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(patience / 2);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut store = Heard { at: Instant::now(), warned: false };
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let answered = tokio::time::timeout(patience / 4, gateway.ready()).await.is_ok();
        if store.is_alive(answered, Instant::now()) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// When the store last said anything.
struct Heard {
    at: Instant,
    warned: bool,
}

impl Heard {
    fn is_alive(&mut self, answered: bool, now: Instant) -> bool {
        if answered {
            *self = Self { at: now, warned: false };
        }
        let alive = now.duration_since(self.at) < limits::STORE_SILENT_MAX;
        if !alive && !std::mem::replace(&mut self.warned, true) {
            let silent = limits::STORE_SILENT_MAX.as_secs();
            tracing::error!(
                "the store has said nothing for {silent} s: the service manager is not told that we are alive"
            );
        }
        alive
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how we are: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_not_alive_for_ever() {
        let start = Instant::now();
        let mut store = Heard { at: start, warned: false };
        let mut check = |after: Duration, answered: bool, alive: bool| {
            assert_eq!(store.is_alive(answered, start + after), alive, "{after:?} {answered}");
        };
        let second = Duration::from_secs(1);
        check(second, false, true);
        check(limits::STORE_SILENT_MAX / 2, false, true);
        check(limits::STORE_SILENT_MAX, false, false);
        check(limits::STORE_SILENT_MAX, true, true);
        check(limits::STORE_SILENT_MAX * 3 / 2, false, true);
        check(limits::STORE_SILENT_MAX * 2, false, false);
    }
}
