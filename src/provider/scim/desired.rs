//! The changes of a command as SCIM attributes.

use serde_json::Value;

use super::Config;
use crate::contract::extension::ScimUpdate;
use crate::contract::{Change, Field, Text, Update};

/// The desired value of one attribute. It contains user data, so it is never printed.
pub(super) struct Desired<'a> {
    /// Its pointer in the command.
    pub(super) pointer: String,
    pub(super) attribute: Attribute<'a>,
    /// `None` clears.
    pub(super) value: Option<Value>,
}

impl Desired<'_> {
    /// Whether it writes an entry of a list.
    pub(super) fn sets_entry(&self) -> bool {
        self.value.is_some() && matches!(self.attribute, Attribute::Entry { .. })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute<'a> {
    /// At this path, such as `name.givenName`.
    Plain(&'static str),
    /// In the list of this name, the entry of this type.
    Entry { list: &'static str, of_type: &'a str },
}

impl Attribute<'_> {
    /// The attribute's own name, without its parents.
    pub(super) fn name(&self) -> &'static str {
        match *self {
            Self::Plain(path) => path.rsplit('.').next().unwrap_or(path),
            Self::Entry { list, .. } => list,
        }
    }
}

pub(super) const PHONES: &str = "phoneNumbers";

pub(super) const PASSWORD: Attribute<'_> = Attribute::Plain("password");

pub(super) fn desired<'a>(config: &'a Config, update: &Update) -> Vec<Desired<'a>> {
    let shared = update.shared_changes().map(|(field, value)| Desired {
        pointer: field.pointer(),
        attribute: attribute(config, field),
        value: value.map(Value::from),
    });
    let own = update.scim.iter().flat_map(own);
    shared.chain(own).collect()
}

pub(super) fn sets_password(update: &Update) -> bool {
    update.scim.as_ref().is_some_and(|own| own.password.is_some())
}

fn attribute(config: &Config, field: Field) -> Attribute<'_> {
    let plain = Attribute::Plain;
    match field {
        Field::Username => plain("userName"),
        Field::Email => Attribute::Entry {
            list: "emails",
            of_type: &config.email_type,
        },
        Field::Phone => Attribute::Entry {
            list: PHONES,
            of_type: &config.phone_type,
        },
        Field::GivenName => plain("name.givenName"),
        Field::FamilyName => plain("name.familyName"),
        Field::DisplayName => plain("displayName"),
        Field::Nickname => plain("nickName"),
        Field::Locale => plain("locale"),
    }
}

/// Their names in the command are those of SCIM.
fn own<'a>(own: &ScimUpdate) -> impl Iterator<Item = Desired<'a>> {
    let text = |change: &Option<Change<Text>>| {
        change
            .as_ref()
            .map(|change| change.value().map(|text| Value::from(text.as_str())))
    };
    let password = own.password.as_ref().map(|secret| secret.expose().into());
    [
        (
            Attribute::Plain("active"),
            own.active.map(|active| Some(active.into())),
        ),
        (Attribute::Plain("externalId"), text(&own.external_id)),
        (Attribute::Plain("title"), text(&own.title)),
        (Attribute::Plain("userType"), text(&own.user_type)),
        (
            Attribute::Plain("preferredLanguage"),
            text(&own.preferred_language),
        ),
        (Attribute::Plain("timezone"), text(&own.timezone)),
        (Attribute::Plain("profileUrl"), text(&own.profile_url)),
        (PASSWORD, password.map(Some)),
    ]
    .into_iter()
    .filter_map(|(attribute, change)| {
        change.map(|value| Desired {
            pointer: format!("/update/scim/{}", attribute.name()),
            attribute,
            value,
        })
    })
}
