//! Deliveries from RabbitMQ under leases, in epochs: at least one for each used lease of a partition.
//! Deliveries of an older epoch are stale.
//!
//! Order depends on how an epoch ends. A basic.cancel with unsettled deliveries lets the next consumer
//! get later messages first, and lapin sends one when a `Consumer` is dropped. So the channels or the
//! connection are always closed first, and nothing here is dropped before that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::{Connection, Event};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::WhenUnreachable;
use super::connection;
use super::declare::Declaring;
use super::epoch::{Epoch, Forwarded};
use super::error::ConnectError;
use super::first_connection::FirstConnection;
use super::inbox::Inbox;
use super::lease_claim::LeaseClaim;
use super::lease_watchdog::LeaseWatchdog;
use super::supervisor::{Supervisor, Use};
use super::watch;
use crate::broker::held::HeldBytes;
use crate::broker::{Arrival, Config, Consumer, Lease, Limits, Link, Partition, Publisher, Topology};

/// lapin reports most ends by an event; this bounds how long another may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The delay before a lost channel is opened again.
const AGAIN: Duration = Duration::from_millis(200);

/// After this many attempts in a row that each lasted less than `LASTED`, the connection is replaced.
const TRIES_MAX: u32 = 5;
const LASTED: Duration = Duration::from_secs(1);

pub(super) struct AmqpConsumer {
    inbox: Arc<Inbox>,
    link: tokio::sync::watch::Receiver<Link>,
    config: Config,
    stop: DropGuard,
    supervisor: JoinHandle<()>,
}

impl AmqpConsumer {
    pub(super) async fn connect(
        config: &Config,
        provider: &str,
        publisher: Arc<dyn Publisher>,
        limits: Limits,
        when_unreachable: WhenUnreachable,
    ) -> Result<Self, ConnectError> {
        let (first, connected) = oneshot::channel();
        let stop = CancellationToken::new();
        let inbox = Arc::new(Inbox::new(config.partitions.get()));
        let purpose = Consuming {
            topology: Topology::new(provider, config),
            inbox: inbox.clone(),
            publisher,
            held: HeldBytes::new(limits.held_bytes),
            body_bytes_max: limits.body_bytes,
        };
        let supervisor = Supervisor::new("consumer", config, stop.clone());
        let link = supervisor.link.subscribe();
        let first = FirstConnection::new(first, when_unreachable);
        let consumer = Self {
            inbox,
            link,
            config: config.clone(),
            stop: stop.drop_guard(),
            supervisor: connection::runtime()?.spawn(supervisor.run(first, purpose)),
        };
        connected
            .await
            .map_err(|error| ConnectError::unreachable(&error))??;
        Ok(consumer)
    }
}

/// For the acks, the channels, the lease and the connection, each with its own time limit.
fn ending_max(config: &Config) -> Duration {
    config.close_timeout * 4
}

#[async_trait]
impl Consumer for AmqpConsumer {
    async fn next(&mut self) -> Option<Arrival> {
        Some(self.inbox.next().await)
    }

    fn claim(&mut self, partition: Partition) {
        self.inbox.claim(partition);
    }

    fn consume(&mut self, lease: Lease) {
        self.inbox.consume(lease);
    }

    fn release(&mut self, partition: Partition) {
        self.inbox.release(partition);
    }

    fn link(&self) -> tokio::sync::watch::Receiver<Link> {
        self.link.clone()
    }

    fn window(&self) -> usize {
        // A queue for each class of traffic.
        usize::from(self.config.prefetch()) * 2
    }

    async fn close(self: Box<Self>) {
        drop(self.stop);
        let _ = timeout(ending_max(&self.config), self.supervisor).await;
    }
}

/// The supervisor's use of a connection: consuming.
struct Consuming {
    topology: Topology,
    inbox: Arc<Inbox>,
    publisher: Arc<dyn Publisher>,
    held: Arc<HeldBytes>,
    body_bytes_max: usize,
}

