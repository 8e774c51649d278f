//! Who may act on the worker through the admin port. Whoever reaches the port may read.
//!
//! A browser on the same machine reaches a loopback port too, and sends whatever a web page asks it to: so a
//! request that a page of another site made is refused, and so is one to a host name that somebody else's name
//! server may have pointed here.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::io::AsyncReadExt;

use crate::config;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A longer file is no token's.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// What guards the actions.
#[derive(Debug, Clone)]
pub struct Access {
    /// Nobody on another machine reaches the port.
    loopback: bool,
    token: Token,
}

#[derive(Debug, Clone)]
enum Token {
    None,
    Value(SecretString),
    File(PathBuf),
}

/// Why an action is refused, and how it is allowed.
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

    /// The token that actions need, where one is configured. A file is read each time, so a new token counts at
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
            // A broken file opens no door.
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
                "actions need a token where admin.listen is no loopback address: name a file with \
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

/// In a time that doesn't depend on how much of the token is right.
fn carries(headers: &HeaderMap, token: &SecretString) -> bool {
    let sent = only(headers, &AUTHORIZATION).ok().flatten();
    let sent = sent.and_then(|sent| sent.split_once(' '));
    sent.is_some_and(|(scheme, sent)| {
        scheme.eq_ignore_ascii_case("bearer")
            && bool::from(sent.trim().as_bytes().ct_eq(token.expose_secret().as_bytes()))
    })
}

/// Refuses what a browser sends for a page of another site.
fn from_here(headers: &HeaderMap) -> Result<(), Refused> {
    let refused = |detail: &str| Err(Refused(StatusCode::FORBIDDEN, detail.to_owned()));
    let named = "Host must be the port's IP address or localhost: another name may lead here without its owner's \
                 knowledge";
    let Ok(Some(host)) = only(headers, &HOST) else {
        return refused(named);
    };
    if !is_address(host) {
        return refused(named);
    }
    let of_here = match only(headers, &ORIGIN) {
        Ok(None) => true,
        Ok(Some(origin)) => origin
            .strip_prefix("http://")
            .is_some_and(|origin| origin.eq_ignore_ascii_case(host)),
        Err(()) => false,
    };
    let of_this_site = match only(headers, &SEC_FETCH_SITE) {
        Ok(site) => site.is_none_or(|site| site == "same-origin" || site == "none"),
        Err(()) => false,
    };
    match of_here && of_this_site {
        true => Ok(()),
        false => refused("a page of another site may not act on the worker; use `usher resume` or curl"),
    }
}

/// The header's one value. An error where there are several, or it is no text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// An IP address or `localhost`, with a port or without.
fn is_address(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}
