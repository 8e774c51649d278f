//! What every adapter owes the handler, tried on each against the simulation of its kind.

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

/// A code that the configuration lists, for the kinds of which no list is known.
pub(super) const CONFIGURED: &str = "quota_of_names";

/// What is tried: an adapter in its default configuration, against its simulation.
#[derive(Debug, Clone, Copy)]
struct Subject {
    kind: Kind,
    /// For SCIM alone.
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

/// A user of whom nothing is shown, in the form in which the kind's adapter reads one.
fn blank_user(kind: Kind) -> User {
    match kind {
        Kind::Zitadel => User(json!({})),
        _ => User("{}".into()),
    }
}

/// A form that is not the provider's costs one request, and few of a request's forms can be wrong.
const FORMS_MAX: usize = 5;

/// Sends the command as the handler does, with a read first where that is asked for.
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
    panic!("the provider takes no form of the write");
}

async fn compared(provider: &dyn Provider, command: &UpdateUser) -> Comparison {
    provider.compare(command, &provider.read(&command.user_id).await.unwrap())
}

#[tokio::test]
async fn what_is_written_reads_back_as_asked() {
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
async fn each_refusal_is_whose_fault_it_is() {
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
async fn a_read_that_is_no_json_is_broken() {
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
async fn a_write_whose_answer_is_lost_is_unknown_and_happened_once() {
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
async fn a_write_that_is_applied_before_a_503_is_broken_and_happened_once() {
    for subject in Subject::all() {
        let kind = subject.kind;
        let (simulated, provider) = subject.both().await;
        // The dialect is known after it.
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
async fn past_the_quota_the_provider_says_how_long_to_wait() {
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
async fn what_each_form_of_header_says_of_the_quota_is_understood() {
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
            let told = provider.access().rate_limit_hint().unwrap();
            assert_eq!((told.limit, told.remaining), (limit, Some(remaining)), "{form:?}");
            // A date has whole seconds, and so have moments.
            let reset = told.reset.unwrap();
            assert!(
                reset > minute - TIMEOUT && reset <= minute + Duration::from_secs(2),
                "{reset:?}"
            );
        }
    }
}

#[tokio::test]
async fn wrong_headers_of_the_quota_say_nothing() {
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
async fn a_token_that_is_not_accepted_is_the_workers_fault() {
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
async fn a_stopped_provider_is_unreachable_and_a_silent_one_unknown() {
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
async fn another_kinds_members_are_refused_by_name() {
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
