//! WooCommerce: REST, page by page. It lists the webhooks of everybody in the store, and never shows a secret.
//! developer.woocommerce.com, "Webhooks" of the REST API v3.

use http::Method;
use serde_json::{Value, json};

use super::{Ask, Listed, Platform, Proof, Standing, Wanted, text};

pub(super) struct Woocommerce;

const PATH: &str = "/wp-json/wc/v3/webhooks";
/// Its own most.
const PER_PAGE: usize = 100;

fn body(wanted: &Wanted, proof: &Proof) -> Value {
    let mut body = json!({
        "name": wanted.name(),
        "topic": wanted.topic,
        "delivery_url": wanted.url,
        "status": "active",
    });
    if let Proof::Secret(secret) = proof {
        body["secret"] = json!(secret);
    }
    body
}

impl Platform for Woocommerce {
    fn list(&self, _: Option<&str>, page: Option<&str>) -> Ask {
        Ask::new(Method::GET, PATH).query("per_page", &PER_PAGE.to_string()).query("page", page.unwrap_or("1"))
    }

    fn listed(&self, body: &Value, page: Option<&str>) -> Result<Listed, String> {
        let hooks = body.as_array().ok_or("the answer is no list of webhooks")?;
        let read = |hook: &Value| {
            Some(Standing {
                id: text(hook, "/id")?,
                topic: text(hook, "/topic")?,
                url: text(hook, "/delivery_url")?,
                // `paused` by a person, `disabled` after failures.
                on: hook["status"] == "active",
                name: text(hook, "/name"),
                said: Vec::new(),
            })
        };
        let standing = hooks.iter().map(|hook| read(hook).ok_or("a webhook has no id, topic or URL"));
        let number: usize = page.and_then(|page| page.parse().ok()).unwrap_or(1);
        let next = (hooks.len() == PER_PAGE).then(|| (number + 1).to_string());
        Ok(Listed { standing: standing.collect::<Result<_, _>>()?, next })
    }

    fn create(&self, wanted: &Wanted, proof: &Proof) -> Ask {
        Ask::new(Method::POST, PATH).json(body(wanted, proof))
    }

    fn repair(&self, id: &str, wanted: &Wanted, proof: &Proof) -> Ask {
        Ask::new(Method::PUT, format!("{PATH}/{id}")).json(body(wanted, proof))
    }

    fn remove(&self, _: Option<&str>, id: &str) -> Ask {
        Ask::new(Method::DELETE, format!("{PATH}/{id}")).query("force", "true")
    }
}
