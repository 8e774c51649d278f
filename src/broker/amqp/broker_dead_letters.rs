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
use crate::broker::topology::BROKER_DEAD_LETTERS;
use crate::broker::{Acker, Config, Delivery, FleetMessage};

/// One worker at a time gets them, as the queue has a single active consumer. Ends when the receiver is gone.
pub(super) async fn take(connection: &Connection, config: &Config, sender: &mpsc::Sender<FleetMessage>) {
    let mut trouble = Trouble::new("user.dead-letters.by-broker can't be consumed");
    loop {
        match take_until_ended(connection, config, sender, &mut trouble).await {
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
    sender: &mpsc::Sender<FleetMessage>,
    trouble: &mut Trouble<'_>,
) -> lapin::Result<bool> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut deliveries = channel
        .basic_consume(BROKER_DEAD_LETTERS.into(), "".into(), options, arguments)
        .await?;
    trouble.is_over();
    while let Some(delivery) = deliveries.next().await {
        let Received {
            message,
            redelivered,
            acker,
        } = delivery?.into();
        let acker = Box::new(DeadLetterAcker {
            acker,
            ceiling: config.confirm_timeout,
        });
        let delivery = Delivery::new(message, redelivered, (0, false), acker);
        if sender
            .send(FleetMessage::BrokerDeadLetter(delivery))
            .await
            .is_err()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

struct DeadLetterAcker {
    acker: lapin::Acker,
    ceiling: Duration,
}

#[async_trait]
impl Acker for DeadLetterAcker {
    fn usable(&self) -> bool {
        self.acker.usable()
    }

    /// A lapin ack never returns if the connection ends at that moment.
    async fn ack(&self) -> bool {
        let acked = timeout(self.ceiling, self.acker.ack(BasicAckOptions::default())).await;
        matches!(acked, Ok(Ok(true)))
    }
}
