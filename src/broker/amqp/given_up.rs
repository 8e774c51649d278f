//! The broker's own dead letters, one message at a time: a body may be as large as the broker allows.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::Connection;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::listener::AGAIN;
use super::received::Received;
use super::trouble::Trouble;
use crate::broker::topology::GIVEN_UP;
use crate::broker::{Acker, Config, Delivery, FleetMessage};

/// One worker at a time gets them, as the queue has a single active consumer. Ends when the receiver is gone.
pub(super) async fn take(connection: &Connection, config: &Config, hear: &mpsc::Sender<FleetMessage>) {
    let mut trouble = Trouble::new("user.dead-letters.by-broker can't be consumed");
    loop {
        match take_until_ended(connection, config, hear, &mut trouble).await {
            Ok(true) => return,
            Ok(false) => trouble.is(&"the broker ended the consumer"),
            Err(error) => trouble.is(&error),
        }
        sleep(AGAIN).await;
    }
}

/// True if the receiver is gone.
async fn take_until_ended(
    connection: &Connection,
    config: &Config,
    hear: &mpsc::Sender<FleetMessage>,
    trouble: &mut Trouble<'_>,
) -> lapin::Result<bool> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut letters = channel
        .basic_consume(GIVEN_UP.into(), "".into(), options, arguments)
        .await?;
    trouble.is_over();
    while let Some(letter) = letters.next().await {
        let Received {
            message,
            redelivered,
            acker,
        } = letter?.into();
        let acker = Box::new(LetterAcker {
            acker,
            ceiling: config.confirm_timeout,
        });
        let letter = Delivery::new(message, redelivered, (0, false), acker);
        if hear.send(FleetMessage::GivenUp(letter)).await.is_err() {
            return Ok(true);
        }
    }
    Ok(false)
}

struct LetterAcker {
    acker: lapin::Acker,
    ceiling: Duration,
}

#[async_trait]
impl Acker for LetterAcker {
    fn usable(&self) -> bool {
        self.acker.usable()
    }

    /// A lapin ack never returns if the connection ends at that moment.
    async fn ack(&self) -> bool {
        let acked = timeout(self.ceiling, self.acker.ack(BasicAckOptions::default())).await;
        matches!(acked, Ok(Ok(true)))
    }
}
