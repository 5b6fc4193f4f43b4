//! The published rows about changing clocks, with our choice for each: of croner for Rust (its README and tests), of
//! croner for JavaScript (`timezone.test.ts`, `ocps-1.4.test.ts`) and of robfig/cron (`spec_test.go`); then the rows
//! that nobody publishes. A row names the expression, the zone, where the search starts, and the slots that follow.
//! Where a library answers otherwise, the comment says what.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use chrono::{NaiveDateTime, TimeDelta};

use super::{Error, Rule, Slot, Timing, timezone};
use crate::clock::Timestamp;

/// The next slots of `expression` after `after`, shown on the clocks of `zone`.
#[track_caller]
fn check(expression: &str, zone: &str, after: &str, slots: &[&str]) {
    let found: Vec<String> = next(expression, zone, after, slots.len()).iter().map(|slot| shown(slot, zone)).collect();
    assert_eq!(found, slots, "{expression} in {zone} after {after}");
}

/// The first slot of `expression` after `after` carries this note.
#[track_caller]
fn check_note(expression: &str, zone: &str, after: &str, note: Option<&str>) {
    let slots = next(expression, zone, after, 1);
    assert_eq!(slots[0].note.map(|note| note.to_string()).as_deref(), note, "{expression} in {zone} after {after}");
}

/// The expression has no slot, ever.
#[track_caller]
fn check_never(expression: &str) {
    assert!(matches!(Rule::cron(expression, chrono_tz::UTC), Err(Error::NeverFires { .. })), "{expression}");
}

fn next(expression: &str, zone: &str, after: &str, count: usize) -> Vec<Slot> {
    let rule = match expression.strip_prefix("every ") {
        Some(interval) => Rule::every(crate::domain::duration::parse(interval).unwrap()).unwrap(),
        None => Rule::cron(expression, timezone(zone).unwrap()).unwrap(),
    };
    let after = Timestamp::parse_rfc3339(after).unwrap();
    let slots: Vec<Slot> = rule.after(after).take(count).collect();
    // Any list of slots grows and starts past `after`, whatever the clocks do.
    assert!(slots.is_sorted_by(|a, b| a.due < b.due) && slots.iter().all(|slot| slot.due > after), "{slots:?}");
    slots
}

fn shown(slot: &Slot, zone: &str) -> String {
    slot.due.to_utc().with_timezone(&timezone(zone).unwrap()).to_rfc3339()
}

const NEW_YORK: &str = "America/New_York";
const STOCKHOLM: &str = "Europe/Stockholm";
const PARIS: &str = "Europe/Paris";
const LONDON: &str = "Europe/London";
const BERLIN: &str = "Europe/Berlin";
const SAO_PAULO: &str = "America/Sao_Paulo";
const LORD_HOWE: &str = "Australia/Lord_Howe";
const BEIRUT: &str = "Asia/Beirut";
const APIA: &str = "Pacific/Apia";

#[test]
fn robfig_spring() {
    // robfig: 2013-03-11T02:30, a year late; it skips what does not exist.
    check(
        "0 30 2 11 Mar ?",
        NEW_YORK,
        "2012-03-11T00:00:00-05:00",
        &["2012-03-11T03:00:00-04:00", "2013-03-11T02:30:00-04:00"],
    );
    // The hourly job: the same.
    check(
        "0 0 * * * ?",
        NEW_YORK,
        "2012-03-11T00:00:00-05:00",
        &[
            "2012-03-11T01:00:00-05:00",
            "2012-03-11T03:00:00-04:00",
            "2012-03-11T04:00:00-04:00",
            "2012-03-11T05:00:00-04:00",
        ],
    );
    // The nightly job at one: the same.
    check(
        "0 0 1 * * ?",
        NEW_YORK,
        "2012-03-11T00:00:00-05:00",
        &["2012-03-11T01:00:00-05:00", "2012-03-12T01:00:00-04:00"],
    );
    // The nightly job at two: robfig skips the night (2012-03-12T02:00).
    check(
        "0 0 2 * * ?",
        NEW_YORK,
        "2012-03-11T00:00:00-05:00",
        &["2012-03-11T03:00:00-04:00", "2012-03-12T02:00:00-04:00"],
    );
}