impl Use for Consuming {
    async fn attend(
        &self,
        connection: Connection,
        supervisor: &Supervisor,
        first: &mut FirstConnection,
    ) -> Result<String, ConnectError> {
        let used = Connected {
            consuming: self,
            connection: &connection,
            config: &supervisor.config,
            lease_watchdog: Arc::new(LeaseWatchdog::new(supervisor.config.heartbeat)),
            ruined: Mutex::default(),
            ruin: Notify::new(),
        };
        let partitions = 0..self.topology.partitions;
        // They hold lapin's consumers, so they must not be dropped before the connection is closed.
        let mut tended: FuturesUnordered<_> = partitions.clone().map(|p| used.tend(p)).collect();
        let ended = match self.declare(&connection, supervisor, first.is_over()).await {
            Err(error) => Err(error),
            Ok(()) => {
                supervisor.up(first);
                tokio::select! {
                    biased;
                    () = supervisor.stop.cancelled() => {
                        let released = self.release_all(&mut tended);
                        let _ = timeout(ending_max(&supervisor.config), released).await;
                        Ok("closed".to_owned())
                    }
                    reason = used.end() => Ok(reason),
                    error = watch::watch(&connection, &self.topology, &supervisor.config) => Err(error),
                    Some(()) = tended.next() => Ok("nothing to consume".to_owned()),
                }
            }
        };
        used.lease_watchdog.stop();
        connection::close(&connection, supervisor.config.close_timeout).await;
        drop(tended);
        for partition in partitions {
            self.inbox.lost(partition);
        }
        ended
    }
}

impl Consuming {
    async fn declare(
        &self,
        connection: &Connection,
        supervisor: &Supervisor,
        was_declared: bool,
    ) -> Result<(), ConnectError> {
        let mut declaring = Declaring::new(connection);
        let declared = async {
            match was_declared {
                true => declaring.declare_again(&self.topology).await,
                false => declaring.declare(&self.topology).await,
            }
        };
        tokio::select! {
            () = supervisor.stop.cancelled() => Ok(()),
            declared = timeout(supervisor.config.confirm_timeout, declared) => {
                declared.unwrap_or_else(|_| {
                    Err(ConnectError::unreachable(&"it didn't declare the topology in time"))
                })
            }
            // A lapin request never returns if the connection ends at that moment.
            reason = loss(connection) => Err(ConnectError::unreachable(&reason)),
        }
    }

    /// Releases all leases, and waits until none is held.
    async fn release_all(&self, tended: &mut FuturesUnordered<impl Future<Output = ()>>) {
        for partition in 0..self.topology.partitions {
            self.inbox.release(partition);
        }
        let mut look = tokio::time::interval(Duration::from_millis(10));
        while self.inbox.holds_any() {
            tokio::select! {
                _ = tended.next() => {}
                _ = look.tick() => {}
            }
        }
    }
}

/// One connection and its use.
struct Connected<'c> {
    consuming: &'c Consuming,
    connection: &'c Connection,
    config: &'c Config,
    lease_watchdog: Arc<LeaseWatchdog>,
    /// Why the connection has to be closed: a channel was not closed as asked, for example.
    ruined: Mutex<Option<String>>,
    ruin: Notify,
}

/// How a lease ended.
enum Ended {
    /// This worker released it.
    Released,
    Lost(String),
    /// Only the epoch ended: more was delivered than may be held.
    Full,
}

