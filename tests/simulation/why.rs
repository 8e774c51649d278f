//! What `usher why` and `usher waiting` tell of commands in every state.

use std::time::Duration;

use tokio::time::sleep;
use usher::broker::Topology;
use usher::contract::inquiry::Question;
use usher::contract::orders::PauseOrder;
use usher::contract::{BatchId, BatchState, Fault, Reason};
use usher::operations::steering;
use usher::operations::why::{Asking, Findings, Period, Place, Story};

use crate::commands::{PROVIDER, command, id};
use crate::provider::{Answer, Scripted};
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

fn asking(world: &World) -> Asking {
    Asking {
        inspector: world.broker.inspector(),
        publisher: world.broker.publisher(),
        topology: Topology::new(PROVIDER, &usher::broker::Config::default()),
    }
}

async fn findings(world: &World, n: u64) -> Findings {
    let now = world.clock.now();
    asking(world)
        .command(&id(n).to_string(), Period::default(), now)
        .await
        .unwrap()
}

async fn story(world: &World, n: u64) -> Story {
    let mut found = findings(world, n).await;
    assert_eq!(found.stories.len(), 1);
    found.stories.remove(0)
}

fn ends(story: &Story) -> &str {
    story.ends.as_deref().unwrap_or_default()
}

fn told(story: &Story) -> Vec<&str> {
    story.timeline.iter().map(|moment| moment.what.as_str()).collect()
}

