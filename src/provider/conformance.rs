//! What every adapter guarantees to `worker::attempts`, tested for each kind against its simulation.

mod answers;
mod codes;
mod versions;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::scim::{self, Scim};
use super::testbed::{TIMEOUT, canned, command_with, error, http, simulated_with, user_id};
use super::{Comparison, Kind, Provider, ProviderError, Updated, User};
use crate::contract::{Fault, Reason, UpdateUser};
use crate::simulator::quota::QuotaKind;
use crate::simulator::{Faults, QuotaHeaders, STARTING_VERSION, ScimDialect, Settings, Simulated};

/// A code that the configuration lists, for the kinds without a known list.
pub(super) const CONFIGURED: &str = "quota_of_names";

/// The adapter under test, in its default configuration, with its simulation.
#[derive(Debug, Clone, Copy)]
struct Subject {
    kind: Kind,
    /// Used by SCIM only.
    dialect: ScimDialect,
}

impl Subject {
    /// Each kind, and SCIM in each dialect.
    fn all() -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().flat_map(|kind| {
            let dialects = match kind {
                Kind::Scim => &ScimDialect::ALL[..],
                _ => &[ScimDialect::Lenient],
            };
            dialects.iter().map(move |dialect| Self {
                kind,
                dialect: *dialect,
            })
        })
    }

    fn settings(self) -> Settings {
        Settings {
            scim_dialect: self.dialect,
            ..Settings::new(self.kind)
        }
    }

    async fn against(self, settings: Settings, timeout: Duration) -> (Simulated, Arc<dyn Provider>) {
        let simulated = simulated_with(settings).await;
        let http = http(&simulated.base_url(), timeout);
        let provider = match self.kind {
            Kind::Scim => Arc::new(Scim::new(&scim::Config::default(), http).unwrap()),
            kind => kind.tested(http),
        };
        (simulated, provider)
    }

    async fn both(self) -> (Simulated, Arc<dyn Provider>) {
        self.against(self.settings(), TIMEOUT).await
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.dialect)
    }
}

fn adapter(kind: Kind, base_url: &str, timeout: Duration) -> Arc<dyn Provider> {
    kind.tested(http(base_url, timeout))
}

fn command(kind: Kind, user: &str, update: &Value) -> UpdateUser {
    let more = match kind {
        Kind::Sivo => json!({"expectedVersion": STARTING_VERSION}),
        _ => json!({}),
    };
    command_with(user, update, &more)
}

fn some_fields() -> Value {
    json!({"email": "alex@example.com", "phone": "+61412345678", "givenName": "Alex", "familyName": "Taylor"})
}

/// A user without any members, in the form in which the kind's adapter reads one.
fn blank_user(kind: Kind) -> User {
    match kind {
        Kind::Zitadel => User(json!({})),
        _ => User("{}".into()),
    }
}

/// Each form of a request that the provider refuses costs one request; only a few forms can be wrong.
const FORMS_MAX: usize = 5;

/// Sends the command as `worker::attempts` does, with a read first if the adapter needs one.
async fn apply(provider: &dyn Provider, command: &UpdateUser) -> Result<Updated, ProviderError> {
    provider.check(command).unwrap();
    let mut reads = provider.reads_before_write(command);
    for _ in 0..FORMS_MAX {
        let current = match reads {
            true => Some(provider.read(&command.user_id).await?),
            false => None,
        };
        match provider.update(command, current.as_ref()).await {
            Err(error) if error.fault == Fault::ReadFirst => reads = true,
            ended => return ended,
        }
    }
    panic!("the provider accepts no form of the write");
}

async fn compared(provider: &dyn Provider, command: &UpdateUser) -> Comparison {
    provider.compare(command, &provider.read(&command.user_id).await.unwrap())
}

