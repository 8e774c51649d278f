//! Any API that keeps a user as a JSON object under a path. Everything that differs between such APIs is configurable.

mod config;
mod layout;
mod simulated;
#[cfg(test)]
pub(super) mod tests;

pub use self::config::{Clear, Config, Constant};
pub(super) use self::simulated::Simulated;
use super::flat::{
    Codes, Errors, Flat, HeaderNames, Headers, OwnFields, Places, Searches, Versions, check_places,
};
use super::http::Http;
use super::setup::{PathTemplate, optional_path};
use super::token::CredentialHeader;
use super::{Kind, SetupError};

pub(super) const ANSWERS: &str = include_str!("rest/answers.toml");

pub fn adapter(config: &Config, http: Http) -> Result<Flat, SetupError> {
    if config.path.is_empty() {
        let detail = "is missing; write the path of the update, such as /users/{userId}";
        return Err(SetupError::new("provider.rest.path", detail));
    }
    let read_path = optional_path("provider.rest.read_path", &config.read_path)?;
    if config.replaces && read_path.is_none() {
        let detail =
            "needs `read_path`: without the current user, members that a command does not name would be lost";
        return Err(SetupError::new("provider.rest.replaces", detail));
    }
    let layout = layout::of(config)?;
    let carried = CredentialHeader::of(Kind::Rest, &config.credential_header, &config.credential_scheme)?;
    Ok(Flat {
        kind: Kind::Rest,
        http: http.of(Kind::Rest, Vec::new())?.with_credential_header(carried),
        method: config.method.into(),
        path: PathTemplate::parse("provider.rest.path", &config.path)?,
        read_path,
        headers: Headers::new(&HeaderNames {
            kind: Kind::Rest,
            credential: &config.credential_header,
            version: &config.version_header,
            idempotency: &config.idempotency_header,
            fixed: &config.headers,
        })?,
        versions: Versions::Any,
        searches: Searches::rest(&config.find, &layout)?,
        layout,
        own: OwnFields::default(),
        replaces: config.replaces,
        shown_by_update: |_| false,
        errors: errors(config)?,
    })
}

fn errors(config: &Config) -> Result<Errors, SetupError> {
    if config.error_code_at.is_empty() && !config.error_codes.is_empty() {
        let detail =
            "has no effect without `error_code_at`; set it to where a code is, such as [\"/error/code\"]";
        return Err(SetupError::new("provider.rest.error_codes", detail));
    }
    check_places("provider.rest.error_code_at", &config.error_code_at)?;
    check_places("provider.rest.error_pointer_at", &config.error_pointer_at)?;
    Ok(Errors {
        code_at: config.error_code_at.clone(),
        codes: Codes::Listed(config.error_codes.clone()),
        fields_named: Places::At(config.error_pointer_at.clone()),
    })
}
