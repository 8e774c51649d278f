//! Connections: opening and closing one, and the reported state.

use std::io;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use lapin::{Connection, ConnectionProperties};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use super::error::{ConnectError, refused_connection};
use crate::broker::config::BrokerUrl;
use crate::broker::{Config, Link};

/// lapin's own thread: heartbeats continue however busy the worker is. It is never shut down, because lapin
/// sends a basic.cancel when its objects are dropped, which would put unsettled deliveries out of order;
/// a process that exits drops nothing.
static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(1)
        .thread_name("usher-broker")
        .enable_all()
        .build()
});

pub(super) fn runtime() -> Result<&'static Runtime, ConnectError> {
    RUNTIME
        .as_ref()
        .map_err(|error| ConnectError::unreachable(&format!("no thread for it: {error}")))
}

/// Runs work that closes the connection that it opens.
pub(super) async fn on_runtime<T: Send + 'static>(
    work: impl Future<Output = Result<T, ConnectError>> + Send + 'static,
) -> Result<T, ConnectError> {
    let worked = runtime()?.spawn(work).await;
    worked.unwrap_or_else(|error| Err(ConnectError::unreachable(&error)))
}

/// Must be called on `runtime()`, which lapin then uses.
pub(super) async fn open(config: &Config, url: &BrokerUrl, role: &str) -> Result<Connection, ConnectError> {
    // An error means that another part of the program has installed the same provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut uri = url.uri();
    let heartbeat = u16::try_from(config.heartbeat.as_secs()).unwrap_or(u16::MAX);
    uri.query.heartbeat = Some(heartbeat.max(1));
    uri.query.connection_timeout = u64::try_from(config.connect_timeout.as_millis()).ok();
    let properties = ConnectionProperties::default().with_connection_name(format!("usher {role}").into());
    match timeout(config.connect_timeout, Connection::connect_uri(uri, properties)).await {
        Ok(connected) => connected.map_err(|error| refused_connection(&error)),
        Err(_) => Err(ConnectError::unreachable(&"it didn't answer in time")),
    }
}

/// Connects to the first address that accepts. Must be called on `runtime()`.
pub(super) async fn open_any(config: &Config, role: &str) -> Result<Connection, ConnectError> {
    let mut errors = Vec::new();
    for url in config.url.iter() {
        match open(config, url, role).await {
            Ok(connection) => return Ok(connection),
            Err(error) => errors.push((url, error)),
        }
    }
    Err(ConnectError::of_all(errors))
}

pub(super) async fn close(connection: &Connection, ceiling: Duration) {
    // On an error or no answer the connection is gone as well.
    let _ = timeout(ceiling, connection.close(200, "OK".into())).await;
}

/// The reported state of a connection. It is logged when it changes, not at each attempt.
pub(super) struct LinkState {
    role: &'static str,
    link: watch::Sender<Link>,
    /// The address of the last attempt.
    address: Mutex<String>,
    /// Reasons logged since the link was last up: each is logged once.
    said: Mutex<Vec<String>>,
}

/// Reasons that contain a port or a time never repeat, so their number is bounded.
const SAID_MAX: usize = 8;

impl LinkState {
    pub(super) fn new(role: &'static str) -> Self {
        let reason = "not connected yet".to_owned();
        Self {
            role,
            link: watch::Sender::new(Link::Down { reason }),
            address: Mutex::default(),
            said: Mutex::default(),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    pub(super) fn trying(&self, url: &BrokerUrl) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = url.to_string();
    }

    pub(super) fn up(&self) {
        let role = self.role;
        let address = self
            .address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
        match self.link.send_replace(Link::Up) {
            Link::Up => {}
            Link::Down { .. } => tracing::info!(role, address, "connected to the broker"),
            Link::Blocked { .. } => tracing::info!(role, "the broker takes messages again"),
        }
    }

    pub(super) fn blocked(&self, reason: String) {
        tracing::warn!(
            role = self.role,
            reason,
            "the broker takes no messages now; waiting"
        );
        self.link.send_replace(Link::Blocked { reason });
    }

    /// The connection ended.
    pub(super) fn lost(&self, reason: &str) {
        self.down(reason);
        if self.is_news(reason) {
            tracing::warn!(
                role = self.role,
                reason,
                "the connection to the broker was lost; reconnecting"
            );
        }
    }

    /// An attempt to connect failed.
    pub(super) fn failed(&self, error: &ConnectError) {
        let (role, reason) = (self.role, error.to_string());
        self.down(&reason);
        match (self.is_news(&reason), error.is_out_of_reach()) {
            (false, _) => {}
            (true, true) => tracing::warn!(role, reason, "no broker; trying again until there is one"),
            (true, false) => tracing::error!(
                role,
                reason,
                "the broker can't be used; trying again until it can"
            ),
        }
    }

    /// Closed by this process, which is not logged.
    pub(super) fn closed(&self) {
        self.down("closed");
    }

    fn down(&self, reason: &str) {
        self.link.send_replace(Link::Down {
            reason: reason.to_owned(),
        });
    }

    fn is_news(&self, reason: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let news = said.len() < SAID_MAX && !said.iter().any(|known| known == reason);
        if news {
            said.push(reason.to_owned());
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_once_until_the_link_is_up() {
        let link = LinkState::new("test");
        assert!(link.is_news("refused") && link.is_news("reset"));
        assert!(!link.is_news("refused") && !link.is_news("reset"));
        link.up();
        assert!(link.is_news("refused"));
        assert!((0..20).filter(|port| link.is_news(&port.to_string())).count() < SAID_MAX);
    }
}
