//! What every kind that calls a far end is made of: a [`Call`] makes the request, [`send`] makes it go out with all that
//! its connection wants, and an [`Answer`] judges what came back. There is no second way to speak HTTP.

mod answer;
mod call;
mod failures;
pub(super) mod link;
mod paginate;
mod send;

use schemars::Schema;
use serde_json::Value;

use super::printed;

pub(super) use answer::{Answer, RESPONSE, RawAnswer, joined};
pub(super) use call::{Call, RawCall};
pub(super) use failures::{masked, unproved};
pub(super) use paginate::{Page, Paginate, Position, RawPages, Turned, next_page, remember};
pub(super) use send::{Stead, caller, send, send_as};

/// The schema of a `with` that is read by several parts: all their keys, and no others.
pub(super) fn joined_schema(description: &str, parts: impl IntoIterator<Item = Schema>) -> Schema {
    let mut parts = parts.into_iter();
    let mut joined = parts.next().unwrap_or_default();
    for mut part in parts {
        for key in ["properties", "required", "$defs"] {
            match (joined.get_mut(key), part.remove(key)) {
                (Some(Value::Object(all)), Some(Value::Object(more))) => all.extend(more),
                (Some(Value::Array(all)), Some(Value::Array(more))) => all.extend(more),
                (None, Some(more)) => drop(joined.insert(key.to_owned(), more)),
                _ => {}
            }
        }
    }
    joined.insert("title".to_owned(), "With".into());
    joined.insert("description".to_owned(), description.into());
    joined.insert("additionalProperties".to_owned(), false.into());
    joined
}
