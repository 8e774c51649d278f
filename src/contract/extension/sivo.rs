//! Fields that only Sivo has. Sivo's page lists 42 fields of a user: six are shared fields, 34 are here, and the names
//! of two texts among the third to the sixth are missing from the page. The page shows nine of the names here; the
//! others are inferred from a model whose fields have the same types in the same order.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::contract::checked::{NonEmpty, Text, deserialize_with};
use crate::contract::json::{Json, Object};

/// What a field's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Flag,
    Moment,
    Texts,
    Object,
    Objects,
}

/// Whether null clears the field or is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Null {
    Refused,
    Clears,
}

/// Whether the field may contain credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sensitivity {
    Personal,
    Secret,
}

macro_rules! fields {
    ($($field:ident $name:literal $shape:ident $null:ident $sensitivity:ident),* $(,)?) => {
        /// A field that only Sivo has, under Sivo's name for it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum SivoField { $(#[serde(rename = $name)] $field),* }

        impl SivoField {
            pub const ALL: [Self; 34] = [$(Self::$field),*];
            const NAMES: [&str; 34] = [$($name),*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$field => $name),* }
            }

            /// The name that events show.
            fn event_name(self) -> &'static str {
                match self { $(Self::$field => concat!("sivo.", $name)),* }
            }

            fn is(self) -> (Shape, Null, Sensitivity) {
                match self { $(Self::$field => (Shape::$shape, Null::$null, Sensitivity::$sensitivity)),* }
            }
        }
    };
}

// In the page's order.
fields! {
    ProjectEnvironmentId "projectEnvironmentId" Text Refused Personal,
    VerifiedCredentials "verifiedCredentials" Objects Refused Secret,
    LastVerifiedCredentialId "lastVerifiedCredentialId" Text Refused Personal,
    SessionId "sessionId" Text Refused Secret,
    NewUser "newUser" Flag Refused Personal,
    FirstVisit "firstVisit" Moment Refused Personal,
    LastVisit "lastVisit" Moment Refused Personal,
    Country "country" Text Clears Personal,
    JobTitle "jobTitle" Text Clears Personal,
    PoliciesConsent "policiesConsent" Flag Clears Personal,
    TShirtSize "tShirtSize" Text Clears Personal,
    Team "team" Text Clears Personal,
    Metadata "metadata" Object Clears Personal,
    MfaBackupCodeAcknowledgement "mfaBackupCodeAcknowledgement" Text Clears Personal,
    BtcWallet "btcWallet" Text Clears Personal,
    KdaWallet "kdaWallet" Text Clears Personal,
    LtcWallet "ltcWallet" Text Clears Personal,
    CkbWallet "ckbWallet" Text Clears Personal,
    KasWallet "kasWallet" Text Clears Personal,
    DogeWallet "dogeWallet" Text Clears Personal,
    EmailNotification "emailNotification" Flag Clears Personal,
    DiscordNotification "discordNotification" Flag Clears Personal,
    NewsletterNotification "newsletterNotification" Flag Clears Personal,
    Lists "lists" Texts Clears Personal,
    Scope "scope" Text Clears Personal,
    MissingFields "missingFields" Objects Clears Personal,
    WalletPublicKey "walletPublicKey" Text Clears Personal,
    Wallet "wallet" Text Clears Personal,
    Chain "chain" Text Clears Personal,
    Sessions "sessions" Objects Clears Secret,
    Wallets "wallets" Objects Clears Personal,
    ChainalysisChecks "chainalysisChecks" Objects Clears Personal,
    OauthAccounts "oauthAccounts" Objects Clears Secret,
    MfaDevices "mfaDevices" Objects Clears Secret,
}

impl SivoField {
    /// The field's JSON pointer in a command.
    pub fn pointer(self) -> String {
        format!("/update/sivo/{}", self.name())
    }

