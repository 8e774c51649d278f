//! Karmo's auth API. Its pages are known in part: what is not known stands in the configuration.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::answer::Answer;
use super::answers::{Class, Rule};
use super::code::text;
use super::field_map::{FieldMap, FieldNames};
use super::http::{Http, Request};
use super::setup::{PathTemplate, WriteMethod, optional_path};
use super::{Access, Comparison, Kind, Provider, ProviderError, SetupError, Updated, User};
use crate::contract::{Failure, Fault, Field, Update, UpdateUser, UserId};

const FIELDS: [(Field, &str); 4] = [
    (Field::Email, "email"),
    (Field::Phone, "mobileNumber"),
    (Field::GivenName, "firstName"),
    (Field::FamilyName, "lastName"),
];

/// Where the code is looked for after the configured member.
const SECOND_CODE_MEMBER: &str = "errorCode";

/// How deep an error's body is looked through for pointers.
const DEPTH_MAX: u32 = 8;

/// `[provider.karmo]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "KarmoConfig")]
pub struct Config {
    /// The method of the update. Default: `PATCH`. Karmo's page does not show it; that fields which are left out
    /// are kept speaks for PATCH.
    pub method: WriteMethod,
    /// The path of the update, with `{userId}`. Default: `/users/{userId}`. Karmo's page does not show it; its
    /// public part belongs to `base_url`.
    pub path: String,
    /// The path to read one user, with `{userId}`; empty: a user can't be read back. Default: empty, because no
    /// such call is known.
    pub read_path: String,
    /// Names that differ from the defaults: email → `email`, phone → `mobileNumber`, givenName → `firstName`,
    /// familyName → `lastName`, and no others.
    pub fields: FieldNames,
    /// Fields that null clears. Default: none, because it is not known whether null clears anything.
    pub clearable: Vec<Field>,
    /// The member of an error's body, at any depth, that holds the 8-digit code; `errorCode` is looked at after it. Default:
    /// `code`. Karmo's page describes the code, but not under which name it stands.
    pub error_code_member: String,
    /// The 8-digit codes by which Karmo says that the access-management provider is not configured for this environment:
    /// the provider is paused then, and no command is at fault, whatever the status is and wherever the code stands.
    /// Default: none, because no list of the codes is known. Where a status alone says it, `[[provider.answers]]` does.
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

pub struct Karmo {
    http: Http,
    method: WriteMethod,
    path: PathTemplate,
    read_path: Option<PathTemplate>,
    fields: FieldMap,
    error_code_member: String,
}

/// The rules that the configuration of the kind alone makes.
pub fn rules(config: &Config) -> Vec<Rule> {
    let as_token = config.error_code_member.replace('~', "~0").replace('/', "~1");
    let members = [as_token.as_str(), SECOND_CODE_MEMBER].map(|member| format!("/**/{member}"));
    let mut rules = Vec::new();
    for code in &config.not_configured_codes {
        rules.extend(
            members
                .each_ref()
                .map(|member| Rule::body_says(member, code, Class::Configuration)),
        );
    }
    rules
}

impl Karmo {
    pub fn new(config: &Config, http: Http) -> Result<Self, SetupError> {
        let clearable = |field| config.clearable.contains(&field);
        Ok(Self {
            http: http.of(Kind::Karmo, rules(config))?,
            method: config.method,
            path: PathTemplate::parse("provider.karmo.path", &config.path)?,
            read_path: optional_path("provider.karmo.read_path", &config.read_path)?,
            fields: FieldMap::new(Kind::Karmo, &FIELDS, &config.fields, clearable)?,
            error_code_member: config.error_code_member.clone(),
        })
    }

    /// `update` is there for a write: only what the command has can be pointed to.
    fn refusal(&self, answer: &Answer, update: Option<&Update>) -> ProviderError {
        let mut error = answer.refusal();
        let Some(body) = answer.json() else {
            return error;
        };
        error.code = [self.error_code_member.as_str(), SECOND_CODE_MEMBER]
            .into_iter()
            .find_map(|name| code(body, name, DEPTH_MAX))
            .and_then(|code| answer.formed_code(&code, eight_digits));
        if let (Fault::Command(_), Some(update)) = (error.fault, update) {
            let mut named = Vec::new();
            self.fields_named(body, update, DEPTH_MAX, &mut named);
            let pointers: Vec<_> = named.into_iter().map(Field::pointer).collect();
            if pointers.len() > 1 {
                let places = pointers.join(", ");
                error.detail = format!("{}; the provider names {places}", error.detail).into();
            }
            error.pointer = pointers.into_iter().next();
        }
        error
    }

