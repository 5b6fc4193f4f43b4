//! The platforms, one row each: most senders are data, not code.

use std::time::Duration;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::inbound::Answer;
use super::keys::{Encoding, KeyEncoding};
use super::params::{Span, header_name};
use super::sender::{Form, Handshake, HeaderSet, Sender, SenderScheme};
use super::window::TimestampUnit;
use super::{Built, Making, SchemeKind, SecretSlot, members, params};

/// Every platform that is described by a row.
pub(super) static PRESETS: &[SchemeKind] = &[
    SchemeKind {
        name: "shopify",
        summary: "Shopify: base64 HMAC-SHA256 of the body in `X-Shopify-Hmac-Sha256`. No signed time, so only the \
                  delivery id stops a replay.",
        secrets: &[SecretSlot {
            name: "client_secret",
            summary: "The app's client secret, or the one printed under Notifications",
        }],
        // shopify.dev, "Verify webhook deliveries"; its library refuses an empty body. "Events" drop the `X-`.
        making: Making::Row {
            knobs: Knobs::None,
            sender: || Sender {
                headers: vec![
                    HeaderSet::new("x-shopify-hmac-sha256").id("x-shopify-webhook-id"),
                    HeaderSet::new("shopify-hmac-sha256").id("shopify-webhook-id"),
                ],
                encoding: Encoding::Base64,
                secret: "client_secret",
                refuse_empty_body: true,
                ..Sender::over_body(HeaderSet::new("x-shopify-hmac-sha256"))
            },
        },
    },
    SchemeKind {
        name: "github",
        summary: "GitHub: `sha256=` and lower-case hex HMAC-SHA256 of the body in `X-Hub-Signature-256`. Answers `ping` itself.",
        secrets: &[SecretSlot { name: "secret", summary: "The webhook's secret" }],
        // GitHub Docs, "Validating webhook deliveries". The SHA-1 header is not looked at.
        making: Making::Row {
            knobs: Knobs::None,
            sender: || Sender {
                form: Form::Whole { prefix: "sha256=".into() },
                handshake: Some(Handshake::Header { name: "x-github-event", value: "ping" }),
                ..Sender::over_body(HeaderSet::new("x-hub-signature-256").id("x-github-delivery"))
            },
        },
    },
    SchemeKind {
        name: "stripe",
        summary: "Stripe: `t=…,v1=…` in `Stripe-Signature`, hex HMAC-SHA256 of `{timestamp}.{body}`.",
        secrets: &[SecretSlot {
            name: "signing_secret", summary: "The endpoint's `whsec_…`, whole: it is not base64"
        }],
        // docs.stripe.com/webhooks/signature. Any v1 may fit; v0 is a test signature.
        making: Making::Row {
            knobs: Knobs::Tolerance,
            sender: || Sender {
                form: Form::Pairs { timestamp: "t", signature: "v1" },
                template: "{timestamp}.{body}".into(),
                secret: "signing_secret",
                id_member: Some("id".into()),
                ..Sender::over_body(HeaderSet::new("stripe-signature"))
            },
        },
    },
    SchemeKind {
        name: "slack",
        summary: "Slack: `v0=` and hex HMAC-SHA256 of `v0:{timestamp}:{body}` in `X-Slack-Signature`. Answers `url_verification` itself.",
        secrets: &[SecretSlot { name: "signing_secret", summary: "The app's signing secret" }],
        // docs.slack.dev, "Verifying requests from Slack".
        making: Making::Row {
            knobs: Knobs::Tolerance,
            sender: || Sender {
                form: Form::Whole { prefix: "v0=".into() },
                template: "v0:{timestamp}:{body}".into(),
                secret: "signing_secret",
                id_member: Some("event_id".into()),
                handshake: Some(Handshake::Echo { kind: "url_verification", echo: "challenge" }),
                ..Sender::over_body(HeaderSet::new("x-slack-signature").timestamp("x-slack-request-timestamp"))
            },
        },
    },
    SchemeKind {
        name: "standard_webhooks",
        summary: "Standard Webhooks and Svix: `v1` (HMAC-SHA256) and `v1a` (Ed25519) over `{id}.{timestamp}.{body}`.",
        secrets: &[
            SecretSlot { name: "secret", summary: "`whsec_` and base64, for v1" },
            SecretSlot { name: "public_key", summary: "`whpk_` and base64, for v1a" },
        ],
        // github.com/standard-webhooks, spec 1.0.0.
        making: Making::Row {
            knobs: Knobs::ToleranceAndPrefix,
            sender: || Sender {
                headers: vec![HeaderSet::prefixed("webhook"), HeaderSet::prefixed("svix")],
                form: Form::Versions { mac: "v1", ed25519: "v1a", public_key: "public_key" },
                template: "{id}.{timestamp}.{body}".into(),
                key_encoding: KeyEncoding::Whsec,
                ..Sender::over_body(HeaderSet::prefixed("webhook"))
            },
        },
    },
    SchemeKind {
        name: "woocommerce",
        summary: "WooCommerce: base64 HMAC-SHA256 of the body in `X-WC-Webhook-Signature`. Answers the unsigned first ping itself.",
        secrets: &[SecretSlot { name: "secret", summary: "The webhook's secret as its page shows it" }],
        // woocommerce/woocommerce, class-wc-webhook.php: the key is the secret after wp_specialchars_decode; a delivery
        // id is the hash of webhook and second, so two events of one second share it.
        making: Making::Row {
            knobs: Knobs::None,
            sender: || Sender {
                encoding: Encoding::Base64,
                key_encoding: KeyEncoding::HtmlEntities,
                id_may_collide: true,
                handshake: Some(Handshake::UnsignedNumber { name: "webhook_id" }),
                ..Sender::over_body(HeaderSet::new("x-wc-webhook-signature").id("x-wc-webhook-delivery-id"))
            },
        },
    },
    SchemeKind {
        name: "dingtalk_robot",
        summary: "Messages to a DingTalk robot over HTTP: base64 HMAC-SHA256 of the time and the app secret in `sign`. The body \
                  is NOT signed: only TLS and the message's id protect it.",
        secrets: &[SecretSlot { name: "app_secret", summary: "The `appSecret` of the robot's app" }],
        // open.dingtalk.com, "机器人接收消息": more than an hour off is to be refused.
        making: Making::Row {
            knobs: Knobs::ToleranceOfHour,
            sender: || Sender {
                encoding: Encoding::Base64,
                template: "{timestamp}\n".into(),
                key_ends_text: true,
                secret: "app_secret",
                timestamp_unit: TimestampUnit::Ms,
                tolerance: HOUR,
                id_member: Some("msgId".into()),
                answer: Some(empty_object),
                ..Sender::over_body(HeaderSet::new("sign").timestamp("timestamp"))
            },
        },
    },
    SchemeKind {
        name: "dingtalk_card",
        summary: "Clicks on DingTalk cards over HTTP, and other callbacks with `x-ddpaas-signature`: base64 HMAC-SHA256 of the \
                  time. The body is NOT signed: only TLS and the id made of click and time protect it.",
        secrets: &[SecretSlot { name: "api_secret", summary: "The `apiSecret` that the callback was registered with" }],
        // open.dingtalk.com, "事件回调" of interactive cards. No window is documented; the robot's hour is taken over.
        making: Making::Row {
            knobs: Knobs::ToleranceOfHour,
            sender: || Sender {
                encoding: Encoding::Base64,
                template: "{timestamp}".into(),
                secret: "api_secret",
                timestamp_unit: TimestampUnit::Ms,
                tolerance: HOUR,
                id_of: Some(click),
                answer: Some(empty_object),
                ..Sender::over_body(HeaderSet::new("x-ddpaas-signature").timestamp("x-ddpaas-signature-timestamp"))
            },
        },
    },
];

