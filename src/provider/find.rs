//! Finding a user by a key that the publisher has: an e-mail address, a user name, or an id of its own.
//!
//! A wrong id would change another user. So a user that a provider returns counts only if it shows the key that was
//! asked for: a provider that ignores a filter, or matches parts of a value, gives an error instead of a wrong id.

use std::fmt;
use std::str::FromStr;

use super::ProviderError;
use super::answer::Answer;
use super::equal::{Case, Form, same};
use crate::contract::{Fault, UserId};

/// How many users a search asks for: a second one shows that the key is ambiguous.
pub(super) const ASKED: usize = 2;

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindBy {
    Email,
    Username,
    /// The publisher's own id, which the provider keeps beside its own.
    ExternalId,
}

impl FindBy {
    pub const ALL: [Self; 3] = [Self::Email, Self::Username, Self::ExternalId];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Username => "username",
            Self::ExternalId => "external-id",
        }
    }

    /// Whether a user that shows this value has the key. `case`: as the provider tells user names and addresses apart; a
    /// publisher's own id has its case.
    pub(super) fn is_same(self, case: Case, key: &str, shown: &str) -> bool {
        match self {
            Self::Email => same(Form::Email, case, key, shown),
            Self::Username => same(Form::Username, case, key, shown),
            Self::ExternalId => key == shown,
        }
    }
}

impl fmt::Display for FindBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FindBy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|by| by.as_str() == text);
        found.ok_or("write email, username or external-id")
    }
}

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Nobody,
    One(UserId),
    Several,
}

/// A user in the answer to a search.
pub(super) struct Candidate<'a> {
    pub(super) id: Option<&'a str>,
    /// `None`: it does not show what was searched for.
    pub(super) has_key: Option<bool>,
}

/// Judges the answer to a search. `total` is how many users match according to the provider, if it says so.
pub(super) fn judge<'a>(
    answer: &Answer,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
    total: Option<u64>,
) -> Result<Found, ProviderError> {
    let (mut shown, mut matching, mut unclear) = (0, Vec::new(), false);
    for candidate in candidates {
        shown += 1;
        unclear |= candidate.has_key.is_none();
        if candidate.has_key == Some(true) {
            matching.push(candidate.id);
        }
    }
    matching.dedup();
    // Without a total, a full page may be the first of several.
    let has_more = total.map_or(shown >= ASKED as u64, |total| total > shown);
    match matching.as_slice() {
        // A provider that matches parts of values: all of its matches are seen, and none has the key.
        [] if !has_more && !unclear => Ok(Found::Nobody),
        [] => Err(answer.error(Fault::Configuration, UNRELATED)),
        // There may be another match among those that are not seen.
        [_] if has_more || unclear => Ok(Found::Several),
        [id] => match id.and_then(UserId::parse) {
            Some(id) => Ok(Found::One(id)),
            None => Err(answer.error(Fault::Configuration, NO_ID)),
        },
        _ => Ok(Found::Several),
    }
}

const UNRELATED: &str = "the provider answered the search with users that do not show the key, so no id was taken: it ignores \
                         the filter, matches parts of values, or hides the attribute from this account; choose another kind \
                         of key with --by";

const NO_ID: &str = "the provider answered the search with a user without a usable id; check that base_url is the \
                     provider's API";

/// A search changes nothing, so an answer that is lost says nothing of a command.
pub(super) fn of_search(error: ProviderError) -> ProviderError {
    match error.fault {
        Fault::Unknown => ProviderError {
            detail: "the provider did not answer the search; check the provider and any proxy in front of it"
                .into(),
            ..error
        },
        _ => error,
    }
}

/// For a kind that can't find users by this key.
pub(super) fn cannot_find(why: &str) -> ProviderError {
    ProviderError::new(Fault::Configuration, why.to_owned())
}

#[cfg(test)]
mod tests;
