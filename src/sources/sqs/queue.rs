//! The calls to a queue, in the JSON protocol of Amazon SQS.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::domain::masking::Masker;
use crate::domain::secret::{self, SecretValue};
use crate::limits;
use crate::outbound::{Body, Cause, Request, sigv4};
use crate::sources::Parts;
use crate::tasks::plan::{AccessKeyId, Sqs};

/// A queue that is asked.
#[derive(Debug)]
pub(super) struct Queue {
    parts: Parts,
    settings: Arc<Sqs>,
}

/// Why a call did not do what it was made for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// A key could not be had.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// The call could not be made of what is there.
    #[error("the call cannot be made: {0}")]
    Unfit(String),
    /// No answer came.
    #[error(transparent)]
    Broken(#[from] crate::outbound::Error),
    /// The queue says no.
    #[error("the queue answered {status} {code}: {message}")]
    Refused { status: u16, code: String, message: String },
    /// The answer is none of a queue.
    #[error("this is no queue of Amazon SQS, or something stands before it: it answered {status} with something else")]
    Strange { status: u16 },
}

/// A message as it was received.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Message {
    #[serde(rename = "MessageId")]
    pub(super) id: String,
    /// Names this reception of it, and deletes it.
    pub(super) receipt_handle: String,
    pub(super) body: String,
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, String>,
    /// What its sender put beside it.
    #[serde(default, rename = "MessageAttributes")]
    pub(super) sent_along: BTreeMap<String, MessageAttribute>,
}

/// What a sender put beside a message.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MessageAttribute {
    #[serde(default)]
    pub(super) string_value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Received {
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    #[serde(default)]
    failed: Vec<Failed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failed {
    id: String,
    #[serde(default)]
    code: String,
}

impl Trouble {
    /// Our word for it, with a page in `docs/errors/`.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Secret(_) => "secret.unavailable",
            Self::Unfit(_) => "source.keys",
            Self::Broken(_) | Self::Strange { .. } => "source.unreachable",
            Self::Refused { .. } if self.is_busy() => "source.busy",
            Self::Refused { code, .. } if is_about_keys(code) => "source.keys",
            Self::Refused { .. } => "source.refused",
        }
    }

    /// Whether the far end has too much to do, which says nothing about us.
    pub(super) fn is_busy(&self) -> bool {
        let Self::Refused { status, code, .. } = self else { return false };
        let word = |word: &str| code.contains(word);
        *status >= 500 || *status == 429 || word("Throttl") || word("OverLimit") || word("SlowDown")
    }
}

/// Errors that other keys, other rights or another clock mend.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>
fn is_about_keys(code: &str) -> bool {
    ["Token", "Signature", "AccessDenied", "NotAuthorized", "OptInRequired", "RequestExpired", "AccessKeyId"]
        .iter()
        .any(|word| code.contains(word))
}

impl Queue {
    pub(super) fn new(parts: Parts, settings: Arc<Sqs>) -> Self {
        Self { parts, settings }
    }

    /// Waits for messages for a while; none is an answer as well.
    pub(super) async fn receive(&self) -> Result<Vec<Message>, Trouble> {
        let asked = json!({
            "MaxNumberOfMessages": limits::SQS_MESSAGES_MAX,
            "WaitTimeSeconds": limits::SQS_WAIT.as_secs(),
            "VisibilityTimeout": self.settings.visibility.as_secs(),
            "MessageSystemAttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
            "MessageAttributeNames": ["All"],
        });
        let received: Received =
            self.call("ReceiveMessage", asked, limits::SQS_WAIT + limits::SQS_CALL_TIMEOUT).await?;
        Ok(received.messages)
    }

    /// Deletes messages; answers those that are still there.
    pub(super) async fn delete(&self, messages: &[&Message]) -> Result<Vec<usize>, Trouble> {
        self.batch("DeleteMessageBatch", messages, |_| Value::Null).await
    }

    /// Hides messages for so long from now on; none at all gives them back.
    pub(super) async fn hide(&self, messages: &[(&Message, Duration)]) -> Result<Vec<usize>, Trouble> {
        let which: Vec<_> = messages.iter().map(|(message, _)| *message).collect();
        self.batch("ChangeMessageVisibilityBatch", &which, |place| messages[place].1.as_secs().into()).await
    }

