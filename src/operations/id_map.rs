//! The provider's ids by a publisher's own keys, held in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use crate::contract::UserId;

/// The most keys: with e-mail addresses, they take about a gigabyte.
pub const KEYS_MAX: usize = 5_000_000;

/// Never printed: keys are users' data.
#[derive(Default)]
pub struct IdMap {
    ids: HashMap<Box<str>, Mapped>,
}

struct Mapped {
    user_id: Box<str>,
    /// Where the file says so.
    line: u32,
}

impl fmt::Debug for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdMap({} keys)", self.ids.len())
    }
}

impl IdMap {
    /// Adds what a line of the file says. `Err`: why it can't be right. It quotes no key.
    pub fn add(&mut self, line: u64, key: &str, user_id: &str) -> Result<(), String> {
        let key = key.trim();
        if key.is_empty() {
            return Err(format!(
                "line {line}: the key is empty; fill it in, or remove the row"
            ));
        }
        if UserId::parse(user_id).is_none() {
            return Err(format!(
                "line {line}: the userId is none that a command may have; correct it, or remove the row"
            ));
        }
        let keys = self.ids.len();
        match self.ids.entry(key.into()) {
            Entry::Occupied(there) if *there.get().user_id == *user_id => Ok(()),
            Entry::Occupied(there) => Err(format!(
                "lines {} and {line} have the same key and different ids; keep the right one",
                there.get().line
            )),
            Entry::Vacant(_) if keys >= KEYS_MAX => Err(format!(
                "line {line}: these are more than {KEYS_MAX} keys, which is the most that is held in memory; publish the file \
                 in parts, each with its part of the id map"
            )),
            Entry::Vacant(free) => {
                free.insert(Mapped {
                    user_id: user_id.into(),
                    line: u32::try_from(line).unwrap_or(u32::MAX),
                });
                Ok(())
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.ids.get(key.trim()).map(|mapped| &*mapped.user_id)
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_id_and_two_different_ones_are_an_error_with_both_lines() {
        let mut map = IdMap::default();
        assert_eq!(map.add(2, " alex@example.com ", "u1"), Ok(()));
        assert_eq!(map.add(3, "alex@example.com", "u1"), Ok(()));
        assert_eq!((map.len(), map.get("alex@example.com")), (1, Some("u1")));
        assert_eq!(map.get("Alex@example.com"), None);
        let refused = map.add(9, "alex@example.com", "u2").unwrap_err();
        assert!(refused.contains("lines 2 and 9"), "{refused}");
        for (key, id, what) in [(" ", "u", "key"), ("k", "", "userId"), ("k", "a\u{7}", "userId")] {
            let refused = map.add(4, key, id).unwrap_err();
            assert!(refused.contains("line 4") && refused.contains(what), "{refused}");
        }
        assert!(!format!("{map:?}").contains("alex"));
    }
}
