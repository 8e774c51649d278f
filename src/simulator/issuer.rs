//! The token endpoint: it issues tokens to a client, and knows which of them are valid.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::Client;
use crate::provider::shape::Reply;

/// The paths of the token endpoint: Zitadel's, MATTR's, Karmo's.
const PATHS: [&str; 3] = ["/oauth/v2/token", "/oauth/token", "/auth/token"];

/// The prefix of every issued token, by which one that is no longer valid is recognised.
const ISSUED: &str = "issued-token-";

pub(super) struct Issuer {
    client: Option<Client>,
    lifetime: Duration,
    count: u64,
    /// The valid tokens, and when they expire.
    issued: HashMap<String, Instant>,
}

/// A request's members, whatever its form.
#[derive(Deserialize)]
struct Members(BTreeMap<String, String>);

impl Issuer {
    pub(super) fn new(client: Option<Client>, lifetime: Duration) -> Self {
        Self {
            client,
            lifetime,
            count: 0,
            issued: HashMap::new(),
        }
    }

    pub(super) fn is_token_request(method: &Method, path: &str) -> bool {
        method == Method::POST && PATHS.contains(&path)
    }

    /// Whether only issued tokens are accepted.
    pub(super) fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Whether an issued token is valid; None for any other token.
    pub(super) fn accepts(&self, token: &str) -> Option<bool> {
        let serves = |until: &Instant| Instant::now() < *until;
        token
            .starts_with(ISSUED)
            .then(|| self.issued.get(token).is_some_and(serves))
    }

    /// Revokes every token issued so far.
    pub(super) fn revoke(&mut self) {
        self.issued.clear();
    }

    pub(super) fn answer(&mut self, headers: &HeaderMap, body: &[u8]) -> Reply {
        let refused = |status, error: &str| Reply::json(status, &json!({ "error": error }));
        let Some(mut members) = Members::read(headers, body) else {
            return refused(400, "invalid_request");
        };
        match members.0.remove("grant_type").as_deref() {
            Some("client_credentials") => {}
            Some(_) => return refused(400, "unsupported_grant_type"),
            None => return refused(400, "invalid_request"),
        }
        let client = basic(headers).or_else(|| members.client());
        let known = match &self.client {
            Some(_) => client == self.client,
            None => client.is_some(),
        };
        if !known {
            return refused(401, "invalid_client");
        }
        let now = Instant::now();
        self.issued.retain(|_, until| now < *until);
        self.count += 1;
        let token = format!("{ISSUED}{}", self.count);
        self.issued.insert(token.clone(), now + self.lifetime);
        let expires_in = self.lifetime.as_secs();
        Reply::json(
            200,
            &json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires_in }),
        )
    }
}

impl Members {
    fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        if content_type.starts_with("application/json") {
            return serde_json::from_slice(body).ok();
        }
        if !content_type.starts_with("application/x-www-form-urlencoded") {
            return None;
        }
        let pairs = std::str::from_utf8(body).ok()?.split('&');
        let members = pairs.map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((form_decoded(name)?, form_decoded(value)?))
        });
        members.collect::<Option<_>>().map(Self)
    }

    fn client(&mut self) -> Option<Client> {
        Some(Client {
            id: self.0.remove("client_id")?,
            secret: self.0.remove("client_secret")?,
        })
    }
}

/// Id and secret as RFC 6749 puts them into an HTTP Basic header.
fn basic(headers: &HeaderMap) -> Option<Client> {
    let encoded = headers
        .get(AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some(Client {
        id: form_decoded(id)?,
        secret: form_decoded(secret)?,
    })
}

fn form_decoded(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(|decoded| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::Value;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

    fn issuer() -> Issuer {
        let client = Client {
            id: "the client".into(),
            secret: "s:+%".into(),
        };
        Issuer::new(Some(client), HOUR)
    }

    fn headers(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    fn with_basic(id_and_secret: &str) -> HeaderMap {
        let mut headers = headers(FORM);
        let value = format!("Basic {}", STANDARD.encode(id_and_secret));
        headers.insert(AUTHORIZATION, value.try_into().unwrap());
        headers
    }

    fn ask(issuer: &mut Issuer, headers: &HeaderMap, body: &str) -> (u16, Value) {
        let reply = issuer.answer(headers, body.as_bytes());
        (reply.status, serde_json::from_str(&reply.body).unwrap())
    }

    #[test]
    fn client_authenticates_in_each_form() {
        let form = "grant_type=client_credentials";
        let in_form = format!("{form}&client_id=the+client&client_secret=s%3A%2B%25");
        let json = r#"{"grant_type":"client_credentials","client_id":"the client","client_secret":"s:+%"}"#;
        for (headers, body) in [
            (with_basic("the+client:s%3A%2B%25"), form),
            (headers(FORM), &in_form),
            (headers("application/json"), json),
        ] {
            let mut issuer = issuer();
            let (status, answer) = ask(&mut issuer, &headers, body);
            assert_eq!((status, &answer["expires_in"]), (200, &json!(3600)), "{body}");
            let token = answer["access_token"].as_str().unwrap();
            assert_eq!(issuer.accepts(token), Some(true));
        }
    }

    #[test]
    fn invalid_requests_get_the_standard_error_codes() {
        let mut issuer = issuer();
        let basic = with_basic("the+client:s%3A%2B%25");
        for (headers, body, status, code) in [
            (&basic, "", 400, "invalid_request"),
            (&basic, "scope=a", 400, "invalid_request"),
            (
                &headers("text/plain"),
                "grant_type=client_credentials",
                400,
                "invalid_request",
            ),
            (&basic, "grant_type=password", 400, "unsupported_grant_type"),
            (
                &headers(FORM),
                "grant_type=client_credentials",
                401,
                "invalid_client",
            ),
            (
                &with_basic("the+client:other"),
                "grant_type=client_credentials",
                401,
                "invalid_client",
            ),
        ] {
            let answer = ask(&mut issuer, headers, body);
            assert_eq!(answer, (status, json!({ "error": code })), "{body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn token_is_valid_until_it_expires_or_is_revoked() {
        let mut issuer = issuer();
        let basic = with_basic("the+client:s%3A%2B%25");
        let mut token = || {
            let (_, answer) = ask(&mut issuer, &basic, "grant_type=client_credentials");
            answer["access_token"].as_str().unwrap().to_owned()
        };
        let (first, second) = (token(), token());
        assert_ne!(first, second);
        tokio::time::advance(HOUR - Duration::from_millis(1)).await;
        assert_eq!(issuer.accepts(&first), Some(true));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(issuer.accepts(&first), Some(false));
        let mut issuer = self::issuer();
        let (_, answer) = ask(&mut issuer, &basic, "grant_type=client_credentials");
        issuer.revoke();
        assert_eq!(
            issuer.accepts(answer["access_token"].as_str().unwrap()),
            Some(false)
        );
        assert_eq!(issuer.accepts("another"), None, "it was not issued here");
    }
}
