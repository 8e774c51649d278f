//! Tokens fetched from servers with canned answers.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::*;
use crate::contract::Reason;
use crate::provider::Access;
use crate::provider::TokenState;
use crate::provider::http::{Http, Request, Settings};
use crate::provider::setup::PathTemplate;
use crate::provider::testbed::{
    Canned, ScratchFile, TIMEOUT, canned, canned_bytes, error, scratch_file, user_id,
};
use crate::provider::token::Source;

const GRANTED: &str = r#"{"access_token":"t0ken","expires_in":3600,"token_type":"Bearer"}"#;

fn config(token_url: &str) -> Config {
    Config {
        token_url: token_url.into(),
        client_id: "the client".into(),
        client_secret_file: None,
        client_secret: Some("hunter2+%".into()),
        scope: None,
        audience: None,
        body: Body::Form,
        client: ClientIn::Basic,
    }
}

fn http_with(base_url: &str, timeout: Duration, config: Config) -> Http {
    Http::new(Settings {
        base_url: base_url.into(),
        timeout,
        token: Source::OAuth2(config),
        concurrency: 4,
        answers: Vec::new(),
    })
    .unwrap()
}

fn http(server: &Canned) -> Http {
    let token_url = format!("{}/oauth/v2/token", server.base_url);
    http_with(&server.base_url, TIMEOUT, config(&token_url))
}

/// The same, with the secret in a file.
fn http_with_file(server: &Canned, file: &ScratchFile) -> Http {
    let config = Config {
        client_secret: None,
        client_secret_file: Some(file.path().into()),
        ..config(&format!("{}/token", server.base_url))
    };
    http_with(&server.base_url, TIMEOUT, config)
}

async fn call(http: &Http) -> Result<Answer, ProviderError> {
    let path = PathTemplate::parse("path", "/users/{userId}").unwrap();
    http.call(Request::read(&path, &user_id("u")), Answer::refusal)
        .await
}

async fn refused(http: &Http) -> Fault {
    error(call(http).await).fault
}

