//! Reads a stream from RabbitMQ to its present, and follows it.

use std::io;
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use lapin::Connection;
use tokio::time::{Instant, timeout, timeout_at};

use super::inspector::depth_on;
use super::log::{LAST_WITHIN, LogReader, Point, offset_of_first};
use crate::broker::Streamed;

/// The messages of a stream's last chunk arrive together: a silence of this length is their end.
const SILENT_FOR: Duration = Duration::from_millis(300);

/// A stream that is written to is never silent. Its last chunk has arrived within this.
const REST_WITHIN: Duration = Duration::from_secs(1);

/// The longest that a busy node may take for a stream's last message.
const BUSY_MAX: Duration = Duration::from_secs(10);

pub(super) struct Stream {
    reader: LogReader,
    position: Position,
}

#[derive(Clone, Copy)]
enum Position {
    /// The first message of the chunk that was the last one at the start is not read yet.
    Before(i64),
    /// The rest of that chunk arrives until then.
    Within(Instant),
    /// `Present` is next.
    AtPresent,
    After,
}

impl Stream {
    /// From about this time on, or from its beginning.
    pub(super) async fn open(
        connection: &Connection,
        name: &str,
        since: Option<Timestamp>,
    ) -> lapin::Result<Self> {
        let mut last = pin!(offset_of_first(connection, name, Point::Last));
        let last = match timeout(LAST_WITHIN, &mut last).await {
            Ok(last) => last?,
            // Its node is busy.
            Err(_) if holds_some(connection, name).await? => {
                let silent = |_| {
                    io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the stream's last message does not arrive",
                    )
                };
                timeout(BUSY_MAX, last).await.map_err(silent)??
            }
            Err(_) => None,
        };
        let from = since.map_or(Point::First, Point::Time);
        Ok(Self {
            reader: LogReader::open(connection, name, from).await?,
            position: match last {
                Some(last) => Position::Before(last),
                None => Position::AtPresent,
            },
        })
    }

    /// `None`: the broker ended the consumer.
    pub(super) async fn next(&mut self) -> lapin::Result<Option<Streamed>> {
        let next = match self.position {
            Position::AtPresent => None,
            Position::Within(deadline) => {
                let silence = Instant::now() + SILENT_FOR;
                timeout_at(deadline.min(silence), self.reader.next()).await.ok()
            }
            Position::Before(_) | Position::After => Some(self.reader.next().await),
        };
        let Some(next) = next else {
            self.position = Position::After;
            return Ok(Some(Streamed::Present));
        };
        let Some((offset, message)) = next? else {
            return Ok(None);
        };
        if let Position::Before(last) = self.position
            && offset >= last
        {
            self.position = Position::Within(Instant::now() + REST_WITHIN);
        }
        self.reader.taken().await?;
        Ok(Some(Streamed::Message(message)))
    }
}

/// The count is some seconds old: a stream that has been written to just now may still count as empty.
async fn holds_some(connection: &Connection, name: &str) -> lapin::Result<bool> {
    let channel = connection.create_channel().await?;
    let depth = depth_on(&channel, name).await?;
    let _ = channel.close(200, "OK".into()).await;
    Ok(depth.ready > 0)
}
