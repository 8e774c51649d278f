//! Keeps a connection: makes it, lets it be used until it ends, waits, and makes the next.

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::connection::{self, Delays, LinkState};
use super::error::ConnectError;
use super::first::First;
use crate::broker::Config;

pub(super) struct Supervisor {
    pub(super) config: Config,
    pub(super) role: &'static str,
    pub(super) link: LinkState,
    pub(super) stop: CancellationToken,
}

/// What a connection is made for.
pub(super) trait Use: Send + Sync + 'static {
    /// From a connection to its end. Answers why it ended, or why it never began.
    fn attend(
        &self,
        connection: lapin::Connection,
        supervisor: &Supervisor,
        first: &mut First,
    ) -> impl Future<Output = Result<String, ConnectError>> + Send;
}

impl Supervisor {
    pub(super) fn new(role: &'static str, config: &Config, stop: CancellationToken) -> Self {
        let link = LinkState::new(role);
        Self {
            config: config.clone(),
            role,
            link,
            stop,
        }
    }

    pub(super) async fn run(self, mut first: First, purpose: impl Use) {
        let mut delays = Delays::new(&self.config);
        loop {
            let connected = tokio::select! {
                () = self.stop.cancelled() => break,
                connected = connection::open(&self.config, self.role) => connected,
            };
            let began = Instant::now();
            let ended = match connected {
                Err(error) => Err(error),
                Ok(connection) => purpose.attend(connection, &self, &mut first).await,
            };
            if self.stop.is_cancelled() {
                break;
            }
            match ended {
                Ok(reason) => self.link.lost(&reason),
                Err(error) => match first.refuse(error) {
                    None => break,
                    Some(error) => self.link.failed(&error),
                },
            }
            delays.connection_lasted(began.elapsed());
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(delays.next()) => {}
            }
        }
        self.link.closed();
    }

    /// The link is up: whoever waits for it may go on.
    pub(super) fn up(&self, first: &mut First) {
        self.link.up();
        first.connected();
    }
}
