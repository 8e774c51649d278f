//! The command: which fields of which user at which provider to change.

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::checked::{BatchId, Email, Locale, Phone, ProviderName, Text, UserId, Version, deserialize_with};
use super::extension::{MattrUpdate, ScimUpdate, SivoUpdate, ZitadelUpdate};

/// The idempotency key of a command.
pub type CommandId = Uuid;

/// Which of the two streams of commands a delivery belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrafficClass {
    /// A person waits for it.
    Interactive,
    /// A migration: it uses the pace that interactive traffic leaves unused.
    Bulk,
}

impl TrafficClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

/// One command, as published. It can only be made by `decode`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    title = "UpdateUser",
    description = "Asks for changes to one user at one identity provider. At most 256 KiB of JSON.",
    extend("$id" = "urn:usher:schemas/update-user.v1.json")
)]
pub struct UpdateUser {
    /// The idempotency key: a second command with the same id is not applied again.
    #[serde(deserialize_with = "command_id")]
    #[schemars(extend("pattern" = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"))]
    pub id: CommandId,
    /// The configured provider's name; the first part of the routing key.
    pub provider: ProviderName,
    /// The provider's own id of the user; the rest of the routing key.
    pub user_id: UserId,
    /// What to set (a value) and what to clear (null).
    #[serde(deserialize_with = "object")]
    pub update: Update,
    /// The version that the user must still have. Sivo requires it; SCIM accepts it (`meta.version`), and so does the
    /// kind rest if a header is configured for it; providers without version checks refuse it. `previous` means the
    /// `version` of the user's last USER_UPDATE_SUCCESS; if none is known, the command fails (`version_conflict`).
    #[serde(default)]
    pub expected_version: Option<Version>,
    /// Groups the commands of one migration.
    #[serde(default)]
    pub batch_id: Option<BatchId>,
    /// When the publisher created the command.
    #[serde(default, deserialize_with = "timestamp")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub issued_at: Option<Timestamp>,
    /// The command is not started after this time.
    #[serde(default, deserialize_with = "timestamp")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires_at: Option<Timestamp>,
}

/// What to do with one field. A field that the command omits is not changed.
#[derive(Clone, PartialEq, Eq)]
pub enum Change<T> {
    Set(T),
    Clear,
}

impl<T> fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set(_) => "Set(<redacted>)",
            Self::Clear => "Clear",
        })
    }
}

impl<T> Change<T> {
    /// The new value; `None` clears.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Clear => None,
        }
    }
}

/// The fields to change: those shared by all provider kinds and, under the name of a kind, those of that kind.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1))]
pub struct Update {
    /// The name to log in with. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub username: Option<Change<Text>>,
    /// The e-mail address. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Email>")]
    pub email: Option<Change<Email>>,
    /// The phone number in E.164 form, such as +61412345678. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Phone>")]
    pub phone: Option<Change<Phone>>,
    /// Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub given_name: Option<Change<Text>>,
    /// Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub family_name: Option<Change<Text>>,
    /// The full name as it is displayed. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub display_name: Option<Change<Text>>,
    /// Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub nickname: Option<Change<Text>>,
    /// The preferred language as a tag (BCP 47), such as en or de-CH. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Locale>")]
    pub locale: Option<Change<Locale>>,
    /// Fields that only Zitadel has.
    #[serde(deserialize_with = "present_object")]
    #[schemars(with = "ZitadelUpdate")]
    pub zitadel: Option<ZitadelUpdate>,
    /// Fields that only Sivo has.
    #[serde(deserialize_with = "present_object")]
    #[schemars(with = "SivoUpdate")]
    pub sivo: Option<SivoUpdate>,
    /// Fields that only MATTR has.
    #[serde(deserialize_with = "present_object")]
    #[schemars(with = "MattrUpdate")]
    pub mattr: Option<MattrUpdate>,
    /// Fields that only SCIM has.
    #[serde(deserialize_with = "present_object")]
    #[schemars(with = "ScimUpdate")]
    pub scim: Option<ScimUpdate>,
}

/// A field that all provider kinds share, under its name in the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Field {
    Username,
    Email,
    Phone,
    GivenName,
    FamilyName,
    DisplayName,
    Nickname,
    Locale,
}

