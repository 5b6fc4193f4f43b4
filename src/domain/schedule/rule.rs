//! When a schedule is due: a cron rule in a time zone, or an interval.
//!
//! Croner reads the expression and walks the wall clock, which knows no daylight saving time. This module alone places
//! wall-clock times in real time, because croner's own placing is not what we promise: it calls a list or range of
//! hours an interval (so `0 2,14 * * *` would be lost in spring and run twice in autumn), and it gives up on gaps
//! longer than two hours or across midnight.
//!
//! **Clock-bound or real time.** As in cronie, a cron rule follows real time when its minute or hour field begins with
//! `*` (`*/15 * * * *`, `0 */2 * * *`, `*/10 2 * * *`, `@hourly`), or its second field, which cronie lacks. Every
//! other rule is clock-bound (`30 2 * * *`, `0,30 2 * * *`, `0 9-17 * * *`). The day fields do not count.
//!
//! | The clocks | Clock-bound | Real time |
//! |---|---|---|
//! | skip the time (spring) | due at the end of the gap, the first moment that exists | not due |
//! | repeat the time (autumn) | due the first time only | due both times |
//!
//! Several clock-bound times in one gap are one slot at its end, and so is a time that stands at the end anyway. The
//! end of a gap counts even on another date: in Samoa, which had no 2011-12-30, a rule for the 30th is due as the 31st
//! begins.
//!
//! `every` counts from the Unix epoch (1970-01-01T00:00:00Z), not from the start of the process, so its slots are the
//! same after a restart and on every node; the time zone does not matter to it. The zone data is the IANA release in
//! `chrono-tz`.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone, Timelike};
use chrono_tz::{GapInfo, Tz};
use croner::Cron;

use super::{Error, expression};
use crate::clock::Timestamp;
use crate::domain::duration;
use crate::limits;

/// When a schedule is due. A rule that could never fire cannot be made.
#[derive(Debug, Clone)]
pub struct Rule(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Cron(Box<CronRule>),
    /// Milliseconds, at least [`limits::EVERY_MIN`].
    Every(i64),
}

#[derive(Debug, Clone)]
struct CronRule {
    text: String,
    cron: Cron,
    timing: Timing,
    zone: Tz,
}

/// What a rule follows when the clocks change; the module's table has the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Bound to what the clock on the wall shows.
    ClockBound,
    /// Bound to time as it passes.
    RealTime,
}

/// One instant at which a schedule is due. The instant is its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// When the slot is due.
    pub due: Timestamp,
    /// What the clocks did to it, if anything.
    pub note: Option<DstNote>,
}

/// What a change of the clocks did to a slot, printed as an English sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DstNote {
    /// What happened.
    pub change: DstChange,
    /// The time on the wall that does not exist, or exists twice.
    pub wall: NaiveDateTime,
    /// When the slot is due, on the wall.
    pub due: NaiveDateTime,
    /// Whose clocks changed.
    pub zone: Tz,
}

/// The kinds of [`DstNote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DstChange {
    /// Clock-bound: `wall` does not exist; the slot is at the end of the gap.
    Moved,
    /// Clock-bound: `wall` comes twice, and this is the only slot.
    OnceOfTwice,
    /// Real time: `wall` comes twice, and this slot is the first.
    FirstOfTwice,
    /// Real time: `wall` comes twice, and this slot is the second.
    SecondOfTwice,
    /// Real time: `wall` does not exist and fell out; this is the next slot. Seen by a search from before the gap only.
    FellOut,
}

impl Rule {
    /// The rule of a cron expression (five fields, six with seconds, or a nickname) on the clocks of `zone`.
    /// What the fields may hold stands in `schedule/expression.rs`.
    pub fn cron(text: &str, zone: Tz) -> Result<Self, Error> {
        let (cron, timing) = expression::parse(text)?;
        let rule = CronRule { text: text.trim().into(), cron, timing, zone };
        // Dates repeat after 400 years and croner looks up to the year 5000, so a rule that finds no date
        // from here finds none ever. This is the only search that may be long: every later one has a date to find.
        let start = DateTime::UNIX_EPOCH.naive_utc();
        if rule.wall(start, true).is_none() {
            return Err(Error::NeverFires { expression: rule.text });
        }
        Ok(Self(Kind::Cron(Box::new(rule))))
    }

    /// The rule of an interval of at least [`limits::EVERY_MIN`], counted from the Unix epoch. Parts of a millisecond
    /// are dropped.
    pub fn every(interval: Duration) -> Result<Self, Error> {
        if interval < limits::EVERY_MIN || interval > limits::DURATION_MAX {
            return Err(Error::Interval { interval });
        }
        Ok(Self(Kind::Every(i64::try_from(interval.as_millis()).unwrap_or(i64::MAX))))
    }

