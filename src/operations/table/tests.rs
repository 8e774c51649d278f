//! Tables as spreadsheets and databases write them.

use serde_json::{Value, json};

use super::columns::{CellType, known};
use super::*;
use crate::contract::decode;

const ID: &str = "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e";

fn table(header: &[&str], options: Options) -> Result<Table, String> {
    let header: Vec<_> = header.iter().map(|name| name.as_bytes()).collect();
    Table::new(&header, options)
}

fn row(table: &Table, cells: &[&str]) -> Result<Value, Failure> {
    let cells: Vec<_> = cells.iter().map(|cell| cell.as_bytes()).collect();
    let json = table.command(&cells)?;
    Ok(serde_json::from_slice(&json).unwrap())
}

fn filled(batch: &str) -> Options {
    Options {
        fill: Fill {
            provider: Some("p".parse().unwrap()),
            batch: (!batch.is_empty()).then(|| batch.parse().unwrap()),
        },
        null: Some("NULL".into()),
        id_from: (!batch.is_empty()).then(|| "userId".into()),
        ids: None,
    }
}

#[test]
fn each_leaf_of_the_schema_is_a_column_with_its_type() {
    let known = known();
    let of = |name: &str| {
        known
            .iter()
            .find(|known| known.name == name)
            .map(|known| known.cell)
    };
    for (name, cell) in [
        ("userId", CellType::Text),
        ("expiresAt", CellType::Text),
        ("update.phone", CellType::Text),
        ("update.zitadel.gender", CellType::Text),
        ("update.zitadel.emailVerification", CellType::Json),
        ("update.zitadel.emailVerification.verified", CellType::Flag),
        (
            "update.zitadel.emailVerification.sendCode.urlTemplate",
            CellType::Text,
        ),
        ("update.zitadel.password.hash", CellType::Text),
        ("update.scim.active", CellType::Flag),
        ("update.sivo.newsletterNotification", CellType::Flag),
        ("update.sivo.lists", CellType::Json),
        ("update.mattr.claims", CellType::Json),
        ("update.mattr.authenticationProvider.subjectId", CellType::Text),
    ] {
        assert_eq!(of(name), Some(cell), "{name}");
    }
    assert_eq!(of("email"), None);
}

#[test]
fn cells_become_what_their_columns_are_and_empty_ones_are_not_sent() {
    let header = [
        "id",
        "userId",
        "update.phone",
        "update.nickname",
        "update.scim.active",
        "update.sivo.metadata",
        "update.zitadel.emailVerification.verified",
    ];
    let table = table(&header, filled("")).unwrap();
    let number = "12345678901234567890123";
    let cells = [
        ID,
        "007",
        "+61412345678",
        "NULL",
        "TRUE",
        "{\"n\":12345678901234567890123}",
        "",
    ];
    let json = table.command(&cells.map(str::as_bytes)).unwrap();
    assert!(std::str::from_utf8(&json).unwrap().contains(number));
    let command: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(command["userId"], "007");
    assert_eq!(command["provider"], "p");
    assert_eq!(command["update"]["phone"], "+61412345678");
    assert_eq!(command["update"]["nickname"], Value::Null);
    assert_eq!(command["update"]["scim"], json!({ "active": true }));
    assert!(command["update"].as_object().unwrap().contains_key("nickname"));
    assert!(command["update"].get("zitadel").is_none());
    let nothing = row(&table, &[ID, "u", "", "", "", "", ""]).unwrap();
    assert_eq!(nothing["update"], json!({}));
    let refused = decode(nothing.to_string().as_bytes()).unwrap_err();
    assert!(refused.detail.contains("no field is named"), "{refused}");
}

#[test]
fn ids_are_made_from_keys_where_the_row_has_none() {
    let header = ["id", "userId", "update.nickname"];
    let table = table(&header, filled("m-1")).unwrap();
    let made = row(&table, &["", "u1", "x"]).unwrap();
    let expected = id_from(&"m-1".parse().unwrap(), "p", "u1").to_string();
    assert_eq!(made["id"], expected.as_str());
    assert_eq!(made["batchId"], "m-1");
    assert_eq!(row(&table, &[ID, "u1", "x"]).unwrap()["id"], ID);
    let refused = row(&table, &["", "", "x"]).unwrap_err();
    assert_eq!(refused.pointer.as_deref(), Some("/id"));
    assert!(refused.detail.contains("the column userId"), "{refused}");

    // A key of the publisher's own is not sent.
    let own = Options {
        id_from: Some("legacy_no".into()),
        ..filled("m-1")
    };
    let table = super::tests::table(&["legacy_no", "userId", "update.nickname"], own).unwrap();
    let made = row(&table, &["77", "u1", "x"]).unwrap();
    assert!(decode(made.to_string().as_bytes()).is_ok(), "{made}");
}