#[tokio::test]
async fn written_values_match_when_read_back() {
    for subject in Subject::all() {
        let kind = subject.kind;
        let (simulated, provider) = subject.both().await;
        assert!(provider.reads());
        let command = command(kind, "a/b", &some_fields());
        assert_eq!(
            compared(&*provider, &command).await,
            Comparison::Differs,
            "{subject}"
        );
        let updated = apply(&*provider, &command).await.unwrap();
        assert!(updated.codes.is_empty());
        assert_eq!(
            compared(&*provider, &command).await,
            Comparison::Matches,
            "{subject}"
        );
        assert!(provider.is_idempotent(&command));
        assert_eq!(simulated.user("a/b").unwrap()["writes"], 1);
        assert!(simulated.calls().iter().all(|call| call.user == "a/b"));
    }
}

#[tokio::test]
async fn each_refusal_has_the_right_fault() {
    let plain = some_fields();
    let rejected = json!({"givenName": "rejected", "familyName": "x"});
    let taken = json!({"email": "taken@x.example"});
    for subject in Subject::all() {
        let kind = subject.kind;
        let (_simulated, provider) = subject.both().await;
        for (user, update, fault) in [
            ("missing", &plain, Fault::Command(Reason::NotFound)),
            ("forbidden", &plain, Fault::Denied),
            ("broken", &plain, Fault::Broken),
            ("locked", &plain, Fault::Command(Reason::Conflict)),
            ("u", &taken, Fault::Command(Reason::Conflict)),
            ("u", &rejected, Fault::Command(Reason::Rejected)),
        ] {
            let error = error(apply(&*provider, &command(kind, user, update)).await);
            assert_eq!(error.fault, fault, "{subject} {user} {update}");
            assert!(error.status.is_some());
        }
    }
}

#[tokio::test]
async fn read_without_json_is_broken() {
    for kind in Kind::ALL {
        for body in ["", "true", r#"{"user":{"#] {
            let server = canned("200 OK", "", body).await;
            let provider = adapter(kind, &server.base_url, TIMEOUT);
            let error = error(provider.read(&user_id("u")).await);
            assert_eq!(error.fault, Fault::Broken, "{kind} {body}");
        }
    }
}

#[tokio::test]
async fn write_with_a_lost_answer_is_unknown_and_applied_once() {
    for subject in Subject::all() {
        let kind = subject.kind;
        let (simulated, provider) = subject.both().await;
        let command = command(kind, "vanishing", &some_fields());
        assert_eq!(
            error(apply(&*provider, &command).await).fault,
            Fault::Unknown,
            "{subject}"
        );
        assert_eq!(
            compared(&*provider, &command).await,
            Comparison::Matches,
            "{subject}"
        );
        assert_eq!(simulated.user("vanishing").unwrap()["writes"], 1, "{subject}");
    }
}

#[tokio::test]
async fn write_applied_before_a_503_is_broken_and_applied_once() {
    for subject in Subject::all() {
        let kind = subject.kind;
        let (simulated, provider) = subject.both().await;
        // Afterwards, the dialect is known.
        apply(&*provider, &self::command(kind, "first", &some_fields()))
            .await
            .unwrap();
        let command = command(kind, "u", &some_fields());
        let current = provider.read(&command.user_id).await.unwrap();
        simulated.set_faults(Faults {
            broken_after: 1.0,
            ..Faults::default()
        });
        let broken = error(provider.update(&command, Some(&current)).await);
        assert_eq!(
            (broken.fault, broken.status),
            (Fault::Broken, Some(503)),
            "{subject}"
        );
        simulated.set_faults(Faults::default());
        assert_eq!(
            compared(&*provider, &command).await,
            Comparison::Matches,
            "{subject}"
        );
        assert_eq!(simulated.user("u").unwrap()["writes"], 1, "{subject}");
    }
}

#[tokio::test]
async fn calls_beyond_the_quota_report_how_long_to_wait() {
    for subject in Subject::all() {
        let quota = QuotaKind::Bucket {
            per_second: 1,
            burst: 1,
        };
        let settings = Settings {
            quota: Some(quota),
            ..subject.settings()
        };
        let (_simulated, provider) = subject.against(settings, TIMEOUT).await;
        provider.read(&user_id("u")).await.unwrap();
        let retry_after = Some(Duration::from_secs(1));
        let throttled = error(provider.read(&user_id("u")).await);
        assert_eq!(throttled.fault, Fault::Throttled { retry_after }, "{subject}");
        assert_eq!(throttled.status, Some(429));
    }
}

