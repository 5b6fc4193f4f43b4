//! A message of a queue as a delivery: taken out of what wraps it, with the id that tells it from others.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::queue::Message;
use crate::clock::Timestamp;
use crate::gateway::Fetched;
use crate::limits;
use crate::tasks::plan::Unwrap;

/// Why a message cannot become a delivery.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the message is not JSON")]
    NotJson,
    #[error("`unwrap: {0}` finds no such envelope: {1}")]
    NoEnvelope(&'static str, &'static str),
}

/// A message as a delivery. The raw form is for keeping a message that cannot be read.
pub(super) fn delivery(
    message: &Message,
    unwrap: Option<Unwrap>,
    now: Timestamp,
) -> Result<Fetched, (Unreadable, Fetched)> {
    let as_it_came = Fetched {
        id: Some(message.id.clone()),
        headers: headers(message),
        body: Bytes::from(message.body.clone()),
        received_at: now,
    };
    match open(&message.body, unwrap) {
        Ok(Opened { body, id }) => {
            let id = id.or_else(|| as_it_came.id.clone());
            Ok(Fetched { id, body: body.map_or(as_it_came.body, Bytes::from), ..as_it_came })
        }
        Err(unreadable) => Err((unreadable, as_it_came)),
    }
}

/// What is in a message.
struct Opened {
    /// The body when it is not the message itself.
    body: Option<String>,
    /// The id that the platform gives it, which is the same in every copy.
    id: Option<String>,
}

fn open(text: &str, unwrap: Option<Unwrap>) -> Result<Opened, Unreadable> {
    let value: Value = serde_json::from_str(text).map_err(|_| Unreadable::NotJson)?;
    match unwrap {
        None => Ok(Opened { body: None, id: notification_id(&value) }),
        Some(Unwrap::Sns) => {
            let told = |why| Unreadable::NoEnvelope("sns", why);
            let kind = value["Type"].as_str();
            if kind != Some("Notification") {
                return Err(told(
                    "there is no `Type` that says `Notification`; with raw message delivery, leave it out",
                ));
            }
            let inner = value["Message"].as_str().ok_or_else(|| told("there is no `Message`"))?;
            let id = match serde_json::from_str::<Value>(inner) {
                Ok(value) => notification_id(&value),
                Err(_) => return Err(Unreadable::NotJson),
            };
            let id = id.or_else(|| short(value["MessageId"].as_str()));
            Ok(Opened { body: Some(inner.to_owned()), id })
        }
        Some(Unwrap::EventBridge) => {
            let detail = value.get("detail").filter(|_| value["detail-type"].is_string());
            let detail =
                detail.ok_or(Unreadable::NoEnvelope("eventbridge", "there is no `detail-type` and `detail`"))?;
            let id = notification_id(detail).or_else(|| short(value["id"].as_str()));
            Ok(Opened { body: Some(detail.to_string()), id })
        }
    }
}

