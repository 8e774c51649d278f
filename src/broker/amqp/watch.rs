//! Whether the topology is still there: what somebody deletes while a worker runs is named, and declared again.
//!
//! The protocol can ask for exchanges and queues, but not for bindings: those are declared again at every look,
//! which changes nothing where they are there.

use std::time::Duration;

use lapin::Connection;
use tokio::time::{sleep, timeout};

use super::declare::Declaring;
use super::error::ConnectError;
use crate::broker::{Config, Topology};

/// A look takes a few milliseconds. What is gone is named, and back, within this and the time of a look.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Ends with an error where something can't be as it is configured. A broker that doesn't answer is left to those who
/// watch the connection.
pub(super) async fn watch(connection: &Connection, topology: &Topology, config: &Config) -> ConnectError {
    let mut declaring = Declaring::new(connection);
    loop {
        sleep(LOOK_EVERY).await;
        match timeout(config.confirm_timeout, look(&mut declaring, topology)).await {
            Err(_) | Ok(Err(ConnectError::Unreachable { .. })) => declaring = Declaring::new(connection),
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
        }
    }
}

async fn look(declaring: &mut Declaring<'_>, topology: &Topology) -> Result<(), ConnectError> {
    loop {
        declaring.restore(topology).await?;
        let Err(error) = declaring.bind_all(topology).await else {
            return Ok(());
        };
        // One end of a binding may have been deleted since it was looked at.
        if declaring.restore(topology).await? {
            return Err(error);
        }
    }
}
