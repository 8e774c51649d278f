//! One request at a time against servers with canned answers.

use reqwest::header::HeaderName;
use secrecy::SecretString;

use super::super::testbed::{Canned, TIMEOUT, canned, canned_bytes, error, http, scratch_file, user_id};
use super::*;

fn path() -> PathTemplate {
    PathTemplate::parse("path", "/users/{userId}").unwrap()
}

async fn send(base_url: &str, timeout: Duration) -> Result<Answer, ProviderError> {
    send_with(&http(base_url, timeout)).await
}

async fn send_with(http: &Http) -> Result<Answer, ProviderError> {
    let request = Request {
        reads: false,
        method: Method::PUT,
        place: Place::User(&path(), &user_id("a/b")),
        body: Some(Bytes::from_static(br#"{"email":"alex@example.com"}"#)),
        media_type: JSON,
        headers: HeaderMap::from_iter([(
            HeaderName::from_static("if-match"),
            HeaderValue::from_static("v1"),
        )]),
    };
    http.send(request, &http.token.header().unwrap()).await
}

/// The fault of the provider's refusal of a call.
async fn refused_by(http: &Http) -> Fault {
    let (path, user_id) = (path(), user_id("u"));
    fault(http.call(Request::read(&path, &user_id), Answer::refusal).await)
}

#[track_caller]
fn fault(result: Result<Answer, ProviderError>) -> Fault {
    error(result).fault
}

#[tokio::test]
async fn request_has_the_token_the_version_and_json() {
    let server = canned("200 OK", "", "{}").await;
    let base_url = format!("{}/api/", server.base_url);
    let answer = send(&base_url, TIMEOUT).await.unwrap();
    assert_eq!((answer.status, answer.body), (200, b"{}".to_vec()));
    let request = &server.requests()[0];
    assert!(
        request.starts_with("PUT /api/users/a%2Fb HTTP/1.1\r\n"),
        "{request}"
    );
    for line in [
        "authorization: Bearer t0ken",
        "if-match: v1",
        "content-type: application/json",
        "accept: application/json",
        concat!("user-agent: usher/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(request.contains(line), "{line} in {request}");
    }
    assert!(request.ends_with(r#"{"email":"alex@example.com"}"#), "{request}");
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere = canned("200 OK", "", "{}").await;
    let location = format!("location: {}/\r\n", elsewhere.base_url);
    let server = canned("307 Temporary Redirect", &location, "").await;
    let answer = send(&server.base_url, TIMEOUT).await.unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!((server.requests().len(), elsewhere.requests().len()), (1, 0));
}

#[tokio::test]
async fn refused_connection_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(fault(send(&base_url, TIMEOUT).await), Fault::Unreachable);
}

#[tokio::test]
async fn failed_tls_handshake_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    assert_eq!(fault(send(&base_url, TIMEOUT).await), Fault::Unreachable);
}

#[tokio::test]
async fn no_answer_after_sending_is_unknown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    assert_eq!(
        fault(send(&base_url, Duration::from_millis(200)).await),
        Fault::Unknown
    );
}

#[tokio::test]
async fn connection_lost_after_sending_is_unknown_and_nothing_is_resent() {
    let server = canned_bytes(String::new()).await;
    assert_eq!(fault(send(&server.base_url, TIMEOUT).await), Fault::Unknown);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn truncated_refusal_keeps_its_status() {
    let server = canned_bytes("HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\n<p>".into()).await;
    let answer = send(&server.base_url, TIMEOUT).await.unwrap();
    assert_eq!((answer.status, answer.body), (404, Vec::new()));
}

/// What a read makes of the answer.
async fn read(server: &Canned) -> Result<Answer, ProviderError> {
    let (path, user_id) = (path(), user_id("u"));
    let http = http(&server.base_url, TIMEOUT);
    http.call(Request::read(&path, &user_id), Answer::refusal).await
}

#[tokio::test]
async fn oversized_success_applies_a_write_and_is_broken_for_a_read() {
    let long = "x".repeat(USER_BYTES_MAX + 1);
    for server in [
        canned("200 OK", "", &long).await,
        canned_bytes(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{long}")).await,
    ] {
        let answer = send(&server.base_url, TIMEOUT).await.unwrap();
        assert_eq!((answer.status, answer.body), (200, Vec::new()));
        assert_eq!(fault(read(&server).await), Fault::Broken);
    }
    let server = canned("409 Conflict", "", &long).await;
    assert_eq!(send(&server.base_url, TIMEOUT).await.unwrap().status, 409);
}

#[tokio::test]
async fn user_larger_than_a_mebibyte_can_be_read() {
    let groups = r#"{"value":"0123456789012345678901234567890123456789","display":"x"},"#.repeat(20_000);
    let body = format!(
        r#"{{"userName":"a","groups":[{}]}}"#,
        groups.trim_end_matches(',')
    );
    assert!(body.len() > BODY_BYTES_MAX);
    let server = canned("200 OK", "", &body).await;
    assert_eq!(read(&server).await.unwrap().json().unwrap()["userName"], "a");
}

#[tokio::test]
async fn byte_order_mark_is_skipped() {
    let server = canned("200 OK", "", "\u{feff}{\"userName\":\"a\"}").await;
    assert_eq!(read(&server).await.unwrap().json().unwrap()["userName"], "a");
}

#[tokio::test]
async fn throttled_answer_has_the_wait_of_its_header() {
    let server = canned("429 Too Many Requests", "retry-after: 3\r\n", "slow down").await;
    let retry_after = Some(Duration::from_secs(3));
    assert_eq!(fault(read(&server).await), Fault::Throttled { retry_after });
}

#[tokio::test]
async fn answer_of_any_status_gives_its_quota_hint_once() {
    for status in [
        "200 OK",
        "404 Not Found",
        "429 Too Many Requests",
        "504 Gateway Timeout",
    ] {
        let server = canned(status, "ratelimit: \"d\";r=7;t=20\r\n", "{}").await;
        let http = http(&server.base_url, TIMEOUT);
        assert_eq!(http.rate_limit_hint(), None);
        send_with(&http).await.unwrap();
        let hint = http.rate_limit_hint().unwrap();
        assert_eq!((hint.limit, hint.remaining), (None, Some(7)), "{status}");
        assert!(hint.reset.unwrap() > Duration::from_secs(10));
        assert_eq!(http.rate_limit_hint(), None);
    }
}

#[tokio::test]
async fn rotated_token_file_is_used_after_a_refresh() {
    let file = scratch_file("first");
    let server = canned("401 Unauthorized", "", "").await;
    let http = Http::new(Settings {
        base_url: server.base_url.clone(),
        timeout: TIMEOUT,
        token: Source::File(file.path().into()),
        concurrency: 1,
        answers: Vec::new(),
    })
    .unwrap();
    assert_eq!(refused_by(&http).await, Fault::Credentials);
    file.write("second");
    assert_eq!(refused_by(&http).await, Fault::CredentialsRenewed);
    assert_eq!(refused_by(&http).await, Fault::Credentials);
    let tokens = ["Bearer first", "Bearer first", "Bearer second"];
    for (request, token) in server.requests().iter().zip(tokens) {
        assert!(request.contains(token), "{request}");
    }
}

#[test]
fn unusable_base_url_is_refused_with_a_remedy() {
    for bad in [
        "",
        "acme.example",
        "ftp://acme.example",
        "https://u:hunter2@acme.example",
        "https://acme.example/?a=b",
        "https://acme.example/#x",
    ] {
        let settings = Settings {
            base_url: bad.into(),
            timeout: TIMEOUT,
            token: Source::Value(SecretString::from("t")),
            concurrency: 1,
            answers: Vec::new(),
        };
        let error = Http::new(settings).map(|_| ()).unwrap_err();
        assert_eq!(error.key, "provider.base_url", "{bad}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[test]
fn lack_of_descriptors_is_the_workers_fault_at_any_depth() {
    use super::no_answer::lacks_descriptors;

    #[derive(Debug, thiserror::Error)]
    #[error("connect")]
    struct Connect(#[source] std::io::Error);

    let of = |code: i32| Connect(std::io::Error::from_raw_os_error(code));
    assert!(lacks_descriptors(&of(24)) && lacks_descriptors(&of(23)));
    assert!(lacks_descriptors(&std::io::Error::other(of(24))));
    assert!(!lacks_descriptors(&of(111)), "refused");
}

#[derive(Default)]
struct Spans(std::sync::Mutex<Vec<traces::Span>>);

impl traces::Spans for Spans {
    fn ended(&self, span: traces::Span) {
        self.0.lock().unwrap().push(span);
    }
}

#[tokio::test]
async fn a_traced_request_names_its_span_and_its_span_has_the_template_in_place_of_the_url() {
    let server = canned("200 OK", "", "{}").await;
    let base_url = format!("{}/api/", server.base_url);
    let kept = Arc::new(Spans::default());
    let traces = traces::Traces {
        spans: kept.clone(),
        sample: 0.0,
        clock: Clock::System,
    };
    let now = tokio::time::Instant::now();
    for flags in ["01", "00"] {
        let publisher = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let carried = traces::Headers {
            traceparent: publisher.clone(),
            tracestate: traces::State::parse("vendor=1"),
        };
        let process = traces.begin(Some(&carried), now).unwrap();
        let trace = process.trace();
        traces::within(Some(trace.clone()), send(&base_url, TIMEOUT))
            .await
            .unwrap();
        trace.called("write", now, "ok", false, None);
        let request = server.requests().pop().unwrap();
        let traceparent = match flags {
            "01" => kept.0.lock().unwrap()[0].context.to_string(),
            _ => publisher,
        };
        for header in [
            format!("traceparent: {traceparent}"),
            "tracestate: vendor=1".to_owned(),
        ] {
            assert!(request.contains(&format!("{header}\r\n")), "{request}");
        }
    }
    let spans = kept.0.lock().unwrap().clone();
    assert_eq!(spans.len(), 2, "the call and its command");
    assert_eq!(spans[0].name, "PUT /api/users/{userId}");
    let template = ("url.template", "/api/users/{userId}".into());
    let status = ("http.response.status_code", 200_u16.into());
    for attribute in [template, status] {
        assert!(spans[0].attributes.contains(&attribute), "{spans:?}");
    }
    assert!(!format!("{spans:?}").contains("a%2Fb"));
    send(&base_url, TIMEOUT).await.unwrap();
    assert!(!server.requests().pop().unwrap().contains("\r\ntrace"));
}
