//! Operators' orders: every worker follows them within a second, and so does one that starts later.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use usher::contract::event::EventType;
use usher::contract::orders::{PaceOrder, PauseOrder};
use usher::contract::{BatchId, BatchState, Fault, Orders};
use usher::operations::steering::{self, SteeringError};
use usher::worker::gate::Live;

use crate::commands::{body, command, message};
use crate::provider::{Answer, Scripted};
use crate::world::{Running, World, outcomes, per_second};

const PARTITIONS: u16 = 3;
const SECOND: Duration = Duration::from_secs(1);

fn fleet(rate: u32) -> (World, Vec<Running>) {
    let mut world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
    world.rate = Some(rate);
    let running = (0..3).map(|_| world.start()).collect();
    (world, running)
}

async fn order(world: &World, change: impl Fn(&mut Orders) -> Result<(), SteeringError>) -> Orders {
    world.steering().change(change).await.unwrap()
}

fn publish(world: &World, numbers: std::ops::Range<u64>, bulk: bool) {
    for n in numbers {
        world.publish(&command(n, &format!("u{n}"), bulk));
    }
}

fn pause(world: &World, bulk_only: bool, until: Option<Timestamp>) -> PauseOrder {
    PauseOrder {
        bulk_only,
        by: "alex".into(),
        reason: "maintenance".into(),
        since: world.clock.now(),
        until,
    }
}

/// How many calls were made during this span from now on.
async fn calls_within(world: &World, span: Duration) -> usize {
    let before = world.provider.writes().len();
    sleep(span).await;
    world.provider.writes().len() - before
}

#[tokio::test(start_paused = true)]
async fn an_ordered_pause_reaches_every_worker_within_a_second_and_one_that_starts_later() {
    let (world, running) = fleet(50);
    publish(&world, 0..3000, false);
    sleep(10 * SECOND).await;
    assert!(calls_within(&world, SECOND).await > 30);
    order(&world, |orders| {
        steering::pause(orders, &pause(&world, false, None))
    })
    .await;
    sleep(SECOND).await;
    assert_eq!(calls_within(&world, 20 * SECOND).await, 0);
    for worker in &running {
        let paused = worker.gate.pause().unwrap();
        assert_eq!((paused.cause, paused.until), ("operator", None));
        assert!(paused.why.unwrap().contains("alex"));
    }
    let late = world.start();
    running.into_iter().for_each(|worker| worker.shutdown.drain());
    assert_eq!(calls_within(&world, 60 * SECOND).await, 0);
    order(&world, steering::resume).await;
    sleep(2 * SECOND).await;
    assert!(calls_within(&world, SECOND).await > 30);
    assert!(world.settles().await);
    late.drain().await;
}

