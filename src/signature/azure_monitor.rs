//! `azure_monitor`: alerts of Azure Monitor in the common alert schema. Learn, "Common alert schema" and "Secure webhook".

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::azure::{Gate, GateParams, OpenGate, QUERY_KEY};
use super::inbound::{Inbound, Proof, Reject, Verdict, delivery_id};
use super::keys::{KeyError, Keys};
use super::params::{self, OneOrMany, Span};
use super::{Built, Check, Making, Missing, Scheme, SchemeKind, members};
use crate::clock::Timestamp;

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "azure_monitor",
    summary: "Azure Monitor, common alert schema: a key in the query, or a token of Entra ID (secure webhook).",
    secrets: &[QUERY_KEY],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `azure_monitor`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// The parameter of the query that holds the key, such as `code`.
    query_param: Option<String>,
    /// For a secure webhook: the application ID URI that Azure asks a token for, its `aud` claim.
    audience: Option<OneOrMany>,
    /// For a secure webhook: who issues the token, such as `https://sts.windows.net/TENANT/`, its `iss` claim.
    issuer: Option<OneOrMany>,
    /// For a secure webhook: the directory's public keys, a JWK set (RFC 7517).
    #[schemars(with = "Option<Map<String, Value>>")]
    jwks: Option<Value>,
    /// Where the directory publishes them, such as `https://login.microsoftonline.com/TENANT/discovery/v2.0/keys`.
    jwks_url: Option<String>,
    /// How far the clocks may differ for `exp` and `nbf`; 60s when left out.
    leeway: Option<Span>,
}

/// One alert fires and is resolved under the same id.
const ALERT: &[members::Place] = &[&["data", "essentials", "alertId"], &["data", "essentials", "monitorCondition"]];

fn build(with: &Map<String, Value>) -> Built {
    let Params { query_param, audience, issuer, jwks, jwks_url, leeway } = params::read(with)?;
    Ok(Box::new(AzureMonitor(Gate::build(GateParams { query_param, audience, issuer, jwks, jwks_url, leeway })?)))
}

struct AzureMonitor(Gate);

impl Scheme for AzureMonitor {
    fn needs(&self) -> Vec<&'static str> {
        self.0.needs()
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        Ok(Box::new(Keyed(self.0.prepare(keys)?)))
    }
}

struct Keyed(OpenGate);

impl Check for Keyed {
    fn wants(&self, request: &Inbound<'_>) -> Option<Missing> {
        self.0.wants(request)
    }

    fn learn(&self, url: &str, answer: &[u8], now: Timestamp) -> bool {
        self.0.learn(url, answer, now)
    }

    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let key_index = self.0.pass(request)?;
        // An alert of another schema is delivered as well; its body tells it from others.
        let alert = members::joined(request.body, ALERT);
        let delivery_id = alert.and_then(|alert| delivery_id("alertId", alert.as_bytes()).ok());
        Ok(Verdict::Deliver(Proof { delivery_id, key_index, ..Proof::default() }))
    }
}
