//! A whole scene: a vhost, a simulated provider, commands for it, and the account afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::time::timeout;
use usher::broker::topology::{COMMANDS, DEAD_LETTERS, OUTCOME_LOG};
use usher::provider::Kind;
use usher::simulator::{self, Op, Simulated};
use uuid::Uuid;

use crate::process::Settings;
use crate::support::eventually;

/// In seconds: how long the outcome log may be silent before it is read by another reader; and how often.
const SILENCE: u64 = 10;
const SILENCES_MAX: u32 = 12;

pub const TOKEN: &str = "token-of-the-test";

pub struct Scene {
    pub kind: Kind,
    pub url: String,
    pub provider: Simulated,
    pub commands: u64,
    pub users: u64,
}

/// Users as the simulation of the kind rest keeps them.
fn flat() -> Settings {
    let path = "/users/{userId}";
    Settings::default()
        .with("PROVIDER__REST__PATH", &path)
        .with("PROVIDER__REST__READ_PATH", &path)
        .with("PROVIDER__REST__FIELDS__EMAIL", &"email")
        .with("PROVIDER__REST__FIELDS__PHONE", &"phone")
        .with("PROVIDER__REST__FIELDS__GIVEN_NAME", &"givenName")
        .with("PROVIDER__REST__FIELDS__FAMILY_NAME", &"familyName")
}

/// The n-th command goes to user n modulo users, so that each user gets several over the whole time.
impl Scene {
    pub async fn new(kind: Kind, url: String, commands: u64, users: u64) -> Self {
        Self::with_latency(Duration::from_millis(10), kind, url, commands, users).await
    }

    pub async fn with_latency(latency: Duration, kind: Kind, url: String, commands: u64, users: u64) -> Self {
        let settings = simulator::Settings {
            latency,
            token: Some(TOKEN.to_owned()),
            seed: 7,
            ..simulator::Settings::new(kind)
        };
        let provider = simulator::start(settings, (Ipv4Addr::LOCALHOST, 0).into())
            .await
            .unwrap();
        Self {
            kind,
            url,
            provider,
            commands,
            users,
        }
    }

    pub fn settings(&self) -> Settings {
        let settings = match self.kind {
            Kind::Rest => flat(),
            _ => Settings::default(),
        };
        settings
            .with("BROKER__URL", &self.url)
            .with("PROVIDER__NAME", &self.kind)
            .with("PROVIDER__KIND", &self.kind)
            .with("PROVIDER__BASE_URL", &self.provider.base_url())
            .with("PROVIDER__AUTH__TOKEN", &TOKEN)
            .with("PROVIDER__RATE__PER_SECOND", &2000)
            .with("PROVIDER__TIMEOUT", &"2s")
            .with("PROVIDER__SETTLING_TIME", &"200ms")
            // A broker that restarts may take a message and forget to confirm it.
            .with("BROKER__CONFIRM_TIMEOUT", &"5s")
            .with("RETRY__ATTEMPTS", &10)
            .with("ADMIN__LISTEN", &"127.0.0.1:0")
    }

    fn id(n: u64) -> Uuid {
        Uuid::from_u128((0x0190_0000_0000_7000_8000 << 48) | u128::from(n))
    }

    fn user(&self, n: u64) -> String {
        format!("user-{}", n % self.users)
    }

    /// What the n-th command sets: the number can be read back from it.
    fn email(&self, n: u64) -> String {
        format!("{}.n{n}@example.com", self.user(n))
    }

    pub fn lines(&self) -> String {
        let line = |n: u64| {
            let mut command = json!({
                "id": Self::id(n), "provider": self.kind, "userId": self.user(n), "update": { "email": self.email(n) },
            });
            if self.kind == Kind::Sivo {
                // The simulated version begins with 2026 and moves on by a second with each write.
                let start: jiff::Timestamp = simulator::STARTING_VERSION.parse().unwrap();
                let version = start + Duration::from_secs(n / self.users);
                command["expectedVersion"] = format!("{version:.3}").into();
            }
            if self.kind == Kind::Scim {
                // Each write moves the simulated version on by one.
                command["expectedVersion"] = format!("W/\"{}\"", n / self.users).into();
            }
            format!("{command}\n")
        };
        (0..self.commands).map(line).collect()
    }

