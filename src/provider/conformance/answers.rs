//! What each kind makes of real-world answers: each row of the table, for every kind.

use super::*;
use crate::provider::karmo;
use crate::provider::testbed::canned_raw;

const REJECTED: Fault = Fault::Command(Reason::Rejected);
const NOT_FOUND: Fault = Fault::Command(Reason::NotFound);
const CONFLICT: Fault = Fault::Command(Reason::Conflict);
const VERSION_CONFLICT: Fault = Fault::Command(Reason::VersionConflict);
const THROTTLED: Fault = Fault::Throttled { retry_after: None };
const COME_BACK: Fault = Fault::Throttled {
    retry_after: Some(Duration::from_secs(3)),
};

/// An error in the format of the kind's own API.
fn own_error(kind: Kind, status: u16) -> String {
    let body = match kind {
        Kind::Scim => json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": status.to_string(), "detail": "no",
        }),
        Kind::Zitadel => json!({"code": 3, "message": "no", "details": []}),
        _ => json!({"code": "none", "message": "no"}),
    };
    body.to_string()
}

async fn answer_to_a_write(
    kind: Kind,
    status: u16,
    headers: &str,
    body: &[u8],
) -> Result<Updated, ProviderError> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    let server = canned_raw([head.as_bytes(), body].concat()).await;
    let provider = adapter(kind, &server.base_url, TIMEOUT);
    let current = blank_user(kind);
    provider
        .update(&command(kind, "u", &some_fields()), Some(&current))
        .await
}

#[tokio::test]
async fn error_in_the_apis_format_has_the_fault_of_its_status() {
    for kind in Kind::ALL {
        for (status, headers, fault) in [
            (400, "", REJECTED),
            (401, "", Fault::Credentials),
            (402, "", REJECTED),
            (403, "", Fault::Denied),
            (403, "retry-after: 3\r\n", COME_BACK),
            (403, "x-ratelimit-remaining: 0\r\n", THROTTLED),
            (403, "x-ratelimit-remaining: 1\r\n", Fault::Denied),
            (403, "ratelimit: \"d\";r=0;t=3\r\n", COME_BACK),
            (404, "", NOT_FOUND),
            (405, "", Fault::Configuration),
            (408, "", Fault::Again),
            (409, "", CONFLICT),
            (410, "", REJECTED),
            (411, "", Fault::Configuration),
            (412, "", VERSION_CONFLICT),
            (413, "", Fault::Configuration),
            (414, "", Fault::Configuration),
            (415, "", Fault::Configuration),
            (421, "", Fault::Again),
            (422, "", REJECTED),
            (423, "", Fault::Again),
            (425, "", Fault::Again),
            (426, "", Fault::Configuration),
            (428, "", Fault::Configuration),
            (429, "", THROTTLED),
            (429, "retry-after: 3\r\n", COME_BACK),
            (431, "", Fault::Configuration),
            (500, "", Fault::Broken),
            (501, "", Fault::Configuration),
            (502, "", Fault::Unknown),
            (503, "", Fault::Broken),
            (503, "retry-after: 3\r\n", COME_BACK),
            (504, "", Fault::Unknown),
            (505, "", Fault::Configuration),
            (511, "", Fault::Configuration),
            (599, "", Fault::Broken),
        ] {
            let body = own_error(kind, status);
            let answer = answer_to_a_write(kind, status, headers, body.as_bytes()).await;
            assert_eq!(error(answer).fault, fault, "{kind} {status} {headers}");
        }
    }
}

#[tokio::test]
async fn body_from_an_intermediary_is_never_the_commands_fault() {
    let html = "content-type: text/html; charset=utf-8\r\n";
    for kind in Kind::ALL {
        for (headers, body) in [
            ("", ""),
            ("", "alex@example.com"),
            (html, "<html>Alex</html>"),
            ("", "[]"),
            ("", "null"),
        ] {
            for status in [400, 402, 404, 409, 410, 412, 422] {
                let answer = answer_to_a_write(kind, status, headers, body.as_bytes()).await;
                let error = error(answer);
                assert_eq!(
                    (error.fault, &error.code),
                    (Fault::Broken, &None),
                    "{kind} {status} {body}"
                );
            }
        }
        let answer = answer_to_a_write(kind, 403, html, b"<html>").await;
        assert_eq!(error(answer).fault, Fault::Broken, "{kind}");
        for (status, fault) in [
            (401, Fault::Credentials),
            (403, Fault::Denied),
            (429, THROTTLED),
            (502, Fault::Unknown),
            (503, Fault::Broken),
        ] {
            let answer = answer_to_a_write(kind, status, "", b"").await;
            assert_eq!(error(answer).fault, fault, "{kind} {status}");
        }
    }
}