#[test]
fn robfig_autumn() {
    // The same.
    check("0 30 2 04 Nov ?", NEW_YORK, "2012-11-04T00:00:00-04:00", &["2012-11-04T02:30:00-05:00"]);
    // robfig: 2012-11-04T01:30-05:00, the second time; we ran the first time and wait a year.
    check("0 30 1 04 Nov ?", NEW_YORK, "2012-11-04T01:45:00-04:00", &["2013-11-04T01:30:00-05:00"]);
    // The hourly job: the same.
    check(
        "0 0 * * * ?",
        NEW_YORK,
        "2012-11-04T00:00:00-04:00",
        &["2012-11-04T01:00:00-04:00", "2012-11-04T01:00:00-05:00", "2012-11-04T02:00:00-05:00"],
    );
    // The nightly job at one: robfig runs it twice (01:00-04:00 and 01:00-05:00).
    check(
        "0 0 1 * * ?",
        NEW_YORK,
        "2012-11-04T00:00:00-04:00",
        &["2012-11-04T01:00:00-04:00", "2012-11-05T01:00:00-05:00"],
    );
    check("0 0 1 * * ?", NEW_YORK, "2012-11-04T01:00:00-05:00", &["2012-11-05T01:00:00-05:00"]);
    // The nightly jobs at two and three: the same.
    check(
        "0 0 2 * * ?",
        NEW_YORK,
        "2012-11-04T00:00:00-04:00",
        &["2012-11-04T02:00:00-05:00", "2012-11-05T02:00:00-05:00"],
    );
    check(
        "0 0 3 * * ?",
        NEW_YORK,
        "2012-11-04T00:00:00-04:00",
        &["2012-11-04T03:00:00-05:00", "2012-11-05T03:00:00-05:00"],
    );
    // The monthly job: the same.
    check("0 0 3 3 * ?", NEW_YORK, "2012-11-04T00:00:00-04:00", &["2012-12-03T03:00:00-05:00"]);
}

#[test]
fn robfig_others() {
    // A midnight that does not exist lies on the way (its issue 157): the same.
    check("0 0 9 10 * ?", SAO_PAULO, "2018-10-17T05:00:00-04:00", &["2018-11-10T09:00:00-02:00"]);
    check("0 0 9 22 * ?", SAO_PAULO, "2018-02-14T05:00:00-05:00", &["2018-02-22T09:00:00-03:00"]);
    check("14 14 * * *", "Asia/Kolkata", "2016-01-03T13:09:03+05:30", &["2016-01-03T14:14:00+05:30"]);
    check("0 0 0 29 Feb ?", "UTC", "2012-07-09T23:35:00Z", &["2016-02-29T00:00:00+00:00"]);
    // A star in a day field asks for both, `*/5` too: the same (croner alone takes either).
    check("0 0 0 */5 Apr,Aug,Oct Mon", "UTC", "2012-07-09T23:35:00Z", &["2012-08-06T00:00:00+00:00"]);
    check(
        "0 0 0 */5 Oct Mon",
        "UTC",
        "2012-07-09T23:35:00Z",
        &["2012-10-01T00:00:00+00:00", "2013-10-21T00:00:00+00:00"],
    );
    check(
        "0 0 0 1,15 * Sun",
        "UTC",
        "2012-07-14T23:59:59Z",
        &["2012-07-15T00:00:00+00:00", "2012-07-22T00:00:00+00:00"],
    );
    // robfig answers with the zero time; here the rule is refused.
    check_never("0 0 0 30 Feb ?");
    check_never("0 0 0 31 Apr ?");
}

