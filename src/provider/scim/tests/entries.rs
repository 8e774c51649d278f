//! Entries of lists: which one a command means, and what is learned from them.

use super::*;

#[tokio::test]
async fn ambiguous_entry_is_refused() {
    let user = json!({"id": "u", "emails": [{"value": "a@x.zz"}, {"value": "b@x.zz"}]});
    let server = canned("200 OK", "", &user.to_string()).await;
    let (set, clear) = (json!({"email": "alex@example.com"}), json!({"email": null}));
    for (config, update, is_refused) in [
        (json!({"entry_members": []}), &set, true),
        (json!({"entry_members": []}), &clear, true),
        (json!({"entry_members": [], "contacts": "list"}), &set, false),
        (json!({}), &set, false),
        (json!({}), &clear, true),
    ] {
        let scim = adapter(&server.base_url, &config);
        let command = command("u", update);
        let current = scim.read(&command.user_id).await.unwrap();
        assert_eq!(
            scim.compare(&command, &current),
            Comparison::Differs,
            "{config} {update}"
        );
        let ended = scim.update(&command, Some(&current)).await;
        assert_eq!(ended.is_err(), is_refused, "{config} {update}");
        if is_refused {
            let refused = error(ended);
            let said = (
                refused.fault,
                refused.pointer.as_deref(),
                refused.detail.contains("contacts"),
            );
            assert_eq!(said, (CONFLICT, Some("/update/email"), true));
        }
    }
}

#[tokio::test]
async fn clear_that_would_leave_untyped_addresses_is_refused() {
    let clear = command("u", &json!({"email": null}));
    let untyped = json!({"value": "b@x.zz"});
    for (entries, is_refused) in [
        (json!([{"value": "a@x.zz", "primary": true}, untyped]), true),
        (json!([{"value": "a@x.zz", "type": "work"}, untyped]), true),
        (
            json!([{"value": "a@x.zz", "type": "work"}, {"value": "b@x.zz", "type": "home"}]),
            false,
        ),
        (json!([untyped]), false),
    ] {
        for config in [json!({}), json!({"write": "put"})] {
            let user = json!({"id": "u", "emails": entries});
            let server = canned("200 OK", "", &user.to_string()).await;
            let scim = adapter(&server.base_url, &config);
            let current = scim.read(&clear.user_id).await.unwrap();
            let ended = scim.update(&clear, Some(&current)).await;
            assert_eq!(ended.is_err(), is_refused, "{entries} {config}");
            assert_eq!(
                server.requests().len(),
                if is_refused { 1 } else { 2 },
                "{entries} {config}"
            );
        }
    }
}

#[tokio::test]
async fn users_are_read_until_types_are_likely_and_again_after_an_untyped_entry() {
    let set = command("u", &json!({"email": "alex@example.com"}));
    let name = command("u", &json!({"givenName": "Alex"}));
    let shown = |entry: Value| json!({"id": "u", "emails": [entry]}).to_string();
    let server = canned("200 OK", "", &shown(json!({"value": "a@x.zz", "type": "home"}))).await;
    let scim = adapter(&server.base_url, &json!({}));
    for _ in 0..20 {
        assert!(scim.reads_before_write(&set) && !scim.reads_before_write(&name));
        scim.read(&set.user_id).await.unwrap();
    }
    assert!(!scim.reads_before_write(&set));
    server.answer_with("200 OK", &shown(json!({"value": "a@x.zz"})));
    scim.read(&set.user_id).await.unwrap();
    assert!(scim.reads_before_write(&set) && !scim.reads_before_write(&name));
}
