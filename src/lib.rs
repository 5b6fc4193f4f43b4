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

/// [1] Azure as this house speaks to it: clouds, identities, one transport.
pub mod azure;

/// [1] What a gateway needs and costs.
pub mod estimate;

/// [2] The one HTTP client: bounded, measured, and kept away from private addresses.
pub mod outbound;

/// [3] Where runs are kept.
pub mod store;

/// [3] Where bodies and tables are kept that are too large for the log of a run.
pub mod artifacts;

/// [3] Where secret values come from.
pub mod secrets;

/// [3] Whether a request comes from who it says.
pub mod signature;

/// [3] Where people are told, and how often.
pub mod channels;

/// [4] What a workflow can do, and the plans made of it.
pub mod tasks;

/// [5] YAML in, checked plans out, every problem at once.
pub mod spec;

/// [5] Drives runs from their logs.
pub mod engine;

/// [5] What platforms were asked to send here.
pub mod subscriptions;

/// [6] What `clawhook.yaml` and the environment say.
pub mod settings;

/// [6] One method for each thing that a caller can ask.
pub mod gateway;

/// [7] The hooks door and the control door.
pub mod http;

/// [7] What is fetched instead of being sent here.
pub mod sources;

/// [7] Logs and metrics of the process.
pub mod telemetry;

/// [8] Settings in, running gateway out.
pub mod boot;

/// [8] Whether this machine is fit, and what mends it.
pub mod doctor;

/// [8] Plays the tests that users write for their workflows, offline.
pub mod trials;

/// [9] The command line: one file for each verb.
pub mod cli;
