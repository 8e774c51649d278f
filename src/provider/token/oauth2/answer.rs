//! What a token endpoint answers: a token and its lifetime, or what is wrong with the worker's client.

use std::time::Duration;

use reqwest::header::{HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use crate::contract::Fault;
use crate::provider::ProviderError;
use crate::provider::answer::Answer;
use crate::provider::token::bearer;

/// Where the answer does not say how long the token serves.
const LIFETIME_ASSUMED: Duration = Duration::from_secs(60 * 60);

/// What a token endpoint may say: RFC 6749, sections 5.2 and 4.1.2.1, and RFC 8707.
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

/// A longer lifetime is taken for this.
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

/// The token of an answer, or why there is none.
pub(super) fn granted(answer: &Answer) -> Result<Granted, ProviderError> {
    if !answer.is_success() {
        return Err(refusal(answer));
    }
    let broken = |detail: &'static str| answer.error(Fault::Broken, detail);
    let Ok(success) = answer.object::<Success>() else {
        return Err(broken(
            "the token endpoint's answer has no access_token; see whether token_url leads to the token endpoint",
        ));
    };
    let other_type = |kind: &String| !kind.eq_ignore_ascii_case("bearer");
    if success.token_type.as_ref().is_some_and(other_type) {
        return Err(broken(
            "the token endpoint gave a token that is no bearer token, and no other can be used; let it give \
             bearer tokens to this client",
        ));
    }
    let Some(lifetime) = lifetime(&success.expires_in) else {
        return Err(broken(
            "the token endpoint's expires_in is not a positive number of seconds; see to the token endpoint",
        ));
    };
    let header = bearer(success.access_token.expose_secret())
        .map_err(|_| broken("the token endpoint gave a token that an HTTP header can't carry; see to it"))?;
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
            "the token endpoint answered with a redirect, and none is followed; put the address into token_url \
             that the endpoint itself has",
        ),
        400..=499 => return client_refused(answer),
        _ => (
            Fault::Broken,
            "the token endpoint failed; see to the provider, or whether token_url leads to it",
        ),
    };
    answer.error(fault, detail)
}

/// Something of what the worker asked with is wrong: commands wait until it is mended.
fn client_refused(answer: &Answer) -> ProviderError {
    let error = answer
        .json()
        .and_then(|body| Refusal::deserialize(body).ok())
        .map(|body| body.error)
        .unwrap_or_default();
    let detail = match error.as_str() {
        "invalid_client" => {
            "the token endpoint does not accept the client; correct client_id or the client's secret, or where \
             they stand (`client`)"
        }
        "unauthorized_client" | "unsupported_grant_type" => {
            "the token endpoint gives this client no token by client credentials; allow it that grant at the \
             provider"
        }
        "invalid_scope" => "the token endpoint does not give this client that scope; correct `scope`",
        "invalid_target" => "the token endpoint does not know that audience; correct `audience`",
        "invalid_request" => {
            "the token endpoint does not understand the request; correct its form (`body`, `client`), or what \
             the provider asks for (`scope`, `audience`)"
        }
        _ if answer.status == 415 => {
            "the token endpoint does not take the form of the request; set `body` to the other one of form and json"
        }
        _ if matches!(answer.status, 404 | 405) => {
            "there is no token endpoint at token_url; put its address there"
        }
        _ => {
            "the token endpoint refused the client; correct client_id, the client's secret, `scope` or \
             `audience`, or give the client its rights at the provider"
        }
    };
    ProviderError {
        code: answer.listed_code(&error, &ERRORS),
        ..answer.error(Fault::Credentials, detail)
    }
}

/// No answer that could be read. Nothing of a user was sent, so there is nothing that may have been applied:
/// without a token the provider is out of reach for everybody, and asking again does no harm.
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
            "the token endpoint's answer broke off; see to the provider",
        ),
        fault => (
            fault,
            "the token endpoint's answer is too long for a token; see whether token_url leads to the token \
             endpoint",
        ),
    };
    ProviderError {
        status: error.status,
        ..ProviderError::new(fault, detail)
    }
}
