//! What `usher check` reports about a server, depending on its documents.

use super::*;
use crate::provider::testbed::{canned_by, simulated_with};
use crate::simulator::{ScimDialect, Settings};

const NONE: (u16, &str) = (404, "");

/// The three documents, each with its status.
async fn said(config: &Value, service: (u16, &str), schemas: (u16, &str), types: (u16, &str)) -> Vec<Remark> {
    let documents = [
        ("/ServiceProviderConfig", service),
        ("/Schemas", schemas),
        ("/ResourceTypes", types),
    ];
    let documents = documents.map(|(path, (status, body))| (path, status, body.to_owned()));
    let server = canned_by(move |request| {
        let path = request.split(' ').nth(1).unwrap();
        let (_, status, body) = documents.iter().find(|(known, ..)| path == *known).unwrap();
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
    })
    .await;
    let remarks = adapter(&server.base_url, config).remarks().await.unwrap();
    assert_eq!(server.requests().len(), 3);
    remarks
}

fn has(remarks: &[Remark], says: &str) -> bool {
    remarks.iter().any(|remark| remark.detail.contains(says))
}

#[tokio::test]
async fn each_simulated_dialect_describes_itself() {
    for dialect in ScimDialect::ALL {
        let simulated = simulated_with(Settings {
            scim_dialect: dialect,
            ..Settings::new(Kind::Scim)
        })
        .await;
        let remarks = adapter(&simulated.base_url(), &json!({}))
            .remarks()
            .await
            .unwrap();
        assert!(
            remarks.iter().all(|remark| remark.workable),
            "{dialect} {remarks:?}"
        );
        assert!(!has(&remarks, "can't be read"), "{dialect} {remarks:?}");
        assert_eq!(
            has(&remarks, "no PATCH"),
            dialect == ScimDialect::PutOnly,
            "{dialect} {remarks:?}"
        );
        assert_eq!(
            has(&remarks, "has only a value"),
            dialect == ScimDialect::ValueOnly,
            "{dialect} {remarks:?}"
        );
        assert_eq!(
            has(&remarks, "versions are checked"),
            dialect != ScimDialect::Entra,
            "{dialect} {remarks:?}"
        );
        assert!(has(&remarks, "users are under `/Users`"), "{dialect} {remarks:?}");
    }
}

#[tokio::test]
async fn missing_features_are_reported() {
    let no_patch = (200, r#"{"patch":{"supported":false}}"#);
    for (config, workable, says) in [
        (json!({}), true, "no PATCH: users are read and put"),
        (json!({"write": "patch"}), false, "no PATCH"),
        (json!({"write": "put"}), true, "put as a whole"),
    ] {
        let remarks = said(&config, no_patch, NONE, NONE).await;
        assert_eq!(remarks[0].workable, workable, "{config}");
        assert!(remarks[0].detail.contains(says), "{remarks:?}");
        assert!(has(&remarks, "does not say that it has ETag"), "{remarks:?}");
    }
    let partial = said(&json!({}), (200, r#"{"etag":{"supported":true}}"#), NONE, NONE).await;
    assert!(
        partial[0].workable && partial[0].detail.contains("it is tried"),
        "{partial:?}"
    );
    assert!(has(&partial, "versions are checked"), "{partial:?}");
}

#[tokio::test]
async fn unreadable_document_is_named_and_the_others_count() {
    let service = (200, r#"{"patch":{"supported":true},"etag":{"supported":true}}"#);
    let schemas = (
        200,
        r#"{"Resources":[{"id":"urn:ietf:params:scim:schemas:core:2.0:User","attributes":[
            {"name":"emails","subAttributes":[{"name":"value"},{"name":"primary"}]}]}]}"#,
    );
    let types = (
        200,
        r#"{"Resources":[{"schema":"urn:ietf:params:scim:schemas:core:2.0:User","endpoint":"/Accounts"}]}"#,
    );
    let whole = [
        "users can be changed (PATCH)",
        "an entry of `emails` has a value and `primary`, and no `type`, nothing is said of the entries of `phoneNumbers`",
        "under another path",
    ];
    let names = ["`/ServiceProviderConfig`", "`/Schemas`", "`/ResourceTypes`"];
    for missing in 0..3 {
        for broken in [NONE, (200, "[]"), (500, "{}")] {
            let mut documents = [service, schemas, types];
            documents[missing] = broken;
            let [service, schemas, types] = documents;
            let remarks = said(&json!({}), service, schemas, types).await;
            assert!(remarks.iter().all(|remark| remark.workable), "{remarks:?}");
            for (n, (says, name)) in whole.iter().zip(names).enumerate() {
                assert_eq!(has(&remarks, says), n != missing, "{says} {remarks:?}");
                assert_eq!(
                    has(&remarks, &format!("{name} can't be read")),
                    n == missing,
                    "{remarks:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn possible_losses_without_versions_are_reported() {
    let both = |patch: bool, etag: bool| {
        format!(r#"{{"patch":{{"supported":{patch}}},"etag":{{"supported":{etag}}}}}"#)
    };
    let lost = "between the read and";
    for (config, patch, etag, is_said) in [
        (json!({}), true, false, false),
        (json!({}), false, false, true),
        (json!({}), false, true, false),
        (json!({"write": "put"}), true, false, true),
        (json!({"write": "put"}), true, true, false),
        (json!({"path_filters": false}), true, false, true),
        (json!({"entry_members": ["primary"]}), true, false, true),
        (
            json!({"entry_members": [], "contacts": "list"}),
            true,
            false,
            false,
        ),
        (json!({"entry_members": ["type"]}), true, false, false),
    ] {
        let remarks = said(&config, (200, &both(patch, etag)), NONE, NONE).await;
        assert_eq!(
            has(&remarks, lost),
            is_said,
            "{config} {patch} {etag} {remarks:?}"
        );
    }
    let unknown = said(&json!({"write": "put"}), NONE, NONE, NONE).await;
    assert!(has(&unknown, lost), "{unknown:?}");
}

#[tokio::test]
async fn configured_members_that_do_not_exist_are_reported() {
    let schemas = r#"{"Resources":[{"id":"urn:ietf:params:scim:schemas:core:2.0:User","attributes":[
        {"name":"emails","subAttributes":[{"name":"value"}]}]}]}"#;
    for (config, says) in [
        (json!({}), Some("omitted once the provider refuses it")),
        (
            json!({"entry_members": ["type"]}),
            Some("names a member that does not exist"),
        ),
        (json!({"entry_members": []}), None),
    ] {
        let remarks = said(&config, NONE, (200, schemas), NONE).await;
        for text in [
            "omitted once the provider refuses it",
            "names a member that does not exist",
        ] {
            assert_eq!(has(&remarks, text), says == Some(text), "{config} {remarks:?}");
        }
    }
}
