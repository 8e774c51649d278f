//! A user as MATTR shows it, with what a write puts back as its text.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::contract::Fault;
use crate::provider::answer::Answer;
use crate::provider::members::Members;
use crate::provider::{ProviderError, User};

/// What a write puts again; what else is shown is for the reader.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    #[serde(borrow)]
    pub(super) claims: Option<Members<'a>>,
    #[serde(borrow)]
    pub(super) authentication_provider: Option<Members<'a>>,
}

const NOT_PUT_BACK: &str = "the user as MATTR shows it can't be put back whole: `claims` or `authenticationProvider` is no \
                            JSON object, or a name stands twice; nothing was put, so nothing was lost. Mend the user \
                            at MATTR";

/// The user that an answer shows, as its text.
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
