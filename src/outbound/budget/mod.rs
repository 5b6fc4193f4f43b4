//! How often a far end may be called: one budget for each connection, and for each operation that has one of its own,
//! shared by all runs of this process.
//!
//! A call that does not fit in is not sent. It is told the moment at which there will be room for it, in an order that
//! is fair between runs, and keeps its place until then. A budget follows what answers say of the far end's own count,
//! and never goes beyond what is written in the settings. Nothing here waits or reads a clock.

mod gauge;
mod operation;
mod queue;
mod told;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

use self::gauge::Gauge;
pub use self::operation::Pattern;
use self::queue::Queue;
use self::told::{Throttled, Told};
use super::Glance;
use crate::clock::Timestamp;
use crate::domain::rate::Rate;
use crate::id::{ConnectionName, RunId};
use crate::limits;

/// What the settings say of a connection's budget (`rate_limit`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// For all calls that are of no operation below.
    pub rest: Option<Limit>,
    /// Operations that are counted by themselves; the first that covers a call counts it.
    pub operations: Vec<(Pattern, Limit)>,
}

/// So many in a stretch of time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub rate: Rate,
    pub burst: NonZeroU32,
}

impl Limit {
    fn per_second(self) -> f64 {
        f64::from(self.rate.count().get()) / self.rate.per().as_secs_f64()
    }

    fn burst(self) -> f64 {
        f64::from(self.burst.get())
    }
}

/// A call that wants to go out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket<'t> {
    /// Runs share a budget evenly.
    pub(super) run: RunId,
    /// The same each time that the call comes back.
    pub(super) key: &'t str,
}

/// What a call is told.
#[derive(Debug)]
pub(super) enum Take {
    Go(Permit),
    /// Not before this moment.
    Wait(Timestamp),
}

/// All budgets of a process; those of connections that are gone stay, few as they are.
#[derive(Debug, Default)]
pub(super) struct Budgets(Mutex<HashMap<Place, Arc<Shared>>>);

/// A connection, or one operation of it.
type Place = (ConnectionName, Option<Pattern>);

/// The budget that counts one call.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    shared: Arc<Shared>,
    limit: Option<Limit>,
    /// The connection, or the operation there, as people know it.
    pub(super) place: String,
}

#[derive(Debug, Default)]
struct Shared(Mutex<Budget>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Budget> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budgets {
    /// The budget that counts a call; `path` is the one behind the base URL.
    pub(super) fn of(&self, name: &ConnectionName, settings: &Settings, method: &Method, path: &str) -> Handle {
        let operation = settings.operations.iter().find(|(pattern, _)| pattern.covers(method, path));
        let pattern = operation.map(|(pattern, _)| pattern.clone());
        let place = pattern.as_ref().map_or_else(|| name.to_string(), |pattern| format!("{name} {pattern}"));
        let limit = operation.map(|(_, limit)| *limit).or(settings.rest.filter(|_| operation.is_none()));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = Arc::clone(all.entry((name.clone(), pattern)).or_default());
        Handle { shared, limit, place }
    }

    /// The latest moment before which a budget of this connection lets nobody out, and how many calls wait.
    pub(super) fn standing(&self, name: &ConnectionName) -> (Option<Timestamp>, usize) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.iter().filter(|((connection, _), _)| connection == name).map(|(_, shared)| shared.lock());
        own.fold((None, 0), |(paused, waiting), budget| {
            (paused.max(Some(budget.paused_until)), waiting + budget.queue.len())
        })
    }
}

impl Handle {
    /// Lets a call out, or tells it when to come again.
    pub(super) fn take(&self, ticket: Ticket<'_>, now: Timestamp) -> Take {
        let mut budget = self.shared.lock();
        budget.relimit(self.limit, now);
        match budget.take(ticket, now) {
            Some(at) => Take::Wait(at),
            None => Take::Go(Permit { shared: Arc::clone(&self.shared) }),
        }
    }

    /// Follows what an answer tells. When it refused the call for its quota: the moment at which there is some again,
    /// as far as it is known.
    pub(super) fn told(&self, answer: &Glance<'_>, now: Timestamp) -> Option<Timestamp> {
        let told = told::read(answer, now);
        if told.throttled.is_some() {
            metrics::counter!("clawhook_throttled_total", "place" => self.place.clone()).increment(1);
        }
        self.shared.lock().follow(&told, self.limit, now)
    }
}

/// The right to make one call that is under way.
#[derive(Debug)]
pub(super) struct Permit {
    shared: Arc<Shared>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut budget = self.shared.lock();
        budget.in_flight = budget.in_flight.saturating_sub(1);
    }
}

/// One count, and those who wait for it.
#[derive(Debug, Default)]
struct Budget {
    written: Option<Limit>,
    /// Requests: written in the settings, or told by the far end.
    requests: Option<Gauge>,
    /// Points of queries, told by the far end.
    points: Option<Gauge>,
    /// So many requests are left until this moment, told by the far end.
    window: Option<(f64, Timestamp)>,
    /// Nobody goes before this moment.
    paused_until: Timestamp,
    /// Pauses since the last call that was let in.
    pauses: u32,
    queue: Queue,
    /// Calls that are under way.
    in_flight: u32,
}

