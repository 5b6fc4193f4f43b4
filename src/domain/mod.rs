//! What the house is about: runs, their events, and the pure rules over them. No I/O, no SQL, no HTTP.

/// What was sent in one attempt, and what came back.
pub mod attempt;
/// One inbound request, and what makes two the same.
pub mod delivery;
/// What is written to a run's log.
pub mod event;
/// Why something did not succeed, whose side it is on, whether a retry can help.
pub mod failure;
/// Entries beside the runs: audit, refusals, gateway events.
pub mod journal;
/// When to try again.
pub mod retry;
/// The fold of a run's log.
pub mod run;
/// References to secrets, and values that are never shown.
pub mod secret;
/// Where a run stands, and what may happen next.
pub mod state;
/// Why a run exists.
pub mod trigger;
