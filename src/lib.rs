//! Clawhook: platforms call it, clocks call it; it runs YAML workflows and keeps a record of every run.
//!
//! The modules in reading order. A module imports only from those above it in this list that stand on a
//! lower floor (see `docs/ARCHITECTURE.md`); `tests/it/tidy.rs` keeps the rule.

/// Wall time, real and test.
pub mod clock;
/// What the house is about, and the pure rules over it.
pub mod domain;
/// Typed identifiers.
pub mod id;
/// Every bound, with unit and reason.
pub mod limits;
/// The one HTTP client: egress guard, bounded answers, measured parts.
pub mod outbound;
/// Where runs are kept.
pub mod store;
