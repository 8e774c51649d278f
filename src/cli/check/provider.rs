//! Whether the provider answers, accepts the token and can do what is asked; its clock, its certificate, and its quota.

use jiff::{SignedDuration, Timestamp};
use usher::clock::Clock;
use usher::config::Config;
use usher::contract::{Fault, RateLimitHint, Reason, UserId};
use usher::operations::findings::Number;
use usher::provider::http::{Sighting, Witness};
use usher::provider::{Provider, ProviderError, Remark, TokenState};

use super::certificates;
use super::report::Finding;

/// `Date` has whole seconds, and an answer takes its time.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(30);

pub(super) async fn look(config: &Config, provider: &dyn Provider, witness: &Witness) -> Vec<Finding> {
    let mut findings = access(config, provider, witness).await;
    if findings.iter().all(Finding::is_ok) {
        findings.extend(abilities(provider).await);
    }
    findings.extend(quota(config, provider.access().rate_limit_hint()));
    let now = Clock::System.now();
    for (host, sighting) in witness.sightings() {
        findings.extend(seen(&host, &sighting, now));
    }
    findings
}

/// If a token has to be fetched, that is checked first: without one the provider can't be asked.
async fn access(config: &Config, provider: &dyn Provider, witness: &Witness) -> Vec<Finding> {
    if provider.access().token() != TokenState::Missing {
        return reach(config, provider, witness).await;
    }
    let Err(error) = provider.access().fetch_token().await else {
        let had = match config.provider.auth.token_command {
            Some(_) => "is printed by the program of token_command",
            None => "is fetched from token_url",
        };
        let mut findings = vec![Finding::ok("token", had)];
        findings.extend(reach(config, provider, witness).await);
        return findings;
    };
    let code = error.code.as_deref().map(|code| format!(" ({code})"));
    let detail = format!("{error}{}", code.unwrap_or_default());
    let number = match number_of(&error, witness) {
        Number::RefusedConfiguration => Number::Credentials,
        number => number,
    };
    vec![Finding::of(number, "token", detail)]
}

/// Whether the configuration or the other side is at fault.
fn number_of(error: &ProviderError, witness: &Witness) -> Number {
    match error.fault {
        Fault::Credentials | Fault::CredentialsRenewed | Fault::Denied => Number::Credentials,
        Fault::Command(_) | Fault::Configuration => Number::RefusedConfiguration,
        Fault::Unreachable if witness.sightings().values().any(|seen| seen.expired) => {
            Number::ExpiredCertificate
        }
        Fault::Throttled { .. }
        | Fault::Again
        | Fault::Unprocessed
        | Fault::ReadFirst
        | Fault::Worker
        | Fault::Unreachable
        | Fault::Broken
        | Fault::Unknown => Number::ProviderUnreachable,
    }
}

/// Reads a user that is unlikely to exist: the provider's "no such user" shows that the token is accepted.
async fn reach(config: &Config, provider: &dyn Provider, witness: &Witness) -> Vec<Finding> {
    let at = &config.provider.base_url;
    let Some(nobody) = UserId::parse("usher-check").filter(|_| provider.reads()) else {
        return vec![Finding::ok(
            "provider",
            format!("{at}: not tried: no path to read a user is configured"),
        )];
    };
    let answers = Finding::ok("provider", format!("{at} answers"));
    let Err(error) = provider.read(&nobody).await else {
        return vec![answers, Finding::ok("token", "is accepted")];
    };
    match error.fault {
        Fault::Command(Reason::NotFound | Reason::Rejected) | Fault::Throttled { .. } => {
            vec![answers, Finding::ok("token", "is accepted")]
        }
        Fault::Credentials | Fault::CredentialsRenewed | Fault::Denied => {
            vec![
                answers,
                Finding::of(Number::Credentials, "token", error.to_string()),
            ]
        }
        _ => {
            let number = number_of(&error, witness);
            vec![Finding::of(number, "provider", format!("{at}: {error}"))]
        }
    }
}

/// What the provider says of its abilities. If that can't be read, updates may still work.
async fn abilities(provider: &dyn Provider) -> Vec<Finding> {
    match provider.remarks().await {
        Ok(remarks) => remarks.into_iter().map(ability).collect(),
        Err(error) => vec![Finding::of(
            Number::NotChecked,
            "abilities",
            format!("are not known: {error}"),
        )],
    }
}

