//! Which dead letters are chosen.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Letter;

/// Chooses what every part that is set takes: of a list, one of its values. Nothing set: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub reasons: Vec<String>,
    pub providers: Vec<String>,
    pub batches: Vec<String>,
    pub users: Vec<String>,
    pub codes: Vec<String>,
    /// Each takes what is below it, too.
    pub pointers: Vec<String>,
    pub ids: Vec<String>,
    /// Dead then or later.
    pub since: Option<Timestamp>,
    /// Dead before then.
    pub until: Option<Timestamp>,
}

impl Filter {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn matches(&self, letter: &Letter) -> bool {
        let one_of = |list: &[String], value: &Option<String>| {
            list.is_empty()
                || value
                    .as_ref()
                    .is_some_and(|value| list.iter().any(|wanted| wanted == value))
        };
        let of_ids = |ids: &[String]| {
            ids.is_empty()
                || letter
                    .id
                    .as_ref()
                    .is_some_and(|id| ids.iter().any(|wanted| wanted.eq_ignore_ascii_case(id)))
        };
        let below = |pointer: &str, wanted: &str| {
            let rest = pointer.strip_prefix(wanted.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let of_pointers = |pointers: &[String]| {
            pointers.is_empty()
                || letter
                    .pointer
                    .as_ref()
                    .is_some_and(|pointer| pointers.iter().any(|wanted| below(pointer, wanted)))
        };
        one_of(&self.reasons, &letter.reason)
            && one_of(&self.providers, &letter.provider)
            && one_of(&self.batches, &letter.batch)
            && one_of(&self.users, &letter.user)
            && one_of(&self.codes, &letter.code)
            && of_pointers(&self.pointers)
            && of_ids(&self.ids)
            && self
                .since
                .is_none_or(|since| letter.dead_at.is_some_and(|at| at >= since))
            && self
                .until
                .is_none_or(|until| letter.dead_at.is_some_and(|at| at < until))
    }

    fn lists(&self) -> [(&'static str, &Vec<String>); 7] {
        [
            ("reason", &self.reasons),
            ("provider", &self.providers),
            ("batch", &self.batches),
            ("user", &self.users),
            ("code", &self.codes),
            ("pointer", &self.pointers),
            ("id", &self.ids),
        ]
    }

    /// By the names of the command line's options. A list of several values, and a value that looks like one, is a JSON
    /// array.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let text = |list: &[String]| match list {
            [one] if !one.starts_with('[') => one.clone(),
            several => serde_json::to_string(several).unwrap_or_default(),
        };
        let lists = self.lists().into_iter().filter(|(_, list)| !list.is_empty());
        let times = [("since", self.since), ("until", self.until)];
        let times = times
            .into_iter()
            .filter_map(|(name, at)| Some((name, at?.to_string())));
        lists
            .map(|(name, list)| (name, text(list)))
            .chain(times)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// `None`: it holds what this version does not know, and would choose more than was meant.
    pub fn from_map(map: &BTreeMap<String, String>) -> Option<Self> {
        let mut filter = Self::default();
        for (name, value) in map {
            let list = match name.as_str() {
                "reason" => &mut filter.reasons,
                "provider" => &mut filter.providers,
                "batch" => &mut filter.batches,
                "user" => &mut filter.users,
                "code" => &mut filter.codes,
                "pointer" => &mut filter.pointers,
                "id" => &mut filter.ids,
                "since" => {
                    filter.since = Some(value.parse().ok()?);
                    continue;
                }
                "until" => {
                    filter.until = Some(value.parse().ok()?);
                    continue;
                }
                _ => return None,
            };
            *list = match value.starts_with('[') {
                true => serde_json::from_str(value).ok()?,
                false => vec![value.clone()],
            };
        }
        Some(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    fn letter() -> Letter {
        Letter {
            id: Some("AB".into()),
            provider: Some("sivo".into()),
            user: Some("u1".into()),
            reason: Some("conflict".into()),
            pointer: Some("/update/zitadel/gender".into()),
            dead_at: Some("2026-11-21T10:00:00Z".parse().unwrap()),
            ..Letter::default()
        }
    }

    #[test]
    fn every_part_that_is_set_has_to_match() {
        let chosen = |change: &dyn Fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter.matches(&letter())
        };
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert!(chosen(&|_| {}));
        assert!(chosen(&|filter| filter.reasons = list(&["rejected", "conflict"])));
        assert!(!chosen(&|filter| filter.reasons = list(&["rejected"])));
        assert!(!chosen(&|filter| filter.batches = list(&["b"])));
        assert!(chosen(&|filter| filter.ids = list(&["ab"])));
        assert!(chosen(&|filter| filter.pointers = list(&["/update/zitadel"])));
        assert!(!chosen(&|filter| filter.pointers = list(&["/update/zit"])));
        assert!(chosen(&|filter| filter.since = time("2026-11-21T10:00:00Z")));
        assert!(!chosen(&|filter| filter.until = time("2026-11-21T10:00:00Z")));
        assert!(!chosen(&|filter| {
            filter.reasons = list(&["conflict"]);
            filter.users = list(&["u2"]);
        }));
    }

    #[test]
    fn a_filter_is_read_back_as_it_was_written() {
        let filter = Filter {
            reasons: list(&["conflict", "rejected"]),
            users: list(&["[odd]"]),
            pointers: list(&["/update/email"]),
            since: Some("2026-11-21T10:00:00Z".parse().unwrap()),
            ..Filter::default()
        };
        assert_eq!(Filter::from_map(&filter.to_map()), Some(filter));
        let later = BTreeMap::from([("colour".to_owned(), "red".to_owned())]);
        assert_eq!(Filter::from_map(&later), None);
    }
}
