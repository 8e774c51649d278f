//! What reading a sample of users back showed: how many are as the batch asked, and which fields of which users are not. It
//! has names of fields, and no value.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::sample::{Amount, Asked};
use crate::contract::{CommandId, UpdateUser, UserId};
use crate::provider::{Comparison, Provider, User};

/// The quantile of the normal distribution for an interval of 95 %.
const Z: f64 = 1.959_964;

/// What one user's read showed.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Compared(Compared),
    /// The provider has no such user.
    Gone,
    /// The provider does not show this user.
    Unread(Cow<'static, str>),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// The fields that differ, by the command that asked for them.
    pub differing: Vec<(CommandId, Vec<&'static str>)>,
    /// Fields of which it can't be told, because the provider does not show them, or because of the order of commands.
    pub untold: Vec<&'static str>,
}

/// Compares the user with what was asked, as the provider's adapter does after a write.
pub fn compare(asked: &Asked, provider: &dyn Provider, user: &User) -> Compared {
    let (known, untold) = asked.fields();
    let mut compared = Compared {
        differing: Vec::new(),
        untold,
    };
    for (command, names) in known {
        let shows = |only: &[&'static str]| {
            let narrowed = UpdateUser {
                update: command.update.only(|name| only.contains(&name)),
                // It was for the user before the change.
                expected_version: None,
                ..command.clone()
            };
            provider.compare(&narrowed, user)
        };
        let whole = shows(&names);
        if whole == Comparison::Matches {
            continue;
        }
        let alone: Vec<_> = names.iter().map(|name| (*name, shows(&[*name]))).collect();
        let those = |what| {
            let names = alone.iter().filter(move |(_, shown)| *shown == what);
            names.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        compared.untold.extend(those(Comparison::Unreadable));
        let differing = those(Comparison::Differs);
        match (whole, differing.is_empty()) {
            (_, false) => compared.differing.push((command.id, differing)),
            // It differs only as a whole.
            (Comparison::Differs, true) => compared.differing.push((command.id, names)),
            _ => {}
        }
    }
    compared
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// How much was asked for.
    pub sample: String,
    /// Whether all users of the sample were looked at.
    pub complete: bool,
    pub users: u64,
    /// Their commands that were applied.
    pub commands: u64,
    pub as_asked: u64,
    pub different: u64,
    /// Nothing differs, and of some fields it can't be told.
    pub untold: u64,
    pub gone: u64,
    pub unread: u64,
    /// Of those that were compared, the users that differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Interval>,
    pub fields: BTreeMap<&'static str, OfField>,
    pub rows: Vec<Row>,
}

/// How many users have the field so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfField {
    pub different: u64,
    pub untold: u64,
}

/// A share, and the bounds between which that of all users is, in 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    pub share: f64,
    pub least: f64,
    pub most: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    Different,
    Gone,
    Unread,
}

impl What {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Different => "different",
            Self::Gone => "gone",
            Self::Unread => "unread",
        }
    }
}

/// A user that is not as asked, or about whom it is not known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub what: What,
    pub user_id: String,
    pub command_id: CommandId,
    pub fields: Vec<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub why: Cow<'static, str>,
}

impl Verified {
    pub fn new(amount: Amount, users: &[(UserId, Asked)]) -> Self {
        Self {
            sample: amount.to_string(),
            users: users.len() as u64,
            commands: users.iter().map(|(_, asked)| asked.commands).sum(),
            ..Self::default()
        }
    }

    pub fn looked_at(&self) -> u64 {
        self.as_asked + self.different + self.untold + self.gone + self.unread
    }

    /// Whether each user that was looked at could be compared and nothing differs.
    pub fn is_as_asked(&self) -> bool {
        self.different + self.gone + self.unread == 0
    }

    /// `last`: the user's last command.
    pub fn add(&mut self, user_id: &UserId, last: CommandId, found: Found) {
        let row = |what, command_id, fields, why| Row {
            what,
            user_id: user_id.as_str().to_owned(),
            command_id,
            fields,
            why,
        };
        match found {
            Found::Gone => {
                self.gone += 1;
                self.rows.push(row(What::Gone, last, Vec::new(), "".into()));
            }
            Found::Unread(why) => {
                self.unread += 1;
                self.rows.push(row(What::Unread, last, Vec::new(), why));
            }
            Found::Compared(Compared { differing, untold }) => {
                match (differing.is_empty(), untold.is_empty()) {
                    (true, true) => self.as_asked += 1,
                    (true, false) => self.untold += 1,
                    (false, _) => self.different += 1,
                }
                for name in untold {
                    self.fields.entry(name).or_default().untold += 1;
                }
                for (command_id, names) in differing {
                    for name in &names {
                        self.fields.entry(name).or_default().different += 1;
                    }
                    self.rows.push(row(What::Different, command_id, names, "".into()));
                }
            }
        }
    }

    /// The end: the share, and the rows in an order that does not depend on the order of the answers.
    pub fn finish(&mut self, amount: Amount) {
        self.complete = self.looked_at() == self.users;
        self.rows.sort_unstable();
        // Where nothing could be compared, nothing is known of differences.
        let compared = self.as_asked + self.different;
        let is_all = amount == Amount::Share(1.0) && self.complete;
        self.share = (compared > 0 && !is_all).then(|| Interval::of(self.different, compared));
    }
}

impl Interval {
    /// Wilson's interval.
    fn of(some: u64, all: u64) -> Self {
        let n = all as f64;
        let share = some as f64 / n;
        let scale = 1.0 + Z * Z / n;
        let centre = (share + Z * Z / (2.0 * n)) / scale;
        let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
        Self {
            share,
            least: (centre - half).clamp(0.0, share),
            most: (centre + half).clamp(share, 1.0),
        }
    }
}