    /// Declares the topology and publishes all commands, with 5 invalid and 5 undecodable ones among them.
    pub async fn publish(&self) {
        let declared = self.settings().run(&["topology", "declare"], b"").await;
        assert!(declared.status.success(), "{declared:?}");
        let lines = self.lines();
        let half = lines.len() / 2 + lines[lines.len() / 2..].find('\n').unwrap() + 1;
        self.publish_lines(&lines[..half]).await;
        let channel = self.channel().await;
        for n in 0..5 {
            let body = format!(
                r#"{{"id":"{}","provider":"{}","userId":"bad-{n}","update":{{"phone":"no"}}}}"#,
                Self::id(900_000 + n),
                self.kind
            );
            self.publish_raw(&channel, &format!("bad-{n}"), body.as_bytes())
                .await;
            self.publish_raw(
                &channel,
                &format!("worse-{n}"),
                format!("{{no JSON {n}").as_bytes(),
            )
            .await;
        }
        self.publish_lines(&lines[half..]).await;
    }

    pub async fn publish_lines(&self, lines: &str) {
        let published = self.settings().run(&["publish", "-"], lines.as_bytes()).await;
        assert!(published.status.success(), "{published:?}");
    }

    async fn publish_raw(&self, channel: &Channel, user: &str, body: &[u8]) {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("message-{user}").into());
        let key = format!("{}.{user}", self.kind);
        let options = BasicPublishOptions::default();
        channel
            .basic_publish(COMMANDS.into(), key.into(), options, body, properties)
            .await
            .unwrap()
            .await
            .unwrap();
    }

    pub async fn channel(&self) -> Channel {
        let connection = Connection::connect(&self.url, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        // Without confirms, what is on its way to a queue is lost when the channel closes.
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        // It lives as long as the test: it ends with its process.
        std::mem::forget(connection);
        channel
    }

    pub async fn depth(&self, channel: &Channel, queue: &str) -> u32 {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .unwrap()
            .message_count()
    }

    /// Waits until the provider has applied so many writes.
    pub async fn applied(&self, writes: u64) {
        eventually("so many writes", async || {
            (self.provider.summary().applied >= writes).then_some(())
        })
        .await;
    }

    /// Waits until every command has its terminal event in the outcome log, and returns all events.
    pub async fn events(&self, terminal_ids: usize) -> Vec<Value> {
        let (mut events, mut ids) = (Vec::new(), BTreeSet::new());
        let mut offset = AMQPValue::LongString("first".into());
        let mut silences = 0;
        loop {
            // A broker that has just started may not have its streams yet; and a reader on RabbitMQ 3.10 may
            // not be told of the last chunk until somebody writes again: another reader is.
            let mut log = eventually("the outcome log", async || {
                self.outcome_log(offset.clone()).await.ok()
            })
            .await;
            loop {
                // After the last terminal id a repeat may still come.
                let patience = if ids.len() < terminal_ids { SILENCE } else { 1 };
                let Ok(Some(delivery)) = timeout(Duration::from_secs(patience), log.next()).await else {
                    break;
                };
                silences = 0;
                let delivery = delivery.unwrap();
                delivery
                    .ack(lapin::options::BasicAckOptions::default())
                    .await
                    .unwrap();
                let headers = delivery.properties.headers().as_ref().unwrap();
                if let Some(AMQPValue::LongLongInt(at)) = headers.inner().get("x-stream-offset") {
                    offset = AMQPValue::LongLongInt(at + 1);
                }
                let event: Value = serde_json::from_slice(&delivery.data).unwrap();
                // What is told of the provider as a whole stands there, too.
                if !delivery.routing_key.as_str().starts_with("user.") {
                    continue;
                }
                assert_eq!(
                    delivery.properties.message_id().as_ref().unwrap().as_str(),
                    event["id"].as_str().unwrap()
                );
                if event["type"] != "USER_UPDATE_START" {
                    ids.insert(event["id"].as_str().unwrap().to_owned());
                }
                events.push(event);
            }
            silences += 1;
            if ids.len() >= terminal_ids || silences == SILENCES_MAX {
                assert_eq!(ids.len(), terminal_ids, "terminal event ids in the outcome log");
                return events;
            }
        }
    }

    async fn outcome_log(&self, offset: AMQPValue) -> lapin::Result<lapin::Consumer> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        std::mem::forget(connection);
        channel.basic_qos(1000, BasicQosOptions::default()).await?;
        let mut from = FieldTable::default();
        from.insert("x-stream-offset".into(), offset);
        let options = BasicConsumeOptions::default();
        channel
            .basic_consume(OUTCOME_LOG.into(), "".into(), options, from)
            .await
    }

    /// Empties the dead letters' queue: reasons and how often.
    /// All that there are, once there are so many: while a worker looks at them, nobody else sees any.
    pub async fn dead_letters(&self, at_least: usize) -> BTreeMap<String, usize> {
        let channel = self.channel().await;
        let mut reasons = BTreeMap::new();
        let options = BasicGetOptions { no_ack: true };
        eventually("the dead letters", async || {
            while let Some(dead_letter) = channel.basic_get(DEAD_LETTERS.into(), options).await.unwrap() {
                let headers = dead_letter.properties.headers().as_ref().unwrap();
                let Some(AMQPValue::LongString(reason)) = headers.inner().get("x-usher-reason") else {
                    panic!("a dead letter without its reason");
                };
                *reasons.entry(reason.to_string()).or_default() += 1;
            }
            (reasons.values().sum::<usize>() >= at_least).then_some(())
        })
        .await;
        reasons
    }

    /// The account of a run that began with `publish`: what every such run must end with.
    pub async fn check(&self) {
        let events = self.events(usize::try_from(self.commands).unwrap() + 10).await;
        let of_type = |kind: &str| -> BTreeSet<&str> {
            let of_type = events.iter().filter(|event| event["type"] == kind);
            of_type
                .map(|event| event["data"]["commandId"].as_str().unwrap())
                .collect()
        };
        let (started, succeeded, failed) = (
            of_type("USER_UPDATE_START"),
            of_type("USER_UPDATE_SUCCESS"),
            of_type("USER_UPDATE_FAIL"),
        );
        assert_eq!(succeeded.len() as u64, self.commands);
        assert_eq!(failed.len(), 10);
        assert_eq!(started, succeeded.union(&failed).copied().collect());
        assert!(succeeded.is_disjoint(&failed));

        let channel = self.channel().await;
        for queue in [
            format!("user.update.{}.0", self.kind),
            format!("user.update.bulk.{}.0", self.kind),
            "user.unroutable".into(),
        ] {
            eventually("an empty queue", async || {
                (self.depth(&channel, &queue).await == 0).then_some(())
            })
            .await;
        }
        self.check_users();
    }

    /// Each user has the last value that was published for it, and its writes never went back.
    fn check_users(&self) {
        for n in self.commands - self.users..self.commands {
            let user = self.provider.user(&self.user(n)).unwrap().to_string();
            assert!(
                user.contains(&self.email(n)),
                "{user} is not as command {n} asked"
            );
        }
        let mut latest = BTreeMap::new();
        for call in self.provider.calls().iter().filter(|call| call.op == Op::Write) {
            let body = String::from_utf8_lossy(&call.body);
            let digits = body.split(".n").nth(1).unwrap().split('@').next().unwrap();
            let n: u64 = digits.parse().unwrap();
            let before = latest.insert(call.user.clone(), n);
            assert!(
                before <= Some(n),
                "{} went back from {before:?} to {n}",
                call.user
            );
        }
        assert_eq!(
            self.provider.summary().overlapping,
            0,
            "calls of one user overlap"
        );
    }
}
