//! From what people wrote to what can run: names exist, durations are durations, expressions are parsed and look up
//! only what they will see. Everything that is wrong is told, each at its own place; what is healthy goes on.
//!
//! This part asks nobody: connections come in by name, and secrets go out as a list for the caller to look up.

mod desk;
mod flow;
mod list;
mod redact;
mod route;
mod schedule;
mod scope;
mod secrets;
mod source;
mod subscription;
mod sweep;
mod task;
mod unique;
mod verify;
mod workflow;

pub(crate) use self::desk::Desk;
pub(super) use self::flow::schemas as flow_schemas;
pub(super) use self::route::resolve_route;
pub(super) use self::schedule::resolve_schedule;
pub use self::secrets::{SecretUse, missing_secrets, unfit_keys};
pub(super) use self::source::resolve_source;
pub(super) use self::sweep::resolve_sweep;
pub(super) use self::unique::{tell_duplicates, tell_shared_paths};
pub(super) use self::verify::schema as verify_schema;
pub(super) use self::workflow::{callee, resolve_workflow};

use crate::domain::input::Input;

/// What routes and schedules must know of a workflow, whether or not it is healthy.
#[derive(Debug)]
pub(crate) struct Callee {
    pub(super) name: String,
    /// The declared inputs; one whose form is wrong is known by its name alone.
    pub(super) inputs: Vec<(String, Option<Input>)>,
}

/// The workflows of a load; `None` when routes are read by themselves.
pub(crate) type Callees<'a> = Option<&'a [Callee]>;
