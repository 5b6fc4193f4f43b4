//! `sweep` of a route: what the platform holds, held against what it delivered.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Duration;

/// Asks the platform now and then what changed lately, and runs what no webhook brought. It has a schedule of its own,
/// named after the route: `orders.sweep`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// When: five fields (six with seconds) or a nickname such as `@daily`.
    pub cron: Option<String>,
    /// When, as a steady distance in real time.
    pub every: Option<Duration>,
    /// The zone that `cron` is read in, such as `Asia/Shanghai`; UTC when left out.
    pub timezone: Option<String>,
    /// The call that lists what changed, page after page.
    pub list: ListCall,
    /// When an object became what it is, such as `${{ item.updated_at }}`: RFC 3339 with a zone, or milliseconds since
    /// 1970.
    pub time: String,
    /// The delivery key of an object; what `dedupe.key` makes of its body when left out.
    pub key: Option<String>,
    /// The body that its webhook would have; the object itself when left out.
    pub body: Option<Value>,
    /// The headers that its webhook would have, for `filter`, `inputs` and `dedupe.key`.
    #[serde(default)]
    pub headers: Map<String, Value>,
    /// What is younger than this is left to the next sweep: its webhook may be on the way. `5m` when left out.
    pub settle: Option<Duration>,
    /// How far to look back behind where the last sweep ended: `3h` when left out.
    pub lookback: Option<Duration>,
    /// Objects that one sweep looks at: 20,000 when left out. More fail it, and the next one begins where it did.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_items: Option<u32>,
    /// The channel to tell when something was missing, when a sweep failed, and when one did not run.
    pub alert: Option<String>,
}

/// The call that lists what changed: the `with` of an `http_request`, and its `connection` beside it. Its expressions see
/// `sweep.since` and `sweep.until`.
#[derive(Debug, Clone, PartialEq)]
pub struct ListCall {
    /// The connection that it goes through.
    pub connection: Option<String>,
    /// Everything else.
    pub with: Map<String, Value>,
}

impl<'de> Deserialize<'de> for ListCall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut with = Map::deserialize(deserializer)?;
        let connection = with.remove("connection").and_then(|name| name.as_str().map(str::to_owned));
        Ok(Self { connection, with })
    }
}

impl JsonSchema for ListCall {
    fn schema_name() -> Cow<'static, str> {
        "ListCall".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The call that lists what changed: the settings of an `http_request`, with its `connection` beside them. Expressions see `sweep.since` and `sweep.until`.",
            "type": "object",
            "properties": {
                "connection": { "type": "string", "description": "The connection that the call goes through." }
            },
        })
    }
}
