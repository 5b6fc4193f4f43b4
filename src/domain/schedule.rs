//! Schedules and their slots: when a schedule is due, what a downtime missed, and what is given up.
//!
//! Everything here is computed from arguments. Nothing remembers which slots were entered (the store does, by
//! [`key`]), nothing sleeps, and the workflow and its `inputs` belong to `spec`.
//!
//! A slot's due time is its identity: jitter delays the run, never the slot.

/// What a cron expression may say.
mod expression;
/// The published DST rows of croner, robfig/cron and cronie, with our choice for each.
#[cfg(test)]
mod published;
/// When a schedule is due.
mod rule;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::rule::{DstChange, DstNote, Rule, Slot, Timing};
use super::duration;
use crate::clock::Timestamp;
use crate::id::ScheduleName;
use crate::limits;

/// Why a schedule cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.problem(), self.help())]
pub enum Error {
    /// Longer than [`limits::CRON_BYTES_MAX`].
    TooLong { bytes: usize },
    /// Neither five fields nor six.
    FieldCount { expression: String, count: usize },
    /// One part of one field is wrong.
    Field { expression: String, field: &'static str, part: String, problem: &'static str, help: String },
    /// `TZ=…` or `CRON_TZ=…` before the fields.
    ZoneInside { expression: String },
    /// `@…` that is no nickname.
    Nickname { text: String },
    /// Every field is right, but no date has them all, as on 30 February.
    NeverFires { expression: String },
    /// Croner refuses what our own check let pass.
    Refused { expression: String, cause: String },
    /// Not a name of the IANA time zone database.
    Zone { text: String, meant: Option<&'static str> },
    /// `every` outside [`limits::EVERY_MIN`] to [`limits::DURATION_MAX`].
    Interval { interval: Duration },
}

impl Error {
    /// What is wrong, without the remedy.
    pub fn problem(&self) -> String {
        match self {
            Self::TooLong { bytes } => format!("the cron expression has {bytes} bytes"),
            Self::FieldCount { expression, count } => format!("cron `{expression}` has {count} fields"),
            Self::Field { expression, field, part, problem, .. } => {
                format!("{field} `{part}` in cron `{expression}` {problem}")
            }
            Self::ZoneInside { expression } => format!("cron `{expression}` names a time zone"),
            Self::Nickname { text } => format!("`{text}` is not a nickname"),
            Self::NeverFires { expression } => format!("cron `{expression}` never fires"),
            Self::Refused { expression, cause } => format!("cron `{expression}` cannot be read ({cause})"),
            Self::Zone { text, .. } => format!("`{text}` is not a time zone"),
            Self::Interval { interval } if *interval < limits::EVERY_MIN => {
                format!("`every: {}` is too often", duration::format(*interval))
            }
            Self::Interval { interval } => format!("`every: {}` is too seldom", duration::format(*interval)),
        }
    }

    /// What to write instead.
    pub fn help(&self) -> String {
        match self {
            Self::TooLong { .. } => format!("write at most {}, or split the schedule", limits::CRON_BYTES_MAX),
            Self::FieldCount { count: 7, .. } => {
                "leave the year out; for one day in one year, trigger the workflow by hand".into()
            }
            Self::FieldCount { .. } => {
                "write five (minute, hour, day of month, month, weekday), or six with the second first".into()
            }
            Self::Field { help, .. } => help.clone(),
            Self::ZoneInside { .. } => "write it beside the expression, as in `timezone: Asia/Shanghai`".into(),
            Self::Nickname { text } => match text.to_ascii_lowercase().strip_prefix("@every ") {
                Some(interval) => format!("write `every: {}` instead of `cron`", interval.trim()),
                None => "use `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` or `@annually`".into(),
            },
            Self::NeverFires { .. } => {
                "check the day against the month: no month has more than 31 days, April, June, September and November \
                 have 30, February has 28 or 29"
                    .into()
            }
            Self::Refused { .. } => "write it with numbers, `*`, `,`, `-` and `/` only".into(),
            Self::Zone { meant: Some(meant), .. } => format!("did you mean `{meant}`?"),
            Self::Zone { meant: None, .. } => {
                "write a name of the IANA database, as in `Asia/Shanghai`, `Europe/Berlin` or `UTC`".into()
            }
            Self::Interval { interval } if *interval < limits::EVERY_MIN => {
                format!("write at least `{}`", duration::format(limits::EVERY_MIN))
            }
            Self::Interval { .. } => format!("write at most `{}`", duration::format(limits::DURATION_MAX)),
        }
    }
}

/// A resolved schedule: when it is due and what happens around its slots.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Unique among schedules; part of every slot's delivery key.
    pub name: ScheduleName,
    /// When it is due.
    pub rule: Rule,
    /// What a slot does while the run of an earlier one is not over.
    pub overlap: Overlap,
    /// What becomes of slots that a downtime missed.
    pub catchup: Catchup,
    /// How long before now a missed slot may lie and still be entered; [`limits::CATCHUP_WINDOW`] when not set.
    pub catchup_window: Duration,
    /// Runs start up to this much after their slot, each slot by its own fixed delay; zero for none.
    pub jitter: Duration,
    /// Whether slots are entered at all.
    pub state: State,
}

