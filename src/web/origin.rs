//! Which requests a browser sends for a port's own pages.
//!
//! A browser on the same machine reaches a loopback port, too, and sends whatever a web page asks it to. So a
//! request from a page of another site is refused, and so is one to a host name, which a foreign name server
//! may have pointed here (DNS rebinding).

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is not of the port's own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It was sent to another name.
    Host,
    /// A page of another site sent it.
    Site,
}

/// The host that a request is sent to: an IP address, `localhost`, or one of these names.
pub fn host<'a>(headers: &'a HeaderMap, names: &[String]) -> Result<&'a str, Foreign> {
    let Ok(Some(host)) = only(headers, &HOST) else {
        return Err(Foreign::Host);
    };
    let name = without_port(host).unwrap_or_default();
    let is_named = names.iter().any(|known| known.eq_ignore_ascii_case(name));
    match is_named || is_address(name) {
        true => Ok(host),
        false => Err(Foreign::Host),
    }
}

/// Refuses requests that a browser sends for a page of another site. `schemes`: those of the port's own pages.
pub fn from_here(headers: &HeaderMap, names: &[String], schemes: &[&str]) -> Result<(), Foreign> {
    let host = host(headers, names)?;
    let of_here = match only(headers, &ORIGIN) {
        Ok(None) => true,
        Ok(Some(origin)) => schemes
            .iter()
            .filter_map(|scheme| origin.strip_prefix(scheme))
            .any(|origin| origin.eq_ignore_ascii_case(host)),
        Err(()) => false,
    };
    let of_this_site = match only(headers, &SEC_FETCH_SITE) {
        Ok(site) => site.is_none_or(|site| site == "same-origin" || site == "none"),
        Err(()) => false,
    };
    match of_here && of_this_site {
        true => Ok(()),
        false => Err(Foreign::Site),
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let sent = only(headers, &AUTHORIZATION).ok().flatten();
    let (scheme, sent) = sent?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| sent.trim())
}

/// Compares in constant time.
pub fn is_same(sent: &str, token: &SecretString) -> bool {
    bool::from(sent.as_bytes().ct_eq(token.expose_secret().as_bytes()))
}

/// The header's only value. An error if there are several, or it is not text.
#[expect(clippy::result_unit_err, reason = "which of the two it is changes nothing")]
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

fn without_port(host: &str) -> Option<&str> {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    }
}

fn is_address(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}