    /// The first slot later than `after`; `None` only at the end of time, the year 5000. Takes microseconds, and for
    /// the rarest rule (29 February, if a Monday) a fraction of a millisecond.
    pub fn next_after(&self, after: Timestamp) -> Option<Slot> {
        match &self.0 {
            Kind::Cron(rule) => rule.next_after(after),
            Kind::Every(millis) => {
                let due = after.as_millis().div_euclid(*millis).checked_add(1)?.checked_mul(*millis)?;
                Some(Slot { due: Timestamp::from_millis(due), note: None })
            }
        }
    }

    /// All slots later than `after`, in order.
    pub fn after(&self, after: Timestamp) -> impl Iterator<Item = Slot> + '_ {
        std::iter::successors(self.next_after(after), |slot| self.next_after(slot.due))
    }

    /// Slots later than `after` and not later than `until`, the first `max` of them.
    pub fn slots(&self, after: Timestamp, until: Timestamp, max: usize) -> Vec<Slot> {
        self.after(after).take_while(|slot| slot.due <= until).take(max).collect()
    }

    /// The last `max` slots later than `after` and not later than `until`, in order. Looks back from `until` as far as
    /// it must, by doubling and then halving, so that neither a long range nor a dense stretch is walked through.
    pub fn newest(&self, after: Timestamp, until: Timestamp, max: usize) -> Vec<Slot> {
        let enough = max..=max.saturating_mul(2);
        let mut back = limits::EVERY_MIN.saturating_mul(u32::try_from(max).unwrap_or(u32::MAX));
        let (mut too_short, mut too_long) = (Duration::ZERO, None);
        loop {
            let from = until.minus(back).max(after);
            let mut slots = self.slots(from, until, enough.end().saturating_add(1));
            if enough.contains(&slots.len()) || (slots.len() < max && from <= after) {
                return slots.split_off(slots.len().saturating_sub(max));
            }
            if slots.len() < max {
                too_short = back;
            } else {
                too_long = Some(back);
            }
            // No two slots share a second, so halving ends before a step would be shorter than that.
            back = too_long.map_or(back.saturating_mul(2), |long| too_short + long.saturating_sub(too_short) / 2);
        }
    }

    /// What the rule follows when the clocks change.
    pub fn timing(&self) -> Timing {
        match &self.0 {
            Kind::Cron(rule) => rule.timing,
            Kind::Every(_) => Timing::RealTime,
        }
    }

    /// The time zone of a cron rule; an interval has none.
    pub fn zone(&self) -> Option<Tz> {
        match &self.0 {
            Kind::Cron(rule) => Some(rule.zone),
            Kind::Every(_) => None,
        }
    }
}

/// As people write it: the expression, or `every 90s`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Cron(rule) => f.write_str(&rule.text),
            Kind::Every(millis) => {
                let interval = Duration::from_millis(millis.unsigned_abs());
                write!(f, "every {}", duration::format(interval))
            }
        }
    }
}

impl fmt::Display for DstNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: NaiveDateTime| at.format(if at.second() == 0 { "%H:%M" } else { "%H:%M:%S" });
        let (wall, day, zone) = (time(self.wall), self.wall.date(), self.zone);
        let same_day = if self.due.date() == day { String::new() } else { format!("{} ", self.due.date()) };
        let due = time(self.due);
        match self.change {
            DstChange::Moved => write!(f, "{wall} does not exist on {day} in {zone}; runs at {same_day}{due}"),
            DstChange::OnceOfTwice => write!(f, "{wall} happens twice on {day} in {zone}; runs the first time"),
            DstChange::FirstOfTwice => write!(f, "{wall} happens twice on {day} in {zone}; this is the first time"),
            DstChange::SecondOfTwice => write!(f, "{wall} happens twice on {day} in {zone}; this is the second time"),
            DstChange::FellOut => {
                write!(
                    f,
                    "{wall} does not exist on {day} in {zone}; it follows real time and goes on at {same_day}{due}"
                )
            }
        }
    }
}

/// Where a time on the wall lies in real time.
enum Place {
    Once(Timestamp),
    Twice {
        first: Timestamp,
        second: Timestamp,
    },
    /// Nowhere: the clocks skip it and go on at `end`.
    Gap {
        end: Timestamp,
    },
}

impl CronRule {
    fn next_after(&self, after: Timestamp) -> Option<Slot> {
        // Croner knows the years 1 to 5000; a clock outside them is broken, and chrono's own range ends as well.
        const YEAR_2: Timestamp = Timestamp::from_secs(-62_104_060_800);
        const YEAR_4999: Timestamp = Timestamp::from_secs(95_586_220_800);
        if after > YEAR_4999 {
            return None;
        }
        let after = after.max(YEAR_2);
        match self.timing {
            Timing::ClockBound => self.next_on_the_clock(after),
            Timing::RealTime => self.next_in_real_time(after),
        }
    }