impl Field {
    pub const ALL: [Self; 8] = [
        Self::Username,
        Self::Email,
        Self::Phone,
        Self::GivenName,
        Self::FamilyName,
        Self::DisplayName,
        Self::Nickname,
        Self::Locale,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::GivenName => "givenName",
            Self::FamilyName => "familyName",
            Self::DisplayName => "displayName",
            Self::Nickname => "nickname",
            Self::Locale => "locale",
        }
    }

    /// The field's JSON pointer in a command.
    pub fn pointer(self) -> String {
        format!("/update/{}", self.name())
    }
}

impl Update {
    /// The change to one shared field: absent, set (`Some`) or cleared (`None`).
    pub fn shared(&self, field: Field) -> Option<Option<&str>> {
        fn text<'a, T>(change: &'a Option<Change<T>>, text: fn(&'a T) -> &'a str) -> Option<Option<&'a str>> {
            change.as_ref().map(|change| change.value().map(text))
        }
        match field {
            Field::Username => text(&self.username, Text::as_str),
            Field::Email => text(&self.email, Email::as_str),
            Field::Phone => text(&self.phone, Phone::as_str),
            Field::GivenName => text(&self.given_name, Text::as_str),
            Field::FamilyName => text(&self.family_name, Text::as_str),
            Field::DisplayName => text(&self.display_name, Text::as_str),
            Field::Nickname => text(&self.nickname, Text::as_str),
            Field::Locale => text(&self.locale, Locale::as_str),
        }
    }

    /// Every shared field that the command changes, with its new value (`None` clears).
    pub fn shared_changes(&self) -> impl Iterator<Item = (Field, Option<&str>)> {
        Field::ALL
            .into_iter()
            .filter_map(|field| self.shared(field).map(|value| (field, value)))
    }

    /// The names of everything that the command changes, for events; never a value.
    pub fn field_names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.shared_changes().map(|(field, _)| field.name()).collect();
        names.extend(self.zitadel.iter().flat_map(ZitadelUpdate::field_names));
        names.extend(self.sivo.iter().flat_map(SivoUpdate::field_names));
        names.extend(self.mattr.iter().flat_map(MattrUpdate::field_names));
        names.extend(self.scim.iter().flat_map(ScimUpdate::field_names));
        names
    }

    /// The names of its blocks. Each block is for providers of one kind.
    pub fn blocks(&self) -> impl Iterator<Item = &'static str> {
        [
            ("zitadel", self.zitadel.is_some()),
            ("sivo", self.sivo.is_some()),
            ("mattr", self.mattr.is_some()),
            ("scim", self.scim.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, present)| present.then_some(name))
    }

    /// Whether it changes shared fields only.
    pub fn is_shared(&self) -> bool {
        self.blocks().next().is_none()
    }

    /// This update followed by the later one: the last value of each shared field. Provider blocks are dropped.
    pub fn followed_by(&self, later: &Self) -> Self {
        Self {
            username: later.username.clone().or_else(|| self.username.clone()),
            email: later.email.clone().or_else(|| self.email.clone()),
            phone: later.phone.clone().or_else(|| self.phone.clone()),
            given_name: later.given_name.clone().or_else(|| self.given_name.clone()),
            family_name: later.family_name.clone().or_else(|| self.family_name.clone()),
            display_name: later.display_name.clone().or_else(|| self.display_name.clone()),
            nickname: later.nickname.clone().or_else(|| self.nickname.clone()),
            locale: later.locale.clone().or_else(|| self.locale.clone()),
            ..Self::default()
        }
    }

    /// The fields alone whose names, as `field_names` has them, are kept. How an address or a number is verified stays with it.
    pub fn only(&self, keeps: impl Fn(&str) -> bool) -> Self {
        fn kept<T: Clone>(change: &Option<Change<T>>, keeps: bool) -> Option<Change<T>> {
            change.as_ref().filter(|_| keeps).cloned()
        }
        let keeps_own = |name: &str| {
            let of = match name {
                "zitadel.emailVerification" => Field::Email,
                "zitadel.phoneVerification" => Field::Phone,
                _ => return keeps(name),
            };
            keeps(name) || keeps(of.name())
        };
        let mut only = Self {
            username: kept(&self.username, keeps(Field::Username.name())),
            email: kept(&self.email, keeps(Field::Email.name())),
            phone: kept(&self.phone, keeps(Field::Phone.name())),
            given_name: kept(&self.given_name, keeps(Field::GivenName.name())),
            family_name: kept(&self.family_name, keeps(Field::FamilyName.name())),
            display_name: kept(&self.display_name, keeps(Field::DisplayName.name())),
            nickname: kept(&self.nickname, keeps(Field::Nickname.name())),
            locale: kept(&self.locale, keeps(Field::Locale.name())),
            zitadel: self.zitadel.clone(),
            sivo: self.sivo.clone(),
            mattr: self.mattr.clone(),
            scim: self.scim.clone(),
        };
        only.zitadel.iter_mut().for_each(|own| own.keep(keeps_own));
        only.sivo.iter_mut().for_each(|own| own.keep(&keeps));
        only.mattr.iter_mut().for_each(|own| own.keep(&keeps));
        only.scim.iter_mut().for_each(|own| own.keep(&keeps));
        only
    }

    /// The provider kind whose block is present and empty.
    pub(super) fn empty_block(&self) -> Option<&'static str> {
        let blocks = [
            (
                "zitadel",
                self.zitadel.as_ref().map(|block| block.field_names().count()),
            ),
            (
                "sivo",
                self.sivo.as_ref().map(|block| block.field_names().count()),
            ),
            (
                "mattr",
                self.mattr.as_ref().map(|block| block.field_names().count()),
            ),
            (
                "scim",
                self.scim.as_ref().map(|block| block.field_names().count()),
            ),
        ];
        blocks
            .into_iter()
            .find_map(|(kind, named)| (named == Some(0)).then_some(kind))
    }
}

