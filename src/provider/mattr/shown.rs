//! A user as MATTR shows it, with the text of what a write puts back.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::contract::Fault;
use crate::provider::answer::Answer;
use crate::provider::members::Members;
use crate::provider::{ProviderError, User};

/// The members that a write puts back; other members are read-only.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    #[serde(borrow)]
    pub(super) claims: Option<Members<'a>>,
    #[serde(borrow)]
    pub(super) authentication_provider: Option<Members<'a>>,
}

const NOT_PUT_BACK: &str = "the user as MATTR shows it can't be put back completely: `claims` or `authenticationProvider` is \
                            not a JSON object, or a name is duplicate; nothing was put, so nothing was lost. Correct \
                            the user at MATTR";

/// The text of the user in an answer.
pub(super) fn read(answer: &Answer) -> Result<User, ProviderError> {
    let text: Box<RawValue> = answer.object()?;
    match Shown::parse(text.get()) {
        Ok(_) => Ok(User(text.get().into())),
        Err(_) => Err(answer.error(Fault::Broken, NOT_PUT_BACK)),
    }
}

impl<'a> Shown<'a> {
    pub(super) fn of(user: &'a User) -> Result<Self, ProviderError> {
        let text = user.0.as_str().unwrap_or_default();
        Self::parse(text).map_err(|_| ProviderError::new(Fault::Broken, NOT_PUT_BACK))
    }

    fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}
