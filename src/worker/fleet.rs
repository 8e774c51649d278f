//! The workers of one provider: the notices they exchange, and the outcome log they share.

mod answers;
mod barrier;
mod holders;
mod log;
mod stalls;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use self::answers::Inquiries;
use self::holders::Holders;
use self::stalls::Stalls;
use super::gate::Gate;
use super::in_hand::InHand;
use super::ledger::Ledger;
use super::lifecycle::Lifecycle;
use super::order_book::OrderBook;
use super::watchdog::Stall;
use crate::broker::{Delivery, Link, ListenerStatus, Message, Partition, Properties, Publisher, Ready};
use crate::clock::{Clock, OnceAMinute};
use crate::contract::notice::{StallCause, Stalled, Unusable};
use crate::contract::{Notice, Orders, ProviderName, WorkerId};
use crate::metrics;
use crate::policy::balance::Balance;

/// The holder of this partition's lease publishes for the whole fleet.
const FIRST: Partition = 0;

/// The number of events of the outcome log that are read before the first command is taken. Reading them
/// takes some 50 ms, or half a second if the broker stored each event by itself.
pub const LOG_END_MAX: usize = 1000;

/// The orders that are there at the start arrive within this, usually within half a second.
const ORDERS_WITHIN: Duration = Duration::from_secs(5);

/// Workers tell each other each second what they hold and what keeps them. After this long without it, a lease's holder is
/// unknown, and what a worker said no longer counts. Moving a lease, or a lost connection, takes less.
pub(super) const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// News is published within the first of these; an unchanged notice is repeated after the second.
const NEWS_EVERY: Duration = Duration::from_millis(250);
const NOTICE_EVERY: Duration = Duration::from_secs(1);

pub struct Settings {
    pub provider: ProviderName,
    pub partitions: u16,
    /// The exchange for notices.
    pub exchange: String,
    /// How far back the outcome log is read at the start.
    pub ledger_window: Duration,
    /// The number of its events that are read before the first command is taken.
    pub log_end_max: usize,
    pub listener_status: ListenerStatus,
    /// The most unsettled commands of each partition.
    pub window: usize,
}

/// The parts of the worker that it shares with its commands.
#[derive(Clone)]
pub struct Parts {
    pub publisher: Arc<dyn Publisher>,
    pub gate: Arc<Gate>,
    pub ledger: Arc<Ledger>,
    pub orders: Arc<OrderBook>,
    pub in_hand: Arc<InHand>,
    /// Whether this worker's commands make no progress.
    pub still: watch::Receiver<Option<Stall>>,
}

pub struct Fleet {
    me: WorkerId,
    settings: Settings,
    clock: Clock,
    publisher: Arc<dyn Publisher>,
    gate: Arc<Gate>,
    ledger: Arc<Ledger>,
    balance: Mutex<Balance>,
    holders: Mutex<Holders>,
    ignored: Mutex<Ignored>,
    pub(super) lifecycle: Lifecycle,
    pub(super) orders: Arc<OrderBook>,
    in_hand: Arc<InHand>,
    still: watch::Receiver<Option<Stall>>,
    stalls: Mutex<Stalls>,
    inquiries: Inquiries,
    own: Mutex<Own>,
    /// Something about this worker has to be published.
    news: Notify,
    /// A notice arrived that may change the balance.
    notice_received: Notify,
    /// Whether the log is to be followed.
    follow: watch::Sender<bool>,
    /// Whether the log was read up to the present once.
    caught_up: watch::Sender<bool>,
    /// How far the current reading of the log has come.
    read: watch::Sender<Read>,
    /// When it came so far.
    read_moved: Mutex<Instant>,
    /// The latest dead letter of the broker's own, for the reconciler. A later one shows that the one before is stale.
    broker_dead_letter: Mutex<Option<Delivery>>,
    dead_letter_arrived: Notify,
    /// Whether the log is read for every provider: the broker's own dead letters may belong to any of them.
    all_providers: watch::Sender<AllProviders>,
    barriers: AtomicU64,
    /// Set once an event that was published behind the others was read.
    proven: OnceCell<()>,
}

/// How far the log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Read {
    Nothing,
    /// Its end, up to the present; new events follow.
    ToPresent,
    /// As far back as needed.
    All,
}

/// Whether the log is read for other providers, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AllProviders {
    Unread,
    /// To be read once more, from as far back as at the start.
    Asked,
    /// Read for all: an event that is published now is read after all of theirs.
    Following,
}

