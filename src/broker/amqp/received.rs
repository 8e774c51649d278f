//! Converts a delivery of lapin's.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::options::BasicAckOptions;
use tokio::time::timeout;

use crate::broker::{Acker, Delivery, Message, Properties};

pub(super) struct Received {
    pub(super) message: Message,
    pub(super) redelivered: bool,
    pub(super) acker: lapin::Acker,
}

impl From<lapin::message::Delivery> for Received {
    fn from(delivery: lapin::message::Delivery) -> Self {
        Self {
            message: Message {
                exchange: delivery.exchange.into(),
                routing_key: delivery.routing_key.into(),
                properties: Properties::from_amqp(delivery.properties),
                body: Bytes::from(delivery.data),
                mandatory: false,
            },
            redelivered: delivery.redelivered,
            acker: delivery.acker,
        }
    }
}

impl Received {
    /// Drops the body if it is longer.
    pub(super) fn within(mut self, bytes_max: usize) -> Self {
        if self.message.body.len() > bytes_max {
            self.message.body = Bytes::new();
        }
        self
    }

    /// A delivery that is not a partition's. Each ack takes at most `ceiling`.
    pub(super) fn into_delivery(self, ceiling: Duration) -> Delivery {
        let acker = Box::new(BoundedAcker {
            acker: self.acker,
            ceiling,
        });
        Delivery::new(self.message, self.redelivered, (0, false), acker)
    }
}

pub(super) struct BoundedAcker {
    pub(super) acker: lapin::Acker,
    pub(super) ceiling: Duration,
}

#[async_trait]
impl Acker for BoundedAcker {
    fn usable(&self) -> bool {
        self.acker.usable()
    }

    /// A lapin ack never returns if the connection ends at that moment.
    async fn ack(&self) -> bool {
        let acked = timeout(self.ceiling, self.acker.ack(BasicAckOptions::default())).await;
        matches!(acked, Ok(Ok(true)))
    }
}
