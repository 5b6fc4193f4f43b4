//! `azure_event_grid`: Event Grid pushes arrays of events, and CloudEvents one by one or in batches. Learn, "Webhook event
//! delivery" and "CloudEvents v1.0 schema with Event Grid"; CloudEvents "HTTP 1.1 Web Hooks", section 4.
//!
//! It signs nothing, so the key or token is all there is; only behind it a handshake is answered, and only for topics and
//! origins that the route names. Each event is a delivery with an id of its own.

use std::fmt;

use bytes::Bytes;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::azure::{Gate, GateParams, OpenGate, QUERY_KEY};
use super::inbound::{Answer, Inbound, Part, Proof, Reject, Verdict, delivery_id};
use super::keys::{KeyError, Keys};
use super::params::{self, ConfigError, OneOrMany, Span};
use super::{Built, Check, Making, Missing, Scheme, SchemeKind, members};
use crate::clock::Timestamp;
use crate::limits;

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "azure_event_grid",
    summary: "Azure Event Grid and CloudEvents: a key in the query, or a token of Entra ID. Answers both handshakes itself; \
              an array is several deliveries.",
    secrets: &[QUERY_KEY],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `azure_event_grid`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The parameter of the query that holds the key, such as `code`.
    query_param: Option<String>,
    /// The resource ids of the topics that may send; for CloudEvents, what may stand in `source`. Case does not matter.
    #[schemars(required)]
    topics: Option<OneOrMany>,
    /// Who may ask for CloudEvents to be sent; `eventgrid.azure.net` when left out.
    allowed_origins: Option<OneOrMany>,
    /// Requests a minute that CloudEvents senders are told to keep to; no limit when left out.
    #[schemars(range(min = 1))]
    allowed_rate: Option<u32>,
    /// The application ID URI that Event Grid asks a token for, its `aud` claim.
    audience: Option<OneOrMany>,
    /// Who issues the token, such as `https://sts.windows.net/TENANT/`, its `iss` claim.
    issuer: Option<OneOrMany>,
    /// The directory's public keys, a JWK set (RFC 7517).
    #[schemars(with = "Option<Map<String, Value>>")]
    jwks: Option<Value>,
    /// Where the directory publishes them, such as `https://login.microsoftonline.com/TENANT/discovery/v2.0/keys`.
    jwks_url: Option<String>,
    /// How far the clocks may differ for `exp` and `nbf`; 60s when left out.
    leeway: Option<Span>,
}

/// The origin that Event Grid itself gives.
const ORIGIN: &str = "eventgrid.azure.net";
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";

fn build(with: &Map<String, Value>) -> Built {
    let Params { query_param, topics, allowed_origins, allowed_rate, audience, issuer, jwks, jwks_url, leeway } =
        params::read(with)?;
    let mut problems = Vec::new();
    let list = |texts: Option<OneOrMany>| texts.map(|texts| texts.as_slice().to_vec()).unwrap_or_default();
    let topics = list(topics);
    if topics.is_empty() || topics.iter().any(String::is_empty) {
        let help = "add `topics: [/subscriptions/…/resourceGroups/…/providers/…]`, the topic's resource id";
        problems.push(ConfigError::new("topics", "the topics that may send are not named", help));
    }
    if allowed_rate == Some(0) {
        let message = "a sender that may send nothing never sends anything";
        problems.push(ConfigError::new("allowed_rate", message, "write requests a minute, or leave it out"));
    }
    let origins = allowed_origins.map_or_else(|| vec![ORIGIN.to_owned()], |origins| origins.as_slice().to_vec());
    match Gate::build(GateParams { query_param, audience, issuer, jwks, jwks_url, leeway }) {
        Ok(gate) if problems.is_empty() => {
            Ok(Box::new(EventGrid { gate, rule: std::sync::Arc::new(Rule { topics, origins, rate: allowed_rate }) }))
        }
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

struct Rule {
    topics: Vec<String>,
    origins: Vec<String>,
    rate: Option<u32>,
}

struct EventGrid {
    gate: Gate,
    rule: std::sync::Arc<Rule>,
}

impl Scheme for EventGrid {
    fn needs(&self) -> Vec<&'static str> {
        self.gate.needs()
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        Ok(Box::new(Keyed { gate: self.gate.prepare(keys)?, rule: self.rule.clone() }))
    }
}

struct Keyed {
    gate: OpenGate,
    rule: std::sync::Arc<Rule>,
}

impl Check for Keyed {
    fn wants(&self, request: &Inbound<'_>) -> Option<Missing> {
        self.gate.wants(request)
    }

    fn learn(&self, url: &str, answer: &[u8], now: Timestamp) -> bool {
        self.gate.learn(url, answer, now)
    }

    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let key_index = self.gate.pass(request)?;
        if request.method == "OPTIONS" {
            return self.rule.allow(request).map(Verdict::Handshake);
        }
        let events = events(request.body)?;
        for event in &events {
            self.rule.expects(event)?;
        }
        if request.headers.unique("aeg-event-type")? == Some(b"SubscriptionValidation") {
            return validate(&events).map(Verdict::Handshake);
        }
        let part = |event: &&[u8]| Part {
            proof: Proof { delivery_id: id_of(event), key_index, answer: Some(Answer::empty()), ..Proof::default() },
            body: Bytes::copy_from_slice(event),
        };
        Ok(Verdict::DeliverAll(events.iter().map(part).collect()))
    }
}