/// What this worker's notices say of it, besides the gate's state.
#[derive(Debug, Clone, Default, PartialEq)]
struct Own {
    leases: Vec<Partition>,
    /// Since when each of them is held.
    since: HashMap<Partition, Instant>,
    leaving: bool,
    /// It claims leases: workers that hold many may release some.
    joined: bool,
    /// It holds the first lease, or held it last.
    speaks: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    pub fn new(me: WorkerId, settings: Settings, clock: Clock, parts: Parts) -> Self {
        let Parts {
            publisher,
            gate,
            ledger,
            orders,
            in_hand,
            still,
        } = parts;
        Self {
            balance: Mutex::new(Balance::new(me.clone(), settings.partitions)),
            holders: Mutex::new(Holders::new(settings.partitions)),
            ignored: Mutex::default(),
            lifecycle: Lifecycle::new(settings.provider.clone(), clock),
            orders,
            in_hand,
            still,
            stalls: Mutex::default(),
            inquiries: Inquiries::default(),
            me,
            settings,
            clock,
            publisher,
            gate,
            ledger,
            own: Mutex::default(),
            news: Notify::new(),
            notice_received: Notify::new(),
            follow: watch::Sender::new(true),
            caught_up: watch::Sender::new(false),
            read: watch::Sender::new(Read::Nothing),
            read_moved: Mutex::new(Instant::now()),
            broker_dead_letter: Mutex::default(),
            dead_letter_arrived: Notify::new(),
            all_providers: watch::Sender::new(AllProviders::Unread),
            barriers: AtomicU64::new(0),
            proven: OnceCell::new(),
        }
    }

    /// This worker claims leases.
    pub fn join(&self) {
        lock(&self.own).joined = true;
        self.news.notify_one();
    }

    pub fn holds(&self, leases: Vec<Partition>) {
        let mut own = lock(&self.own);
        own.speaks |= leases.contains(&FIRST);
        let now = Instant::now();
        own.since.retain(|lease, _| leases.contains(lease));
        for lease in &leases {
            own.since.entry(*lease).or_insert(now);
        }
        own.leases = leases;
        drop(own);
        self.news.notify_one();
    }

    /// Sets whether this worker wants no more leases, permanently or for now.
    pub fn set_leaving(&self, leaving: bool) {
        lock(&self.own).leaving = leaving;
        self.news.notify_one();
    }

    /// Whether this worker publishes the events that are published once for the whole fleet. While all workers rest
    /// none holds a lease, and the last holder of the first one still does.
    pub(super) fn speaks(&self) -> bool {
        lock(&self.own).speaks
    }

    /// Whether known workers hold all leases.
    pub fn holders_are_known(&self) -> bool {
        lock(&self.holders).are_known(Instant::now())
    }

    /// Waits for the operators' orders, but not for long: a worker that can't read them works as before.
    pub(super) async fn orders_known(&self) {
        if timeout(ORDERS_WITHIN, self.orders.known()).await.is_err() {
            tracing::warn!(
                "worker: takes commands without knowing the operators' orders; check the stream usher.orders"
            );
        }
    }

    /// The operators' orders in force.
    pub fn orders(&self) -> Orders {
        self.orders.now()
    }

    /// The connection that receives notices.
    pub fn link(&self) -> Link {
        self.settings.listener_status.link.borrow().clone()
    }

    /// Why the outcome log can't be read.
    pub fn log_trouble(&self) -> Option<String> {
        self.settings.listener_status.log_trouble.borrow().clone()
    }

    /// How many messages are in `user.dead-letters`, where it is known.
    pub fn dead_letters(&self) -> Option<u64> {
        *self.settings.listener_status.dead_letters.borrow()
    }

    /// How many commands of each partition are ready.
    pub fn ready(&self) -> Ready {
        self.settings.listener_status.ready.clone()
    }

    /// Partitions whose lease no known worker has held for a while.
    pub fn holder_unknown(&self) -> Vec<Partition> {
        lock(&self.holders).unknown(Instant::now())
    }

    pub fn gives_one_up(&self, held: usize) -> bool {
        lock(&self.balance).gives_one_up(held, Instant::now())
    }

    pub fn others_hold_some(&self) -> bool {
        lock(&self.balance).others_hold_some(Instant::now())
    }

    pub fn passes_on(&self, held: usize) -> bool {
        lock(&self.balance).passes_on(held, Instant::now())
    }

    /// Waits for a notice that may change the balance.
    pub async fn notice_received(&self) {
        self.notice_received.notified().await;
    }

    fn on_broker_dead_letter(&self, delivery: Delivery) {
        *lock(&self.broker_dead_letter) = Some(delivery);
        self.dead_letter_arrived.notify_one();
    }

    /// Waits for the next command that the broker itself dead-lettered.
    pub(super) async fn broker_dead_letter(&self) -> Delivery {
        loop {
            if let Some(delivery) = lock(&self.broker_dead_letter).take() {
                return delivery;
            }
            self.dead_letter_arrived.notified().await;
        }
    }