fn ability(remark: Remark) -> Finding {
    match remark.workable {
        true => Finding::ok("abilities", remark.detail),
        false => Finding::of(Number::Abilities, "abilities", remark.detail),
    }
}

/// What the provider says of its quota, if anything, against what is configured.
fn quota(config: &Config, hint: Option<RateLimitHint>) -> Option<Finding> {
    let (calls, window) = hint?.limit?;
    let allowed = calls as f64 / window.as_secs_f64().max(f64::MIN_POSITIVE);
    let said = format!("the provider allows {calls} calls in {} s", window.as_secs_f64());
    Some(match config.provider.rate.ceiling(config.provider.share) {
        Some(ceiling) if ceiling > allowed * 1.01 => Finding::of(
            Number::LowerQuota,
            "quota",
            format!("{said}, which is {allowed:.2} calls/s; {ceiling:.2} are configured"),
        ),
        Some(ceiling) => Finding::ok("quota", format!("{said}; {ceiling:.2} calls/s are configured")),
        None => Finding::ok(
            "quota",
            format!("{said}; none is configured, so the pace is learned"),
        ),
    })
}

fn seen(host: &str, sighting: &Sighting, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(ahead) = sighting.ahead {
        let seconds = ahead.as_secs().unsigned_abs();
        let detail = match ahead.is_negative() {
            true => format!("{host} is {seconds} s behind this machine"),
            false => format!("{host} is {seconds} s ahead of this machine"),
        };
        findings.push(match ahead.abs() > SKEW_MAX {
            true => Finding::of(Number::Skew, "clock", detail),
            false => Finding::ok("clock", format!("{host} and this machine agree")),
        });
    }
    if let Some(certificate) = &sighting.certificate {
        let whose = format!("that of {host}");
        findings.push(certificates::look(
            Number::ProviderCertificate,
            &whose,
            certificate,
            now,
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(rate: &str) -> Config {
        let variables = [
            ("PROVIDER__NAME", "p"),
            ("PROVIDER__KIND", "zitadel"),
            ("PROVIDER__BASE_URL", "https://x"),
            ("PROVIDER__AUTH__TOKEN", "t"),
            ("PROVIDER__RATE__PER_SECOND", rate),
        ];
        let set = variables.into_iter().filter(|(_, value)| !value.is_empty());
        let set = set.map(|(key, value)| (format!("USHER_{key}"), value.to_owned()));
        usher::config::load(None, set).unwrap()
    }

    #[test]
    fn a_quota_below_the_configured_rate_is_found() {
        let of = |rate: &str, limit| {
            let hint = RateLimitHint {
                limit,
                ..RateLimitHint::default()
            };
            quota(&config(rate), Some(hint)).map(|found| found.number)
        };
        let minute = Duration::from_secs(60);
        assert_eq!(of("50", Some((100, minute))), Some(Some(Number::LowerQuota)));
        assert_eq!(of("50", Some((3000, minute))), Some(None));
        assert_eq!(of("", Some((100, minute))), Some(None));
        assert_eq!(of("50", None), None);
    }

    #[test]
    fn a_clock_that_differs_by_more_than_half_a_minute_is_found() {
        let of = |seconds| {
            let sighting = Sighting {
                ahead: Some(SignedDuration::from_secs(seconds)),
                ..Sighting::default()
            };
            seen("x:443", &sighting, Timestamp::UNIX_EPOCH).remove(0)
        };
        assert_eq!(of(-31).number, Some(Number::Skew));
        assert_eq!(of(31).detail, "x:443 is 31 s ahead of this machine");
        assert_eq!(of(-30).number, None);
        assert_eq!(of(30).number, None);
    }

    #[test]
    fn a_provider_that_can_apply_no_command_is_found() {
        let of = |workable| {
            ability(Remark {
                detail: "users are read-only".into(),
                workable,
            })
        };
        assert_eq!(of(false).number, Some(Number::Abilities));
        assert_eq!(of(true).number, None);
    }

    #[test]
    fn each_fault_has_its_number() {
        let of = |fault| number_of(&ProviderError::new(fault, "x"), &Witness::default());
        assert_eq!(of(Fault::Denied), Number::Credentials);
        assert_eq!(of(Fault::Configuration), Number::RefusedConfiguration);
        assert_eq!(of(Fault::Broken), Number::ProviderUnreachable);
    }
}