impl Connected<'_> {
    /// Waits until the connection is gone or has to be closed. Returns why.
    async fn end(&self) -> String {
        tokio::select! {
            reason = loss(self.connection) => reason,
            () = self.lease_watchdog.keep() => "the process was frozen: another worker may have its leases".to_owned(),
            () = self.ruin.notified() => {
                let reason = self.ruined.lock().unwrap_or_else(PoisonError::into_inner).take();
                reason.unwrap_or_default()
            }
        }
    }

    /// Waits for the lease and uses it whenever the partition is wanted. Never ends by itself.
    async fn tend(&self, partition: Partition) {
        let inbox = &self.consuming.inbox;
        let mut tries = 0;
        loop {
            let desired = inbox.until_desired(partition, |desired| desired.wanted).await;
            let began = Instant::now();
            match self.hold(partition, desired.releases).await {
                Ended::Released | Ended::Full => tries = 0,
                Ended::Lost(_) if began.elapsed() > LASTED => tries = 0,
                // The next connection declares the topology again.
                Ended::Lost(reason) if tries == TRIES_MAX => {
                    self.ruined(&reason).await;
                }
                Ended::Lost(reason) => {
                    tracing::debug!(partition, reason, "broker: a lease, or the claim to it, was lost");
                    tries += 1;
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Asks for the connection to be closed, and never returns: the caller's channels must not be dropped before that.
    async fn ruined(&self, reason: &str) -> Ended {
        *self.ruined.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        self.ruin.notify_one();
        std::future::pending().await
    }

    async fn released(&self, partition: Partition, releases: u64) {
        let inbox = &self.consuming.inbox;
        inbox
            .until_desired(partition, |desired| desired.releases != releases)
            .await;
    }

    /// From the claim to the end of the lease.
    async fn hold(&self, partition: Partition, releases: u64) -> Ended {
        let queue = self.consuming.topology.lease_queue(partition);
        let opening = LeaseClaim::open(self.connection, &queue, &*self.consuming.publisher);
        let mut claim = match timeout(self.config.confirm_timeout, opening).await {
            Ok(Ok(claim)) => claim,
            Ok(Err(error)) => return Ended::Lost(error.to_string()),
            Err(_) => return self.ruined("it didn't open a channel in time").await,
        };
        let ended = tokio::select! {
            biased;
            () = self.released(partition, releases) => Ended::Released,
            token = claim.token() => match token {
                Ok(()) => self.under_lease(partition, releases, &mut claim).await,
                Err(reason) => Ended::Lost(reason),
            },
        };
        // The next claimant may get the lease now: deliveries under it have gone back.
        let closed = claim.close(self.config.close_timeout).await;
        self.consuming.inbox.lost(partition);
        match ended {
            Ended::Released if !closed => self.ruined("a lease was not released as asked").await,
            ended => ended,
        }
    }

    async fn under_lease(&self, partition: Partition, releases: u64, claim: &mut LeaseClaim) -> Ended {
        let inbox = &self.consuming.inbox;
        let lease = inbox.leased(partition);
        tokio::select! {
            biased;
            () = self.released(partition, releases) => return Ended::Released,
            reason = claim.keep(self.config.hold_max) => return Ended::Lost(reason),
            _ = inbox.until_desired(partition, |desired| desired.consume == lease.number) => {}
        }
        loop {
            match self.one_epoch(partition, releases, claim).await {
                Ended::Full => {}
                ended => return ended,
            }
        }
    }

    async fn one_epoch(&self, partition: Partition, releases: u64, claim: &mut LeaseClaim) -> Ended {
        let consuming = self.consuming;
        let (held, body_bytes_max) = (consuming.held.clone(), consuming.body_bytes_max);
        let mut epoch = Epoch::new(partition, self.lease_watchdog.clone(), held, body_bytes_max);
        let ended = tokio::select! {
            ended = self.consume(&mut epoch, releases) => ended,
            reason = claim.keep(self.config.hold_max) => Ended::Lost(reason),
        };
        if let Ended::Released | Ended::Full = ended {
            epoch.let_acks_arrive(self.config).await;
        }
        match epoch.end(self.config).await {
            true => ended,
            // Its channels may still be open: they and their deliveries end with the connection.
            false => self.ruined("the channels were not closed as asked").await,
        }
    }

    async fn consume(&self, epoch: &mut Epoch, releases: u64) -> Ended {
        let partition = epoch.partition;
        let queues = self.consuming.topology.partition_queues(partition);
        let begin = epoch.begin(self.connection, self.config, queues);
        match timeout(self.config.confirm_timeout, begin).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ended::Lost(error.to_string()),
            Err(_) => return Ended::Lost("it didn't open a channel in time".to_owned()),
        }
        tokio::select! {
            biased;
            () = self.released(partition, releases) => Ended::Released,
            forwarded = epoch.forward(&self.consuming.inbox) => match forwarded {
                Forwarded::Lost(reason) => Ended::Lost(reason),
                Forwarded::Full => Ended::Full,
            },
        }
    }
}

/// Waits until the connection is gone. Returns why.
pub(super) async fn loss(connection: &Connection) -> String {
    let mut events = connection.events_listener().boxed();
    let mut reason = "the connection was closed".to_owned();
    while connection.status().connected() {
        if let Ok(Some(Event::Error(error))) = timeout(LOOK_EVERY, events.next()).await {
            reason = error.to_string();
        }
    }
    reason
}