/// The window of `DingTalk`'s signed headers.
const HOUR: Duration = Duration::from_hours(1);

/// 200 and a JSON object without any of the members that would change something.
fn empty_object() -> Answer {
    Answer::json(&Value::Object(Map::new()))
}

/// What makes a click on a card one click: the card, what was pressed, by whom, and when it was signed.
fn click(body: &[u8], timestamp: &[u8]) -> Option<String> {
    let [Some(card), Some(user), content] = members::read(body, ["outTrackId", "userId", "content"]) else {
        return None;
    };
    // `content` is JSON inside a text.
    let content: Value = serde_json::from_str(&content?).ok()?;
    let actions = content["cardPrivateData"]["actionIds"].as_array()?;
    let actions: Vec<_> = actions.iter().filter_map(Value::as_str).collect();
    let timestamp = str::from_utf8(timestamp).ok()?;
    (!actions.is_empty()).then(|| [&card, &*actions.join(","), &user, timestamp].join("|"))
}

/// What a user may set on a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Knobs {
    None,
    Tolerance,
    ToleranceOfHour,
    ToleranceAndPrefix,
}

/// No parameters.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct NoParams {}

/// The parameters of a platform that signs the time.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ToleranceParams {
    /// How far the signed time may be from ours, both ways; 300s when left out.
    tolerance: Option<Span>,
}

/// The parameters of a platform that signs the time and nothing else.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct HourParams {
    /// How far the signed time may be from ours, both ways; 1h when left out.
    tolerance: Option<Span>,
}

/// The parameters of Standard Webhooks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct StandardParams {
    /// How far the signed time may be from ours, both ways; 300s when left out.
    tolerance: Option<Span>,
    /// How the three headers begin: `webhook`, `svix` or the sender's own word. Both of these when left out.
    prefix: Option<String>,
}

impl Knobs {
    pub(super) fn schema(self) -> Schema {
        match self {
            Self::None => schema_for!(NoParams),
            Self::Tolerance => schema_for!(ToleranceParams),
            Self::ToleranceOfHour => schema_for!(HourParams),
            Self::ToleranceAndPrefix => schema_for!(StandardParams),
        }
    }

    /// Turns the knobs of a row and makes it a scheme.
    pub(super) fn build(self, mut sender: Sender, with: &Map<String, Value>) -> Built {
        let (tolerance, prefix) = match self {
            Self::None => params::read(with).map(|NoParams {}| (None, None))?,
            Self::Tolerance => params::read(with).map(|ToleranceParams { tolerance }| (tolerance, None))?,
            Self::ToleranceOfHour => params::read(with).map(|HourParams { tolerance }| (tolerance, None))?,
            Self::ToleranceAndPrefix => {
                params::read(with).map(|StandardParams { tolerance, prefix }| (tolerance, prefix))?
            }
        };
        if let Some(Span(tolerance)) = tolerance {
            sender.tolerance = tolerance;
        }
        if let Some(prefix) = prefix {
            header_name("prefix", &prefix).map_err(|problem| vec![problem])?;
            sender.headers = vec![HeaderSet::prefixed(&prefix)];
        }
        SenderScheme::boxed(sender)
    }
}