#[tokio::test(start_paused = true)]
async fn an_ordered_pause_ends_by_itself_at_its_time() {
    let (world, _running) = fleet(50);
    publish(&world, 0..3000, false);
    sleep(5 * SECOND).await;
    let until = world.clock.now() + jiff::SignedDuration::from_mins(5);
    order(&world, |orders| {
        steering::pause(orders, &pause(&world, false, Some(until)))
    })
    .await;
    sleep(SECOND).await;
    assert_eq!(calls_within(&world, 290 * SECOND).await, 0);
    sleep(15 * SECOND).await;
    assert!(calls_within(&world, SECOND).await > 30);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_bulk_traffic_leaves_interactive_commands_alone() {
    let (mut world, _) = (World::new(Scripted::always(Answer::Ok)), ());
    world.rate = Some(50);
    world.hold_max = Duration::from_secs(60);
    let running = world.start();
    publish(&world, 0..2000, true);
    sleep(5 * SECOND).await;
    order(&world, |orders| {
        steering::pause(orders, &pause(&world, true, None))
    })
    .await;
    sleep(SECOND).await;
    let bulk_left = world.waiting();
    assert_eq!(calls_within(&world, 10 * SECOND).await, 0);
    // Longer than deliveries may be held, so that the broker gets them back and forth.
    for n in 5000..5300 {
        world.publish(&command(n, &format!("i{n}"), false));
        sleep(SECOND).await;
    }
    sleep(5 * SECOND).await;
    assert_eq!(world.waiting(), bulk_left);
    assert!(world.held() <= 256);
    assert!(running.gate.pause().is_none(), "the provider is not paused");
    order(&world, steering::resume).await;
    assert!(world.settles().await);
}

#[tokio::test(start_paused = true)]
async fn deliveries_go_back_in_time_while_bulk_traffic_is_paused() {
    let mut world = World::new(Scripted::always(Answer::Ok));
    world.hold_max = Duration::from_secs(60);
    let running = world.start();
    sleep(SECOND).await;
    order(&world, |orders| {
        steering::pause(orders, &pause(&world, true, None))
    })
    .await;
    publish(&world, 0..10, true);
    sleep(2 * SECOND).await;
    let before = running.progress.borrow().returned;
    sleep(90 * SECOND).await;
    assert!(running.progress.borrow().returned > before);
    assert_eq!(world.waiting(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_pace_is_that_of_the_whole_fleet_and_within_the_configured_rate() {
    let (world, _running) = fleet(50);
    publish(&world, 0..20_000, false);
    sleep(10 * SECOND).await;
    let pin = |per_second| {
        let since = world.clock.now();
        PaceOrder {
            per_second,
            by: "alex".into(),
            since,
            until: Some(since + jiff::SignedDuration::from_mins(2)),
        }
    };
    let slow = pin(10.0);
    order(&world, |orders| steering::pin(orders, &slow)).await;
    sleep(SECOND).await;
    let slow = calls_within(&world, 60 * SECOND).await;
    assert!((560..=620).contains(&slow), "{slow}");
    let fast = pin(500.0);
    order(&world, |orders| steering::pin(orders, &fast)).await;
    sleep(SECOND).await;
    let fast = calls_within(&world, 60 * SECOND).await;
    assert!((2800..=3010).contains(&fast), "{fast}");
    order(&world, steering::unpin).await;
    sleep(SECOND).await;
    assert!(calls_within(&world, 10 * SECOND).await > 400);
}

/// A command of this batch.
fn of_batch(n: u64, user: &str, batch: &str) -> usher::broker::Message {
    let mut body = body(n, user, true);
    body["batchId"] = batch.into();
    message(&body, user, true)
}

fn id(batch: &str) -> BatchId {
    BatchId::parse(batch).unwrap()
}

async fn order_batch(world: &World, batch: &str, state: Option<BatchState>) {
    let (batch, since) = (id(batch), world.clock.now());
    order(world, |orders| {
        steering::batch(orders, &batch, state, ("alex", since))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_batch_waits_while_other_commands_run_and_keeps_each_users_order() {
    let mut world = World::new(Scripted::always(Answer::Ok));
    world.rate = Some(20);
    world.concurrency = 4;
    let running = world.start();
    for n in 0..100 {
        world.publish(&of_batch(n, &format!("a{n}"), "a"));
    }
    sleep(2 * SECOND).await;
    order_batch(&world, "a", Some(BatchState::Paused)).await;
    sleep(SECOND).await;
    let left = world.waiting();
    assert!(left > 40, "{left}");
    let starts = |world: &World| {
        world
            .events()
            .iter()
            .filter(|event| event.event_type() == EventType::Start)
            .count()
    };
    let started = starts(&world);
    assert!(
        started < 100 - left + 30,
        "most that wait have no START: {started} of 100"
    );
    for n in 200..240 {
        world.publish(&of_batch(n, &format!("b{n}"), "b"));
    }
    // Of a user that waits.
    world.publish(&of_batch(300, "a99", "b"));
    sleep(10 * SECOND).await;
    assert_eq!(
        world.waiting(),
        left + 1,
        "the other batch ran, but for that user"
    );
    assert!(running.still.borrow().is_none());
    order_batch(&world, "a", None).await;
    assert!(world.settles().await);
    let of_user: Vec<_> = world
        .provider
        .writes()
        .into_iter()
        .filter(|call| call.user == "a99")
        .map(|call| call.number.unwrap())
        .collect();
    assert_eq!(of_user, [99, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_batch_ends_as_failures_but_for_what_has_begun() {
    let slow = Scripted::new(1, 5 * SECOND, Box::new(|_, _, _| Answer::Ok));
    let mut world = World::new(slow);
    world.concurrency = 4;
    world.doubts_configuration = true;
    world.dead_letter_share_max = 0.5;
    let running = world.start();
    for n in 0..200 {
        world.publish(&of_batch(n, &format!("a{n}"), "a"));
    }
    sleep(7 * SECOND).await;
    order_batch(&world, "a", Some(BatchState::Cancelled)).await;
    assert!(world.settles().await);
    let ends = outcomes(&world.events());
    let succeeded = ends.iter().filter(|end| *end == "SUCCESS 1").count();
    let cancelled = ends.iter().filter(|end| *end == "cancelled 0").count();
    assert_eq!(succeeded, world.provider.writes().len());
    assert_eq!(succeeded + cancelled, 200);
    assert!((4..=12).contains(&succeeded), "{succeeded}");
    assert_eq!(world.dead_letters().len(), cancelled);
    assert!(running.gate.pause().is_none(), "cancelled commands shut no guard");
    // Without the order, they run when they are sent again.
    order_batch(&world, "a", None).await;
    assert_eq!(
        world.dead_letters()[0]
            .properties
            .header_text("x-usher-reason")
            .unwrap(),
        "cancelled"
    );
}

#[tokio::test(start_paused = true)]
async fn a_paused_batch_waits_even_where_its_commands_have_a_start_and_wait_for_a_permit() {
    let mut world = World::new(Scripted::always(Answer::Ok));
    world.rate = Some(1);
    let _running = world.start();
    for n in 0..50 {
        world.publish(&of_batch(n, &format!("a{n}"), "a"));
    }
    sleep(5 * SECOND).await;
    order_batch(&world, "a", Some(BatchState::Paused)).await;
    sleep(SECOND).await;
    assert_eq!(calls_within(&world, 30 * SECOND).await, 0);
    world.publish(&command(900, "i", false));
    sleep(3 * SECOND).await;
    assert!(world.provider.writes().iter().any(|call| call.user == "i"));
    order_batch(&world, "a", Some(BatchState::Cancelled)).await;
    sleep(2 * SECOND).await;
    assert_eq!(world.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn changes_at_the_same_moment_both_count() {
    let world = World::new(Scripted::always(Answer::Ok));
    let steering = world.steering();
    let since = world.clock.now();
    let batches: Vec<_> = (0..5).map(|n| id(&format!("b{n}"))).collect();
    let changes = batches.iter().map(|batch| {
        let paused = Some(BatchState::Paused);
        steering.change(move |orders| steering::batch(orders, batch, paused, ("alex", since)))
    });
    for changed in futures_util::future::join_all(changes).await {
        changed.unwrap();
    }
    let orders = steering.orders().await.unwrap();
    assert_eq!((orders.batches.len(), orders.revision), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn an_order_to_resume_makes_every_worker_try_again_at_once() {
    let provider = Scripted::always(Answer::Fail(Fault::Throttled {
        retry_after: Some(3600 * SECOND),
    }));
    let world = World::partitioned(provider, PARTITIONS);
    let running: Vec<_> = (0..3).map(|_| world.start()).collect();
    sleep(10 * SECOND).await;
    publish(&world, 0..30, false);
    sleep(60 * SECOND).await;
    let paused = |running: &[Running]| {
        let paused = running.iter().filter(|worker| worker.gate.pause().is_some());
        paused.count()
    };
    assert_eq!(paused(&running), 3);
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    order(&world, steering::resume).await;
    let start = Instant::now();
    while paused(&running) > 0 {
        sleep(SECOND / 10).await;
        assert!(start.elapsed() <= SECOND);
    }
    assert!(world.settles_within(30 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_changed_rate_and_concurrency_are_followed_at_once() {
    let (world, running) = fleet(10);
    publish(&world, 0..20_000, false);
    sleep(20 * SECOND).await;
    let at_ten = calls_within(&world, 20 * SECOND).await;
    assert!((180..=205).contains(&at_ten), "{at_ten}");
    let configure = |rate: u32, concurrency| {
        for worker in &running {
            worker.gate.configure(Live {
                rates: per_second(rate),
                share: 1.0,
                concurrency,
                bulk_share_min: 0.05,
            });
        }
    };
    configure(40, 64);
    sleep(SECOND).await;
    let at_forty = calls_within(&world, 20 * SECOND).await;
    assert!((740..=805).contains(&at_forty), "{at_forty}");
    configure(5, 64);
    sleep(SECOND).await;
    let at_five = calls_within(&world, 20 * SECOND).await;
    assert!((90..=103).contains(&at_five), "{at_five}");
}

#[tokio::test(start_paused = true)]
async fn a_quota_holds_in_its_hours() {
    let mut world = World::new(Scripted::always(Answer::Ok));
    // The run begins at 10:00 UTC.
    let rates = r#"[{"per_second":20},{"per_second":2,"between":"10:05-10:10","time_zone":"UTC"}]"#;
    world.rates = Some(serde_json::from_str(rates).unwrap());
    let _running = world.start();
    publish(&world, 0..30_000, false);
    sleep(120 * SECOND).await;
    let before = calls_within(&world, 60 * SECOND).await;
    assert!((1150..=1205).contains(&before), "{before}");
    sleep(130 * SECOND).await;
    let within = calls_within(&world, 60 * SECOND).await;
    assert!((110..=125).contains(&within), "{within}");
    sleep(240 * SECOND).await;
    let after = calls_within(&world, 60 * SECOND).await;
    assert!((1150..=1205).contains(&after), "{after}");
}
