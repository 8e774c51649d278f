//! A connection to whichever node answers, with one channel.

use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::{Instant, timeout};

use crate::support::moment;

const CONNECT: Duration = Duration::from_secs(5);

pub struct Link {
    /// What is published on it is confirmed.
    pub channel: Channel,
    /// It is closed with the link.
    _connection: Connection,
}

/// However long the nodes are broken, they are whole again within this.
const PATIENCE: Duration = Duration::from_secs(180);
const GAP: Duration = Duration::from_millis(50);

pub async fn connect(urls: &[String]) -> Link {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for url in urls {
            if let Ok(Ok(link)) = timeout(CONNECT, link(url)).await {
                return link;
            }
        }
        assert!(Instant::now() < deadline, "no connection within {PATIENCE:?}");
        moment(Instant::now() + GAP).await;
    }
}

async fn link(url: &str) -> lapin::Result<Link> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(Link {
        channel,
        _connection: connection,
    })
}
