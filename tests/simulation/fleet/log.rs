//! How far back the outcome log is read, on the broker in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{advance, sleep, timeout};
use usher::broker::Message;
use uuid::Uuid;

use usher::broker::memory::MemoryBroker;
use usher::broker::topology::OUTCOMES;
use usher::broker::{Config, Properties, Topology};
use usher::clock::Clock;
use usher::contract::event::{Event, EventIds};
use usher::contract::outcome::Settlement;
use usher::contract::{Ident, Outcome, ProviderName, WorkerId};
use usher::policy::pace::Rates;
use usher::worker::fleet::{Fleet, Parts, Settings};
use usher::worker::ledger::Ledger;

use crate::pace::gate_for;

const WINDOW: Duration = Duration::from_secs(900);
const EVENTS_MAX: u32 = 2000;
const END_MAX: usize = 100;
const PROVIDER: &str = "sivo";

struct Bench {
    broker: MemoryBroker,
    clock: Clock,
    fleet: Arc<Fleet>,
    ledger: Arc<Ledger>,
}

impl Bench {
    fn new() -> Self {
        let bench = Self::empty();
        bench.listens();
        bench
    }

    fn listens(&self) {
        let listener = self.broker.listener();
        tokio::spawn(self.fleet.clone().listen(listener));
    }

    fn empty() -> Self {
        let clock = Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap());
        let topology = Topology::new(PROVIDER, &Config::default());
        let broker = MemoryBroker::at(&topology, clock);
        let me = WorkerId::new("me");
        let settings = Settings {
            provider: ProviderName::parse(PROVIDER).unwrap(),
            partitions: 1,
            exchange: topology.fleet_exchange(),
            ledger_window: WINDOW,
            log_end_max: END_MAX,
            listener_status: broker.listener().status(),
            window: 1,
        };
        let ledger = Arc::new(Ledger::new(me.clone(), EVENTS_MAX as usize / 2));
        let parts = Parts {
            publisher: broker.publisher(),
            gate: gate_for(Rates::default(), 1, clock, 1),
            ledger: ledger.clone(),
            orders: Arc::default(),
            in_hand: Arc::default(),
            still: tokio::sync::watch::channel(None).1,
        };
        let fleet = Fleet::new(me, settings, clock, parts);
        let fleet = Arc::new(fleet);
        Self {
            broker,
            clock,
            fleet,
            ledger,
        }
    }

    /// Somebody else's success with this command.
    fn logs(&self, n: u128) {
        let settlement = Settlement {
            outcome: Outcome::Success {
                changed: true,
                version: None,
            },
            attempts: 1,
            duration: Duration::ZERO,
            merged_into: None,
        };
        let provider = ProviderName::parse(PROVIDER).unwrap();
        let event = Event::terminal(&provider, &ident(n), false, &settlement, self.clock.now());
        let logged = Message {
            exchange: OUTCOMES.to_owned(),
            routing_key: format!("user.update.success.{PROVIDER}"),
            properties: Properties::default(),
            body: serde_json::to_vec(&event).unwrap().into(),
            mandatory: false,
        };
        self.broker.publish(&logged).unwrap();
    }

    fn knows(&self, n: u128) -> bool {
        self.ledger.next_run(&mut ident(n), b"body").is_some()
    }
}

fn ident(n: u128) -> Ident {
    Ident {
        key: Uuid::from_u128(n),
        event_ids: EventIds::new(&Uuid::from_u128(n), 0),
        command_id: None,
        user_id: None,
        batch_id: None,
        fields: Vec::new(),
        redrives: 0,
        issued_at: None,
    }
}

