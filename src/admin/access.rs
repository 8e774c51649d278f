//! Which requests may act on the worker through the admin port. Any client that reaches the port may read.
//!
//! A browser on the same machine reaches a loopback port, too, and sends whatever a web page asks it to. So a
//! request from a page of another site is refused, and so is one to a host name, which a foreign name server
//! may have pointed here (DNS rebinding).

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

/// Compares in constant time.
fn carries(headers: &HeaderMap, token: &SecretString) -> bool {
    let sent = only(headers, &AUTHORIZATION).ok().flatten();
    let sent = sent.and_then(|sent| sent.split_once(' '));
    sent.is_some_and(|(scheme, sent)| {
        scheme.eq_ignore_ascii_case("bearer")
            && bool::from(sent.trim().as_bytes().ct_eq(token.expose_secret().as_bytes()))
    })
}

/// Refuses requests that a browser sends for a page of another site.
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

/// The header's only value. An error if there are several, or it is not text.
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
