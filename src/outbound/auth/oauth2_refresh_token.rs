//! `auth: { type: oauth2_refresh_token, … }`: a token in the name of somebody who allowed it (RFC 6749 section 6).
//!
//! A far end may replace the refresh token with every use. The new one is kept in memory, because secret sources are
//! only read; a warning says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::AuthKind;
use crate::outbound::token::{BEARER, ClientAuth, Grant, Secret, Text, TokenAuth};

pub(super) const KIND: AuthKind = AuthKind {
    name: "oauth2_refresh_token",
    summary: "Trade a refresh token for a token, and send it as `Authorization: Bearer`.",
    parse: |settings, _| {
        let settings: Settings = serde_json::from_value(settings)?;
        let scope = settings.scope.map(|scope| ("scope".to_owned(), Text::Plain(scope)));
        let grant = Grant {
            url: settings.token_url,
            kind: "refresh_token",
            client_id: settings.client_id,
            client_secret: settings.client_secret.into(),
            client_auth: settings.client_auth,
            refresh_token: Some(settings.refresh_token.into()),
            params: scope.into_iter().chain(settings.params).collect(),
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
    refresh_token: Secret,
    #[serde(default)]
    client_auth: ClientAuth,
    scope: Option<String>,
    #[serde(default)]
    params: BTreeMap<String, Text>,
}
