//! Clawhook: platforms call it, clocks call it; it runs YAML workflows and keeps a record of every run.
//!
//! The modules in reading order. A module imports only from those above it in this list that stand on a
//! lower floor (see `docs/ARCHITECTURE.md`); `tests/it/tidy.rs` keeps the rule.

/// Wall time, real and test.
pub mod clock;
/// Typed identifiers.
pub mod id;
/// Every bound, with unit and reason.
pub mod limits;
/// YAML in, checked structs and problems out.
pub mod spec;
