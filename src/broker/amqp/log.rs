//! Reads the outcome log from RabbitMQ: a stream whose end is read first, and whose older part is read beside new
//! events.

mod earlier;
mod place;
mod reader;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::Connection;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};

use self::place::Place;
pub(super) use self::reader::{LogReader, Point, offset_of_first};
use super::listener::AGAIN;
use super::trouble::Trouble;
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{Extent, FleetMessage};

/// The last message of a non-empty log arrives within this; usually within 10 ms.
pub(super) const LAST_WITHIN: Duration = Duration::from_millis(500);

/// The first message since the start of the extent, if there is one, arrives within this. It bounds the end that is
/// read first: without it the end is only the last message, and the rest is the older part.
const FIRST_WITHIN: Duration = Duration::from_millis(200);

pub(super) struct Log {
    sender: mpsc::Sender<FleetMessage>,
    wanted: watch::Receiver<Option<Extent>>,
    /// Kept when the connection is lost.
    place: Mutex<Option<Place>>,
    /// Notified when the present is reached.
    reached: Notify,
    trouble: watch::Sender<Option<String>>,
}

/// How the reading ended.
enum Read {
    /// The receiver is gone.
    ReceiverGone,
    /// The log is not the one that was expected: it has to be read from the start again.
    Anew,
    /// The broker ended it: the log was deleted, or its node is gone.
    Ended,
}

impl Log {
    pub(super) fn new(
        sender: mpsc::Sender<FleetMessage>,
        wanted: watch::Receiver<Option<Extent>>,
        trouble: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            sender,
            wanted,
            place: Mutex::default(),
            reached: Notify::new(),
            trouble,
        }
    }

    /// Reads the log whenever it is wanted. Ends when the receiver is gone.
    pub(super) async fn read(&self, connection: &Connection) {
        let mut wanted = self.wanted.clone();
        let mut trouble = Trouble::new("the outcome log can't be read").published_to(&self.trouble);
        loop {
            let Ok(extent) = wanted.wait_for(Option::is_some).await.map(|extent| *extent) else {
                return;
            };
            let Some(extent) = extent else { continue };
            let changed = async { wanted.wait_for(|wanted| *wanted != Some(extent)).await.is_ok() };
            let read = tokio::select! {
                read = self.read_for(connection, extent, &mut trouble) => read,
                _ = changed => continue,
            };
            match read {
                Ok(Read::ReceiverGone) => return,
                Ok(Read::Anew) => {
                    self.place().take();
                    continue;
                }
                Ok(Read::Ended) => trouble.is(&"the broker ended the consumer"),
                Err(error) => trouble.is(&error),
            }
            // A lost connection does not mean that the log has changed.
            if connection.status().connected() {
                self.place().take();
            }
            sleep(AGAIN).await;
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the place, if it is still known.
    fn moved(&self, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.place().as_mut() {
            change(place);
        }
    }

    async fn read_for(
        &self,
        connection: &Connection,
        extent: Extent,
        trouble: &mut Trouble<'_>,
    ) -> lapin::Result<Read> {
        let known = self.place().filter(|place| place.extent == extent);
        let place = match known {
            Some(place) => place,
            None => {
                let found = place_for(connection, extent).await?;
                if self.sender.send(FleetMessage::Begins(extent)).await.is_err() {
                    return Ok(Read::ReceiverGone);
                }
                *self.place() = found;
                match found {
                    Some(place) => place,
                    None => return self.until_it_delivers(connection, extent, trouble).await,
                }
            }
        };
        let mut end = LogReader::open(connection, OUTCOME_LOG, Point::Offset(place.next)).await?;
        trouble.is_over();
        tokio::select! {
            read = self.follow(&mut end, place) => read,
            read = self.read_earlier(connection) => read,
        }
    }

    /// A log that delivers nothing is empty, or its node is busy. It is read again as soon as it delivers something.
    async fn until_it_delivers(
        &self,
        connection: &Connection,
        extent: Extent,
        trouble: &mut Trouble<'_>,
    ) -> lapin::Result<Read> {
        let mut silent = LogReader::open(connection, OUTCOME_LOG, Point::Time(extent.since)).await?;
        trouble.is_over();
        for message in [FleetMessage::Present, FleetMessage::Complete] {
            if self.sender.send(message).await.is_err() {
                return Ok(Read::ReceiverGone);
            }
        }
        let delivered = silent.next().await?.is_some();
        silent.close().await;
        Ok(if delivered { Read::Anew } else { Read::Ended })
    }

    /// Forwards the end and new messages until the consumer ends.
    async fn follow(&self, end: &mut LogReader, from: Place) -> lapin::Result<Read> {
        let (mut next, mut present) = (from.next, from.present);
        while let Some((offset, message)) = end.next().await? {
            if offset < next {
                return Ok(Read::Anew);
            }
            next = offset + 1;
            if self.sender.send(FleetMessage::Logged(message)).await.is_err() {
                return Ok(Read::ReceiverGone);
            }
            if present.is_some_and(|last| offset >= last) {
                present = None;
                if self.sender.send(FleetMessage::Present).await.is_err() {
                    return Ok(Read::ReceiverGone);
                }
                self.reached.notify_one();
            }
            self.moved(|place| (place.next, place.present) = (next, present));
            end.taken().await?;
        }
        Ok(Read::Ended)
    }
}

/// Where to start reading the log; `None`: it delivers nothing.
async fn place_for(connection: &Connection, extent: Extent) -> lapin::Result<Option<Place>> {
    let first = timeout(
        FIRST_WITHIN,
        offset_of_first(connection, OUTCOME_LOG, Point::Time(extent.since)),
    );
    let last = timeout(LAST_WITHIN, offset_of_first(connection, OUTCOME_LOG, Point::Last));
    let (first, last) = tokio::join!(first, last);
    let (first, last) = (first.unwrap_or(Ok(None))?, last.unwrap_or(Ok(None))?);
    Ok(last.map(|last| Place::new(extent, first, last)))
}
