//! RabbitMQ behind the broker's port.
//!
//! Consuming, publishing and listening have separate connections, because an alarm stops everything that a
//! publishing connection sends, acks included. None uses lapin's recovery, under which deliveries of
//! the old connection look valid: a supervisor opens a new connection, and all earlier deliveries are stale.

use std::sync::Arc;

use super::{Config, Consumer, Inspector, Limits, Listener, Publisher};

mod addresses;
mod broker_dead_letters;
mod connection;
mod consumer;
mod declare;
mod depths;
mod epoch;
mod error;
mod first_connection;
mod holder;
mod inbox;
mod inspector;
mod lease_claim;
mod lease_watchdog;
mod listener;
mod log;
mod look;
mod orders;
mod publisher;
mod publishing;
mod received;
mod repartition;
mod stream;
mod supervisor;
mod survey;
mod terms;
mod trouble;
mod watch;

pub use declare::{ObjectState, PARTITIONS, Plan, PlannedObject, declare, plan};
pub use error::{ConnectError, TopologyError};
pub use look::{Looked, look};
pub use repartition::{Repartitioned, repartition};
pub use survey::{Greeting, Server, Surveyed, survey};

/// What to do when the broker is unreachable at the start. Later, it is always waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnreachable {
    /// Wait for as long as it takes. A refusal or a different topology is still an error.
    Wait,
    Fail,
}

/// What a worker of a fleet needs from the broker.
pub struct Connected {
    pub consumer: Box<dyn Consumer>,
    pub publisher: Arc<dyn Publisher>,
    pub listener: Box<dyn Listener>,
}

/// Declares the topology of the provider. Returns when all connections are up.
pub async fn connect(
    config: &Config,
    provider: &str,
    limits: Limits,
    when_unreachable: WhenUnreachable,
) -> Result<Connected, ConnectError> {
    // The consumer comes after the publisher: no command is taken before its outcome can be published.
    let publisher = publisher(config, when_unreachable).await?;
    let consumer = consumer(config, provider, publisher.clone(), limits, when_unreachable).await?;
    let listener = listener(config, provider, when_unreachable).await?;
    Ok(Connected {
        consumer,
        publisher,
        listener,
    })
}

/// Declares the topology of the provider, and consumes its commands. The publisher publishes missing lease tokens.
pub async fn consumer(
    config: &Config,
    provider: &str,
    publisher: Arc<dyn Publisher>,
    limits: Limits,
    when_unreachable: WhenUnreachable,
) -> Result<Box<dyn Consumer>, ConnectError> {
    let connecting = consumer::AmqpConsumer::connect(config, provider, publisher, limits, when_unreachable);
    Ok(Box::new(connecting.await?))
}

/// Listens to the fleet and the outcome log, whose topology is declared, and takes the broker's own dead letters.
pub async fn listener(
    config: &Config,
    provider: &str,
    when_unreachable: WhenUnreachable,
) -> Result<Box<dyn Listener>, ConnectError> {
    Ok(Box::new(
        listener::AmqpListener::connect(config, provider, when_unreachable).await?,
    ))
}

/// Only publishes, and declares nothing.
pub async fn publisher(
    config: &Config,
    when_unreachable: WhenUnreachable,
) -> Result<Arc<dyn Publisher>, ConnectError> {
    Ok(Arc::new(
        publisher::AmqpPublisher::connect(config, when_unreachable).await?,
    ))
}

/// Only looks, and declares nothing.
pub async fn inspector(config: &Config) -> Result<Arc<dyn Inspector>, ConnectError> {
    Ok(Arc::new(inspector::AmqpInspector::connect(config).await?))
}
