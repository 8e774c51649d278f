//! Why there is no answer: who can't be reached where, and what to do about it.
//!
//! It is told by the types of what the client's error was caused by. The client's own words name the whole URL, so
//! they are not used.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use jiff::Timestamp;
use reqwest::Url;
use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error as TlsError};

use super::super::proxy;
use crate::contract::Fault;
use crate::provider::ProviderError;

/// Whom a request was for.
#[derive(Clone, Copy)]
pub(in crate::provider) struct Peer<'a> {
    /// As details name it: `the provider`.
    pub(in crate::provider) name: &'static str,
    /// The key that holds its address.
    pub(in crate::provider) key: &'static str,
    pub(in crate::provider) url: &'a Url,
    /// What may have happened, where it is not known whether the request arrived.
    pub(in crate::provider) aftermath: &'static str,
}

/// What is wrong with a connection, and what to do about it.
struct Trouble {
    what: String,
    remedy: String,
}

impl Trouble {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

pub(in crate::provider) fn no_answer(error: &reqwest::Error, peer: &Peer<'_>) -> ProviderError {
    if lacks_descriptors(error) {
        return ProviderError::new(
            Fault::Worker,
            "the worker has no file descriptor left for a call, which is no fault of the provider: raise its limit \
             (ulimit -n, LimitNOFILE), or see what holds them",
        );
    }
    if error.is_connect() || error.is_builder() {
        return ProviderError::new(Fault::Unreachable, unreachable(error, peer));
    }
    if causes(error).any(is_unprocessed) {
        let detail = format!(
            "{} shut the connection before it looked at the request",
            peer.name
        );
        return ProviderError::new(Fault::Unprocessed, detail);
    }
    if error.is_timeout() {
        let detail = format!(
            "{} did not answer within the time-out{}",
            peer.name, peer.aftermath
        );
        return ProviderError::new(Fault::Unknown, detail);
    }
    let not_http = |cause: &(dyn Error + 'static)| {
        cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse)
    };
    if causes(error).any(not_http) {
        let scheme = match peer.url.scheme() {
            "http" => "; if it speaks TLS, write https://",
            _ => "",
        };
        let detail = format!(
            "what answers at {} does not speak HTTP{scheme}; see whether {} leads to {}{}",
            Place(peer.url),
            peer.key,
            peer.name,
            peer.aftermath,
        );
        return ProviderError::new(Fault::Unknown, detail);
    }
    let detail = format!(
        "the connection to {} was lost before the answer{}",
        peer.name, peer.aftermath
    );
    ProviderError::new(Fault::Unknown, detail)
}

/// Whether the error says that the request was never looked at (RFC 9113, sections 6.8 and 8.7): h2 gives the error of a
/// GOAWAY from the other side to the streams above its last one alone, and hyper calls a request canceled that it has
/// not begun to send.
fn is_unprocessed(cause: &(dyn Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        return error.is_remote() && (error.is_go_away() || refused);
    }
    cause
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_canceled)
}

