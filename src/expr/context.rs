//! What an expression can see: named roots, shared and never copied.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

/// The names an expression can use. Cheap to clone; values are shared, and only those parts that an
/// expression touches are ever looked at.
#[derive(Debug, Clone, Default)]
pub struct Context {
    roots: BTreeMap<Arc<str>, Root>,
}

#[derive(Debug, Clone)]
enum Root {
    Value(Arc<Json>),
    Group(Arc<BTreeMap<Arc<str>, Arc<Json>>>),
}

/// What looking for a member of a group comes to.
pub(super) enum Member<'a> {
    Found(&'a Json),
    Missing,
    /// The name is not that of a group.
    NotInGroup,
}

impl Context {
    /// A context without names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names `value`; an earlier value of that name is replaced. Keys of `headers` must be lower case.
    pub fn set(&mut self, name: &str, value: impl Into<Arc<Json>>) {
        self.roots.insert(name.into(), Root::Value(value.into()));
    }

    /// Names `value`, for building in one go.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Arc<Json>>) -> Self {
        self.set(name, value);
        self
    }

    /// Names `value` as the member `key` of `group`: `tasks`, then `push`. The members of a group are
    /// shared one by one, so that a growing run never copies what earlier tasks gave.
    pub fn set_member(&mut self, group: &str, key: &str, value: impl Into<Arc<Json>>) {
        let value = value.into();
        if let Some(Root::Group(members)) = self.roots.get_mut(group) {
            Arc::make_mut(members).insert(key.into(), value);
        } else {
            let members = BTreeMap::from([(Arc::from(key), value)]);
            self.roots.insert(group.into(), Root::Group(Arc::new(members)));
        }
    }

    /// Makes `group` a name, without members so far.
    pub fn set_group(&mut self, group: &str) {
        self.roots.entry(group.into()).or_insert_with(|| Root::Group(Arc::default()));
    }

    /// The value of a name; a group is put together into one object, which copies.
    pub(super) fn root(&self, name: &str) -> Option<Cow<'_, Json>> {
        Some(match self.roots.get(name)? {
            Root::Value(value) => Cow::Borrowed(&**value),
            Root::Group(members) => {
                let copy = members.iter().map(|(key, value)| (key.to_string(), Json::clone(value)));
                Cow::Owned(Json::Object(copy.collect()))
            }
        })
    }

    /// The member of a group, without a copy.
    pub(super) fn member(&self, name: &str, key: &str) -> Member<'_> {
        match self.roots.get(name) {
            Some(Root::Group(members)) => members.get(key).map_or(Member::Missing, |value| Member::Found(value)),
            Some(Root::Value(_)) | None => Member::NotInGroup,
        }
    }

    /// The names that exist, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.roots.keys().map(|name| &**name)
    }
}
