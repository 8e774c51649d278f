//! The answer of a token endpoint: a token and its lifetime, or what is wrong with the worker's client.

use std::time::Duration;

use reqwest::header::{HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use crate::contract::Fault;
use crate::provider::ProviderError;
use crate::provider::answer::Answer;
use crate::provider::token::bearer;

/// If the answer does not say how long the token is valid.
const LIFETIME_ASSUMED: Duration = Duration::from_secs(60 * 60);

/// The error codes of a token endpoint: RFC 6749, sections 5.2 and 4.1.2.1, and RFC 8707.
const ERRORS: [&str; 10] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
    "invalid_target",
];

/// Longer lifetimes are cut to this.
const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(super) struct Granted {
    pub(super) header: HeaderValue,
    pub(super) lifetime: Duration,
}

#[derive(Deserialize)]
struct Success {
    access_token: SecretString,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Value,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// The token of an answer, or why it has none.
pub(super) fn granted(answer: &Answer) -> Result<Granted, ProviderError> {
    if !answer.is_success() {
        return Err(refusal(answer));
    }
    let broken = |detail: &'static str| answer.error(Fault::Broken, detail);
    let Ok(success) = answer.object::<Success>() else {
        return Err(broken(
            "the token endpoint's answer has no access_token; check whether token_url is its address",
        ));
    };
    let other_type = |kind: &String| !kind.eq_ignore_ascii_case("bearer");
    if success.token_type.as_ref().is_some_and(other_type) {
        return Err(broken(
            "the token endpoint issued a token that is not a bearer token, the only supported type; make it issue bearer \
             tokens to this client",
        ));
    }
    let Some(lifetime) = lifetime(&success.expires_in) else {
        return Err(broken(
            "the token endpoint's expires_in is not a positive number of seconds; check the token endpoint",
        ));
    };
    let header = bearer(success.access_token.expose_secret()).map_err(|_| {
        broken("the token endpoint issued a token that an HTTP header can't contain; check it")
    })?;
    Ok(Granted { header, lifetime })
}

/// A number of seconds, or a text with one.
pub(in crate::provider::token) fn lifetime(expires_in: &Value) -> Option<Duration> {
    let seconds = match expires_in {
        Value::Null => return Some(LIFETIME_ASSUMED),
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse::<u64>().ok()? as f64,
        _ => return None,
    };
    let lifetime = Duration::try_from_secs_f64(seconds.min(LIFETIME_MAX.as_secs_f64())).ok()?;
    (!lifetime.is_zero()).then_some(lifetime)
}

fn refusal(answer: &Answer) -> ProviderError {
    let says_when = answer.headers.contains_key(RETRY_AFTER);
    let (fault, detail) = match answer.status {
        429 | 503 if answer.status == 429 || says_when => (
            Fault::Throttled {
                retry_after: answer.retry_after,
            },
            "the token endpoint asks for a slower pace",
        ),
        300..=399 => (
            Fault::Broken,
            "the token endpoint answered with a redirect, which is never followed; set token_url to the endpoint's own \
             address",
        ),
        400..=499 => return client_refused(answer),
        _ => (
            Fault::Broken,
            "the token endpoint failed; check the provider, and whether token_url is right",
        ),
    };
    answer.error(fault, detail)
}

/// The worker's request is wrong: commands wait until the configuration is corrected.
fn client_refused(answer: &Answer) -> ProviderError {
    let error = answer
        .json()
        .and_then(|body| Refusal::deserialize(body).ok())
        .map(|body| body.error)
        .unwrap_or_default();
    let detail = match error.as_str() {
        "invalid_client" => {
            "the token endpoint does not accept the client; correct client_id or the client's secret, or where they are \
             sent (`client`)"
        }
        "unauthorized_client" | "unsupported_grant_type" => {
            "the token endpoint does not allow this client the client credentials grant; allow it at the provider"
        }
        "invalid_scope" => "the token endpoint does not grant this client that scope; correct `scope`",
        "invalid_target" => "the token endpoint does not know that audience; correct `audience`",
        "invalid_request" => {
            "the token endpoint does not understand the request; correct its form (`body`, `client`), or the values \
             that the provider expects (`scope`, `audience`)"
        }
        _ if answer.status == 415 => {
            "the token endpoint does not accept the form of the request; change `body` between form and json"
        }
        _ if matches!(answer.status, 404 | 405) => {
            "there is no token endpoint at token_url; put its address there"
        }
        _ => {
            "the token endpoint refused the client; correct client_id, the client's secret, `scope` or `audience`, or \
             give the client its permissions at the provider"
        }
    };
    ProviderError {
        code: answer.listed_code(&error, &ERRORS),
        ..answer.error(Fault::Credentials, detail)
    }
}

/// There was no readable answer. The request contained no user data and applied nothing: without a token the provider
/// is unreachable for all users, and asking again is harmless.
pub(super) fn no_answer(error: ProviderError) -> ProviderError {
    let (fault, detail) = match error.fault {
        Fault::Unreachable | Fault::Worker => return error,
        Fault::Unknown if error.status.is_none() => {
            return ProviderError {
                fault: Fault::Unreachable,
                ..error
            };
        }
        Fault::Unknown => (
            Fault::Unreachable,
            "the token endpoint's answer was cut off; check the provider",
        ),
        fault => (
            fault,
            "the token endpoint's answer is too long for a token; check whether token_url is the token endpoint's \
             address",
        ),
    };
    ProviderError {
        status: error.status,
        ..ProviderError::new(fault, detail)
    }
}
