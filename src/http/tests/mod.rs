//! Both doors over real sockets, with the real gateway on a store in memory behind them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod control;
mod events;
mod far;
mod fixture;
mod hooks;
mod issuer;
mod sns;
mod walmart;
