//! What answers tell beside their meaning: the other side's clock and its certificate. For `usher check` alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use reqwest::Response;
use reqwest::header::{AGE, DATE, HeaderMap};
use reqwest::tls::TlsInfo;

use super::no_answer::{Peer, Place, is_of_expired_certificate};
use crate::clock::Clock;

/// What is known of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sighting {
    /// How far its clock is ahead of this machine's, to about a second.
    pub ahead: Option<SignedDuration>,
    /// Its certificate, in DER.
    pub certificate: Option<Vec<u8>>,
    /// Its certificate was refused because its time is over.
    pub expired: bool,
}

/// By host and port: the provider, and its token endpoint.
#[derive(Default)]
pub struct Witness(Mutex<BTreeMap<String, Sighting>>);

impl Witness {
    pub fn sightings(&self) -> BTreeMap<String, Sighting> {
        self.lock().clone()
    }

    pub(super) fn saw(&self, response: &Response, clock: &Clock) {
        let tls = response.extensions().get::<TlsInfo>();
        let mut known = self.lock();
        let sighting = known.entry(Place(response.url()).to_string()).or_default();
        sighting.ahead = ahead(response.headers(), clock.now()).or(sighting.ahead);
        if let Some(certificate) = tls.and_then(TlsInfo::peer_certificate) {
            sighting.certificate = Some(certificate.to_vec());
        }
    }

    pub(super) fn had_no_answer(&self, error: &reqwest::Error, peer: &Peer<'_>) {
        let mut known = self.lock();
        let sighting = known.entry(Place(peer.url).to_string()).or_default();
        sighting.expired = is_of_expired_certificate(error);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Sighting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer out of a cache has the time at which it was made.
fn ahead(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    if headers.contains_key(AGE) {
        return None;
    }
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(Timestamp::try_from(date).ok()?.duration_since(now))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_date_of_a_fresh_answer_is_the_other_sides_clock() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let of = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            ahead(&pairs.collect(), now)
        };
        let date = ("date", "Sat, 21 Nov 2026 10:02:00 GMT");
        assert_eq!(of(&[date]), Some(SignedDuration::from_mins(2)));
        assert_eq!(
            of(&[("date", "Sat, 21 Nov 2026 09:59:30 GMT")]),
            Some(SignedDuration::from_secs(-30))
        );
        assert_eq!(of(&[date, ("age", "60")]), None);
        assert_eq!(of(&[("date", "tomorrow")]), None);
        assert_eq!(of(&[]), None);
    }
}
