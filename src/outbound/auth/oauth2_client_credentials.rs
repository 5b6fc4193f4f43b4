//! `auth: { type: oauth2_client_credentials, … }`: a token for the client itself (RFC 6749 section 4.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::AuthKind;
use crate::outbound::token::{BEARER, ClientAuth, Grant, Secret, Text, TokenAuth};

pub(super) const KIND: AuthKind = AuthKind {
    name: "oauth2_client_credentials",
    summary: "Trade a client id and secret for a token, and send it as `Authorization: Bearer`.",
    parse: |settings, _| {
        let settings: Settings = serde_json::from_value(settings)?;
        let named = [("scope", settings.scope), ("audience", settings.audience)];
        let named = named.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Text::Plain(text?))));
        let grant = Grant {
            url: settings.token_url,
            kind: "client_credentials",
            client_id: settings.client_id,
            client_secret: settings.client_secret.into(),
            client_auth: settings.client_auth,
            refresh_token: None,
            params: named.chain(settings.params).collect(),
            headers: Vec::new(),
        };
        Ok(Arc::new(TokenAuth { grant, header: BEARER, beside: Vec::new(), forbidden_is_refusal: false }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    token_url: String,
    client_id: Text,
    client_secret: Secret,
    #[serde(default)]
    client_auth: ClientAuth,
    scope: Option<String>,
    audience: Option<String>,
    #[serde(default)]
    params: BTreeMap<String, Text>,
}
