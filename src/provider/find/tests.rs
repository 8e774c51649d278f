//! Tests of what a search proves, and of the searches of each kind against its simulation.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::super::testbed::{TIMEOUT, canned, error, http, simulated, simulated_with};
use super::super::{Kind, Provider};
use super::*;
use crate::provider::equal::Case;
use crate::simulator::{self, Op};

const HAS: Option<bool> = Some(true);
const DIFFERS: Option<bool> = Some(false);

fn judged(candidates: &[(Option<&str>, Option<bool>)], total: Option<u64>) -> Result<Found, Fault> {
    let answer = Answer::new(Method::GET, 200, HeaderMap::new(), Vec::new());
    let candidates = candidates.iter().map(|(id, has_key)| Candidate {
        id: *id,
        has_key: *has_key,
    });
    judge(&answer, candidates, total).map_err(|error| error.fault)
}

#[test]
fn only_a_single_user_that_shows_the_key_is_found() {
    let one = Ok(Found::One(UserId::parse("u1").unwrap()));
    let (u1, u2) = ((Some("u1"), HAS), (Some("u2"), HAS));
    for (candidates, total, expected) in [
        (&[][..], None, Ok(Found::Nobody)),
        (&[], Some(0), Ok(Found::Nobody)),
        (&[u1], None, one.clone()),
        (&[u1], Some(1), one.clone()),
        // The provider matches parts of values, and all of its matches are shown.
        (&[u1, (Some("u3"), DIFFERS)], Some(2), one.clone()),
        (&[(Some("u3"), DIFFERS)], Some(1), Ok(Found::Nobody)),
        (&[u1, u1], Some(2), one),
        (&[u1, u2], Some(2), Ok(Found::Several)),
        (&[u1], Some(2), Ok(Found::Several)),
        (&[u1, (Some("u2"), None)], None, Ok(Found::Several)),
    ] {
        assert_eq!(judged(candidates, total), expected, "{candidates:?} {total:?}");
    }
}

#[test]
fn an_answer_that_proves_nothing_is_an_error_and_no_id() {
    for (candidates, total) in [
        // It ignores the filter and shows its first users.
        (&[(Some("u1"), DIFFERS)][..], Some(20)),
        (&[(Some("u1"), DIFFERS), (Some("u2"), DIFFERS)], None),
        (&[], Some(1)),
        (&[(Some("u1"), None)], Some(1)),
        (&[(None, HAS)], Some(1)),
        (&[(Some(""), HAS)], Some(1)),
    ] {
        assert_eq!(
            judged(candidates, total),
            Err(Fault::Configuration),
            "{candidates:?}"
        );
    }
}

#[test]
fn an_address_has_any_case_and_an_own_id_its_own() {
    assert!(FindBy::Email.is_same(Case::Folded, "Alex@Example.com", "alex@example.com"));
    assert!(FindBy::Username.is_same(Case::Folded, "alex", "ALEX"));
    assert!(!FindBy::Username.is_same(Case::Exact, "alex", "ALEX"));
    assert!(!FindBy::Email.is_same(Case::Exact, "Alex@example.com", "alex@example.com"));
    assert!(!FindBy::ExternalId.is_same(Case::Exact, "a-1", "A-1"));
    assert!(!FindBy::Email.is_same(Case::Exact, "alex@example.com", "alex@example.com.evil.example"));
    for by in FindBy::ALL {
        assert_eq!(by.as_str().parse(), Ok(by));
    }
}

/// The kinds that can find users by an e-mail address.
const FINDING: [Kind; 4] = [Kind::Zitadel, Kind::Mattr, Kind::Scim, Kind::Rest];

async fn both(kind: Kind) -> (simulator::Simulated, Arc<dyn Provider>) {
    let simulated = simulated(kind).await;
    let provider = kind.tested(http(&simulated.base_url(), TIMEOUT));
    (simulated, provider)
}

fn one(id: &str) -> Found {
    Found::One(UserId::parse(id).unwrap())
}

