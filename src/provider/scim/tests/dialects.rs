//! What is learned about a provider from its refusals.

use std::sync::Arc;

use super::*;
use crate::provider::testbed::{Canned, canned_by, simulated_with};
use crate::simulator::{ScimDialect, Settings};

/// A server that answers each request with the function's result for its method, head and body.
async fn serves(answer: fn(&str, &str, &str) -> (u16, Value)) -> Canned {
    canned_by(move |request| {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let method = head.split(' ').next().unwrap();
        let (status, body) = answer(method, head, body);
        let body = body.to_string();
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
    })
    .await
}

fn refused(status: u16, scim_type: &str) -> (u16, Value) {
    (
        status,
        json!({"schemas": [ERROR], "status": status.to_string(), "scimType": scim_type, "detail": "no"}),
    )
}

fn methods(server: &Canned) -> Vec<String> {
    let method = |request: &String| request.split(' ').next().unwrap().to_owned();
    server.requests().iter().map(method).collect()
}

#[tokio::test]
async fn provider_without_patch_gets_a_put_conditional_on_the_read_version() {
    let server = serves(|method, _, _| match method {
        "GET" => (
            200,
            json!({"id": "u", "userName": "u", "title": "T", "meta": {"version": "W/\"7\""}}),
        ),
        "PUT" => (200, json!({})),
        _ => refused(501, "x"),
    })
    .await;
    let scim = adapter(&server.base_url, &json!({}));
    let command = command("u", &json!({"nickname": "Al"}));
    let first = error(scim.update(&command, None).await);
    assert_eq!(first.fault, Fault::ReadFirst);
    assert!(scim.reads_before_write(&command), "from now on");
    apply(&scim, &command).await;
    assert_eq!(methods(&server), ["PATCH", "GET", "PUT"]);
    let put = server.requests().pop().unwrap();
    assert!(put.contains("if-match: W/\"7\"\r\n"), "{put}");
    let body: Value = serde_json::from_str(put.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        body,
        json!({"id": "u", "userName": "u", "title": "T", "nickName": "Al"})
    );
}

#[tokio::test]
async fn put_with_an_outdated_version_is_repeated_with_the_current_one() {
    let server = serves(|method, _, _| match method {
        "GET" => (200, json!({"id": "u", "meta": {"version": "W/\"7\""}})),
        _ => refused(412, "x"),
    })
    .await;
    let scim = adapter(&server.base_url, &json!({"write": "put"}));
    let plain = command("u", &json!({"nickname": "Al"}));
    let current = scim.read(&plain.user_id).await.unwrap();
    assert_eq!(
        error(scim.update(&plain, Some(&current)).await).fault,
        Fault::ReadFirst
    );
    let named = versioned(&json!({"nickname": "Al"}), "W/\"3\"");
    assert_eq!(
        error(scim.update(&named, Some(&current)).await).fault,
        VERSION_CONFLICT
    );
}

#[tokio::test]
async fn refusal_of_both_methods_is_a_configuration_fault() {
    let server = serves(|method, _, _| match method {
        "GET" => (200, json!({"id": "u"})),
        _ => refused(405, "x"),
    })
    .await;
    let scim = adapter(&server.base_url, &json!({}));
    let command = command("u", &json!({"nickname": "Al"}));
    assert_eq!(error(scim.update(&command, None).await).fault, Fault::ReadFirst);
    let current = scim.read(&command.user_id).await.unwrap();
    let refused = error(scim.update(&command, Some(&current)).await);
    assert_eq!(refused.fault, Fault::Configuration);
    let patch_only = adapter(&server.base_url, &json!({"write": "patch"}));
    assert_eq!(
        error(patch_only.update(&command, None).await).fault,
        Fault::Configuration
    );
}

#[tokio::test]
async fn provider_that_refuses_the_scim_media_type_gets_json() {
    let server = serves(|_, head, _| match head.contains("application/scim+json") {
        true => refused(415, "x"),
        false => (200, json!({"id": "u"})),
    })
    .await;
    let command = command("u", &json!({"nickname": "Al"}));
    let scim = adapter(&server.base_url, &json!({}));
    assert_eq!(error(scim.update(&command, None).await).fault, Fault::Again);
    scim.update(&command, None).await.unwrap();
    let reader = adapter(&server.base_url, &json!({}));
    assert_eq!(error(reader.read(&command.user_id).await).fault, Fault::Again);
    reader.read(&command.user_id).await.unwrap();
    let fixed = adapter(&server.base_url, &json!({"media_type": "scim"}));
    assert_eq!(
        error(fixed.update(&command, None).await).fault,
        Fault::Configuration
    );
}