#[test]
fn a_key_of_the_publishers_own_becomes_the_users_id_or_the_row_is_refused_at_its_column() {
    let mut map = IdMap::default();
    map.add(2, "alex@example.com", "u1").unwrap();
    let mapped = |column: &str| Options {
        ids: Some((Arc::new(map), column.to_owned())),
        ..filled("")
    };
    let by_mail = table(&["id", "email", "update.nickname"], mapped("email")).unwrap();
    assert_eq!(
        row(&by_mail, &[ID, " alex@example.com", "Al"]).unwrap(),
        json!({ "id": ID, "provider": "p", "userId": "u1", "update": { "nickname": "Al" } })
    );
    for (key, fix) in [("kim@example.com", "usher resolve"), ("", "fill it in")] {
        let refused = row(&by_mail, &[ID, key, "Al"]).unwrap_err();
        assert!(
            refused.detail.contains(fix) && !refused.detail.contains("kim"),
            "{refused}"
        );
        let pointer = refused.pointer.unwrap();
        assert_eq!(by_mail.column_at(&pointer), Some("email"));
    }
}

#[test]
fn an_id_map_needs_its_column_and_no_other_source_of_ids() {
    let mapped = |column: &str| Options {
        ids: Some((Arc::default(), column.to_owned())),
        ..filled("")
    };
    for (header, column, wrong) in [
        (
            &["id", "userId", "email", "update.nickname"][..],
            "email",
            "keep one of the two",
        ),
        (
            &["id", "mail", "update.nickname"],
            "email",
            "no column email for --map-from",
        ),
        (
            &["id", "email", "mail", "update.nickname"],
            "email",
            "column mail is unknown",
        ),
    ] {
        let refused = table(header, mapped(column)).unwrap_err();
        assert!(refused.contains(wrong), "{refused}");
    }
}

#[test]
fn a_header_says_what_is_wrong_with_it_and_what_was_meant() {
    let wrong = |header: &[&str], options| table(header, options).unwrap_err();
    for (column, meant) in [
        ("email", "use update.email"),
        ("E-Mail", "use update.email"),
        ("update.emial", "use update.email"),
        ("user_id", "use userId"),
        ("update.given_name", "use update.givenName"),
        ("phone", "use update.phone"),
        ("shoe size", "`usher schema command`"),
    ] {
        let text = wrong(&["id", "userId", "update.locale", column], filled(""));
        assert!(
            text.contains(&format!("the column {column} is unknown")),
            "{text}"
        );
        assert!(text.contains(meant), "{column}: {text}");
    }
    let text = wrong(&["update.email", "update.email", "update"], Options::default());
    for part in [
        "the column update.email appears twice",
        "the columns update and update.email exclude each other",
        "no column id; add it, or name a column of keys with --id-from",
        "no column provider; add it, or name it with --provider",
        "no column userId",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A file without a header begins with data, which is not shown.
    let text = wrong(&["alex@example.com", "+61412345678", "Alex"], Options::default());
    assert!(
        !text.to_lowercase().contains("alex") && !text.contains("614"),
        "{text}"
    );
    let missing = Options {
        id_from: Some("nr".into()),
        ..filled("b")
    };
    assert!(wrong(&["userId", "update.email"], missing).contains("no column nr"));
}

#[test]
fn rows_that_are_no_commands_are_refused_at_their_column_without_their_values() {
    let header = [
        "id",
        "userId",
        "update.scim.active",
        "update.sivo.lists",
        "update.email",
    ];
    let table = table(&header, filled("")).unwrap();
    for (cells, column, detail) in [
        (
            &[ID, "u", "s3cret", "", ""][..],
            Some("update.scim.active"),
            "true nor false",
        ),
        (&[ID, "u", "", "s3cret", ""], Some("update.sivo.lists"), "JSON"),
        (&[ID, "u", ""], None, "3 cells, and the header has 5"),
        (&header, None, "the header again"),
    ] {
        let refused = row(&table, cells).unwrap_err();
        assert!(refused.detail.contains(detail), "{refused}");
        assert!(!refused.detail.contains("s3cret"), "{refused}");
        let at = refused
            .pointer
            .as_deref()
            .and_then(|pointer| table.column_at(pointer));
        assert_eq!(at, column);
    }
    let latin = table
        .command(&[ID.as_bytes(), b"u", b"", b"", b"\xe9"])
        .unwrap_err();
    assert!(latin.detail.contains("iconv"), "{latin}");
    let command = row(&table, &[ID, "u", "", "", "s3cret"]).unwrap();
    let refused = decode(command.to_string().as_bytes()).unwrap_err();
    assert_eq!(
        table.column_at(refused.pointer.as_deref().unwrap()),
        Some("update.email")
    );
    assert_eq!(table.column_at("/update/sivo/lists/0"), Some("update.sivo.lists"));
}
