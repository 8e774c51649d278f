//! What SCIM can't take, and what the provider says that it lacks.

use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::contract::{Change, Failure, Fault, Field, Reason, UpdateUser, Version};
use crate::provider::{Kind, ProviderError, Remark};

const NO_VERSION: &str = "is no version that If-Match can carry; send the user's `meta.version` as it was read, such \
                          as W/\"3\"";

pub(super) fn check(command: &UpdateUser) -> Result<(), Failure> {
    Kind::Scim.refuse_foreign(command)?;
    if let Some(Change::Clear) = command.update.username {
        let detail = "SCIM demands a `userName`, so it can't be cleared; set it to a value or leave it out";
        return Err(Failure::new(Reason::UnsupportedField, detail).at(Field::Username.pointer()));
    }
    match command.expected_version.as_ref().map(carried) {
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

/// One entity-tag, as RFC 9110 has it or without its quotes. Several would be a choice, and `*` any version: nothing
/// would be checked.
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

/// `/ServiceProviderConfig`
#[derive(Deserialize)]
pub(super) struct ServiceProviderConfig {
    #[serde(default)]
    patch: Feature,
    #[serde(default)]
    etag: Feature,
}

/// What is left out is not supported.
#[derive(Default, Deserialize)]
struct Feature {
    #[serde(default)]
    supported: bool,
}

pub(super) fn remarks(config: &ServiceProviderConfig) -> Vec<Remark> {
    let patch = match config.patch.supported {
        true => Remark {
            detail: "users can be changed (PATCH)",
            workable: true,
        },
        false => Remark {
            detail: "the provider says that it has no PATCH, and users are changed by nothing else here; let it be \
                     switched on there",
            workable: false,
        },
    };
    let etag = match config.etag.supported {
        true => "versions are checked (ETag): a command may carry `expectedVersion`",
        false => {
            "the provider says that it has no ETag: `expectedVersion` is sent, but nothing can be relied on to check \
             it; leave it out"
        }
    };
    vec![
        patch,
        Remark {
            detail: etag,
            workable: true,
        },
    ]
}