/// What a slot does while the run of an earlier slot of the same schedule is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The slot is recorded as skipped; nothing runs.
    #[default]
    Skip,
    /// The run waits until the earlier one is over.
    Queue,
    /// Both run.
    Allow,
    /// The earlier run is cancelled, then this one starts.
    CancelRunning,
}

/// What becomes of slots that a downtime missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Catchup {
    /// All are given up.
    None,
    /// The newest one within the window is entered.
    #[default]
    Latest,
    /// All within the window are entered, the newest [`limits::CATCHUP_SLOTS_MAX`] of them.
    All,
}

/// Whether a schedule enters slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Slots are entered.
    #[default]
    Active,
    /// No slot is entered; those that pass are missed, and `catchup` rules when it goes on.
    Paused,
    /// As if the schedule were not there: slots that pass are not missed.
    Disabled,
}

/// What to do about the slots between a watermark and now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missed {
    /// Slots to enter, in order.
    pub enter: Vec<Slot>,
    /// Slots that will not run; each is to be seen and alarmed.
    pub given_up: Option<GivenUp>,
}

/// Slots that will not run: all that lie from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// How many, or, when `more`, a lower bound.
    pub count: usize,
    /// Whether there are more than [`limits::MISSED_COUNTED_MAX`] and the counting stopped there.
    pub more: bool,
    /// Due time of the oldest.
    pub first: Timestamp,
    /// Due time of the newest.
    pub last: Timestamp,
}

/// Slots that a backfill enters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backfill {
    /// Slots that were not entered before, in order.
    pub slots: Vec<Slot>,
    /// Whether there are more of them than were asked for.
    pub more: bool,
}

impl Schedule {
    /// Sorts the slots later than `watermark` (the newest slot already dealt with) and not later than `now`.
    ///
    /// The newest slot, when at most [`limits::SLOT_LATE_MAX`] late, is on time and always entered, whatever
    /// `catchup` says: this is also the ordinary case of a scheduler that wakes for one slot. All others
    /// are missed, and `catchup` decides. After this, the watermark is the later of the two. A clock that went back
    /// misses nothing.
    pub fn missed(&self, watermark: Timestamp, now: Timestamp) -> Missed {
        let most = match self.catchup {
            Catchup::None | Catchup::Latest => 1,
            Catchup::All => limits::CATCHUP_SLOTS_MAX,
        };
        // One more than can be entered, to know the last that is given up.
        let mut newest = self.rule.newest(watermark, now, most + 1);
        let on_time = newest.last().is_some_and(|slot| now.since(slot.due) <= limits::SLOT_LATE_MAX);
        let window_start = now.minus(self.catchup_window);
        let caught_up = match self.catchup {
            Catchup::None => 0,
            Catchup::Latest | Catchup::All => newest.iter().rev().take_while(|slot| slot.due >= window_start).count(),
        };
        let entered = caught_up.min(most).max(usize::from(on_time));
        let enter = newest.split_off(newest.len() - entered);
        Missed { enter, given_up: newest.last().and_then(|last| self.given_up(watermark, last.due)) }
    }

