//! The headers that the configuration adds to a request.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::contract::{Failure, Reason, UpdateUser};
use crate::provider::Kind;
use crate::provider::setup::{RESERVED_HEADERS, SetupError, header_name};

/// Names from a table of the configuration; empty means no header.
pub(in crate::provider) struct HeaderNames<'a> {
    pub(in crate::provider) kind: Kind,
    pub(in crate::provider) credential: &'a str,
    pub(in crate::provider) version: &'a str,
    pub(in crate::provider) idempotency: &'a str,
    pub(in crate::provider) fixed: &'a BTreeMap<String, String>,
}

#[derive(Default)]
pub(in crate::provider) struct Headers {
    fixed: HeaderMap,
    version: Option<HeaderName>,
    idempotency: Option<HeaderName>,
}

impl Headers {
    pub(in crate::provider) fn new(names: &HeaderNames<'_>) -> Result<Self, SetupError> {
        let kind = names.kind;
        let mut taken = vec![header_name(
            format!("provider.{kind}.credential_header"),
            names.credential,
        )?];
        let mut own = |key: &str, name: &str| {
            if name.is_empty() {
                return Ok(None);
            }
            let key = format!("provider.{kind}.{key}");
            let header = header_name(key.clone(), name)?;
            if taken.contains(&header) || RESERVED_HEADERS.contains(&header.as_str()) {
                let detail = "names a header that is used for something else; use another one";
                return Err(SetupError::new(key, detail));
            }
            taken.push(header.clone());
            Ok(Some(header))
        };
        let version = own("version_header", names.version)?;
        let idempotency = own("idempotency_header", names.idempotency)?;
        let mut fixed = HeaderMap::new();
        for (name, value) in names.fixed {
            let key = format!("provider.{kind}.headers.{name}");
            let refused = |detail: &'static str| SetupError::new(key.clone(), detail);
            let name = HeaderName::try_from(name)
                .map_err(|_| refused("is not the name of an HTTP header; write one such as x-tenant"))?;
            if taken.contains(&name) || RESERVED_HEADERS.contains(&name.as_str()) {
                return Err(refused("is a header that the worker sets itself; leave it out"));
            }
            let value = HeaderValue::try_from(value).map_err(|_| {
                refused("has characters that an HTTP header can't contain; use printable ASCII")
            })?;
            fixed.insert(name, value);
        }
        Ok(Self {
            fixed,
            version,
            idempotency,
        })
    }

    pub(super) fn has_version(&self) -> bool {
        self.version.is_some()
    }

    pub(super) fn of_read(&self) -> HeaderMap {
        self.fixed.clone()
    }

    /// Refuses a version that a header can't contain.
    pub(super) fn of_update(&self, command: &UpdateUser) -> Result<HeaderMap, Failure> {
        let mut headers = self.fixed.clone();
        if let (Some(name), Some(version)) = (&self.version, &command.expected_version) {
            let value = HeaderValue::from_str(version.as_str()).map_err(|_| {
                let detail = "this version can't be sent in a header; use the user's current one";
                Failure::new(Reason::Invalid, detail).at("/expectedVersion")
            })?;
            headers.insert(name, value);
        }
        if let Some(name) = &self.idempotency
            && let Ok(id) = HeaderValue::from_str(&command.id.to_string())
        {
            headers.insert(name, id);
        }
        Ok(headers)
    }
}
