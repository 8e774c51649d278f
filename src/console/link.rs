//! The console's connection to the broker: one for all viewers, made again by the next one who looks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::broker::{InspectError, Inspector, Publisher};
use crate::clock::Clock;
use crate::operations::operation::OperationError;
use crate::operations::steering::SteeringError;
use crate::operations::why::WhyError;

/// A page says within this time that the broker is away.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// Viewers who come so soon after a failed attempt are told the same.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Makes connections. The edge knows how.
#[async_trait]
pub trait Connect: Send + Sync {
    async fn connect(&self) -> Result<Ports, String>;

    /// The broker's address, without a password.
    fn address(&self) -> String;
}

/// A connection to the broker.
pub struct Ports {
    pub inspector: Arc<dyn Inspector>,
    pub publisher: Arc<dyn Publisher>,
}

impl Ports {
    pub async fn close(&self) {
        self.publisher.close().await;
        self.inspector.close().await;
    }
}

/// Why something is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The broker can't be reached.
    Away(String),
    /// The broker refuses it, or lacks what is looked at.
    Refused(String),
    /// It has not answered yet.
    Slow,
}

impl From<InspectError> for Trouble {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::Lost { reason } => Self::Away(reason),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<WhyError> for Trouble {
    fn from(error: WhyError) -> Self {
        match error {
            WhyError::Inspect(error) => error.into(),
            WhyError::Publish(error) => Self::Away(error.to_string()),
        }
    }
}

impl From<SteeringError> for Trouble {
    fn from(error: SteeringError) -> Self {
        match error {
            SteeringError::Inspect(error) => error.into(),
            SteeringError::Publish(error) => Self::Away(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<OperationError> for Trouble {
    fn from(error: OperationError) -> Self {
        match error.is_out_of_reach() {
            true => Self::Away(error.to_string()),
            false => Self::Refused(error.to_string()),
        }
    }
}

#[derive(Default)]
struct State {
    ports: Option<(Arc<Ports>, Timestamp)>,
    failed: Option<(Instant, String)>,
    down_since: Option<Timestamp>,
}

pub struct Link {
    connect: Arc<dyn Connect>,
    clock: Clock,
    state: Mutex<State>,
}

impl Link {
    pub fn new(connect: Arc<dyn Connect>, clock: Clock) -> Self {
        Self {
            connect,
            clock,
            state: Mutex::default(),
        }
    }

    pub fn address(&self) -> String {
        self.connect.address()
    }

    /// The shared connection.
    pub async fn ports(&self) -> Result<Arc<Ports>, Trouble> {
        let mut state = self.state.lock().await;
        if let Some((ports, _)) = &state.ports {
            return Ok(ports.clone());
        }
        if let Some((at, why)) = &state.failed
            && at.elapsed() < AGAIN_AFTER
        {
            return Err(Trouble::Away(why.clone()));
        }
        match self.own().await {
            Ok(ports) => {
                let ports = Arc::new(ports);
                state.ports = Some((ports.clone(), self.clock.now()));
                (state.failed, state.down_since) = (None, None);
                Ok(ports)
            }
            Err(why) => {
                state.down_since.get_or_insert(self.clock.now());
                state.failed = Some((Instant::now(), why.clone()));
                Err(Trouble::Away(why))
            }
        }
    }

    /// A connection of one's own, for what runs longer than a look.
    pub async fn own(&self) -> Result<Ports, String> {
        match timeout(CONNECTS_WITHIN, self.connect.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no answer within {} s", CONNECTS_WITHIN.as_secs())),
        }
    }

    /// Whoever finds this connection lost says so, and the next one makes another.
    pub async fn lost(&self, ports: &Arc<Ports>) {
        let mut state = self.state.lock().await;
        if state
            .ports
            .as_ref()
            .is_some_and(|(held, _)| Arc::ptr_eq(held, ports))
        {
            state.ports = None;
            state.down_since = Some(self.clock.now());
            let ports = ports.clone();
            tokio::spawn(async move { timeout(CONNECTS_WITHIN, ports.close()).await });
        }
    }

    /// Since when the console is connected, or is not.
    pub async fn since(&self) -> (bool, Option<Timestamp>) {
        let state = self.state.lock().await;
        match &state.ports {
            Some((_, since)) => (true, Some(*since)),
            None => (false, state.down_since),
        }
    }
}