#[tokio::test]
async fn every_form_of_quota_header_is_read() {
    let minute = Duration::from_secs(60);
    let calls = 10;
    for (form, limit) in [
        (QuotaHeaders::RateLimit, Some((10, minute))),
        (QuotaHeaders::XRateLimit, None),
        (QuotaHeaders::XRateLimitEpoch, None),
        (QuotaHeaders::XRateLimitMs, None),
    ] {
        let simulated = simulated_with(Settings {
            quota: Some(QuotaKind::Fixed {
                calls,
                window: minute,
            }),
            quota_headers: form,
            ..Settings::new(Kind::Zitadel)
        })
        .await;
        let provider = adapter(Kind::Zitadel, &simulated.base_url(), TIMEOUT);
        for (user, remaining) in [("u", 9), ("missing", 8), ("broken", 7)] {
            let _ = provider.read(&user_id(user)).await;
            let hint = provider.access().rate_limit_hint().unwrap();
            assert_eq!((hint.limit, hint.remaining), (limit, Some(remaining)), "{form:?}");
            // Dates and timestamps have whole seconds.
            let reset = hint.reset.unwrap();
            assert!(
                reset > minute - TIMEOUT && reset <= minute + Duration::from_secs(2),
                "{reset:?}"
            );
        }
    }
}

#[tokio::test]
async fn invalid_quota_headers_are_ignored() {
    let simulated = simulated_with(Settings {
        quota_headers: QuotaHeaders::Wrong,
        ..Settings::new(Kind::Zitadel)
    })
    .await;
    let provider = adapter(Kind::Zitadel, &simulated.base_url(), TIMEOUT);
    for _ in 0..8 {
        provider.read(&user_id("u")).await.unwrap();
        assert_eq!(provider.access().rate_limit_hint(), None);
    }
}

#[tokio::test]
async fn rejected_token_is_the_workers_fault() {
    for subject in Subject::all() {
        let (simulated, provider) = subject.both().await;
        simulated.set_token(Some("other".into()));
        assert_eq!(
            error(provider.read(&user_id("u")).await).fault,
            Fault::Credentials,
            "{subject}"
        );
    }
}

#[tokio::test]
async fn stopped_provider_is_unreachable_and_silent_one_unknown() {
    for subject in Subject::all() {
        let timeout = Duration::from_millis(300);
        let (simulated, provider) = subject.against(subject.settings(), timeout).await;
        simulated.set_faults(Faults {
            slow: 1.0,
            slow_ms: 60_000,
            ..Faults::default()
        });
        assert_eq!(
            error(provider.read(&user_id("u")).await).fault,
            Fault::Unknown,
            "{subject}"
        );
        simulated.stop().await;
        assert_eq!(
            error(provider.read(&user_id("u")).await).fault,
            Fault::Unreachable,
            "{subject}"
        );
    }
}

#[tokio::test]
async fn blocks_of_other_kinds_are_refused_by_name() {
    let blocks = [
        (Kind::Zitadel, json!({"gender": "male"})),
        (Kind::Sivo, json!({"lists": null})),
        (Kind::Mattr, json!({"claims": {"a": 1}})),
        (Kind::Scim, json!({"active": true})),
    ];
    for kind in Kind::ALL {
        let provider = adapter(kind, "http://unused.example", TIMEOUT);
        for (other, block) in blocks.iter().filter(|(other, _)| *other != kind) {
            let failure = provider
                .check(&command(kind, "u", &json!({ other.as_str(): block })))
                .unwrap_err();
            assert_eq!(failure.reason, Reason::UnsupportedField);
            assert_eq!(failure.pointer, Some(format!("/update/{other}")), "{kind}");
            assert!(failure.detail.contains(kind.as_str()), "{failure}");
        }
        if !matches!(kind, Kind::Sivo | Kind::Scim) {
            let versioned = command_with("u", &some_fields(), &json!({"expectedVersion": "1"}));
            let failure = provider.check(&versioned).unwrap_err();
            assert_eq!(failure.pointer.as_deref(), Some("/expectedVersion"), "{kind}");
        }
    }
}
