//! The bearer token: where it comes from, whether there is one, and what its refusal means.
//!
//! It becomes a header that is marked sensitive; nothing here prints it.

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

/// Where the token comes from.
#[derive(Debug, Clone)]
pub enum Source {
    Value(SecretString),
    /// Read again when it changes.
    File(PathBuf),
    /// Fetched, and fetched again before it expires.
    OAuth2(oauth2::Config),
    /// Printed by a program, and again before it expires.
    Program {
        command: Vec<String>,
        time_max: Duration,
    },
}

/// The word before the token, as it is kept.
const BEARER: &str = "Bearer";

/// How the token stands in a request.
pub(super) struct CredentialHeader {
    header: HeaderName,
    /// The word before the token; empty: the token stands alone.
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
    /// As the table of the kind has it under `credential_header` and `credential_scheme`.
    pub(super) fn of(kind: Kind, header: &str, scheme: &str) -> Result<Self, SetupError> {
        let key = |name: &str| format!("provider.{kind}.{name}");
        let header = HeaderName::try_from(header).ok();
        let header =
            header.filter(|header| *header == AUTHORIZATION || !RESERVED_HEADERS.contains(&header.as_str()));
        let header = header.ok_or_else(|| {
            let detail =
                "must be the name of an HTTP header that carries nothing else, such as authorization";
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

    /// The header's value for a token as it is kept. None, where a header can't hold the two.
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

/// The token alone.
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

    /// What is known of a token that is fetched. None where it is not.
    fn fetched<T>(&self, look: impl FnOnce(&mut Fetched) -> T) -> Option<T> {
        match self {
            Self::Fixed(_) | Self::File(_) => None,
            Self::Fetched(oauth2) => Some(look(&mut oauth2.held().fetched)),
            Self::Printed(program) => Some(look(&mut program.held().fetched)),
        }
    }

    pub(super) fn state(&self) -> TokenState {
        self.fetched(|fetched| fetched.state())
            .unwrap_or(TokenState::Ready)
    }

    /// The header for the next request; none where a token has to be fetched first.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::Fixed(header) => Some(header.clone()),
            Self::File(file) => Some(file.current()),
            Self::Fetched(_) | Self::Printed(_) => self.fetched(|fetched| fetched.header())?,
        }
    }

    /// The provider let this token in.
    pub(super) fn accepted(&self, header: &HeaderValue) {
        self.fetched(|fetched| fetched.accepted(header));
    }

    /// The provider refused this token. True where there is another by now, or one can be fetched.
    pub(super) fn refused(&self, header: &HeaderValue) -> bool {
        match self {
            Self::File(file) => file.read_again() != header,
            _ => self.fetched(|fetched| fetched.refused(header)) == Some(Verdict::Renew),
        }
    }

    /// Waits until other credentials are found.
    pub(super) async fn changed(&self) {
        match self {
            Self::Fixed(_) | Self::Printed(_) => std::future::pending().await,
            Self::File(file) => file.changed().await,
            Self::Fetched(oauth2) => oauth2.changed().await,
        }
    }

    /// What nothing that is told may repeat: this token, and what it was fetched with.
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
            "the token has spaces, line breaks or characters that an HTTP header can't carry; put the token \
             alone there, without `Bearer`",
        );
    }
    let mut header = HeaderValue::try_from(format!("{BEARER} {token}"))
        .map_err(|_| "the token can't be carried by an HTTP header; put a bearer token there")?;
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
    fn white_space_around_a_token_is_trimmed() {
        assert_eq!(
            value(" abc.def \r\n").unwrap().header().unwrap(),
            "Bearer abc.def"
        );
    }

    #[test]
    fn what_no_header_can_carry_is_refused_and_not_quoted() {
        for bad in ["", "  \n", "Bearer hunter2", "hunter2\nhunter2", "hunterü"] {
            let error = value(bad).map(|_| ()).unwrap_err();
            assert_eq!(error.key, "provider.auth.token");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }

    #[test]
    fn the_header_prints_nothing_of_the_token() {
        let header = value("hunter2").unwrap().header();
        assert!(!format!("{header:?}").contains("hunter2"));
    }

    #[test]
    fn another_scheme_or_none_stands_before_the_same_token() {
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
    fn a_file_with_no_token_in_it_is_named_and_not_quoted() {
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
    fn a_refused_token_is_replaced_when_the_file_holds_another() {
        let file = scratch_file("first\n");
        let token = Token::new(Source::File(file.path().into())).unwrap();
        let first = token.header().unwrap();
        assert!(!token.refused(&first));
        file.write("other");
        assert_eq!(token.header().unwrap(), first, "looked at once a second only");
        assert!(token.refused(&first));
        assert!(
            token.refused(&first),
            "for each call that went out with the first"
        );
        let other = token.header().unwrap();
        assert_eq!(other, "Bearer other");
        file.write("");
        assert!(!token.refused(&other));
        assert_eq!(
            token.header().unwrap(),
            other,
            "a bad rotation keeps the token that was read"
        );
        let fixed = value("x").unwrap();
        assert!(!fixed.refused(&fixed.header().unwrap()));
    }
}
