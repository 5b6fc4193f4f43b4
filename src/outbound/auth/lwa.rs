//! `auth: { type: lwa, … }`: Login with Amazon, for the Selling Partner API and the Ads API.
//!
//! With a refresh token it speaks for a seller; with a `scope` it is grantless, for the few operations that want that.
//! The Selling Partner API takes the token in `x-amz-access-token` and says by a 403 that it is over; the Ads API takes
//! it as `Authorization: Bearer`, with the client's id beside it.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::Error as _;

use super::AuthKind;
use crate::outbound::token::{BEARER, ClientAuth, Fill, Grant, Secret, Text, TokenAuth};

pub(super) const KIND: AuthKind = AuthKind {
    name: "lwa",
    summary: "Login with Amazon, for the Selling Partner API and the Ads API.",
    parse: |settings, _| {
        let settings: Settings = serde_json::from_value(settings)?;
        let refresh_token = settings.refresh_token.map(Into::into);
        if refresh_token.is_some() == settings.scope.is_some() {
            return Err(serde_json::Error::custom("it takes a `refresh_token` or a `scope`"));
        }
        let (header, beside, forbidden_is_refusal) = match settings.api {
            Api::SellingPartner => (("x-amz-access-token", ""), Vec::new(), true),
            Api::Ads => {
                (BEARER, vec![("amazon-advertising-api-clientid", Fill::Text(settings.client_id.clone()))], false)
            }
        };
        let grant = Grant {
            url: settings.token_url.unwrap_or_else(|| TOKEN_URL.to_owned()),
            kind: if refresh_token.is_some() { "refresh_token" } else { "client_credentials" },
            client_id: settings.client_id,
            client_secret: settings.client_secret.into(),
            client_auth: ClientAuth::Post,
            refresh_token,
            params: settings.scope.map(|scope| ("scope".to_owned(), Text::Plain(scope))).into_iter().collect(),
            headers: Vec::new(),
        };
        Ok(Arc::new(TokenAuth { grant, header, beside, forbidden_is_refusal }))
    },
};

const TOKEN_URL: &str = "https://api.amazon.com/auth/o2/token";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    token_url: Option<String>,
    client_id: Text,
    client_secret: Secret,
    refresh_token: Option<Secret>,
    scope: Option<String>,
    #[serde(default)]
    api: Api,
}

/// Which of Amazon's APIs.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Api {
    #[default]
    SellingPartner,
    Ads,
}
