//! `subscription` of a route: what the platform is to send to it, and how it is to prove itself.

use std::collections::BTreeSet;

use serde_json::Value;
use url::Url;

use super::desk::Desk;
use crate::domain::secret::SecretRef;
use crate::id::ConnectionName;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::spec::words;
use crate::tasks::plan::{Subscription, SubscriptionPlatform, SubscriptionProof, Verify};

/// The platforms that can be asked, by the preset that believes them.
const BY_PRESET: &[(&str, SubscriptionPlatform)] = &[
    ("shopify", SubscriptionPlatform::Shopify),
    ("woocommerce", SubscriptionPlatform::Woocommerce),
    ("walmart_hmac", SubscriptionPlatform::Walmart),
];
/// The header of a preset that says none.
const AUTHORIZATION: &str = "Authorization";

pub(super) fn resolve(
    desk: &mut Desk<'_>,
    path: &Path,
    route: &raw::Route,
    verify: Option<&Verify>,
) -> Option<Subscription> {
    let raw = route.subscription.as_ref()?;
    let path = path.with("subscription");
    let connection = connection(desk, &path.with("connection"), &raw.connection);
    let platform = platform(desk, &path, route, raw);
    for (place, topic) in raw.topics.iter().enumerate() {
        tell_topic(desk, &path.with("topics").with(place), topic, &raw.topics[..place], platform);
    }
    tell_url(desk, &path.with("url"), route, raw);
    let proof = proof(desk, &path, route, platform?, verify?);
    Some(Subscription {
        connection: connection?,
        platform: platform?,
        topics: raw.topics.clone(),
        url: raw.url.clone(),
        api_version: raw.api_version.clone(),
        proof: proof?,
    })
}

fn connection(desk: &mut Desk<'_>, path: &Path, name: &str) -> Option<ConnectionName> {
    if let Some(known) = desk.connections.filter(|known| !known.contains(name)) {
        let known: Vec<&str> = known.iter().map(ConnectionName::as_str).collect();
        desk.unknown("spec.unknown_connection", format!("there is no connection `{name}`"), path, name, &known);
        return None;
    }
    desk.name(path, ConnectionName::new(name))
}

fn preset(route: &raw::Route) -> &str {
    match &route.verify {
        raw::Verify::None => "none",
        raw::Verify::Preset(preset) => &preset.preset,
    }
}

fn platform(
    desk: &mut Desk<'_>,
    path: &Path,
    route: &raw::Route,
    raw: &raw::Subscription,
) -> Option<SubscriptionPlatform> {
    let preset = preset(route);
    let by_preset = BY_PRESET.iter().find(|(known, _)| *known == preset).map(|(_, platform)| *platform);
    let given = raw.platform.map(|platform| match platform {
        raw::Platform::Shopify => SubscriptionPlatform::Shopify,
        raw::Platform::Woocommerce => SubscriptionPlatform::Woocommerce,
        raw::Platform::Walmart => SubscriptionPlatform::Walmart,
    });
    match (by_preset, given) {
        (Some(preset), Some(given)) if preset != given => {
            let message =
                format!("what `{}` sends is not believed by the preset `{}`", given.as_str(), self::preset(route));
            let problem = desk.at("spec.subscription", message, &path.with("platform"));
            desk.push(problem.help("remove the line, or change the preset of `verify`"));
            None
        }
        (None, None) => {
            let message = format!("the preset `{preset}` does not say which platform is to be asked");
            let problem = desk.problem("spec.subscription", message, desk.map.entry(path));
            desk.push(problem.help("add `platform: shopify`, `woocommerce` or `walmart`; others cannot be asked"));
            None
        }
        (preset, given) => given.or(preset),
    }
}

