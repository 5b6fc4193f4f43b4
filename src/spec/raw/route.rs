//! `routes/*.yaml`: what starts work.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Condition, Duration, Rate, Size, Source, Subscription, Sweep, Version};

/// Routes, sources and schedules: what starts work. Each names a workflow and its inputs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Routes {
    /// The version of the language.
    pub version: Version,
    /// The webhooks.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// What is fetched instead of being sent here.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// The clocks.
    #[serde(default)]
    pub schedules: Vec<Schedule>,
}

/// A path that takes webhooks: how to verify, dedupe and answer them, and which workflow to run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The name of the route; made from the path when left out.
    pub name: Option<String>,
    /// What the route is for, for people.
    pub description: Option<String>,
    /// The path that the sender calls, such as `/hooks/shopify/us/orders`.
    pub path: String,
    /// How the sender proves who it is.
    pub verify: Verify,
    /// Starts a run only when this expression is true; other deliveries are answered 2xx and counted.
    pub filter: Option<Condition>,
    /// What makes two deliveries the same.
    pub dedupe: Option<Dedupe>,
    /// How much the sender may send.
    pub limits: Option<RouteLimits>,
    /// Addresses that may call, as CIDR; everyone when left out.
    pub allow_ip: Option<Vec<String>>,
    /// Paths of the body that are removed before anything is stored, such as `$.customer`.
    #[serde(default)]
    pub redact: Vec<String>,
    /// What the sender is told on success.
    pub respond: Option<Respond>,
    /// The workflow to run.
    pub workflow: String,
    /// The workflow's inputs: values and expressions over `headers`, `query`, `path`, `body` and `delivery`.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// Asks the platform now and then what it holds, and runs what no webhook brought.
    pub sweep: Option<Sweep>,
    /// What the platform is asked to send to this route, by `clawhook subscriptions`.
    pub subscription: Option<Subscription>,
    /// `false` refuses every delivery.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// `true` accepts deliveries durably and holds their runs.
    #[serde(default)]
    pub paused: bool,
}

/// How a sender proves who it is: `none`, or a preset and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Verify {
    /// Written out as `none`: everyone may send.
    None,
    /// By a scheme.
    Preset(VerifyPreset),
}

/// A verification scheme by name, with its parameters beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyPreset {
    /// The scheme's name, such as `shopify`.
    pub preset: String,
    /// Everything else: `secret_ref`, `secrets`, `tolerance` and what the scheme calls its own.
    pub parameters: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Verify {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "none" => Ok(Self::None),
            Value::Object(mut parameters) => match parameters.remove("preset") {
                Some(Value::String(preset)) => Ok(Self::Preset(VerifyPreset { preset, parameters })),
                _ => Err(D::Error::missing_field("preset")),
            },
            other => Err(D::Error::custom(format!("neither `none` nor a preset: {other}"))),
        }
    }
}

impl JsonSchema for Verify {
    fn schema_name() -> Cow<'static, str> {
        "Verify".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How the sender proves who it is: `none`, or a preset with its parameters beside it.",
            "anyOf": [
                { "const": "none" },
                {
                    "type": "object",
                    "properties": {
                        "preset": { "type": "string", "description": "The verification scheme, such as `shopify` or `generic_hmac`." }
                    },
                    "required": ["preset"]
                }
            ],
            "x-expected": "a preset such as `{ preset: shopify, secret_ref: NAME }`, or `none`",
        })
    }
}

/// What makes two deliveries the same delivery, and for how long.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dedupe {
    /// `delivery_id` (the sender's own id, the default), `body`, or an expression.
    pub key: Option<String>,
    /// How long a delivery is remembered.
    pub window: Option<Duration>,
    /// Flags a new delivery that carries an old signed body.
    pub replay_guard: Option<ReplayGuard>,
}

/// What a suspected replay is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayGuard {
    /// The same signed body under a new delivery id.
    Body,
    /// Nothing.
    None,
}

/// How much one route takes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteLimits {
    /// The largest body.
    pub max_body: Option<Size>,
    /// How many deliveries are taken in a time; more are answered 429 with `Retry-After`.
    pub rate: Option<Rate>,
    /// How many deliveries may come at once before `rate` counts.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
    /// How many deliveries are worked on at one time.
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: Option<u32>,
}

/// What the sender is told on success.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// The status, 202 unless some sender counts only another.
    #[schemars(range(min = 200, max = 299))]
    pub status: Option<u16>,
}

/// A clock that starts a workflow.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The name of the schedule.
    pub name: String,
    /// What the schedule is for, for people.
    pub description: Option<String>,
    /// When: five fields (six with seconds) or a nickname such as `@daily`.
    pub cron: Option<String>,
    /// When, as a steady distance in real time.
    pub every: Option<Duration>,
    /// The zone that `cron` is read in, such as `Asia/Shanghai`; UTC when left out.
    pub timezone: Option<String>,
    /// What to do when a slot comes due and an earlier run still goes on.
    pub overlap: Option<Overlap>,
    /// What to do about slots that were missed while the gateway was down.
    pub catchup: Option<Catchup>,
    /// How far back missed slots are looked for.
    pub catchup_window: Option<Duration>,
    /// A random delay of up to this much after each slot.
    pub jitter: Option<Duration>,
    /// Whom to tell when a slot did not fire.
    pub alert_if_missed: Option<String>,
    /// The workflow to run.
    pub workflow: String,
    /// The workflow's inputs: values and expressions over `slot`.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// `false` takes the schedule out of use.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// `true` skips slots until the schedule is resumed.
    #[serde(default)]
    pub paused: bool,
}

/// What to do when a slot comes due and an earlier run still goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Leave the slot out.
    Skip,
    /// Run it after the earlier one.
    Queue,
    /// Run both.
    Allow,
    /// Cancel the earlier one.
    CancelRunning,
}

/// What to do about missed slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Catchup {
    /// Leave them.
    None,
    /// Run the newest one.
    Latest,
    /// Run each.
    All,
}

pub(super) fn yes() -> bool {
    true
}
