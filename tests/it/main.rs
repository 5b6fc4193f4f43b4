//! One binary for all tests that go through a door: one module per capability.
#![expect(clippy::unwrap_used, reason = "tests")]

mod schemas;
mod signature_vectors;
mod spec_errors;
mod spec_semantics;
mod store_contract;
