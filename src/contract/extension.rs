//! Fields of a single provider kind, under `update.<kind>`.

mod sivo;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::checked::{Secret, Text, deserialize_with};
use super::command::{Change, change, present, present_object};
use super::json::Json;

pub use sivo::{SivoField, SivoUpdate};

/// What is done with members by their names, as events show them.
macro_rules! members_by_name {
    ($kind:literal, $($member:ident => $name:literal),* $(,)?) => {
        /// Of the members that are present.
        pub(super) fn field_names(&self) -> impl Iterator<Item = &'static str> {
            [$((self.$member.is_some(), concat!($kind, ".", $name))),*]
                .into_iter()
                .filter_map(|(present, name)| present.then_some(name))
        }

        pub(super) fn keep(&mut self, keeps: impl Fn(&str) -> bool) {
            $(
                if !keeps(concat!($kind, ".", $name)) {
                    self.$member = None;
                }
            )*
        }
    };
}

/// Prints the type's name only: all of its content is user data, booleans and enums included.
macro_rules! redacted {
    ($($name:ident $(<$parameter:ident>)?),* $(,)?) => { $(
        impl$(<$parameter>)? fmt::Debug for $name$(<$parameter>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(<redacted>)"))
            }
        }
    )* };
}

redacted!(
    ZitadelUpdate,
    Gender,
    Verification<S>,
    SendCode,
    Password,
    NewPassword,
    PasswordProof,
    PasswordMembers,
    SivoUpdate,
    MattrUpdate,
    ScimUpdate,
    AuthenticationProvider,
);

#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1))]
pub struct ZitadelUpdate {
    #[serde(deserialize_with = "present")]
    #[schemars(with = "Gender")]
    pub gender: Option<Gender>,
    /// How the new e-mail address is verified; requires `email`.
    #[serde(deserialize_with = "present_object")]
    #[schemars(with = "Verification<SendCode>")]
    pub email_verification: Option<Verification<SendCode>>,
    /// How the new phone number is verified; requires `phone`.
    #[serde(deserialize_with = "present_object")]
    #[schemars(with = "Verification<Nothing>")]
    pub phone_verification: Option<Verification<Nothing>>,
    #[serde(deserialize_with = "present_object")]
    #[schemars(with = "Password")]
    pub password: Option<Password>,
}

impl ZitadelUpdate {
    members_by_name!(
        "zitadel",
        gender => "gender",
        email_verification => "emailVerification",
        phone_verification => "phoneVerification",
        password => "password",
    );

    /// Whether the provider returns codes, which may be sent only to the publisher's `reply_to`.
    pub fn returns_code(&self) -> bool {
        matches!(self.email_verification, Some(Verification::ReturnCode(_)))
            || matches!(self.phone_verification, Some(Verification::ReturnCode(_)))
    }
}

/// `unspecified` clears it.
#[derive(Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum Gender {
    Female,
    Male,
    Diverse,
    Unspecified,
}

/// serde would also accept an object with the word as its key.
impl<'de> Deserialize<'de> for Gender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_with(
            deserializer,
            "female, male, diverse or unspecified",
            |text| match text {
                "female" => Some(Self::Female),
                "male" => Some(Self::Male),
                "diverse" => Some(Self::Diverse),
                "unspecified" => Some(Self::Unspecified),
                _ => None,
            },
        )
    }
}

/// Exactly one of the three.
#[derive(Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, rename_all = "camelCase")]
pub enum Verification<S> {
    /// The provider sends the user a code.
    SendCode(S),
    /// The provider returns the code, which is sent only to the publisher's `reply_to`.
    ReturnCode(Nothing),
    /// The publisher has already verified it.
    Verified(True),
}

/// Read through the members, because serde reports an enum with two keys or none as a syntax error.
impl<'de, S: Deserialize<'de>> Deserialize<'de> for Verification<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            rename_all = "camelCase",
            deny_unknown_fields,
            bound(deserialize = "S: Deserialize<'de>")
        )]
        struct Members<S> {
            #[serde(default, deserialize_with = "present_object")]
            send_code: Option<S>,
            #[serde(default, deserialize_with = "present_object")]
            return_code: Option<Nothing>,
            #[serde(default, deserialize_with = "present")]
            verified: Option<True>,
        }
        let members = Members::deserialize(deserializer)?;
        match (members.send_code, members.return_code, members.verified) {
            (Some(send), None, None) => Ok(Self::SendCode(send)),
            (None, Some(nothing), None) => Ok(Self::ReturnCode(nothing)),
            (None, None, Some(verified)) => Ok(Self::Verified(verified)),
            _ => Err(D::Error::custom(
                "invalid value: members, expected exactly one of `sendCode`, `returnCode` and `verified`",
            )),
        }
    }
}

