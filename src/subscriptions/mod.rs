//! What platforms were asked to send here, held against what routes want: what is missing, what leads elsewhere, what the
//! platform switched off, and the calls that mend it.
//!
//! Platforms remove subscriptions that fail for some hours, and say so to nobody. Nothing here runs by itself, and nothing
//! is removed that leads to somebody else.

mod compare;
mod desk;
mod shopify;
mod walmart;
mod woocommerce;

use http::Method;
use serde::Serialize;
use serde_json::Value;

pub use self::compare::{Action, Change, Comparison, compare};
pub use self::desk::{Desk, Trouble};
use crate::id::{ConnectionName, RouteName};
use crate::tasks::plan::{SubscriptionPlatform, SubscriptionProof};

/// A topic of a route at its platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub route: RouteName,
    pub connection: ConnectionName,
    pub platform: SubscriptionPlatform,
    pub topic: String,
    pub url: String,
    pub proof: SubscriptionProof,
    /// The version of the platform's API, where it has several.
    pub api_version: Option<String>,
}

impl Wanted {
    /// The topic as the platform lists it.
    pub fn platform_topic(&self) -> String {
        platform(self.platform).topic(&self.topic)
    }

    /// What it is called where subscriptions have names.
    pub fn name(&self) -> String {
        format!("clawhook {} {}", self.route, self.topic)
    }
}

/// A subscription as the platform has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub id: String,
    pub topic: String,
    pub url: String,
    /// The platform sends.
    pub on: bool,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What it says of itself beside that, such as the header of its signature.
    pub said: Vec<(&'static str, String)>,
}

/// One call to a platform.
#[derive(Debug, Clone, PartialEq)]
struct Ask {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    json: Option<Value>,
}

impl Ask {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), json: None }
    }

    fn json(self, json: Value) -> Self {
        Self { json: Some(json), ..self }
    }

    fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A page of a list, and what names the next one.
#[derive(Debug)]
struct Listed {
    standing: Vec<Standing>,
    next: Option<String>,
}

/// The proof that a platform is to send, its secret in clear: only in the call that needs it.
#[derive(Clone, PartialEq, Eq)]
enum Proof {
    /// It signs with what it knows already.
    Own,
    /// It signs with this.
    Secret(String),
    /// HMAC in this header.
    Hmac { header: String, secret: String },
    /// User and password in this header.
    Basic { header: String, user: String, password: String },
}

/// How a platform is spoken to.
trait Platform: Sync {
    /// Asks for the page that is named so, or for the first.
    fn list(&self, version: Option<&str>, page: Option<&str>) -> Ask;
    /// Reads a page; `page` is the one that was asked for.
    fn listed(&self, body: &Value, page: Option<&str>) -> Result<Listed, String>;
    /// Asks for a subscription.
    fn create(&self, wanted: &Wanted, proof: &Proof) -> Ask;
    /// Makes one what it should be.
    fn repair(&self, id: &str, wanted: &Wanted, proof: &Proof) -> Ask;
    /// Takes one away.
    fn remove(&self, version: Option<&str>, id: &str) -> Ask;
    /// What a call that was answered well says of its failure after all.
    fn refusal(&self, body: &Value) -> Option<String> {
        let _ = body;
        None
    }
    /// What a subscription should say of itself beside topic and URL.
    fn wants(&self, wanted: &Wanted) -> Vec<(&'static str, String)> {
        let _ = wanted;
        Vec::new()
    }
    /// The topic in the platform's spelling, as [`Standing`] has it.
    fn topic(&self, topic: &str) -> String {
        topic.to_owned()
    }
}

fn platform(platform: SubscriptionPlatform) -> &'static dyn Platform {
    match platform {
        SubscriptionPlatform::Shopify => &shopify::Shopify,
        SubscriptionPlatform::Woocommerce => &woocommerce::Woocommerce,
        SubscriptionPlatform::Walmart => &walmart::Walmart,
    }
}

/// The text at a JSON pointer, also of a number.
fn text(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