#[tokio::test]
async fn not_found_from_an_intermediary_does_not_mean_a_missing_user() {
    for kind in [Kind::Scim, Kind::Zitadel, Kind::Mattr] {
        let answer = answer_to_a_write(kind, 404, "", br#"{"message":"no Route matched"}"#).await;
        let error = error(answer);
        assert_eq!(error.fault, Fault::Broken, "{kind}");
        assert!(error.detail.contains("base_url"), "{error}");
    }
}

#[tokio::test]
async fn write_is_applied_if_its_success_has_no_usable_body() {
    let json = "content-type: application/json\r\n";
    let long = "x".repeat(2 << 20);
    for kind in Kind::ALL {
        for (status, headers, body) in [
            (200, "", &b""[..]),
            (200, json, b" \r\n"),
            (200, json, b"null"),
            (200, json, b"true"),
            (200, json, b"[]"),
            (200, json, b"\xef\xbb\xbf{}"),
            (200, json, b"{\"id\": "),
            (200, json, b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
            (200, json, b"\xff\xfe{\x00}\x00"),
            (200, json, long.as_bytes()),
            (200, "content-type: text/html\r\n", b""),
            (200, "content-type: text/html\r\n", b"{}"),
            (200, "content-type: text/plain\r\n", b"OK"),
            (201, json, b"{}"),
            (202, "", b""),
            (203, json, b"{}"),
            (204, "", b""),
            (205, "", b""),
        ] {
            let answer = answer_to_a_write(kind, status, headers, body).await;
            let shown = &body[..body.len().min(20)];
            assert!(answer.is_ok(), "{kind} {status} {headers} {shown:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn truncated_success_applies_a_write_but_fails_a_read() {
    for kind in Kind::ALL {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":".to_vec();
        let server = canned_raw(bytes).await;
        let provider = adapter(kind, &server.base_url, TIMEOUT);
        let command = command(kind, "u", &some_fields());
        let current = blank_user(kind);
        assert!(provider.update(&command, Some(&current)).await.is_ok(), "{kind}");
        assert_eq!(
            error(provider.read(&command.user_id).await).fault,
            Fault::Unknown,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn success_that_is_not_about_the_request_is_unknown() {
    for kind in Kind::ALL {
        for (status, headers, body) in [
            (
                200,
                "content-type: text/html\r\n",
                "<html>Alex, please log in</html>",
            ),
            (206, "", "{}"),
            (207, "", "{}"),
        ] {
            let answer = answer_to_a_write(kind, status, headers, body.as_bytes()).await;
            let error = error(answer);
            assert_eq!(error.fault, Fault::Unknown, "{kind} {status}");
        }
    }
}

#[tokio::test]
async fn redirects_are_never_followed() {
    for kind in Kind::ALL {
        for status in [300, 301, 302, 303, 304, 307, 308] {
            for to in ["/elsewhere", "http://elsewhere.example/"] {
                let answer = answer_to_a_write(kind, status, &format!("location: {to}\r\n"), b"").await;
                let error = error(answer);
                assert_eq!(error.fault, Fault::Broken, "{kind} {status} {to}");
                assert!(error.detail.contains("base_url"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    for kind in Kind::ALL {
        let bytes = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        let server = canned_raw(bytes.to_vec()).await;
        let provider = adapter(kind, &server.base_url, TIMEOUT);
        let current = blank_user(kind);
        let answer = provider
            .update(&command(kind, "u", &some_fields()), Some(&current))
            .await;
        assert!(answer.is_ok(), "{kind} {answer:?}");
    }
}

#[tokio::test]
async fn error_of_the_api_counts_even_with_a_success_status() {
    let scim = |status: &str, more: &str| {
        format!(
            r#"{{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":{status}{more},"detail":"no"}}"#
        )
    };
    for (kind, body, fault) in [
        (Kind::Scim, scim("\"404\"", ""), NOT_FOUND),
        (Kind::Scim, scim("409", ""), CONFLICT),
        (
            Kind::Scim,
            scim("\"400\"", r#","scimType":"uniqueness""#),
            CONFLICT,
        ),
        (
            Kind::Scim,
            scim("\"400\"", r#","scimType":"invalidValue""#),
            REJECTED,
        ),
        (Kind::Scim, scim("\"500\"", ""), Fault::Broken),
        (Kind::Scim, scim("\"none\"", ""), Fault::Broken),
        (Kind::Scim, scim("\"200\"", ""), Fault::Broken),
        (Kind::Zitadel, r#"{"code":3,"message":"no"}"#.into(), REJECTED),
        (Kind::Zitadel, r#"{"code":"not_found"}"#.into(), NOT_FOUND),
        (Kind::Zitadel, r#"{"code":8}"#.into(), THROTTLED),
        (Kind::Zitadel, r#"{"code":4}"#.into(), Fault::Unknown),
        (Kind::Zitadel, r#"{"code":16}"#.into(), Fault::Credentials),
    ] {
        let answer =
            answer_to_a_write(kind, 200, "content-type: application/json\r\n", body.as_bytes()).await;
        assert_eq!(error(answer).fault, fault, "{kind} {body}");
    }
}

#[tokio::test]
async fn karmos_not_configured_codes_pause_the_provider_with_any_status() {
    let config = karmo::Config {
        not_configured_codes: vec!["10000503".into()],
        ..karmo::Config::default()
    };
    for status in [400, 403, 404, 409, 412, 422, 424, 500, 501, 503] {
        let server = canned(&format!("{status} X"), "", r#"{"code":"10000503"}"#).await;
        let provider = karmo::adapter(&config, http(&server.base_url, TIMEOUT)).unwrap();
        let error = error(
            provider
                .update(&command(Kind::Karmo, "u", &some_fields()), None)
                .await,
        );
        assert_eq!(error.fault, Fault::Configuration, "{status}");
    }
}
