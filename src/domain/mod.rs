//! What the house is about: runs, their events, and the pure rules over them. No I/O, no SQL, no HTTP.

/// What people decided about a task that waits for them.
pub mod approval;
/// What was sent in one attempt, and what came back.
pub mod attempt;
/// Bodies as expressions see them.
pub mod body;
/// Sizes as people write them: `2MiB`, `64KiB`, `512`.
pub mod byte_size;
/// One inbound request, and what makes two the same.
pub mod delivery;
/// Durations as people write them: `90s`, `1h30m`, `3d`.
pub mod duration;
/// What is written to a run's log.
pub mod event;
/// Why something did not succeed, whose side it is on, whether a retry can help.
pub mod failure;
/// The typed inputs of a workflow.
pub mod input;
/// Entries beside the runs: audit, refusals, gateway events.
pub mod journal;
/// Secrets out of what people see, in every derived form.
pub mod masking;
/// Rates as people write them: `50/s`, `1000/h`.
pub mod rate;
/// When to try again.
pub mod retry;
/// The fold of a run's log.
pub mod run;
/// Schedules and their slots: cron and interval rules, DST, catch-up, jitter, backfill.
pub mod schedule;
/// References to secrets, and values that are never shown.
pub mod secret;
/// Signatures under what we send.
pub mod signing;
/// Where a run stands, and what may happen next.
pub mod state;
/// Which step of a run.
pub mod step;
/// How far sweeps have come, and what they found.
pub mod sweep;
/// Why a run exists.
pub mod trigger;
