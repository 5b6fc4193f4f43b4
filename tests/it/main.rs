//! One binary for all tests that go through a door: one module per capability.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "tests read switches from the environment and spawn what they kill")]

mod api;
mod app;
mod approval;
mod artifacts;
mod azure_sql;
mod blob;
mod cancel;
mod chat;
mod children;
mod cli;
mod command;
mod cookbook;
mod crash;
mod dependencies;
mod doctor;
mod download;
mod emulators;
mod envelope;
mod errors;
mod examples;
mod flow;
mod infra;
mod kept;
mod key_vault;
mod kit;
mod migrate;
mod notify;
mod numbered;
mod outage;
mod paginate;
mod plan;
mod process;
mod quota;
mod redact;
mod reminder;
mod replay;
mod reports;
mod retry;
mod returns;
mod schedule;
mod schemas;
mod secrecy;
mod signature_vectors;
mod simulation;
mod spec_errors;
mod spec_semantics;
mod sql;
/// The ERP that workflows call.
#[path = "../../infra/standin/standin.rs"]
mod standin;
mod store_contract;
mod systemd;
mod tables;
mod tds;
mod tidy;
mod tls;
mod trials;
mod two_nodes;
mod webhook;
mod wire;
mod workflow;
