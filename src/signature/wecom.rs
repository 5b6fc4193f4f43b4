//! `wecom`: callbacks of `WeCom` (企业微信) apps, third-party suites and smart bots: an encrypted envelope in XML or JSON.
//!
//! developer.work.weixin.qq.com, "接收消息与事件" and "加解密方案说明". A GET with `echostr` is the check of the URL: the answer
//! is its plaintext and nothing else, within a second. A message is answered within 5 s by an empty 200, or by an
//! encrypted reply. No window for the time is documented, so none is held unless the route sets one.

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::envelope::{AES_KEY, Envelope, Opened, Sent, TOKEN};
use super::inbound::{Answer, Inbound, Message, Proof, Reject, Verdict, delivery_id};
use super::keys::{KeyError, Keys};
use super::params::{self, ConfigError, OneOrMany, Span};
use super::window::{self, TimestampUnit};
use super::{Built, Check, Making, Scheme, SchemeKind, SecretSlot, members, query, xml};
use crate::clock::Timestamp;

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "wecom",
    summary: "WeCom callbacks: an envelope in XML or JSON, signed with the token and encrypted with the AES key. Answers \
              the check of the URL itself; the route sees the decrypted message.",
    secrets: &[
        SecretSlot { name: TOKEN, summary: "The `Token` of the callback settings" },
        SecretSlot { name: AES_KEY, summary: "The `EncodingAESKey` of the callback settings, 43 characters" },
    ],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `wecom`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// Who the messages are for: the corp id for an app of your own, the suite id for a third-party suite. With
    /// `format: json` it may be left out, as smart bots name nobody.
    receive_id: Option<OneOrMany>,
    /// How the envelope is written: what comes decides when left out.
    format: Option<Format>,
    /// How far the signed time may be from ours, both ways; not looked at when left out, as WeCom documents no limit.
    tolerance: Option<Span>,
    /// A text that answers every message of a person (not events), encrypted, in XML only; an empty 200 when left out.
    reply: Option<String>,
}

/// How an envelope is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    Xml,
    Json,
}

fn build(with: &Map<String, Value>) -> Built {
    let Params { receive_id, format, tolerance, reply } = params::read(with)?;
    let receivers = receive_id.map(|ids| ids.as_slice().to_vec()).unwrap_or_default();
    let mut problems = Vec::new();
    if format != Some(Format::Json) && (receivers.is_empty() || receivers.iter().any(String::is_empty)) {
        let message = "without it, messages for any other corp would be taken as well";
        let help = "add `receive_id: ww…`, the corp id (or suite id); a smart bot has none: write `format: json`";
        problems.push(ConfigError::new("receive_id", format!("`receive_id` is not given: {message}"), help));
    }
    if format == Some(Format::Json) && reply.is_some() {
        let help = "leave it out, and answer with a `notify` or `http_request` task";
        problems.push(ConfigError::new("reply", "only messages in XML can be answered with a text", help));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let receivers = if receivers.is_empty() { vec![String::new()] } else { receivers };
    Ok(Box::new(Rule { receivers, format, tolerance, reply }))
}

#[derive(Clone)]
struct Rule {
    receivers: Vec<String>,
    format: Option<Format>,
    tolerance: Option<Span>,
    reply: Option<String>,
}

impl Scheme for Rule {
    fn needs(&self) -> Vec<&'static str> {
        vec![TOKEN, AES_KEY]
    }

    fn needs_every(&self) -> bool {
        true
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        Ok(Box::new(Keyed { envelope: Envelope::prepare(keys, &self.receivers)?, rule: self.clone() }))
    }
}

struct Keyed {
    rule: Rule,
    envelope: Envelope,
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let signature = query::text(request.query, "msg_signature")?;
        let timestamp = query::text(request.query, "timestamp")?;
        let nonce = query::text(request.query, "nonce")?;
        let signed_at = TimestampUnit::S.read(timestamp.as_bytes());
        let signed_at = signed_at.ok_or_else(|| Reject::malformed("timestamp", "a time in ASCII digits"))?;
        let is_check = request.method == "GET";
        let encrypt = if is_check { echostr(request.query)? } else { self.rule.encrypt(request.body)? };
        let sent = Sent { signature: &signature, timestamp: &timestamp, nonce: &nonce, encrypt: &encrypt };
        let opened = self.envelope.open(&sent)?;
        if let Some(Span(tolerance)) = self.rule.tolerance {
            window::check(signed_at, TimestampUnit::S, request.received_at, tolerance)?;
        }
        if is_check {
            return Ok(Verdict::Handshake(Answer::text(opened.message)));
        }
        self.delivery(request, &opened, signed_at).map(Verdict::Deliver)
    }
}

