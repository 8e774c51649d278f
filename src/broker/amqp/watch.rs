//! Checks that the topology still exists: objects that are deleted while a worker runs are logged and declared again.
//!
//! The protocol can query exchanges and queues, but not bindings: those are declared again at every check,
//! which has no effect if they exist.

use std::time::Duration;

use lapin::Connection;
use tokio::time::{sleep, timeout};

use super::declare::Declaring;
use super::error::ConnectError;
use crate::broker::{Config, Topology};

/// A check takes a few milliseconds. A deleted object is logged and restored within this interval and the check's time.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Returns an error if something can't be as configured. A broker that doesn't answer is noticed by those that watch
/// the connection.
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
        // One end of a binding may have been deleted since it was checked.
        if declaring.restore(topology).await? {
            return Err(error);
        }
    }
}
