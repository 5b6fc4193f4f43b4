//! Bounds of schedules and of sweeps.

use std::time::Duration;

/// Shortest `every` of a schedule; a faster clock is a queue, not a schedule.
pub const EVERY_MIN: Duration = Duration::from_secs(1);
/// Bytes of one cron expression.
pub const CRON_BYTES_MAX: usize = 256;
/// How late the newest slot may enter and still count as on time: a restart, a slow store. Older slots are missed, and
/// `catchup` rules.
pub const SLOT_LATE_MAX: Duration = Duration::from_mins(1);
/// How far back `catchup` reaches when a schedule sets no `catchup_window`.
pub const CATCHUP_WINDOW: Duration = Duration::from_hours(24);
/// Given-up slots that are counted one by one; past this the count is a lower bound.
pub const MISSED_COUNTED_MAX: usize = 10_000;
/// What changed this shortly before a sweep is left to the next one when `settle` is not set: its webhook may still be
/// on the way. Most platforms make their first try within seconds.
pub const SWEEP_SETTLE: Duration = Duration::from_mins(5);
/// How far a sweep looks back behind where the last one ended when `lookback` is not set: lists lag, and objects change
/// while they are read.
pub const SWEEP_LOOKBACK: Duration = Duration::from_hours(3);
/// Objects that one sweep looks at when `max_items` is not set.
pub const SWEEP_ITEMS_DEFAULT: u32 = 20_000;
/// Objects of a page that are accepted in one write.
pub const SWEEP_ACCEPTS_MAX: usize = 64;
/// How often a page that fails is asked for again: about half an hour in all.
pub const SWEEP_RETRIES: u32 = 8;
/// First pause before a page is asked for again; it doubles.
pub const SWEEP_RETRY_DELAY: Duration = Duration::from_secs(10);
/// How long one sweep may take in all, pauses for quota included.
pub const SWEEP_TIMEOUT: Duration = Duration::from_hours(6);
/// Pages of a platform's subscriptions that are read: a hundred of a hundred each.
pub const SUBSCRIPTION_PAGES_MAX: usize = 100;
/// Longest that a command waits for the quota of a platform's subscriptions.
pub const SUBSCRIPTION_WAIT_MAX: Duration = Duration::from_mins(2);