#[test]
fn croner_spring() {
    check(
        "0 30 2 * * *",
        STOCKHOLM,
        "2025-03-30T01:59:59+01:00",
        &["2025-03-30T03:00:00+02:00", "2025-03-31T02:30:00+02:00"],
    );
    check(
        "0 */5 * * * *",
        STOCKHOLM,
        "2025-03-30T01:59:59+01:00",
        &["2025-03-30T03:00:00+02:00", "2025-03-30T03:05:00+02:00"],
    );
    check(
        "* * * * * *",
        STOCKHOLM,
        "2025-03-30T01:59:59+01:00",
        &["2025-03-30T03:00:00+02:00", "2025-03-30T03:00:01+02:00"],
    );
    // Its issue 67: a job in the hour before the gap runs once.
    check(
        "0 0 * * *",
        LONDON,
        "2026-03-28T12:00:00Z",
        &["2026-03-29T00:00:00+00:00", "2026-03-30T00:00:00+01:00", "2026-03-31T00:00:00+01:00"],
    );
    check("0 0 * * *", LONDON, "2026-03-29T00:45:00Z", &["2026-03-30T00:00:00+01:00"]);
    check(
        "0 0 1 * * *",
        "America/Los_Angeles",
        "2026-03-07T12:00:00-08:00",
        &["2026-03-08T01:00:00-08:00", "2026-03-09T01:00:00-07:00", "2026-03-10T01:00:00-07:00"],
    );
    check("0 30 1 * * *", LONDON, "2026-03-29T00:45:00Z", &["2026-03-29T02:00:00+01:00"]);
    // A gap across midnight, 23:30 to 00:30: croner waits for 1920, because its gap must end on the same date.
    check(
        "0 45 23 30 3 *",
        "America/Toronto",
        "1919-03-25T12:00:00-05:00",
        &["1919-03-31T00:30:00-04:00", "1920-03-30T23:45:00-05:00"],
    );
    // croner for JavaScript moves by the length of the gap: 03:30, 03:30 and 02:30.
    check("0 30 2 * * *", NEW_YORK, "2025-03-09T06:00:00Z", &["2025-03-09T03:00:00-04:00"]);
    check("0 30 2 12 3 *", NEW_YORK, "2023-03-12T00:00:00Z", &["2023-03-12T03:00:00-04:00"]);
    check("0 30 1 * * *", LONDON, "2025-03-30T00:00:00Z", &["2025-03-30T02:00:00+01:00"]);
}

#[test]
fn croner_autumn() {
    check(
        "0 30 2 * * *",
        STOCKHOLM,
        "2025-10-26T01:59:59+02:00",
        &["2025-10-26T02:30:00+02:00", "2025-10-27T02:30:00+01:00"],
    );
    // From the second pass nothing of the same night is due again.
    check("30 2 * * *", PARIS, "2024-10-27T02:00:00+01:00", &["2024-10-28T02:30:00+01:00"]);
    check("30 2 * * *", PARIS, "2024-10-27T02:45:00+01:00", &["2024-10-28T02:30:00+01:00"]);
    check("30 2 26 10 *", PARIS, "2024-10-27T02:45:00+01:00", &["2025-10-26T02:30:00+02:00"]);
    // Every minute and every quarter of an hour run through both passes in real order.
    check("* * * * *", PARIS, "2024-10-27T02:59:00+02:00", &["2024-10-27T02:00:00+01:00", "2024-10-27T02:01:00+01:00"]);
    check("* * * * *", PARIS, "2024-10-27T02:30:00+01:00", &["2024-10-27T02:31:00+01:00"]);
    check(
        "*/15 * * * *",
        PARIS,
        "2024-10-27T02:45:00+02:00",
        &[
            "2024-10-27T02:00:00+01:00",
            "2024-10-27T02:15:00+01:00",
            "2024-10-27T02:30:00+01:00",
            "2024-10-27T02:45:00+01:00",
            "2024-10-27T03:00:00+01:00",
        ],
    );
    check(
        "0 0 */2 * * *",
        STOCKHOLM,
        "2025-10-25T23:59:59+02:00",
        &[
            "2025-10-26T00:00:00+02:00",
            "2025-10-26T02:00:00+02:00",
            "2025-10-26T02:00:00+01:00",
            "2025-10-26T04:00:00+01:00",
        ],
    );
    // The second pass is nearer than the first pass of the next year.
    check("*/20 2 26-27 10 *", PARIS, "2024-10-27T02:41:00+02:00", &["2024-10-27T02:00:00+01:00"]);
    check("*/30 2 26-27 10 *", PARIS, "2024-10-27T02:45:00+01:00", &["2025-10-26T02:00:00+02:00"]);
    check("* * * * *", "Pacific/Chatham", "2024-04-07T03:44:00+13:45", &["2024-04-07T02:45:00+12:45"]);
    // croner for JavaScript: the same once, but after 06:00Z it answers with a time in the past (05:30Z), and its
    // every-minute job skips the second pass (01:59-07:00, then 02:00-08:00).
    check(
        "0 30 1 * * *",
        NEW_YORK,
        "2025-11-02T04:00:00Z",
        &["2025-11-02T01:30:00-04:00", "2025-11-03T01:30:00-05:00"],
    );
    check("0 30 1 * * *", NEW_YORK, "2025-11-02T06:00:00Z", &["2025-11-03T01:30:00-05:00"]);
    check("0 30 1 * * *", LONDON, "2025-10-26T00:00:00Z", &["2025-10-26T01:30:00+01:00", "2025-10-27T01:30:00+00:00"]);
    check(
        "* * * * *",
        "America/Los_Angeles",
        "2025-11-02T08:58:00Z",
        &["2025-11-02T01:59:00-07:00", "2025-11-02T01:00:00-08:00", "2025-11-02T01:01:00-08:00"],
    );
}

