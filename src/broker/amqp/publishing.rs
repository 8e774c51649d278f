//! The supervisor's use of a connection for publishing. It reopens channels, and watches for alarms.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use lapin::{Connection, Event};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::connection;
use super::error::{ConnectError, refused_connection};
use super::first_connection::FirstConnection;
use super::publisher::Session;
use super::supervisor::{Supervisor, Use};

/// lapin reports most ends by an event; this bounds how long another may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Publishing {
    session: watch::Sender<Option<Arc<Session>>>,
    trouble: Arc<Notify>,
}

impl Use for Publishing {
    async fn attend(
        &self,
        connection: Connection,
        supervisor: &Supervisor,
        first: &mut FirstConnection,
    ) -> Result<String, ConnectError> {
        let config = &supervisor.config;
        // Before the first publish: an alarm is reported only once.
        let events = connection.events_listener().boxed();
        let connection = Arc::new(connection);
        let ended = match timeout(config.connect_timeout, self.open(&connection)).await {
            Err(_) => Err(ConnectError::unreachable(&"it didn't open a channel in time")),
            Ok(Err(error)) => Err(refused_connection(&error)),
            Ok(Ok(())) => {
                supervisor.up(first);
                tokio::select! {
                    () = supervisor.stop.cancelled() => Ok("closed".to_owned()),
                    reason = self.watch(&connection, events, supervisor) => Ok(reason),
                }
            }
        };
        // Kept until the end: lapin closes a dropped channel, and then refuses to close the connection.
        let _session = self.session.send_replace(None);
        connection::close(&connection, config.close_timeout).await;
        ended
    }
}

impl Publishing {
    pub(super) fn new(session: watch::Sender<Option<Arc<Session>>>) -> Self {
        Self {
            session,
            trouble: Arc::new(Notify::new()),
        }
    }

    async fn open(&self, connection: &Arc<Connection>) -> lapin::Result<()> {
        let session = Session::open(connection.clone(), self.trouble.clone()).await?;
        self.session.send_replace(Some(Arc::new(session)));
        Ok(())
    }

    /// Watches until the connection is gone. Returns why.
    async fn watch(
        &self,
        connection: &Arc<Connection>,
        mut events: BoxStream<'static, Event>,
        supervisor: &Supervisor,
    ) -> String {
        let mut last_error = String::from("the connection was closed");
        let mut reopened_for = None;
        // The session while the broker takes no messages. Nothing is passed to a blocked connection: it would
        // wait there, and be sent even after its publisher timed out.
        let mut withheld = None;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        supervisor.link.blocked(reason);
                        withheld = self.session.send_replace(None).or(withheld);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        if withheld.is_some() {
                            self.session.send_replace(withheld.take());
                        }
                        supervisor.link.up();
                    }
                    Some(Event::Error(error)) => last_error = error.to_string(),
                    _ => {}
                },
                () = self.trouble.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
            if !connection.status().connected() {
                while let Some(Some(event)) = events.next().now_or_never() {
                    if let Event::Error(error) = event {
                        last_error = error.to_string();
                    }
                }
                return last_error;
            }
            let (closed, refused) = match &*self.session.borrow() {
                Some(session) => (!session.is_open(), session.is_refused()),
                None => (false, false),
            };
            if closed || refused {
                let reason = match closed {
                    true => last_error.clone(),
                    false => "messages were refused on it".to_owned(),
                };
                // Logged once per cause: a missing exchange would cause it with every message.
                if reopened_for.as_ref() != Some(&reason) {
                    tracing::warn!(reason, "the publishing channel can't be used; opening another");
                    reopened_for = Some(reason);
                }
                match timeout(supervisor.config.connect_timeout, self.open(connection)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return "it didn't open a channel in time".to_owned(),
                }
            }
        }
    }
}
