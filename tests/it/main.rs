//! One binary for all tests that go through a door: one module per capability.
#![expect(clippy::unwrap_used, reason = "tests")]

mod dependencies;
mod infra;
mod schemas;
mod signature_vectors;
mod simulation;
mod spec_errors;
/// The ERP that workflows call.
#[path = "../../infra/standin/standin.rs"]
mod standin;
mod store_contract;
