//! The users of a batch that are read back: which ones the sample draws, and what the batch asked for each of them last.
//!
//! Users are drawn, not commands: of a drawn user all commands of the batch are known, so that the last value of each field is.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::tally::{Applied, Ended};
use crate::contract::{BatchId, CommandId, UpdateUser, UserId};

/// The most users of a sample. What is asked for each is held in memory, about a kilobyte.
pub const USERS_MAX: usize = 100_000;

/// The UUID namespace of the draw: the same batch has the same sample in each version of usher.
const DRAW: Uuid = Uuid::from_u128(0x5b1f_0c7e_93d2_4a68_8f04_6e2c_b7a9_1d35);

const EXPECTED: &str =
    "write a share of the users such as 1%, or a number of them such as 500 (at most 100000)";

/// How many users are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Of all, above 0 and at most 1.
    Share(f64),
    Users(usize),
}

impl FromStr for Amount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let amount = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse().ok().map(|n: f64| Self::Share(n / 100.0)),
            None => text.parse().ok().map(Self::Users),
        };
        let fits = |amount: &Self| match amount {
            Self::Share(share) => *share > 0.0 && *share <= 1.0,
            Self::Users(users) => (1..=USERS_MAX).contains(users),
        };
        amount.filter(fits).ok_or(EXPECTED)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{} % of the users", (share * 100_000.0).round() / 1000.0),
            Self::Users(1) => f.write_str("1 user"),
            Self::Users(users) => write!(f, "{users} users"),
        }
    }
}

/// More users are drawn than are held in memory.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the sample would have more than {USERS_MAX} users: ask for a smaller share, or for a number of users"
)]
pub struct TooMany;

/// Draws by a hash of the batch and the user's id, so that each run draws the same users.
pub struct Sample {
    batch: Uuid,
    amount: Amount,
    users_max: usize,
    /// Whether a user's updates add up to the last value of each field. Otherwise, the last one replaces the others.
    merges: bool,
    users: BTreeMap<(u64, UserId), Asked>,
}

/// What the batch asked for one user.
#[derive(Debug, Default)]
pub struct Asked {
    /// By the field's name.
    fields: BTreeMap<&'static str, Last>,
    /// Its commands that were applied.
    pub commands: u64,
    /// The last of them.
    pub last: CommandId,
}

/// The last command of the file that changes a field.
#[derive(Debug)]
struct Last {
    /// `None`: it is not known which value the field was left with.
    by: Option<Arc<UpdateUser>>,
    /// It ran again, so it may have been applied after commands that stand behind it.
    redriven: bool,
}

impl Sample {
    pub fn new(batch: &BatchId, amount: Amount, merges: bool) -> Self {
        Self {
            batch: Uuid::new_v5(&DRAW, batch.as_str().as_bytes()),
            amount,
            users_max: USERS_MAX,
            merges,
            users: BTreeMap::new(),
        }
    }

    /// Takes a command that has ended, in the order of the file.
    pub fn take(&mut self, command: UpdateUser, ended: Ended) -> Result<(), TooMany> {
        if ended.applied == Applied::No {
            return Ok(());
        }
        let draw = Uuid::new_v5(&self.batch, command.user_id.as_str().as_bytes());
        let place = (draw.as_u64_pair().0, command.user_id.clone());
        if !self.users.contains_key(&place) {
            // What failed and did not run again is overtaken by whatever follows.
            if !self.draws(&place) || ended.applied == Applied::Perhaps && !ended.redriven {
                return Ok(());
            }
            self.users.insert(place.clone(), Asked::default());
        }
        if let Some(asked) = self.users.get_mut(&place) {
            asked.take(command, ended, self.merges);
        }
        match self.amount {
            Amount::Users(users) if self.users.len() > users => {
                self.users.pop_last();
                Ok(())
            }
            _ if self.users.len() > self.users_max => Err(TooMany),
            _ => Ok(()),
        }
    }

    /// Whether the user belongs to the sample by what is known so far. Who is left out once stays out.
    fn draws(&self, place: &(u64, UserId)) -> bool {
        match self.amount {
            Amount::Share(share) => place.0 as f64 / u64::MAX as f64 <= share,
            Amount::Users(users) => {
                self.users.len() < users || self.users.last_key_value().is_some_and(|(last, _)| place < last)
            }
        }
    }

    /// The users with a command that was applied, in the order of the draw.
    pub fn into_users(self) -> Vec<(UserId, Asked)> {
        let users = self
            .users
            .into_iter()
            .map(|((_, user_id), asked)| (user_id, asked));
        users.filter(|(_, asked)| asked.commands > 0).collect()
    }
}

impl Asked {
    fn take(&mut self, command: UpdateUser, ended: Ended, merges: bool) {
        let unordered = !merges && self.fields.values().any(|last| last.redriven);
        if !merges {
            self.fields.clear();
        }
        let applied = ended.applied == Applied::Yes;
        if applied {
            self.commands += 1;
            self.last = command.id;
        }
        let names = command.update.field_names();
        let command = Arc::new(command);
        for name in names {
            let unordered = unordered || self.fields.get(name).is_some_and(|last| last.redriven);
            let last = Last {
                by: (applied && !unordered).then(|| command.clone()),
                redriven: ended.redriven || unordered,
            };
            self.fields.insert(name, last);
        }
    }

    /// The fields by the command whose value each should have, and those of which that is not known.
    pub fn fields(&self) -> (Vec<(&UpdateUser, Vec<&'static str>)>, Vec<&'static str>) {
        let (mut known, mut unclear) = (Vec::<(&UpdateUser, Vec<_>)>::new(), Vec::new());
        for (name, last) in &self.fields {
            let Some(by) = &last.by else {
                unclear.push(*name);
                continue;
            };
            match known
                .iter_mut()
                .find(|(command, _)| std::ptr::eq(*command, &**by))
            {
                Some((_, names)) => names.push(*name),
                None => known.push((by, vec![*name])),
            }
        }
        (known, unclear)
    }
}
