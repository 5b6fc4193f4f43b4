//! What a sender signs, how, and where it puts it, as data; and the one check that serves them all.
//! `generic_hmac` fills this data from YAML, `presets` holds a row of it per platform.
//!
//! The order is law: signature over the raw bytes, then the window, and only then a look into the body.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use schemars::JsonSchema;
use serde::Deserialize;

use super::inbound::{Answer, Inbound, Proof, Reject, Verdict, delivery_id};
use super::keys::{Encoding, KeyEncoding, KeyError, Keys, base64};
use super::params::{ConfigError, TOLERANCE};
use super::template::{Filling, Slot, Template};
use super::window::{self, TimestampUnit};
use super::{Built, Check, Scheme, members};
use crate::clock::Timestamp;
use crate::limits;

type Text = Cow<'static, str>;

/// One sender's way of signing. Start from [`Sender::over_body`] and change what differs.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    /// The headers; of several sets the first whose signature header is present counts, and no other is read.
    pub(super) headers: Vec<HeaderSet>,
    pub(super) form: Form,
    pub(super) algorithm: Algorithm,
    pub(super) encoding: Encoding,
    /// The signed text, such as `{timestamp}.{body}`.
    pub(super) template: Text,
    /// The name of the secret, and how its text becomes a key.
    pub(super) secret: &'static str,
    pub(super) key_encoding: KeyEncoding,
    pub(super) timestamp_unit: TimestampUnit,
    pub(super) tolerance: Duration,
    /// Where the verified body holds the delivery's id, when no header does.
    pub(super) id_in_body: IdInBody,
    pub(super) id_may_collide: bool,
    /// The URL as registered with the sender.
    pub(super) url: Option<String>,
    pub(super) refuse_empty_body: bool,
    pub(super) handshake: Option<Handshake>,
    /// The key itself ends the signed text, after the template.
    pub(super) key_ends_text: bool,
    /// What the sender counts as success, where a status of the route's choice is not enough.
    pub(super) answer: Option<fn() -> Answer>,
}

impl Sender {
    /// Lower-case hex of HMAC-SHA256 over the body under a text key, the whole value of one header.
    pub(super) fn over_body(headers: HeaderSet) -> Self {
        Self {
            headers: vec![headers],
            form: Form::Whole { prefix: "".into() },
            algorithm: Algorithm::Sha256,
            encoding: Encoding::HexLower,
            template: "{body}".into(),
            secret: "secret",
            key_encoding: KeyEncoding::Text,
            timestamp_unit: TimestampUnit::S,
            tolerance: TOLERANCE,
            id_in_body: IdInBody::None,
            id_may_collide: false,
            url: None,
            refuse_empty_body: false,
            handshake: None,
            key_ends_text: false,
            answer: None,
        }
    }
}

