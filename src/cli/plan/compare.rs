//! What differs between what is in force and what the files say: computed from arguments, shown by others.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// What a gateway has in force, or what files would put in force, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Revisions.
    pub(super) workflows: BTreeMap<String, String>,
    pub(super) routes: BTreeMap<String, Piece>,
    pub(super) schedules: BTreeMap<String, Piece>,
    pub(super) connections: BTreeMap<String, Piece>,
    pub(super) channels: BTreeMap<String, Piece>,
    /// Everything else that settings say, by section.
    pub(super) sections: BTreeMap<String, Piece>,
}

/// A route, a schedule, or what settings say under one name.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    /// Hashes of what is written, by key.
    pub(super) parts: BTreeMap<String, String>,
    /// What people know it by, by key: shown when that key differs.
    pub(super) known: BTreeMap<String, String>,
    /// Coming slots, of a schedule.
    pub(super) next: Vec<String>,
    /// Slots that were passed over and would fire with these rules, of a schedule.
    pub(super) missed: Vec<String>,
}

/// Runs that have not ended, of one workflow at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Staying {
    pub(super) workflow: String,
    pub(super) revision: String,
    /// How many, by where they stand.
    pub(super) runs: BTreeMap<String, usize>,
}

/// How one thing differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub(super) what: What,
    pub(super) name: String,
    pub(super) action: Action,
    /// The keys that differ, each with what stood and will stand there when that can be shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) keys: Vec<Difference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) next_before: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) next_after: Vec<String>,
    /// Slots that would fire at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missed: Vec<String>,
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Workflow,
    Route,
    Schedule,
    Connection,
    Channel,
    /// A section of the settings that a reload does not take over.
    Setting,
}

impl What {
    /// Whether a reload takes it over; anything else wants a restart.
    pub(super) fn is_reloaded(self) -> bool {
        self != Self::Setting
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    Add,
    Change,
    Remove,
}

/// Everything that a reload would change, in the order of its kind and its name.
pub(super) fn changes(now: &Standing, files: &Standing) -> Vec<Change> {
    let revision = |revision: &String| Piece {
        parts: BTreeMap::from([("revision".to_owned(), revision.clone())]),
        known: BTreeMap::from([("revision".to_owned(), revision.clone())]),
        ..Piece::default()
    };
    let pieces = |all: &BTreeMap<String, String>| -> BTreeMap<String, Piece> {
        all.iter().map(|(name, text)| (name.clone(), revision(text))).collect()
    };
    let mut changes = between(What::Workflow, &pieces(&now.workflows), &pieces(&files.workflows));
    changes.extend(between(What::Route, &now.routes, &files.routes));
    changes.extend(between(What::Schedule, &now.schedules, &files.schedules));
    changes.extend(between(What::Connection, &now.connections, &files.connections));
    changes.extend(between(What::Channel, &now.channels, &files.channels));
    changes.extend(between(What::Setting, &now.sections, &files.sections));
    changes
}

fn between(what: What, now: &BTreeMap<String, Piece>, files: &BTreeMap<String, Piece>) -> Vec<Change> {
    let names: BTreeSet<&String> = now.keys().chain(files.keys()).collect();
    names.into_iter().filter_map(|name| change(what, name, now.get(name), files.get(name))).collect()
}

fn change(what: What, name: &str, before: Option<&Piece>, after: Option<&Piece>) -> Option<Change> {
    let (action, keys) = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => (Action::Add, Vec::new()),
        (Some(_), None) => (Action::Remove, Vec::new()),
        (Some(before), Some(after)) => (Action::Change, keys(before, after)),
    };
    if action == Action::Change && keys.is_empty() {
        return None;
    }
    let slots = |piece: Option<&Piece>| piece.map(|piece| piece.next.clone()).unwrap_or_default();
    Some(Change {
        what,
        name: name.to_owned(),
        action,
        keys,
        next_before: slots(before),
        next_after: slots(after),
        missed: after.filter(|_| before.is_some()).map(|piece| piece.missed.clone()).unwrap_or_default(),
    })
}

