//! Sivo: each write names the version that the user must still have. Much of its documentation is missing, so what is
//! not known is configurable.

mod simulated;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use self::simulated::Simulated;
use super::field_map::{FieldMap, FieldNames};
use super::flat::{Codes, Errors, Flat, HeaderNames, Headers, Layout, OwnFields, Places, Searches, Versions};
use super::http::Http;
use super::setup::{PathTemplate, WriteMethod, optional_path};
use super::token::CredentialHeader;
use super::{Kind, SetupError};
use crate::contract::Field;
use crate::contract::extension::SivoField;

pub(super) const ANSWERS: &str = include_str!("sivo/answers.toml");

const FIELDS: [(Field, &str); 6] = [
    (Field::Username, "username"),
    (Field::Email, "email"),
    (Field::Phone, "phoneNumber"),
    (Field::GivenName, "firstName"),
    (Field::FamilyName, "lastName"),
    (Field::Nickname, "alias"),
];

/// The member with a user's version.
const VERSION: &str = "updated_at";

/// `[provider.sivo]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "SivoConfig")]
pub struct Config {
    /// The method of the update. Default: `PATCH`.
    pub method: WriteMethod,
    /// The path of the update, with `{userId}`. Default: `/users/{userId}`.
    pub path: String,
    /// The path to read one user, with `{userId}`; empty: users can't be read back. Default: `/users/{userId}`. Sivo's
    /// page shows no such call; it is inferred from the update's.
    pub read_path: String,
    /// The header for the token. Default: `authorization`; Sivo's page does not show it.
    pub credential_header: String,
    /// The word before the token, such as `Token`; empty: only the token is sent. Default: `Bearer`.
    pub credential_scheme: String,
    /// The header for the command's `expectedVersion`, which is sent unchanged. Default: `If-Match`. Sivo requires such
    /// a header; its name is not known.
    pub version_header: String,
    /// Names that differ from the defaults, which are inferred from a model like Sivo's: username → `username`,
    /// email → `email`, phone → `phoneNumber`, givenName → `firstName`, familyName → `lastName`, nickname →
    /// `alias`, and no others. A dotted name is a member within an object.
    pub fields: FieldNames,
    /// Fields that null clears. Default: all. Sivo's page allows null in the fields that have a name here; that null
    /// clears them is inferred.
    pub clearable: Vec<Field>,
    /// The fields under `sivo` that a command may set or clear, by name; others are refused. Sivo's page lists 42
    /// fields and does not say which of them it writes. Default: metadata and lists.
    pub writable: Vec<SivoField>,
    /// Codes of an error that are passed on to events and dead letters, such as `version_mismatch`. Default: none,
    /// because no list of Sivo's codes is known, and text in their place may be user data.
    pub codes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            method: WriteMethod::Patch,
            path: "/users/{userId}".into(),
            read_path: "/users/{userId}".into(),
            credential_header: "authorization".into(),
            credential_scheme: "Bearer".into(),
            version_header: "If-Match".into(),
            fields: FieldNames::default(),
            clearable: Field::ALL.into(),
            writable: vec![SivoField::Metadata, SivoField::Lists],
            codes: Vec::new(),
        }
    }
}

pub fn adapter(config: &Config, http: Http) -> Result<Flat, SetupError> {
    let clearable = |field| config.clearable.contains(&field);
    let carried = CredentialHeader::of(Kind::Sivo, &config.credential_header, &config.credential_scheme)?;
    if config.version_header.is_empty() {
        let detail = "is empty, but Sivo needs the user's version in each update; set the name of its header";
        return Err(SetupError::new("provider.sivo.version_header", detail));
    }
    let fields = FieldMap::new(Kind::Sivo, &FIELDS, &config.fields, clearable)?;
    Ok(Flat {
        kind: Kind::Sivo,
        http: http.of(Kind::Sivo, Vec::new())?.with_credential_header(carried),
        method: config.method.into(),
        path: PathTemplate::parse("provider.sivo.path", &config.path)?,
        read_path: optional_path("provider.sivo.read_path", &config.read_path)?,
        headers: Headers::new(&HeaderNames {
            kind: Kind::Sivo,
            credential: &config.credential_header,
            version: &config.version_header,
            idempotency: "",
            fixed: &BTreeMap::new(),
        })?,
        versions: Versions::NeededDateTime,
        layout: Layout {
            version_at: Some(vec![VERSION.into()]),
            ..Layout::top(fields).checked(Kind::Sivo)?
        },
        own: OwnFields(config.writable.clone()),
        replaces: false,
        shown_by_update: |_| false,
        errors: Errors {
            code_at: ["/code", "/error/code"].map(Into::into).into(),
            codes: Codes::Listed(config.codes.clone()),
            fields_named: Places::At(Vec::new()),
        },
        searches: Searches::none(Kind::Sivo),
    })
}
