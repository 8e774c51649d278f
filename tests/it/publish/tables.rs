//! CSV, and what is filled into commands that lack it.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{declare, scene, text};
use crate::outputs::mode;
use crate::process::Folder;
use crate::scene::Scene;

const QUEUE: &str = "user.update.zitadel.0";

/// Takes all commands out of the queue: their bodies, as they are.
pub async fn taken(scene: &Scene, queue: &str) -> Vec<String> {
    let channel = scene.channel().await;
    let count = scene.depth(&channel, queue).await;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    let mut consumer = consumer.await.unwrap();
    let mut bodies = Vec::new();
    for _ in 0..count {
        let delivery = timeout(Duration::from_secs(30), consumer.next()).await;
        let delivery = delivery.unwrap().unwrap().unwrap();
        bodies.push(String::from_utf8(delivery.data).unwrap());
    }
    channel.close(200, "OK".into()).await.unwrap();
    bodies
}

fn parsed(bodies: &[String]) -> Vec<Value> {
    bodies
        .iter()
        .map(|body| serde_json::from_str(body).unwrap())
        .collect()
}

#[tokio::test]
async fn a_csv_in_utf_16_becomes_commands_with_ids_that_stay_the_same() {
    let scene = scene("publish-csv").await;
    declare(&scene).await;
    let folder = Folder::new();
    let table = "userId;update.nickname;update.phone;update.zitadel.gender\r\n\
                 007;\"N, \"\"1\"\"\";+61412345678;\r\n\
                 008;-;;female\r\n";
    let wide: Vec<u8> = format!("\u{feff}{table}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let file = folder.path("users.csv");
    std::fs::write(&file, wide).unwrap();
    let arguments = [
        "publish",
        &file,
        "--provider",
        "zitadel",
        "--batch",
        "m-1",
        "--id-from",
        "userId",
        "--null",
        "-",
    ];
    let mut runs = Vec::new();
    let copy = folder.path("copy.csv");
    std::fs::copy(&file, &copy).unwrap();
    for file_of_run in [&file, &copy] {
        let arguments = arguments.map(|argument| if argument == file { file_of_run } else { argument });
        let published = scene.settings().run(&arguments, b"").await;
        assert_eq!(published.status.code(), Some(0), "{published:?}");
        runs.push(parsed(&taken(&scene, QUEUE).await));
    }
    assert_eq!(runs[0], runs[1]);
    let id = |n: usize| runs[0][n]["id"].clone();
    assert_ne!(id(0), id(1));
    let expected = json!([
        {
            "id": id(0), "provider": "zitadel", "batchId": "m-1", "userId": "007",
            "update": { "nickname": "N, \"1\"", "phone": "+61412345678" },
        },
        {
            "id": id(1), "provider": "zitadel", "batchId": "m-1", "userId": "008",
            "update": { "nickname": null, "zitadel": { "gender": "female" } },
        },
    ]);
    assert_eq!(Value::from(runs[0].clone()), expected);
}

#[tokio::test]
async fn a_header_that_is_none_of_commands_is_refused_with_the_names_that_were_meant() {
    let scene = scene("publish-header").await;
    let folder = Folder::new();
    let file = folder.write("users.csv", "id,userId,email\n1,2,s3cret@example.com\n");
    let published = scene.settings().run(&["publish", &file], b"").await;
    assert_eq!(published.status.code(), Some(2), "{published:?}");
    let said = text(&published.stderr);
    assert!(
        said.contains("the column email is unknown; use update.email"),
        "{said}"
    );
    assert!(
        said.contains("--provider NAME") && !said.contains("s3cret"),
        "{said}"
    );
}

#[tokio::test]
async fn a_refused_row_of_csv_is_shown_with_its_line_and_column_and_kept_as_it_was() {
    let scene = scene("publish-csv-rows").await;
    declare(&scene).await;
    let folder = Folder::new();
    let table = "userId,update.email,update.nickname\n\
                 u1,a@example.com,\"two\nlines\"\n\
                 u2,s3cret,x\n\
                 u3,c@example.com,x\n";
    let file = folder.write("users.csv", table);
    let rejects = folder.path("rejects.jsonl");
    let fill = ["--provider", "zitadel", "--batch", "m-2", "--id-from", "userId"];
    let arguments = [&["publish", &file, "--rejects", &rejects][..], &fill].concat();
    let published = scene.settings().run(&arguments, b"").await;
    assert_eq!(published.status.code(), Some(1), "{published:?}");
    let said = text(&published.stderr);
    assert!(
        said.contains("line 4, column update.email: invalid at /update/email"),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "{said}");
    assert_eq!(mode(&rejects), 0o600);
    let kept: Value = serde_json::from_str(folder.read("rejects.jsonl").trim()).unwrap();
    assert_eq!(
        (&kept["column"], &kept["text"]),
        (&"update.email".into(), &"u2,s3cret,x".into())
    );
}

#[tokio::test]
async fn a_batch_leaves_the_digits_of_json_lines_as_they_are() {
    let scene = scene("publish-digits").await;
    declare(&scene).await;
    let number = "12345678901234567890123.4500";
    let line = format!(
        r#"{{"id":"018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e","userId":"u","update":{{"mattr":{{"claims":{{"n":{number}}}}}}}}}"#
    );
    let arguments = ["publish", "-", "--batch", "m-3", "--provider", "zitadel"];
    let published = scene.settings().run(&arguments, line.as_bytes()).await;
    assert_eq!(published.status.code(), Some(0), "{published:?}");
    let bodies = taken(&scene, QUEUE).await;
    assert!(bodies[0].contains(&format!("\"n\":{number}")), "{bodies:?}");
    assert_eq!(parsed(&bodies)[0]["batchId"], "m-3");
}
