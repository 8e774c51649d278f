//! What one worker hears of the provider, the others know: throttling, and an outage.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use usher::contract::notice::{PauseCause, Paused};
use usher::contract::{Fault, Learned, Notice, WorkerId};

use crate::commands::command;
use crate::provider::{Answer, Scripted};
use crate::world::{Running, World};

const PARTITIONS: u16 = 8;

/// So many workers with something to do for a long time, at rest.
async fn fleet(workers: usize) -> (World, Vec<Running>) {
    let mut world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
    world.rate = Some(20);
    let running: Vec<_> = (0..workers).map(|_| world.start()).collect();
    sleep(Duration::from_secs(10)).await;
    for n in 0..10_000 {
        let user = n % 500;
        world.publish(&command(n, &format!("u{user}"), user.is_multiple_of(2)));
    }
    sleep(Duration::from_secs(10)).await;
    (world, running)
}

#[tokio::test(start_paused = true)]
async fn a_429_at_one_worker_stops_all_within_a_second() {
    let (world, _running) = fleet(4).await;
    let throttled = Answer::Fail(Fault::Throttled {
        retry_after: Some(Duration::from_secs(10)),
    });
    let said = AtomicBool::new(false);
    let script = move |_: &str, _: bool, _: &mut fastrand::Rng| match said.swap(true, Ordering::Relaxed) {
        false => throttled,
        true => Answer::Ok,
    };
    world.provider.script(Box::new(script));
    sleep(Duration::from_secs(30)).await;
    let calls = world.provider.calls();
    let heard = calls.iter().find(|call| call.answer == Some(throttled)).unwrap();
    let heard_at = heard.ended.unwrap();
    let after = |from: u64, to: u64| {
        let span = heard_at + Duration::from_secs(from)..heard_at + Duration::from_secs(to);
        calls.iter().filter(|call| span.contains(&call.started)).count()
    };
    assert_eq!(after(1, 10), 0, "calls while nobody may call");
    assert!(after(10, 15) > 0, "calls go on");
}

/// Calls in five minutes in which the provider answers nobody.
async fn calls_in_an_outage(workers: usize) -> usize {
    let (world, _running) = fleet(workers).await;
    let start = Instant::now();
    world
        .provider
        .script(Box::new(|_, _, _| Answer::Fail(Fault::Broken)));
    sleep(Duration::from_secs(300)).await;
    let calls = world.provider.calls();
    calls.iter().filter(|call| call.started >= start).count()
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_probed_by_few() {
    let (alone, together) = (calls_in_an_outage(1).await, calls_in_an_outage(4).await);
    // Each worker finds out by its own calls, and probes by itself, more and more rarely.
    assert!(alone < 20, "{alone} calls");
    assert!(together <= alone * 4, "{together} calls instead of {alone}");
}

/// What is heard of is not told on, or it would come back for ever; and it ends with the one who told it.
#[tokio::test(start_paused = true)]
async fn a_reported_pause_is_not_announced_again() {
    let gate = World::new(Scripted::always(Answer::Ok)).start().gate;
    let notice = |worker: &str, paused: Option<Paused>| Notice {
        worker: WorkerId::new(worker),
        leases: Vec::new(),
        leaving: false,
        orders: 0,
        stalled: None,
        paused,
        pace: Learned {
            slowdowns: 0,
            floor: 5.0,
            plateau: 5.0,
            best: 5.0,
            age: 0.0,
        },
    };
    let outage = Paused {
        cause: PauseCause::Outage,
        for_ms: 60_000,
        since_ms: 0,
    };
    gate.on_notice(&notice("teller", Some(outage)));
    assert!(gate.pause().is_some());
    assert_eq!(gate.announcement().0, None);
    gate.on_notice(&notice("bystander", None));
    assert!(gate.pause().is_some());
    gate.on_notice(&notice("teller", None));
    assert_eq!(gate.pause(), None);
}