    /// Slots due from `since` on and before `until` that are not in `entered`, the first `max` of them.
    pub fn backfill(&self, since: Timestamp, until: Timestamp, entered: &BTreeSet<Timestamp>, max: usize) -> Backfill {
        let before = since.minus(Duration::from_millis(1));
        let all = self.rule.after(before).take_while(|slot| slot.due < until);
        let mut slots: Vec<Slot> =
            all.filter(|slot| !entered.contains(&slot.due)).take(max.saturating_add(1)).collect();
        let more = slots.len() > max;
        slots.truncate(max);
        Backfill { slots, more }
    }

    /// How long after its slot the run due at `due` starts: from zero to just under `jitter`, in milliseconds, the same
    /// for one schedule and due time on every node and in every version.
    pub fn jitter_of(&self, due: Timestamp) -> Duration {
        let span = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if span == 0 {
            return Duration::ZERO;
        }
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key(&self.name, due).as_bytes());
        let number = hash.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        Duration::from_millis(number % span)
    }

    fn given_up(&self, watermark: Timestamp, last: Timestamp) -> Option<GivenUp> {
        let mut slots = self.rule.after(watermark).take_while(|slot| slot.due <= last);
        let first = slots.next()?.due;
        let count = 1 + slots.by_ref().take(limits::MISSED_COUNTED_MAX - 1).count();
        Some(GivenUp { count, more: slots.next().is_some(), first, last })
    }
}

/// The delivery key of a slot, `slot:inventory:2026-03-29T01:00:00.000Z`. Two schedulers that enter the same
/// slot make one run, because `accept` knows the key.
pub fn key(name: &ScheduleName, due: Timestamp) -> String {
    format!("slot:{name}:{due}")
}

/// Reads the name of a time zone, as the IANA database spells it.
pub fn timezone(text: &str) -> Result<Tz, Error> {
    text.trim()
        .parse()
        .map_err(|_| Error::Zone { text: text.chars().take(40).collect(), meant: zone_meant(text.trim()) })
}

