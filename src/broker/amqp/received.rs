//! Converts a delivery of lapin's.

use bytes::Bytes;

use crate::broker::{Message, Properties};

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
}