fn scripted(fault: Fault) -> Scripted {
    let fails = move |user: &str, _: bool, _: &mut fastrand::Rng| match user.starts_with("bad") {
        true => Answer::Fail(fault),
        false => Answer::Ok,
    };
    Scripted::new(1, SECOND / 100, Box::new(fails))
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waits_for_its_retry_tells_its_calls_and_the_one_behind_it_tells_whom_it_waits_for() {
    let mut world = World::new(scripted(Fault::Broken));
    world.attempts = 50;
    let _running = world.start();
    for n in 0..5 {
        world.publish(&command(n, &format!("good-{n}"), false));
    }
    world.publish(&command(10, "bad", false));
    world.publish(&command(11, "bad", false));
    world.publish(&command(12, "bad", false));
    for n in 20..40 {
        sleep(SECOND).await;
        world.publish(&command(n, &format!("good-{n}"), false));
    }
    let first = story(&world, 10).await;
    assert_eq!(first.state, Place::InHand);
    assert!(first.because.contains("next attempt"), "{first:?}");
    assert!(ends(&first).contains("2026-11-21T10:0"), "{first:?}");
    let calls = told(&first)
        .iter()
        .filter(|what| what.contains("write call: broken"))
        .count();
    assert!(calls >= 3, "{first:?}");
    assert_eq!(
        told(&first)[0..2].iter().filter(|what| **what == "START").count(),
        1
    );
    let third = story(&world, 12).await;
    assert!(third.because.contains(&id(10).to_string()), "{third:?}");
    assert!(third.because.contains("2 come before"), "{third:?}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waits_for_a_pause_tells_its_cause_and_its_end() {
    let world = World::new(Scripted::always(Answer::Fail(Fault::Throttled {
        retry_after: Some(3600 * SECOND),
    })));
    let _running = world.start();
    sleep(SECOND).await;
    world.publish(&command(1, "u1", false));
    world.publish(&command(2, "u2", false));
    sleep(10 * SECOND).await;
    let waits = story(&world, 2).await;
    assert!(waits.because.contains("throttled"), "{waits:?}");
    assert!(ends(&waits).contains("2026-11-21T11:00"), "{waits:?}");
    let orders = world.steering();
    let pause = PauseOrder {
        bulk_only: false,
        by: "alex".into(),
        reason: "maintenance".into(),
        since: world.clock.now(),
        until: None,
    };
    orders
        .change(|orders| steering::pause(orders, &pause))
        .await
        .unwrap();
    sleep(SECOND).await;
    let waits = story(&world, 2).await;
    assert!(waits.because.contains("alex paused it: maintenance"), "{waits:?}");
    assert_eq!(ends(&waits), "`usher resume`");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waits_for_the_quota_tells_the_pace() {
    let mut world = World::new(Scripted::always(Answer::Ok));
    world.rate = Some(1);
    let _running = world.start();
    sleep(SECOND).await;
    for n in 0..40 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    sleep(3 * SECOND).await;
    let waits = story(&world, 30).await;
    assert!(waits.because.contains("1.0 calls a second"), "{waits:?}");
    let overview = asking(&world).ask(Question::Waiting, |_| false).await.unwrap();
    let permit = overview[0]
        .causes
        .iter()
        .find(|cause| cause.cause == "permit")
        .unwrap();
    assert!(permit.commands > 30, "{overview:?}");
    assert!(permit.oldest.is_some());
    assert!(overview[0].in_hand.abs_diff(world.waiting()) <= 2, "{overview:?}");
    assert_eq!(overview[0].window, 512);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_the_guard_holds_back_tells_so() {
    let mut world = World::new(scripted(Fault::Command(Reason::Conflict)));
    world.dead_letter_share_max = 0.2;
    let _running = world.start();
    sleep(SECOND).await;
    for n in 0..60 {
        world.publish(&command(n, &format!("bad-{n}"), false));
    }
    sleep(10 * SECOND).await;
    let (mut held, mut dead) = (0, 0);
    for n in 0..60 {
        let story = story(&world, n).await;
        match story.state {
            Place::DeadLettered => dead += 1,
            _ if story.because.contains("guard") => {
                assert!(ends(&story).contains("usher resume"), "{story:?}");
                held += 1;
            }
            _ => {}
        }
    }
    assert!(held > 10 && dead == 10, "{held} held, {dead} dead");
}

#[tokio::test(start_paused = true)]
async fn ended_and_unknown_commands_are_told_from_the_log() {
    let world = World::new(scripted(Fault::Command(Reason::Conflict)));
    let _running = world.start();
    sleep(SECOND).await;
    for n in 0..20 {
        world.publish(&command(n, &format!("good-{n}"), true));
    }
    world.publish(&command(50, "bad", false));
    assert!(world.settles().await);
    let succeeded = story(&world, 7).await;
    assert_eq!(succeeded.state, Place::Succeeded);
    assert_eq!(told(&succeeded)[0], "START");
    assert!(
        told(&succeeded)[1].starts_with("SUCCESS after 1 attempt"),
        "{succeeded:?}"
    );
    assert_eq!(succeeded.user_id.as_deref(), Some("good-7"));
    assert_eq!(succeeded.batch_id.as_deref(), Some("batch"));
    let dead = story(&world, 50).await;
    assert_eq!(dead.state, Place::DeadLettered);
    assert!(dead.because.starts_with("conflict: "), "{dead:?}");
    assert!(ends(&dead).contains("usher dead-letters show"), "{dead:?}");
    let never = findings(&world, 999).await;
    assert_eq!(never.stories[0].state, Place::NotSeen);
    assert!(never.complete && never.workers == 1, "{never:?}");
    assert!(ends(&never.stories[0]).contains("not published"), "{never:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_command_and_a_users_commands_are_told() {
    let mut world = World::new(Scripted::always(Answer::Ok));
    world.rate = Some(1);
    let _running = world.start();
    sleep(SECOND).await;
    for n in 0..10 {
        world.publish(&command(n, "u1", true));
    }
    sleep(4 * SECOND).await;
    let orders = world.steering();
    let (batch, since) = (BatchId::parse("batch").unwrap(), world.clock.now());
    let order = |state| {
        orders.change(move |orders| {
            steering::batch(orders, &BatchId::parse("batch").unwrap(), state, ("alex", since))
        })
    };
    order(Some(BatchState::Paused)).await.unwrap();
    sleep(SECOND).await;
    let paused = asking(&world)
        .user("u1", Period::default(), world.clock.now())
        .await
        .unwrap();
    assert_eq!(paused.stories.len(), 10);
    let in_hand = |found: &Findings| {
        let in_hand = found.stories.iter().filter(|story| story.state == Place::InHand);
        in_hand.count()
    };
    let first = paused
        .stories
        .iter()
        .find(|story| story.because.contains("batch is paused"))
        .unwrap();
    assert_eq!(ends(first), format!("`usher batch resume {}`", batch.as_str()));
    assert!(in_hand(&paused) >= 5);
    order(Some(BatchState::Cancelled)).await.unwrap();
    assert!(world.settles().await);
    let ended = asking(&world)
        .user("u1", Period::default(), world.clock.now())
        .await
        .unwrap();
    assert_eq!((ended.stories.len(), in_hand(&ended)), (10, 0));
    let cancelled = ended
        .stories
        .iter()
        .filter(|story| story.because.starts_with("cancelled: "));
    assert!(cancelled.count() >= 5);
    assert!(
        asking(&world)
            .user("u2", Period::default(), world.clock.now())
            .await
            .unwrap()
            .stories
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn what_came_after_the_period_is_not_read() {
    let world = World::new(Scripted::always(Answer::Ok));
    let running = world.start();
    world.publish(&command(1, "u1", false));
    world.until_settled().await;
    let between = world.clock.now() + 5 * SECOND;
    for n in 2..50 {
        sleep(600 * SECOND).await;
        world.publish(&command(n, "u1", false));
        world.until_settled().await;
    }
    let until = |until| Period { since: None, until };
    let now = world.clock.now();
    let early = asking(&world)
        .user("u1", until(Some(between)), now)
        .await
        .unwrap();
    assert_eq!((early.stories.len(), early.complete), (1, true));
    assert!(early.events < 10, "{}", early.events);
    let all = asking(&world).user("u1", until(None), now).await.unwrap();
    assert_eq!(all.stories.len(), 49);
    running.drain().await;
}
