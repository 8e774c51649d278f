//! Commands that the broker dead-letters itself: what is published for them, and when nothing is.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use tokio::time::{Instant, sleep};
use usher::broker::topology::BROKER_DEAD_LETTERS;
use usher::broker::{Header, Message, Properties};

use crate::commands::{command, raw};
use crate::provider::{Answer, Scripted};
use crate::world::{Running, World, command_id, outcomes};

/// Longer than whoever had a command may be waited for.
const A_WHILE: Duration = Duration::from_secs(300);

/// What the broker makes of a command in this queue.
fn dead_lettered(command: &Message, queue: &str, reason: &str) -> Message {
    let long = |text: &str| AMQPValue::LongString(text.into());
    let mut death = FieldTable::default();
    death.insert("reason".into(), long(reason));
    death.insert("queue".into(), long(queue));
    death.insert("exchange".into(), long(&command.exchange));
    let keys = FieldArray::from(vec![long(&command.routing_key)]);
    death.insert("routing-keys".into(), AMQPValue::FieldArray(keys));
    let deaths = FieldArray::from(vec![AMQPValue::FieldTable(death)]);
    let mut headers = FieldTable::default();
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths));
    let id = command.properties.message_id().unwrap();
    let properties = BasicProperties::default().with_message_id(id.into());
    Message {
        exchange: BROKER_DEAD_LETTERS.to_owned(),
        properties: Properties::from_amqp(properties.with_headers(headers)),
        ..command.clone()
    }
}

pub fn expired(n: u64, user: &str) -> Message {
    dead_lettered(&command(n, user, false), "user.update.sim.0", "expired")
}

async fn stopped(running: Running) {
    running.shutdown.drain();
    running.task.await.unwrap();
}

/// What the terminal events say, each once: a worker repeats one to know how far it has read.
fn terminal_events(world: &World) -> Vec<String> {
    let mut events = world.events();
    let mut seen = BTreeSet::new();
    events.retain(|event| seen.insert(event.id));
    outcomes(&events)
}

/// Which dead letters there are, by their reasons.
fn dead_letter_reasons(world: &World) -> Vec<String> {
    let reason = |message: &Message| message.properties.header_text("x-usher-reason");
    let found = world.dead_letters();
    found.iter().map(|message| reason(message).unwrap()).collect()
}

/// Dead letters of the broker that are not completed.
fn incomplete(world: &World) -> usize {
    world.broker.depth(BROKER_DEAD_LETTERS)
}

#[tokio::test(start_paused = true)]
async fn a_command_dead_lettered_by_the_broker_gets_its_events_and_a_complete_dead_letter() {
    let world = World::new(Scripted::always(Answer::Ok));
    let bulk = command(1, "u", true);
    world.publish(&dead_lettered(&bulk, "user.update.bulk.sim.0", "delivery_limit"));
    let running = world.start();
    sleep(A_WHILE).await;
    assert_eq!(outcomes(&world.events()), ["poison 0"]);
    assert_eq!(world.events().len(), 2, "START and FAIL");
    let found = world.dead_letters();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0].body, found[0].routing_key.as_str()),
        (&bulk.body, "sim.poison")
    );
    let text = |name: &str| found[0].properties.header_text(name).unwrap();
    assert_eq!(text("x-usher-exchange"), "user.commands.bulk");
    assert_eq!(text("x-usher-routing-key"), "sim.u");
    assert!(text("x-usher-detail").starts_with("the broker dead-lettered it (delivery_limit): "));
    assert!(
        found[0]
            .properties
            .amqp()
            .headers()
            .as_ref()
            .unwrap()
            .inner()
            .contains_key("x-death")
    );
    assert_eq!(found[0].properties.message_id(), bulk.properties.message_id());
    assert!(world.provider.calls().is_empty());
    stopped(running).await;
}

