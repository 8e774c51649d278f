//! What an adapter is set up from: paths, methods and header names, checked once at the start.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::UserId;

/// Headers that the worker sets itself, and those of the connection.
pub(super) const RESERVED_HEADERS: [&str; 14] = [
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// A setting that can't be used: its key, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {detail}")]
pub struct SetupError {
    pub key: Cow<'static, str>,
    pub detail: Cow<'static, str>,
}

impl SetupError {
    pub(super) fn new(key: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            key: key.into(),
            detail: detail.into(),
        }
    }
}

/// The method of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum WriteMethod {
    Patch,
    Put,
    Post,
}

impl From<WriteMethod> for Method {
    fn from(method: WriteMethod) -> Self {
        match method {
            WriteMethod::Patch => Self::PATCH,
            WriteMethod::Put => Self::PUT,
            WriteMethod::Post => Self::POST,
        }
    }
}

/// Everything but RFC 3986's unreserved characters, so that an id is always one path segment.
pub(super) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const PLACEHOLDER: &str = "{userId}";

/// A path with a placeholder for the user's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathTemplate {
    before: Box<str>,
    after: Box<str>,
}

impl PathTemplate {
    pub(super) fn parse(key: &'static str, text: &str) -> Result<Self, SetupError> {
        let refused = |detail: &'static str| Err(SetupError::new(key, detail));
        let Some((before, after)) = text.split_once(PLACEHOLDER) else {
            return refused("must contain {userId}, where the user's id goes");
        };
        if !before.starts_with('/') {
            return refused("must start with a slash, as in /users/{userId}");
        }
        if [before, after].iter().any(|part| part.contains(['{', '}'])) {
            return refused("must contain {userId} once and no other braces");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return refused("must be a path as in a URL: ASCII without spaces and without #");
        }
        Ok(Self {
            before: before.into(),
            after: after.into(),
        })
    }

    /// The path with the placeholder, without its query.
    pub(super) fn shown(&self) -> String {
        let whole = format!("{}{PLACEHOLDER}{}", self.before, self.after);
        without_query(&whole).to_owned()
    }

    /// The URL for one user. `base` has no trailing slash.
    pub(super) fn url(&self, base: &str, user_id: &UserId) -> String {
        let id = user_id.as_str();
        let mut url = String::with_capacity(base.len() + self.before.len() + self.after.len() + id.len() * 3);
        url.push_str(base);
        url.push_str(&self.before);
        url.extend(utf8_percent_encode(id, SEGMENT));
        url.push_str(&self.after);
        url
    }
}

pub(super) fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// None for an empty path: the provider has no such call.
pub(super) fn optional_path(key: &'static str, text: &str) -> Result<Option<PathTemplate>, SetupError> {
    match text {
        "" => Ok(None),
        text => PathTemplate::parse(key, text).map(Some),
    }
}

pub(super) fn header_name(key: impl Into<Cow<'static, str>>, text: &str) -> Result<HeaderName, SetupError> {
    HeaderName::try_from(text)
        .map_err(|_| SetupError::new(key, "must be the name of an HTTP header, such as If-Match"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_id_is_always_one_path_segment() {
        let template = PathTemplate::parse("path", "/v1/users/{userId}?full=1").unwrap();
        let url = |id: &str| template.url("http://h", &UserId::parse(id).unwrap());
        assert_eq!(url("a-b_c.d~9"), "http://h/v1/users/a-b_c.d~9?full=1");
        assert_eq!(
            url("a/b?c#d%2e e"),
            "http://h/v1/users/a%2Fb%3Fc%23d%252e%20e?full=1"
        );
        assert_eq!(url("é|+@"), "http://h/v1/users/%C3%A9%7C%2B%40?full=1");
        assert_eq!(url("%2e%2e"), "http://h/v1/users/%252e%252e?full=1");
    }

    #[test]
    fn template_contains_the_user_id_once_and_starts_with_a_slash() {
        for bad in [
            "/users",
            "users/{userId}",
            "/{userId}/{userId}",
            "/{id}/{userId}",
            "/a b/{userId}",
            "/{userId}#x",
        ] {
            let error = PathTemplate::parse("provider.karmo.path", bad).unwrap_err();
            assert_eq!(error.key, "provider.karmo.path", "{bad}");
        }
    }
}
