//! Commands as publishers write them.

use serde_json::{Value, json};
use usher::broker::topology::{COMMANDS, COMMANDS_BULK};
use usher::broker::{Message, Properties};
use uuid::Uuid;

pub const PROVIDER: &str = "sim";

/// The n-th command for this user. Its nickname is its number.
pub fn body(n: u64, user: &str, bulk: bool) -> Value {
    let mut command = json!({
        "id": id(n), "provider": PROVIDER, "userId": user, "update": { "nickname": n.to_string() },
    });
    if bulk {
        command["batchId"] = "batch".into();
    }
    command
}

pub fn id(n: u64) -> Uuid {
    Uuid::from_u128((0x0190_0000_0000_7000_8000 << 48) | u128::from(n))
}

pub fn command(n: u64, user: &str, bulk: bool) -> Message {
    message(&body(n, user, bulk), user, bulk)
}

pub fn message(body: &Value, user: &str, bulk: bool) -> Message {
    raw(
        body.to_string().into_bytes(),
        body["id"].as_str().unwrap_or("m"),
        user,
        bulk,
    )
}

pub fn raw(body: Vec<u8>, message_id: &str, user: &str, bulk: bool) -> Message {
    Message {
        exchange: if bulk { COMMANDS_BULK } else { COMMANDS }.into(),
        routing_key: format!("{PROVIDER}.{user}"),
        properties: Properties::persistent(message_id, "application/json"),
        body: body.into(),
        mandatory: false,
    }
}
