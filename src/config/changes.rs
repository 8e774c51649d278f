//! Which keys differ between two readings of the configuration, and which of them a running worker can follow.

use std::collections::BTreeMap;

use serde_json::Value;

/// The keys that a running worker follows. A table stands for all keys in it.
const LIVE: [&str; 5] = [
    "log.level",
    "provider.concurrency",
    "provider.rate",
    "provider.share",
    "worker.bulk_share_min",
];

/// What was set, secrets included: it is compared and never shown.
pub struct Tree(BTreeMap<String, Value>);

/// The keys that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The running worker follows them.
    pub live: Vec<String>,
    /// They count from the next start on.
    pub at_restart: Vec<String>,
}

impl Tree {
    pub(super) fn new(tree: Value) -> Self {
        let mut keys = BTreeMap::new();
        flatten(String::new(), tree, &mut keys);
        Self(keys)
    }

    /// What differs in the later one.
    pub fn changes(&self, later: &Self) -> Changes {
        let mut changes = Changes::default();
        let mut names: Vec<_> = self.0.keys().chain(later.0.keys()).collect();
        names.sort();
        names.dedup();
        for name in names
            .into_iter()
            .filter(|name| self.0.get(*name) != later.0.get(*name))
        {
            let is_live = |live: &str| name == live || name.starts_with(&format!("{live}."));
            let list = match LIVE.iter().any(|live| is_live(live)) {
                true => &mut changes.live,
                false => &mut changes.at_restart,
            };
            list.push(name.clone());
        }
        changes
    }
}

fn flatten(name: String, value: Value, keys: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let name = if name.is_empty() {
                    key
                } else {
                    format!("{name}.{key}")
                };
                flatten(name, value, keys);
            }
        }
        value => {
            keys.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changed_added_and_removed_keys_are_named_by_whether_they_can_be_followed() {
        let before = Tree::new(json!({
            "provider": { "name": "a", "rate": { "per_second": 5 }, "share": 1 },
            "log": { "level": "info" },
            "worker": { "grace_period": "25s" },
        }));
        let later = Tree::new(json!({
            "provider": { "name": "a", "rate": [{ "per_second": 5 }], "concurrency": 4 },
            "log": { "level": "info", "format": "json" },
            "worker": { "grace_period": "20s" },
        }));
        let changes = before.changes(&later);
        assert_eq!(
            changes.live,
            [
                "provider.concurrency",
                "provider.rate",
                "provider.rate.per_second",
                "provider.share"
            ]
        );
        assert_eq!(changes.at_restart, ["log.format", "worker.grace_period"]);
        assert_eq!(before.changes(&before), Changes::default());
    }

    #[test]
    fn each_key_that_can_be_followed_exists() {
        let schema = crate::config::schema().to_value();
        for key in LIVE {
            let (table, name) = key.split_once('.').unwrap();
            let described = schema["$defs"]
                .as_object()
                .unwrap()
                .values()
                .any(|definition| definition["properties"].get(name).is_some());
            assert!(described && schema["properties"].get(table).is_some(), "{key}");
        }
    }
}
