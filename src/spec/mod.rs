//! YAML in, checked structs and problems out.
//!
//! One way for every file: text → [`yaml`] (a JSON value and a [`source_map`]) → [`structure`] (judged by the JSON
//! Schema that [`schema`] makes of the structs in [`raw`]) → those structs → plans. So what `check` says, what an
//! editor says and what the program accepts come from one source. [`Files::read`] reads the folders; nothing else here
//! opens files, reads a secret or the clock.

/// Problems and the reports made of them.
pub mod diagnostic;
mod folder;
mod inside;
mod load;
/// Settings from the environment.
pub mod overrides;
/// The files as written.
pub mod raw;
/// The language as Markdown.
pub mod reference;
mod resolve;
/// The published JSON Schemas.
pub mod schema;
/// From path to place.
pub mod source_map;
/// Files against their schemas.
pub mod structure;
mod words;
/// Text into values and places.
pub mod yaml;

pub use self::folder::{Files, SourceFile};
pub use self::load::{Around, Loaded, RoutesCompiled, compile_routes, compile_workflow, extensions, load, reader};
pub(crate) use self::resolve::Desk;
pub use self::resolve::{SecretUse, missing_secrets, unfit_keys};