/// The ciphertext of the URL check. A space can only be a plus that somebody on the way took for one.
fn echostr(query: &str) -> Result<String, Reject> {
    Ok(query::text(query, "echostr")?.replace(' ', "+"))
}

impl Rule {
    /// The ciphertext out of the envelope.
    fn encrypt(&self, body: &[u8]) -> Result<String, Reject> {
        let malformed = || Reject::malformed("the body", "an envelope with `Encrypt`");
        let start = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
        let sent_as = if start.starts_with(b"<") { Format::Xml } else { Format::Json };
        let encrypt = match sent_as {
            _ if self.format.is_some_and(|format| format != sent_as) => None,
            Format::Json => {
                let [encrypt] = members::read(body, ["encrypt"]);
                encrypt
            }
            Format::Xml => {
                let root = str::from_utf8(body).ok().and_then(|text| xml::read(text).ok());
                root.and_then(|root| xml::child(&root, "Encrypt"))
            }
        };
        encrypt.filter(|encrypt| !encrypt.is_empty()).ok_or_else(malformed)
    }
}

impl Keyed {
    fn delivery(&self, request: &Inbound<'_>, opened: &Opened, signed_at: Timestamp) -> Result<Proof, Reject> {
        let json = if opened.message.trim_start_matches('\u{feff}').trim_start().starts_with('<') {
            let malformed = |_| Reject::malformed("the message", "plain XML, without a DTD, of bounded size");
            xml::read(&opened.message).map_err(malformed)?.to_string()
        } else {
            opened.message.clone()
        };
        let (id, of_event) = id(json.as_bytes());
        let answer = match &self.rule.reply {
            Some(reply) if !of_event => self.reply(request, opened, json.as_bytes(), reply),
            _ => None,
        };
        Ok(Proof {
            delivery_id: id.and_then(|id| delivery_id("MsgId", id.as_bytes()).ok()),
            id_is_signed: true,
            // Two members that change in one second give two events of one name.
            id_may_collide: of_event,
            body_is_signed: true,
            signed_at: Some(signed_at),
            key_index: opened.key_index,
            message: Some(Message::json(json)),
            answer: Some(answer.unwrap_or_else(Answer::empty)),
        })
    }

    /// The passive reply to a message of a person, sealed.
    fn reply(&self, request: &Inbound<'_>, opened: &Opened, json: &[u8], text: &str) -> Option<Answer> {
        let [Some(to), Some(from)] = members::read(json, ["FromUserName", "ToUserName"]) else { return None };
        let at = request.received_at.as_secs().to_string();
        let message = format!(
            "<xml><ToUserName>{}</ToUserName><FromUserName>{}</FromUserName><CreateTime>{at}</CreateTime>\
             <MsgType><![CDATA[text]]></MsgType><Content>{}</Content></xml>",
            cdata(&to),
            cdata(&from),
            cdata(text),
        );
        let sealed = self.envelope.seal(opened, &message, &at, request.random)?;
        Some(Answer::xml(format!(
            "<xml><Encrypt>{}</Encrypt><MsgSignature>{}</MsgSignature><TimeStamp>{at}</TimeStamp><Nonce>{}</Nonce></xml>",
            cdata(&sealed.encrypt),
            cdata(&sealed.signature),
            cdata(&sealed.nonce),
        )))
    }
}

fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}

/// The id of a message; for an event, which has none, who, when and what, as the vendor tells to tell them apart. Whether
/// it is one of those comes with it.
fn id(json: &[u8]) -> (Option<String>, bool) {
    let some = |names| members::read::<2>(json, names).into_iter().flatten().find(|text| !text.is_empty());
    if let Some(id) = some(["MsgId", "msgid"]) {
        return (Some(id), false);
    }
    let below = |outer, name| {
        let [found] = members::below(json, outer, [name]);
        found.filter(|text| !text.is_empty())
    };
    let from = some(["FromUserName", "fromusername"]).or_else(|| below("from", "userid"));
    let created = some(["CreateTime", "createtime"]).or_else(|| some(["create_time", "CreateTime"]));
    let event = some(["Event", "event"]).or_else(|| below("event", "eventtype"));
    let (Some(from), Some(created)) = (from, created) else { return (None, event.is_some()) };
    let parts: Vec<_> = [Some(from), Some(created), event].into_iter().flatten().collect();
    (Some(parts.join("|")), true)
}
