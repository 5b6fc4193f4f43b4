//! A source made runnable: where deliveries are fetched, and the routes that they take.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::{RoutePlan, Verify};
use crate::domain::secret::SecretRef;
use crate::id::{RouteName, SourceName};

/// A place that deliveries are fetched from.
#[derive(Debug)]
pub struct SourcePlan {
    pub name: SourceName,
    pub kind: SourceKind,
    pub enabled: bool,
    /// What becomes of its deliveries; the catalog has them under these names, with the path of the source.
    pub routes: Vec<RouteName>,
}

/// What is asked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    Sqs(Arc<Sqs>),
}

/// A queue of Amazon SQS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sqs {
    pub queue_url: Url,
    pub region: String,
    pub access_key_id: AccessKeyId,
    pub secret_access_key: SecretRef,
    pub session_token: Option<SecretRef>,
    pub unwrap: Option<Unwrap>,
    /// How long a message is hidden from others at a time.
    pub visibility: Duration,
}

/// The id of an access key: no secret by itself, and some keep it with the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessKeyId {
    Plain(String),
    Secret(SecretRef),
}

/// What wraps a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwrap {
    Sns,
    EventBridge,
}

impl SourcePlan {
    /// The path of the routes of a source. A request's path begins with a slash, so none can have it.
    pub fn path(name: &SourceName) -> String {
        format!("source:{name}")
    }
}

impl SourceKind {
    /// The word that stands for it in files and lists.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqs(_) => "sqs",
        }
    }

    /// Where it fetches, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Sqs(sqs) => sqs.queue_url.to_string(),
        }
    }
}

impl RoutePlan {
    /// Whether its deliveries are fetched, and nobody can call it.
    pub fn is_fetched(&self) -> bool {
        matches!(self.verify, Verify::Fetched(_))
    }
}
