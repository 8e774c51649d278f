//! How many messages no queue took: a look at `user.unroutable` now and then, which takes nothing out of it.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::watch;
use tokio::time::sleep;

use super::error::is_not_found;
use crate::broker::topology::UNROUTABLE;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks for as long as it is polled. It never ends: whoever has the connection notices that it is gone.
pub(super) async fn watch(connection: &Connection, depth: &watch::Sender<Option<u64>>) {
    let mut channel = None;
    loop {
        let found = look(connection, &mut channel).await;
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(reason = %error, "broker: user.unroutable can't be looked at now");
            None
        });
        depth.send_if_modified(|known| std::mem::replace(known, found) != found);
        sleep(LOOK_EVERY).await;
    }
}

/// On a channel of its own, which the broker closes where there is no such queue.
async fn look(connection: &Connection, channel: &mut Option<Channel>) -> lapin::Result<Option<u64>> {
    let open = match channel.take().filter(|channel| channel.status().connected()) {
        Some(open) => open,
        None => connection.create_channel().await?,
    };
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    match open
        .queue_declare(UNROUTABLE.into(), options, FieldTable::default())
        .await
    {
        Ok(queue) => {
            *channel = Some(open);
            Ok(Some(queue.message_count().into()))
        }
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
