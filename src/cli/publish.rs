//! `usher publish`: a file of commands to RabbitMQ, each checked first and confirmed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;
use tokio::task::JoinSet;
use usher::broker::amqp::{self, WhenUnreachable};
use usher::broker::topology::{COMMANDS, COMMANDS_BULK};
use usher::broker::{Message, Properties, PublishError, Publisher};
use usher::contract::{BatchId, Failure, Reason, decode};
use usher::worker::Shutdown;

use super::exit::{self, Exit};
use super::input::{Input, Line};
use super::{Context, signals};

/// Publishes that wait for their confirm.
const UNCONFIRMED_MAX: usize = 512;

/// A file that is wrong throughout is wrong in the same way.
const REFUSALS_SHOWN_MAX: u64 = 20;

/// What AMQP can hold in a routing key.
const ROUTING_KEY_BYTES_MAX: usize = 255;

#[derive(clap::Args)]
pub struct Args {
    /// Commands as JSON lines; - for stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// As bulk traffic, which takes the pace that interactive traffic leaves
    #[arg(long)]
    bulk: bool,
    /// Set this batchId in every command
    #[arg(long, value_name = "ID")]
    batch: Option<BatchId>,
}

pub async fn publish(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.broker()?;
    let input = Input::from(args.file.clone());
    // A file is checked to its end before the first command is sent; stdin can be read only once.
    if input.path().is_some() && !all_valid(&input, &args).await? {
        return Ok(Exit::Failures);
    }
    let shutdown = Shutdown::new();
    signals::stop_on_signals(shutdown.clone())?;
    let publisher = amqp::publisher(&config, WhenUnreachable::Fail)
        .await
        .map_err(|error| exit::broker(&error))?;
    let (published, ended) = send_all(&input, &args, &publisher, &shutdown).await;
    publisher.close().await;
    super::say(&format!("usher: {published} commands published and confirmed"));
    ended
}

async fn all_valid(input: &Input, args: &Args) -> anyhow::Result<bool> {
    let mut lines = input.open().await?;
    let mut refused = 0;
    while let Some(line) = lines.next().await? {
        let number = line.number;
        if let Err(failure) = message(line, args) {
            refused += 1;
            if refused <= REFUSALS_SHOWN_MAX {
                super::say(&format!("usher: line {number}: {failure}"));
            }
        }
    }
    if refused > 0 {
        super::say(&format!(
            "usher: {refused} lines are refused; nothing was published"
        ));
    }
    Ok(refused == 0)
}

/// Sends line after line, many users at a time, and waits for every confirm.
async fn send_all(
    input: &Input,
    args: &Args,
    publisher: &Arc<dyn Publisher>,
    shutdown: &Shutdown,
) -> (u64, anyhow::Result<Exit>) {
    let mut sending = Sending::default();
    let sent = async {
        let mut lines = input.open().await?;
        while let Some(line) = lines.next().await? {
            if shutdown.is_draining() {
                return Ok(Exit::Interrupted);
            }
            let number = line.number;
            let message = message(line, args)
                .map_err(|failure| exit::with(Exit::Failures, format!("line {number}: {failure}")))?;
            sending.send(message, publisher.clone()).await?;
        }
        Ok(Exit::Done)
    };
    let mut ended = sent.await;
    while !sending.confirms.is_empty() {
        if let Err(error) = sending.confirmed().await {
            ended = Err(error);
        }
    }
    (sending.published, ended)
}

/// Publishes on their way. A user's next command is sent when the one before is confirmed: neither a
/// lost one nor the order of tasks lets a later command pass.
#[derive(Default)]
struct Sending {
    confirms: JoinSet<(String, Result<(), PublishError>)>,
    users: HashSet<String>,
    published: u64,
}

impl Sending {
    async fn send(&mut self, message: Message, publisher: Arc<dyn Publisher>) -> anyhow::Result<()> {
        while self.confirms.len() == UNCONFIRMED_MAX || self.users.contains(&message.routing_key) {
            self.confirmed().await?;
        }
        self.users.insert(message.routing_key.clone());
        self.confirms.spawn(async move {
            let confirm = publisher.publish(&message).await;
            (message.routing_key, confirm)
        });
        Ok(())
    }

    async fn confirmed(&mut self) -> anyhow::Result<()> {
        let Some(confirm) = self.confirms.join_next().await else {
            return Ok(());
        };
        let (user, confirm) = confirm.context("a publish was cut off")?;
        self.users.remove(&user);
        confirm.map_err(|error| {
            let mend = "publish the file again, its commands keep their ids";
            exit::with(Exit::OutOfReach, format!("{error}; {mend}"))
        })?;
        self.published += 1;
        Ok(())
    }
}

/// The line as a message, or why it is refused.
fn message(line: Line, args: &Args) -> Result<Message, Failure> {
    let body = match &args.batch {
        None => line.text,
        Some(batch) => with_batch(&line.text, batch)?,
    };
    let command = decode(&body)?;
    let routing_key = format!("{}.{}", command.provider, command.user_id);
    if routing_key.len() > ROUTING_KEY_BYTES_MAX {
        let detail = format!(
            "with the provider's name it has more than the {ROUTING_KEY_BYTES_MAX} bytes of a routing key"
        );
        return Err(Failure::new(Reason::Invalid, detail).at("/userId"));
    }
    Ok(Message {
        exchange: if args.bulk { COMMANDS_BULK } else { COMMANDS }.into(),
        routing_key,
        properties: Properties::persistent(&command.id.to_string(), "application/json"),
        body: body.into(),
        mandatory: false,
    })
}

fn with_batch(text: &[u8], batch: &BatchId) -> Result<Vec<u8>, Failure> {
    // What is no command is refused as it stands.
    decode(text)?;
    let edited = serde_json::from_slice::<Value>(text).and_then(|mut command| {
        command["batchId"] = batch.as_str().into();
        serde_json::to_vec(&command)
    });
    edited.map_err(|_| Failure::new(Reason::Undecodable, "the line is not JSON"))
}
