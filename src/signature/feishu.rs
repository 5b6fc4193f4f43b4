//! `feishu`: event subscription of Feishu (飞书) and Lark.
//!
//! open.feishu.cn, "配置事件订阅方式" and "Encrypt Key 加密策略"; checked against lark-oapi. With an Encrypt Key the body is an
//! envelope and the signature a plain SHA-256 of time, nonce, key and the RAW envelope. The check of the URL is
//! encrypted too but need not be signed, so its Verification Token is looked at. Without an Encrypt Key there is only that
//! token, in the body itself, so the body is not signed. No window for the time is documented, so none is held unless
//! the route sets one.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::Bytes;
use data_encoding::BASE64;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::inbound::{Answer, Inbound, Message, Proof, Reject, Verdict, delivery_id};
use super::keys::{Encoding, KeyError, Keys, Passwords};
use super::params::{self, Span};
use super::window::{self, TimestampUnit};
use super::{Built, Check, Making, Scheme, SchemeKind, SecretSlot, cbc, members};
use crate::clock::Timestamp;

const ENCRYPT_KEY: &str = "encrypt_key";
const TOKEN: &str = "verification_token";

const TIMESTAMP: &str = "x-lark-request-timestamp";
const NONCE: &str = "x-lark-request-nonce";
const SIGNATURE: &str = "x-lark-signature";

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "feishu",
    summary: "Feishu and Lark events: encrypted and signed with the Encrypt Key, or in clear with the Verification Token. \
              Answers `url_verification` itself; the route sees the decrypted event.",
    secrets: &[
        SecretSlot { name: ENCRYPT_KEY, summary: "The `Encrypt Key` of the event settings" },
        SecretSlot { name: TOKEN, summary: "The `Verification Token` of the event settings" },
    ],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `feishu`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// How far the signed time may be from ours, both ways; not looked at when left out, as Feishu documents no limit.
    tolerance: Option<Span>,
}

fn build(with: &Map<String, Value>) -> Built {
    let Params { tolerance } = params::read(with)?;
    Ok(Box::new(Rule { tolerance }))
}

struct Rule {
    tolerance: Option<Span>,
}

impl Scheme for Rule {
    fn needs(&self) -> Vec<&'static str> {
        vec![ENCRYPT_KEY, TOKEN]
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        let encrypt_keys = keys.get(ENCRYPT_KEY)?.iter().map(|key| EncryptKey::new(key)).collect();
        let tokens = keys.get(TOKEN)?;
        let tokens = (!tokens.is_empty()).then(|| Passwords::new(tokens));
        Ok(Box::new(Keyed { encrypt_keys, tokens, tolerance: self.tolerance }))
    }
}

struct Keyed {
    encrypt_keys: Vec<EncryptKey>,
    tokens: Option<Passwords>,
    tolerance: Option<Span>,
}

struct EncryptKey {
    text: Vec<u8>,
    key: [u8; cbc::KEY_BYTES],
}

/// What a signature says that holds.
struct Signed {
    key_index: usize,
    at: Timestamp,
}

impl EncryptKey {
    fn new(text: &[u8]) -> Self {
        let hash = digest(&SHA256, text);
        Self { text: text.to_vec(), key: std::array::from_fn(|place| hash.as_ref()[place]) }
    }

    /// The message: the vector comes first, the padding is that of the cipher's block.
    fn open(&self, encrypt: &str) -> Option<String> {
        let joined: String = encrypt.split_ascii_whitespace().collect();
        let sealed = BASE64.decode(joined.as_bytes()).ok()?;
        let (iv, sealed) = sealed.split_first_chunk::<{ cbc::IV_BYTES }>()?;
        let padded = cbc::decrypt(&self.key, *iv, sealed.to_vec())?;
        String::from_utf8(cbc::unpadded(&padded, 16)?.to_vec()).ok()
    }
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        if self.encrypt_keys.is_empty() { self.in_clear(request) } else { self.encrypted(request) }
    }
}