/// The id of a Selling Partner API notification. Its members are written in upper or lower camel case, by its type.
/// <https://developer-docs.amazon.com/sp-api/docs/notification-structure>
fn notification_id(value: &Value) -> Option<String> {
    short(member(member(value, "NotificationMetadata")?, "NotificationId")?.as_str())
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let members: &Map<String, Value> = value.as_object()?;
    members.get(name).or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// An id that can be one: there, and not as long as a body.
fn short(id: Option<&str>) -> Option<String> {
    id.filter(|id| !id.is_empty() && id.len() <= limits::DELIVERY_ID_BYTES_MAX).map(str::to_owned)
}

/// What the queue says of the message, as headers: its own id, when it was sent, and what the sender put beside it.
fn headers(message: &Message) -> Vec<(String, String)> {
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("x-sqs-message-id".to_owned(), message.id.clone()),
    ];
    let sent = message.attributes.get("SentTimestamp").and_then(|at| at.parse().ok()).map(Timestamp::from_millis);
    headers.extend(sent.map(|at| ("x-sqs-sent-at".to_owned(), at.to_string())));
    for (name, attribute) in &message.sent_along {
        if let Some(value) = &attribute.string_value {
            headers.push((format!("x-sqs-attribute-{}", name.to_ascii_lowercase()), value.clone()));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn message(body: &str) -> Message {
        let told = json!({ "MessageId": "m-1", "ReceiptHandle": "r", "Body": body,
            "Attributes": { "SentTimestamp": "1795338000123", "ApproximateReceiveCount": "1" },
            "MessageAttributes": { "Shop": { "DataType": "String", "StringValue": "us" }, "Raw": { "DataType": "Binary", "BinaryValue": "AA==" } } });
        serde_json::from_value(told).unwrap()
    }

    #[track_caller]
    fn check(unwrap: Option<Unwrap>, body: &Value, expected: Result<(&str, Value), &str>) {
        let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
        let found = delivery(&message(&text), unwrap, Timestamp::from_secs(1));
        match (found, expected) {
            (Ok(found), Ok((id, inner))) => {
                assert_eq!(found.id.as_deref(), Some(id));
                assert_eq!(serde_json::from_slice::<Value>(&found.body).unwrap(), inner);
            }
            (Err((error, raw)), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
                assert_eq!(raw.body, text);
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn messages_are_opened_and_known_by_the_platform_s_id() {
        let notification =
            json!({ "NotificationType": "ANY_OFFER_CHANGED", "NotificationMetadata": { "NotificationId": "n-1" } });
        let lower = json!({ "notificationType": "REPORT_PROCESSING_FINISHED", "notificationMetadata": { "notificationId": "n-2" } });
        check(None, &notification, Ok(("n-1", notification.clone())));
        check(None, &lower, Ok(("n-2", lower.clone())));
        check(None, &json!({ "a": 1 }), Ok(("m-1", json!({ "a": 1 }))));
        check(
            None,
            &json!({ "NotificationMetadata": { "NotificationId": "" } }),
            Ok(("m-1", json!({ "NotificationMetadata": { "NotificationId": "" } }))),
        );
        check(None, &json!("{not json"), Err("not JSON"));

        let sns = json!({ "Type": "Notification", "MessageId": "s-1", "TopicArn": "arn", "Message": notification.to_string() });
        check(Some(Unwrap::Sns), &sns, Ok(("n-1", notification.clone())));
        let plain = json!({ "Type": "Notification", "MessageId": "s-1", "Message": "{\"a\":1}" });
        check(Some(Unwrap::Sns), &plain, Ok(("s-1", json!({ "a": 1 }))));
        check(
            Some(Unwrap::Sns),
            &json!({ "Type": "Notification", "MessageId": "s-1", "Message": "hello" }),
            Err("not JSON"),
        );
        check(Some(Unwrap::Sns), &notification, Err("raw message delivery"));

        let event = |detail: &Value| json!({ "id": "e-1", "detail-type": "ORDER_CHANGE", "source": "aws.partner", "detail": detail });
        check(Some(Unwrap::EventBridge), &event(&lower), Ok(("n-2", lower.clone())));
        check(
            Some(Unwrap::EventBridge),
            &event(&json!({ "big": 9_007_199_254_740_993_i64 })),
            Ok(("e-1", json!({ "big": 9_007_199_254_740_993_i64 }))),
        );
        check(Some(Unwrap::EventBridge), &lower, Err("detail-type"));
    }

    #[test]
    fn the_queue_s_own_words_are_headers() {
        let found = delivery(&message("{}"), None, Timestamp::from_secs(1)).unwrap();
        let names: Vec<_> = found.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let expected = [
            "content-type: application/json",
            "x-sqs-message-id: m-1",
            "x-sqs-sent-at: 2026-11-22T09:00:00.123Z",
            "x-sqs-attribute-shop: us",
        ];
        assert_eq!(names, expected);
    }
}
