//! RabbitMQ behind the broker's port.
//!
//! Two connections, one to consume and one to publish, because an alarm stops everything that a
//! publishing connection sends, acks included. Neither uses lapin's recovery, under which deliveries of
//! the old connection look alive: a supervisor makes a new connection, and all that was is stale.

use std::sync::Arc;

use super::{Config, Consumer, Publisher};

mod connection;
mod consumer;
mod declare;
mod epoch;
mod error;
mod first;
mod greeting;
mod inbox;
mod publisher;
mod publishing;
mod repartition;
mod supervisor;
mod survey;
mod terms;
mod turns;

pub use declare::{ObjectState, PARTITIONS, Plan, PlannedObject, declare, plan};
pub use error::{ConnectError, TopologyError};
pub use greeting::Greeting;
pub use repartition::{Repartitioned, repartition};
pub use survey::{Server, Surveyed, survey};

/// What to do when the broker is out of reach at the start. Later, it is always waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnreachable {
    /// For as long as it takes; what is refused or differs is an error all the same.
    Wait,
    Fail,
}

/// Declares the topology of the provider, and takes its commands. Answers when both connections are up.
pub async fn connect(
    config: &Config,
    provider: &str,
    when_unreachable: WhenUnreachable,
) -> Result<(Box<dyn Consumer>, Arc<dyn Publisher>), ConnectError> {
    // The topology comes with the consumer: nothing is taken before what it leads to can be published.
    let publisher = publisher(config, when_unreachable).await?;
    let consumer = consumer(config, provider, when_unreachable).await?;
    Ok((consumer, publisher))
}

/// Declares the topology of the provider, and takes its commands.
pub async fn consumer(
    config: &Config,
    provider: &str,
    when_unreachable: WhenUnreachable,
) -> Result<Box<dyn Consumer>, ConnectError> {
    Ok(Box::new(
        consumer::AmqpConsumer::connect(config, provider, when_unreachable).await?,
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