/// A publisher may set these headers, and an operator may move a dead letter: they hide nothing.
#[tokio::test(start_paused = true)]
async fn a_reason_in_the_headers_of_a_command_that_expires_hides_nothing() {
    let world = World::new(Scripted::always(Answer::Ok));
    let running = world.start();
    sleep(A_WHILE).await;
    for n in 3..6 {
        let expired = expired(n, "c");
        let reason = [("x-usher-reason".to_owned(), Header::Text("invalid".to_owned()))];
        world.publish(&Message {
            properties: expired.properties.with_headers(reason),
            ..expired
        });
    }
    sleep(A_WHILE).await;
    assert_eq!(
        (dead_letter_reasons(&world), incomplete(&world)),
        (vec!["expired".to_owned(); 3], 0)
    );
    let mut events = world.events();
    let mut seen = BTreeSet::new();
    events.retain(|event| seen.insert(event.id));
    let published: Vec<_> = events.iter().map(command_id).collect();
    let ids: Vec<_> = world
        .dead_letters()
        .iter()
        .flat_map(|message| vec![message.properties.message_id().unwrap().to_owned(); 2])
        .collect();
    assert_eq!(published, ids, "START and FAIL of each, in order");
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_dead_letter_of_another_provider_is_published_under_that_provider() {
    let world = World::new(Scripted::always(Answer::Ok));
    world.publish(&dead_lettered(
        &command(2, "b", true),
        "user.update.bulk.other.0",
        "expired",
    ));
    let running = world.start();
    sleep(A_WHILE).await;
    let sources: Vec<_> = world.events().iter().map(|event| event.source.clone()).collect();
    assert_eq!(sources, ["/usher/other"; 2]);
    assert_eq!(world.dead_letters()[0].routing_key, "other.expired");
    assert_eq!(incomplete(&world), 0);
    stopped(running).await;
}

/// A dead letter of unknown origin is completed too, and a lease token is not a command.
#[tokio::test(start_paused = true)]
async fn a_broker_dead_letter_of_an_unknown_queue_is_completed_too() {
    let world = World::new(Scripted::always(Answer::Ok));
    let of_nobody = raw(b"?".to_vec(), "m", "x", false);
    world.publish(&Message {
        exchange: BROKER_DEAD_LETTERS.to_owned(),
        ..of_nobody
    });
    world.publish(&dead_lettered(
        &command(1, "u", false),
        "usher.lease.sim.0",
        "rejected",
    ));
    world.publish(&expired(2, "u"));
    let running = world.start();
    sleep(A_WHILE).await;
    assert_eq!(
        (dead_letter_reasons(&world), incomplete(&world)),
        (vec!["poison".to_owned(), "expired".to_owned()], 0)
    );
    assert_eq!(terminal_events(&world), ["poison 0", "expired 0"]);
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn an_oversized_body_is_dead_lettered_as_oversized_for_any_broker_reason() {
    let world = World::new(Scripted::always(Answer::Ok));
    let large = raw(vec![b' '; 300 * 1024], "m", "u", false);
    world.publish(&dead_lettered(&large, "user.update.sim.0", "rejected"));
    let running = world.start();
    sleep(A_WHILE).await;
    assert_eq!(terminal_events(&world), ["oversized 0"]);
    assert_eq!(world.dead_letters()[0].body, large.body);
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_command_is_identified_by_its_message_id() {
    let world = World::new(Scripted::always(Answer::Ok));
    let broken = raw(b"{nope".to_vec(), "message-7", "u", false);
    world.publish(&dead_lettered(&broken, "user.update.sim.0", "expired"));
    let running = world.start();
    sleep(A_WHILE).await;
    assert_eq!(outcomes(&world.events()), ["expired 0"]);
    assert!(
        world
            .events()
            .iter()
            .all(|event| command_id(event) == "message-7")
    );
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_dead_letter_with_a_known_outcome_is_acked_silently() {
    let world = World::new(Scripted::always(Answer::Ok));
    world.publish(&command(1, "u", false));
    world.publish(&command(2, "u", false));
    let first = world.start();
    world.until_settled().await;
    world.publish(&expired(1, "u"));
    sleep(A_WHILE).await;
    stopped(first).await;
    // Another one knows it from the outcome log alone.
    world.publish(&expired(2, "u"));
    let second = world.start();
    sleep(A_WHILE).await;
    assert_eq!(terminal_events(&world), ["SUCCESS 1", "SUCCESS 1"]);
    assert!(world.dead_letters().is_empty());
    stopped(second).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_dead_letter_waits_for_a_possible_call_and_mentions_it() {
    let world = World::new(Scripted::new(
        1,
        Duration::from_secs(4),
        Box::new(|_, _, _| Answer::Ok),
    ));
    world.publish(&command(1, "u", false));
    let killed = world.start();
    while world.provider.writes().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    killed.task.abort();
    assert!(killed.task.await.unwrap_err().is_cancelled());
    let command = world.broker.take("user.update.sim.0").unwrap();
    world.publish(&dead_lettered(&command, "user.update.sim.0", "expired"));
    let (running, began) = (world.start(), Instant::now());
    while outcomes(&world.events()).is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        began.elapsed() >= world.timeout + world.settling_time,
        "{:?}",
        began.elapsed()
    );
    assert_eq!(outcomes(&world.events()), ["expired 0"]);
    let detail = world.dead_letters()[0]
        .properties
        .header_text("x-usher-detail")
        .unwrap();
    assert!(detail.ends_with("look at the user first"), "{detail}");
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn the_complete_dead_letter_is_confirmed_before_the_event_and_the_ack() {
    let world = World::new(Scripted::always(Answer::Ok));
    world.publish(&expired(1, "u"));
    world.broker.lose_unconfirmed(true);
    world.broker.delay_confirms(Duration::from_secs(5));
    let running = world.start();
    let mut story = Vec::new();
    while story.last() != Some(&(2, 1, 0)) {
        let now = (
            world.events().len(),
            dead_letter_reasons(&world).len(),
            incomplete(&world),
        );
        if story.last() != Some(&now) {
            story.push(now);
        }
        sleep(Duration::from_millis(10)).await;
    }
    // The last two may fall together.
    story.retain(|moment| *moment != (2, 1, 1));
    assert_eq!(story, [(0, 0, 1), (1, 0, 1), (1, 1, 1), (2, 1, 0)]);
    stopped(running).await;
}

/// The one that was being completed when the broker was lost may have its dead letter twice, under two runs.
#[tokio::test(start_paused = true)]
async fn after_a_lost_broker_every_failure_has_its_event_and_dead_letter() {
    let world = World::new(Scripted::always(Answer::Ok));
    for n in 1..4 {
        world.publish(&expired(n, "u"));
    }
    world.broker.delay_confirms(Duration::from_secs(1));
    let running = world.start();
    // In the middle of the last one.
    while terminal_events(&world).len() < 3 {
        sleep(Duration::from_millis(10)).await;
    }
    world.broker.drop_connection();
    sleep(A_WHILE).await;
    assert_eq!(incomplete(&world), 0);
    let of_each: BTreeSet<_> = world
        .dead_letters()
        .iter()
        .map(|letter| letter.properties.message_id().unwrap().to_owned())
        .collect();
    assert_eq!(of_each.len(), 3);
    assert_eq!(terminal_events(&world).len(), dead_letter_reasons(&world).len());
    assert!(
        dead_letter_reasons(&world).len() <= 4,
        "{:?}",
        dead_letter_reasons(&world)
    );
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_an_unreachable_broker_are_completed_later() {
    let world = World::new(Scripted::always(Answer::Ok));
    let running = world.start();
    sleep(A_WHILE).await;
    world.broker.disconnect("gone");
    world.publish(&expired(1, "u"));
    sleep(A_WHILE).await;
    assert!(world.events().is_empty());
    world.broker.reconnect();
    sleep(A_WHILE).await;
    assert_eq!(terminal_events(&world), ["expired 0"]);
    assert_eq!(dead_letter_reasons(&world), ["expired"]);
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_the_dead_letter_in_progress_and_starts_no_other() {
    let world = World::new(Scripted::always(Answer::Ok));
    for n in 1..4 {
        world.publish(&expired(n, "u"));
    }
    world.broker.delay_confirms(Duration::from_millis(300));
    let running = world.start();
    while dead_letter_reasons(&world).is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    stopped(running).await;
    assert_eq!((dead_letter_reasons(&world).len(), incomplete(&world)), (1, 2));
    assert_eq!(terminal_events(&world), ["expired 0"]);
    let next = world.start();
    sleep(A_WHILE).await;
    assert_eq!(dead_letter_reasons(&world), ["expired"; 3]);
    assert_eq!(terminal_events(&world), ["expired 0"; 3]);
    stopped(next).await;
}
