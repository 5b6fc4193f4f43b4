//! What settings say, as hashes: so that two of them can be held against each other without showing anything.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::id::Revision;
use crate::tasks::plan::{Written, WrittenEntries};

/// The hashes of settings as they were read.
pub(super) fn written(json: &Map<String, Value>) -> Written {
    let entries = |section: &str| json.get(section).and_then(Value::as_object).map(entries).unwrap_or_default();
    let others = json.iter().filter(|(section, _)| !matches!(section.as_str(), "connections" | "channels"));
    Written {
        connections: entries("connections"),
        channels: entries("channels"),
        sections: others.map(|(section, value)| (section.clone(), keys(section, value))).collect(),
    }
}

fn entries(entries: &Map<String, Value>) -> WrittenEntries {
    entries.iter().map(|(name, entry)| (name.clone(), keys(name, entry))).collect()
}

/// The hash of each key; of the whole where there are no keys.
fn keys(name: &str, value: &Value) -> BTreeMap<String, Revision> {
    match value {
        Value::Object(keys) => keys.iter().map(|(key, value)| (key.clone(), hash(value))).collect(),
        value => BTreeMap::from([(name.to_owned(), hash(value))]),
    }
}

fn hash(value: &Value) -> Revision {
    let mut value = value.clone();
    value.sort_all_objects();
    Revision::of(value.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The keys that differ, as `section.key` or `section.name.key`.
    fn differing(before: &Value, after: &Value) -> Vec<String> {
        let read = |value: &Value| value.as_object().map(written).unwrap_or_default();
        let flat = |written: Written| -> BTreeMap<String, Revision> {
            let all = [("connections.", written.connections), ("channels.", written.channels), ("", written.sections)];
            let all = all.into_iter().flat_map(|(under, entries)| {
                entries.into_iter().flat_map(move |(name, keys)| {
                    keys.into_iter().map(move |(key, hash)| (format!("{under}{name}.{key}"), hash))
                })
            });
            all.collect()
        };
        let (before, after) = (flat(read(before)), flat(read(after)));
        let mut keys: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
        keys.retain(|key| before.get(key) != after.get(key));
        keys.sort();
        keys.dedup();
        keys
    }

    #[track_caller]
    fn check(after: &Value, expected: &[&str]) {
        let before = json!({
            "version": 1,
            "listen": { "hooks": { "address": "a", "tls": { "cert": "c", "key": "k" } }, "control": { "address": "b" } },
            "connections": { "erp": { "base_url": "http://erp", "rate_limit": "2/s" } },
            "channels": { "ops": { "type": "slack" } },
        });
        assert_eq!(differing(&before, after), expected);
    }

    #[test]
    fn what_differs_is_found_by_its_key() {
        let connections = json!({ "erp": { "rate_limit": "2/s", "base_url": "http://erp" } });
        let listen =
            json!({ "control": { "address": "b" }, "hooks": { "tls": { "key": "k", "cert": "c" }, "address": "a" } });
        let channels = json!({ "ops": { "type": "slack" } });
        check(&json!({ "channels": channels, "listen": listen, "connections": connections, "version": 1 }), &[]);
        let other = json!({ "erp": { "base_url": "http://erp", "rate_limit": "3/s" }, "shop": { "base_url": "s" } });
        check(
            &json!({ "version": 1, "listen": { "hooks": { "address": "z" } }, "connections": other, "auth": "none" }),
            &[
                "auth.auth",
                "channels.ops.type",
                "connections.erp.rate_limit",
                "connections.shop.base_url",
                "listen.control",
                "listen.hooks",
            ],
        );
    }
}
