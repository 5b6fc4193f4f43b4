//! `dingtalk_event`: event subscription of `DingTalk` (钉钉) over HTTP: an encrypted envelope, answered by the word `success`
//! in another one.
//!
//! open.dingtalk.com, "配置HTTP推送" and open-dingtalk/DingTalk-Callback-Crypto. An answer that is not the encrypted `success`
//! counts as a failure, also for a delivery that had come before. No window for the time is documented, so none is held
//! unless the route sets one.

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::envelope::{AES_KEY, Envelope, Opened, Sent, TOKEN};
use super::inbound::{Answer, Inbound, Message, Proof, Reject, Verdict, delivery_id};
use super::keys::{KeyError, Keys};
use super::params::{self, ConfigError, OneOrMany, Span};
use super::window::{self, TimestampUnit};
use super::{Built, Check, Making, Scheme, SchemeKind, SecretSlot, members, query};

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "dingtalk_event",
    summary: "DingTalk event subscription over HTTP: a JSON envelope, signed with the token and encrypted with the AES key. \
              Answers with the encrypted `success`, and the check of the URL itself; the route sees the decrypted event.",
    secrets: &[
        SecretSlot { name: TOKEN, summary: "The `token` of the event subscription" },
        SecretSlot { name: AES_KEY, summary: "The `aes_key` of the event subscription, 43 characters" },
    ],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// Events by which the platform tries an address.
const HANDSHAKES: [&str; 3] = ["check_url", "check_create_suite_url", "check_update_suite_url"];

/// What an event of an approval or task is known by, most telling first; those that are there are joined.
const ID_PARTS: [&str; 7] =
    ["EventType", "processInstanceId", "taskId", "type", "createTime", "finishTime", "TimeStamp"];

/// The parameters of `dingtalk_event`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Who the events are for: the app key (client id) of an app, the corp id of an old registered callback, or the
    /// suite key.
    #[schemars(required)]
    receive_id: Option<OneOrMany>,
    /// How far the signed time may be from ours, both ways; not looked at when left out, as DingTalk documents no limit.
    tolerance: Option<Span>,
}

fn build(with: &Map<String, Value>) -> Built {
    let Params { receive_id, tolerance } = params::read(with)?;
    let receivers = receive_id.map(|ids| ids.as_slice().to_vec()).unwrap_or_default();
    if receivers.is_empty() || receivers.iter().any(String::is_empty) {
        let message = "`receive_id` is not given: without it, events for any other app would be taken as well";
        let help = "add `receive_id: ding…`: the app key, the corp id of an old registered callback, or the suite key";
        return Err(vec![ConfigError::new("receive_id", message, help)]);
    }
    Ok(Box::new(Rule { receivers, tolerance }))
}

struct Rule {
    receivers: Vec<String>,
    tolerance: Option<Span>,
}

impl Scheme for Rule {
    fn needs(&self) -> Vec<&'static str> {
        vec![TOKEN, AES_KEY]
    }

    fn needs_every(&self) -> bool {
        true
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        Ok(Box::new(Keyed { envelope: Envelope::prepare(keys, &self.receivers)?, tolerance: self.tolerance }))
    }
}

struct Keyed {
    envelope: Envelope,
    tolerance: Option<Span>,
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let signature = query::either(request.query, "signature", "msg_signature")?;
        let timestamp = query::either(request.query, "timestamp", "timeStamp")?;
        let nonce = query::text(request.query, "nonce")?;
        let signed_at = TimestampUnit::Ms.read(timestamp.as_bytes());
        let signed_at = signed_at.ok_or_else(|| Reject::malformed("timestamp", "a time in ASCII digits"))?;
        let [encrypt] = members::read(request.body, ["encrypt"]);
        let encrypt = encrypt.ok_or_else(|| Reject::malformed("the body", "a JSON object with `encrypt`"))?;
        let sent = Sent { signature: &signature, timestamp: &timestamp, nonce: &nonce, encrypt: &encrypt };
        let opened = self.envelope.open(&sent)?;
        if let Some(Span(tolerance)) = self.tolerance {
            window::check(signed_at, TimestampUnit::Ms, request.received_at, tolerance)?;
        }
        let answer = self.success(request, &opened).ok_or(Reject::Undecipherable)?;
        let parts = members::read(opened.message.as_bytes(), ID_PARTS);
        if parts[0].as_deref().is_some_and(|kind| HANDSHAKES.contains(&kind)) {
            return Ok(Verdict::Handshake(answer));
        }
        Ok(Verdict::Deliver(Proof {
            delivery_id: id(parts),
            id_is_signed: true,
            // Two comments on one task differ in nothing that the id holds.
            id_may_collide: true,
            body_is_signed: true,
            signed_at: Some(signed_at),
            key_index: opened.key_index,
            message: Some(Message::json(opened.message)),
            answer: Some(answer),
        }))
    }
}

impl Keyed {
    /// The answer that counts as success.
    fn success(&self, request: &Inbound<'_>, opened: &Opened) -> Option<Answer> {
        let at = request.received_at.as_millis().to_string();
        let sealed = self.envelope.seal(opened, "success", &at, request.random)?;
        Some(Answer::json(&json!({
            "msg_signature": sealed.signature,
            "timeStamp": at,
            "nonce": sealed.nonce,
            "encrypt": sealed.encrypt,
        })))
    }
}

/// The id of an event that names more than its kind; the platform gives none.
fn id(parts: [Option<String>; 7]) -> Option<String> {
    let parts: Vec<_> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let joined = (parts.len() > 1).then(|| parts.join("|"))?;
    delivery_id("EventType", joined.as_bytes()).ok()
}
