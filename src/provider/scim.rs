//! SCIM 2.0 (RFC 7643, RFC 7644): the whole command as one PATCH, which the provider applies as a whole or not at all.

mod check;
mod compare;
mod error;
mod patch;
#[cfg(test)]
mod tests;
mod wish;

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::{HeaderValue, IF_MATCH};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::wish::Attribute;
use super::http::{Http, Place, Request};
use super::setup::PathTemplate;
use super::{Access, Comparison, Kind, Provider, ProviderError, Remark, SetupError, Updated, User};
use crate::contract::{Failure, UpdateUser, UserId};

const USER_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/scim+json");

/// `[provider.scim]`. `base_url` is what stands before `/Users`, such as `https://acme.example/scim/v2`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ScimConfig")]
pub struct Config {
    /// How an e-mail address or a phone number is written: SCIM keeps lists of them. Default: `entry`.
    pub contacts: Contacts,
    /// The type of the entry that a command's `email` means. Default: `work`.
    pub email_type: String,
    /// The type of the entry that a command's `phone` means. Default: `work`.
    pub phone_type: String,
    /// Whether the user is read before a write that changes an entry or clears anything: for providers that refuse
    /// (`noTarget`) to replace or remove what is not there, most of whose users have no such entry. It costs a second
    /// call for each command; without it, a command that is refused so costs two more. Default: false.
    pub read_first: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contacts {
    /// The entry of the type is removed and a new one is added, as the primary one, in one request. It works whether
    /// there was such an entry or not, and leaves entries of other types alone. Where no entry of a user has a type, the
    /// primary or only one is meant.
    #[default]
    Entry,
    /// The value in the entry of the type is replaced. Many providers make the entry where there is none; others
    /// need `read_first`.
    Value,
    /// The whole list is replaced by one entry. Every provider understands it, and entries of other types are lost.
    List,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            contacts: Contacts::default(),
            email_type: "work".into(),
            phone_type: "work".into(),
            read_first: false,
        }
    }
}

pub struct Scim {
    config: Config,
    /// A user was seen whose entries have no types: a path with a type leads to none of them, so that users are read
    /// before their entries are changed.
    untyped: AtomicBool,
    http: Http,
    path: PathTemplate,
}

impl Scim {
    pub fn new(config: &Config, http: Http) -> Result<Self, SetupError> {
        for (key, name) in [
            ("provider.scim.email_type", &config.email_type),
            ("provider.scim.phone_type", &config.phone_type),
        ] {
            // It stands in quotes in a path.
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            {
                let detail = "must be a name of ASCII letters, digits, _ and -, such as work";
                return Err(SetupError::new(key, detail));
            }
        }
        Ok(Self {
            config: config.clone(),
            untyped: AtomicBool::new(false),
            http: http.of(Kind::Scim, Vec::new())?,
            path: PathTemplate::parse("path", "/Users/{userId}")?,
        })
    }
}

impl Scim {
    fn look_for_types(&self, user: &Value) {
        let lists = ["emails", wish::PHONES];
        let mut entries = lists.into_iter().filter_map(|list| user[list].as_array());
        if entries.any(|entries| compare::is_untyped(entries)) {
            self.untyped.store(true, Ordering::Relaxed);
        }
    }
}

/// An answer's body is the user where it says so.
fn is_user(body: &Value) -> bool {
    let schemas = body["schemas"].as_array();
    schemas.is_some_and(|schemas| schemas.iter().any(|schema| schema == USER_SCHEMA))
}

#[async_trait]
impl Provider for Scim {
    fn kind(&self) -> &'static str {
        Kind::Scim.as_str()
    }

    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        check::check(command)
    }

    fn reads(&self) -> bool {
        true
    }

    fn reads_before_write(&self, command: &UpdateUser) -> bool {
        let contacts = self.config.contacts;
        let untyped = self.untyped.load(Ordering::Relaxed);
        wish::wishes(&self.config, &command.update).iter().any(|wish| {
            let strict = self.config.read_first && patch::needs_target(contacts, wish);
            let is_entry = matches!(wish.attribute, Attribute::Entry { .. }) && contacts != Contacts::List;
            strict || is_entry && (untyped || wish.value.is_none())
        })
    }

    /// Values are set, not added to. But a password can't be read back: after a write that was not answered, a
    /// version that has moved on can't be told from somebody else's change.
    fn harmless_to_repeat(&self, command: &UpdateUser) -> bool {
        command.expected_version.is_none() || !wish::sets_password(&command.update)
    }

    fn merges_updates(&self) -> bool {
        true
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        compare::compare(&self.config, command, user)
    }

    /// Each change of a user moves its version on, where the provider keeps versions.
    fn untouched(&self, before: &User, after: &User) -> bool {
        before.is_marked_as(after, "/meta/version")
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError> {
        let request = Request {
            media_type: MEDIA_TYPE,
            ..Request::read(&self.path, user_id)
        };
        let answer = self.http.call(request, error::of_read).await?;
        let user = answer.object::<Map<String, Value>>()?.into();
        self.look_for_types(&user);
        Ok(User(user))
    }

    async fn update(&self, command: &UpdateUser, current: Option<&User>) -> Result<Updated, ProviderError> {
        let wishes = wish::wishes(&self.config, &command.update);
        let patch = patch::patch(&self.config, &wishes, current);
        let mut request = Request::write(Method::PATCH, &self.path, &command.user_id, &patch.body)?;
        request.media_type = MEDIA_TYPE;
        if let Some(version) = &command.expected_version {
            request.header = Some((IF_MATCH, check::version_header(version)?));
        }
        let refusal = |answer: &_| {
            error::of_write(
                answer,
                &wishes,
                command.expected_version.is_some(),
                current.is_some(),
            )
        };
        let answer = match self.http.call(request, refusal).await {
            Ok(answer) => answer,
            // What was to be cleared is clear.
            Err(error) if patch.may_be_done_already && error::is_no_target(&error) => {
                return Ok(Updated::default());
            }
            Err(error) => return Err(error),
        };
        let shown = answer.json().filter(|body| is_user(body));
        let ignored = shown.and_then(|user| {
            self.look_for_types(user);
            compare::first_that_differs(&self.config, command, user)
        });
        Ok(Updated {
            ignored,
            ..Updated::default()
        })
    }

    async fn remarks(&self) -> Result<Vec<Remark>, ProviderError> {
        let request = Request {
            media_type: MEDIA_TYPE,
            ..Request::get(Place::Fixed("/ServiceProviderConfig"))
        };
        let answer = self.http.call(request, error::of_read).await?;
        Ok(check::remarks(&answer.object()?))
    }

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