/// Where a JSON body holds the delivery's id.
#[derive(Debug, Clone)]
pub(super) enum IdInBody {
    None,
    /// In a top-level member.
    Member(Text),
    /// In the first of these places that has something.
    FirstOf(&'static [members::Place]),
    /// In all of these places together; joined by `|`.
    AllOf(&'static [members::Place]),
    /// Made of the body and the time as it was sent, where members alone are not enough.
    Made(fn(body: &[u8], sent_at: &[u8]) -> Option<String>),
}

impl IdInBody {
    /// What the body says; nothing when it cannot be an id. What a sender signed is not refused for its id.
    fn read(&self, body: &[u8], sent_at: &[u8]) -> Option<String> {
        let id = match self {
            Self::None => None,
            Self::Member(name) => members::at(body, &[name]),
            Self::FirstOf(places) => places.iter().find_map(|place| members::at(body, place)),
            Self::AllOf(places) => members::joined(body, places),
            Self::Made(make) => make(body, sent_at),
        };
        id.and_then(|id| delivery_id("id", id.as_bytes()).ok())
    }
}

/// The headers that belong together.
#[derive(Debug, Clone)]
pub(super) struct HeaderSet {
    pub(super) signature: Text,
    pub(super) timestamp: Option<Text>,
    pub(super) id: Option<Text>,
}

impl HeaderSet {
    pub(super) const fn new(signature: &'static str) -> Self {
        Self { signature: Cow::Borrowed(signature), timestamp: None, id: None }
    }

    pub(super) fn timestamp(self, name: &'static str) -> Self {
        Self { timestamp: Some(name.into()), ..self }
    }

    pub(super) fn id(self, name: &'static str) -> Self {
        Self { id: Some(name.into()), ..self }
    }

    /// The three headers of Standard Webhooks under a prefix such as `webhook` or `svix`.
    pub(super) fn prefixed(prefix: &str) -> Self {
        let named = |end: &str| Cow::Owned(format!("{prefix}-{end}"));
        Self { signature: named("signature"), timestamp: Some(named("timestamp")), id: Some(named("id")) }
    }
}

/// What the value of the signature header looks like.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// A prefix, then one signature.
    Whole { prefix: Text },
    /// `t=1700000000,v1=…,v1=…`: pairs that carry the time as well; any signature may fit, other names are ignored.
    Pairs { timestamp: &'static str, signature: &'static str },
    /// `v1,… v1a,…`: a list of versions with base64; any may fit, unknown versions are ignored.
    Versions { mac: &'static str, ed25519: &'static str, public_key: &'static str },
}

/// The hash under the HMAC (RFC 2104).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Algorithm {
    /// Only where the sender offers nothing better.
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

impl Algorithm {
    fn key(self, bytes: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, bytes)
    }
}

/// How a platform tries an address before or between deliveries.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handshake {
    /// A signed request whose header has this value: answer 200.
    Header { name: &'static str, value: &'static str },
    /// A signed JSON body whose `type` is `kind`: answer 200 with its `echo` member.
    Echo { kind: &'static str, echo: &'static str },
    /// An UNSIGNED body that is exactly `name=digits`: answer 200, which tells a stranger nothing.
    UnsignedNumber { name: &'static str },
}

impl Handshake {
    /// The answer to a request that cannot be verified and need not be.
    fn before(self, request: &Inbound<'_>) -> Option<Answer> {
        let Self::UnsignedNumber { name } = self else { return None };
        let number = request.body.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        // Twenty digits hold every 64-bit number.
        let is_number = (1..=20).contains(&number.len()) && number.iter().all(u8::is_ascii_digit);
        (request.method == "POST" && is_number).then(Answer::empty)
    }

    /// The answer to a verified request, when it is a handshake.
    fn after(self, request: &Inbound<'_>) -> Result<Option<Answer>, Reject> {
        match self {
            Self::Header { name, value } => {
                Ok(request.headers.unique(name)?.filter(|sent| *sent == value.as_bytes()).map(|_| Answer::empty()))
            }
            Self::Echo { kind, echo } => match members::read(request.body, ["type", echo]) {
                [Some(sent), Some(text)] if sent == kind => Ok(Some(Answer::json(&serde_json::json!({ echo: text })))),
                [Some(sent), None] if sent == kind => Err(Reject::malformed(echo, "a text in the handshake's body")),
                _ => Ok(None),
            },
            Self::UnsignedNumber { .. } => Ok(None),
        }
    }
}

/// A sender that is known to make sense.
pub(super) struct Compiled {
    sender: Sender,
    template: Template,
}

impl Sender {
    /// Splits the template and refuses data that would verify less than it seems to.
    pub(super) fn compile(self) -> Result<Compiled, Vec<ConfigError>> {
        let template = Template::parse(&self.template)
            .map_err(|cause| vec![ConfigError::new("template", cause, format!("known are {}", Template::known()))])?;
        let timed =
            matches!(self.form, Form::Pairs { .. }) || self.headers.iter().all(|headers| headers.timestamp.is_some());
        let named = self.headers.iter().all(|headers| headers.id.is_some());
        let mut problems = Vec::new();
        let mut problem = |path, message: &str, help: &str| problems.push(ConfigError::new(path, message, help));
        if template.holds(Slot::Timestamp) && !timed {
            let help = "name the header that carries it as `timestamp_header`";
            problem("template", "`{timestamp}` is signed, but no header brings it", help);
        }
        if timed && !template.holds(Slot::Timestamp) {
            let help = "put `{timestamp}` into `template` as the sender does, or drop `timestamp_header`";
            problem("template", "the time is not signed, so anybody could change it", help);
        }
        if template.holds(Slot::Id) && !named {
            problem("template", "`{id}` is signed, but no header brings it", "name that header as `id_header`");
        }
        if !template.covers_body() && !template.holds(Slot::Timestamp) {
            let help = "put `{body}` into `template` as the sender does";
            problem("template", "neither the body nor a time is signed, so one signature would fit for ever", help);
        }
        if problems.is_empty() { Ok(Compiled { sender: self, template }) } else { Err(problems) }
    }
}

/// The scheme that a sender's data makes.
pub(super) struct SenderScheme(Arc<Compiled>);

impl SenderScheme {
    pub(super) fn boxed(sender: Sender) -> Built {
        Ok(Box::new(Self(Arc::new(sender.compile()?))))
    }
}

impl Scheme for SenderScheme {
    fn needs(&self) -> Vec<&'static str> {
        let sender = &self.0.sender;
        match sender.form {
            Form::Versions { public_key, .. } => vec![sender.secret, public_key],
            Form::Whole { .. } | Form::Pairs { .. } => vec![sender.secret],
        }
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        let sender = &self.0.sender;
        let bad = |name, place, problem| KeyError::Bad { name, place, problem };
        let mut macs = Vec::new();
        for (place, value) in keys.get(sender.secret)?.iter().enumerate() {
            let bytes = sender.key_encoding.decode(value).map_err(|problem| bad(sender.secret, place, problem))?;
            let ending = if sender.key_ends_text { bytes.to_vec() } else { Vec::new() };
            macs.push(Mac { key: sender.algorithm.key(&bytes), ending });
        }
        let mut publics = Vec::new();
        if let Form::Versions { public_key: name, .. } = sender.form {
            for (place, value) in keys.get(name)?.iter().enumerate() {
                let encoded = value.strip_prefix(b"whpk_").unwrap_or(value);
                let bytes = base64(encoded).ok_or_else(|| bad(name, place, "is not `whpk_` and base64"))?;
                let key = ParsedPublicKey::new(&ED25519, bytes);
                publics.push(key.map_err(|_| bad(name, place, "is not an Ed25519 public key of 32 bytes"))?);
            }
        }
        Ok(Box::new(Keyed { rule: Arc::clone(&self.0), macs, publics }))
    }
}