impl Rule {
    /// The answer to "may I send?": the origin back, and at most as often as we let it.
    fn allow(&self, request: &Inbound<'_>) -> Result<Answer, Reject> {
        let origin = request.headers.required("webhook-request-origin")?;
        let origin = self.origins.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(origin));
        let origin = origin.ok_or_else(|| Reject::malformed("webhook-request-origin", "an origin that may send"))?;
        let asked = request.headers.unique("webhook-request-rate")?;
        let asked = asked.and_then(|rate| std::str::from_utf8(rate).ok()?.parse::<u32>().ok()).filter(|rate| *rate > 0);
        let rate = match (self.rate, asked) {
            (None, _) => "*".to_owned(),
            (Some(most), asked) => asked.map_or(most, |asked| asked.min(most)).to_string(),
        };
        let headers = vec![("webhook-allowed-origin", origin.clone()), ("webhook-allowed-rate", rate)];
        Ok(Answer { headers, ..Answer::empty() })
    }

    /// Refuses an event of a topic that the route does not name.
    fn expects(&self, event: &[u8]) -> Result<(), Reject> {
        let member = if is_cloud_event(event) { "source" } else { "topic" };
        let [sent] = members::read(event, [member]);
        // Resource ids are compared without regard to case (Azure Resource Manager).
        let known = sent.is_some_and(|sent| self.topics.iter().any(|topic| topic.eq_ignore_ascii_case(&sent)));
        if known { Ok(()) } else { Err(Reject::malformed(member, "a topic that the route expects")) }
    }
}

fn is_cloud_event(event: &[u8]) -> bool {
    let [version] = members::raw(event, ["specversion"]);
    version.is_some()
}

/// An event's id; that of a `CloudEvent` is only unique together with its source (CloudEvents 1.0, section 3.1).
fn id_of(event: &[u8]) -> Option<String> {
    let id = if is_cloud_event(event) {
        members::joined(event, &[&["source"], &["id"]])
    } else {
        members::at(event, &["id"])
    };
    id.and_then(|id| delivery_id("id", id.as_bytes()).ok())
}

/// The answer to the first event of a subscription: its code.
fn validate(events: &[&[u8]]) -> Result<Answer, Reject> {
    let wanted = || Reject::malformed("body", "one SubscriptionValidationEvent with a `validationCode`");
    let [event] = events else { return Err(wanted()) };
    if members::at(event, &["eventType"]).as_deref() != Some(VALIDATION) {
        return Err(wanted());
    }
    let code = members::at(event, &["data", "validationCode"]).ok_or_else(wanted)?;
    Ok(Answer::json(&json!({ "validationResponse": code })))
}

/// The events of a body as they are written: the items of an array, or a single object.
fn events(body: &[u8]) -> Result<Vec<&[u8]>, Reject> {
    let json = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    if json.first() == Some(&b'[') {
        let malformed = || Reject::malformed("body", "an array of at most 5000 events");
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let items = deserializer.deserialize_seq(Items).map_err(|_| malformed())?;
        deserializer.end().map_err(|_| malformed())?;
        return if items.is_empty() { Err(malformed()) } else { Ok(items) };
    }
    let malformed = || Reject::malformed("body", "an event or an array of events");
    let event: &RawValue = serde_json::from_slice(json).map_err(|_| malformed())?;
    let event = event.get().as_bytes();
    if event.first() == Some(&b'{') { Ok(vec![event]) } else { Err(malformed()) }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut events = Vec::new();
        while let Some(item) = items.next_element::<&RawValue>()? {
            let event = item.get().as_bytes();
            if events.len() == limits::EVENTS_PER_REQUEST_MAX || event.first() != Some(&b'{') {
                return Err(A::Error::custom("not an event"));
            }
            events.push(event);
        }
        Ok(events)
    }
}
