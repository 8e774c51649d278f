//! The broker's own dead letters, one message at a time: a body may be as large as the broker allows.

use futures_util::StreamExt;
use lapin::Connection;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::listener::AGAIN;
use super::received::Received;
use super::trouble::Trouble;
use crate::broker::topology::BROKER_DEAD_LETTERS;
use crate::broker::{Config, FleetMessage};

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
        let delivery = Received::from(delivery?).into_delivery(config.confirm_timeout);
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
