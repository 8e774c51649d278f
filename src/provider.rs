//! The port to an identity provider.
//!
//! One call is one HTTP request and costs one permit. Adapters never loop, wait or retry: an adapter says what it needs
//! (a read before the write) and what caused a call to fail, and `worker::attempts` decides.

mod answer;
pub mod answers;
mod code;
#[cfg(test)]
mod conformance;
mod equal;
pub mod field_map;
mod find;
pub mod flat;
pub mod http;
pub mod karmo;
mod kind;
pub mod mattr;
mod members;
pub mod proxy;
mod rate_limit;
pub mod rehearsal;
pub mod rest;
pub mod scim;
pub mod setup;
pub(crate) mod shape;
pub mod sivo;
#[cfg(test)]
pub(crate) mod testbed;
pub mod token;
pub mod zitadel;

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::{Failure, Fault, RateLimitHint, Reason, Secret, UpdateUser, UserId, Version};

pub use code::Code;
pub use find::{FindBy, Found};
pub use setup::SetupError;

// One line per kind that has an adapter.
kind::kinds! {
    Karmo = karmo,
    Zitadel = zitadel,
    Sivo = sivo,
    Mattr = mattr,
    Scim = scim,
    Rest = rest,
}

#[async_trait]
pub trait Provider: Send + Sync {
    /// Whether this provider can apply the command. A field that it can't set or can't clear is refused by name.
    fn check(&self, command: &UpdateUser) -> Result<(), Failure>;

    /// Whether users can be read back.
    fn reads(&self) -> bool;

    /// Whether the write needs the user's current state.
    fn reads_before_write(&self, command: &UpdateUser) -> bool;

    /// Whether sending the same command twice is harmless.
    fn is_idempotent(&self, command: &UpdateUser) -> bool;

    /// Whether updates of a user are equivalent to one update with the last value of each field.
    fn merges_updates(&self) -> bool;

    /// Whether the user already matches the command.
    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison;

    /// Whether nothing was written to a user between two reads, according to the marker that the provider changes with
    /// each write. Without such a marker the answer is false.
    fn is_unchanged(&self, before: &User, after: &User) -> bool;

    /// The user's version, if the provider checks versions and shows them.
    fn version(&self, _: &User) -> Option<Version> {
        None
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError>;

    /// `current` is present if `reads_before_write` returned true.
    async fn update(&self, command: &UpdateUser, current: Option<&User>) -> Result<Updated, ProviderError>;

    /// How many calls a write takes, one after the other. Each of several may be repeated on its own.
    fn calls_of_write(&self, _: &UpdateUser) -> usize {
        1
    }

    /// The next call of a write that takes several. `done` is how many of them succeeded.
    async fn update_further(
        &self,
        command: &UpdateUser,
        current: Option<&User>,
        _done: usize,
    ) -> Result<Updated, ProviderError> {
        self.update(command, current).await
    }

    /// Whether users can be found by this kind of key. The error says why not, and what to do instead.
    fn finds(&self, _: FindBy) -> Result<(), Cow<'static, str>> {
        Err("this provider has no call that finds a user by a key; make the id map from an export of its users".into())
    }

    /// Finds the user with this key, in one request. `finds` was asked before.
    async fn find(&self, by: FindBy, _key: &str) -> Result<Found, ProviderError> {
        Err(find::cannot_find(&self.finds(by).err().unwrap_or_default()))
    }

    /// What the provider says about itself and what follows from the configuration, for `usher check`. Each document of
    /// the provider costs one request of the quota.
    async fn remarks(&self) -> Result<Vec<Remark>, ProviderError> {
        Ok(Vec::new())
    }

    /// Everything except the calls for users.
    fn access(&self) -> &dyn Access;
}

/// Access to a provider: fresh credentials, and what the answers report about the quota.
#[async_trait]
pub trait Access: Send + Sync {
    fn token(&self) -> TokenState;

    /// Fetches a token: one HTTP request, or one run of the program that prints it. Either costs a permit. After an
    /// error, calls go on unless `token` is `Missing`, because the current token is still valid.
    async fn fetch_token(&self) -> Result<(), ProviderError>;

    /// Waits until the credentials differ from those in use, because a file was written. Never returns if they can't
    /// change.
    async fn credentials_changed(&self);

    /// The latest hint about the quota. Each hint is returned once.
    fn rate_limit_hint(&self) -> Option<RateLimitHint>;
}

/// Whether the current token allows a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    Ready,
    /// It is still valid, but not for long: the next one should be fetched.
    Expiring,
    /// There is no token: one has to be fetched before any call.
    Missing,
}

/// A user as the provider shows it: the JSON value, or a string with its text, for adapters that put the user back and
/// must not round its numbers. Only the adapter that read it interprets it. Never printed.
#[derive(Clone, PartialEq)]
pub struct User(pub Value);

impl User {
    /// Whether the text at the pointer, which the provider changes with each write, is the same in both. False if
    /// either has none.
    fn has_same_text_at(&self, other: &Self, pointer: &str) -> bool {
        let mark = self.0.pointer(pointer).and_then(Value::as_str);
        mark.is_some() && mark == other.0.pointer(pointer).and_then(Value::as_str)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User(<redacted>)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Every field of the command can be read, and all of them match.
    Matches,
    /// A field differs: the command was not applied, or a later change overwrote it.
    Differs,
    /// Everything that can be read matches, but something can't be read (a password).
    Unreadable,
}

/// A successful write.
#[derive(Debug, Clone, Default)]
pub struct Updated {
    pub codes: Codes,
    /// The answer shows the user without a value of the command: the value's JSON pointer in the command.
    pub ignored: Option<String>,
    /// The user's new version, if the answer contains it.
    pub version: Option<Version>,
}

/// A capability or a limitation of the provider, for `usher check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub detail: Cow<'static, str>,
    /// False if no command can be applied.
    pub workable: bool,
}

/// Verification codes that the provider returned, to be sent to the publisher's `reply_to` only.
#[derive(Debug, Clone, Default)]
pub struct Codes {
    pub email: Option<Secret>,
    pub phone: Option<Secret>,
}

impl Codes {
    pub fn is_empty(&self) -> bool {
        self.email.is_none() && self.phone.is_none()
    }
}

/// An answer that is not a success. It quotes nothing of the provider's body but a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ProviderError {
    pub fault: Fault,
    pub status: Option<u16>,
    pub code: Option<Code>,
    /// The JSON pointer in the command, if the provider names the place and it is known.
    pub pointer: Option<String>,
    /// What is wrong and how to fix it.
    pub detail: Cow<'static, str>,
}

impl ProviderError {
    pub fn new(fault: Fault, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            fault,
            status: None,
            code: None,
            pointer: None,
            detail: detail.into(),
        }
    }

    /// For a provider without a call that reads one user, if `reads` was not checked before.
    fn cannot_read() -> Self {
        Self::new(
            Fault::Command(Reason::OutcomeUnknown),
            "no call is known that reads one user; set `read_path` where there is one",
        )
    }

    /// The failure that ends the command for this reason, with the provider's details.
    pub fn into_failure(self, reason: Reason) -> Failure {
        Failure {
            reason,
            detail: self.detail,
            pointer: self.pointer,
            status: self.status,
            code: self.code.map(Into::into),
        }
    }
}