#[test]
fn lists_and_ranges_are_clock_bound() {
    // As in cronie. croner calls these intervals: it would lose the night in spring and run it twice in autumn.
    check(
        "0,30 2 * * *",
        BERLIN,
        "2026-03-29T00:00:00+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
    );
    check(
        "30 2,14 * * *",
        BERLIN,
        "2026-03-29T00:00:00+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-29T14:30:00+02:00"],
    );
    check(
        "0,30 2 * * *",
        BERLIN,
        "2026-10-25T00:00:00+02:00",
        &["2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:00:00+01:00"],
    );
    // From the second pass on, the first moment that comes once is not forgotten.
    check("0,30 2,3 * * *", BERLIN, "2026-10-25T02:15:00+01:00", &["2026-10-25T03:00:00+01:00"]);
    // What was moved and what stands at the end of the gap anyway are one slot.
    check(
        "0 2,3 * * *",
        BERLIN,
        "2026-03-29T00:00:00+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
    );
    check("0-59 2 * * *", BERLIN, "2026-10-25T02:59:00+02:00", &["2026-10-26T02:00:00+01:00"]);
    // Steps and stars in the time of day are not: what falls into the gap falls out.
    check(
        "0 */2 * * *",
        BERLIN,
        "2026-03-29T00:00:00+01:00",
        &["2026-03-29T04:00:00+02:00", "2026-03-29T06:00:00+02:00"],
    );
    check("*/15 2 * * *", BERLIN, "2026-03-29T00:00:00+01:00", &["2026-03-30T02:00:00+02:00"]);
}

