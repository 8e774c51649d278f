//! Which rows of an input are published and confirmed, without a gap from its beginning.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::contract::CommandId;
use crate::contract::lifecycle::Digest;

/// The most rows behind the first one that is not confirmed.
const AHEAD_MAX: usize = 4096;

/// What was published for one provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub commands: u64,
    /// Of the commands' ids.
    pub ids: Digest,
}

/// The first rows of an input, all of which are confirmed or were refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    pub rows: u64,
    pub providers: BTreeMap<String, Published>,
}

impl Confirmed {
    pub fn commands(&self) -> u64 {
        self.providers.values().map(|published| published.commands).sum()
    }
}

/// Rows in their order, whose confirms come in any order.
#[derive(Debug, Default)]
pub struct Prefix {
    confirmed: Confirmed,
    ahead: VecDeque<Ahead>,
}

#[derive(Debug)]
enum Ahead {
    Sent { provider: String, id: CommandId },
    Confirmed { provider: String, id: CommandId },
    Refused,
}

impl Prefix {
    /// Goes on behind the rows that earlier runs confirmed.
    pub fn after(confirmed: Confirmed) -> Self {
        Self {
            confirmed,
            ahead: VecDeque::new(),
        }
    }

    pub fn so_far(&self) -> &Confirmed {
        &self.confirmed
    }

    /// Whether the first row that is not confirmed must be waited for.
    pub fn is_full(&self) -> bool {
        self.ahead.len() >= AHEAD_MAX
    }

    /// The next row is sent. Returns its number, from 1.
    pub fn send(&mut self, provider: &str, id: CommandId) -> u64 {
        let provider = provider.to_owned();
        self.ahead.push_back(Ahead::Sent { provider, id });
        self.confirmed.rows + self.ahead.len() as u64
    }

    /// The next row is not sent.
    pub fn refuse(&mut self) {
        self.ahead.push_back(Ahead::Refused);
        self.advance();
    }

    pub fn confirm(&mut self, row: u64) {
        let place = row.checked_sub(self.confirmed.rows + 1);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(ahead) = place.and_then(|place| self.ahead.get_mut(place))
            && let Ahead::Sent { provider, id } = ahead
        {
            let (provider, id) = (std::mem::take(provider), *id);
            *ahead = Ahead::Confirmed { provider, id };
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(first) = self.ahead.front() {
            match first {
                Ahead::Sent { .. } => return,
                Ahead::Refused => {}
                Ahead::Confirmed { provider, id } => {
                    if !self.confirmed.providers.contains_key(provider) {
                        let none = Published::default();
                        self.confirmed.providers.insert(provider.clone(), none);
                    }
                    if let Some(published) = self.confirmed.providers.get_mut(provider) {
                        published.commands += 1;
                        published.ids.add(*id);
                    }
                }
            }
            self.confirmed.rows += 1;
            self.ahead.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> CommandId {
        CommandId::from_u128(n)
    }

    fn digest(ids: &[u128]) -> Digest {
        let mut digest = Digest::default();
        ids.iter().for_each(|n| digest.add(id(*n)));
        digest
    }

    #[test]
    fn only_rows_without_a_gap_before_them_count() {
        let mut prefix = Prefix::default();
        let rows = [
            prefix.send("p", id(1)),
            prefix.send("q", id(2)),
            prefix.send("p", id(3)),
        ];
        assert_eq!(rows, [1, 2, 3]);
        prefix.refuse();
        prefix.confirm(3);
        prefix.confirm(2);
        assert_eq!(prefix.so_far(), &Confirmed::default());
        prefix.confirm(1);
        let so_far = prefix.so_far();
        assert_eq!((so_far.rows, so_far.commands()), (4, 3));
        assert_eq!(so_far.providers["p"].ids, digest(&[1, 3]));
        assert_eq!(so_far.providers["q"].ids, digest(&[2]));
        // What is unknown, or confirmed already, changes nothing.
        prefix.confirm(1);
        prefix.confirm(9);
        assert_eq!(prefix.so_far().commands(), 3);
    }

    #[test]
    fn a_second_run_adds_to_the_first_one_and_has_the_same_digest_as_one_run() {
        let mut first = Prefix::default();
        first.send("p", id(1));
        first.send("p", id(2));
        first.confirm(1);
        let kept = serde_json::to_string(first.so_far()).unwrap();
        let mut second = Prefix::after(serde_json::from_str(&kept).unwrap());
        assert_eq!(second.send("p", id(2)), 2);
        second.confirm(2);
        let published = &second.so_far().providers["p"];
        assert_eq!((published.commands, published.ids), (2, digest(&[1, 2])));
    }

    #[test]
    fn rows_ahead_of_an_unconfirmed_one_are_bounded() {
        let mut prefix = Prefix::default();
        let first = prefix.send("p", id(0));
        while !prefix.is_full() {
            prefix.refuse();
        }
        assert_eq!(prefix.ahead.len(), AHEAD_MAX);
        prefix.confirm(first);
        assert!(!prefix.is_full());
        assert_eq!(prefix.so_far().rows, AHEAD_MAX as u64);
    }
}