    /// One call for up to ten messages; answers the places of those for which it failed.
    async fn batch(
        &self,
        action: &str,
        messages: &[&Message],
        visibility: impl Fn(usize) -> Value,
    ) -> Result<Vec<usize>, Trouble> {
        let entry = |(place, message): (usize, &&Message)| {
            let mut entry = json!({ "Id": place.to_string(), "ReceiptHandle": message.receipt_handle });
            if let Value::Number(secs) = visibility(place) {
                entry["VisibilityTimeout"] = Value::Number(secs);
            }
            entry
        };
        let entries: Vec<_> = messages.iter().enumerate().map(entry).collect();
        let answer: Batch = self.call(action, json!({ "Entries": entries }), limits::SQS_CALL_TIMEOUT).await?;
        for failed in &answer.failed {
            tracing::debug!(code = failed.code, "{action} failed for one message: {}", failed.code);
        }
        Ok(answer.failed.iter().filter_map(|failed| failed.id.parse().ok()).collect())
    }

    async fn call<A: DeserializeOwned>(&self, action: &str, mut asked: Value, within: Duration) -> Result<A, Trouble> {
        let Sqs { queue_url, region, .. } = self.settings.as_ref();
        let unfit = |cause: Cause| Trouble::Unfit(cause.to_string());
        asked["QueueUrl"] = queue_url.as_str().into();
        // All actions go to the root of the host that the queue lives on.
        let root = queue_url.join("/").map_err(|error| Trouble::Unfit(error.to_string()))?;
        let mut request = Request::new(Method::POST, root.as_str()).map_err(unfit)?;
        request.timeout = within;
        request.response_bytes_max = limits::SQS_ANSWER_BYTES_MAX;
        request.redirects_max = 0;
        request.header("x-amz-target", format!("AmazonSQS.{action}").as_bytes()).map_err(unfit)?;
        request.body = Body::raw(asked.to_string(), Some("application/x-amz-json-1.0")).map_err(unfit)?;
        let keys = self.keys().await?;
        let scope = sigv4::Scope { region, service: "sqs" };
        sigv4::sign(&mut request, &keys, scope, self.parts.clock.now(), &mut Masker::new()).map_err(unfit)?;
        let answer = self.parts.client.send(request).await?;
        let status = answer.status.as_u16();
        if status == 200 {
            return serde_json::from_slice(&answer.body).map_err(|_| Trouble::Strange { status });
        }
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(code) = told["__type"].as_str() else { return Err(busy_or_strange(status)) };
        let code = code.rsplit('#').next().unwrap_or(code).chars().take(SAID_CHARS_MAX).collect();
        let message =
            ["message", "Message"].iter().find_map(|key| told[*key].as_str()).unwrap_or("it does not say why");
        Err(Trouble::Refused { status, code, message: message.chars().take(SAID_CHARS_MAX).collect() })
    }

    /// The keys as they are now, so that those that were exchanged are taken up without a restart.
    async fn keys(&self) -> Result<sigv4::Keys, Trouble> {
        let Sqs { access_key_id, secret_access_key, session_token, .. } = self.settings.as_ref();
        let secrets = self.parts.secrets.as_ref();
        let access_key_id = match access_key_id {
            AccessKeyId::Plain(text) => text.clone(),
            AccessKeyId::Secret(secret) => text(&secrets.resolve(secret).await?)?,
        };
        let session_token = match session_token {
            Some(token) => Some(secrets.resolve(token).await?),
            None => None,
        };
        let secret = secrets.resolve(secret_access_key).await?;
        Ok(sigv4::Keys { access_key_id, secret, session_token, name: secret_access_key.name.clone() })
    }
}

/// Characters that are kept of what a far end says about an error.
const SAID_CHARS_MAX: usize = 300;

fn text(value: &SecretValue) -> Result<String, Trouble> {
    let text = std::str::from_utf8(value.expose());
    text.map(|text| text.trim().to_owned()).map_err(|_| Trouble::Unfit("the access key id is not text".to_owned()))
}

/// A status without the words of SQS: what stands before it is overloaded, or it is somebody else.
fn busy_or_strange(status: u16) -> Trouble {
    if status == 429 || status >= 500 {
        let message = "it does not say why".to_owned();
        return Trouble::Refused { status, code: "Unavailable".to_owned(), message };
    }
    Trouble::Strange { status }
}