#[tokio::test]
async fn each_kind_that_can_finds_users_by_their_keys_in_one_read_only_request() {
    for kind in FINDING {
        let (simulated, provider) = both(kind).await;
        // Elsewhere it may be another user.
        let any_case = match kind {
            Kind::Scim => one("alex"),
            _ => Found::Nobody,
        };
        for (key, expected) in [
            ("alex@users.example", one("alex")),
            ("ALEX@users.example", any_case),
            ("missing-1@users.example", Found::Nobody),
            ("twin-1@users.example", Found::Several),
            ("o'neil \"x\"@users.example", one("o'neil \"x\"")),
        ] {
            let found = provider.find(FindBy::Email, key).await;
            assert_eq!(found.unwrap(), expected, "{kind} {key}");
        }
        let calls = simulated.calls();
        assert_eq!(calls.len(), 5, "{kind}");
        assert!(
            calls.iter().all(|call| call.op == Op::Search && !call.applied),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn an_address_that_was_changed_finds_its_user_by_the_new_one() {
    for kind in FINDING {
        let (_simulated, provider) = both(kind).await;
        let command = super::super::testbed::command("alex", &json!({"email": "new@example.com"}));
        let current = provider.read(&command.user_id).await.unwrap();
        provider.update(&command, Some(&current)).await.unwrap();
        for (key, expected) in [
            ("new@example.com", one("alex")),
            ("alex@users.example", Found::Nobody),
        ] {
            // SCIM keeps the address of another type beside it.
            if kind == Kind::Scim && key == "alex@users.example" {
                continue;
            }
            assert_eq!(
                provider.find(FindBy::Email, key).await.unwrap(),
                expected,
                "{kind} {key}"
            );
        }
    }
}

#[tokio::test]
async fn user_names_and_own_ids_are_found_where_the_kind_keeps_them() {
    for (kind, by) in [
        (Kind::Scim, FindBy::Username),
        (Kind::Scim, FindBy::ExternalId),
        (Kind::Zitadel, FindBy::Username),
    ] {
        let (_simulated, provider) = both(kind).await;
        assert_eq!(provider.finds(by), Ok(()));
        assert_eq!(
            provider.find(by, "alex").await.unwrap(),
            one("alex"),
            "{kind} {by}"
        );
    }
}

#[tokio::test]
async fn a_kind_that_can_not_find_users_says_why_and_what_to_do_and_sends_nothing() {
    for (kind, by) in [
        (Kind::Karmo, FindBy::Email),
        (Kind::Sivo, FindBy::Username),
        (Kind::Zitadel, FindBy::ExternalId),
        (Kind::Mattr, FindBy::ExternalId),
        (Kind::Rest, FindBy::ExternalId),
    ] {
        let (simulated, provider) = both(kind).await;
        let why = provider.finds(by).unwrap_err();
        assert!(why.contains("make the id map") || why.contains("; "), "{why}");
        let refused = error(provider.find(by, "alex").await);
        assert_eq!(refused.fault, Fault::Configuration, "{kind}");
        assert_eq!(simulated.calls().len(), 0, "{kind}");
    }
}

/// The request line, and the body, of a search.
async fn sent(kind: Kind, by: FindBy) -> (String, Value) {
    let server = canned("503 Service Unavailable", "", "").await;
    let provider = kind.tested(http(&server.base_url, TIMEOUT));
    error(provider.find(by, "a+b@example.com").await);
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let line = head
        .lines()
        .next()
        .unwrap()
        .trim_end_matches(" HTTP/1.1")
        .to_owned();
    (line, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn the_request_of_each_kind_has_its_documented_form() {
    let filter = "%20eq%20%22a%2Bb%40example.com%22&count=2";
    let nothing = Value::Null;
    for (kind, by, line, body) in [
        (
            Kind::Scim,
            FindBy::Email,
            format!("GET /Users?filter=emails.value{filter}"),
            nothing.clone(),
        ),
        (
            Kind::Scim,
            FindBy::Username,
            format!("GET /Users?filter=userName{filter}"),
            nothing.clone(),
        ),
        (
            Kind::Scim,
            FindBy::ExternalId,
            format!("GET /Users?filter=externalId{filter}"),
            nothing.clone(),
        ),
        (
            Kind::Zitadel,
            FindBy::Email,
            "POST /v2/users".to_owned(),
            json!({"query": {"limit": 2}, "queries": [{"emailQuery":
                {"emailAddress": "a+b@example.com", "method": "TEXT_QUERY_METHOD_EQUALS_IGNORE_CASE"}}]}),
        ),
        (
            Kind::Zitadel,
            FindBy::Username,
            "POST /v2/users".to_owned(),
            json!({"query": {"limit": 2}, "queries": [{"userNameQuery":
                {"userName": "a+b@example.com", "method": "TEXT_QUERY_METHOD_EQUALS_IGNORE_CASE"}}]}),
        ),
        (
            Kind::Mattr,
            FindBy::Username,
            "POST /v1/users/search".to_owned(),
            json!({"claims": {"preferred_username": "a+b@example.com"}, "limit": 2}),
        ),
        (
            Kind::Rest,
            FindBy::Email,
            "GET /users?email=a%2Bb%40example.com".to_owned(),
            nothing.clone(),
        ),
    ] {
        assert_eq!(sent(kind, by).await, (line, body), "{kind} {by}");
    }
}

#[tokio::test]
async fn a_refused_token_a_throttled_call_and_garbage_are_errors_and_not_an_absent_user() {
    for kind in FINDING {
        for (status, body, expected) in [
            ("401 Unauthorized", "{}", Fault::Credentials),
            (
                "429 Too Many Requests",
                "{}",
                Fault::Throttled { retry_after: None },
            ),
            ("502 Bad Gateway", "<html>", Fault::Unknown),
            ("200 OK", "[1]", Fault::Broken),
            ("200 OK", "{\"other\":1}", Fault::Broken),
        ] {
            let server = canned(status, "content-type: application/json\r\n", body).await;
            let provider = kind.tested(http(&server.base_url, TIMEOUT));
            let refused = error(provider.find(FindBy::Email, "alex@example.com").await);
            let is_place = kind == Kind::Rest && refused.fault == Fault::Configuration;
            assert!(
                refused.fault == expected || is_place,
                "{kind} {status} {refused:?}"
            );
            assert!(!refused.detail.contains("command"), "{kind} {status}: {refused}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_ignores_the_filter_gives_no_id() {
    let listed = json!({"id": "u9", "userId": "u9", "userName": "other", "username": "other", "email": "o@example.com",
        "emails": [{"value": "o@example.com"}], "claims": {"email": "o@example.com"},
        "human": {"email": {"email": "o@example.com"}}});
    for kind in [Kind::Zitadel, Kind::Mattr, Kind::Scim] {
        let users = json!([listed, listed]);
        let body = json!({"Resources": users, "totalResults": 900, "data": users, "result": users,
            "details": {"totalResult": "900"}});
        let server = canned("200 OK", "content-type: application/json\r\n", &body.to_string()).await;
        let provider = kind.tested(http(&server.base_url, TIMEOUT));
        let refused = error(provider.find(FindBy::Email, "alex@example.com").await);
        assert_eq!(refused.fault, Fault::Configuration, "{kind}");
        assert!(refused.detail.contains("no id was taken"), "{refused}");
    }
}

#[tokio::test]
async fn a_search_of_a_throttled_simulation_says_how_long_to_wait() {
    let settings = simulator::Settings {
        quota: Some(simulator::quota::QuotaKind::Bucket {
            per_second: 1,
            burst: 1,
        }),
        ..simulator::Settings::new(Kind::Scim)
    };
    let simulated = simulated_with(settings).await;
    let provider = Kind::Scim.tested(http(&simulated.base_url(), TIMEOUT));
    provider.find(FindBy::Username, "a").await.unwrap();
    let refused = error(provider.find(FindBy::Username, "b").await);
    assert!(
        matches!(refused.fault, Fault::Throttled { retry_after: Some(_) }),
        "{refused:?}"
    );
}