/// Whether this process, or its machine, may open no more files (EMFILE, ENFILE).
pub(in crate::provider) fn lacks_descriptors(error: &(dyn Error + 'static)) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| matches!(cause.raw_os_error(), Some(ENFILE | EMFILE)))
}

fn unreachable(error: &reqwest::Error, peer: &Peer<'_>) -> String {
    let proxy = proxy::on_the_way_to(peer.url.as_str());
    let tls = causes(error).find_map(|cause| cause.downcast_ref::<TlsError>());
    let trouble = match (tls, &proxy) {
        (Some(tls), _) => of_tls(tls, peer),
        (None, None) => of_network(error, peer.name, peer.key),
        (None, Some(_)) => of_network(
            error,
            "the proxy",
            "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY",
        ),
    };
    let through = proxy.map(|proxy| format!(" through the environment's proxy {proxy}"));
    format!(
        "{} can't be reached at {}{}: {}; {}",
        peer.name,
        Place(peer.url),
        through.unwrap_or_default(),
        trouble.what,
        trouble.remedy
    )
}

/// No connection, or one that ends before TLS has begun.
fn of_network(error: &reqwest::Error, whose: &str, key: &str) -> Trouble {
    let io = causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .last();
    if error.is_dns() {
        let said = io.map_or(String::new(), |io| format!(" ({io})"));
        return Trouble::new(
            format!("the name of {whose} is not known{said}"),
            format!("correct {key}, or see to this machine's DNS"),
        );
    }
    if error.is_timeout() {
        return Trouble::new(
            "time-out while connecting, nothing answers there",
            format!("see whether {whose} runs, a firewall lets the worker through, and {key} is right"),
        );
    }
    let what = match io.map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => "the connection is refused".into(),
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
            "there is no way through the network".into()
        }
        Some(
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof,
        ) => "the connection was closed before it was set up".into(),
        _ => io.map_or("no connection can be made".into(), |io| {
            format!("no connection can be made ({io})")
        }),
    };
    Trouble::new(
        what,
        format!("see whether {whose} runs and takes connections there, and {key} is right"),
    )
}

fn of_tls(error: &TlsError, peer: &Peer<'_>) -> Trouble {
    match error {
        TlsError::InvalidCertificate(certificate) => of_certificate(certificate, peer),
        TlsError::InvalidMessage(_) => Trouble::new(
            "it answers in plain text where TLS was asked for",
            format!(
                "correct the port in {}, or write http:// there where nobody can listen in",
                peer.key
            ),
        ),
        TlsError::AlertReceived(_) | TlsError::PeerIncompatible(_) => Trouble::new(
            format!("it does not agree to TLS ({error})"),
            "see which versions and ciphers it allows, and whether it asks for a client's certificate",
        ),
        _ => Trouble::new(
            format!("the TLS handshake failed ({error})"),
            format!("see whether {} leads to {}", peer.key, peer.name),
        ),
    }
}

fn of_certificate(error: &CertificateError, peer: &Peer<'_>) -> Trouble {
    use CertificateError as Certificate;
    let since = |at: &UnixTime| match i64::try_from(at.as_secs()).map(Timestamp::from_second) {
        Ok(Ok(at)) => format!(" {at}"),
        _ => String::new(),
    };
    let expired = |at: String| {
        Trouble::new(
            format!("its certificate has expired{at}"),
            "have it renewed, or set this machine's clock",
        )
    };
    let not_yet = |at: String| {
        Trouble::new(
            format!("its certificate is not valid yet{at}"),
            "set this machine's clock, or have it issued anew",
        )
    };
    match error {
        Certificate::Expired => expired(String::new()),
        Certificate::ExpiredContext { not_after, .. } => expired(since(not_after)),
        Certificate::NotValidYet => not_yet(String::new()),
        Certificate::NotValidYetContext { not_before, .. } => not_yet(since(not_before)),
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => Trouble::new(
            "its certificate is for another name",
            format!(
                "write the name into {} that the certificate has, or have one issued for this name",
                peer.key
            ),
        ),
        // The second: there is one of the same name, with another key.
        Certificate::UnknownIssuer | Certificate::BadSignature => Trouble::new(
            "its certificate comes from an issuer that this machine does not trust",
            "add the issuer's certificate to the machine's, or name a file with it in SSL_CERT_FILE, or have the \
             server send its whole chain",
        ),
        _ => Trouble::new(
            format!("its certificate can't be trusted ({error})"),
            "have a valid one issued",
        ),
    }
}

/// Host and port.
struct Place<'a>(&'a Url);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or_default())?;
        match self.0.port_or_known_default() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The error, and what it was caused by. An `io::Error` names as its source what the error inside it was caused by,
/// not that error itself.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| {
        let cause = *cause;
        match cause.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}