impl Budget {
    /// Takes other settings over, after a reload.
    fn relimit(&mut self, limit: Option<Limit>, now: Timestamp) {
        if self.written == limit {
            return;
        }
        self.requests = match (limit, self.requests.take()) {
            (None, _) => None,
            (Some(limit), Some(mut gauge)) if self.written.is_some() => {
                gauge.resize(limit.burst(), limit.per_second(), now);
                Some(gauge)
            }
            (Some(limit), _) => Some(Gauge::full(limit.burst(), limit.per_second(), now)),
        };
        self.written = limit;
    }

    /// Lets a call out, or says when it is to come again.
    fn take(&mut self, ticket: Ticket<'_>, now: Timestamp) -> Option<Timestamp> {
        let ahead = self.queue.ahead(ticket.run, ticket.key, now);
        let mut at = now;
        if now < self.paused_until {
            // Where no rate is known, those who wait do not come all at once.
            let turns = u32::try_from(ahead).unwrap_or(u32::MAX);
            at = self.paused_until.plus(limits::QUOTA_SPACING.saturating_mul(turns).min(limits::QUOTA_PAUSE_MAX));
        }
        for gauge in [&mut self.requests, &mut self.points].into_iter().flatten() {
            at = at.max(gauge.ready_at(ahead, now));
        }
        if let Some((left, until)) = self.window {
            #[expect(clippy::cast_precision_loss, reason = "a queue is far shorter than 2^52")]
            let short = (ahead + 1) as f64 > left;
            if until <= now {
                self.window = None;
            } else if short {
                at = at.max(until);
            }
        }
        if at > now {
            self.queue.expect(ticket.key, at);
            return Some(at);
        }
        self.queue.served(ticket.key);
        for gauge in [&mut self.requests, &mut self.points].into_iter().flatten() {
            gauge.take(now);
        }
        if let Some((left, _)) = &mut self.window {
            *left -= 1.0;
        }
        self.in_flight += 1;
        None
    }

    /// Follows an answer whose own permit is still out.
    fn follow(&mut self, told: &Told, limit: Option<Limit>, now: Timestamp) -> Option<Timestamp> {
        let others = f64::from(self.in_flight.saturating_sub(1));
        if let (Some(written), Some(per_second), Some(gauge)) = (limit, told.per_second, &mut self.requests) {
            // Amazon rounds: 0.0167 is one a minute.
            gauge.resize(written.burst(), per_second.min(written.per_second()), now);
        }
        if let Some((used, total)) = told.used {
            let left = total - used - others;
            match &mut self.requests {
                Some(gauge) if limit.is_some() => gauge.at_most(left, now),
                // Shopify's buckets of 40, 80 and 400 all come back in 20 s.
                gauge => *gauge = Some(Gauge::follow(total, total / SHOPIFY_REFILL_SECS, 1.0, left, now)),
            }
        }
        if let Some(points) = told.points {
            let before = self.points.as_ref().map_or(0.0, Gauge::unit);
            // Queries differ: a dearer one counts at once, a cheaper one brings the guess down by half.
            let unit = points.requested.max(f64::midpoint(before, points.requested));
            let left = points.available - unit * others;
            self.points = Some(Gauge::follow(points.max, points.per_second, unit, left, now));
        }
        if let Some((left, until)) = told.window {
            // A far end that names a moment far away is not believed for longer than this.
            self.window = Some((left - others, until.min(now.plus(limits::RETRY_AFTER_MAX))));
        }
        if let Some(throttled) = told.throttled {
            return self.pause(throttled, told, now);
        }
        if now >= self.paused_until {
            self.pauses = 0;
        }
        None
    }

    fn pause(&mut self, throttled: Throttled, told: &Told, now: Timestamp) -> Option<Timestamp> {
        // Of many calls that were under way together, each may be refused: that is one refusal.
        if now >= self.paused_until {
            self.pauses = self.pauses.saturating_add(1);
        }
        let points = told.points.map(|points| (points.requested - points.available).max(0.0) / points.per_second);
        let turn = self.requests.as_ref().map(|gauge| 1.0 / gauge.per_second());
        let replenished = told.window.map(|(_, until)| until.since(now));
        let secs = |secs: f64| Duration::try_from_secs_f64(secs).unwrap_or(limits::QUOTA_PAUSE_MAX);
        let doubled = |first: Duration| {
            let growing = first.saturating_mul(1 << self.pauses.saturating_sub(1).min(16));
            growing.min(limits::QUOTA_PAUSE_MAX.max(first))
        };
        let known = throttled
            .retry_after
            .map(|after| after.min(limits::RETRY_AFTER_MAX))
            .or(points.map(|wait| secs(wait) + limits::QUOTA_SPACING))
            .or(replenished.map(|wait| wait.min(limits::RETRY_AFTER_MAX)))
            .or(turn.map(|turn| doubled(secs(turn))));
        let pause = known.unwrap_or_else(|| doubled(limits::QUOTA_PAUSE));
        if let Some(gauge) = &mut self.requests {
            gauge.at_most(0.0, now);
        }
        self.paused_until = self.paused_until.max(now.plus(pause));
        let lasting = self.pauses > limits::QUOTA_REFUSALS_MAX;
        // Without a budget a refusal is a failure like others, and the task's own `retry` rules.
        let budgeted = self.requests.is_some() || self.points.is_some() || self.window.is_some();
        (known.is_some() && budgeted && !lasting).then_some(self.paused_until)
    }
}

/// How long Shopify's bucket takes to come back whole.
const SHOPIFY_REFILL_SECS: f64 = 20.0;

#[cfg(test)]
mod tests;
