//! The port to an identity provider.
//!
//! One call is one HTTP request and costs one permit. No adapter loops, waits or retries: it says what it
//! needs (a read before the write) and whose fault an answer is, and the handler decides.

mod answer;
pub mod answers;
mod code;
#[cfg(test)]
mod conformance;
mod equal;
pub mod field_map;
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
pub use setup::SetupError;

// A line for each kind that there is an adapter for.
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
    /// Whether this provider can take the command: a field it can't take or can't clear is refused by name.
    fn check(&self, command: &UpdateUser) -> Result<(), Failure>;

    /// Whether a user can be read back at all.
    fn reads(&self) -> bool;

    /// Whether the write needs the user as it is now.
    fn reads_before_write(&self, command: &UpdateUser) -> bool;

    /// Whether sending the same command twice does no harm.
    fn is_idempotent(&self, command: &UpdateUser) -> bool;

    /// Whether updates of a user come to the same as one with the last value of each field.
    fn merges_updates(&self) -> bool;

    /// Whether the user already is as the command asks.
    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison;

    /// Whether nothing was written to a user between two reads, as far as the provider marks each change.
    /// Where it marks none, the answer is no.
    fn untouched(&self, before: &User, after: &User) -> bool;

    /// The user's version, where the provider checks versions and shows it.
    fn version(&self, _: &User) -> Option<Version> {
        None
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError>;

    /// `current` is there when `reads_before_write` asked for it.
    async fn update(&self, command: &UpdateUser, current: Option<&User>) -> Result<Updated, ProviderError>;

    /// How many calls a write takes, one after the other. Each of several may be repeated by itself.
    fn calls_of_write(&self, _: &UpdateUser) -> usize {
        1
    }

    /// The next call of a write that takes several. `done`: how many of them succeeded.
    async fn update_further(
        &self,
        command: &UpdateUser,
        current: Option<&User>,
        _done: usize,
    ) -> Result<Updated, ProviderError> {
        self.update(command, current).await
    }

    /// What the provider says of itself and what follows from the configuration, for `usher check`. Each document that it
    /// has of itself costs one request of the quota.
    async fn remarks(&self) -> Result<Vec<Remark>, ProviderError> {
        Ok(Vec::new())
    }

    /// What there is beside the calls for users.
    fn access(&self) -> &dyn Access;
}

/// Access to a provider: credentials that are kept fresh, and what the answers tell of the quota.
#[async_trait]
pub trait Access: Send + Sync {
    fn token(&self) -> TokenState;

    /// Fetches a token: one HTTP request, or a run of the program that prints one, which costs a permit like any other. An error while `token` is not
    /// `Missing` is no reason to stop: the token that is held still serves.
    async fn fetch_token(&self) -> Result<(), ProviderError>;

    /// Waits until credentials are found that differ from those in use: a file was written. For ever, where
    /// they can't change.
    async fn credentials_changed(&self);

    /// What the latest answer that spoke of the quota told of it; it is told once.
    fn rate_limit_hint(&self) -> Option<RateLimitHint>;
}

/// Whether a call can be made with the token that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    Ready,
    /// It still serves, but not for long: somebody should fetch the next one.
    Expiring,
    /// There is none: one has to be fetched before any call.
    Missing,
}

/// A user as the provider shows it: the JSON, or a string of its text, where an adapter puts it back and a value would
/// round its numbers. Only the adapter that read it looks into it. Never printed.
#[derive(Clone, PartialEq)]
pub struct User(pub Value);

impl User {
    /// Whether the text there, which the provider changes with each write, is the same in both. Where there is
    /// none, it can't be told.
    fn is_marked_as(&self, other: &Self, pointer: &str) -> bool {
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
    /// Every field of the command that can be read is as asked, and all can be read.
    Matches,
    /// A field differs: the command has not been applied, or something came after it.
    Differs,
    /// What can be read is as asked, but something cannot be read (a password).
    Unreadable,
}

/// A successful write.
#[derive(Debug, Clone, Default)]
pub struct Updated {
    pub codes: Codes,
    /// The answer shows the user without something that was asked for: where that stands in the command.
    pub ignored: Option<String>,
    /// The user's version since then, where the answer tells it.
    pub version: Option<Version>,
}

/// What a provider can or can't do, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub detail: Cow<'static, str>,
    /// False where no command can be applied.
    pub workable: bool,
}

/// Verification codes that the provider returned: for the publisher's `reply_to` and nobody else.
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

/// An answer that is no success. It quotes nothing of the provider's body but a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ProviderError {
    pub fault: Fault,
    pub status: Option<u16>,
    pub code: Option<Code>,
    /// Where in the command, where the provider says so and the place is known.
    pub pointer: Option<String>,
    /// What is wrong and what to do about it.
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

    /// For a provider that has no call to read one user, where `reads` was not asked.
    fn cannot_read() -> Self {
        Self::new(
            Fault::Command(Reason::OutcomeUnknown),
            "no call is known that reads one user; set `read_path` where there is one",
        )
    }

    /// The command's end for this reason, with what the provider said.
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
