//! The headers that the configuration gives a request.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::config::Config;
use crate::contract::UpdateUser;
use crate::provider::setup::{OWN, SetupError, header_name};

pub(super) struct Headers {
    fixed: HeaderMap,
    version: Option<HeaderName>,
    idempotency: Option<HeaderName>,
}

impl Headers {
    pub(super) fn new(config: &Config) -> Result<Self, SetupError> {
        let version = optional("provider.rest.version_header", &config.version_header)?;
        let idempotency = optional("provider.rest.idempotency_header", &config.idempotency_header)?;
        let credential = header_name("provider.rest.credential_header", &config.credential_header)?;
        let mut taken = vec![credential];
        for (key, header) in [
            ("provider.rest.version_header", &version),
            ("provider.rest.idempotency_header", &idempotency),
        ] {
            let Some(header) = header else { continue };
            if taken.contains(header) || OWN.contains(&header.as_str()) {
                return Err(SetupError::new(
                    key,
                    "names a header that carries something else; name another",
                ));
            }
            taken.push(header.clone());
        }
        let mut fixed = HeaderMap::new();
        for (name, value) in &config.headers {
            let key = format!("provider.rest.headers.{name}");
            let refused = |detail: &'static str| SetupError::new(key.clone(), detail);
            let name = HeaderName::try_from(name)
                .map_err(|_| refused("is no name of an HTTP header; write one such as x-tenant"))?;
            if taken.contains(&name) || OWN.contains(&name.as_str()) {
                return Err(refused("is a header that the worker sets itself; leave it out"));
            }
            let value = HeaderValue::try_from(value).map_err(|_| {
                refused("has characters that an HTTP header can't carry; write printable ASCII")
            })?;
            fixed.insert(name, value);
        }
        Ok(Self {
            fixed,
            version,
            idempotency,
        })
    }

    pub(super) fn takes_version(&self) -> bool {
        self.version.is_some()
    }

    pub(super) fn of_read(&self) -> HeaderMap {
        self.fixed.clone()
    }

    /// None where the command's version is nothing that a header can carry.
    pub(super) fn of_update(&self, command: &UpdateUser) -> Option<HeaderMap> {
        let mut headers = self.fixed.clone();
        if let (Some(name), Some(version)) = (&self.version, &command.expected_version) {
            headers.insert(name, HeaderValue::from_str(version.as_str()).ok()?);
        }
        if let Some(name) = &self.idempotency {
            headers.insert(name, HeaderValue::from_str(&command.id.to_string()).ok()?);
        }
        Some(headers)
    }
}

fn optional(key: &'static str, text: &str) -> Result<Option<HeaderName>, SetupError> {
    match text {
        "" => Ok(None),
        text => header_name(key, text).map(Some),
    }
}