/// For a field that null clears and absence leaves unchanged. serde calls this only if the key is present.
pub(super) fn change<'de, D, T>(deserializer: D) -> Result<Option<Change<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let value = Option::<T>::deserialize(deserializer)?;
    Ok(Some(value.map_or(Change::Clear, Change::Set)))
}

/// For a member that must not be null.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Like `present`, for a struct.
pub(super) fn present_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    object(deserializer).map(Some)
}

/// Reads a struct only from a JSON object: serde would also accept an array of its members' values.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Members<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(members))
        }
    }
    deserializer.deserialize_map(Members(PhantomData))
}

fn command_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CommandId, D::Error> {
    deserialize_with(
        deserializer,
        "a UUID such as 018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e",
        parse_command_id,
    )
}

/// Accepts only the hyphenated form: events contain the id, and one id must not have several spellings.
pub(super) fn parse_command_id(text: &str) -> Option<CommandId> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    struct DateTime(Timestamp);
    impl<'de> Deserialize<'de> for DateTime {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserialize_with(
                deserializer,
                "a date-time in RFC 3339 form, such as 2026-11-21T10:00:00Z",
                |text| text.parse().ok().map(DateTime),
            )
        }
    }
    Ok(Option::<DateTime>::deserialize(deserializer)?.map(|moment| moment.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_taken_alone_and_how_an_address_is_verified_stays_with_it() {
        let verified = json!({ "verified": true });
        let zitadel =
            json!({ "gender": "male", "emailVerification": verified, "phoneVerification": verified });
        let scim = json!({ "title": null, "active": true });
        let update: Update = serde_json::from_value(json!({
            "email": "a@b.example", "nickname": null, "zitadel": zitadel, "scim": scim,
            "sivo": { "country": "AU", "team": "a" }, "mattr": { "claims": { "a": 1 } },
        }))
        .unwrap();
        for name in update.field_names() {
            let mut expected = vec![name];
            if name == "email" {
                expected.push("zitadel.emailVerification");
            }
            assert_eq!(update.only(|kept| kept == name).field_names(), expected);
        }
        let all = update.only(|_| true);
        assert_eq!(all.field_names(), update.field_names());
        assert!(all.email == update.email && all.nickname == update.nickname);
    }
}
