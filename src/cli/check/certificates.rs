//! When a certificate ends.

use jiff::{SignedDuration, Timestamp};
use usher::operations::findings::Number;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::report::Finding;

/// Renewing takes people. Those who renew by themselves do it earlier than this.
const SOON: SignedDuration = SignedDuration::from_hours(21 * 24);

/// `whose`: whose certificate, and where. `number`: what it is if it ends soon.
pub(super) fn look(number: Number, whose: &str, certificate: &[u8], now: Timestamp) -> Finding {
    const WHAT: &str = "certificate";
    let Some(end) = end(certificate) else {
        return Finding::of(
            Number::NotChecked,
            WHAT,
            format!("{whose}: its certificate can't be read"),
        );
    };
    match end.duration_since(now) {
        left if left < SOON => Finding::of(
            number,
            WHAT,
            format!("{whose} ends at {end}, in {} days", left.as_hours() / 24),
        ),
        _ => Finding::ok(WHAT, format!("{whose} is valid until {end}")),
    }
}

fn end(certificate: &[u8]) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_that_ends_within_three_weeks_is_found() {
        let mut params = CertificateParams::new(["x".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2026, 12, 20);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let of = |now: &str| look(Number::BrokerCertificate, "x", der.der(), now.parse().unwrap());
        assert_eq!(of("2026-11-28T23:00:00Z").number, None);
        let soon = of("2026-11-30T00:00:00Z");
        assert_eq!(soon.number, Some(Number::BrokerCertificate));
        assert_eq!(soon.detail, "x ends at 2026-12-20T00:00:00Z, in 20 days");
        let unreadable = look(Number::BrokerCertificate, "x", b"no", Timestamp::UNIX_EPOCH);
        assert_eq!(unreadable.number, Some(Number::NotChecked));
    }
}