#[tokio::test]
async fn provider_without_path_filters_gets_the_whole_list() {
    let server = serves(|method, _, body| match method {
        "GET" => (
            200,
            json!({"id": "u", "emails": [{"value": "h@x.zz", "type": "home", "primary": true}]}),
        ),
        _ if body.contains('[') && body.contains("type eq") => refused(400, "invalidPath"),
        _ => (204, json!({})),
    })
    .await;
    let scim = adapter(&server.base_url, &json!({}));
    let command = command("u", &json!({"email": "alex@example.com"}));
    assert_eq!(error(scim.update(&command, None).await).fault, Fault::ReadFirst);
    assert!(scim.reads_before_write(&command), "from now on");
    apply(&scim, &command).await;
    let sent = server.requests().pop().unwrap();
    let body: Value = serde_json::from_str(sent.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        body["Operations"],
        json!([{"op": "replace", "path": "emails", "value": [
            {"value": "h@x.zz", "type": "home", "primary": true},
            {"value": "alex@example.com", "type": "work", "primary": false}]}])
    );
}

/// Sends the command as `worker::attempts` does, until the server accepts its form.
async fn found_out(scim: &Scim, command: &UpdateUser, dialect: ScimDialect) {
    scim.check(command).unwrap();
    let mut reads = scim.reads_before_write(command);
    for _ in 0..5 {
        let current = match reads {
            true => Some(scim.read(&command.user_id).await.unwrap()),
            false => None,
        };
        match scim.update(command, current.as_ref()).await {
            Err(error) if error.fault == Fault::ReadFirst => reads = true,
            ended => return assert_eq!(ended.unwrap().ignored, None, "{dialect}"),
        }
    }
    panic!("{dialect} accepts no form of the write");
}

#[tokio::test]
async fn every_field_is_set_cleared_and_compared_in_each_dialect() {
    for dialect in ScimDialect::ALL {
        for first_user in ["set", "cleared"] {
            // What is learned with one user is known for the next.
            let simulated = simulated_with(Settings {
                scim_dialect: dialect,
                ..Settings::new(Kind::Scim)
            })
            .await;
            let scim = adapter(&simulated.base_url(), &json!({}));
            let (set, clear) = (every_field(), no_field());
            let of = |user: &str, update: &Value| command(user, update);
            for user in [first_user, "set", "cleared"] {
                let (mut first, mut second) = (of(user, &set), of(user, &clear));
                if user == "cleared" {
                    (first, second) = (second, first);
                }
                // Each is sent twice: the second time, the user already matches.
                for (command, other) in [(&first, &second), (&first, &second), (&second, &first)] {
                    found_out(&scim, command, dialect).await;
                    assert_eq!(
                        compared(&scim, command).await,
                        Comparison::Matches,
                        "{dialect} {user}"
                    );
                    assert_eq!(
                        compared(&scim, other).await,
                        Comparison::Differs,
                        "{dialect} {user}"
                    );
                }
                let home = format!("{user}@users.example");
                let mut emails = simulated.user(user).unwrap()["fields"]["emails"].clone();
                if emails.is_null() {
                    emails = json!([]);
                }
                let is_home = |entry: &Value| entry["value"] == *home && entry["type"] == "home";
                let has_home = emails.as_array().unwrap().iter().any(is_home);
                // If there are no types, the only entry is the one that is meant.
                assert_eq!(has_home, dialect != ScimDialect::ValueOnly, "{dialect} {emails}");
            }
        }
    }
}

#[tokio::test]
async fn provider_with_value_only_entries_is_recognised_by_its_schemas() {
    let simulated = simulated_with(Settings {
        scim_dialect: ScimDialect::ValueOnly,
        ..Settings::new(Kind::Scim)
    })
    .await;
    let scim = adapter(&simulated.base_url(), &json!({}));
    let phone = command("u", &json!({"phone": "+61412345678"}));
    found_out(&scim, &phone, ScimDialect::ValueOnly).await;
    let fields = simulated.user("u").unwrap()["fields"].clone();
    assert_eq!(fields["phoneNumbers"], json!([{"value": "+61412345678"}]));
    // From now on it is known: one read, one write.
    let before = simulated.calls().len();
    found_out(
        &scim,
        &command("v", &json!({"phone": "+61412345678"})),
        ScimDialect::ValueOnly,
    )
    .await;
    assert_eq!(simulated.calls().len() - before, 2);
    // Configured members are not looked up.
    let configured = adapter(&simulated.base_url(), &json!({"entry_members": []}));
    let before = simulated.calls().len();
    found_out(
        &configured,
        &command("w", &json!({"email": "alex@example.com"})),
        ScimDialect::ValueOnly,
    )
    .await;
    assert_eq!(simulated.calls().len() - before, 2);
}

