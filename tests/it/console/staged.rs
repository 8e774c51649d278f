//! What the console's screens show in the browser: a scene with something on each of them, and one that strangers named.

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use serde_json::json;
use usher::broker::topology::DEAD_LETTERS;

use crate::dead_letters::{fail, id, scene, until_depth, usher};
use crate::process::{Folder, Process};
use crate::scene::Scene;

pub const BATCH: &str = "spring";

/// What a page might run, or take for something else than text.
pub const STRANGE: [&str; 9] = [
    "\"><img src=x onerror=hit()>",
    "<script>hit()</script>",
    "javascript:hit()",
    "{{7*7}}${hit()}",
    "' onmouseover='hit()' autofocus onfocus='hit()",
    "</code></pre></title></main><svg onload=hit()>",
    "&lt;b&gt;&#0;a\\..\\b?c#d%41",
    "=hit() a\u{202e}gpj.exe\u{2066}",
    "nul\u{0}bell\u{7}esc\u{1b}[31m",
];

/// A line of the people's file holds no spaces in a name.
pub const STRANGE_NAMES: [&str; 3] = [
    "\"><img/src=x/onerror=hit()>",
    "<script>hit()</script>",
    "{{7*7}}'onclick='hit()",
];

/// A worker, dead letters, a batch of which two commands failed, a redrive of which some failed again, and orders.
pub async fn with_all_that_is_shown(name: &str) -> (Scene, Process) {
    let scene = scene(name).await;
    let channel = fail(&scene, 75, 20).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 75).await;
    let worker = scene.settings().start(&["run"]);
    publish_batch(&scene, BATCH, 12).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 77).await;
    let redrive = ["--user", "user-4", "--yes", "--rate", "200/s", "--by", "alex"];
    usher(&scene, &[&["dead-letters", "redrive"][..], &redrive].concat(), 1).await;
    let bulk = ["--bulk-only", "--reason", "a migration ends", "--by", "alex"];
    usher(&scene, &[&["pause"][..], &bulk].concat(), 0).await;
    usher(&scene, &["pace", "pin", "500/s", "--by", "alex"], 0).await;
    (scene, worker)
}

/// The provider refuses each sixth.
async fn publish_batch(scene: &Scene, batch: &str, count: u128) {
    let line = |n: u128| {
        let name = if n.is_multiple_of(6) { "rejected" } else { "Ada" };
        let update = json!({ "givenName": name });
        let (id, user) = (id(5000 + n), format!("user-{n}"));
        json!({ "id": id, "provider": "zitadel", "userId": user, "update": update }).to_string() + "\n"
    };
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &(0..count).map(line).collect::<String>());
    usher(scene, &["publish", &file, "--bulk", "--yes", "--batch", batch], 0).await;
}

/// All that a stranger or an operator may name is named strangely.
pub async fn with_strangers(scene: &Scene) {
    let channel = scene.channel().await;
    for strange in STRANGE {
        for reason in [strange, "rejected"] {
            publish_strange(&channel, strange, reason).await;
        }
    }
    let count = u32::try_from(2 * STRANGE.len()).unwrap();
    until_depth(scene, &channel, DEAD_LETTERS, count).await;
    // An order and a batch hold no control characters.
    let told = STRANGE
        .iter()
        .filter(|strange| !strange.contains(char::is_control));
    for strange in told {
        let reveal = ["dead-letters", "show", strange, "--reveal", "--by", strange];
        usher(scene, &reveal, 0).await;
        publish_batch(scene, strange, 1).await;
        usher(scene, &["batch", "pause", strange, "--by", strange], 0).await;
    }
    let pause = ["pause", "--reason", STRANGE[0], "--by", STRANGE[1]];
    usher(scene, &pause, 0).await;
    usher(scene, &["pace", "pin", "20/s", "--by", STRANGE[0]], 0).await;
}

async fn publish_strange(channel: &Channel, strange: &str, reason: &str) {
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("x-usher-reason", reason.to_owned()),
        ("x-usher-code", strange.to_owned()),
        ("x-usher-detail", format!("/update/{strange}: {strange}")),
        ("x-usher-dead-at", "2026-11-21T10:00:00Z".to_owned()),
        ("x-usher-exchange", "user.commands".to_owned()),
        ("x-usher-routing-key", format!("zitadel.{strange}")),
        ("x-usher-version", strange.to_owned()),
        ("x-usher-first-attempt-at", strange.to_owned()),
        (&format!("x-usher-{strange}"), strange.to_owned()),
        (strange, strange.to_owned()),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(strange.into())
        .with_headers(headers);
    let body = json!({
        "id": strange, "provider": "zitadel", "userId": strange, "batchId": strange,
        "update": { strange: strange, "givenName": strange },
    });
    let options = BasicPublishOptions::default();
    let (body, key) = (body.to_string(), "zitadel.rejected".into());
    let sent = channel.basic_publish(DEAD_LETTERS.into(), key, options, body.as_bytes(), properties);
    assert!(sent.await.unwrap().await.unwrap().is_ack());
}
