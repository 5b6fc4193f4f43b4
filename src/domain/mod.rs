//! The words of the house as types that cannot be wrong. Pure: no file, no socket, no clock.
//! Raw YAML is turned into these by `spec`; everything above reads them and checks nothing again.

/// Sizes as people write them: `2MiB`, `64KiB`, `512`.
pub mod byte_size;
/// Durations as people write them: `90s`, `1h30m`, `3d`.
pub mod duration;
/// Rates as people write them: `50/s`, `1000/h`.
pub mod rate;
/// Schedules and their slots: cron and interval rules, DST, catch-up, jitter, backfill.
pub mod schedule;
