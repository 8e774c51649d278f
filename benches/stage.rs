//! What both contenders find: a vhost with the commands in their queue, and a simulated provider.

use std::env;
use std::process::Stdio;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use usher::broker::topology::{COMMANDS, OUTCOME_LOG};
use uuid::Uuid;

use crate::bare_loop::QUEUE;
use crate::contender::{Contender, usher};
use crate::node::Node;
use crate::support::eventually;

pub const KIND: &str = "zitadel";
pub const TOKEN: &str = "token-of-the-benchmark";

/// Enough that neighbours in the queue are different users and nobody waits in a lane.
pub const USERS: u64 = 10_000;

const UNCONFIRMED_MAX: usize = 2000;

/// Often enough for a figure of two digits, seldom enough not to disturb.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub struct Stage {
    pub broker_url: String,
    pub provider_url: String,
    commands: u64,
    /// Takes traces.
    pub collector_url: String,
    _provider: Child,
    _collector: Child,
}

impl Stage {
    pub async fn set(node: &Node, contender: Contender, commands: u64) -> Self {
        let broker_url = node.vhost("throughput").await;
        let (provider, provider_url) = listening(provider()).await;
        let (collector, collector_url) = listening(collector()).await;
        let declared = usher(&contender.program(), &broker_url, &provider_url)
            .args(["topology", "declare"])
            .output()
            .await
            .unwrap();
        assert!(declared.status.success(), "{declared:?}");
        let stage = Self {
            broker_url,
            provider_url,
            commands,
            collector_url,
            _provider: provider,
            _collector: collector,
        };
        stage.publish().await;
        stage
    }

    async fn publish(&self) {
        let connection = self.connection().await;
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let mut unconfirmed = Vec::new();
        for n in 0..self.commands {
            unconfirmed.push(publish_one(&channel, n).await);
            if unconfirmed.len() == UNCONFIRMED_MAX || n + 1 == self.commands {
                for confirm in unconfirmed.drain(..) {
                    assert!(confirm.await.unwrap().is_ack());
                }
            }
        }
        connection.close(200, "OK".into()).await.unwrap();
    }

    /// From the first calls that are seen to the last: start-up doesn't count.
    pub async fn commands_per_second(&self) -> f64 {
        let client = reqwest::Client::new();
        let mut first = None;
        loop {
            let writes = self.writes(&client).await;
            let (from, began) = *first.get_or_insert((writes, Instant::now()));
            if writes == self.commands {
                return (writes - from) as f64 / began.elapsed().as_secs_f64();
            }
            if writes == 0 {
                first = None;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn writes(&self, client: &reqwest::Client) -> u64 {
        let summary = client.get(format!("{}/__summary", self.provider_url)).send();
        let summary: Value = summary.await.unwrap().json().await.unwrap();
        summary["applied"].as_u64().unwrap()
    }

    /// Waits until every command has its two events in the outcome log.
    pub async fn all_told(&self) {
        let told = async |channel: Channel| {
            eventually("two events for each command", async || {
                let events = u64::from(depth(&channel, OUTCOME_LOG).await);
                // A worker that finds nothing in the log repeats an event, to see that it is read.
                (events >= self.commands * 2).then_some(())
            })
            .await;
        };
        self.look(told).await;
    }

    /// After the contender's end: what it left unsettled has come back.
    pub async fn all_settled(&self) {
        let left = async |channel: Channel| depth(&channel, QUEUE).await;
        assert_eq!(self.look(left).await, 0, "unsettled commands");
    }

    async fn look<T>(&self, look: impl AsyncFnOnce(Channel) -> T) -> T {
        let connection = self.connection().await;
        // Held to the end: lapin closes a channel that is dropped, and then refuses to close the connection.
        let channel = connection.create_channel().await.unwrap();
        let seen = look(channel.clone()).await;
        connection.close(200, "OK".into()).await.unwrap();
        seen
    }

    async fn connection(&self) -> Connection {
        Connection::connect(&self.broker_url, ConnectionProperties::default())
            .await
            .unwrap()
    }
}

fn provider() -> Command {
    let mut provider = Command::new(env!("CARGO_BIN_EXE_usher"));
    provider.args(["simulate", KIND, "--listen", "127.0.0.1:0", "--token", TOKEN]);
    provider
}

fn collector() -> Command {
    let mut collector = Command::new(env::current_exe().unwrap());
    collector.arg("collector");
    collector
}

/// A process of its own, gone with its handle, and the address that it prints.
async fn listening(mut program: Command) -> (Child, String) {
    let mut child = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let url = BufReader::new(stdout).lines().next_line().await.unwrap();
    (child, url.expect("its address"))
}

async fn publish_one(channel: &Channel, n: u64) -> lapin::PublisherConfirm {
    let user = format!("user-{}", n % USERS);
    let id = Uuid::from_u128((0x0190_0000_0000_7000_8000 << 48) | u128::from(n));
    // Both names, so that Zitadel's PUT needs no read before it.
    let command = json!({
        "id": id,
        "provider": KIND,
        "userId": user,
        "update": {
            "email": format!("{user}.n{n}@example.com"),
            "givenName": "Renate",
            "familyName": format!("Musterfrau-{n}"),
            "locale": "de",
        },
        "issuedAt": "2026-11-03T09:12:45.123Z",
    });
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(id.to_string().into())
        .with_content_type("application/json".into());
    let key = format!("{KIND}.{user}");
    let options = BasicPublishOptions::default();
    let body = command.to_string();
    channel
        .basic_publish(COMMANDS.into(), key.into(), options, body.as_bytes(), properties)
        .await
        .unwrap()
}

async fn depth(channel: &Channel, queue: &str) -> u32 {
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
