//! What is told of a batch while it runs: numbers that add up at every moment, and an end that comes true.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::{Instant, sleep};
use usher::contract::lifecycle::{BatchClosed, BatchOpened, Digest, LifecycleBody, LifecycleEvent};
use usher::contract::{BatchId, BatchState, Fault, ProviderName, Reason};
use usher::operations::batch::{Book, Status, list};
use usher::operations::steering;
use usher::worker::gate::Live;
use usher::worker::lifecycle;

use crate::commands::{PROVIDER, command, id};
use crate::provider::{Answer, Scripted};
use crate::world::{Running, World, per_second};

const SECOND: Duration = Duration::from_secs(1);

fn provider() -> ProviderName {
    ProviderName::parse(PROVIDER).unwrap()
}

fn batch() -> BatchId {
    BatchId::parse("batch").unwrap()
}

async fn status(world: &World) -> Status {
    let orders = world.steering().orders().await.unwrap();
    let now = world.clock.now();
    let (inspector, provider, batch) = (world.broker.inspector(), provider(), batch());
    let book = Book::read(&*inspector, &provider, &batch, None, now);
    book.await.unwrap().status(&orders, now)
}

fn tell(world: &World, body: LifecycleBody) {
    let event = LifecycleEvent::about(&provider(), "batch", body, 1, world.clock.now());
    world.publish(&lifecycle::message(&provider(), &event));
}

/// Publishes a batch of so many commands.
fn publish(world: &World, commands: u64) {
    let (batch_id, mut ids) = (batch(), Digest::default());
    tell(
        world,
        LifecycleBody::BatchOpened(BatchOpened {
            batch_id: batch_id.clone(),
            bulk: true,
            commands: Some(commands),
        }),
    );
    for n in 0..commands {
        let user = if n % 10 == 3 { "bad" } else { "good" };
        world.publish(&command(n, &format!("{user}-{n}"), true));
        ids.add(id(n));
    }
    tell(
        world,
        LifecycleBody::BatchClosed(BatchClosed {
            batch_id,
            commands,
            ids,
        }),
    );
}

fn some_fail() -> Scripted {
    let fails = |user: &str, _: bool, _: &mut fastrand::Rng| match user.starts_with("bad") {
        true => Answer::Fail(Fault::Command(Reason::Conflict)),
        false => Answer::Ok,
    };
    Scripted::new(1, SECOND / 100, Box::new(fails))
}

async fn order(world: &World, state: Option<BatchState>) {
    let since = world.clock.now();
    let steering = world.steering();
    let change = steering.change(|orders| steering::batch(orders, &batch(), state, ("alex", since)));
    change.await.unwrap();
}

/// The status, whose numbers add up.
async fn adds_up(world: &World, published: u64) -> Status {
    let status = status(world).await;
    let account = &status.account;
    assert_eq!(account.published, Some(published));
    let parts = account.counts.ended() + account.counts.in_flight + account.waiting.unwrap();
    assert_eq!(parts, published, "{status:?}");
    assert!(status.missing.is_empty(), "{status:?}");
    status
}

