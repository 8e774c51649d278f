//! Dead letters counted by what they have in common.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Letter;

/// The most groups that are counted apart. What belongs to none of them is counted together.
pub const GROUPS_MAX: usize = 1000;

/// What the letters of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Reason, code and pointer: usually one cause.
    Fingerprint,
    Reason,
    Code,
    Pointer,
    User,
    Batch,
    /// In UTC.
    Day,
}

impl By {
    /// The names of what they have in common.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Fingerprint => &["reason", "code", "pointer"],
            Self::Reason => &["reason"],
            Self::Code => &["code"],
            Self::Pointer => &["pointer"],
            Self::User => &["user"],
            Self::Batch => &["batch"],
            Self::Day => &["day"],
        }
    }

    fn key(self, letter: &Letter) -> Vec<Option<String>> {
        let day = |at: Timestamp| at.to_zoned(TimeZone::UTC).date().to_string();
        match self {
            Self::Fingerprint => {
                vec![letter.reason.clone(), letter.code.clone(), letter.pointer.clone()]
            }
            Self::Reason => vec![letter.reason.clone()],
            Self::Code => vec![letter.code.clone()],
            Self::Pointer => vec![letter.pointer.clone()],
            Self::User => vec![letter.user.clone()],
            Self::Batch => vec![letter.batch.clone()],
            Self::Day => vec![letter.dead_at.map(day)],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    pub count: u64,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

impl Tally {
    pub fn add(&mut self, letter: &Letter) {
        self.count += 1;
        self.first = match (self.first, letter.dead_at) {
            (Some(first), Some(at)) => Some(first.min(at)),
            (first, at) => first.or(at),
        };
        self.last = self.last.max(letter.dead_at);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The value of each column.
    pub key: Vec<Option<String>>,
    pub tally: Tally,
}

#[derive(Debug)]
pub struct Groups {
    by: By,
    groups: BTreeMap<Vec<Option<String>>, Tally>,
    pub total: Tally,
    /// Beyond `GROUPS_MAX` groups.
    pub others: Tally,
}

impl Groups {
    pub fn new(by: By) -> Self {
        Self {
            by,
            groups: BTreeMap::new(),
            total: Tally::default(),
            others: Tally::default(),
        }
    }

    pub fn add(&mut self, letter: &Letter) {
        self.total.add(letter);
        let key = self.by.key(letter);
        let tally = match self.groups.len() < GROUPS_MAX || self.groups.contains_key(&key) {
            true => self.groups.entry(key).or_default(),
            false => &mut self.others,
        };
        tally.add(letter);
    }

    /// The largest first; days in their order.
    pub fn sorted(&self) -> Vec<Group> {
        let mut groups: Vec<_> = self
            .groups
            .iter()
            .map(|(key, tally)| Group {
                key: key.clone(),
                tally: *tally,
            })
            .collect();
        if self.by != By::Day {
            groups.sort_by_key(|group| std::cmp::Reverse(group.tally.count));
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(code: &str, second: i64) -> Letter {
        Letter {
            reason: Some("rejected".into()),
            code: Some(code.into()),
            dead_at: Timestamp::from_second(second).ok(),
            ..Letter::default()
        }
    }

    #[test]
    fn groups_have_counts_and_times_and_the_largest_is_first() {
        let mut groups = Groups::new(By::Fingerprint);
        for (code, second) in [("A", 10), ("B", 20), ("B", 5), ("B", 90_000)] {
            groups.add(&letter(code, second));
        }
        let sorted = groups.sorted();
        assert_eq!(sorted[0].key[1].as_deref(), Some("B"));
        let at = |second| Timestamp::from_second(second).ok();
        let expected = Tally {
            count: 3,
            first: at(5),
            last: at(90_000),
        };
        assert_eq!(sorted[0].tally, expected);
        let mut days = Groups::new(By::Day);
        for second in [90_000, 5, 90_001] {
            days.add(&letter("A", second));
        }
        let days: Vec<_> = days
            .sorted()
            .into_iter()
            .map(|day| (day.key[0].clone().unwrap(), day.tally.count))
            .collect();
        assert_eq!(days, [("1970-01-01".to_owned(), 1), ("1970-01-02".to_owned(), 2)]);
    }

    #[test]
    fn groups_beyond_the_bound_are_counted_together() {
        let mut groups = Groups::new(By::Code);
        for n in 0..GROUPS_MAX + 7 {
            groups.add(&letter(&n.to_string(), 1));
        }
        assert_eq!(groups.sorted().len(), GROUPS_MAX);
        assert_eq!((groups.others.count, groups.total.count), (7, 1007));
    }
}
