//! `subscription` of a route: what the platform is to send to it.

use schemars::JsonSchema;
use serde::Deserialize;

/// What the platform is asked to send to this route, for `clawhook subscriptions plan` and `apply`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// The connection to the platform's API.
    pub connection: String,
    /// The topics, as the platform writes them: `orders/create` (Shopify), `order.created` (WooCommerce),
    /// `ORDER/PO_CREATED` or `ORDER/PO_CREATED/V1` (Walmart).
    #[schemars(length(min = 1, max = 100))]
    pub topics: Vec<String>,
    /// The whole address of this route as the platform calls it; `listen.hooks.public_url` and the path when left out.
    pub url: Option<String>,
    /// The platform, where the preset of `verify` does not say it.
    pub platform: Option<Platform>,
    /// The version of the platform's API, such as `2026-10`, where it has several.
    pub api_version: Option<String>,
}

/// Platforms whose subscriptions can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// Shopify, by its GraphQL Admin API.
    Shopify,
    /// WooCommerce, by its REST API.
    Woocommerce,
    /// Walmart Marketplace.
    Walmart,
}