    /// The fields of the command that texts in an error's body point to.
    fn fields_named(&self, body: &Value, update: &Update, depth: u32, named: &mut Vec<Field>) {
        let Some(depth) = depth.checked_sub(1) else { return };
        match body {
            Value::String(text) => {
                let field = pointed_to(text).and_then(|name| self.fields.field(name));
                let field = field.filter(|field| update.shared(*field).is_some() && !named.contains(field));
                named.extend(field);
            }
            Value::Array(items) => {
                for item in items {
                    self.fields_named(item, update, depth, named);
                }
            }
            Value::Object(members) => {
                for member in members.values() {
                    self.fields_named(member, update, depth, named);
                }
            }
            _ => {}
        }
    }

    /// Where in the command the first field stands that the answer's user has otherwise. A member that is not there says
    /// nothing, since the names of an answer are not known. The address in an answer is the verified one, so it stays the
    /// former one until the user has verified the new one.
    fn ignored(&self, update: &Update, answer: &Answer) -> Option<String> {
        let answer = answer.json()?;
        let user = answer
            .get("user")
            .filter(|user| user.is_object())
            .unwrap_or(answer);
        // An empty text is as good as null there.
        let shown = |field, name: &str| {
            let shown = user.get(name).filter(|_| field != Field::Email)?;
            let text = shown.as_str().filter(|text| !text.trim().is_empty());
            Some(Cow::Owned(text.map_or(Value::Null, Value::from)))
        };
        self.fields.first_that_differs(update, shown).map(Field::pointer)
    }
}

/// The member that a pointer leads to: `/email`, `#/email`, `/body/email`, or `email` alone.
fn pointed_to(text: &str) -> Option<&str> {
    let path = text.strip_prefix('#').unwrap_or(text);
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        None => Some(path),
        Some(("body" | "data", member)) => Some(member),
        Some(_) => None,
    }
}

/// The first code that is a member of this name, at any depth.
fn code(body: &Value, name: &str, depth: u32) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match body {
        Value::Object(members) => members
            .get(name)
            .and_then(text)
            .filter(|code| eight_digits(code))
            .or_else(|| members.values().find_map(|value| code(value, name, depth))),
        Value::Array(items) => items.iter().find_map(|item| code(item, name, depth)),
        _ => None,
    }
}

fn eight_digits(code: &str) -> bool {
    code.len() == 8 && code.bytes().all(|b| b.is_ascii_digit())
}

#[async_trait]
impl Provider for Karmo {
    fn kind(&self) -> &'static str {
        Kind::Karmo.as_str()
    }

    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        Kind::Karmo.refuse_foreign(command)?;
        Kind::Karmo.refuse_version(command)?;
        self.fields.check(&command.update)
    }

    fn reads(&self) -> bool {
        self.read_path.is_some()
    }

    fn reads_before_write(&self, _: &UpdateUser) -> bool {
        false
    }

    /// The fields are set to the same values; nothing is sent to the user.
    fn is_idempotent(&self, _: &UpdateUser) -> bool {
        true
    }

    fn merges_updates(&self) -> bool {
        true
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        match self.fields.as_asked(&command.update, &user.0) {
            true => Comparison::Matches,
            false => Comparison::Differs,
        }
    }

    fn untouched(&self, _: &User, _: &User) -> bool {
        false
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError> {
        let Some(path) = &self.read_path else {
            return Err(ProviderError::cannot_read());
        };
        let request = Request::read(path, user_id);
        self.http
            .call(request, |answer| self.refusal(answer, None))
            .await?
            .user()
    }

    async fn update(&self, command: &UpdateUser, _: Option<&User>) -> Result<Updated, ProviderError> {
        let body = self.fields.members(&command.update);
        let request = Request::write(self.method.into(), &self.path, &command.user_id, &body)?;
        let refusal = |answer: &Answer| self.refusal(answer, Some(&command.update));
        let answer = self.http.call(request, refusal).await?;
        Ok(Updated {
            ignored: self.ignored(&command.update, &answer),
            ..Updated::default()
        })
    }

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
