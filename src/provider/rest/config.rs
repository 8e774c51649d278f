//! `[provider.rest]`: what an API that keeps a user as a JSON object under a path is like.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::Field;
use crate::provider::field_map::FieldNames;
use crate::provider::setup::WriteMethod;

/// `[provider.rest]`. A dotted name such as `name.first` means the member `first` in the object `name`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RestConfig")]
pub struct Config {
    /// The method of the update. Default: `PATCH`.
    pub method: WriteMethod,
    /// The path of the update, with `{userId}`, such as `/users/{userId}`. It has no default: the kind needs it.
    pub path: String,
    /// The path to read one user by GET, with `{userId}`; empty: a user can't be read back. Default: empty.
    pub read_path: String,
    /// Where the user stands in the answer to a read, as a JSON pointer such as `/data`. Default: empty, which is the
    /// whole answer, or the object under `user` where it has one and `wrap` is another name than that.
    pub user_at: String,
    /// The header that carries the token. Default: `authorization`.
    pub credential_header: String,
    /// The word before the token, such as `SSWS`; empty: the token stands alone. Default: `Bearer`.
    pub credential_scheme: String,
    /// Further headers of each request, by name: a text each. Default: none. They are shown as they are: a secret does
    /// not belong here.
    pub headers: BTreeMap<String, String>,
    /// The object in which the fields stand, by its name, such as `profile`. Default: empty, which is none.
    pub wrap: String,
    /// The name of each field at the provider, under its name in a command; dotted where it stands deeper, such as
    /// `name.first`. It has no defaults: the kind needs at least one, and a field without a name is refused. A dotted name
    /// sends an object with that member alone: where the provider replaces objects as a whole, set `replaces`, or the
    /// object's other members are lost.
    pub fields: FieldNames,
    /// Members that are sent with every update, by dotted name from the top of the body, in quotes where it has dots
    /// (`"notify.mail" = false`): a text, a number, true or false each. Default: none.
    pub constants: BTreeMap<String, Constant>,
    /// What clears a field of `clearable`: `null`, an `empty` text, or `none`: nothing does. Default: `none`.
    pub clear: Clear,
    /// Fields that can be cleared. Default: none.
    pub clearable: Vec<Field>,
    /// Where a read shows a field under another name than the update has: the dotted name from the top of the user.
    /// Default: the same name, under `wrap`.
    pub read_fields: FieldNames,
    /// The header that carries the command's `expectedVersion`, as it stands, such as `If-Match`. Default: empty:
    /// `expectedVersion` is refused.
    pub version_header: String,
    /// What changes with each write of a user, as a JSON pointer into the user that is read, such as `/updatedAt`: a text
    /// or a number. Default: empty: no such member is known.
    pub version_at: String,
    /// Where a code is in an error's body, as JSON pointers such as `/error/code`, or `/**/code` for any number of levels; the
    /// first that is in `error_codes` counts. Default: none.
    pub error_code_at: Vec<String>,
    /// Codes of an error that are passed on to events and dead letters, such as `email_taken`. Default: none, because
    /// what else stands there may be a user's data.
    pub error_codes: Vec<String>,
    /// Where an error's body names the members that are wrong, as JSON pointers such as `/errors/0/field`, or `/**/field` for
    /// any number of levels. Default: none.
    pub error_pointer_at: Vec<String>,
    /// Fields that the provider takes for the same in any case, and may show in another than was sent: `email`, `username`,
    /// or both. Default: none; an address's domain is the same in any case always.
    pub folds_case: Vec<Field>,
    /// The header that carries the command's id, such as `Idempotency-Key`: the same at each try, and when a dead letter
    /// is sent again. Default: empty, which is none.
    pub idempotency_header: String,
    /// Whether the update replaces the user: then the user is read first, and put back byte by byte with what the
    /// command names over it. It needs `read_path`. Default: false.
    pub replaces: bool,
    /// Members of the user that are not put back, because they can only be read, by dotted name from its top. Default:
    /// none.
    pub omit: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Clear {
    #[default]
    None,
    Null,
    Empty,
}

/// A text, a number, true or false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a text, a number, true or false, such as true"
)]
pub enum Constant {
    Flag(bool),
    Number(serde_json::Number),
    Text(String),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            method: WriteMethod::Patch,
            path: String::new(),
            read_path: String::new(),
            user_at: String::new(),
            credential_header: "authorization".into(),
            credential_scheme: "Bearer".into(),
            headers: BTreeMap::new(),
            wrap: String::new(),
            fields: FieldNames::default(),
            constants: BTreeMap::new(),
            clear: Clear::None,
            clearable: Vec::new(),
            read_fields: FieldNames::default(),
            version_header: String::new(),
            version_at: String::new(),
            error_code_at: Vec::new(),
            error_codes: Vec::new(),
            error_pointer_at: Vec::new(),
            folds_case: Vec::new(),
            idempotency_header: String::new(),
            replaces: false,
            omit: Vec::new(),
        }
    }
}