#[test]
fn half_an_hour_at_lord_howe() {
    // Spring: 02:00 becomes 02:30. Autumn: 02:00 becomes 01:30.
    check(
        "10 2 * * *",
        LORD_HOWE,
        "2026-10-04T00:00:00+10:30",
        &["2026-10-04T02:30:00+11:00", "2026-10-05T02:10:00+11:00"],
    );
    check("*/20 * * * *", LORD_HOWE, "2026-10-04T01:40:00+10:30", &["2026-10-04T02:40:00+11:00"]);
    check(
        "45 1 * * *",
        LORD_HOWE,
        "2026-04-05T00:00:00+11:00",
        &["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
    );
    check(
        "*/15 * * * *",
        LORD_HOWE,
        "2026-04-05T01:30:00+11:00",
        &[
            "2026-04-05T01:45:00+11:00",
            "2026-04-05T01:30:00+10:30",
            "2026-04-05T01:45:00+10:30",
            "2026-04-05T02:00:00+10:30",
        ],
    );
}

#[test]
fn midnight_does_not_exist() {
    check(
        "0 0 * * *",
        SAO_PAULO,
        "2018-11-03T12:00:00-03:00",
        &["2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"],
    );
    check("@daily", BEIRUT, "2026-03-28T12:00:00+02:00", &["2026-03-29T01:00:00+03:00", "2026-03-30T00:00:00+03:00"]);
    check("@weekly", BEIRUT, "2026-03-28T12:00:00+02:00", &["2026-03-29T01:00:00+03:00", "2026-04-05T00:00:00+03:00"]);
    // Midnight comes twice: 2018-02-18T00:00-02:00 is 2018-02-17T23:00-03:00.
    check(
        "30 23 * * *",
        SAO_PAULO,
        "2018-02-17T12:00:00-02:00",
        &["2018-02-17T23:30:00-02:00", "2018-02-18T23:30:00-03:00"],
    );
    check(
        "@hourly",
        SAO_PAULO,
        "2018-02-17T23:00:00-02:00",
        &["2018-02-17T23:00:00-03:00", "2018-02-18T00:00:00-03:00"],
    );
}

#[test]
fn samoa_skips_a_day() {
    // croner ends its search with an error: it looks no further than two hours past a gap.
    check(
        "0 9 * * *",
        APIA,
        "2011-12-29T09:00:00-10:00",
        &["2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00", "2012-01-01T09:00:00+14:00"],
    );
    check(
        "0 9 30 12 *",
        APIA,
        "2011-06-01T00:00:00-11:00",
        &["2011-12-31T00:00:00+14:00", "2012-12-30T09:00:00+14:00"],
    );
    check("* * * * * *", APIA, "2011-12-29T23:59:59-10:00", &["2011-12-31T00:00:00+14:00"]);
}

#[test]
fn intervals_count_from_the_epoch() {
    check("every 90s", "UTC", "1970-01-01T00:00:00Z", &["1970-01-01T00:01:30+00:00", "1970-01-01T00:03:00+00:00"]);
    check("every 2h", BERLIN, "2026-03-29T00:59:59Z", &["2026-03-29T04:00:00+02:00", "2026-03-29T06:00:00+02:00"]);
    check("every 7d", "UTC", "2026-01-01T00:00:00Z", &["2026-01-08T00:00:00+00:00"]);
    check(
        "every 1500ms",
        "UTC",
        "1969-12-31T23:59:58Z",
        &["1969-12-31T23:59:58.500+00:00", "1970-01-01T00:00:00+00:00"],
    );
    for refused in [Duration::from_millis(999), Duration::ZERO, Duration::MAX] {
        assert!(matches!(Rule::every(refused), Err(Error::Interval { .. })), "{refused:?}");
    }
}

#[test]
fn the_calendar() {
    // Day of month or weekday when both are set, as in crontab(5); `+` asks for both.
    check("0 0 13 * FRI", "UTC", "2026-02-01T00:00:00Z", &["2026-02-06T00:00:00+00:00", "2026-02-13T00:00:00+00:00"]);
    check("0 0 13 * FRI", "UTC", "2026-04-10T00:00:00Z", &["2026-04-13T00:00:00+00:00", "2026-04-17T00:00:00+00:00"]);
    check(
        "0 0 13 * +FRI",
        "UTC",
        "2026-02-01T00:00:00Z",
        &["2026-02-13T00:00:00+00:00", "2026-03-13T00:00:00+00:00", "2026-11-13T00:00:00+00:00"],
    );
    // Months without a 31st are passed over; `L` is the last day of each.
    check("0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", &["2026-03-31T00:00:00+00:00", "2026-05-31T00:00:00+00:00"]);
    check("0 0 L * *", "UTC", "2028-01-31T00:00:00Z", &["2028-02-29T00:00:00+00:00", "2028-03-31T00:00:00+00:00"]);
    check("0 0 LW * *", "UTC", "2026-01-01T00:00:00Z", &["2026-01-30T00:00:00+00:00", "2026-02-27T00:00:00+00:00"]);
    check(
        "0 0 15W * *",
        "UTC",
        "2026-02-01T00:00:00Z",
        &["2026-02-16T00:00:00+00:00", "2026-03-16T00:00:00+00:00", "2026-04-15T00:00:00+00:00"],
    );
    check("0 0 * * FRI#2", "UTC", "2026-02-01T00:00:00Z", &["2026-02-13T00:00:00+00:00"]);
    check("0 0 * * FRIL", "UTC", "2026-02-01T00:00:00Z", &["2026-02-27T00:00:00+00:00"]);
    check("0 0 * * 7", "UTC", "2026-02-02T00:00:00Z", &["2026-02-08T00:00:00+00:00"]);
    check(
        "0 0 * * SAT-SUN",
        "UTC",
        "2026-02-02T00:00:00Z",
        &["2026-02-07T00:00:00+00:00", "2026-02-08T00:00:00+00:00", "2026-02-14T00:00:00+00:00"],
    );
    // 2100 is no leap year, and forty years pass without a 29 February on a Monday.
    check("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00+00:00"]);
    check("0 0 29 2 +MON", "UTC", "2072-03-01T00:00:00Z", &["2112-02-29T00:00:00+00:00"]);
    check_never("0 0 30 2 *");
    check_never("0 0 31 4,6,9,11 *");
    check_never("0 0 30W 2 *");
    check_never("0 0 1-6 * +MON#2");
}