impl Keyed {
    fn encrypted(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let signed = self.signed(request)?;
        let [encrypt] = members::read(request.body, ["encrypt"]);
        let encrypt = encrypt.ok_or(Reject::NotEncrypted)?;
        let message = match &signed {
            Some(signed) => self.encrypt_keys[signed.key_index].open(&encrypt),
            None => self.encrypt_keys.iter().find_map(|key| key.open(&encrypt)),
        };
        let message = message.ok_or(Reject::Undecipherable)?;
        if let Some(answer) = self.challenge(message.as_bytes())? {
            return Ok(Verdict::Handshake(answer));
        }
        // Nothing but the check of the URL may come without a signature.
        let signed = signed.ok_or_else(|| Reject::MissingHeader { name: SIGNATURE.into() })?;
        Ok(Verdict::Deliver(Proof {
            delivery_id: id(message.as_bytes()),
            id_is_signed: true,
            body_is_signed: true,
            signed_at: Some(signed.at),
            key_index: signed.key_index,
            ..proof(message.into())
        }))
    }

    fn in_clear(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        if let Some(answer) = self.challenge(request.body)? {
            return Ok(Verdict::Handshake(answer));
        }
        let [schema] = members::read(request.body, ["schema"]);
        let [token] = match schema {
            Some(_) => members::below(request.body, "header", ["token"]),
            None => members::read(request.body, ["token"]),
        };
        let key_index = self.token(token)?;
        Ok(Verdict::Deliver(Proof {
            delivery_id: id(request.body),
            key_index,
            ..proof(Bytes::copy_from_slice(request.body))
        }))
    }

    /// Checks the signature, when there is one. Any of its headers alone is none.
    fn signed(&self, request: &Inbound<'_>) -> Result<Option<Signed>, Reject> {
        let Some(signature) = request.headers.unique(SIGNATURE)? else { return Ok(None) };
        let (timestamp, nonce) = (request.headers.required(TIMESTAMP)?, request.headers.required(NONCE)?);
        let at = TimestampUnit::S.read(timestamp);
        let at = at.ok_or_else(|| Reject::malformed(TIMESTAMP, "a time in ASCII digits"))?;
        let claimed = Encoding::HexLower.decode(signature);
        let claimed = claimed.ok_or_else(|| Reject::malformed(SIGNATURE, Encoding::HexLower.wanted()))?;
        let fits = |key: &EncryptKey| {
            let mut context = Context::new(&SHA256);
            for part in [timestamp, nonce, &key.text, request.body] {
                context.update(part);
            }
            verify_slices_are_equal(context.finish().as_ref(), &claimed).is_ok()
        };
        let key_index = self.encrypt_keys.iter().position(fits).ok_or(Reject::WrongSignature)?;
        if let Some(Span(tolerance)) = self.tolerance {
            window::check(at, TimestampUnit::S, request.received_at, tolerance)?;
        }
        Ok(Some(Signed { key_index, at }))
    }

    /// The answer to the check of the URL, when it is one and brings the right token.
    fn challenge(&self, message: &[u8]) -> Result<Option<Answer>, Reject> {
        let [kind, challenge, token] = members::read(message, ["type", "challenge", "token"]);
        if kind.as_deref() != Some("url_verification") {
            return Ok(None);
        }
        self.token(token)?;
        let challenge = challenge.ok_or_else(|| Reject::malformed("challenge", "a text in the handshake's body"))?;
        Ok(Some(Answer::json(&json!({ "challenge": challenge }))))
    }

    /// The place of the token that fits. Who has only an Encrypt Key configured has nothing to compare: what came
    /// opened with that key.
    fn token(&self, sent: Option<String>) -> Result<usize, Reject> {
        let Some(tokens) = &self.tokens else { return Ok(0) };
        sent.and_then(|sent| tokens.find(sent.as_bytes())).ok_or(Reject::WrongSignature)
    }
}

/// What every event has in common: it carries the Verification Token, and 200 with a JSON object ends it.
fn proof(message: Bytes) -> Proof {
    Proof {
        message: Some(Message { holds_secret: true, ..Message::json(message) }),
        answer: Some(Answer::json(&json!({}))),
        ..Proof::default()
    }
}

/// `header.event_id` of version 2, `uuid` of version 1.
fn id(message: &[u8]) -> Option<String> {
    let [event_id] = members::below(message, "header", ["event_id"]);
    let [uuid] = members::read(message, ["uuid"]);
    let id = event_id.or(uuid)?;
    delivery_id("event_id", id.as_bytes()).ok()
}