    fn description(self) -> &'static str {
        match self {
            Self::Metadata => "Your own data about the user. Null clears it.",
            Self::Lists => "The lists that the user is on. Null clears them.",
            _ => match self.is() {
                (Shape::Objects, ..) => {
                    "Refused unless the provider is configured to write it. The members of its objects are unknown: they are passed through unchanged."
                }
                _ => "Refused unless the provider is configured to write it.",
            },
        }
    }

    fn schema(self, generator: &mut SchemaGenerator) -> Value {
        let (shape, null, kept) = self.is();
        let mut schema = match shape {
            Shape::Text => NonEmpty::json_schema(generator).to_value(),
            Shape::Flag => json!({ "type": "boolean" }),
            Shape::Moment => json!({ "type": "string", "format": "date-time" }),
            Shape::Texts => json!({ "type": "array", "items": Text::json_schema(generator) }),
            Shape::Object => json!({ "type": "object", "additionalProperties": true }),
            Shape::Objects => {
                json!({ "type": "array", "items": { "type": "object", "additionalProperties": true } })
            }
        };
        schema["description"] = self.description().into();
        if null == Null::Clears {
            schema["type"] = json!([schema["type"], "null"]);
        }
        if kept == Sensitivity::Secret {
            schema["x-sensitive"] = true.into();
        }
        schema
    }
}

/// The Sivo fields that a command changes.
#[derive(Clone, Default)]
pub struct SivoUpdate(Vec<(SivoField, Json)>);

impl SivoUpdate {
    /// In the command's order; null clears.
    pub fn changes(&self) -> impl Iterator<Item = (SivoField, &Json)> {
        self.0.iter().map(|(field, value)| (*field, value))
    }

    /// The names of the fields that it clears, as events show them.
    pub fn cleared(&self) -> impl Iterator<Item = &'static str> {
        let cleared = self.0.iter().filter(|(_, value)| value.is_null());
        cleared.map(|(field, _)| field.event_name())
    }

    pub(in crate::contract) fn field_names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(field, _)| field.event_name())
    }

    pub(in crate::contract) fn keep(&mut self, keeps: impl Fn(&str) -> bool) {
        self.0.retain(|(field, _)| keeps(field.event_name()));
    }
}

impl<'de> Deserialize<'de> for SivoUpdate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = SivoUpdate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut changes: Vec<(SivoField, Json)> = Vec::new();
                while let Some(name) = members.next_key::<String>()? {
                    let field = SivoField::ALL.into_iter().find(|field| field.name() == name);
                    let Some(field) = field else {
                        return Err(A::Error::unknown_field(&name, &SivoField::NAMES));
                    };
                    if changes.iter().any(|(known, _)| *known == field) {
                        return Err(A::Error::duplicate_field(field.name()));
                    }
                    changes.push((field, members.next_value_seed(Member(field))?));
                }
                Ok(SivoUpdate(changes))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Reads the value of a field.
struct Member(SivoField);

impl<'de> DeserializeSeed<'de> for Member {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let (shape, null, _) = self.0.is();
        match null {
            Null::Refused => shape.value(deserializer),
            Null::Clears => deserializer.deserialize_option(OrNull(shape)),
        }
    }
}

struct OrNull(Shape);

impl<'de> Visitor<'de> for OrNull {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<Json, E> {
        Json::of(&()).map_err(E::custom)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.0.value(deserializer)
    }
}

impl Shape {
    fn value<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let json = match self {
            Self::Text => Json::of(&NonEmpty::deserialize(deserializer)?.as_str()),
            Self::Flag => Json::of(&bool::deserialize(deserializer)?),
            Self::Moment => Json::of(&moment(deserializer)?),
            Self::Texts => {
                let texts = Vec::<Text>::deserialize(deserializer)?;
                Json::of(&texts.iter().map(Text::as_str).collect::<Vec<_>>())
            }
            Self::Object => return Object::deserialize(deserializer).map(Json::from),
            Self::Objects => Json::of(&Vec::<Object>::deserialize(deserializer)?),
        };
        json.map_err(D::Error::custom)
    }
}

/// A date-time, as it was written.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserialize_with(
        deserializer,
        "a date-time in RFC 3339 form, such as 2026-11-21T10:00:00Z",
        |text| text.parse::<Timestamp>().is_ok().then(|| text.to_owned()),
    )
}

impl JsonSchema for SivoUpdate {
    fn schema_name() -> Cow<'static, str> {
        "SivoUpdate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let members = SivoField::ALL.map(|field| (field.name().to_owned(), field.schema(generator)));
        json_schema!({
            "type": "object",
            "properties": members.into_iter().collect::<Map<_, _>>(),
            "additionalProperties": false,
            "minProperties": 1,
        })
    }
}
