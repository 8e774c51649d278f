//! `usher explain`: which rule decides.

use serde_json::Value;

use crate::process::{Folder, Settings};

async fn explained(settings: &Settings, arguments: &[&str]) -> Value {
    let arguments = [&["explain", "answer", "--json"], arguments].concat();
    let output = settings.run(&arguments, b"").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn an_answer_is_explained_by_the_rule_that_decides() {
    let none = Settings::default();
    let limited = ["--kind", "scim", "--status", "403", "--header", "retry-after: 3"];
    let said = explained(&none, &limited).await;
    assert_eq!(
        (&said["class"], &said["retryAfterSeconds"]),
        (&"throttled".into(), &3.0.into())
    );
    assert_eq!(said["table"], "HTTP's own table");

    let code = ["--kind", "zitadel", "--status", "400", "--body", r#"{"code":9}"#];
    let said = explained(&none, &code).await;
    assert_eq!(
        (&said["class"], &said["table"]),
        (&"conflict".into(), &"the table of the kind zitadel".into())
    );
    assert!(said["because"].as_str().unwrap().contains("state"));

    let output = none
        .run(&[&["explain", "answer"][..], &limited].concat(), b"")
        .await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("throttled: "), "{text}");
    assert!(
        text.contains("after 3 s") && text.contains("Rule ") && text.contains("HTTP's own table"),
        "{text}"
    );
}

#[tokio::test]
async fn the_configurations_rules_are_explained_too() {
    let folder = Folder::new();
    let file = folder.write(
        "usher.toml",
        r#"
        [broker]
        url = "amqp://guest:guest@127.0.0.1:5672/%2f"
        [provider]
        name = "p"
        kind = "karmo"
        base_url = "https://karmo.example"
        [provider.auth]
        token_file = "/t"
        [provider.karmo]
        not_configured_codes = ["10000503"]
        [[provider.answers]]
        status = 400
        pointer = "/busy"
        equals = true
        class = "throttled"
        retry_after = "90s"
        because = "the shop is full"
        "#,
    );
    let none = Settings::default();
    let busy = ["--config", &file, "--status", "400", "--body", r#"{"busy":true}"#];
    let said = explained(&none, &busy).await;
    assert_eq!((&said["class"], &said["rule"]), (&"throttled".into(), &1.into()));
    assert_eq!(
        (&said["retryAfterSeconds"], &said["because"]),
        (&90.0.into(), &"the shop is full".into())
    );
    let code = [
        "--config",
        &file,
        "--status",
        "503",
        "--body",
        r#"{"code":"10000503"}"#,
    ];
    assert_eq!(explained(&none, &code).await["class"], "configuration");
}

#[tokio::test]
async fn a_file_that_is_no_answer_is_refused_with_2() {
    let none = Settings::default();
    for arguments in [
        &["--status", "99", "--kind", "scim"][..],
        &["--status", "400", "--kind", "none"],
        &["--status", "400", "--kind", "scim", "--header", "retry-after"],
        &["--status", "400", "--kind", "scim", "--method", "a b"],
        &["--status", "400", "--kind", "scim", "--body-file", "/none"],
        &["--status", "400"],
    ] {
        let arguments = [&["explain", "answer"], arguments].concat();
        let output = none.run(&arguments, b"").await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {output:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[tokio::test]
async fn a_finding_is_explained_by_its_number_in_any_case() {
    let none = Settings::default();
    let text = async |arguments: &[&str]| {
        let output = none.run(arguments, b"").await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = text(&["explain", "U014"]).await;
    assert!(told.starts_with("U014: the topology differs"), "{told}");
    assert!(
        told.contains("How it is found: ") && told.contains("Fix: "),
        "{told}"
    );
    assert_eq!(text(&["explain", "u014"]).await, told);
    let json: Value = serde_json::from_str(&text(&["explain", "U014", "--json"]).await).unwrap();
    assert_eq!(
        (&json["number"], &json["level"], &json["exitCode"]),
        (&"U014".into(), &"wrong".into(), &2.into())
    );
    for unknown in [&["explain", "U999"][..], &["explain", "14"], &["explain"]] {
        let output = none.run(unknown, b"").await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let names_the_range = said.contains("they are U001 to U0");
        assert_eq!(names_the_range, unknown.len() == 2, "{said}");
    }
}