/// The head of the only request, and its body.
fn only_request(server: &Canned) -> (String, String) {
    let requests = server.requests();
    let [request] = &requests[..] else {
        panic!("{} requests", requests.len());
    };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn token_request_has_zitadels_form() {
    let server = canned("200 OK", "", GRANTED).await;
    let config = Config {
        scope: Some("openid urn:zitadel:iam:org:project:id:zitadel:aud".into()),
        ..config(&format!("{}/oauth/v2/token", server.base_url))
    };
    let http = http_with(&server.base_url, TIMEOUT, config);
    assert_eq!(http.token(), TokenState::Missing);
    http.fetch_token().await.unwrap();
    assert_eq!(http.token(), TokenState::Ready);
    let (head, body) = only_request(&server);
    assert!(head.starts_with("POST /oauth/v2/token HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/x-www-form-urlencoded"),
        "{head}"
    );
    // the+client:hunter2%2B%25
    assert!(
        head.contains("authorization: Basic dGhlK2NsaWVudDpodW50ZXIyJTJCJTI1"),
        "{head}"
    );
    assert_eq!(
        body,
        "grant_type=client_credentials&scope=openid+urn%3Azitadel%3Aiam%3Aorg%3Aproject%3Aid%3Azitadel%3Aaud"
    );
}

#[tokio::test]
async fn token_request_has_mattrs_form() {
    let server = canned("200 OK", "", GRANTED).await;
    let config = Config {
        audience: Some("https://acme.vii.au01.mattr.global".into()),
        body: Body::Json,
        client: ClientIn::Body,
        ..config(&format!("{}/oauth/token", server.base_url))
    };
    let http = http_with(&server.base_url, TIMEOUT, config);
    http.fetch_token().await.unwrap();
    let (head, body) = only_request(&server);
    assert!(
        head.contains("content-type: application/json") && !head.contains("authorization"),
        "{head}"
    );
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "grant_type": "client_credentials", "client_id": "the client", "client_secret": "hunter2+%",
        "audience": "https://acme.vii.au01.mattr.global",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn calls_need_a_token_and_send_it() {
    let server = canned("200 OK", "", GRANTED).await;
    let http = http(&server);
    assert_eq!(refused(&http).await, Fault::CredentialsRenewed);
    assert!(server.requests().is_empty());
    http.fetch_token().await.unwrap();
    call(&http).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 2, "one for each");
    assert!(
        requests[1].contains("authorization: Bearer t0ken"),
        "{}",
        requests[1]
    );
}

#[tokio::test]
async fn every_form_of_a_granted_token_is_read() {
    let day = Duration::from_secs(24 * 60 * 60);
    for (body, lifetime) in [
        (
            r#"{"access_token":"a","expires_in":86400,"token_type":"bearer","scope":"x"}"#,
            day,
        ),
        (
            r#"{"access_token":"a","expires_in":"86400","token_type":"BEARER"}"#,
            day,
        ),
        (r#"{"access_token":"a","expires_in":86400.0}"#, day),
        (r#"{"access_token":"a","token_type":"Bearer"}"#, day / 24),
        (r#"{"access_token":"a","expires_in":null}"#, day / 24),
        (
            r#"{"access_token":"a","expires_in":"18446744073709551615"}"#,
            day * 366,
        ),
        (r#"{"access_token":"a","expires_in":1e300}"#, day * 366),
    ] {
        let answer = Answer::new(Method::POST, 200, HeaderMap::new(), body.into());
        let granted = answer::granted(&answer).unwrap();
        assert_eq!(
            (granted.header.to_str().unwrap(), granted.lifetime),
            ("Bearer a", lifetime)
        );
        assert!(granted.header.is_sensitive());
    }
}

#[tokio::test]
async fn answer_without_a_token_is_broken() {
    let server = canned("200 OK", "", "").await;
    let http = http(&server);
    for body in [
        "",
        "<html>t0ken</html>",
        "[]",
        "{}",
        r#"{"access_token":7}"#,
        r#"{"access_token":""}"#,
        r#"{"access_token":"t0ken t0ken"}"#,
        r#"{"access_token":"t0ken","token_type":"mac"}"#,
        r#"{"access_token":"t0ken","expires_in":0}"#,
        r#"{"access_token":"t0ken","expires_in":-1}"#,
        r#"{"access_token":"t0ken","expires_in":"soon"}"#,
        r#"{"access_token":"t0ken","expires_in":[]}"#,
    ] {
        server.answer_with("200 OK", body);
        assert_eq!(error(http.fetch_token().await).fault, Fault::Broken, "{body}");
        assert_eq!(http.token(), TokenState::Missing, "{body}");
    }
}

#[tokio::test]
async fn refused_client_is_reported_with_the_code_and_a_remedy() {
    let server = canned("400 Bad Request", "", "").await;
    let http = http(&server);
    for (status, body, code, remedy) in [
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client","error_description":"hunter2"}"#,
            Some("invalid_client"),
            "client_id",
        ),
        (
            "400 Bad Request",
            r#"{"error":"invalid_scope"}"#,
            Some("invalid_scope"),
            "`scope`",
        ),
        (
            "400 Bad Request",
            r#"{"error":"invalid_request"}"#,
            Some("invalid_request"),
            "`body`",
        ),
        (
            "403 Forbidden",
            r#"{"error":"unauthorized_client"}"#,
            Some("unauthorized_client"),
            "grant",
        ),
        (
            "400 Bad Request",
            r#"{"error":"hunter2 is wrong"}"#,
            None,
            "client_id",
        ),
        ("403 Forbidden", "<html>", None, "client_id"),
        ("404 Not Found", "", None, "token_url"),
    ] {
        server.answer_with(status, body);
        let refused = error(http.fetch_token().await);
        assert_eq!(refused.fault, Fault::Credentials, "{status}");
        assert_eq!(refused.status.unwrap().to_string(), status[..3]);
        assert_eq!(refused.code.as_deref(), code);
        assert!(refused.detail.contains(remedy), "{remedy} in {refused}");
    }
}

#[tokio::test]
async fn failures_of_the_token_endpoint_are_distinguished() {
    let server = canned("429 Too Many Requests", "retry-after: 3\r\n", "").await;
    let retry_after = Some(Duration::from_secs(3));
    assert_eq!(
        error(http(&server).fetch_token().await).fault,
        Fault::Throttled { retry_after }
    );
    for status in ["503 Service Unavailable", "302 Found"] {
        let server = canned(status, "", "").await;
        assert_eq!(error(http(&server).fetch_token().await).fault, Fault::Broken);
        assert_eq!(server.requests().len(), 1, "asked once");
    }
    let cut = canned_bytes(String::new()).await;
    assert_eq!(error(http(&cut).fetch_token().await).fault, Fault::Unreachable);

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let http = http_with(&url, Duration::from_millis(200), config(&url));
    assert_eq!(
        error(http.fetch_token().await).fault,
        Fault::Unreachable,
        "a time-out"
    );
    drop(silent);
    assert_eq!(
        error(http.fetch_token().await).fault,
        Fault::Unreachable,
        "no connection"
    );
}

#[tokio::test]
async fn refused_token_that_was_accepted_before_is_fetched_again() {
    let server = canned("200 OK", "", GRANTED).await;
    let http = http(&server);
    http.fetch_token().await.unwrap();
    server.answer_with("404 Not Found", "{}");
    assert_eq!(
        refused(&http).await,
        Fault::Command(Reason::NotFound),
        "the token was accepted"
    );
    server.answer_with("401 Unauthorized", "");
    assert_eq!(refused(&http).await, Fault::CredentialsRenewed);
    assert_eq!(http.token(), TokenState::Missing);
}

#[tokio::test]
async fn refused_token_that_was_never_accepted_pauses_the_provider() {
    let server = canned("200 OK", "", GRANTED).await;
    let http = http(&server);
    http.fetch_token().await.unwrap();
    server.answer_with("500 Internal Server Error", "");
    assert_eq!(refused(&http).await, Fault::Broken, "the token was not judged");
    server.answer_with("401 Unauthorized", "");
    assert_eq!(refused(&http).await, Fault::Credentials);
    assert_eq!(http.token(), TokenState::Missing, "the probe begins with a fetch");
}

#[tokio::test]
async fn changed_secret_drops_the_token_and_is_used_next() {
    let server = canned("200 OK", "", GRANTED).await;
    let file = scratch_file("first\n");
    let http = http_with_file(&server, &file);
    http.fetch_token().await.unwrap();
    assert_eq!(http.token(), TokenState::Ready);
    let changed = tokio::time::timeout(TIMEOUT, http.credentials_changed());
    let (changed, ()) = tokio::join!(changed, async { file.write("other one") });
    changed.unwrap();
    assert_eq!(http.token(), TokenState::Missing);
    http.fetch_token().await.unwrap();
    // the+client:other+one
    let last = server.requests().pop().unwrap();
    assert!(
        last.contains("authorization: Basic dGhlK2NsaWVudDpvdGhlcitvbmU="),
        "{last}"
    );
}

#[tokio::test]
async fn refused_secret_that_was_replaced_meanwhile_does_not_pause() {
    let server = canned("401 Unauthorized", "", r#"{"error":"invalid_client"}"#).await;
    let file = scratch_file("first");
    let http = http_with_file(&server, &file);
    assert_eq!(error(http.fetch_token().await).fault, Fault::Credentials);
    file.write("second");
    assert_eq!(error(http.fetch_token().await).fault, Fault::CredentialsRenewed);
    assert_eq!(error(http.fetch_token().await).fault, Fault::Credentials);
}

#[test]
fn unusable_settings_are_refused_by_key_without_values() {
    let refused = |config: Config| OAuth2::new(config).map(|_| ()).unwrap_err();
    for bad in [
        "",
        "acme.example",
        "ftp://acme.example",
        "https://u:hunter2@acme.example",
        "https://acme.example/#x",
    ] {
        let error = refused(config(bad));
        assert_eq!(error.key, "provider.auth.oauth2.token_url", "{bad}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let url = "https://acme.example/token?tenant=1";
    for bad in ["", " \n", "hunter2\nhunter2"] {
        let error = refused(Config {
            client_secret: Some(bad.into()),
            ..config(url)
        });
        assert_eq!(error.key, "provider.auth.oauth2.client_secret");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = refused(Config {
        client_secret: None,
        client_secret_file: Some("/nowhere/secret".into()),
        ..config(url)
    });
    assert_eq!(error.key, "provider.auth.oauth2.client_secret_file");
    assert!(
        error.detail.contains("write the client secret into it"),
        "{error}"
    );
    let error = refused(Config {
        client_id: String::new(),
        ..config(url)
    });
    assert_eq!(error.key, "provider.auth.oauth2.client_id");
}

#[test]
fn settings_do_not_print_the_secret() {
    let shown = format!("{:?}", Source::OAuth2(config("https://acme.example")));
    assert!(
        !shown.contains("hunter2") && shown.contains("the client"),
        "{shown}"
    );
}
