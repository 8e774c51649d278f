//! The older part of the outcome log, read beside new messages.

use std::future::pending;
use std::time::Duration;

use lapin::Connection;
use tokio::time::timeout;

use super::place::Earlier;
use super::reader::{LogReader, Point};
use super::{Log, Read};
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{FleetMessage, Message};

/// If the older part delivers nothing within this, although the present was reached, it is taken to be empty. If it
/// delivers a message after all, the log is read again.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

impl Log {
    /// Reads the older part once the present is reached. Returns only with what ends the whole reading.
    pub(super) async fn read_earlier(&self, connection: &Connection) -> lapin::Result<Read> {
        let earlier = loop {
            let place = *self.place();
            match place {
                Some(place) if place.present.is_none() => break place.earlier,
                _ => self.reached.notified().await,
            }
        };
        let Some(earlier) = earlier else {
            return pending().await;
        };
        let mut reader = match earlier.next {
            Some(next) if next >= earlier.end => return self.complete().await,
            Some(next) => LogReader::open(connection, OUTCOME_LOG, Point::Offset(next)).await?,
            None => LogReader::open(connection, OUTCOME_LOG, Point::Time(self.since())).await?,
        };
        let mut first = None;
        if earlier.next.is_none() {
            let Ok(came) = timeout(FIRST_WITHIN, reader.next()).await else {
                return self.nothing_earlier(reader, earlier).await;
            };
            let Some((offset, message)) = came? else {
                return Ok(Read::Ended);
            };
            if offset < earlier.start {
                reader.close().await;
                reader = LogReader::open(connection, OUTCOME_LOG, Point::Offset(earlier.start)).await?;
                if self.sender.send(FleetMessage::Cut).await.is_err() {
                    return Ok(Read::ReceiverGone);
                }
            } else {
                first = Some((offset, message));
            }
        }
        self.hand_on_earlier(reader, first, earlier).await
    }

    fn since(&self) -> jiff::Timestamp {
        self.place()
            .map_or(jiff::Timestamp::MIN, |place| place.extent.since)
    }

    async fn hand_on_earlier(
        &self,
        mut reader: LogReader,
        mut first: Option<(i64, Message)>,
        earlier: Earlier,
    ) -> lapin::Result<Read> {
        loop {
            let next = match first.take() {
                Some(first) => Some(first),
                None => reader.next().await?,
            };
            let Some((offset, message)) = next else {
                return Ok(Read::Ended);
            };
            if offset >= earlier.end {
                reader.close().await;
                return self.complete().await;
            }
            if self.sender.send(FleetMessage::Earlier(message)).await.is_err() {
                return Ok(Read::ReceiverGone);
            }
            self.moved(|place| {
                place.earlier = Some(Earlier {
                    next: Some(offset + 1),
                    ..earlier
                });
            });
            reader.taken().await?;
        }
    }

    async fn nothing_earlier(&self, mut reader: LogReader, earlier: Earlier) -> lapin::Result<Read> {
        if self.sender.send(FleetMessage::Complete).await.is_err() {
            return Ok(Read::ReceiverGone);
        }
        match reader.next().await? {
            None => Ok(Read::Ended),
            Some((offset, _)) if offset < earlier.end => Ok(Read::Anew),
            Some(_) => {
                reader.close().await;
                self.moved(|place| place.earlier = None);
                pending().await
            }
        }
    }

    async fn complete(&self) -> lapin::Result<Read> {
        if self.sender.send(FleetMessage::Complete).await.is_err() {
            return Ok(Read::ReceiverGone);
        }
        self.moved(|place| place.earlier = None);
        pending().await
    }
}
