//! Keeps a connection: opens it, uses it until it ends, waits, and opens the next one, to the next
//! address if there are several.

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::addresses::Addresses;
use super::connection::{self, LinkState};
use super::error::ConnectError;
use super::first_connection::FirstConnection;
use crate::broker::Config;

pub(super) struct Supervisor {
    pub(super) config: Config,
    pub(super) role: &'static str,
    pub(super) link: LinkState,
    pub(super) stop: CancellationToken,
}

/// What a connection is used for.
pub(super) trait Use: Send + Sync + 'static {
    /// Uses a connection until its end. Returns why it ended, or the error if its use never began.
    fn attend(
        &self,
        connection: lapin::Connection,
        supervisor: &Supervisor,
        first: &mut FirstConnection,
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

    pub(super) async fn run(self, mut first: FirstConnection, purpose: impl Use) {
        let mut addresses = Addresses::new(&self.config);
        loop {
            self.link.trying(addresses.url());
            let connected = tokio::select! {
                () = self.stop.cancelled() => break,
                connected = connection::open(&self.config, addresses.url(), self.role) => connected,
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
                Ok(reason) => self.link.lost(&said_by(&addresses, &reason)),
                Err(error) => {
                    let error = error.map_reason(|reason| said_by(&addresses, &reason));
                    match first.refuse(error, addresses.has_untried()) {
                        None => break,
                        Some(error) => self.link.failed(&error),
                    }
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(addresses.next(began.elapsed())) => {}
            }
        }
        self.link.closed();
    }

    /// Reports that the link is up.
    pub(super) fn up(&self, first: &mut FirstConnection) {
        self.link.up();
        first.connected();
    }
}

/// Adds the address to the reason.
fn said_by(addresses: &Addresses, reason: &str) -> String {
    format!("{}: {reason}", addresses.url())
}
