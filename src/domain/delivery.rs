//! One inbound request claimed by a route, and what makes two of them the same.

use serde::{Deserialize, Serialize};

use super::step::StepId;
use crate::clock::Timestamp;
use crate::id::{RouteName, RunId, ScheduleName, WorkflowName};

/// What is kept of a delivery beside its body, after redaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The platform's id of it, when it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Request method.
    pub method: String,
    /// Path as received.
    pub path: String,
    /// Raw query as received.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// Header names in lower case with their values, in order, without those that carry credentials.
    pub headers: Vec<(String, String)>,
    /// The sender's address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remote: String,
    /// The scheme that verified it, such as `shopify`; `sweep` when the far end was asked for it.
    pub verified_by: String,
    /// The run of the sweep that found it at the platform, when it did not come by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept_by: Option<RunId>,
}

/// What makes two deliveries (or two slots, or two API calls) the same: 128 bits of a hash over where it came in
/// and its id there. 128 bits leave a false duplicate, which would lose an order, at about one in 10^19 for a
/// billion deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey([u8; 16]);

impl DeliveryKey {
    /// The key of a delivery with this id at this path.
    pub fn of_delivery(path: &str, id: &[u8]) -> Self {
        Self::hash(&[b"delivery", path.as_bytes(), id])
    }

    /// The key of a delivery with this body at this path: dedupe by content, and the replay guard.
    pub fn of_body(path: &str, body: &[u8]) -> Self {
        Self::hash(&[b"body", path.as_bytes(), body])
    }

    /// The key of a schedule's slot.
    pub fn of_slot(schedule: &ScheduleName, due: Timestamp) -> Self {
        Self::hash(&[b"slot", schedule.as_str().as_bytes(), &due.as_millis().to_be_bytes()])
    }

    /// The key of an API call: who may reuse it, for what, and the `Idempotency-Key` that was sent.
    pub fn of_call(caller: &str, verb: &str, key: &str) -> Self {
        Self::hash(&[b"call", caller.as_bytes(), verb.as_bytes(), key.as_bytes()])
    }

    /// The key of a run that a step of another starts.
    pub fn of_child(parent: RunId, step: &StepId) -> Self {
        Self::hash(&[b"child", &parent.as_u64().to_be_bytes(), step.to_string().as_bytes()])
    }

    /// The key of a run that a step of another starts under a key of its own: one for the workflow and the key, whoever
    /// starts it.
    pub fn of_shared_child(workflow: &WorkflowName, key: &str) -> Self {
        Self::hash(&[b"shared child", workflow.as_str().as_bytes(), key.as_bytes()])
    }

    /// The key of what is told about the end of a run; `ending` counts how often it has ended before.
    pub fn of_callback(run: RunId, ending: u32) -> Self {
        Self::hash(&[b"callback", &run.as_u64().to_be_bytes(), &ending.to_be_bytes()])
    }

    /// A key that nothing else has.
    pub fn unique() -> Self {
        Self(rand::random())
    }

    /// The key that a store keeps as these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes; stores use them as their key.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn hash(parts: &[&[u8]]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in parts {
            // Lengths are hashed too, so that no two lists of parts read alike.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(key)
    }
}

/// The route that took a delivery, as it stood then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRef {
    /// Its name.
    pub name: RouteName,
    /// The revision of the file it stands in.
    pub revision: crate::id::Revision,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_parts_apart() {
        assert_eq!(DeliveryKey::of_delivery("/a", b"b"), DeliveryKey::of_delivery("/a", b"b"));
        assert_ne!(DeliveryKey::of_delivery("/a", b"b"), DeliveryKey::of_delivery("/ab", b""));
        assert_ne!(DeliveryKey::of_delivery("/a", b"b"), DeliveryKey::of_body("/a", b"b"));
        assert_ne!(DeliveryKey::unique(), DeliveryKey::unique());
    }
}