/// As long as a worker that hears something needs to take it in.
async fn a_moment() {
    sleep(Duration::from_millis(400)).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_long_gap_the_log_is_read_no_further_back_than_the_window() {
    let bench = Bench::new();
    bench.logs(1);
    bench.fleet.caught_up().await;
    assert!(bench.knows(1));
    bench.fleet.follow(false);
    a_moment().await;
    let left = bench.clock.now();
    advance(Duration::from_secs(600)).await;
    bench.logs(2);
    advance(Duration::from_secs(7200)).await;
    bench.logs(3);
    bench.fleet.follow(true);
    a_moment().await;
    assert!(bench.knows(3) && !bench.knows(2));
    // What this one did itself it knows all the same; what others did is not known.
    assert!(bench.knows(1));
    assert!(!bench.ledger.is_complete_since(left));
    assert!(bench.ledger.is_complete_since(bench.clock.now() - WINDOW));
}

#[tokio::test(start_paused = true)]
async fn of_a_log_longer_than_the_ledger_only_the_end_is_known() {
    let bench = Bench::empty();
    for n in 0..EVENTS_MAX * 2 {
        bench.logs(n.into());
        advance(Duration::from_millis(10)).await;
    }
    bench.broker.hold_earlier(true);
    bench.listens();
    bench.fleet.caught_up().await;
    let end = EVENTS_MAX * 2 - u32::try_from(END_MAX).unwrap();
    assert!(!bench.knows((end - 1).into()) && bench.knows(end.into()));
    assert!(!bench.fleet.has_read_all());
    assert!(!bench.ledger.is_complete_since(bench.clock.now()));
    bench.broker.hold_earlier(false);
    bench.fleet.read_all().await;
    let first = EVENTS_MAX;
    assert!(!bench.knows((first - 1).into()) && bench.knows(first.into()));
    let back = |events: u32| bench.clock.now() - Duration::from_millis(10) * events;
    assert!(!bench.ledger.is_complete_since(back(EVENTS_MAX + 100)));
    assert!(bench.ledger.is_complete_since(back(EVENTS_MAX - 100)));
}

#[tokio::test(start_paused = true)]
async fn after_a_short_gap_the_log_is_read_from_where_reading_stopped() {
    let bench = Bench::new();
    bench.fleet.caught_up().await;
    let since = bench.clock.now();
    bench.fleet.follow(false);
    a_moment().await;
    bench.logs(1);
    advance(Duration::from_secs(600)).await;
    bench.fleet.follow(true);
    a_moment().await;
    assert!(bench.knows(1) && bench.ledger.is_complete_since(since));
}

/// Another provider's events never end, and notices come between.
#[tokio::test(start_paused = true)]
async fn a_busy_neighbour_in_the_log_holds_up_nobody() {
    let bench = Bench::empty();
    let busy = bench.broker.clone();
    let other = Message {
        exchange: OUTCOMES.to_owned(),
        routing_key: "user.update.success.other".to_owned(),
        properties: Properties::default(),
        body: Default::default(),
        mandatory: false,
    };
    let neighbour = tokio::spawn(async move {
        loop {
            busy.publish(&other).unwrap();
            sleep(Duration::from_millis(50)).await;
        }
    });
    sleep(Duration::from_secs(60)).await;
    bench.listens();
    let ready = async {
        bench.fleet.caught_up().await;
        bench.fleet.barrier().await;
        bench.fleet.read_all().await;
    };
    timeout(Duration::from_secs(1), ready).await.unwrap();
    neighbour.abort();
}

/// It begins anew, and ends.
#[tokio::test(start_paused = true)]
async fn a_listener_that_is_lost_in_the_middle_of_the_older_part_reads_all_of_it_in_the_end() {
    let bench = Bench::empty();
    for n in 0..EVENTS_MAX / 2 {
        bench.logs(n.into());
    }
    bench.broker.hold_earlier(true);
    bench.listens();
    bench.fleet.caught_up().await;
    // A worker that has all leases still has to know what was before.
    bench.fleet.follow(false);
    a_moment().await;
    bench.broker.drop_connection();
    a_moment().await;
    assert!(!bench.fleet.has_read_all() && !bench.knows(0));
    bench.broker.hold_earlier(false);
    bench.fleet.read_all().await;
    assert!((0..EVENTS_MAX / 2).all(|n| bench.knows(n.into())));
    assert!(bench.ledger.is_complete_since(bench.clock.now() - WINDOW));
}