#[tokio::test]
async fn unusable_schemas_leave_the_refusal_unchanged() {
    for answer in [
        (404, json!({})),
        (500, json!({})),
        (200, json!({"Resources": []})),
        (200, json!([])),
    ] {
        let says = answer.clone();
        let server = canned_by(move |request| {
            let (status, body) = match request {
                get if get.starts_with("GET /Schemas ") => says.clone(),
                get if get.starts_with("GET ") => (200, json!({"id": "u"})),
                _ => refused(400, "invalidValue"),
            };
            let body = body.to_string();
            let length = body.len();
            format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        })
        .await;
        let scim = adapter(&server.base_url, &json!({}));
        let command = command("u", &json!({"email": "alex@example.com"}));
        let mut ended = None;
        for _ in 0..5 {
            ended = scim.update(&command, None).await.err();
            if ended
                .as_ref()
                .is_some_and(|error| error.fault != Fault::ReadFirst)
            {
                break;
            }
        }
        assert_eq!(ended.unwrap().fault, REJECTED, "{answer:?}");
        let asked = server.requests();
        let asked = asked
            .iter()
            .filter(|request| request.starts_with("GET /Schemas "));
        assert!((1..=2).contains(&asked.count()), "{answer:?}");
        // Nothing is looked up again.
        let before = server.requests().len();
        assert_eq!(error(scim.update(&command, None).await).fault, REJECTED);
        assert_eq!(server.requests().len(), before + 1);
    }
}

#[tokio::test]
async fn paths_without_filters_can_be_configured() {
    let server = canned("204 No Content", "", "").await;
    let scim = adapter(&server.base_url, &json!({"path_filters": false}));
    let command = command("u", &json!({"email": "alex@example.com"}));
    assert!(scim.reads_before_write(&command));
    scim.update(&command, Some(&User("{}".into()))).await.unwrap();
    assert!(
        !server.requests()[0].contains("type eq"),
        "{:?}",
        server.requests()
    );
}

#[tokio::test]
async fn whole_list_does_not_overwrite_a_concurrent_change() {
    for dialect in [
        ScimDialect::NoValuePaths,
        ScimDialect::ValueOnly,
        ScimDialect::PutOnly,
    ] {
        let simulated = simulated_with(Settings {
            scim_dialect: dialect,
            ..Settings::new(Kind::Scim)
        })
        .await;
        let scim = adapter(&simulated.base_url(), &json!({}));
        let warm_up = command(
            "first",
            &json!({"email": "alex@example.com", "phone": "+61412345678"}),
        );
        found_out(&scim, &warm_up, dialect).await;
        // Over an existing entry.
        let again = json!({"email": "sam@example.com", "phone": "+61412345679"});
        found_out(
            &scim,
            &crate::provider::testbed::command("first", &again),
            dialect,
        )
        .await;
        let command = command("u", &json!({"email": "alex@example.com"}));
        let current = scim.read(&command.user_id).await.unwrap();
        let other = crate::provider::testbed::command("u", &json!({"nickname": "Al"}));
        found_out(&scim, &other, dialect).await;
        let late = error(scim.update(&command, Some(&current)).await);
        assert_eq!(late.fault, Fault::ReadFirst, "{dialect}");
        found_out(&scim, &command, dialect).await;
        assert_eq!(
            simulated.user("u").unwrap()["fields"]["nickName"],
            "Al",
            "{dialect}"
        );
    }
}

#[tokio::test]
async fn absent_value_can_be_cleared_in_each_dialect() {
    for dialect in ScimDialect::ALL {
        let simulated = simulated_with(Settings {
            scim_dialect: dialect,
            ..Settings::new(Kind::Scim)
        })
        .await;
        let scim = adapter(&simulated.base_url(), &json!({}));
        for update in [json!({"phone": null}), json!({"nickname": null})] {
            for user in ["u", "v"] {
                let before = scim.read(&command(user, &update).user_id).await.unwrap();
                found_out(&scim, &command(user, &update), dialect).await;
                let after = scim.read(&command(user, &update).user_id).await.unwrap();
                assert!(before == after, "{dialect} {update}");
            }
        }
        // No entry has the type that is meant.
        if dialect != ScimDialect::ValueOnly {
            found_out(&scim, &command("u", &json!({"email": null})), dialect).await;
            let emails = simulated.user("u").unwrap()["fields"]["emails"].clone();
            assert_eq!(emails[0]["type"], "home", "{dialect} {emails}");
        }
    }
}