    /// Publishes this worker's news, and regularly that it is alive. Never ends.
    pub(super) async fn publish_notices(self: Arc<Self>) {
        let mut tick = interval(NEWS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent: Option<(Notice, Instant)> = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.news.notified() => {}
            }
            self.look_at_holders();
            if !lock(&self.own).joined {
                continue;
            }
            let notice = self.notice();
            let is_news = sent
                .as_ref()
                .is_none_or(|(before, at)| is_news(before, &notice) || at.elapsed() >= NOTICE_EVERY);
            if is_news {
                // A lost notice is followed by the next.
                let _ = timeout(NOTICE_EVERY, self.publisher.publish(&self.message(&notice))).await;
                sent = Some((notice, Instant::now()));
            }
        }
    }

    /// The holders are unknown while this worker has not joined or is disconnected.
    fn look_at_holders(&self) {
        let own = lock(&self.own).clone();
        let linked = matches!(*self.publisher.link().borrow(), Link::Up);
        let now = Instant::now();
        let mut holders = lock(&self.holders);
        match own.joined && !own.leaving && linked {
            true => holders.on_notice(&own.leases, now),
            false => holders.begin(now),
        }
        holders.say(now);
    }

    fn notice(&self) -> Notice {
        let own = lock(&self.own).clone();
        let (paused, pace) = self.gate.announcement();
        Notice {
            worker: self.me.clone(),
            leases: own.leases,
            leaving: own.leaving,
            paused,
            pace,
            orders: self.orders.revision(),
            stalled: self.stall().map(|(cause, since)| Stalled {
                cause,
                since_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    fn stall(&self) -> Option<(StallCause, Instant)> {
        self.still
            .borrow()
            .as_ref()
            .map(|stall| (stall.what, stall.since))
    }

    /// Why and since when commands of some worker make no progress.
    pub(super) fn stalled(&self, now: Instant) -> Option<(StallCause, Instant)> {
        let others = lock(&self.stalls).longest(now);
        self.stall()
            .into_iter()
            .chain(others)
            .min_by_key(|(_, since)| *since)
    }

    fn message(&self, notice: &Notice) -> Message {
        // A notice holds strings and numbers.
        let body = serde_json::to_vec(notice).unwrap_or_default();
        Message {
            exchange: self.settings.exchange.clone(),
            routing_key: String::new(),
            properties: Properties::transient("application/json"),
            body: Bytes::from(body),
            mandatory: false,
        }
    }

    fn on_notice(&self, notice: &[u8]) {
        let now = Instant::now();
        let notice = match Notice::read(notice, self.settings.partitions) {
            Ok(notice) => notice,
            Err(why) => return lock(&self.ignored).count(why, now),
        };
        if notice.worker == self.me {
            return;
        }
        let mine = {
            let mut own = lock(&self.own);
            own.speaks &= own.leases.contains(&FIRST) || !notice.leases.contains(&FIRST);
            own.leases.clone()
        };
        // A lease that this worker holds is not another worker's, whatever its notice says.
        let leases = notice.leases.iter().filter(|lease| !mine.contains(lease)).count();
        lock(&self.balance).on_notice(&notice.worker, leases, notice.leaving, now);
        lock(&self.holders).on_notice(&notice.leases, now);
        lock(&self.stalls).on_notice(&notice, now);
        self.gate.on_notice(&notice);
        self.notice_received.notify_one();
    }
}

/// Whether the notice says anything new. A remaining time that shrinks is not new.
fn is_news(before: &Notice, now: &Notice) -> bool {
    let pause = |notice: &Notice| notice.paused.as_ref().map(|paused| paused.cause);
    let stall = |notice: &Notice| notice.stalled.map(|stalled| stalled.cause);
    let longer = match (&before.paused, &now.paused) {
        (Some(before), Some(now)) => now.for_ms > before.for_ms + 50,
        _ => false,
    };
    before.leases != now.leases
        || before.leaving != now.leaving
        || before.orders != now.orders
        || stall(before) != stall(now)
        || before.pace.slowdowns != now.pace.slowdowns
        || pause(before) != pause(now)
        || longer
}

/// Notices that no worker would send: counted, and logged at most once a minute.
#[derive(Default)]
struct Ignored(OnceAMinute);

impl Ignored {
    fn count(&mut self, why: Unusable, now: Instant) {
        metrics::notice_ignored(why.as_str());
        if let Some(ignored) = self.0.count(now) {
            tracing::warn!(
                notices.ignored = ignored,
                notice.fault = why.as_str(),
                "fleet: ignored notices that no worker would send; check who may write to the usher.fleet exchange"
            );
        }
    }
}
