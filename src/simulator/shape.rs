//! What differs from one kind to the other: paths, JSON, and how a refusal looks.

use std::borrow::Cow;

use axum::http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::calls::Op;

/// A user as the simulation keeps it.
#[derive(Default)]
pub(super) struct Account {
    /// Under the kind's own names.
    pub(super) fields: Map<String, Value>,
    /// How often something of it changed.
    pub(super) version: u32,
    /// Writes that were accepted, changed or not.
    pub(super) writes: u32,
    pub(super) mails: u32,
    pub(super) texts: u32,
}

impl Account {
    pub(super) fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.fields.get(name) == Some(&Value::Bool(true))
    }

    /// Sets a field. True where that changed it.
    pub(super) fn set(&mut self, name: &str, value: Value) -> bool {
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

/// Where a request goes.
pub(super) struct Target<'a> {
    pub(super) op: Op,
    pub(super) user_id: Cow<'a, str>,
}

/// The target of `prefix` + one segment.
pub(super) fn target<'a>(op: Op, path: &'a str, prefix: &str) -> Option<Target<'a>> {
    let segment = path.strip_prefix(prefix)?;
    if segment.is_empty() || segment.contains('/') {
        return None;
    }
    let user_id = percent_decode_str(segment).decode_utf8().ok()?;
    Some(Target { op, user_id })
}

pub(super) struct Write<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) user_id: &'a str,
    pub(super) body: &'a [u8],
}

impl Write<'_> {
    pub(super) fn object(&self) -> Result<Map<String, Value>, Refusal> {
        serde_json::from_slice(self.body)
            .map_err(|_| Refusal::invalid("", "", "the body is no JSON object of the right shape"))
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Unauthorized,
    Forbidden,
    Missing,
    /// The user's state forbids it.
    Locked {
        id: &'static str,
        message: &'static str,
    },
    Invalid {
        /// The wire's name of the member.
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
    /// The method is not there.
    NoMethod,
}

impl Refusal {
    pub(super) fn invalid(at: impl Into<Cow<'static, str>>, id: &'static str, message: &'static str) -> Self {
        Self::Invalid {
            at: at.into(),
            id,
            message,
        }
    }

    pub(super) fn locked() -> Self {
        Self::Locked {
            id: "COMMAND-79pv6e1q62",
            message: "the user's state does not allow it",
        }
    }

    pub(super) fn status(&self) -> u16 {
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

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) etag: Option<String>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            etag: None,
            body: body.to_string(),
        }
    }

    pub(super) fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            etag: None,
            body: body.into(),
        }
    }
}

/// One kind of provider.
pub(super) trait Shape: Send + Sync {
    fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>>;

    /// A user as it is before anything was done to it.
    fn account(&self, user_id: &str) -> Account;

    fn show(&self, user_id: &str, account: &Account) -> Value;

    /// Validates the whole write, then applies it. The answer's JSON.
    fn write(&self, write: &Write<'_>, account: &mut Account) -> Result<Value, Refusal>;

    /// The answer of a call that succeeded.
    fn reply(&self, answer: &Value, _: &Account) -> Reply {
        Reply::json(200, answer)
    }

    fn refuse(&self, refusal: &Refusal) -> Reply;

    /// What stands under this path beside the users.
    fn document(&self, _: &Method, _: &str) -> Option<Reply> {
        None
    }
}

/// Whether an address belongs to somebody else already.
pub(super) fn is_taken(value: &str) -> bool {
    value.starts_with("taken")
}

pub(super) fn is_e164(phone: &str) -> bool {
    phone.strip_prefix('+').is_some_and(|digits| {
        (2..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

pub(super) fn is_email(email: &str) -> bool {
    matches!(email.split_once('@'), Some((local, domain)) if !local.is_empty() && !domain.is_empty())
}
