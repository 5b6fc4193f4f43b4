//! The platforms, one row each: most senders are data, not code.

use std::time::Duration;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::inbound::Answer;
use super::keys::{Encoding, KeyEncoding};
use super::params::{ConfigError, Span, header_name};
use super::sender::{Form, Handshake, HeaderSet, IdInBody, Sender, SenderScheme};
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
                id_in_body: IdInBody::Member("id".into()),
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
                id_in_body: IdInBody::Member("event_id".into()),
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
                id_in_body: IdInBody::Member("msgId".into()),
                answer: Some(empty_object),
                ..Sender::over_body(HeaderSet::new("sign").timestamp("timestamp"))
            },
        },
    },
    SchemeKind {
        name: "tiktok_shop",
        summary: "TikTok Shop: lower-case hex HMAC-SHA256 of app key and body in `Authorization`. No signed time.",
        secrets: &[SecretSlot { name: "app_secret", summary: "The app's secret" }],
        // partner.tiktokshop.com, "Webhooks"; older payloads carry no notification id.
        making: Making::Row {
            knobs: Knobs::AppKey,
            sender: || Sender {
                secret: "app_secret",
                id_in_body: IdInBody::Member("tts_notification_id".into()),
                ..Sender::over_body(HeaderSet::new("authorization"))
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
                id_in_body: IdInBody::Made(click),
                answer: Some(empty_object),
                ..Sender::over_body(HeaderSet::new("x-ddpaas-signature").timestamp("x-ddpaas-signature-timestamp"))
            },
        },
    },
    SchemeKind {
        name: "shopee",
        summary: "Shopee: lower-case hex HMAC-SHA256 of `{callback_url}|{body}` in `Authorization`. Answers 200 and an \
                  empty body, which is all that it counts as success.",
        secrets: &[SecretSlot {
            name: "partner_key",
            summary: "The app's partner key, as text even if it looks like hex",
        }],
        // open.shopee.com, "Push Mechanism". There is no delivery id: what changed, for which order and when, names it.
        making: Making::Row {
            knobs: Knobs::CallbackUrl,
            sender: || Sender {
                template: "{url}|{body}".into(),
                secret: "partner_key",
                id_in_body: IdInBody::AllOf(&[
                    &["shop_id"],
                    &["code"],
                    &["data", "ordersn"],
                    &["data", "status"],
                    &["data", "update_time"],
                ]),
                answer: Some(Answer::empty),
                ..Sender::over_body(HeaderSet::new("authorization"))
            },
        },
    },
    SchemeKind {
        name: "lazada",
        summary: "Lazada: hex HMAC-SHA256 of app key and body in `Authorization`. No signed time.",
        secrets: &[SecretSlot { name: "app_secret", summary: "The app's secret" }],
        // open.lazada.com, "Lazada Push Mechanism". There is no delivery id either.
        making: Making::Row {
            knobs: Knobs::AppKey,
            sender: || Sender {
                encoding: Encoding::Hex,
                secret: "app_secret",
                id_in_body: IdInBody::AllOf(&[
                    &["message_type"],
                    &["data", "trade_order_id"],
                    &["data", "trade_order_line_id"],
                    &["data", "order_status"],
                    &["data", "status_update_time"],
                ]),
                ..Sender::over_body(HeaderSet::new("authorization"))
            },
        },
    },
    SchemeKind {
        name: "walmart_hmac",
        summary: "Walmart Marketplace with `authMethod: HMAC`: HMAC-SHA256 of the body in the header that the \
                  subscription names. For BASIC_AUTH take `basic` with `header`, for OAUTH `walmart_oauth`.",
        secrets: &[SecretSlot { name: "client_secret", summary: "The `clientSecret` of the subscription" }],
        // developer.walmart.com, "Create subscription"; the encoding is not stated there.
        making: Making::Row {
            knobs: Knobs::WalmartHmac,
            sender: || Sender {
                encoding: Encoding::Base64,
                secret: "client_secret",
                id_in_body: IdInBody::FirstOf(WALMART_EVENT_ID),
                ..Sender::over_body(HeaderSet::new("authorization"))
            },
        },
    },
    SchemeKind {
        name: "walmart_performance",
        summary: "Walmart performance webhooks: base64 HMAC-SHA256 in `WM_SEC.SIGNATURE` of method, path and query, \
                  `WM_SEC.TIMESTAMP` and the body's SHA-256, one to a line.",
        secrets: &[SecretSlot { name: "secret", summary: "The shared secret" }],
        // developer.walmart.com, "Security and authenticity", no longer there since September 2026. `WM_SEC.KEY_ID` is
        // only a hint: every key is tried.
        making: Making::Row {
            knobs: Knobs::Tolerance,
            sender: || Sender {
                encoding: Encoding::Base64,
                template: "{method}\n{target}\n{timestamp}\n{body_sha256}".into(),
                id_in_body: IdInBody::FirstOf(WALMART_EVENT_ID),
                ..Sender::over_body(HeaderSet::new("wm_sec.signature").timestamp("wm_sec.timestamp"))
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

/// Where Walmart's notifications hold their id: the newer form, then the older.
pub(super) const WALMART_EVENT_ID: &[members::Place] = &[&["source", "eventId"], &["eventId"]];

/// What a user may set on a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Knobs {
    None,
    Tolerance,
    ToleranceOfHour,
    ToleranceAndPrefix,
    AppKey,
    CallbackUrl,
    WalmartHmac,
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

/// The parameters of a platform that signs the app's key with the body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AppKeyParams {
    /// The app's key as its page shows it; it is not secret.
    #[schemars(required)]
    app_key: Option<String>,
}

/// The parameters of a platform that signs its own idea of our URL.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CallbackUrlParams {
    /// The URL exactly as it is registered with the platform; what a proxy makes of it does not matter.
    #[schemars(required)]
    callback_url: Option<String>,
}

/// The parameters of Walmart's HMAC.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WalmartHmacParams {
    /// The `authHeaderName` of the subscription.
    #[schemars(required)]
    auth_header_name: Option<String>,
    /// How the signature is written, which Walmart does not say; base64 when left out.
    encoding: Option<WalmartEncoding>,
}

