//! A user as MATTR shows it, with what a write puts back as its text: read as values, numbers of many digits would be
//! rounded, numbers beyond a float's range refused, and names put in another order.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::contract::Fault;
use crate::provider::answer::Answer;
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

/// An object's members in their order. No name stands twice.
#[derive(Default)]
pub(super) struct Members<'a>(Vec<(String, Member<'a>)>);

#[derive(Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Kept(&'a RawValue),
    Set(Value),
}

impl Members<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In its old place, or at the end.
    pub(super) fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, member)) => *member = Member::Set(value),
            None => self.0.push((name.to_owned(), Member::Set(value))),
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Whether the member is so. Absent is as good as null; what no value can hold is like none.
    pub(super) fn has(&self, name: &str, value: &Value) -> bool {
        match self.0.iter().find(|(known, _)| known == name) {
            None => value.is_null(),
            Some((_, Member::Set(member))) => member == value,
            Some((_, Member::Kept(text))) => {
                serde_json::from_str::<Value>(text.get()).is_ok_and(|member| member == *value)
            }
        }
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, member)| (name, member)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Whole)
    }
}

struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, text)) = map.next_entry::<String, &RawValue>()? {
            members.push((name, Member::Kept(text)));
        }
        let mut seen = HashSet::new();
        match members.iter().all(|(name, _)| seen.insert(name)) {
            true => Ok(Members(members)),
            false => Err(A::Error::custom("a name stands twice")),
        }
    }
}