/// A sender's data with its keys ready for use.
struct Keyed {
    rule: Arc<Compiled>,
    macs: Vec<Mac>,
    publics: Vec<ParsedPublicKey>,
}

/// A key, and what follows the template in its signed text.
struct Mac {
    key: hmac::Key,
    ending: Vec<u8>,
}

/// What the headers of one request say.
struct Claim<'a> {
    macs: Vec<Vec<u8>>,
    ed25519: Vec<Vec<u8>>,
    filling: Filling<'a>,
    signed_at: Option<Timestamp>,
    id: Option<String>,
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let Compiled { sender, template } = &*self.rule;
        let present = sender.headers.iter().find(|set| request.headers.get_all(&set.signature).next().is_some());
        if let Some(answer) = sender.handshake.filter(|_| present.is_none()).and_then(|rule| rule.before(request)) {
            return Ok(Verdict::Handshake(answer));
        }
        let headers = present.unwrap_or(&sender.headers[0]);
        let claim = self.claim(request, headers)?;
        if sender.refuse_empty_body && request.body.is_empty() {
            return Err(Reject::EmptyBody);
        }
        let key_index = self.fitting_key(request, &claim)?;
        if let Some(signed_at) = claim.signed_at {
            window::check(signed_at, sender.timestamp_unit, request.received_at, sender.tolerance)?;
        }
        if let Some(answer) = sender.handshake.map(|rule| rule.after(request)).transpose()?.flatten() {
            return Ok(Verdict::Handshake(answer));
        }
        let body_is_signed = template.covers_body();
        let mut proof = Proof {
            delivery_id: claim.id,
            id_is_signed: template.holds(Slot::Id),
            id_may_collide: sender.id_may_collide,
            body_is_signed,
            signed_at: claim.signed_at,
            key_index,
            message: None,
            answer: sender.answer.map(|answer| answer()),
        };
        if !matches!(sender.id_in_body, IdInBody::None) {
            let sent_at = claim.filling.timestamp.unwrap_or_default();
            proof.delivery_id = sender.id_in_body.read(request.body, sent_at);
            proof.id_is_signed = body_is_signed;
        }
        Ok(Verdict::Deliver(proof))
    }
}

