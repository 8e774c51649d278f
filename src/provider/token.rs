//! The bearer token: where it comes from, whether there is one, and what its refusal means.
//!
//! It is kept as a header value that is marked sensitive, and is never printed.

mod fetched;
mod file;
pub mod oauth2;
mod program;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use self::fetched::{Fetched, Verdict};
use self::file::Watched;
pub use self::file::open_to_others;
use self::oauth2::OAuth2;
use self::program::Program;
use super::setup::RESERVED_HEADERS;
use super::{Kind, SetupError, TokenState};

/// The source of the token.
#[derive(Debug, Clone)]
pub enum Source {
    Value(SecretString),
    /// Read again when it changes.
    File(PathBuf),
    /// Fetched, and fetched again before it expires.
    OAuth2(oauth2::Config),
    /// Printed by a program, which is run again before the token expires.
    Program {
        command: Vec<String>,
        time_max: Duration,
    },
}

/// The scheme under which a token is stored.
const BEARER: &str = "Bearer";

/// The header that carries the token, and its form.
pub(super) struct CredentialHeader {
    header: HeaderName,
    /// The word before the token; empty: only the token is sent.
    scheme: Box<str>,
}

impl Default for CredentialHeader {
    fn default() -> Self {
        Self {
            header: AUTHORIZATION,
            scheme: BEARER.into(),
        }
    }
}

