//! What was settled lately: a command that comes again is not applied again.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use crate::contract::Ident;
use crate::contract::outcome::Settlement;

/// A command sent again by an operator is another command.
type Key = (Uuid, u32);

/// The latest settlements, bounded in number.
#[derive(Debug)]
pub struct Ledger {
    settled: HashMap<Key, Settlement>,
    oldest_first: VecDeque<Key>,
    commands_max: usize,
}

impl Ledger {
    pub fn new(commands_max: usize) -> Self {
        Self {
            settled: HashMap::new(),
            oldest_first: VecDeque::new(),
            commands_max,
        }
    }

    pub fn record(&mut self, ident: &Ident, settlement: Settlement) {
        let key = (ident.key, ident.redrives);
        if self.settled.insert(key, settlement).is_some() {
            return;
        }
        self.oldest_first.push_back(key);
        while self.oldest_first.len() > self.commands_max {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.settled.remove(&oldest);
            }
        }
    }

    pub fn find(&self, ident: &Ident) -> Option<&Settlement> {
        self.settled.get(&(ident.key, ident.redrives))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contract::Outcome;

    fn ident(n: u128, redrives: u32) -> Ident {
        Ident {
            key: Uuid::from_u128(n),
            command_id: None,
            user_id: None,
            batch_id: None,
            fields: Vec::new(),
            redrives,
        }
    }

    #[test]
    fn it_remembers_the_latest_and_no_more() {
        let settlement = Settlement {
            outcome: Outcome::Success { changed: true },
            attempts: 1,
            duration: Duration::ZERO,
        };
        let mut ledger = Ledger::new(2);
        for n in 0..3 {
            ledger.record(&ident(n, 0), settlement.clone());
        }
        assert!(ledger.find(&ident(0, 0)).is_none());
        assert!(ledger.find(&ident(1, 0)).is_some() && ledger.find(&ident(2, 0)).is_some());
        assert!(
            ledger.find(&ident(2, 1)).is_none(),
            "a redriven command is applied"
        );
    }
}