#[test]
fn parts_of_a_second_and_the_ends_of_time() {
    check("* * * * * *", "UTC", "2026-01-01T00:00:00.001Z", &["2026-01-01T00:00:01+00:00"]);
    check("0 0 * * *", "UTC", "2025-12-31T23:59:59.999Z", &["2026-01-01T00:00:00+00:00"]);
    check("30 2 * * *", BERLIN, "2026-03-29T00:59:59.999Z", &["2026-03-29T03:00:00+02:00"]);
    check(
        "* * * * * *",
        PARIS,
        "2024-10-27T00:59:59.500Z",
        &["2024-10-27T02:00:00+01:00", "2024-10-27T02:00:01+01:00"],
    );
    check("0 0 1 1 *", NEW_YORK, "1969-12-31T23:59:59.500-05:00", &["1970-01-01T00:00:00-05:00"]);
    for expression in ["* * * * * *", "0 2 29 2 *"] {
        let rule = Rule::cron(expression, timezone(BERLIN).unwrap()).unwrap();
        assert!(rule.next_after(Timestamp::from_millis(i64::MIN)).is_some(), "{expression}");
        assert_eq!(rule.next_after(Timestamp::from_millis(i64::MAX)), None, "{expression}");
    }
    let every = Rule::every(Duration::from_hours(1)).unwrap();
    assert_eq!(every.next_after(Timestamp::from_millis(i64::MAX)), None);
    assert!(every.next_after(Timestamp::from_millis(i64::MIN)).is_some());
}

#[test]
fn notes_say_what_the_clocks_did() {
    check_note(
        "30 2 * * *",
        BERLIN,
        "2026-03-28T12:00:00Z",
        Some("02:30 does not exist on 2026-03-29 in Europe/Berlin; runs at 03:00"),
    );
    check_note(
        "30 1 * * *",
        NEW_YORK,
        "2026-11-01T00:00:00-04:00",
        Some("01:30 happens twice on 2026-11-01 in America/New_York; runs the first time"),
    );
    check_note(
        "*/15 * * * *",
        BERLIN,
        "2026-10-25T02:00:00+02:00",
        Some("02:15 happens twice on 2026-10-25 in Europe/Berlin; this is the first time"),
    );
    check_note(
        "*/15 * * * *",
        BERLIN,
        "2026-10-25T02:00:00+01:00",
        Some("02:15 happens twice on 2026-10-25 in Europe/Berlin; this is the second time"),
    );
    check_note(
        "0 */2 * * *",
        BERLIN,
        "2026-03-29T00:00:00+01:00",
        Some("02:00 does not exist on 2026-03-29 in Europe/Berlin; it follows real time and goes on at 04:00"),
    );
    check_note(
        "*/15 2 * * *",
        BERLIN,
        "2026-03-29T00:00:00+01:00",
        Some(
            "02:00 does not exist on 2026-03-29 in Europe/Berlin; it follows real time and goes on at \
            2026-03-30 02:00",
        ),
    );
    check_note(
        "0 9 30 12 *",
        APIA,
        "2011-06-01T00:00:00Z",
        Some("09:00 does not exist on 2011-12-30 in Pacific/Apia; runs at 2011-12-31 00:00"),
    );
    check_note(
        "5 30 2 * * *",
        BERLIN,
        "2026-03-28T12:00:00Z",
        Some("02:30:05 does not exist on 2026-03-29 in Europe/Berlin; runs at 03:00"),
    );
    // Nothing happened: an ordinary day, and slots on both sides of the gap as far apart as ever.
    check_note("30 2 * * *", BERLIN, "2026-05-01T00:00:00Z", None);
    check_note("*/15 * * * *", BERLIN, "2026-03-29T01:45:00+01:00", None);
    check_note("0 3 * * *", BERLIN, "2026-03-29T00:00:00+01:00", None);
    check_note("every 1h", BERLIN, "2026-03-29T00:00:00+01:00", None);
}

