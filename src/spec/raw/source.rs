//! `sources` of `routes/*.yaml`: where deliveries are fetched that nobody sends here.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::route::{Dedupe, yes};
use super::{Condition, Duration, SecretRef, TextOrSecret};

/// A place that deliveries are fetched from, and the routes that they take.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The name of the source.
    pub name: String,
    /// What the source is for, for people.
    pub description: Option<String>,
    /// A queue of Amazon SQS, such as the one that Selling Partner API notifications go to.
    pub sqs: Option<Sqs>,
    /// What makes two deliveries of the source the same, for all its routes.
    pub dedupe: Option<Dedupe>,
    /// What becomes of a delivery: each route whose filter wants it starts a run, all in one durable write.
    #[schemars(length(min = 1))]
    pub routes: Vec<SourceRoute>,
    /// `false` fetches nothing.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A queue of Amazon SQS.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sqs {
    /// The URL of the queue, as `https://sqs.us-east-1.amazonaws.com/123456789012/spapi`.
    pub queue_url: String,
    /// The region that calls are signed for; read from the URL when left out.
    pub region: Option<String>,
    /// The id of the access key that may receive and delete messages of the queue.
    pub access_key_id: TextOrSecret,
    /// The secret of that key.
    pub secret_access_key: SecretRef,
    /// The token that goes with keys that end.
    pub session_token: Option<SecretRef>,
    /// What wraps a message, and is taken off: `sns` for a topic that sends to the queue, `eventbridge` for a rule.
    pub unwrap: Option<Unwrap>,
    /// How long a message is hidden from others at a time, between 30s and 12h; 1m when left out.
    pub visibility_timeout: Option<Duration>,
}

/// What wraps a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unwrap {
    /// The envelope of Amazon SNS: the delivery is its `Message`.
    Sns,
    /// The envelope of Amazon `EventBridge`: the delivery is its `detail`.
    Eventbridge,
}

/// What becomes of a delivery that was fetched.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceRoute {
    /// The name of the route, beside those of all other routes.
    pub name: String,
    /// What the route is for, for people.
    pub description: Option<String>,
    /// Starts a run only when this expression is true; other deliveries are taken from the source and counted.
    pub filter: Option<Condition>,
    /// How much is worked on at one time.
    pub limits: Option<SourceLimits>,
    /// Paths of the body that are removed before anything is stored, such as `$.Payload.Customer`.
    #[serde(default)]
    pub redact: Vec<String>,
    /// The workflow to run.
    pub workflow: String,
    /// The workflow's inputs: values and expressions over `headers`, `body` and `delivery`.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// `false` takes the route out of use.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// `true` accepts deliveries durably and holds their runs.
    #[serde(default)]
    pub paused: bool,
}

/// How much of a source is worked on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceLimits {
    /// How many deliveries are worked on at one time.
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: Option<u32>,
}