fn keys(before: &Piece, after: &Piece) -> Vec<Difference> {
    let all: BTreeSet<&String> = before.parts.keys().chain(after.parts.keys()).collect();
    let differs = |key: &&String| before.parts.get(*key) != after.parts.get(*key);
    let shown = |key: &String| Difference {
        key: key.clone(),
        before: before.known.get(key).cloned(),
        after: after.known.get(key).cloned(),
    };
    all.into_iter().filter(differs).map(shown).collect()
}

/// The runs whose workflow will have another revision, or none, once the files are in force.
pub(super) fn staying(open: Vec<Staying>, files: &Standing) -> Vec<Staying> {
    open.into_iter().filter(|runs| files.workflows.get(&runs.workflow) != Some(&runs.revision)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn piece(parts: &[(&str, &str)]) -> Piece {
        Piece {
            parts: map(parts),
            known: map(&[("path", "/a")]),
            next: vec!["t1".to_owned()],
            missed: vec!["t0".to_owned()],
        }
    }

    fn standing(workflow: &[(&str, &str)], route: &[(&str, &[(&str, &str)])]) -> Standing {
        let routes = route.iter().map(|(name, parts)| ((*name).to_owned(), piece(parts))).collect();
        Standing { workflows: map(workflow), routes, ..Standing::default() }
    }

    #[track_caller]
    fn check(now: &Standing, files: &Standing, expected: &[&str]) {
        let told = changes(now, files).into_iter().map(|change| {
            let keys: Vec<_> = change.keys.iter().map(|key| key.key.as_str()).collect();
            format!(
                "{:?} {:?} {} [{}] {}",
                change.action,
                change.what,
                change.name,
                keys.join(" "),
                change.missed.len()
            )
        });
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_differs_is_told_by_its_key() {
        let now = standing(&[("push", "1"), ("old", "1")], &[("orders", &[("filter", "a"), ("path", "x")])]);
        check(&now, &now, &[]);
        check(
            &now,
            &standing(&[("push", "2"), ("new", "1")], &[("orders", &[("filter", "b"), ("path", "x")])]),
            &[
                "Add Workflow new [] 0",
                "Remove Workflow old [] 0",
                "Change Workflow push [revision] 0",
                "Change Route orders [filter] 1",
            ],
        );
        check(&Standing::default(), &standing(&[], &[("orders", &[])]), &["Add Route orders [] 0"]);
        let gone = standing(&[("push", "1"), ("old", "1")], &[]);
        check(&now, &gone, &["Remove Route orders [] 0"]);
    }

    #[test]
    fn settings_are_told_by_their_keys() {
        let named = |name: &str, parts: &[(&str, &str)]| BTreeMap::from([(name.to_owned(), piece(parts))]);
        let now = Standing {
            connections: named("erp", &[("base_url", "a"), ("auth", "b")]),
            sections: named("listen", &[("hooks", "a")]),
            ..Standing::default()
        };
        let files = Standing {
            connections: named("erp", &[("base_url", "a"), ("auth", "c")]),
            channels: named("ops", &[("type", "a")]),
            sections: named("listen", &[("hooks", "b"), ("control", "a")]),
            ..Standing::default()
        };
        check(
            &now,
            &files,
            &["Change Connection erp [auth] 1", "Add Channel ops [] 0", "Change Setting listen [control hooks] 1"],
        );
    }

    #[test]
    fn runs_stay_where_the_revision_goes() {
        let runs = |workflow: &str, revision: &str| Staying {
            workflow: workflow.to_owned(),
            revision: revision.to_owned(),
            runs: BTreeMap::new(),
        };
        let files = standing(&[("push", "2")], &[]);
        let open = vec![runs("push", "1"), runs("push", "2"), runs("gone", "1")];
        assert_eq!(staying(open, &files), [runs("push", "1"), runs("gone", "1")]);
    }
}
