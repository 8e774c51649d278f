//! What was published: the outcome log, while it grows and to its end, and the dead letters.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use usher::broker::topology::{DEAD_LETTERS, OUTCOME_LOG};

use super::board::Board;
use super::command::Command;
use super::link::{Link, connect};
use crate::support::moment;

/// How long the log may keep silent before it is opened anew.
const SILENT: Duration = Duration::from_secs(4);
/// How often to look until all expected events are there.
const SILENCES: u32 = 5;
/// A broker that has just started may not have its streams yet.
const OPEN_MAX: Duration = Duration::from_secs(180);
const OPEN_GAP: Duration = Duration::from_millis(200);

/// The events of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events {
    pub started: u32,
    pub terminal_ids: BTreeSet<String>,
    pub succeeded: u32,
    pub failed: u32,
    /// Of the latest FAIL.
    pub reason: Option<String>,
}

#[derive(Debug, Default)]
pub struct Account {
    pub event_count: u64,
    pub events: HashMap<Command, Events>,
    /// Events of what nobody published.
    pub of_nobody: Vec<String>,
}

pub struct DeadLetter {
    /// None where it can't be read from the message.
    pub command: Option<Command>,
    /// None where the worker has not written it.
    pub reason: Option<String>,
}

/// Tells the board what is settled, whatever happens to the connection. Never ends.
pub async fn follow(urls: Arc<[String]>, board: Arc<Board>) {
    let mut log = Log::new(urls);
    loop {
        if let Some(event) = log.next(SILENT).await
            && is_terminal(&event)
            && let Some(command) = command_of(&event)
        {
            board.settled(command);
        }
    }
}

/// The whole log, until each of so many commands has its terminal event, or nothing comes any more.
pub async fn account(urls: &Arc<[String]>, commands: usize) -> Account {
    let mut log = Log::new(urls.clone());
    let (mut account, mut ended, mut silences) = (Account::default(), 0, 0);
    while silences < SILENCES {
        match log.next(SILENT).await {
            Some(event) => {
                silences = 0;
                ended += usize::from(account.enter(&event));
            }
            // After the last that is waited for, a repeat may still have come.
            None if ended >= commands => break,
            None => silences += 1,
        }
    }
    account
}

/// A reader that goes on where it was. A cluster may leave one without a word when it moves the stream: after a
/// silence it asks again, over another connection.
struct Log {
    urls: Arc<[String]>,
    offset: AMQPValue,
    open: Option<(Link, Consumer)>,
}

impl Log {
    fn new(urls: Arc<[String]>) -> Self {
        Self {
            urls,
            offset: AMQPValue::LongString("first".into()),
            open: None,
        }
    }

    /// None after a silence.
    async fn next(&mut self, silent: Duration) -> Option<Value> {
        let (link, mut log) = match self.open.take() {
            Some(open) => open,
            None => open_log(&self.urls, self.offset.clone()).await,
        };
        let delivery = timeout(silent, log.next()).await.ok()??.ok()?;
        if let Some(at) = offset_of(&delivery) {
            self.offset = AMQPValue::LongLongInt(at + 1);
        }
        let event = serde_json::from_slice(&delivery.data).unwrap();
        if delivery.ack(BasicAckOptions::default()).await.is_ok() {
            self.open = Some((link, log));
        }
        Some(event)
    }
}

impl Account {
    /// True for the first terminal event of a command.
    fn enter(&mut self, event: &Value) -> bool {
        self.event_count += 1;
        if is_of_the_provider(event) {
            return false;
        }
        let Some(command) = command_of(event) else {
            self.of_nobody.push(event.to_string());
            return false;
        };
        let events = self.events.entry(command).or_default();
        match event["type"].as_str() {
            Some("USER_UPDATE_START") => events.started += 1,
            Some("USER_UPDATE_SUCCESS") => events.succeeded += 1,
            _ => {
                events.failed += 1;
                events.reason = event["data"]["error"]["reason"].as_str().map(str::to_owned);
            }
        }
        let first = is_terminal(event) && events.terminal_ids.is_empty();
        if is_terminal(event) {
            events.terminal_ids.insert(event["id"].to_string());
        }
        first
    }
}

/// Empties the queue of the dead letters.
pub async fn dead_letters(urls: &[String]) -> Vec<DeadLetter> {
    let link = connect(urls).await;
    let mut dead_letters = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(dead_letter) = link
        .channel
        .basic_get(DEAD_LETTERS.into(), options)
        .await
        .unwrap()
    {
        let header = |name: &str| match dead_letter.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            _ => None,
        };
        let id = dead_letter.properties.message_id().as_ref();
        dead_letters.push(DeadLetter {
            command: id.and_then(|id| Command::of_id(id.as_str())),
            reason: header("x-usher-reason"),
        });
    }
    dead_letters
}

/// Messages that wait in a queue.
pub async fn depth(link: &Link, queue: &str) -> Option<u32> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = link
        .channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await;
    declared.ok().map(|queue| queue.message_count())
}

/// At whichever node has it: one that has just come back may take its time.
async fn open_log(urls: &[String], offset: AMQPValue) -> (Link, Consumer) {
    let deadline = Instant::now() + OPEN_MAX;
    let mut first = 0;
    loop {
        first += 1;
        let (before, from) = urls.split_at(first % urls.len());
        let link = connect(&[from, before].concat()).await;
        match timeout(SILENT, read_from(&link.channel, offset.clone())).await {
            Ok(Ok(log)) => return (link, log),
            Ok(Err(error)) => assert!(
                Instant::now() < deadline,
                "the outcome log can't be read: {error}"
            ),
            Err(_) => assert!(
                Instant::now() < deadline,
                "the outcome log can't be read: no answer"
            ),
        }
        moment(Instant::now() + OPEN_GAP).await;
    }
}

async fn read_from(channel: &Channel, offset: AMQPValue) -> lapin::Result<Consumer> {
    channel.basic_qos(1000, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), offset);
    let options = BasicConsumeOptions::default();
    channel
        .basic_consume(OUTCOME_LOG.into(), "".into(), options, arguments)
        .await
}

fn offset_of(delivery: &Delivery) -> Option<i64> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get("x-stream-offset")? {
        AMQPValue::LongLongInt(at) => Some(*at),
        AMQPValue::LongInt(at) => Some(i64::from(*at)),
        _ => None,
    }
}

/// Of no command: what happens to the provider, or to the fleet.
fn is_of_the_provider(event: &Value) -> bool {
    let kind = event["type"].as_str().unwrap_or_default();
    ["PROVIDER_", "CREDENTIALS_", "INTAKE_"]
        .iter()
        .any(|prefix| kind.starts_with(prefix))
}

fn is_terminal(event: &Value) -> bool {
    ["USER_UPDATE_SUCCESS", "USER_UPDATE_FAIL"].contains(&event["type"].as_str().unwrap_or_default())
}

fn command_of(event: &Value) -> Option<Command> {
    Command::of_id(event["data"]["commandId"].as_str()?)
}
