//! Why there is no answer: which peer can't be reached where, and how to fix it.
//!
//! The causes of the client's error are recognised by their types. Their texts contain the whole URL, so they are not
//! used.

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

/// The peer of a request.
#[derive(Clone, Copy)]
pub(in crate::provider) struct Peer<'a> {
    /// Its name in details: `the provider`.
    pub(in crate::provider) name: &'static str,
    /// The configuration key of its address.
    pub(in crate::provider) key: &'static str,
    pub(in crate::provider) url: &'a Url,
    /// What may have happened, if it is unknown whether the request arrived.
    pub(in crate::provider) possible_effect: &'static str,
}

/// What is wrong with a connection, and how to fix it.
struct Problem {
    what: String,
    remedy: String,
}

impl Problem {
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
            "the worker has no file descriptor left for a call, which is not the provider's fault: raise its limit \
             (ulimit -n, LimitNOFILE), or find out what uses them",
        );
    }
    if error.is_connect() || error.is_builder() {
        return ProviderError::new(Fault::Unreachable, unreachable(error, peer));
    }
    if causes(error).any(is_unprocessed) {
        let detail = format!(
            "{} closed the connection before it processed the request",
            peer.name
        );
        return ProviderError::new(Fault::Unprocessed, detail);
    }
    if error.is_timeout() {
        let detail = format!(
            "{} did not answer within the time limit{}",
            peer.name, peer.possible_effect
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
            "http" => "; if it uses TLS, write https://",
            _ => "",
        };
        let detail = format!(
            "the server at {} does not speak HTTP{scheme}; check whether {} is the address of {}{}",
            Place(peer.url),
            peer.key,
            peer.name,
            peer.possible_effect,
        );
        return ProviderError::new(Fault::Unknown, detail);
    }
    let detail = format!(
        "the connection to {} was lost before the answer{}",
        peer.name, peer.possible_effect
    );
    ProviderError::new(Fault::Unknown, detail)
}

/// Whether the error proves that the request was not processed (RFC 9113, sections 6.8 and 8.7). h2 reports a remote
/// GOAWAY only to the streams above its last one, and hyper cancels only requests that it has not begun to send.
fn is_unprocessed(cause: &(dyn Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        return error.is_remote() && (error.is_go_away() || refused);
    }
    cause
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_canceled)
}

/// Whether this process, or its machine, can open no more files (EMFILE, ENFILE).
pub(in crate::provider) fn lacks_descriptors(error: &(dyn Error + 'static)) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| matches!(cause.raw_os_error(), Some(ENFILE | EMFILE)))
}

fn unreachable(error: &reqwest::Error, peer: &Peer<'_>) -> String {
    let proxy = proxy::proxy_for(peer.url.as_str());
    let tls = causes(error).find_map(|cause| cause.downcast_ref::<TlsError>());
    let problem = match (tls, &proxy) {
        (Some(tls), _) => of_tls(tls, peer),
        (None, None) => of_network(error, peer.name, peer.key),
        (None, Some(_)) => of_network(
            error,
            "the proxy",
            "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY",
        ),
    };
    let via = proxy.map(|proxy| format!(" through the environment's proxy {proxy}"));
    format!(
        "{} can't be reached at {}{}: {}; {}",
        peer.name,
        Place(peer.url),
        via.unwrap_or_default(),
        problem.what,
        problem.remedy
    )
}

/// No connection, or one that ends before TLS begins.
fn of_network(error: &reqwest::Error, whose: &str, key: &str) -> Problem {
    let io = causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .last();
    if error.is_dns() {
        let reason = io.map_or(String::new(), |io| format!(" ({io})"));
        return Problem::new(
            format!("the host name of {whose} can't be resolved{reason}"),
            format!("correct {key}, or check this machine's DNS"),
        );
    }
    if error.is_timeout() {
        return Problem::new(
            "connecting timed out",
            format!("check whether {whose} is running, a firewall blocks the worker, and {key} is right"),
        );
    }
    let what = match io.map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => "the connection is refused".into(),
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
            "there is no network route to it".into()
        }
        Some(
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof,
        ) => "the connection was closed while it was being set up".into(),
        _ => io.map_or("the connection failed".into(), |io| {
            format!("the connection failed ({io})")
        }),
    };
    Problem::new(
        what,
        format!("check whether {whose} is running and accepts connections there, and {key} is right"),
    )
}

fn of_tls(error: &TlsError, peer: &Peer<'_>) -> Problem {
    match error {
        TlsError::InvalidCertificate(certificate) => of_certificate(certificate, peer),
        TlsError::InvalidMessage(_) => Problem::new(
            "it answers in plain text instead of TLS",
            format!(
                "correct the port in {}, or write http:// there if the network is private",
                peer.key
            ),
        ),
        TlsError::AlertReceived(_) | TlsError::PeerIncompatible(_) => Problem::new(
            format!("it refuses the TLS connection ({error})"),
            "check which versions and ciphers it allows, and whether it requires a client certificate",
        ),
        _ => Problem::new(
            format!("the TLS handshake failed ({error})"),
            format!("check whether {} is the address of {}", peer.key, peer.name),
        ),
    }
}

fn of_certificate(error: &CertificateError, peer: &Peer<'_>) -> Problem {
    use CertificateError as Certificate;
    let since = |at: &UnixTime| match i64::try_from(at.as_secs()).map(Timestamp::from_second) {
        Ok(Ok(at)) => format!(" {at}"),
        _ => String::new(),
    };
    let expired = |at: String| {
        Problem::new(
            format!("its certificate has expired{at}"),
            "renew it, or correct this machine's clock",
        )
    };
    let not_yet = |at: String| {
        Problem::new(
            format!("its certificate is not valid yet{at}"),
            "correct this machine's clock, or have it reissued",
        )
    };
    match error {
        Certificate::Expired => expired(String::new()),
        Certificate::ExpiredContext { not_after, .. } => expired(since(not_after)),
        Certificate::NotValidYet => not_yet(String::new()),
        Certificate::NotValidYetContext { not_before, .. } => not_yet(since(not_before)),
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => Problem::new(
            "its certificate is for another name",
            format!(
                "use the certificate's name in {}, or have a certificate issued for this name",
                peer.key
            ),
        ),
        // BadSignature: an issuer of the same name is trusted, but with another key.
        Certificate::UnknownIssuer | Certificate::BadSignature => Problem::new(
            "its certificate comes from an issuer that this machine does not trust",
            "add the issuer's certificate to this machine's trust store, or set SSL_CERT_FILE to a file with it, or have \
             the server send its whole chain",
        ),
        _ => Problem::new(
            format!("its certificate can't be trusted ({error})"),
            "install a valid one",
        ),
    }
}

/// Whether the peer's certificate is refused because its time is over.
pub(super) fn is_of_expired_certificate(error: &reqwest::Error) -> bool {
    use CertificateError::{Expired, ExpiredContext};
    let of = |cause: &(dyn Error + 'static)| {
        matches!(
            cause.downcast_ref(),
            Some(TlsError::InvalidCertificate(Expired | ExpiredContext { .. }))
        )
    };
    causes(error).any(of)
}

/// Host and port.
pub(super) struct Place<'a>(pub(super) &'a Url);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or_default())?;
        match self.0.port_or_known_default() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The error and its causes. An `io::Error` reports as its source the cause of its inner error, and skips the inner
/// error itself.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| {
        let cause = *cause;
        match cause.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}
