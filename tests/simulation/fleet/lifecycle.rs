//! Long pauses, refused credentials and standstills are told to the world: once for the whole fleet, and once that they are
//! over.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;
use usher::broker::topology::OUTCOME_LOG;
use usher::contract::Fault;

use crate::commands::{PROVIDER, command};
use crate::provider::{Answer, Scripted};
use crate::world::World;

const PARTITIONS: u16 = 4;

/// Types, causes and ids, in the log's order.
fn told(world: &World) -> Vec<(String, String, String)> {
    let messages = world.broker.messages(OUTCOME_LOG);
    let lifecycle = messages
        .iter()
        .filter(|message| !message.routing_key.starts_with("user."));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lifecycle
        .map(|message| {
            let event: Value = serde_json::from_slice(&message.body).unwrap();
            let kind = text(&event["type"]);
            let topic = match &*kind {
                "PROVIDER_PAUSED" => "provider.paused",
                "PROVIDER_RESUMED" => "provider.resumed",
                "CREDENTIALS_REFUSED" => "provider.credentials-refused",
                "CREDENTIALS_ACCEPTED" => "provider.credentials-accepted",
                "INTAKE_STALLED" => "intake.stalled",
                "INTAKE_RESUMED" => "intake.resumed",
                _ => panic!("{kind}"),
            };
            assert_eq!(message.routing_key, format!("{topic}.{PROVIDER}"));
            assert_eq!(message.properties.message_id(), event["id"].as_str());
            let cause = event["data"]["cause"].as_str().unwrap_or_default();
            (kind, cause.to_owned(), text(&event["id"]))
        })
        .collect()
}

fn kinds(world: &World) -> Vec<(String, String)> {
    told(world)
        .into_iter()
        .map(|(kind, cause, _)| (kind, cause))
        .collect()
}

fn pair(kind: &str, cause: &str) -> (String, String) {
    (format!("PROVIDER_{kind}"), cause.to_owned())
}

