//! The details of a refusal besides its class: the gRPC code, as the gateway's number or as Connect's name, and
//! Zitadel's own id.

use serde_json::Value;

use crate::contract::{Fault, Reason};
use crate::provider::ProviderError;
use crate::provider::answer::Answer;

/// By number.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

const STATE_FORBIDS: &str = "the user's state at Zitadel forbids the change, for example because a code was used, or the user \
                             is locked or not initialised; look at the user there, then change the command";

pub(super) fn refusal(answer: &Answer) -> ProviderError {
    let mut error = answer.refusal();
    if error.fault == Fault::Command(Reason::VersionConflict) {
        // Commands for Zitadel have no versions.
        error.detail = STATE_FORBIDS.into();
    }
    let Some(body) = answer.json() else {
        return error;
    };
    let Some(name) = grpc_name(&body["code"]) else {
        return error;
    };
    error.code = answer.listed_code(name, &NAMES);
    // Zitadel's own ids are not stable codes, but help a person to find the cause.
    let id = body["details"][0]["id"]
        .as_str()
        .or_else(|| id_in_words(body["message"].as_str()?))
        .unwrap_or_default();
    if let Some(id) = answer.formed_code(id, is_id) {
        error.detail = format!("{}; Zitadel calls it {id}", error.detail).into();
    }
    error
}

/// `Errors.User.NotFound (USER-abc12)`
fn id_in_words(message: &str) -> Option<&str> {
    message.strip_suffix(')')?.rsplit_once('(').map(|(_, id)| id)
}

/// `COMMAND-3M0fs`, `USERv2-4f3d6`
fn is_id(text: &str) -> bool {
    let Some((area, number)) = text.split_once('-') else {
        return false;
    };
    let (capitals, version) = match area.strip_suffix("v2") {
        Some(capitals) => (capitals, 2),
        None => (area, 0),
    };
    (3..=12).contains(&(capitals.len() + version))
        && capitals.bytes().all(|b| b.is_ascii_uppercase())
        && (4..=12).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn grpc_name(code: &Value) -> Option<&'static str> {
    match code {
        Value::Number(number) => NAMES.get(usize::try_from(number.as_u64()?).ok()?).copied(),
        Value::String(name) => NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use reqwest::header::HeaderMap;

    use super::*;
    use crate::provider::Kind;
    use crate::provider::answers::Table;

    const REJECTED: Fault = Fault::Command(Reason::Rejected);
    const CONFLICT: Fault = Fault::Command(Reason::Conflict);
    const THROTTLED: Fault = Fault::Throttled { retry_after: None };

    const CASES: [(u16, &str, Fault, Option<&str>); 20] = [
        (400, r#"{"code":9}"#, CONFLICT, Some("FAILED_PRECONDITION")),
        (
            400,
            r#"{"code":"failed_precondition"}"#,
            CONFLICT,
            Some("FAILED_PRECONDITION"),
        ),
        (400, r#"{"code":3}"#, REJECTED, Some("INVALID_ARGUMENT")),
        (400, r#"{"code":16}"#, Fault::Credentials, Some("UNAUTHENTICATED")),
        (400, r#"{"code":7}"#, Fault::Denied, Some("PERMISSION_DENIED")),
        (
            400,
            r#"{"code":"not_found"}"#,
            Fault::Command(Reason::NotFound),
            Some("NOT_FOUND"),
        ),
        (400, r#"{"code":8}"#, THROTTLED, Some("RESOURCE_EXHAUSTED")),
        (400, r#"{"code":13}"#, Fault::Broken, Some("INTERNAL")),
        (405, r#"{"code":12}"#, Fault::Configuration, Some("UNIMPLEMENTED")),
        (200, r#"{"code":3}"#, REJECTED, Some("INVALID_ARGUMENT")),
        (200, r#"{"code":14}"#, Fault::Broken, Some("UNAVAILABLE")),
        (
            404,
            r#"{"code":5}"#,
            Fault::Command(Reason::NotFound),
            Some("NOT_FOUND"),
        ),
        (404, r#"{"message":"no route"}"#, Fault::Broken, None),
        (504, r#"{"code":4}"#, Fault::Unknown, Some("DEADLINE_EXCEEDED")),
        (504, "<html>", Fault::Unknown, None),
        (400, r#"{"code":99}"#, REJECTED, None),
        (400, r#"{"code":"alex@example.com"}"#, REJECTED, None),
        (400, "alex@example.com", Fault::Broken, None),
        (429, "Your ZITADEL instance is blocked.", THROTTLED, None),
        (401, r#"{"code":5}"#, Fault::Credentials, Some("NOT_FOUND")),
    ];

    fn refused(status: u16, body: &str) -> ProviderError {
        let table = Table::new(Vec::new())
            .unwrap()
            .of(Kind::Zitadel, Vec::new())
            .unwrap();
        let mut answer = Answer::new(Method::PUT, status, HeaderMap::new(), body.into());
        answer.class = table.meaning(&answer).class;
        refusal(&answer)
    }

    #[test]
    fn id_is_taken_from_the_message_if_the_details_have_none() {
        for (body, id) in [
            (
                r#"{"code":5,"message":"Errors.User.NotFound (USER-abc12)"}"#,
                Some("USER-abc12"),
            ),
            (
                r#"{"code":5,"message":"Errors.User.NotFound (USER-abc12)","details":[{"@type":"x"}]}"#,
                Some("USER-abc12"),
            ),
            (
                r#"{"code":5,"message":"x (USER-abc12)","details":[{"id":"COMMAND-3M0fs"}]}"#,
                Some("COMMAND-3M0fs"),
            ),
            (r#"{"code":5,"message":"no such user (alex@example.com)"}"#, None),
            (r#"{"code":5,"message":"(USER-abc12) is not there"}"#, None),
            (r#"{"code":5,"message":"USER-abc12)"}"#, None),
            (r#"{"code":5,"message":["(USER-abc12)"]}"#, None),
        ] {
            let detail = refused(404, body).detail;
            let shown = detail.split_once("; Zitadel calls it ").map(|(_, id)| id);
            assert_eq!(shown, id, "{body}");
            assert!(!detail.contains("alex"), "{detail}");
        }
    }

    #[test]
    fn failed_precondition_is_about_the_users_state() {
        for body in [r#"{"code":9}"#, r#"{"code":"failed_precondition"}"#] {
            let error = refused(412, body);
            assert_eq!(error.fault, Fault::Command(Reason::VersionConflict), "{body}");
            assert!(
                error.detail.contains("the user's state at Zitadel forbids"),
                "{error}"
            );
            assert!(!error.detail.contains("ersion"), "{error}");
        }
    }

    #[test]
    fn code_in_the_body_distinguishes_errors_with_the_same_status() {
        for (status, body, fault, code) in CASES {
            let error = refused(status, body);
            assert_eq!(
                (error.fault, error.code.as_deref()),
                (fault, code),
                "{status} {body}"
            );
            assert_eq!(error.status, Some(status));
            assert!(!format!("{error:?}").contains("alex"), "{error:?}");
        }
    }
}
