//! Reads the outcome log from RabbitMQ: a stream whose end is read first, and whose older part is read beside new
//! events.

mod earlier;
mod part;
mod place;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::Connection;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};

use self::part::{Part, Point, offset_of_first};
use self::place::Place;
use super::listener::AGAIN;
use super::trouble::Trouble;
use crate::broker::{Extent, FleetMessage};

/// The last message of a non-empty log arrives within this; usually within 10 ms.
const LAST_WITHIN: Duration = Duration::from_millis(500);

/// The first message since the start of the extent, if there is one, arrives within this. It bounds the end that is
/// read first: without it the end is only the last message, and the rest is the older part.
const FIRST_WITHIN: Duration = Duration::from_millis(200);

pub(super) struct Log {
    hear: mpsc::Sender<FleetMessage>,
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
    Unheard,
    /// The log is not the one that was expected: it has to be read from the start again.
    Anew,
    /// The broker ended it: the log was deleted, or its node is gone.
    Ended,
}

impl Log {
    pub(super) fn new(
        hear: mpsc::Sender<FleetMessage>,
        wanted: watch::Receiver<Option<Extent>>,
        trouble: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            hear,
            wanted,
            place: Mutex::default(),
            reached: Notify::new(),
            trouble,
        }
    }

    /// Reads the log whenever it is wanted. Ends when the receiver is gone.
    pub(super) async fn read(&self, connection: &Connection) {
        let mut wanted = self.wanted.clone();
        let mut trouble = Trouble::new("the outcome log can't be read").told(&self.trouble);
        loop {
            let Ok(wish) = wanted.wait_for(Option::is_some).await.map(|wish| *wish) else {
                return;
            };
            let Some(wish) = wish else { continue };
            let changed = async { wanted.wait_for(|wanted| *wanted != Some(wish)).await.is_ok() };
            let read = tokio::select! {
                read = self.read_for(connection, wish, &mut trouble) => read,
                _ = changed => continue,
            };
            match read {
                Ok(Read::Unheard) => return,
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
        wish: Extent,
        trouble: &mut Trouble<'_>,
    ) -> lapin::Result<Read> {
        let known = self.place().filter(|place| place.wish == wish);
        let place = match known {
            Some(place) => place,
            None => {
                let found = place_for(connection, wish).await?;
                if self.hear.send(FleetMessage::Begins(wish)).await.is_err() {
                    return Ok(Read::Unheard);
                }
                *self.place() = found;
                match found {
                    Some(place) => place,
                    None => return self.until_it_speaks(connection, wish, trouble).await,
                }
            }
        };
        let mut end = Part::open(connection, Point::Offset(place.next)).await?;
        trouble.is_over();
        tokio::select! {
            read = self.follow(&mut end, place) => read,
            read = self.read_earlier(connection) => read,
        }
    }

    /// A log that delivers nothing is empty, or its node is busy. It is read again as soon as it delivers something.
    async fn until_it_speaks(
        &self,
        connection: &Connection,
        wish: Extent,
        trouble: &mut Trouble<'_>,
    ) -> lapin::Result<Read> {
        let mut silent = Part::open(connection, Point::Time(wish.since)).await?;
        trouble.is_over();
        for heard in [FleetMessage::Present, FleetMessage::Complete] {
            if self.hear.send(heard).await.is_err() {
                return Ok(Read::Unheard);
            }
        }
        let spoke = silent.next().await?.is_some();
        silent.close().await;
        Ok(if spoke { Read::Anew } else { Read::Ended })
    }

    /// Forwards the end and new messages until the consumer ends.
    async fn follow(&self, end: &mut Part, from: Place) -> lapin::Result<Read> {
        let (mut next, mut present) = (from.next, from.present);
        while let Some((offset, message)) = end.next().await? {
            if offset < next {
                return Ok(Read::Anew);
            }
            next = offset + 1;
            if self.hear.send(FleetMessage::Logged(message)).await.is_err() {
                return Ok(Read::Unheard);
            }
            if present.is_some_and(|last| offset >= last) {
                present = None;
                if self.hear.send(FleetMessage::Present).await.is_err() {
                    return Ok(Read::Unheard);
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
async fn place_for(connection: &Connection, wish: Extent) -> lapin::Result<Option<Place>> {
    let first = timeout(FIRST_WITHIN, offset_of_first(connection, Point::Time(wish.since)));
    let last = timeout(LAST_WITHIN, offset_of_first(connection, Point::Last));
    let (first, last) = tokio::join!(first, last);
    let (first, last) = (first.unwrap_or(Ok(None))?, last.unwrap_or(Ok(None))?);
    Ok(last.map(|last| Place::new(wish, first, last)))
}