#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendCode {
    /// The link in the e-mail; the provider substitutes `{{.UserID}}`, `{{.Code}}` and `{{.OrgID}}`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Text")]
    pub url_template: Option<Text>,
}

/// An empty object.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The value `true`. To leave something unverified, omit the member.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "bool")]
#[schemars(with = "bool", extend("const" = true))]
pub struct True;

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        value.then_some(Self).ok_or("invalid value: false, expected true")
    }
}

/// A new password, in clear text or hashed, authorised by the current one, a code, or the worker's own permission.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(try_from = "PasswordMembers")]
#[schemars(with = "PasswordMembers")]
pub struct Password {
    pub new: NewPassword,
    pub change_required: bool,
    pub proof: Option<PasswordProof>,
}

#[derive(Clone)]
pub enum NewPassword {
    Plain(Secret),
    Hash(Secret),
}

#[derive(Clone)]
pub enum PasswordProof {
    Current(Secret),
    Code(Secret),
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend(
    "oneOf" = [{ "required": ["password"] }, { "required": ["hash"] }],
    "not" = { "required": ["currentPassword", "verificationCode"] }
))]
struct PasswordMembers {
    /// The new password. Either this or `hash`.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "Secret")]
    password: Option<Secret>,
    /// The new password's hash in modular crypt format. Either this or `password`.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "Secret")]
    hash: Option<Secret>,
    /// Whether the user must change it at the next login.
    change_required: bool,
    /// The current password. Either this or `verificationCode`, or neither.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "Secret")]
    current_password: Option<Secret>,
    /// A code that was sent to the user. Either this or `currentPassword`, or neither.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "Secret")]
    verification_code: Option<Secret>,
}

impl TryFrom<PasswordMembers> for Password {
    type Error = &'static str;

    fn try_from(members: PasswordMembers) -> Result<Self, Self::Error> {
        let new = match (members.password, members.hash) {
            (Some(plain), None) => NewPassword::Plain(plain),
            (None, Some(hash)) => NewPassword::Hash(hash),
            _ => return Err("invalid value: members, expected exactly one of `password` and `hash`"),
        };
        let proof = match (members.current_password, members.verification_code) {
            (None, None) => None,
            (Some(current), None) => Some(PasswordProof::Current(current)),
            (None, Some(code)) => Some(PasswordProof::Code(code)),
            _ => {
                return Err(
                    "invalid value: members, expected at most one of `currentPassword` and `verificationCode`",
                );
            }
        };
        Ok(Self {
            new,
            change_required: members.change_required,
            proof,
        })
    }
}

#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1))]
pub struct MattrUpdate {
    /// Claims to set, by name; null clears one.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "BTreeMap<String, Json>")]
    pub claims: Option<BTreeMap<String, Json>>,
    /// The login to link the user to. Refused unless the provider is configured to link users.
    #[serde(deserialize_with = "present_object")]
    #[schemars(with = "AuthenticationProvider")]
    pub authentication_provider: Option<AuthenticationProvider>,
}

impl MattrUpdate {
    members_by_name!("mattr", claims => "claims", authentication_provider => "authenticationProvider");
}

#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1))]
pub struct ScimUpdate {
    /// Whether the user may log in.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "bool")]
    pub active: Option<bool>,
    /// The user's id in the system that provisions it. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub external_id: Option<Change<Text>>,
    /// Such as Vice President. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub title: Option<Change<Text>>,
    /// The user's relationship to the organisation, such as Contractor. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub user_type: Option<Change<Text>>,
    /// The languages that the user reads, as in the header Accept-Language. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub preferred_language: Option<Change<Text>>,
    /// Such as Australia/Sydney. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub timezone: Option<Change<Text>>,
    /// The address of a page about the user. Null clears it.
    #[serde(deserialize_with = "change")]
    #[schemars(with = "Option<Text>")]
    pub profile_url: Option<Change<Text>>,
    /// The new password. It can't be read back.
    #[serde(deserialize_with = "present")]
    #[schemars(with = "Secret")]
    pub password: Option<Secret>,
}

impl ScimUpdate {
    members_by_name!(
        "scim",
        active => "active",
        external_id => "externalId",
        title => "title",
        user_type => "userType",
        preferred_language => "preferredLanguage",
        timezone => "timezone",
        profile_url => "profileUrl",
        password => "password",
    );
}

#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationProvider {
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Text")]
    pub provider_id: Option<Text>,
    pub subject_id: Text,
}