/// How Walmart writes a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum WalmartEncoding {
    Base64,
    Hex,
}

impl Knobs {
    pub(super) fn schema(self) -> Schema {
        match self {
            Self::None => schema_for!(NoParams),
            Self::Tolerance => schema_for!(ToleranceParams),
            Self::ToleranceOfHour => schema_for!(HourParams),
            Self::ToleranceAndPrefix => schema_for!(StandardParams),
            Self::AppKey => schema_for!(AppKeyParams),
            Self::CallbackUrl => schema_for!(CallbackUrlParams),
            Self::WalmartHmac => schema_for!(WalmartHmacParams),
        }
    }

    /// Turns the knobs of a row and makes it a scheme.
    pub(super) fn build(self, mut sender: Sender, with: &Map<String, Value>) -> Built {
        match self {
            Self::None => params::read(with).map(|NoParams {}| ())?,
            Self::Tolerance => {
                let ToleranceParams { tolerance } = params::read(with)?;
                sender.tolerance = tolerance.map_or(sender.tolerance, |Span(tolerance)| tolerance);
            }
            Self::ToleranceOfHour => {
                let HourParams { tolerance } = params::read(with)?;
                sender.tolerance = tolerance.map_or(sender.tolerance, |Span(tolerance)| tolerance);
            }
            Self::ToleranceAndPrefix => {
                let StandardParams { tolerance, prefix } = params::read(with)?;
                sender.tolerance = tolerance.map_or(sender.tolerance, |Span(tolerance)| tolerance);
                if let Some(prefix) = prefix {
                    header_name("prefix", &prefix).map_err(|problem| vec![problem])?;
                    sender.headers = vec![HeaderSet::prefixed(&prefix)];
                }
            }
            Self::AppKey => {
                let AppKeyParams { app_key } = params::read(with)?;
                let app_key =
                    app_key.filter(|key| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                let missing = || {
                    let help = "add `app_key: 4h2i1mmd5b`, as the app's page shows it";
                    vec![ConfigError::new(
                        "app_key",
                        "the app's key, in letters and digits, is signed with the body",
                        help,
                    )]
                };
                sender.template = format!("{}{{body}}", app_key.ok_or_else(missing)?).into();
            }
            Self::CallbackUrl => {
                let CallbackUrlParams { callback_url } = params::read(with)?;
                let is_url = |text: &String| text.starts_with("https://") || text.starts_with("http://");
                let missing = || {
                    let help = "add `callback_url: https://gw.example.com/hooks/shop`, letter for letter as registered";
                    vec![ConfigError::new("callback_url", "the registered URL is signed with the body", help)]
                };
                sender.url = Some(callback_url.filter(is_url).ok_or_else(missing)?);
            }
            Self::WalmartHmac => {
                let WalmartHmacParams { auth_header_name: name, encoding } = params::read(with)?;
                let name = walmart_header(name)?;
                sender.headers = vec![HeaderSet { signature: name.into(), timestamp: None, id: None }];
                if encoding == Some(WalmartEncoding::Hex) {
                    sender.encoding = Encoding::Hex;
                }
            }
        }
        SenderScheme::boxed(sender)
    }
}

/// The header that a Walmart subscription names.
pub(super) fn walmart_header(name: Option<String>) -> Result<String, Vec<ConfigError>> {
    let missing = || {
        let help = "add `auth_header_name: X-WM-Signature`, the `authHeaderName` of the subscription";
        vec![ConfigError::new("auth_header_name", "the header that proves the sender is not named", help)]
    };
    let name = name.ok_or_else(missing)?;
    header_name("auth_header_name", &name).map_err(|problem| vec![problem])?;
    Ok(name)
}
