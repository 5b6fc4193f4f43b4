//! Clawhook: platforms call it, clocks call it; it runs YAML workflows and keeps a record of every run.
//!
//! The modules in reading order. A module imports only from those on lower floors (the number in brackets);
//! `tests/it/tidy.rs` keeps the rule and `docs/ARCHITECTURE.md` draws the house.

/// [0] Every bound, with unit and reason.
pub mod limits;

/// [0] Wall time, real and test.
pub mod clock;

/// [0] Typed identifiers.
pub mod id;

/// [1] What the house is about, and the pure rules over it.
pub mod domain;

/// [1] The expression language: parse and evaluate, no I/O.
pub mod expr;

/// [3] Where runs are kept.
pub mod store;

/// [3] Whether a request comes from who it says.
pub mod signature;

/// [5] YAML in, checked plans out, every problem at once.
pub mod spec;

/// [7] The hooks door and the control door.
pub mod http;
