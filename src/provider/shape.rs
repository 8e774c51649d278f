//! A kind of provider as seen over HTTP, for its simulation: paths, JSON, and the form of a refusal.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::Serialize;
use serde_json::{Map, Value};

/// The initial password of each user.
pub const STARTING_PASSWORD: &str = "Passw0rd!";

/// A code that each user was sent. It works once.
pub const STARTING_CODE: &str = "123456";

/// The version of a user before the first write; each write advances it by one second.
pub const STARTING_VERSION: &str = "2026-01-01T00:00:00.000Z";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    Read,
    Write,
    /// A request for a token.
    Token,
    /// A search for users by a key.
    Search,
}

/// A user in the simulation.
#[derive(Default)]
pub(crate) struct Account {
    /// Under the names of the kind.
    pub(crate) fields: Map<String, Value>,
    /// How often a field changed.
    pub(crate) version: u32,
    /// Accepted writes, whether or not they changed anything.
    pub(crate) writes: u32,
    pub(crate) mails: u32,
    pub(crate) texts: u32,
}

impl Account {
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.fields.get(name) == Some(&Value::Bool(true))
    }

    /// Sets a field. Returns whether that changed it.
    pub(crate) fn set(&mut self, name: &str, value: Value) -> bool {
        match self.fields.get_mut(name) {
            Some(current) if *current == value => false,
            Some(current) => {
                *current = value;
                true
            }
            None => {
                self.fields.insert(name.into(), value);
                true
            }
        }
    }
}

/// The target of a request.
pub(crate) struct Target<'a> {
    pub(crate) op: Op,
    pub(crate) user_id: Cow<'a, str>,
}

/// A search for users.
pub(crate) struct Search {
    /// Where the value is in a user as it is shown; `*` means every entry of a list.
    pub(crate) at: &'static [&'static str],
    pub(crate) key: String,
}

impl Search {
    /// Whether a user, as it is shown, has the key. Like most providers, without regard to case.
    pub(crate) fn finds(&self, user: &Value) -> bool {
        fn has(value: &Value, at: &[&str], key: &str) -> bool {
            match at {
                [] => value.as_str().is_some_and(|text| text.to_lowercase() == key),
                ["*", rest @ ..] => value
                    .as_array()
                    .is_some_and(|list| list.iter().any(|one| has(one, rest, key))),
                [name, rest @ ..] => has(&value[*name], rest, key),
            }
        }
        has(user, self.at, &self.key.to_lowercase())
    }

    /// The id of the user that has this key before its first write.
    pub(crate) fn first_owner(&self) -> &str {
        self.key.strip_suffix(USERS_DOMAIN).unwrap_or(&self.key)
    }
}

/// Where each user of the simulation has its address before the first write.
pub(crate) const USERS_DOMAIN: &str = "@users.example";

/// The decoded value of a parameter of a query.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut parts = query.split('&').filter_map(|part| part.split_once('='));
    let (_, value) = parts.find(|(of, _)| *of == name)?;
    Some(percent_decode_str(value).decode_utf8().ok()?.into_owned())
}

/// The target of a path that is `prefix` and one segment.
pub(crate) fn target<'a>(op: Op, path: &'a str, prefix: &str) -> Option<Target<'a>> {
    let segment = path.strip_prefix(prefix)?;
    if segment.is_empty() || segment.contains('/') {
        return None;
    }
    let user_id = percent_decode_str(segment).decode_utf8().ok()?;
    Some(Target { op, user_id })
}

pub(crate) struct Write<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) user_id: &'a str,
    pub(crate) body: &'a [u8],
}

impl Write<'_> {
    pub(crate) fn object(&self) -> Result<Map<String, Value>, Refusal> {
        serde_json::from_slice(self.body)
            .map_err(|_| Refusal::invalid("", "", "the body is not a JSON object of the right shape"))
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    Unauthorized,
    Forbidden,
    Missing,
    /// The user's state forbids the change.
    Locked {
        id: &'static str,
        message: &'static str,
    },
    Invalid {
        /// The member's name on the wire.
        at: Cow<'static, str>,
        id: &'static str,
        message: &'static str,
    },
    /// The value belongs to another user.
    Taken {
        at: &'static str,
    },
    VersionMismatch,
    Throttled,
    Broken,
    Unavailable,
    NoRoute,
    /// The method is not supported.
    NoMethod,
}

impl Refusal {
    pub(crate) fn invalid(at: impl Into<Cow<'static, str>>, id: &'static str, message: &'static str) -> Self {
        Self::Invalid {
            at: at.into(),
            id,
            message,
        }
    }

    pub(crate) fn locked() -> Self {
        Self::Locked {
            id: "COMMAND-79pv6e1q62",
            message: "the user's state forbids it",
        }
    }

    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::Missing | Self::NoRoute => 404,
            Self::Locked { .. } | Self::Taken { .. } => 409,
            Self::Invalid { .. } => 400,
            Self::VersionMismatch => 412,
            Self::Throttled => 429,
            Self::Broken => 500,
            Self::NoMethod => 501,
            Self::Unavailable => 503,
        }
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) etag: Option<String>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            etag: None,
            body: body.to_string(),
        }
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            etag: None,
            body: body.into(),
        }
    }
}

/// One kind of provider.
pub(crate) trait Shape: Send + Sync {
    fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>>;

    /// What the request searches for, if it is a search. `query` is that of its URL.
    fn search(&self, _: &Method, _path: &str, _query: &str, _body: &[u8]) -> Option<Search> {
        None
    }

    /// The answer to a search that found these users, as they are shown.
    fn list(&self, users: Vec<Value>) -> Value {
        users.into()
    }

    /// A new user.
    fn account(&self, user_id: &str) -> Account;

    fn show(&self, user_id: &str, account: &Account) -> Value;

    /// Validates the whole write, then applies it. Returns the answer's JSON.
    fn write(&self, write: &Write<'_>, account: &mut Account) -> Result<Value, Refusal>;

    /// The reply to a call that succeeded.
    fn reply(&self, answer: &Value, _: &Account) -> Reply {
        Reply::json(200, answer)
    }

    fn refuse(&self, refusal: &Refusal) -> Reply;

    /// The document under this path, other than users.
    fn document(&self, _: &Method, _: &str) -> Option<Reply> {
        None
    }
}

/// Whether an address belongs to another user.
pub(crate) fn is_taken(value: &str) -> bool {
    value.starts_with("taken")
}

pub(crate) fn is_e164(phone: &str) -> bool {
    phone.strip_prefix('+').is_some_and(|digits| {
        (2..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

pub(crate) fn is_email(email: &str) -> bool {
    matches!(email.split_once('@'), Some((local, domain)) if !local.is_empty() && !domain.is_empty())
}
