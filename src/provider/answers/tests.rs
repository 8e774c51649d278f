//! The configuration's rules: how they are read, and which of them decides.

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;

fn rules(text: &str) -> Result<Vec<Rule>, String> {
    let file: Result<File, _> = toml::from_str(text);
    file.map(|file| file.answers).map_err(|error| error.to_string())
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            (
                name.parse::<HeaderName>().unwrap(),
                value.parse::<HeaderValue>().unwrap(),
            )
        })
        .collect();
    Answer::new(Method::PATCH, status, headers, body.into())
}

fn class(rule: &str, answer: &Answer) -> Class {
    let table = Table::new(rules(&format!("[[answers]]\n{rule}")).unwrap()).unwrap();
    table.meaning(answer).class
}

#[test]
fn table_of_every_kind_can_be_read() {
    for kind in Kind::ALL {
        let table = Table::new(Vec::new()).unwrap();
        assert!(table.of(kind, Vec::new()).is_ok(), "{kind}");
    }
}

#[test]
fn http_table_covers_every_status() {
    let table = Table::new(Vec::new()).unwrap();
    for status in 100..=999 {
        let answer = answer(status, &[], "{}");
        assert!(table.meaning(&answer).by.is_some(), "{status}");
    }
}

#[test]
fn configured_rules_precede_those_of_the_kind_and_http() {
    let configured = rules("[[answers]]\nstatus = 404\nclass = \"outage\"").unwrap();
    let table = Table::new(configured)
        .unwrap()
        .of(Kind::Karmo, Vec::new())
        .unwrap();
    let answer = answer(404, &[], "{}");
    let meaning = table.meaning(&answer);
    let by = meaning.by.unwrap();
    assert_eq!(
        (meaning.class, by.origin, by.number),
        (Class::Outage, Origin::Configuration, 1)
    );
}

#[test]
fn every_condition_must_hold() {
    let refusal = answer(
        422,
        &[
            ("content-type", "Application/Problem+JSON; charset=utf-8"),
            ("x-quota", "Used Up"),
        ],
        r#"{"error":{"code":"RATE_9","n":9,"no":null,"is":false}}"#,
    );
    for (rule, holds) in [
        ("status = 422", true),
        ("status = \"4xx\"", true),
        ("status = \"420-430\"", true),
        ("status = [400, \"5xx\", 422]", true),
        ("status = \"5xx\"", false),
        ("method = \"PATCH\"", true),
        ("method = \"GET\"", false),
        ("header = \"X-Quota\"", true),
        ("header = \"x-quota: used up\"", true),
        ("header = \"x-quota: used*\"", true),
        ("header = \"x-quota: *u*\"", true),
        ("header = \"x-quota: up\"", false),
        ("header = [\"x-none\", \"x-quota: * up\"]", true),
        ("header = \"x-none\"", false),
        ("content_type = \"application/problem+json\"", true),
        ("content_type = \"application/*\"", true),
        ("content_type = \"text/html\"", false),
        ("json = true", true),
        ("json = false", false),
        ("pointer = \"/error/code\"", true),
        ("pointer = \"/error/none\"", false),
        ("pointer = \"/error/no\"", false),
        ("pointer = \"/error/code\"\nequals = \"RATE_9\"", true),
        ("pointer = \"/error/code\"\nequals = \"RATE\"", false),
        ("pointer = \"/error/n\"\nequals = 9", true),
        ("pointer = \"/error/n\"\nequals = \"9\"", true),
        ("pointer = \"/error/is\"\nequals = false", true),
        ("pointer = \"/error/code\"\nmatches = \"^RATE_[0-9]+$\"", true),
        ("pointer = \"/error/code\"\nmatches = \"^rate\"", false),
        ("status = 422\nheader = \"x-none\"", false),
    ] {
        let is = class(&format!("{rule}\nclass = \"credentials\""), &refusal) == Class::Credentials;
        assert_eq!(is, holds, "{rule}");
    }
}

#[test]
fn rule_may_set_the_wait_and_the_place_of_the_status() {
    let configured = rules(
        r#"
        [[answers]]
        status = 400
        pointer = "/busy"
        class = "throttled"
        retry_after = "90s"
        [[answers]]
        status = 200
        pointer = "/statusCode"
        status_at = "/statusCode"
        "#,
    )
    .unwrap();
    let table = Table::new(configured).unwrap();
    let busy = answer(400, &[], r#"{"busy":1}"#);
    let meaning = table.meaning(&busy);
    assert_eq!(
        (meaning.class, meaning.retry_after),
        (Class::Throttled, Some(Duration::from_secs(90)))
    );
    for (body, class) in [
        (r#"{"statusCode":404}"#, Class::NotFound),
        (r#"{"statusCode":"409"}"#, Class::Conflict),
        (r#"{"statusCode":"soon"}"#, Class::Outage),
        // It points to itself.
        (r#"{"statusCode":200}"#, Class::Outage),
        ("{}", Class::Applied),
    ] {
        assert_eq!(table.meaning(&answer(200, &[], body)).class, class, "{body}");
    }
}

#[test]
fn meaningless_rule_is_refused_with_a_remedy() {
    for (rule, remedy) in [
        ("status = 400", "class"),
        ("class = \"outage\"", "without a condition"),
        ("status = 400\nclass = \"outage\"\nstatus_at = \"/a\"", "either"),
        ("status = 99\nclass = \"outage\"", "expected a status"),
        ("status = \"500-400\"\nclass = \"outage\"", "expected a status"),
        ("status = []\nclass = \"outage\"", "expected a status"),
        ("header = \"a b\"\nclass = \"outage\"", "expected a header"),
        ("status = 400\nequals = 3\nclass = \"outage\"", "pointer"),
        ("pointer = \"a\"\nclass = \"outage\"", "slash"),
        (
            "pointer = \"/a\"\nmatches = \"(\"\nclass = \"outage\"",
            "regular expression",
        ),
        (
            "status = 400\nclass = \"denied\"\nretry_after = \"3s\"",
            "throttled",
        ),
        ("status = 400\nclass = \"none\"", "unknown variant"),
        ("status = 400\nclas = \"outage\"", "unknown field"),
    ] {
        let error = rules(&format!("[[answers]]\n{rule}")).unwrap_err();
        assert!(error.contains(remedy), "{rule}: {error}");
    }
}
