//! The yardstick: the same libraries and the same traffic, and nothing of what usher promises.
//!
//! No order for a user, no validation, no pace, no retry, no dead letter, no reconnect, no metrics.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use usher::broker::topology::OUTCOMES;
use usher::clock::Clock;
use uuid::Uuid;

use crate::stage::TOKEN;

pub const QUEUE: &str = "user.update.zitadel.0";
pub const PREFETCH: u16 = 256;
pub const CALLS_IN_FLIGHT: usize = 64;

struct Loop {
    client: reqwest::Client,
    provider: String,
    events: Channel,
    calls: Semaphore,
}

/// Until SIGTERM.
pub async fn run(broker: &str, provider: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connection = Connection::connect(broker, ConnectionProperties::default())
        .await
        .unwrap();
    let events = connection.create_channel().await.unwrap();
    events
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let commands = connection.create_channel().await.unwrap();
    commands
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await
        .unwrap();
    let mut consumer = commands
        .basic_consume(
            QUEUE.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let bare_loop = Arc::new(Loop {
        client: reqwest::Client::new(),
        provider: provider.to_owned(),
        events,
        calls: Semaphore::new(CALLS_IN_FLIGHT),
    });
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let running = TaskTracker::new();
    loop {
        tokio::select! {
            Some(delivery) = consumer.next() => {
                running.spawn(handle(bare_loop.clone(), delivery.unwrap()));
            }
            _ = terminated.recv() => break,
        }
    }
    running.close();
    running.wait().await;
    connection.close(200, "OK".into()).await.unwrap();
}

async fn handle(bare_loop: Arc<Loop>, delivery: Delivery) {
    let command: Value = serde_json::from_slice(&delivery.data).unwrap();
    let start = bare_loop
        .publish(&command, "START", "user.update.start.zitadel")
        .await;
    {
        let _permit = bare_loop.calls.acquire().await.unwrap();
        bare_loop.call(&command).await;
    }
    let success = bare_loop
        .publish(&command, "SUCCESS", "user.update.success.zitadel")
        .await;
    assert!(start.await.unwrap().is_ack());
    assert!(success.await.unwrap().is_ack());
    delivery.ack(BasicAckOptions::default()).await.unwrap();
}

impl Loop {
    async fn call(&self, command: &Value) {
        let update = &command["update"];
        let user_id = command["userId"].as_str().unwrap();
        let body = json!({
            "profile": {
                "givenName": update["givenName"],
                "familyName": update["familyName"],
                "preferredLanguage": update["locale"],
            },
            "email": { "email": update["email"] },
        });
        let url = format!("{}/v2/users/human/{user_id}", self.provider);
        let request = self.client.put(url).bearer_auth(TOKEN).json(&body);
        let answer = request.send().await.unwrap().error_for_status().unwrap();
        let _answer: Value = answer.json().await.unwrap();
    }

    /// An event of the size that usher's have.
    async fn publish(&self, command: &Value, kind: &str, key: &str) -> PublisherConfirm {
        let id = Uuid::new_v4();
        let now = Clock::System.now();
        let command_id = command["id"].as_str().unwrap();
        let event = json!({
            "specversion": "1.0",
            "id": id,
            "source": "/usher/zitadel",
            "subject": command["userId"],
            "time": now,
            "datacontenttype": "application/json",
            "dataschema": "urn:usher:schemas/user-update-event.v1.json",
            "type": format!("USER_UPDATE_{kind}"),
            "data": {
                "commandId": command_id,
                "fields": ["email", "givenName", "familyName", "locale"],
                "redelivered": false,
            },
        });
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(id.to_string().into())
            .with_content_type("application/cloudevents+json".into())
            .with_correlation_id(command_id.into());
        let body = serde_json::to_vec(&event).unwrap();
        let options = BasicPublishOptions::default();
        self.events
            .basic_publish(OUTCOMES.into(), key.into(), options, &body, properties)
            .await
            .unwrap()
    }
}