fn tell_topic(
    desk: &mut Desk<'_>,
    path: &Path,
    topic: &str,
    before: &[String],
    platform: Option<SubscriptionPlatform>,
) {
    if before.iter().any(|other| other == topic) {
        let problem = desk.at("spec.subscription", format!("the topic `{topic}` stands here twice"), path);
        return desk.push(problem.help("remove one of the two"));
    }
    let Some(platform) = platform else { return };
    let lower = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let upper =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let (fits, example) = match platform {
        SubscriptionPlatform::Shopify => {
            (topic.split('/').count() == 2 && topic.split('/').all(lower), "`orders/create`")
        }
        SubscriptionPlatform::Woocommerce => {
            (topic.split('.').count() == 2 && topic.split('.').all(lower), "`order.created`")
        }
        SubscriptionPlatform::Walmart => {
            ((2..=3).contains(&topic.split('/').count()) && topic.split('/').all(upper), "`ORDER/PO_CREATED`")
        }
    };
    if !fits {
        let message = format!("`{}` is no topic of `{}`", words::short(topic), platform.as_str());
        let problem = desk.at("spec.subscription", message, path);
        desk.push(problem.help(format!("write it like {example}")));
    }
}

/// What the platform calls must be this route.
fn tell_url(desk: &mut Desk<'_>, path: &Path, route: &raw::Route, raw: &raw::Subscription) {
    let Some(text) = &raw.url else { return };
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    let Some(url) = url else {
        let help = format!("write it like `https://gw.example.com{}`", route.path);
        return desk.bad_value(path, &format!("`{}` is no address that a platform can call", words::short(text)), help);
    };
    if url.path() != route.path {
        let message = format!("the address leads to `{}`, and the route is at `{}`", url.path(), route.path);
        let problem = desk.at("spec.subscription", message, path).warning();
        desk.push(problem.help("let both have the same path, unless a proxy on the way changes it"));
    }
}

fn proof(
    desk: &mut Desk<'_>,
    path: &Path,
    route: &raw::Route,
    platform: SubscriptionPlatform,
    verify: &Verify,
) -> Option<SubscriptionProof> {
    let raw::Verify::Preset(raw::VerifyPreset { preset, parameters }) = &route.verify else {
        return unproved(desk, path, platform);
    };
    let header = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or(AUTHORIZATION).to_owned();
    match (platform, preset.as_str(), newest(verify)) {
        (SubscriptionPlatform::Shopify, ..) => Some(SubscriptionProof::Own),
        (SubscriptionPlatform::Woocommerce, "woocommerce", Some(secret)) => Some(SubscriptionProof::Secret(secret)),
        (SubscriptionPlatform::Walmart, "walmart_hmac", Some(secret)) => {
            Some(SubscriptionProof::Hmac { header: header("auth_header_name"), secret })
        }
        (SubscriptionPlatform::Walmart, "basic", Some(secret)) => {
            Some(SubscriptionProof::Basic { header: header("header"), secret })
        }
        _ => unproved(desk, path, platform),
    }
}

/// The first key of the route: while keys rotate, the new one.
fn newest(verify: &Verify) -> Option<SecretRef> {
    match verify {
        Verify::Nobody | Verify::Fetched(_) => None,
        Verify::Scheme { secrets, .. } => secrets.first()?.1.first().cloned(),
    }
}

fn unproved(desk: &mut Desk<'_>, path: &Path, platform: SubscriptionPlatform) -> Option<SubscriptionProof> {
    let presets: BTreeSet<_> = match platform {
        SubscriptionPlatform::Shopify => ["shopify"].into(),
        SubscriptionPlatform::Woocommerce => ["woocommerce"].into(),
        SubscriptionPlatform::Walmart => ["basic", "walmart_hmac"].into(),
    };
    let presets: Vec<_> = presets.into_iter().collect();
    let message = format!("`{}` cannot be told how to prove itself to this route", platform.as_str());
    let problem = desk.problem("spec.subscription", message, desk.map.entry(path));
    desk.push(problem.help(format!("let `verify` have the preset {}", words::listed(&presets, "or"))));
    None
}