    /// Each due wall time is placed once: where it is, where it is first, or at the end of its gap. The places come in
    /// the order of the wall times, so the first one past `after` is the answer.
    fn next_on_the_clock(&self, after: Timestamp) -> Option<Slot> {
        let (mut from, mut inclusive) = (self.local(after), false);
        loop {
            let wall = self.wall(from, inclusive)?;
            match self.place(wall)? {
                Place::Once(due) if due > after => return Some(Slot { due, note: None }),
                Place::Once(_) => (from, inclusive) = (wall, false),
                Place::Twice { first, .. } if first > after => {
                    return Some(self.noted(first, DstChange::OnceOfTwice, wall));
                }
                // `after` is in the second pass, where nothing is due: go on where the wall clock leaves it.
                Place::Twice { first, second } => (from, inclusive) = (self.overlap(first, second).end, true),
                Place::Gap { end } if end > after => return Some(self.noted(end, DstChange::Moved, wall)),
                Place::Gap { end } => (from, inclusive) = (self.local(end), true),
            }
        }
    }

    /// Each instant whose wall time is due. Walking the wall clock finds them in order, except that a walk from within
    /// the first pass of an overlap does not see the second, which shows the same times again.
    fn next_in_real_time(&self, after: Timestamp) -> Option<Slot> {
        let here = self.local(after);
        let ahead = self.next_on_this_pass(after, here, false);
        let Some(Place::Twice { first, second }) = self.place(here) else { return ahead };
        if after >= second {
            return ahead;
        }
        let overlap = self.overlap(first, second);
        if ahead.is_some_and(|slot| slot.due < overlap.switch) {
            return ahead;
        }
        // One second before the second pass begins, so that its first second counts.
        let eve = overlap.switch.minus(Duration::from_secs(1));
        let again = self.next_on_this_pass(eve.max(after), overlap.start, true);
        [ahead, again].into_iter().flatten().min_by_key(|slot| slot.due)
    }

    fn next_on_this_pass(&self, after: Timestamp, mut from: NaiveDateTime, mut inclusive: bool) -> Option<Slot> {
        let mut fell_out = None;
        loop {
            let wall = self.wall(from, inclusive)?;
            (from, inclusive) = (wall, false);
            match self.place(wall)? {
                Place::Once(due) if due > after => {
                    let note = fell_out.map(|gone| self.noted(due, DstChange::FellOut, gone));
                    return Some(note.unwrap_or(Slot { due, note: None }));
                }
                Place::Twice { first, .. } if first > after => {
                    return Some(self.noted(first, DstChange::FirstOfTwice, wall));
                }
                Place::Twice { second, .. } if second > after => {
                    return Some(self.noted(second, DstChange::SecondOfTwice, wall));
                }
                Place::Once(_) | Place::Twice { .. } => {}
                Place::Gap { end } => {
                    (from, inclusive) = (self.local(end), true);
                    // A slot at the very end of the gap follows its predecessor in real time: nothing to tell.
                    let due_at_end = self.wall(from, true) == Some(from);
                    fell_out = fell_out.or((!due_at_end).then_some(wall));
                }
            }
        }
    }

    /// The first due time on the wall from `from` on, `from` itself only when `inclusive`.
    fn wall(&self, from: NaiveDateTime, inclusive: bool) -> Option<NaiveDateTime> {
        self.cron.find_next_occurrence(&from, inclusive).ok()
    }

    /// What the wall shows at `at`, to the second below.
    fn local(&self, at: Timestamp) -> NaiveDateTime {
        let wall = at.to_utc().with_timezone(&self.zone).naive_local();
        wall.with_nanosecond(0).unwrap_or(wall)
    }

    fn place(&self, wall: NaiveDateTime) -> Option<Place> {
        Some(match self.zone.from_local_datetime(&wall) {
            MappedLocalTime::Single(at) => Place::Once(at.into()),
            MappedLocalTime::Ambiguous(first, second) => Place::Twice { first: first.into(), second: second.into() },
            MappedLocalTime::None => Place::Gap { end: GapInfo::new(&wall, &self.zone)?.end?.into() },
        })
    }

    /// The overlap that contains a wall time seen at `first` and again at `second`.
    fn overlap(&self, first: Timestamp, second: Timestamp) -> Overlap {
        let offset = |secs: i64| {
            let at = Timestamp::from_secs(secs).to_utc().naive_utc();
            self.zone.offset_from_utc_datetime(&at).fix().local_minus_utc()
        };
        // The clocks go back once between the two; halving finds the second at which they do.
        let (mut before, mut switched) = (first.as_secs(), second.as_secs());
        let old = offset(before);
        while switched - before > 1 {
            let middle = before + (switched - before) / 2;
            if offset(middle) == old { before = middle } else { switched = middle }
        }
        let switch = Timestamp::from_secs(switched);
        let start = self.local(switch);
        Overlap { switch, start, end: start + (chrono::TimeDelta::seconds(second.as_secs() - first.as_secs())) }
    }

    fn noted(&self, due: Timestamp, change: DstChange, wall: NaiveDateTime) -> Slot {
        Slot { due, note: Some(DstNote { change, wall, due: self.local(due), zone: self.zone }) }
    }
}

/// A stretch of wall time that comes twice.
struct Overlap {
    /// When the clocks go back.
    switch: Timestamp,
    /// The first wall time that comes twice.
    start: NaiveDateTime,
    /// The first wall time after it that comes once.
    end: NaiveDateTime,
}