/// The time zone that a wrong name most likely means: another case, the city alone, or a slip of the fingers.
fn zone_meant(text: &str) -> Option<&'static str> {
    // Names that people type and the database does not have.
    const COMMON: [(&str, &str); 6] = [
        ("beijing", "Asia/Shanghai"),
        ("asia/beijing", "Asia/Shanghai"),
        ("asia/shenzhen", "Asia/Shanghai"),
        ("utc+8", "Asia/Shanghai"),
        ("gmt+8", "Asia/Shanghai"),
        ("utc+0", "UTC"),
    ];
    const SIMILAR: f64 = 0.8;
    let wanted: String = text.to_ascii_lowercase().replace(' ', "_").chars().take(64).collect();
    if let Some((_, zone)) = COMMON.iter().find(|(name, _)| *name == wanted) {
        return Some(zone);
    }
    let score = |zone: &'static str| {
        let name = zone.to_ascii_lowercase();
        let city = name.rsplit('/').next().unwrap_or(&name);
        let alike = strsim::normalized_damerau_levenshtein(&wanted, &name);
        (alike.max(strsim::normalized_damerau_levenshtein(&wanted, city)), zone)
    };
    let best = chrono_tz::TZ_VARIANTS.iter().map(|zone| score(zone.name())).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score >= SIMILAR).map(|(_, zone)| zone)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn times(slots: &[Slot]) -> Vec<String> {
        slots.iter().map(|slot| slot.due.to_string().replace(":00.000Z", "Z")).collect()
    }

    fn schedule(rule: Rule, catchup: Catchup, catchup_window: Duration) -> Schedule {
        let name = ScheduleName::new("inventory").unwrap();
        let (overlap, jitter, state) = (Overlap::Skip, Duration::ZERO, State::Active);
        Schedule { name, rule, overlap, catchup, catchup_window, jitter, state }
    }

    /// Hourly in UTC, from a watermark to now, with a window of three hours.
    #[track_caller]
    fn check(catchup: Catchup, watermark: &str, now: &str, enter: &[&str], given_up: Option<(usize, &str, &str)>) {
        let hourly = Rule::cron("0 * * * *", Tz::UTC).unwrap();
        let missed = schedule(hourly, catchup, Duration::from_hours(3)).missed(at(watermark), at(now));
        assert_eq!(times(&missed.enter), enter, "entered");
        let given_up =
            given_up.map(|(count, first, last)| GivenUp { count, more: false, first: at(first), last: at(last) });
        assert_eq!(missed.given_up, given_up, "given up");
    }

    #[test]
    fn catches_up_as_told() {
        use Catchup::{All, Latest, None as Never};
        const UP_TO_03: Option<(usize, &str, &str)> = Some((3, "2026-05-01T01:00:00Z", "2026-05-01T03:00:00Z"));
        const UP_TO_06: Option<(usize, &str, &str)> = Some((6, "2026-05-01T01:00:00Z", "2026-05-01T06:00:00Z"));
        const UP_TO_05: Option<(usize, &str, &str)> = Some((5, "2026-05-01T01:00:00Z", "2026-05-01T05:00:00Z"));
        let down = "2026-05-01T00:00:00Z";
        // Half an hour after the newest slot: it is missed like the others.
        let up = "2026-05-01T06:30:00Z";
        check(Never, down, up, &[], UP_TO_06);
        check(Latest, down, up, &["2026-05-01T06:00Z"], UP_TO_05);
        check(All, down, up, &["2026-05-01T04:00Z", "2026-05-01T05:00Z", "2026-05-01T06:00Z"], UP_TO_03);
        // Within the minute the newest slot is on time for everybody.
        let up = "2026-05-01T06:00:59Z";
        check(Never, down, up, &["2026-05-01T06:00Z"], UP_TO_05);
        check(Latest, down, up, &["2026-05-01T06:00Z"], UP_TO_05);
        // The ordinary wake: one slot, nothing missed.
        check(Never, "2026-05-01T05:00:00Z", "2026-05-01T06:00:00.003Z", &["2026-05-01T06:00Z"], None);
        // The edges belong to the minute and to the window.
        check(Never, down, "2026-05-01T06:01:00Z", &["2026-05-01T06:00Z"], UP_TO_05);
        check(Never, down, "2026-05-01T06:01:00.001Z", &[], UP_TO_06);
        check(Latest, down, "2026-05-01T01:01:00.001Z", &["2026-05-01T01:00Z"], None);
        let window = ["2026-05-01T04:00Z", "2026-05-01T05:00Z", "2026-05-01T06:00Z", "2026-05-01T07:00Z"];
        check(All, down, "2026-05-01T07:00:00Z", &window, UP_TO_03);
        // Nothing due, and a clock that went back.
        check(All, down, "2026-05-01T00:59:59.999Z", &[], None);
        check(All, "2026-05-01T09:00:00Z", down, &[], None);
    }

    #[test]
    fn a_long_downtime_costs_a_bounded_answer() {
        let everything = Duration::from_hours(24 * 365);
        let second = Rule::every(Duration::from_secs(1)).unwrap();
        let missed =
            schedule(second, Catchup::All, everything).missed(at("2026-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"));
        assert_eq!(missed.enter.len(), limits::CATCHUP_SLOTS_MAX);
        assert_eq!(missed.enter.last().map(|slot| slot.due), Some(at("2026-03-01T00:00:00Z")));
        let given_up = missed.given_up.unwrap();
        assert_eq!((given_up.count, given_up.more), (limits::MISSED_COUNTED_MAX, true));
        assert_eq!(given_up.first, at("2026-01-01T00:00:01Z"));
        assert_eq!(given_up.last.plus(Duration::from_secs(1)), missed.enter[0].due);
    }

    #[test]
    fn the_newest_slots_of_a_dense_month() {
        let rule = Rule::cron("* * * 1-31 1 *", Tz::UTC).unwrap();
        let newest = rule.newest(at("2020-01-01T00:00:00Z"), at("2026-12-01T00:00:00Z"), 1_000);
        assert_eq!(newest, rule.slots(at("2026-01-31T23:43:19Z"), at("2026-12-01T00:00:00Z"), 2_000));
        assert_eq!(newest.len(), 1_000);
        assert_eq!(rule.newest(at("2026-01-31T23:59:57Z"), at("2026-12-01T00:00:00Z"), 1_000).len(), 2);
        assert_eq!(rule.newest(at("2020-01-01T00:00:00Z"), at("2026-12-01T00:00:00Z"), 0), []);
    }

    #[test]
    fn latest_outside_the_window_is_given_up() {
        let yearly = Rule::cron("@yearly", Tz::UTC).unwrap();
        let missed = schedule(yearly, Catchup::Latest, Duration::from_hours(2))
            .missed(at("2020-06-01T00:00:00Z"), at("2026-06-01T00:00:00Z"));
        let (first, last) = (at("2021-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        assert_eq!(missed, Missed { enter: vec![], given_up: Some(GivenUp { count: 6, more: false, first, last }) });
    }

    #[test]
    fn backfill_enters_only_what_is_absent() {
        let hourly = schedule(Rule::cron("@hourly", Tz::UTC).unwrap(), Catchup::None, Duration::ZERO);
        let entered = BTreeSet::from([at("2026-05-01T01:00:00Z"), at("2026-05-01T03:00:00Z")]);
        let (since, until) = (at("2026-05-01T00:00:00Z"), at("2026-05-01T05:00:00Z"));
        let backfill = hourly.backfill(since, until, &entered, 10);
        assert_eq!(times(&backfill.slots), ["2026-05-01T00:00Z", "2026-05-01T02:00Z", "2026-05-01T04:00Z"]);
        assert!(!backfill.more);
        let backfill = hourly.backfill(since, until, &entered, 2);
        assert_eq!(times(&backfill.slots), ["2026-05-01T00:00Z", "2026-05-01T02:00Z"]);
        assert!(backfill.more);
    }

    #[test]
    fn jitter_is_fixed_for_each_slot_and_spread_over_its_span() {
        let mut schedule = schedule(Rule::every(Duration::from_mins(1)).unwrap(), Catchup::None, Duration::ZERO);
        let slots = schedule.rule.slots(at("2026-05-01T00:00:00Z"), at("2026-05-02T00:00:00Z"), 1_000);
        assert!(slots.iter().all(|slot| schedule.jitter_of(slot.due).is_zero()));
        schedule.jitter = Duration::from_secs(30);
        let delays: Vec<Duration> = slots.iter().map(|slot| schedule.jitter_of(slot.due)).collect();
        assert!(delays.iter().all(|delay| *delay < schedule.jitter));
        let late = delays.iter().filter(|delay| **delay >= Duration::from_secs(15)).count();
        assert!((400..600).contains(&late), "{late} of 1000 in the later half");
        // A changed formula would move runs of slots that other nodes have already placed.
        assert_eq!((slots[0].due, delays[0]), (at("2026-05-01T00:01:00Z"), Duration::from_millis(9_935)));
    }

    #[test]
    fn a_slot_is_known_by_schedule_and_due_time() {
        let name = ScheduleName::new("inventory-every-2h").unwrap();
        assert_eq!(key(&name, at("2026-03-29T03:00:00+02:00")), "slot:inventory-every-2h:2026-03-29T01:00:00.000Z");
    }

    #[test]
    fn time_zones_by_name() {
        for (text, meant) in [
            ("asia/shanghai", "Asia/Shanghai"),
            ("Shanghai", "Asia/Shanghai"),
            ("Beijing", "Asia/Shanghai"),
            ("UTC+8", "Asia/Shanghai"),
            ("Europe/Berln", "Europe/Berlin"),
            ("America/New York", "America/New_York"),
            ("utc", "UTC"),
        ] {
            assert_eq!(
                timezone(text).unwrap_err().to_string(),
                format!("`{text}` is not a time zone: did you mean `{meant}`?")
            );
        }
        assert!(timezone("Mars/Olympus").unwrap_err().to_string().contains("write a name of the IANA database"));
        assert_eq!(timezone("Asia/Shanghai"), Ok(Tz::Asia__Shanghai));
    }
}