impl Keyed {
    /// Reads the headers: signatures, time and id, each at most once.
    fn claim<'a>(&'a self, request: &'a Inbound<'_>, headers: &HeaderSet) -> Result<Claim<'a>, Reject> {
        let Compiled { sender, template } = &*self.rule;
        let value = request.headers.required(&headers.signature)?;
        let mut claim = Claim { macs: vec![], ed25519: vec![], filling: Filling::default(), signed_at: None, id: None };
        claim.filling.url = sender.url.as_deref();
        match &sender.form {
            Form::Whole { prefix } => {
                let malformed = || Reject::malformed(&headers.signature, sender.encoding.wanted());
                let text = value.strip_prefix(prefix.as_bytes()).ok_or_else(malformed)?;
                claim.macs.push(sender.encoding.decode(text).ok_or_else(malformed)?);
            }
            Form::Pairs { timestamp, signature } => claim.read_pairs(value, timestamp, signature, sender, headers)?,
            Form::Versions { mac, ed25519, .. } => {
                let usable = (!self.macs.is_empty()).then_some(*mac);
                claim.read_versions(value, usable, (!self.publics.is_empty()).then_some(*ed25519), headers)?;
            }
        }
        if let Some(name) = &headers.timestamp {
            claim.filling.timestamp = Some(request.headers.required(name)?);
        }
        if let Some(digits) = claim.filling.timestamp {
            let name = headers.timestamp.as_ref().unwrap_or(&headers.signature);
            let malformed = || Reject::malformed(name, "a time in ASCII digits");
            claim.signed_at = Some(sender.timestamp_unit.read(digits).ok_or_else(malformed)?);
        }
        if let Some(name) = &headers.id {
            let sent = request.headers.unique(name)?;
            if template.holds(Slot::Id) {
                claim.filling.id = Some(sent.ok_or_else(|| Reject::MissingHeader { name: name.to_string() })?);
            }
            claim.id = sent.map(|id| delivery_id(name, id)).transpose()?;
        }
        Ok(claim)
    }

    /// The place of the first key that fits any of the signatures. Each key's MAC is computed once.
    fn fitting_key(&self, request: &Inbound<'_>, claim: &Claim<'_>) -> Result<usize, Reject> {
        let made = self.rule.template.make(request);
        let text = || self.rule.template.fill(request, Filling { made: Some(&made), ..claim.filling });
        if !claim.macs.is_empty() {
            for (place, mac) in self.macs.iter().enumerate() {
                let mut context = hmac::Context::with_key(&mac.key);
                for piece in text() {
                    context.update(piece?);
                }
                context.update(&mac.ending);
                let tag = context.sign();
                if claim.macs.iter().any(|sent| verify_slices_are_equal(tag.as_ref(), sent).is_ok()) {
                    return Ok(place);
                }
            }
        }
        if !claim.ed25519.is_empty() {
            let message = text().collect::<Result<Vec<_>, _>>()?.concat();
            for (place, key) in self.publics.iter().enumerate() {
                if claim.ed25519.iter().any(|sent| key.verify_sig(&message, sent).is_ok()) {
                    return Ok(place);
                }
            }
        }
        Err(Reject::WrongSignature)
    }
}

impl<'a> Claim<'a> {
    fn read_pairs(
        &mut self,
        value: &'a [u8],
        timestamp: &str,
        signature: &str,
        sender: &Sender,
        headers: &HeaderSet,
    ) -> Result<(), Reject> {
        let malformed = |wanted| Reject::malformed(&headers.signature, wanted);
        let mut known = 0;
        for pair in value.split(|byte| *byte == b',') {
            let Some((name, text)) = split_once(pair, b'=') else { continue };
            if name == timestamp.as_bytes() && self.filling.timestamp.replace(text).is_some() {
                return Err(malformed("a list with one time"));
            }
            if name == signature.as_bytes() {
                known += 1;
                self.macs.extend(sender.encoding.decode(text));
            }
        }
        if self.filling.timestamp.is_none() {
            return Err(malformed("a list with a time"));
        }
        counted(known, headers)
    }

    fn read_versions(
        &mut self,
        value: &[u8],
        mac: Option<&str>,
        ed25519: Option<&str>,
        headers: &HeaderSet,
    ) -> Result<(), Reject> {
        let mut known = 0;
        for item in value.split(|byte| *byte == b' ') {
            let Some((version, text)) = split_once(item, b',') else { continue };
            let is = |wanted: Option<&str>| wanted.is_some_and(|wanted| wanted.as_bytes() == version);
            if is(mac) {
                known += 1;
                self.macs.extend(Encoding::Base64.decode(text));
            } else if is(ed25519) {
                known += 1;
                self.ed25519.extend(Encoding::Base64.decode(text));
            }
        }
        counted(known, headers)
    }
}

/// Refuses a header without any usable signature, and one with so many that checking them would be work.
fn counted(known: usize, headers: &HeaderSet) -> Result<(), Reject> {
    match known {
        0 => Err(Reject::UnknownVersion { what: headers.signature.to_string() }),
        1..=limits::SIGNATURES_MAX => Ok(()),
        _ => Err(Reject::malformed(&headers.signature, "a list of at most 16 signatures")),
    }
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}