/// Every minute of two days in awkward zones against the promise in its plainest form: a real-time rule is due when
/// the wall matches; a clock-bound rule is due when the wall shows, or jumps over, a match for the first time. Asked
/// both from the minute before and by walking from the start.
#[test]
fn minute_by_minute() {
    let days = [
        (BERLIN, "2026-03-28T12:00:00Z"),
        (BERLIN, "2026-10-24T12:00:00Z"),
        (LORD_HOWE, "2026-10-03T03:00:00Z"),
        (LORD_HOWE, "2026-04-04T03:00:00Z"),
        (SAO_PAULO, "2018-11-03T12:00:00Z"),
        (SAO_PAULO, "2018-02-17T12:00:00Z"),
        (BEIRUT, "2026-03-28T12:00:00Z"),
        (APIA, "2011-12-29T20:00:00Z"),
        ("Africa/Casablanca", "2026-02-14T12:00:00Z"),
        ("Europe/Dublin", "2026-10-24T12:00:00Z"),
        ("America/Toronto", "1919-03-30T12:00:00Z"),
    ];
    let expressions = [
        "* * * * *",
        "*/7 * * * *",
        "13 * * * *",
        "*/10 1-3 * * *",
        "0 */2 * * *",
        "30 2 * * *",
        "15,45 0-3 * * *",
        "0 0 * * *",
        "59 23 * * *",
        "0-59 2 * * *",
        "40 23 30 * *",
    ];
    for (zone, start) in days {
        for expression in expressions {
            check_minutes(expression, zone, Timestamp::parse_rfc3339(start).unwrap());
        }
    }
}

#[track_caller]
fn check_minutes(expression: &str, zone: &str, start: Timestamp) {
    const MINUTES: u64 = 40 * 60;
    let cron: croner::Cron = expression.parse().unwrap();
    let zone = timezone(zone).unwrap();
    let rule = Rule::cron(expression, zone).unwrap();
    let matches = |wall: &NaiveDateTime| cron.is_time_matching(wall).unwrap();
    let mut wall_next = start.to_utc().with_timezone(&zone).naive_local() + TimeDelta::minutes(1);
    let (mut promised, mut asked) = (Vec::new(), Vec::new());
    for minute in 1..=MINUTES {
        let now = start.plus(Duration::from_mins(minute));
        let wall = now.to_utc().with_timezone(&zone).naive_local();
        let mut due = rule.timing() == Timing::RealTime && matches(&wall);
        while wall_next <= wall {
            due |= rule.timing() == Timing::ClockBound && matches(&wall_next);
            wall_next += TimeDelta::minutes(1);
        }
        promised.extend(due.then_some(now));
        let next = rule.next_after(now.minus(Duration::from_mins(1)));
        asked.extend(next.map(|slot| slot.due).filter(|due| *due == now));
    }
    let slots = rule.slots(start, start.plus(Duration::from_mins(MINUTES)), usize::MAX);
    let walked: Vec<Timestamp> = slots.iter().map(|slot| slot.due).collect();
    assert_eq!(walked, promised, "{expression} in {zone} from {start}");
    assert_eq!(asked, promised, "{expression} in {zone} from {start}, asked each minute");
}
