//! `[provider.rest]`: the properties of an API that keeps a user as a JSON object under a path.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::Field;
use crate::provider::field_map::FieldNames;
use crate::provider::flat::FindConfig;
use crate::provider::setup::WriteMethod;

/// `[provider.rest]`. A dotted name such as `name.first` means the member `first` in the object `name`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RestConfig")]
pub struct Config {
    /// The method of the update. Default: `PATCH`.
    pub method: WriteMethod,
    /// The path of the update, with `{userId}`, such as `/users/{userId}`. Required.
    pub path: String,
    /// The path to read one user by GET, with `{userId}`; empty: users can't be read back. Default: empty.
    pub read_path: String,
    /// Where the user is in the answer to a read, as a JSON pointer such as `/data`. Default: empty, which means the
    /// whole answer, or the object under `user` if there is one and `wrap` has another name.
    pub user_at: String,
    /// The header that carries the token. Default: `authorization`.
    pub credential_header: String,
    /// The word before the token, such as `SSWS`; empty: only the token is sent. Default: `Bearer`.
    pub credential_scheme: String,
    /// Further headers of each request, by name, each with a text. Default: none. They are not redacted when shown, so
    /// they must not contain secrets.
    pub headers: BTreeMap<String, String>,
    /// The name of the object that contains the fields, such as `profile`. Default: empty, which means no object.
    pub wrap: String,
    /// The name of each field at the provider, by its name in a command; dotted if it is nested, such as `name.first`.
    /// At least one is required, and a field without a name is refused. A dotted name sends an object with only that
    /// member: if the provider replaces objects as a whole, set `replaces`, or the object's other members are lost.
    pub fields: FieldNames,
    /// Members that are sent with every update, by dotted name from the top of the body, in quotes if it has dots
    /// (`"notify.mail" = false`). Each is a text, a number, true or false. Default: none.
    pub constants: BTreeMap<String, Constant>,
    /// How a field of `clearable` is cleared: by `null`, by an `empty` text, or not at all (`none`). Default: `none`.
    pub clear: Clear,
    /// Fields that can be cleared. Default: none.
    pub clearable: Vec<Field>,
    /// Fields that a read shows under another name than the update uses: the dotted name from the top of the user.
    /// Default: the same name, under `wrap`.
    pub read_fields: FieldNames,
    /// The header for the command's `expectedVersion`, which is sent unchanged, such as `If-Match`. Default: empty:
    /// `expectedVersion` is refused.
    pub version_header: String,
    /// A member that changes with each write of a user, as a JSON pointer into the user that is read, such as
    /// `/updatedAt`: a text or a number. Default: empty: no such member is known.
    pub version_at: String,
    /// Where a code is in an error's body, as JSON pointers such as `/error/code`, or `/**/code` for any number of
    /// levels. The first that is in `error_codes` is used. Default: none.
    pub error_code_at: Vec<String>,
    /// Codes of an error that are passed on to events and dead letters, such as `email_taken`. Default: none, because
    /// other text in their place may be user data.
    pub error_codes: Vec<String>,
    /// Where an error's body names the wrong members, as JSON pointers such as `/errors/0/field`, or `/**/field` for
    /// any number of levels. Default: none.
    pub error_pointer_at: Vec<String>,
    /// Fields that the provider compares without regard to case, and may show in another case than was sent: `email`,
    /// `username`, or both. Default: none; the domain of an address is always compared without case.
    pub folds_case: Vec<Field>,
    /// The header for the command's id, such as `Idempotency-Key`. It is the same in each attempt, and when a dead
    /// letter is redriven. Default: empty, which means no header.
    pub idempotency_header: String,
    /// Whether the update replaces the user. If so, the user is read first and put back byte by byte, with the
    /// command's changes. Requires `read_path`. Default: false.
    pub replaces: bool,
    /// Members of the user that are not put back because they are read-only, by dotted name from the top. Default:
    /// none.
    pub omit: Vec<String>,
    /// How `usher resolve` finds users by a key. Default: not at all.
    pub find: FindConfig,
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
            find: FindConfig::default(),
        }
    }
}
