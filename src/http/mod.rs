//! The two HTTP doors: hooks, which platforms call, and control, which people and programs call. They parse, check and
//! ask the gateway; they hold no rules of their own and start nothing that outlives a request.

mod api;
/// Who calls the control door, and what they may do.
pub mod auth;
mod body;
/// The control door.
pub mod control;
/// What a caller is told when something is not done.
pub mod problem;
mod query;
/// Opens the doors.
pub mod server;
/// The certificate of the hooks door.
pub mod tls;
/// The hooks door.
pub mod webhook;

#[cfg(test)]
mod tests;
