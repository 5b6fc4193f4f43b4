//! Walmart Marketplace: one list for the account, without pages; what is changed is sent by PATCH.
//! developer.walmart.com, "All subscriptions", "Create subscription", "Update subscription".

use http::Method;
use serde_json::{Value, json};

use super::{Ask, Listed, Platform, Proof, Standing, Wanted, text};
use crate::tasks::plan::SubscriptionProof;

pub(super) struct Walmart;

const PATH: &str = "/v3/webhooks/subscriptions";
/// The version of an event when the topic says none.
const VERSION: &str = "V1";

/// `ORDER/PO_CREATED/V1`: resource, event, version.
fn parts(topic: &str) -> (&str, &str, &str) {
    let mut parts = topic.split('/');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or(VERSION))
}

fn body(wanted: &Wanted, proof: &Proof) -> Value {
    let (resource, event, version) = parts(&wanted.topic);
    let auth = match proof {
        Proof::Hmac { header, secret } => {
            json!({ "authMethod": "HMAC", "authHeaderName": header, "clientSecret": secret })
        }
        Proof::Basic { header, user, password } => {
            json!({ "authMethod": "BASIC_AUTH", "authHeaderName": header, "userName": user, "password": password })
        }
        Proof::Own | Proof::Secret(_) => Value::Null,
    };
    json!({
        "eventType": event,
        "eventVersion": version,
        "resourceName": resource,
        "eventUrl": wanted.url,
        "headers": { "content-type": "application/json" },
        "authDetails": auth,
        "status": "ACTIVE",
    })
}

impl Platform for Walmart {
    fn list(&self, _: Option<&str>, _: Option<&str>) -> Ask {
        Ask::new(Method::GET, PATH)
    }

    fn listed(&self, body: &Value, _: Option<&str>) -> Result<Listed, String> {
        let events = body["events"].as_array().ok_or("the answer has no `events`")?;
        // The schema puts another list inside; the examples do not.
        let events = events.iter().flat_map(|event| match event["event"].as_array() {
            Some(inside) => inside.iter().collect(),
            None => vec![event],
        });
        let read = |event: &Value| {
            let member = |name: &str| text(event, &format!("/{name}"));
            let (resource, kind) = (member("resourceName")?, member("eventType")?);
            let said = [("auth", "/authDetails/authMethod"), ("header", "/authDetails/authHeaderName")];
            Some(Standing {
                id: member("subscriptionId")?,
                topic: format!("{resource}/{kind}/{}", member("eventVersion").unwrap_or_else(|| VERSION.to_owned())),
                url: member("eventUrl").unwrap_or_default(),
                on: event["status"] == "ACTIVE",
                name: None,
                said: said.into_iter().filter_map(|(name, place)| Some((name, text(event, place)?))).collect(),
            })
        };
        let standing = events.map(|event| read(event).ok_or("a subscription has no id, resource or event"));
        Ok(Listed { standing: standing.collect::<Result<_, _>>()?, next: None })
    }

    fn create(&self, wanted: &Wanted, proof: &Proof) -> Ask {
        Ask::new(Method::POST, PATH).json(json!({ "events": [body(wanted, proof)] }))
    }

    fn repair(&self, id: &str, wanted: &Wanted, proof: &Proof) -> Ask {
        Ask::new(Method::PATCH, format!("{PATH}/{id}")).json(body(wanted, proof))
    }

    fn remove(&self, _: Option<&str>, id: &str) -> Ask {
        Ask::new(Method::DELETE, format!("{PATH}/{id}"))
    }

    fn wants(&self, wanted: &Wanted) -> Vec<(&'static str, String)> {
        match &wanted.proof {
            SubscriptionProof::Hmac { header, .. } => vec![("auth", "HMAC".to_owned()), ("header", header.clone())],
            SubscriptionProof::Basic { header, .. } => {
                vec![("auth", "BASIC_AUTH".to_owned()), ("header", header.clone())]
            }
            SubscriptionProof::Own | SubscriptionProof::Secret(_) => Vec::new(),
        }
    }

    fn topic(&self, topic: &str) -> String {
        let (resource, event, version) = parts(topic);
        format!("{resource}/{event}/{version}")
    }
}