fn publish(world: &World, numbers: std::ops::Range<u64>) {
    for n in numbers {
        world.publish(&command(n, &format!("u{}", n % 50), false));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_published_once_per_fleet_even_if_the_first_lease_moves() {
    let mut world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
    world.rate = Some(20);
    let mut workers: Vec<_> = (0..3).map(|_| world.start()).collect();
    sleep(Duration::from_secs(10)).await;
    publish(&world, 0..2000);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(kinds(&world), []);
    world
        .provider
        .script(Box::new(|_, _, _| Answer::Fail(Fault::Unreachable)));
    sleep(Duration::from_secs(120)).await;
    assert_eq!(kinds(&world), [pair("PAUSED", "outage")]);
    // Each in turn goes, whoever told it among them.
    for _ in 0..2 {
        workers.remove(0).drain().await;
        sleep(Duration::from_secs(60)).await;
    }
    world.start();
    assert_eq!(kinds(&world), [pair("PAUSED", "outage")]);
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    assert!(world.settles().await);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(
        kinds(&world),
        [pair("PAUSED", "outage"), pair("RESUMED", "outage")]
    );
}

/// As the provider may ask for: what is held goes back, and nobody holds a lease meanwhile.
#[tokio::test(start_paused = true)]
async fn hours_of_throttling_are_published_at_once_and_their_end_too() {
    let hours = Duration::from_secs(3 * 3600);
    let mut world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
    world.rate = Some(20);
    let workers: Vec<_> = (0..2).map(|_| world.start()).collect();
    sleep(Duration::from_secs(10)).await;
    publish(&world, 0..2000);
    world.provider.script(Box::new(move |_, _, _| {
        Answer::Fail(Fault::Throttled {
            retry_after: Some(hours),
        })
    }));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(kinds(&world), [pair("PAUSED", "throttled")]);
    sleep(hours / 2).await;
    assert_eq!(
        workers.iter().map(crate::world::Running::leases).sum::<usize>(),
        0
    );
    assert_eq!(kinds(&world), [pair("PAUSED", "throttled")]);
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    assert!(world.settles_within(hours).await);
    sleep(Duration::from_secs(10)).await;
    let all = told(&world);
    let ends: Vec<_> = all.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(ends, ["PROVIDER_PAUSED", "PROVIDER_RESUMED"], "{all:?}");
    assert_ne!(all[0].2, all[1].2);
}

#[tokio::test(start_paused = true)]
async fn a_short_pause_is_not_published() {
    let mut world = World::partitioned(Scripted::always(Answer::Ok), 1);
    world.rate = Some(20);
    world.start();
    sleep(Duration::from_secs(10)).await;
    publish(&world, 0..2000);
    for fault in [
        Fault::Unreachable,
        Fault::Throttled {
            retry_after: Some(Duration::from_secs(60)),
        },
    ] {
        sleep(Duration::from_secs(10)).await;
        world
            .provider
            .script(Box::new(move |_, _, _| Answer::Fail(fault)));
        sleep(Duration::from_secs(1)).await;
        world.provider.script(Box::new(|_, _, _| Answer::Ok));
    }
    assert!(world.settles().await);
    assert_eq!(kinds(&world), []);
}

/// An outage takes the pause over, and the teller goes: they are accepted only when a call has passed.
#[tokio::test(start_paused = true)]
async fn refused_credentials_are_told_once_and_accepted_when_a_call_passes() {
    let mut world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
    world.rate = Some(20);
    let mut workers: Vec<_> = (0..2).map(|_| world.start()).collect();
    sleep(Duration::from_secs(10)).await;
    publish(&world, 0..500);
    let fails = |fault: Fault| {
        world
            .provider
            .script(Box::new(move |_, _, _| Answer::Fail(fault)));
    };
    fails(Fault::Credentials);
    sleep(Duration::from_secs(60)).await;
    let refused = ("CREDENTIALS_REFUSED".to_owned(), String::new());
    assert_eq!(kinds(&world), [pair("PAUSED", "credentials"), refused.clone()]);
    fails(Fault::Unreachable);
    sleep(Duration::from_secs(300)).await;
    workers.remove(0).drain().await;
    sleep(Duration::from_secs(60)).await;
    let refusals = || {
        kinds(&world)
            .into_iter()
            .filter(|(kind, _)| kind.starts_with("CREDENTIALS"))
    };
    assert_eq!(refusals().count(), 1);
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    assert!(world.settles().await);
    sleep(Duration::from_secs(10)).await;
    let accepted = ("CREDENTIALS_ACCEPTED".to_owned(), String::new());
    assert_eq!(refusals().collect::<Vec<_>>(), [refused, accepted]);
}

/// One worker of three stands still, which need not be the one that tells it.
#[tokio::test(start_paused = true)]
async fn a_standstill_of_one_worker_is_told_once_for_the_fleet_and_so_is_its_end() {
    for stuck in 0..3 {
        let bad = move |user: &str, _: bool, _: &mut fastrand::Rng| match user {
            "bad" => Answer::Fail(Fault::Throttled {
                retry_after: Some(Duration::from_secs(200)),
            }),
            _ => Answer::Ok,
        };
        let provider = Scripted::new(1, Duration::from_millis(5), Box::new(bad));
        let mut world = World::partitioned(provider, 3);
        (world.prefetch, world.elapsed_max) = (4, Duration::from_secs(2000));
        world.seed = stuck;
        let workers: Vec<_> = (0..3).map(|_| world.start()).collect();
        sleep(Duration::from_secs(10)).await;
        world.publish(&command(0, "bad", false));
        // Others pass in between, until it is known that this user is throttled by itself.
        for n in 1..10 {
            world.publish(&command(n, &format!("u{n}"), false));
            sleep(Duration::from_secs(60)).await;
        }
        for n in 100..110 {
            world.publish(&command(n, "bad", false));
        }
        sleep(Duration::from_secs(100)).await;
        assert!(alternates(&world).is_multiple_of(2), "it is told to stand still");
        world.provider.script(Box::new(|_, _, _| Answer::Ok));
        assert!(world.settles().await);
        sleep(Duration::from_secs(10)).await;
        assert!(!alternates(&world).is_multiple_of(2), "it is told to go on");
        for worker in workers {
            worker.drain().await;
        }
    }
}

/// Each standstill ends before the next begins. Returns the place of the latest event: even if it is a beginning.
fn alternates(world: &World) -> usize {
    let all = told(world);
    for (place, (kind, cause, id)) in all.iter().enumerate() {
        let expected = if place.is_multiple_of(2) {
            "INTAKE_STALLED"
        } else {
            "INTAKE_RESUMED"
        };
        assert_eq!(
            (kind.as_str(), cause.as_str()),
            (expected, "window_full"),
            "{all:?}"
        );
        assert_eq!(
            all.iter().filter(|(_, _, other)| other == id).count(),
            1,
            "{all:?}"
        );
    }
    all.len() - 1
}