#[tokio::test]
async fn groups_of_a_user_are_not_kept() {
    let groups: Vec<_> = (0..9_000)
        .map(|n| json!({"value": format!("018f6f1e-3b1c-7c5e-9d1a-{n:012}"), "display": "A group", "type": "direct"}))
        .collect();
    let user =
        json!({"id": "u", "userName": "alex", "groups": groups, "meta": {"version": "W/\"1\""}}).to_string();
    assert!(user.len() > 500_000);
    let server = canned("200 OK", "", &user).await;
    for config in [json!({}), json!({"write": "put"})] {
        let scim = adapter(&server.base_url, &config);
        let read = scim
            .read(&command("u", &json!({"nickname": "Al"})).user_id)
            .await
            .unwrap();
        let kept = read.0.as_str().unwrap();
        assert_eq!(
            kept, r#"{"id":"u","meta":{"version":"W/\"1\""},"userName":"alex"}"#,
            "{config}"
        );
    }
}

#[tokio::test]
async fn unnamed_members_are_put_back_byte_by_byte_in_order() {
    let user = r#"{"userName":"u","urn:x":{"n":12345678901234567890123,"f":1.50, "e":1e999},"schemas":["s"],
        "name":{"middleName":"M","givenName":"A"},"nickName":"Al","groups":[{"value":"g"}],
        "emails":[{"value":"old@example.com","type":"work","primary":true,"n":1.0000000000000000001},
                  {"n":98765432109876543210, "value":"home@example.com","type":"home"}],
        "id":"7","meta":{"version":"1"}}"#;
    let server = canned("200 OK", "", user).await;
    let scim = adapter(&server.base_url, &json!({"write": "put"}));
    let command = command(
        "7",
        &json!({"givenName": "Alex", "email": "alex@example.com", "phone": "+61412345678", "nickname": null}),
    );
    let current = scim.read(&command.user_id).await.unwrap();
    scim.update(&command, Some(&current)).await.unwrap();
    let put = server.requests().pop().unwrap();
    let expected = [
        r#"{"userName":"u","urn:x":{"n":12345678901234567890123,"f":1.50, "e":1e999},"schemas":["s"],"#,
        r#""name":{"middleName":"M","givenName":"Alex"},"#,
        r#""emails":[{"value":"alex@example.com","type":"work","primary":true,"n":1.0000000000000000001},"#,
        r#"{"n":98765432109876543210, "value":"home@example.com","type":"home"}],"#,
        r#""id":"7","phoneNumbers":[{"primary":true,"type":"work","value":"+61412345678"}]}"#,
    ];
    assert_eq!(put.split_once("\r\n\r\n").unwrap().1, expected.concat());
}

#[tokio::test]
async fn whole_list_in_a_patch_keeps_unnamed_members_byte_by_byte() {
    let user =
        r#"{"id":"7","emails":[{"n":98765432109876543210, "value":"home@example.com","type":"home"}]}"#;
    let server = canned("200 OK", "", user).await;
    let scim = adapter(&server.base_url, &json!({"path_filters": false}));
    let command = command("7", &json!({"email": "alex@example.com"}));
    let current = scim.read(&command.user_id).await.unwrap();
    scim.update(&command, Some(&current)).await.unwrap();
    let sent = server.requests().pop().unwrap();
    let kept = r#"[{"n":98765432109876543210, "value":"home@example.com","type":"home"},"#;
    assert!(sent.contains(kept), "{sent}");
}

#[tokio::test]
async fn write_in_flight_while_schemas_were_read_is_repeated_in_the_new_form() {
    let simulated = simulated_with(Settings {
        scim_dialect: ScimDialect::ValueOnly,
        ..Settings::new(Kind::Scim)
    })
    .await;
    let scim = Arc::new(adapter(&simulated.base_url(), &json!({})));
    let mut all = tokio::task::JoinSet::new();
    for n in 0..40 {
        let scim = Arc::clone(&scim);
        let command = command(&format!("u{n}"), &json!({"phone": "+61412345678"}));
        all.spawn(async move { found_out(&scim, &command, ScimDialect::ValueOnly).await });
    }
    for ended in all.join_all().await {
        assert_eq!(ended, ());
    }
    for n in 0..40 {
        let fields = simulated.user(&format!("u{n}")).unwrap()["fields"].clone();
        assert_eq!(fields["phoneNumbers"], json!([{"value": "+61412345678"}]));
    }
}