#[tokio::test(start_paused = true)]
async fn a_batchs_account_adds_up_at_every_moment_while_it_runs_is_paused_and_cancelled() {
    let mut world = World::new(some_fail());
    world.rate = Some(20);
    let _running = world.start();
    sleep(SECOND).await;
    publish(&world, 600);
    let mut in_flight = 0;
    for _ in 0..50 {
        let status = adds_up(&world, 600).await;
        in_flight = in_flight.max(status.account.counts.in_flight);
        sleep(SECOND / 7).await;
    }
    assert!(in_flight > 0);
    order(&world, Some(BatchState::Paused)).await;
    sleep(3 * SECOND).await;
    let paused = adds_up(&world, 600).await;
    let ended = paused.account.counts.ended();
    assert!((100..300).contains(&ended) && paused.left.is_none(), "{paused:?}");
    assert!(paused.held.unwrap().contains("usher batch resume batch"));
    sleep(60 * SECOND).await;
    assert_eq!(adds_up(&world, 600).await.account.counts.ended(), ended);

    order(&world, Some(BatchState::Cancelled)).await;
    let start = Instant::now();
    while world.waiting() > 0 && start.elapsed() < 600 * SECOND {
        adds_up(&world, 600).await;
        sleep(SECOND / 3).await;
    }
    let done = adds_up(&world, 600).await;
    assert!(done.done && done.closed && done.cancelled, "{done:?}");
    let reasons = &done.account.counts.reasons;
    assert!(reasons[&Reason::Cancelled] > 200, "{done:?}");
    assert!((10..30).contains(&reasons[&Reason::Conflict]), "{done:?}");
    assert_eq!(reasons.len(), 2);
    let mut digest = Digest::default();
    (0..600).for_each(|n| digest.add(id(n)));
    assert_eq!(done.ids, Some(digest.to_string()));

    let orders = world.steering().orders().await.unwrap();
    let listed = list(&*world.broker.inspector(), &provider(), &orders)
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].commands, listed[0].closed), (Some(600), true));
    assert_eq!(listed[0].order.as_ref().unwrap().state, BatchState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_and_its_successor_leave_the_account_whole() {
    let mut world = World::new(some_fail());
    world.rate = Some(50);
    let first = world.start();
    sleep(SECOND).await;
    publish(&world, 600);
    sleep(5 * SECOND).await;
    first.crash().await;
    adds_up(&world, 600).await;
    let _second = world.start();
    let start = Instant::now();
    while world.waiting() > 0 && start.elapsed() < 600 * SECOND {
        adds_up(&world, 600).await;
        sleep(SECOND).await;
    }
    let done = adds_up(&world, 600).await;
    assert!(done.done, "{done:?}");
    assert_eq!(done.account.counts.failed, 60);
    assert_eq!(done.account.counts.succeeded + done.account.counts.unchanged, 540);
}

fn configure(running: &Running, rate: u32) {
    running.gate.configure(Live {
        rates: per_second(rate),
        share: 1.0,
        concurrency: 64,
        bulk_share_min: 0.05,
    });
}

/// What was told to be left, when, and how many seconds; after that the batch has ended.
async fn told_and_true(world: &World, told: Vec<(&str, Instant, f64)>) {
    world.until_settled().await;
    for (when, at, seconds) in told {
        let truth = at.elapsed().as_secs_f64();
        let off = (seconds - truth).abs() / truth;
        assert!(
            off < 0.1,
            "{when}: {seconds:.0} s were told and {truth:.0} s it took"
        );
    }
    assert!(status(world).await.done);
}

/// Waits until so much has ended. A status reads the whole log, so it is asked for seldom.
async fn until_share(world: &World, share: f64) {
    while status(world).await.share.unwrap() < share {
        sleep(SECOND * 5 / 2).await;
    }
}

async fn left(world: &World) -> f64 {
    let status = status(world).await;
    status.left.unwrap_or_else(|| panic!("{status:?}")).seconds
}

#[tokio::test(start_paused = true)]
async fn the_end_that_is_told_comes_true_after_a_twentieth_and_a_minute_after_the_pace_has_halved() {
    let mut world = World::new(some_fail());
    world.rate = Some(20);
    let running = world.start();
    sleep(SECOND).await;
    publish(&world, 4000);
    until_share(&world, 0.05).await;
    // It would take 200 seconds in all.
    let early = left(&world).await;
    assert!((early - 190.0).abs() < 19.0, "{early}");
    sleep(80 * SECOND).await;
    configure(&running, 10);
    sleep(60 * SECOND).await;
    let later = status(&world).await;
    assert!(later.pace.varies(), "{later:?}");
    let later = later.left.unwrap();
    assert!(later.least_seconds < 0.8 * later.most_seconds, "{later:?}");
    let ends = world.clock.now() + SignedDuration::from_secs_f64(later.seconds);
    assert!(ends.duration_since(later.ends_at).abs() < SignedDuration::from_secs(1));
    told_and_true(&world, vec![("halved", Instant::now(), later.seconds)]).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_that_is_told_at_a_constant_pace_comes_true() {
    let mut world = World::new(some_fail());
    world.rate = Some(20);
    let _running = world.start();
    sleep(SECOND).await;
    publish(&world, 4000);
    let mut told = Vec::new();
    for (when, share) in [("a twentieth", 0.05), ("a fifth", 0.2)] {
        until_share(&world, share).await;
        told.push((when, Instant::now(), left(&world).await));
    }
    told_and_true(&world, told).await;
}
