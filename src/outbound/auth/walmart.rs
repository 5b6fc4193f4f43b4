//! `auth: { type: walmart, … }`: the Walmart Marketplace API. Its token goes into `WM_SEC.ACCESS_TOKEN`, and every call,
//! the one for the token included, carries a correlation id of its own. Without `Accept` it answers XML.

use std::sync::Arc;

use serde::Deserialize;

use super::AuthKind;
use crate::outbound::token::{ClientAuth, Fill, Grant, Secret, Text, TokenAuth};

pub(super) const KIND: AuthKind = AuthKind {
    name: "walmart",
    summary: "Tokens and headers of the Walmart Marketplace API.",
    parse: |settings, _| {
        let settings: Settings = serde_json::from_value(settings)?;
        let service = settings.service.unwrap_or_else(|| SERVICE.to_owned());
        let mut headers =
            vec![("wm_svc.name", Fill::Text(Text::Plain(service))), ("wm_qos.correlation_id", Fill::FreshId)];
        headers.extend(settings.channel_type.map(|channel| ("wm_consumer.channel.type", Fill::Text(channel))));
        let mut beside = headers.clone();
        beside.push(("accept", Fill::Default("application/json")));
        let grant = Grant {
            url: settings.token_url.unwrap_or_else(|| TOKEN_URL.to_owned()),
            kind: "client_credentials",
            client_id: settings.client_id,
            client_secret: settings.client_secret.into(),
            client_auth: ClientAuth::Basic,
            refresh_token: None,
            params: Vec::new(),
            headers,
        };
        Ok(Arc::new(TokenAuth { grant, header: ("wm_sec.access_token", ""), beside, forbidden_is_refusal: false }))
    },
};

const TOKEN_URL: &str = "https://marketplace.walmartapis.com/v3/token";
const SERVICE: &str = "Walmart Marketplace";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    token_url: Option<String>,
    client_id: Text,
    client_secret: Secret,
    /// `WM_SVC.NAME`.
    service: Option<String>,
    /// `WM_CONSUMER.CHANNEL.TYPE`, for solution providers.
    channel_type: Option<Text>,
}
