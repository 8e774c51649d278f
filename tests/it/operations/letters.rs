//! Dead letters that tests make, and a worker that ends each command as it is told.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinHandle;
use usher::broker::topology::{DEAD_LETTERS, OUTCOMES};
use usher::broker::{Header, Message, Properties, Publisher};
use usher::contract::event::EventIds;
use usher::operations::dead_letters::look;
use usher::operations::operation::Access;
use uuid::Uuid;

use crate::bench::Bench;
use crate::support::{PROVIDER, eventually};

/// So many users have dead letters.
const USERS: usize = 6;

fn uuid(n: usize) -> Uuid {
    Uuid::from_u128((0x0190_0000_0000_7000_8000 << 48) | n as u128)
}

pub fn id(n: usize) -> String {
    uuid(n).to_string()
}

fn number(id: &str) -> usize {
    let id: Uuid = id.parse().unwrap();
    (id.as_u128() & 0xffff_ffff) as usize
}

fn user(n: usize) -> String {
    format!("u{}", n % USERS)
}

/// The n-th, of user n modulo their number.
pub fn letter(n: usize) -> Message {
    let user = user(n);
    let reason = if n.is_multiple_of(2) {
        "conflict"
    } else {
        "rejected"
    };
    let dead_at = Timestamp::from_millisecond(1_795_000_000_000 + n as i64).unwrap();
    let text = |name: &str, text: &str| (name.to_owned(), Header::Text(text.to_owned()));
    let body = json!({
        "id": uuid(n), "provider": PROVIDER, "userId": user, "update": { "email": "alex@example.com" },
    });
    Message {
        exchange: DEAD_LETTERS.to_owned(),
        routing_key: format!("{PROVIDER}.{reason}"),
        properties: Properties::persistent(&id(n), "application/json").with_headers([
            text("x-usher-reason", reason),
            text("x-usher-detail", "/update/email: it belongs to another user"),
            text("x-usher-dead-at", &dead_at.to_string()),
            text("x-usher-exchange", "user.commands"),
            text("x-usher-routing-key", &format!("{PROVIDER}.{user}")),
            ("x-usher-redrives".to_owned(), Header::Number(0)),
        ]),
        body: Bytes::from(body.to_string()),
        mandatory: true,
    }
}

pub async fn publish(bench: &dyn Bench, numbers: Range<usize>) {
    let publisher = bench.publisher().await;
    for n in numbers {
        publisher.publish(&letter(n)).await.unwrap();
    }
    publisher.close().await;
}

/// Dead letters that have been sent again so often, each with the FAIL events of all its ends in the log.
pub async fn publish_redriven(bench: &dyn Bench, numbers: Range<usize>, redrives: u32) {
    let publisher = bench.publisher().await;
    for n in numbers {
        for earlier in 0..=redrives {
            let failed = outcome(&id(n), &user(n), earlier, false);
            publisher.publish(&failed).await.unwrap();
        }
        let mut letter = letter(n);
        let count = ("x-usher-redrives".to_owned(), Header::Number(redrives.into()));
        letter.properties = letter.properties.with_headers([count]);
        publisher.publish(&letter).await.unwrap();
    }
    publisher.close().await;
}

/// The ids of the dead letters, once there are so many.
pub async fn lying(access: &Access, count: u64) -> Vec<String> {
    eventually("so many dead letters", async || {
        let depth = access.inspector.depth(DEAD_LETTERS).await.unwrap().unwrap();
        (depth.ready == count).then_some(())
    })
    .await;
    let mut ids = Vec::new();
    let looked = look(&*access.inspector, |letter, _| {
        ids.push(letter.id.unwrap());
        ControlFlow::Continue(())
    });
    looked.await.unwrap();
    ids
}

#[derive(Clone, Debug)]
pub struct Got {
    pub id: String,
    pub user: String,
    pub bulk: bool,
    pub redrives: Option<i64>,
    pub dead_at: bool,
    /// Whether it has counts of an earlier queue.
    pub counted: bool,
}

/// Each user's commands came in the order of the dead letters.
pub fn check_order(got: &[Got]) {
    let mut latest: BTreeMap<&str, usize> = BTreeMap::new();
    for delivered in got {
        let n = number(&delivered.id);
        let before = latest.insert(&delivered.user, n);
        assert!(
            before < Some(n),
            "{} went back from {before:?} to {n}",
            delivered.user
        );
    }
}

/// Takes commands, and ends each.
pub struct Worker {
    got: Arc<Mutex<Vec<Got>>>,
    working: JoinHandle<()>,
}

impl Worker {
    pub async fn start(bench: &dyn Bench, succeeds: impl Fn(usize) -> bool + Send + 'static) -> Self {
        let mut consumer = bench.consumer(100).await;
        let publisher = bench.publisher().await;
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let into = got.clone();
        let working = tokio::spawn(async move {
            while let Some(delivery) = consumer.next().await {
                let properties = &delivery.properties;
                let id = properties.message_id().unwrap().to_owned();
                let (_, user) = delivery.routing_key.split_once('.').unwrap();
                into.lock().unwrap().push(Got {
                    id: id.clone(),
                    user: user.to_owned(),
                    bulk: delivery.bulk,
                    redrives: properties.number("x-usher-redrives"),
                    dead_at: properties.header("x-usher-dead-at").is_some(),
                    counted: properties.header("x-delivery-count").is_some() && !delivery.redelivered,
                });
                let ended = outcome(&id, user, 1, succeeds(number(&id)));
                until_published(&*publisher, &ended).await;
                delivery.ack().await.unwrap();
            }
        });
        Self { got, working }
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.working.abort();
    }
}

async fn until_published(publisher: &dyn Publisher, message: &Message) {
    while publisher.publish(message).await.is_err() {}
}

/// The event of the end after so many redrives.
fn outcome(id: &str, user: &str, redrives: u32, succeeded: bool) -> Message {
    let key: Uuid = id.parse().unwrap();
    let kind = if succeeded { "SUCCESS" } else { "FAIL" };
    let event_id = match succeeded {
        true => Uuid::new_v4(),
        false => EventIds::new(&key, redrives).fail(),
    };
    let mut data = json!({
        "commandId": id, "fields": ["email"], "redelivered": false, "attempts": 1, "durationMs": 5,
    });
    match succeeded {
        true => data["changed"] = true.into(),
        false => data["error"] = json!({ "reason": "conflict", "detail": "it belongs to another user" }),
    }
    let event = json!({
        "specversion": "1.0", "id": event_id, "source": format!("/usher/{PROVIDER}"), "subject": user,
        "time": "2999-01-01T00:00:00Z", "datacontenttype": "application/json",
        "dataschema": "urn:usher:schemas/user-update-event.v1.json",
        "type": format!("USER_UPDATE_{kind}"), "data": data,
    });
    Message {
        exchange: OUTCOMES.to_owned(),
        routing_key: format!("user.update.{}.{PROVIDER}", kind.to_lowercase()),
        properties: Properties::persistent(&event_id.to_string(), "application/cloudevents+json")
            .with_message_type(&format!("USER_UPDATE_{kind}"))
            .with_correlation_id(id),
        body: Bytes::from(event.to_string()),
        mandatory: false,
    }
}