impl CredentialHeader {
    /// From `credential_header` and `credential_scheme` in the kind's table.
    pub(super) fn of(kind: Kind, header: &str, scheme: &str) -> Result<Self, SetupError> {
        let key = |name: &str| format!("provider.{kind}.{name}");
        let header = HeaderName::try_from(header).ok();
        let header =
            header.filter(|header| *header == AUTHORIZATION || !RESERVED_HEADERS.contains(&header.as_str()));
        let header = header.ok_or_else(|| {
            let detail = "must be the name of an HTTP header without another use, such as authorization";
            SetupError::new(key("credential_header"), detail)
        })?;
        if !scheme.bytes().all(|byte| byte.is_ascii_graphic()) {
            let detail = "must be one word, such as Bearer or SSWS, or empty";
            return Err(SetupError::new(key("credential_scheme"), detail));
        }
        Ok(Self {
            header,
            scheme: scheme.into(),
        })
    }

    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The header's value for a stored token. None if it is not a valid header value.
    pub(super) fn value(&self, token: &HeaderValue) -> Option<HeaderValue> {
        if &*self.scheme == BEARER {
            return Some(token.clone());
        }
        let text = format!("{} {}", self.scheme, bare(token));
        let mut value = HeaderValue::try_from(text.trim_start()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// The token without its scheme.
fn bare(token: &HeaderValue) -> &str {
    let text = token.to_str().unwrap_or_default();
    text.trim_start_matches("Bearer ")
}

/// The token in use.
pub(super) enum Token {
    Fixed(HeaderValue),
    File(Watched<HeaderValue>),
    Fetched(Box<OAuth2>),
    Printed(Box<Program>),
}

impl Token {
    pub(super) fn new(source: Source) -> Result<Self, SetupError> {
        Ok(match source {
            Source::Value(value) => {
                let header = bearer(value.expose_secret())
                    .map_err(|detail| SetupError::new("provider.auth.token", detail))?;
                Self::Fixed(header)
            }
            Source::File(path) => {
                let file = Watched::new(path, "token", bearer)
                    .map_err(|detail| SetupError::new("provider.auth.token_file", detail))?;
                Self::File(file)
            }
            Source::OAuth2(config) => Self::Fetched(Box::new(OAuth2::new(config)?)),
            Source::Program { command, time_max } => {
                Self::Printed(Box::new(Program::new(command, time_max)?))
            }
        })
    }

    /// Accesses the state of a token that is fetched. None for other tokens.
    fn fetched<T>(&self, look: impl FnOnce(&mut Fetched) -> T) -> Option<T> {
        match self {
            Self::Fixed(_) | Self::File(_) => None,
            Self::Fetched(oauth2) => Some(look(&mut oauth2.lock().fetched)),
            Self::Printed(program) => Some(look(&mut program.lock().fetched)),
        }
    }

    pub(super) fn state(&self) -> TokenState {
        self.fetched(|fetched| fetched.state())
            .unwrap_or(TokenState::Ready)
    }

    /// The header for the next request. None if a token has to be fetched first.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::Fixed(header) => Some(header.clone()),
            Self::File(file) => Some(file.current()),
            Self::Fetched(_) | Self::Printed(_) => self.fetched(|fetched| fetched.header())?,
        }
    }

    /// The provider accepted this token.
    pub(super) fn accepted(&self, header: &HeaderValue) {
        self.fetched(|fetched| fetched.accepted(header));
    }

    /// The provider refused this token. Returns whether there is another one by now, or one can be fetched.
    pub(super) fn refused(&self, header: &HeaderValue) -> bool {
        match self {
            Self::File(file) => file.read_again() != header,
            _ => self.fetched(|fetched| fetched.refused(header)) == Some(Verdict::Renew),
        }
    }

    /// Waits until the credentials have changed.
    pub(super) async fn changed(&self) {
        match self {
            Self::Fixed(_) | Self::Printed(_) => std::future::pending().await,
            Self::File(file) => file.changed().await,
            Self::Fetched(oauth2) => oauth2.changed().await,
        }
    }

    /// Values that must not be repeated in errors and events: this token, and what it was fetched with.
    pub(super) fn credentials(&self, header: &HeaderValue) -> Vec<SecretString> {
        let mut credentials = vec![SecretString::from(bare(header))];
        credentials.extend(self.oauth2().into_iter().flat_map(OAuth2::credentials));
        credentials
    }

    pub(super) fn oauth2(&self) -> Option<&OAuth2> {
        match self {
            Self::Fixed(_) | Self::File(_) | Self::Printed(_) => None,
            Self::Fetched(oauth2) => Some(oauth2),
        }
    }

    pub(super) fn program(&self) -> Option<&Program> {
        match self {
            Self::Fixed(_) | Self::File(_) | Self::Fetched(_) => None,
            Self::Printed(program) => Some(program),
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, &'static str> {
    let token = token.trim();
    if token.is_empty() {
        return Err("the token is empty; put a bearer token there");
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(
            "the token contains spaces, line breaks or characters that an HTTP header can't contain; put only the \
             token there, without `Bearer`",
        );
    }
    let mut header = HeaderValue::try_from(format!("{BEARER} {token}"))
        .map_err(|_| "the token is not a valid HTTP header value; put a bearer token there")?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::super::testbed::scratch_file;
    use super::*;

    fn value(text: &str) -> Result<Token, SetupError> {
        Token::new(Source::Value(SecretString::from(text)))
    }

    #[test]
    fn whitespace_around_a_token_is_trimmed() {
        assert_eq!(
            value(" abc.def \r\n").unwrap().header().unwrap(),
            "Bearer abc.def"
        );
    }

    #[test]
    fn invalid_header_value_is_refused_and_not_quoted() {
        for bad in ["", "  \n", "Bearer hunter2", "hunter2\nhunter2", "hunterü"] {
            let error = value(bad).map(|_| ()).unwrap_err();
            assert_eq!(error.key, "provider.auth.token");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }

    #[test]
    fn header_does_not_print_the_token() {
        let header = value("hunter2").unwrap().header();
        assert!(!format!("{header:?}").contains("hunter2"));
    }

    #[test]
    fn token_can_have_another_scheme_or_none() {
        let token = value("hunter2").unwrap().header().unwrap();
        for (scheme, expected) in [
            ("Bearer", "Bearer hunter2"),
            ("SSWS", "SSWS hunter2"),
            ("", "hunter2"),
        ] {
            let value = CredentialHeader::of(Kind::Rest, "authorization", scheme)
                .unwrap()
                .value(&token)
                .unwrap();
            assert_eq!(value, expected);
            assert!(value.is_sensitive(), "{scheme}");
        }
    }

    #[test]
    fn file_without_a_token_is_named_and_not_quoted() {
        let file = scratch_file("two\nhunter2");
        let error = Token::new(Source::File(file.path().into()))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("token_file") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn refused_token_is_replaced_if_the_file_has_another() {
        let file = scratch_file("first\n");
        let token = Token::new(Source::File(file.path().into())).unwrap();
        let first = token.header().unwrap();
        assert!(!token.refused(&first));
        file.write("other");
        assert_eq!(token.header().unwrap(), first, "checked once a second only");
        assert!(token.refused(&first));
        assert!(token.refused(&first), "for each call that used the first");
        let other = token.header().unwrap();
        assert_eq!(other, "Bearer other");
        file.write("");
        assert!(!token.refused(&other));
        assert_eq!(
            token.header().unwrap(),
            other,
            "a failed rotation keeps the old token"
        );
        let fixed = value("x").unwrap();
        assert!(!fixed.refused(&fixed.header().unwrap()));
    }
}
