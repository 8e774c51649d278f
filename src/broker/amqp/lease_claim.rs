//! The claim to a partition's lease: its token is one message in a single-active-consumer queue, held
//! unsettled for as long as the lease is held. It goes back when its channel closes.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::{sleep, timeout};

use crate::broker::{Message, Properties, Publisher};

pub(super) struct LeaseClaim {
    channel: Channel,
    tokens: lapin::Consumer,
    token: Option<lapin::message::Delivery>,
}

impl LeaseClaim {
    /// Publishes a lease token if there is none. Two workers may do so at once: a second token is harmless, since
    /// one consumer is active at a time.
    pub(super) async fn open(
        connection: &Connection,
        queue: &str,
        publisher: &dyn Publisher,
    ) -> lapin::Result<Self> {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let found = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await?;
        if found.message_count() == 0 && found.consumer_count() == 0 {
            let token = Message {
                exchange: String::new(),
                routing_key: queue.to_owned(),
                properties: Properties::persistent("baton", "text/plain"),
                body: bytes::Bytes::new(),
                mandatory: false,
            };
            // If it is not confirmed, the next claim finds it, or finds none and publishes again.
            let _ = publisher.publish(&token).await;
        }
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let tokens = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await?;
        Ok(Self {
            channel,
            tokens,
            token: None,
        })
    }

    /// Waits for the lease token. An error says why it will not come.
    pub(super) async fn token(&mut self) -> Result<(), String> {
        match self.tokens.next().await {
            Some(Ok(token)) => {
                self.token = Some(token);
                Ok(())
            }
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the broker ended the consumer of the lease".to_owned()),
        }
    }

    /// Keeps the lease until it is lost; returns why. The broker's consumer time-out would take away a token that is
    /// held for too long: it is requeued in time, and delivered to the same consumer again.
    pub(super) async fn keep(&mut self, renew_every: Duration) -> String {
        loop {
            tokio::select! {
                lost = self.token() => match lost {
                    // A duplicate lease token is harmless.
                    Ok(()) => {}
                    Err(reason) => return reason,
                },
                () = sleep(renew_every) => {
                    let Some(token) = self.token.take() else { continue };
                    let back = BasicRejectOptions { requeue: true };
                    if let Err(error) = token.acker.reject(back).await {
                        return error.to_string();
                    }
                }
            }
        }
    }

    /// Releases the lease. False if the broker didn't confirm it.
    pub(super) async fn close(self, ceiling: Duration) -> bool {
        let closed = timeout(ceiling, self.channel.close(200, "OK".into())).await;
        closed.is_ok_and(|closed| closed.is_ok())
    }
}
