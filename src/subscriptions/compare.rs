//! What is to be done so that a platform sends what routes want: pure, and done by nobody yet.

use serde::Serialize;
use url::Url;

use super::{Standing, Wanted, platform};
use crate::id::{ConnectionName, RouteName};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is missing.
    Create,
    /// It leads elsewhere, is switched off, or proves itself otherwise.
    Repair,
    /// It leads here, and no route wants it.
    Remove,
}

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub action: Action,
    pub connection: ConnectionName,
    /// The route that wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteName>,
    /// In the platform's spelling.
    pub topic: String,
    /// Where it leads, or will.
    pub url: String,
    /// The platform's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is wrong with it as it stands.
    pub why: Vec<String>,
}

/// A platform held against the routes.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    pub changes: Vec<Change>,
    /// As they should be.
    pub in_order: usize,
    /// Leads here, and no route wants it; left alone.
    pub surplus: Vec<Standing>,
    /// Of somebody else; never touched.
    pub foreign: usize,
}

/// Holds what one connection's platform has against what routes want of it. With `prune` what leads here and is wanted
/// by no route is to be removed; without, it is only told.
pub fn compare(wanted: &[Wanted], standing: &[Standing], prune: bool) -> Comparison {
    let mut told = Comparison::default();
    let mut left: Vec<&Standing> = standing.iter().collect();
    // What is right is taken first, so that nothing right is bent to something else.
    let mut open = Vec::new();
    for one in wanted {
        match left.iter().position(|there| there.topic == one.platform_topic() && there.url == one.url) {
            Some(place) => told.hold(one, left.remove(place)),
            None => open.push(one),
        }
    }
    for one in open {
        match left.iter().position(|there| there.topic == one.platform_topic() && is_ours(one, there)) {
            Some(place) => told.hold(one, left.remove(place)),
            None => told.changes.push(change(Action::Create, one, None, vec!["it is missing".to_owned()])),
        }
    }
    for there in left {
        let Some(one) = wanted.iter().find(|one| leads_here(one, there)) else {
            told.foreign += 1;
            continue;
        };
        if prune {
            let why = vec!["no route wants it".to_owned()];
            let removed = Change {
                topic: there.topic.clone(),
                url: there.url.clone(),
                ..change(Action::Remove, one, Some(there), why)
            };
            told.changes.push(Change { route: None, ..removed });
        } else {
            told.surplus.push(there.clone());
        }
    }
    told
}

impl Comparison {
    fn hold(&mut self, one: &Wanted, there: &Standing) {
        let mut why = Vec::new();
        if there.url != one.url {
            why.push(format!("it leads to {}", there.url));
        }
        if !there.on {
            why.push("the platform does not send it".to_owned());
        }
        for (name, value) in platform(one.platform).wants(one) {
            let said = there.said.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
            if said.is_some_and(|said| !said.eq_ignore_ascii_case(&value)) {
                why.push(format!("its {name} is {}", said.unwrap_or_default()));
            }
        }
        if why.is_empty() {
            self.in_order += 1;
        } else {
            self.changes.push(change(Action::Repair, one, Some(there), why));
        }
    }
}

fn change(action: Action, one: &Wanted, there: Option<&Standing>, why: Vec<String>) -> Change {
    Change {
        action,
        connection: one.connection.clone(),
        route: Some(one.route.clone()),
        topic: one.platform_topic(),
        url: one.url.clone(),
        id: there.map(|there| there.id.clone()),
        why,
    }
}

/// Whether a subscription to the same topic was made for this route, before its address changed: it has the name that we
/// give, or leads to the same host, or to the same path of another.
fn is_ours(one: &Wanted, there: &Standing) -> bool {
    if there.name.as_ref().is_some_and(|name| *name == one.name()) {
        return true;
    }
    let (Ok(wanted), Ok(url)) = (Url::parse(&one.url), Url::parse(&there.url)) else { return false };
    url.origin() == wanted.origin() || (url.path() == wanted.path() && url.path().len() > 1)
}

/// Whether a subscription leads to the host of this gateway.
fn leads_here(one: &Wanted, there: &Standing) -> bool {
    let (Ok(wanted), Ok(url)) = (Url::parse(&one.url), Url::parse(&there.url)) else { return false };
    url.origin() == wanted.origin()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::tasks::plan::{SubscriptionPlatform, SubscriptionProof};

    const HERE: &str = "https://gw.example.com/hooks/orders";

    fn wanted(topic: &str) -> Wanted {
        Wanted {
            route: RouteName::new("orders").unwrap(),
            connection: ConnectionName::new("shop").unwrap(),
            platform: SubscriptionPlatform::Shopify,
            topic: topic.to_owned(),
            url: HERE.to_owned(),
            proof: SubscriptionProof::Own,
            api_version: None,
        }
    }

    fn standing(id: &str, topic: &str, url: &str) -> Standing {
        let said = vec![("format", "JSON".to_owned())];
        Standing { id: id.to_owned(), topic: topic.to_owned(), url: url.to_owned(), on: true, name: None, said }
    }

    #[track_caller]
    fn check(there: &[Standing], prune: bool, expected: &[(Action, Option<&str>, &str)]) {
        let told = compare(&[wanted("orders/create"), wanted("orders/updated")], there, prune);
        let changes: Vec<_> =
            told.changes.iter().map(|change| (change.action, change.id.as_deref(), change.topic.as_str())).collect();
        assert_eq!(changes, expected, "{told:?}");
    }

    #[test]
    fn what_is_missing_wrong_or_too_much() {
        let right = [standing("1", "ORDERS_CREATE", HERE), standing("2", "ORDERS_UPDATED", HERE)];
        check(&right, true, &[]);
        check(&right[..1], false, &[(Action::Create, None, "ORDERS_UPDATED")]);
        let moved = standing("3", "ORDERS_UPDATED", "https://old.example.com/hooks/orders");
        check(&[right[0].clone(), moved], false, &[(Action::Repair, Some("3"), "ORDERS_UPDATED")]);
        let off = Standing { on: false, ..right[0].clone() };
        check(&[off, right[1].clone()], false, &[(Action::Repair, Some("1"), "ORDERS_CREATE")]);
        let xml = Standing { said: vec![("format", "XML".to_owned())], ..right[1].clone() };
        check(&[right[0].clone(), xml], false, &[(Action::Repair, Some("2"), "ORDERS_UPDATED")]);
        let twice = [right.to_vec(), vec![standing("4", "ORDERS_CREATE", HERE)]].concat();
        check(&twice, false, &[]);
        check(&twice, true, &[(Action::Remove, Some("4"), "ORDERS_CREATE")]);
    }

    #[test]
    fn what_is_of_others_is_never_touched() {
        let right = [standing("1", "ORDERS_CREATE", HERE), standing("2", "ORDERS_UPDATED", HERE)];
        let others = [
            standing("5", "ORDERS_CREATE", "https://other.example.net/shopify"),
            standing("6", "APP_UNINSTALLED", "arn:aws:events:us-east-1::event-source/aws.partner/shopify.com/1/x"),
        ];
        check(&[right.to_vec(), others.to_vec()].concat(), true, &[]);
        check(&others, true, &[(Action::Create, None, "ORDERS_CREATE"), (Action::Create, None, "ORDERS_UPDATED")]);
    }
}
