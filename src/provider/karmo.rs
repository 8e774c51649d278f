//! Karmo's auth API. Its documentation is only partly known, so what is not known is configurable.

mod simulated;
#[cfg(test)]
pub(super) mod tests;

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use self::simulated::Simulated;
use super::answers::{Class, Rule};
use super::field_map::{FieldMap, FieldNames};
use super::flat::{Codes, Errors, Flat, Headers, Layout, OwnFields, Places, Searches, Versions};
use super::http::Http;
use super::setup::{PathTemplate, WriteMethod, optional_path};
use super::{Kind, SetupError};
use crate::contract::Field;

pub(super) const ANSWERS: &str = include_str!("karmo/answers.toml");

const FIELDS: [(Field, &str); 4] = [
    (Field::Email, "email"),
    (Field::Phone, "mobileNumber"),
    (Field::GivenName, "firstName"),
    (Field::FamilyName, "lastName"),
];

/// Where the code is looked for after the configured member.
const SECOND_CODE_MEMBER: &str = "errorCode";

/// `[provider.karmo]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "KarmoConfig")]
pub struct Config {
    /// The method of the update. Default: `PATCH`. Karmo's page does not show it; Karmo keeps omitted fields, which
    /// suggests PATCH.
    pub method: WriteMethod,
    /// The path of the update, with `{userId}`. Default: `/users/{userId}`. Karmo's page does not show it; its public
    /// part belongs in `base_url`.
    pub path: String,
    /// The path to read one user, with `{userId}`; empty: users can't be read back. Default: empty, because no such
    /// call is known.
    pub read_path: String,
    /// Names that differ from the defaults: email → `email`, phone → `mobileNumber`, givenName → `firstName`,
    /// familyName → `lastName`, and no others. A dotted name is a member within an object.
    pub fields: FieldNames,
    /// Fields that null clears. Default: none, because it is not known whether null clears anything.
    pub clearable: Vec<Field>,
    /// The member of an error's body, at any depth, that contains the 8-digit code; `errorCode` is tried after it.
    /// Default: `code`. Karmo's page describes the code, but not the member's name.
    pub error_code_member: String,
    /// The 8-digit codes with which Karmo says that the access-management provider is not configured for this
    /// environment. They pause the provider and fail no command, whatever the status is and wherever the code is.
    /// Default: none, because no list of the codes is known. If a status alone says it, use `[[provider.answers]]`.
    pub not_configured_codes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            method: WriteMethod::Patch,
            path: "/users/{userId}".into(),
            read_path: String::new(),
            fields: FieldNames::default(),
            clearable: Vec::new(),
            error_code_member: "code".into(),
            not_configured_codes: Vec::new(),
        }
    }
}

/// The rules that follow from the table.
pub fn rules(config: &Config) -> Vec<Rule> {
    let mut rules = Vec::new();
    for code in &config.not_configured_codes {
        rules.extend(code_at(config).map(|at| Rule::body_says(&at, code, Class::Configuration)));
    }
    rules
}

/// The code may be at any depth.
fn code_at(config: &Config) -> [String; 2] {
    let configured = config.error_code_member.replace('~', "~0").replace('/', "~1");
    [configured.as_str(), SECOND_CODE_MEMBER].map(|member| format!("/**/{member}"))
}

pub fn adapter(config: &Config, http: Http) -> Result<Flat, SetupError> {
    let clearable = |field| config.clearable.contains(&field);
    let fields = FieldMap::new(Kind::Karmo, &FIELDS, &config.fields, clearable)?;
    Ok(Flat {
        kind: Kind::Karmo,
        http: http.of(Kind::Karmo, rules(config))?,
        method: config.method.into(),
        path: PathTemplate::parse("provider.karmo.path", &config.path)?,
        read_path: optional_path("provider.karmo.read_path", &config.read_path)?,
        headers: Headers::default(),
        versions: Versions::Any,
        layout: Layout::top(fields).checked(Kind::Karmo)?,
        own: OwnFields::default(),
        replaces: false,
        // An answer shows the verified address: the old one, until the user has verified the new one.
        shown_by_update: |field| field != Field::Email,
        errors: Errors {
            code_at: code_at(config).into(),
            codes: Codes::Formed(is_eight_digits),
            fields_named: Places::Anywhere,
        },
        searches: Searches::none(Kind::Karmo),
    })
}

fn is_eight_digits(code: &str) -> bool {
    code.len() == 8 && code.bytes().all(|b| b.is_ascii_digit())
}
