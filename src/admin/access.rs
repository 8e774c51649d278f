//! Which requests may act on the worker through the admin port. Any client that reaches the port may read.

use std::io;
use std::path::PathBuf;

use axum::http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;

use crate::config;
use crate::web::origin::{self, Foreign};

/// The most bytes that are read of a token's file.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// Guards the actions.
#[derive(Debug, Clone)]
pub struct Access {
    /// Whether only this machine can reach the port.
    loopback: bool,
    token: Token,
}

#[derive(Debug, Clone)]
enum Token {
    None,
    Value(SecretString),
    File(PathBuf),
}

/// Why an action is refused, and how to get it allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

impl Access {
    pub fn new(config: &config::Admin) -> Self {
        let token = match (&config.token, &config.token_file) {
            (Some(token), _) => Token::Value(token.clone()),
            (None, Some(file)) => Token::File(file.clone()),
            (None, None) => Token::None,
        };
        Self {
            loopback: config.listen.ip().is_loopback(),
            token,
        }
    }

    /// The token that actions need, if one is configured. A file is read each time, so a new token is valid at
    /// once.
    pub async fn token(&self) -> io::Result<Option<SecretString>> {
        let token = match &self.token {
            Token::None => return Ok(None),
            Token::Value(token) => token.clone(),
            Token::File(path) => {
                let mut text = String::new();
                let file = tokio::fs::File::open(path).await?;
                file.take(FILE_BYTES_MAX).read_to_string(&mut text).await?;
                SecretString::from(text)
            }
        };
        let token = token.expose_secret().trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let detail = "it is empty, or holds more than the visible ASCII characters of one token";
            return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
        }
        Ok(Some(SecretString::from(token)))
    }

    /// Whether a request with these headers may change something.
    pub(super) async fn may_act(&self, headers: &HeaderMap) -> Result<(), Refused> {
        from_here(headers)?;
        let token = self.token().await.map_err(|error| {
            // An unreadable token file must not allow actions.
            tracing::warn!(%error, "admin: the token can't be read; actions are refused");
            Refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "the worker can't read admin.token_file; write the token into it".to_owned(),
            )
        })?;
        match token {
            None if self.loopback => Ok(()),
            None => Err(Refused(
                StatusCode::FORBIDDEN,
                "actions need a token because admin.listen is not a loopback address: name a file with \
                 admin.token_file, or set USHER_ADMIN__TOKEN, and send it as Authorization: Bearer"
                    .to_owned(),
            )),
            Some(token) if carries(headers, &token) => Ok(()),
            Some(_) => Err(Refused(
                StatusCode::UNAUTHORIZED,
                "actions need the token of admin.token or admin.token_file as Authorization: Bearer"
                    .to_owned(),
            )),
        }
    }
}

fn carries(headers: &HeaderMap, token: &SecretString) -> bool {
    origin::bearer(headers).is_some_and(|sent| origin::is_same(sent, token))
}

/// Refuses requests that a browser sends for a page of another site.
fn from_here(headers: &HeaderMap) -> Result<(), Refused> {
    let why = match origin::from_here(headers, &[], &["http://"]) {
        Ok(()) => return Ok(()),
        Err(Foreign::Host) => {
            "Host must be the port's IP address or localhost: another name may lead here without its owner's knowledge"
        }
        Err(Foreign::Site) => "a page of another site may not act on the worker; use `usher resume` or curl",
    };
    Err(Refused(StatusCode::FORBIDDEN, why.to_owned()))
}
