//! One binary for all tests that go through a door: one module per capability.
#![expect(clippy::unwrap_used, reason = "tests")]

mod store_contract;
