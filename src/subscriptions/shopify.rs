//! Shopify: the GraphQL Admin API, which answers 200 whatever happened. It lists what the calling app asked for itself.
//! shopify.dev, "`WebhookSubscription`", "Subscribe to a topic using GraphQL Admin API".

use http::Method;
use serde_json::{Value, json};

use super::{Ask, Listed, Platform, Proof, Standing, Wanted, text};

pub(super) struct Shopify;

/// The version of the Admin API when the route says none.
const VERSION: &str = "2026-10";
const LIST: &str = "query($after: String) { webhookSubscriptions(first: 100, after: $after) \
                    { nodes { id topic uri format } pageInfo { hasNextPage endCursor } } }";
const CREATE: &str = "mutation($topic: WebhookSubscriptionTopic!, $hook: WebhookSubscriptionInput!) \
                      { webhookSubscriptionCreate(topic: $topic, webhookSubscription: $hook) \
                      { webhookSubscription { id } userErrors { field message } } }";
const UPDATE: &str = "mutation($id: ID!, $hook: WebhookSubscriptionInput!) \
                      { webhookSubscriptionUpdate(id: $id, webhookSubscription: $hook) \
                      { webhookSubscription { id } userErrors { field message } } }";
const DELETE: &str = "mutation($id: ID!) { webhookSubscriptionDelete(id: $id) \
                      { deletedWebhookSubscriptionId userErrors { field message } } }";

fn ask(version: Option<&str>, query: &str, variables: &Value) -> Ask {
    let path = format!("/admin/api/{}/graphql.json", version.unwrap_or(VERSION));
    Ask::new(Method::POST, path).json(json!({ "query": query, "variables": variables }))
}

fn hook(wanted: &Wanted) -> Value {
    json!({ "uri": wanted.url, "format": "JSON" })
}

impl Platform for Shopify {
    fn list(&self, version: Option<&str>, page: Option<&str>) -> Ask {
        ask(version, LIST, &json!({ "after": page }))
    }

    fn listed(&self, body: &Value, _: Option<&str>) -> Result<Listed, String> {
        let list = &body["data"]["webhookSubscriptions"];
        let nodes = list["nodes"].as_array().ok_or("the answer lists no `webhookSubscriptions`")?;
        let read = |node: &Value| {
            Some(Standing {
                id: text(node, "/id")?,
                topic: text(node, "/topic")?,
                // Other kinds of endpoint have other URIs.
                url: text(node, "/uri").unwrap_or_default(),
                // What Shopify no longer sends is gone from the list.
                on: true,
                name: None,
                said: text(node, "/format").map(|format| ("format", format)).into_iter().collect(),
            })
        };
        let standing = nodes.iter().map(|node| read(node).ok_or("a subscription has no id or topic"));
        let more = list["pageInfo"]["hasNextPage"] == true;
        let next = if more { text(list, "/pageInfo/endCursor") } else { None };
        Ok(Listed { standing: standing.collect::<Result<_, _>>()?, next })
    }

    fn create(&self, wanted: &Wanted, _: &Proof) -> Ask {
        let variables = json!({ "topic": self.topic(&wanted.topic), "hook": hook(wanted) });
        ask(wanted.api_version.as_deref(), CREATE, &variables)
    }

    fn repair(&self, id: &str, wanted: &Wanted, _: &Proof) -> Ask {
        ask(wanted.api_version.as_deref(), UPDATE, &json!({ "id": id, "hook": hook(wanted) }))
    }

    fn remove(&self, version: Option<&str>, id: &str) -> Ask {
        ask(version, DELETE, &json!({ "id": id }))
    }

    fn refusal(&self, body: &Value) -> Option<String> {
        let told = |errors: &Value| match errors.as_array().map(Vec::as_slice) {
            Some([]) | None if !errors.is_string() => None,
            _ => Some(text(errors, "/0/message").unwrap_or_else(|| errors.to_string())),
        };
        told(&body["errors"])
            .or_else(|| body["data"].as_object()?.values().find_map(|answer| told(&answer["userErrors"])))
    }

    fn wants(&self, _: &Wanted) -> Vec<(&'static str, String)> {
        vec![("format", "JSON".to_owned())]
    }

    /// `orders/create` is `ORDERS_CREATE`.
    fn topic(&self, topic: &str) -> String {
        topic.replace('/', "_").to_ascii_uppercase()
    }
}
