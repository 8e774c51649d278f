//! Reads the stream of operators' orders, and reads it again whenever the broker ends the reading.

use lapin::Connection;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::listener::AGAIN;
use super::stream::Stream;
use super::trouble::Trouble;
use crate::broker::{FleetMessage, Streamed};

/// Ends when the receiver is gone.
pub(super) async fn follow(connection: &Connection, stream: &str, sender: &mpsc::Sender<FleetMessage>) {
    let mut trouble = Trouble::new("the operators' orders can't be read");
    loop {
        match follow_until_ended(connection, stream, sender, &mut trouble).await {
            Ok(true) => return,
            Ok(false) => trouble.is(&"the broker ended the consumer"),
            Err(error) => trouble.is(&error),
        }
        sleep(AGAIN).await;
    }
}

/// True if the receiver is gone.
async fn follow_until_ended(
    connection: &Connection,
    name: &str,
    sender: &mpsc::Sender<FleetMessage>,
    trouble: &mut Trouble<'_>,
) -> lapin::Result<bool> {
    let mut stream = Stream::open(connection, name, None).await?;
    trouble.is_over();
    let mut next = FleetMessage::OrdersBegin;
    loop {
        if sender.send(next).await.is_err() {
            return Ok(true);
        }
        next = match stream.next().await? {
            Some(Streamed::Message(message)) => FleetMessage::Order(message.body),
            Some(Streamed::Present) => FleetMessage::OrdersPresent,
            None => return Ok(false),
        };
    }
}
