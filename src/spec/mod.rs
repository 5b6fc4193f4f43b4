//! YAML in, checked structs and problems out.
//!
//! One way for every file: text → [`yaml`] (a JSON value and a [`source_map`]) → [`structure`] (judged by the JSON
//! Schema that [`schema`] makes of the structs in [`raw`]) → those structs. So what `check` says, what an editor
//! says and what the program accepts come from one source. This part opens no files and decides nothing about time.

/// Problems and the reports made of them.
pub mod diagnostic;
/// The files as written.
pub mod raw;
/// The published JSON Schemas.
pub mod schema;
/// From path to place.
pub mod source_map;
/// Files against their schemas.
pub mod structure;
mod words;
/// Text into values and places.
pub mod yaml;
