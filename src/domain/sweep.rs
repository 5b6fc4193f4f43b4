//! Sweeps: how far one has come, which objects it looks at, and what it found.
//!
//! A sweep lists what a platform holds and compares it with what was accepted, by delivery key. That answers truly only
//! for the time in which keys were made as now and are remembered still; the rest of this module keeps it inside.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{Revision, RouteName, ScheduleName};

/// How the schedule and the workflow of a route's sweep end: `orders.sweep`.
pub const SUFFIX: &str = ".sweep";
/// Mark of the store: how far the sweep of a route has come.
pub const MARK: &str = "sweep/";

/// The name of the mark of this route.
pub fn mark_name(route: &RouteName) -> String {
    format!("{MARK}{route}")
}

/// Whether a schedule may be that of a route's sweep.
pub fn is_name(schedule: &ScheduleName) -> bool {
    schedule.as_str().ends_with(SUFFIX)
}

/// How far a sweep has come. Losing it loses no order that a webhook brings, and runs none twice: the next one begins at
/// that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What keys are made of: the hash of the route's path and of the expressions.
    pub terms: Revision,
    /// Since when keys are made so. What is older has other keys, so nobody can tell whether it was accepted.
    pub floor: Timestamp,
    /// Everything before this was looked at.
    pub until: Timestamp,
}

impl Mark {
    /// The mark of a sweep whose keys are made so from now on.
    pub fn new(terms: Revision, now: Timestamp) -> Self {
        Self { terms, floor: now, until: now }
    }

    /// Reads a mark as it is kept.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// The time that one sweep looks at. It is fixed when the sweep begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// What was older when it last changed was looked at before.
    pub since: Timestamp,
    /// What is younger is left to the next sweep.
    pub until: Timestamp,
    /// Nobody can tell whether something older was accepted, so it is left alone: another key, or a forgotten one.
    pub oldest: Timestamp,
    /// Since when nobody looked, when that is longer ago than keys are remembered.
    pub gap_from: Option<Timestamp>,
}

/// Distances of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distances {
    /// What is younger is left alone.
    pub settle: Duration,
    /// How far it looks back behind where the last one ended.
    pub lookback: Duration,
    /// How long delivery keys are remembered.
    pub remembered: Duration,
}

impl Window {
    /// What a sweep that begins now looks at.
    pub fn of(mark: &Mark, now: Timestamp, distances: Distances) -> Self {
        let forgotten = now.minus(distances.remembered);
        let oldest = mark.floor.max(forgotten);
        let since = mark.until.minus(distances.lookback).max(oldest);
        let gap_from = (mark.until < forgotten).then_some(mark.until);
        Self { since, until: now.minus(distances.settle), oldest, gap_from }
    }

    /// There is nothing between its ends.
    pub fn is_empty(&self) -> bool {
        self.since >= self.until
    }

    /// Where an object of this age stands.
    pub fn place(&self, at: Timestamp) -> Age {
        if at > self.until {
            Age::Young
        } else if at < self.oldest {
            Age::Old
        } else {
            Age::Due
        }
    }
}

/// Where an object stands in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Its webhook may still be on the way.
    Young,
    /// It is held against what was accepted.
    Due,
    /// Nobody can tell whether it was accepted.
    Old,
}

/// What a sweep found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Objects that the platform listed.
    pub listed: u64,
    /// Never delivered: they run now.
    pub missing: u64,
    /// Accepted before.
    pub known: u64,
    /// No filter of the route wants them.
    pub filtered: u64,
    /// Too young, left to the next sweep.
    pub young: u64,
    /// Too old to tell.
    pub old: u64,
    /// They could not be held against anything: no key, no time, too large.
    pub refused: u64,
    /// Why the first of those was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_refused: Option<String>,
}

impl Tally {
    /// Counts what another tally counted.
    pub fn add(&mut self, other: Self) {
        self.listed += other.listed;
        self.missing += other.missing;
        self.known += other.known;
        self.filtered += other.filtered;
        self.young += other.young;
        self.old += other.old;
        self.refused += other.refused;
        self.first_refused = self.first_refused.take().or(other.first_refused);
    }

    /// Counts something that could not be compared.
    pub fn refuse(&mut self, why: String) {
        self.refused += 1;
        self.first_refused.get_or_insert(why);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(clock: &str) -> Timestamp {
        Timestamp::parse_rfc3339(&format!("2026-11-{clock}:00Z")).unwrap()
    }

    /// The window at `now` of a sweep whose keys are made so since `floor` and that has come to `until`.
    #[track_caller]
    fn check(floor: &str, until: &str, now: &str, expected: (&str, &str, Option<&str>)) {
        let mark = Mark { floor: at(floor), until: at(until), ..Mark::new(Revision::of(b"terms"), at(floor)) };
        assert_eq!(Mark::parse(&mark.to_string()), Some(mark.clone()));
        let distances = Distances {
            settle: Duration::from_mins(5),
            lookback: Duration::from_hours(3),
            remembered: Duration::from_hours(72),
        };
        let window = Window::of(&mark, at(now), distances);
        assert_eq!((window.since, window.until, window.gap_from), (at(expected.0), at(expected.1), expected.2.map(at)));
    }

    #[test]
    fn a_window_never_reaches_where_nobody_can_tell() {
        check("01T08:00", "20T10:00", "20T12:00", ("20T07:00", "20T11:55", None));
        // The keys are made so since nine: what came before has others.
        check("20T09:00", "20T10:00", "20T12:00", ("20T09:00", "20T11:55", None));
        // A first sweep looks at nothing that is older than itself.
        check("20T12:00", "20T12:00", "20T12:00", ("20T12:00", "20T11:55", None));
        // Three days without a sweep is as long as keys are remembered.
        check("01T08:00", "15T10:00", "20T12:00", ("17T12:00", "20T11:55", Some("15T10:00")));
    }

    #[test]
    fn objects_outside_are_left_alone() {
        let mark = Mark::new(Revision::of(b"terms"), at("20T09:00"));
        let distances = Distances {
            settle: Duration::from_mins(5),
            lookback: Duration::from_hours(3),
            remembered: Duration::from_hours(72),
        };
        let window = Window::of(&mark, at("20T12:00"), distances);
        for (clock, age) in
            [("20T08:59", Age::Old), ("20T09:00", Age::Due), ("20T11:55", Age::Due), ("20T11:56", Age::Young)]
        {
            assert_eq!(window.place(at(clock)), age, "{clock}");
        }
    }
}
