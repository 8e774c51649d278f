//! Commands that SCIM can't apply.

use reqwest::header::{ETAG, HeaderValue};
use serde_json::Value;

use crate::contract::{Change, Failure, Fault, Field, Reason, UpdateUser, Version};
use crate::provider::answer::Answer;
use crate::provider::{Kind, ProviderError};

const NO_VERSION: &str = "is not a version for If-Match; send the user's `meta.version` as it was read, such \
                          as W/\"3\"";

/// The member with a user's version.
pub(super) const VERSION_AT: &str = "/meta/version";

pub(super) fn check(command: &UpdateUser) -> Result<(), Failure> {
    Kind::Scim.check_blocks(command)?;
    if let Some(Change::Clear) = command.update.username {
        let detail = "SCIM requires a `userName`, so it can't be cleared; set it to a value or omit it";
        return Err(Failure::new(Reason::UnsupportedField, detail).at(Field::Username.pointer()));
    }
    let version = command.expected_version.as_ref();
    match version.filter(|version| !version.is_previous()).map(carried) {
        Some(None) => Err(
            Failure::new(Reason::Invalid, format!("`expectedVersion` {NO_VERSION}")).at("/expectedVersion"),
        ),
        Some(Some(_)) | None => Ok(()),
    }
}

pub(super) fn version_header(version: &Version) -> Result<HeaderValue, ProviderError> {
    carried(version).ok_or_else(|| {
        ProviderError::new(
            Fault::Command(Reason::Invalid),
            format!("`expectedVersion` {NO_VERSION}"),
        )
    })
}

/// One entity-tag, in the form of RFC 9110 or without its quotes. Several would be alternatives, and `*` would match
/// any version: nothing would be checked.
fn carried(version: &Version) -> Option<HeaderValue> {
    let text = version.as_str();
    let opaque = text.strip_prefix("W/").unwrap_or(text);
    let quoted = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_one = match quoted {
        Some(tag) => !tag.contains('"'),
        None => !opaque.is_empty() && !opaque.contains(['"', ',', '*', ' ', '\t']),
    };
    is_one.then(|| HeaderValue::from_str(text).ok())?
}

/// The version of a user that was read, if If-Match can carry it.
pub(super) fn shown_version(user: &Value) -> Option<Version> {
    let version = Version::parse(user.pointer(VERSION_AT)?.as_str()?);
    version.filter(|version| carried(version).is_some())
}

/// The version in the header of an answer without a user. A version in its body is ignored, because some servers
/// compute it from the bytes.
pub(super) fn answered_version(answer: &Answer) -> Option<Version> {
    let version = answer.headers.get(ETAG).filter(|_| answer.body.is_empty())?;
    Version::parse(version.to_str().ok()?).filter(|version| carried(version).is_some())
}

/// The version of the user that was read, as the condition of a write over it.
pub(super) fn read_version(user: &Value) -> Option<HeaderValue> {
    HeaderValue::from_str(user["meta"]["version"].as_str()?).ok()
}
