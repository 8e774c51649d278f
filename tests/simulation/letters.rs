//! What the broker gave up: who is told of it, and when nobody is.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use tokio::time::{Instant, sleep};
use usher::broker::topology::GIVEN_UP;
use usher::broker::{Header, Message, Properties};

use crate::commands::{command, raw};
use crate::provider::{Answer, Scripted};
use crate::world::{Running, World, command_id, outcomes};

/// Longer than whoever had a command may be waited for.
const A_WHILE: Duration = Duration::from_secs(300);

/// What the broker makes of a command in this queue.
fn letter(command: &Message, queue: &str, word: &str) -> Message {
    let long = |text: &str| AMQPValue::LongString(text.into());
    let mut death = FieldTable::default();
    death.insert("reason".into(), long(word));
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
        exchange: GIVEN_UP.to_owned(),
        properties: Properties::from_amqp(properties.with_headers(headers)),
        ..command.clone()
    }
}

fn expired(n: u64, user: &str) -> Message {
    letter(&command(n, user, false), "user.update.sim.0", "expired")
}

async fn stopped(running: Running) {
    running.shutdown.drain();
    running.task.await.unwrap();
}

/// What the terminal events say, each once: a worker repeats one to know how far it has read.
fn told(world: &World) -> Vec<String> {
    let mut events = world.events();
    let mut seen = BTreeSet::new();
    events.retain(|event| seen.insert(event.id));
    outcomes(&events)
}

/// Which dead letters there are, by their reasons.
fn letters(world: &World) -> Vec<String> {
    let reason = |letter: &Message| letter.properties.header_text("x-usher-reason");
    let found = world.dead_letters();
    found.iter().map(|letter| reason(letter).unwrap()).collect()
}

/// How many lie with the broker that nobody has completed.
fn given_up(world: &World) -> usize {
    world.broker.depth(GIVEN_UP)
}

#[tokio::test(start_paused = true)]
async fn a_command_that_the_broker_gave_up_gets_its_events_and_a_complete_letter() {
    let world = World::new(Scripted::always(Answer::Ok));
    let bulk = command(1, "u", true);
    world.publish(&letter(&bulk, "user.update.bulk.sim.0", "delivery_limit"));
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

/// Whoever publishes a command may have set it, or moved a dead letter: it hides nothing.
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
        (letters(&world), given_up(&world)),
        (vec!["expired".to_owned(); 3], 0)
    );
    let mut events = world.events();
    let mut seen = BTreeSet::new();
    events.retain(|event| seen.insert(event.id));
    let told: Vec<_> = events.iter().map(command_id).collect();
    let ids: Vec<_> = world
        .dead_letters()
        .iter()
        .flat_map(|letter| vec![letter.properties.message_id().unwrap().to_owned(); 2])
        .collect();
    assert_eq!(told, ids, "START and FAIL of each, in order");
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_provider_s_command_queue_gave_up_is_told_under_that_provider() {
    let world = World::new(Scripted::always(Answer::Ok));
    world.publish(&letter(
        &command(2, "b", true),
        "user.update.bulk.other.0",
        "expired",
    ));
    let running = world.start();
    sleep(A_WHILE).await;
    let sources: Vec<_> = world.events().iter().map(|event| event.source.clone()).collect();
    assert_eq!(sources, ["/usher/other"; 2]);
    assert_eq!(world.dead_letters()[0].routing_key, "other.expired");
    assert_eq!(given_up(&world), 0);
    stopped(running).await;
}

/// What nobody can tell the origin of is completed all the same, and the token of a lease is no command.
#[tokio::test(start_paused = true)]
async fn what_is_no_command_of_a_queue_of_ours_holds_nothing_up() {
    let world = World::new(Scripted::always(Answer::Ok));
    let of_nobody = raw(b"?".to_vec(), "m", "x", false);
    world.publish(&Message {
        exchange: GIVEN_UP.to_owned(),
        ..of_nobody
    });
    world.publish(&letter(&command(1, "u", false), "usher.lease.sim.0", "rejected"));
    world.publish(&expired(2, "u"));
    let running = world.start();
    sleep(A_WHILE).await;
    assert_eq!(
        (letters(&world), given_up(&world)),
        (vec!["poison".to_owned(), "expired".to_owned()], 0)
    );
    assert_eq!(told(&world), ["poison 0", "expired 0"]);
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_no_worker_reads_is_oversized_whatever_the_broker_calls_it() {
    let world = World::new(Scripted::always(Answer::Ok));
    let large = raw(vec![b' '; 300 * 1024], "m", "u", false);
    world.publish(&letter(&large, "user.update.sim.0", "rejected"));
    let running = world.start();
    sleep(A_WHILE).await;
    assert_eq!(told(&world), ["oversized 0"]);
    assert_eq!(world.dead_letters()[0].body, large.body);
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_cannot_be_read_is_told_by_its_message_id() {
    let world = World::new(Scripted::always(Answer::Ok));
    let broken = raw(b"{nope".to_vec(), "message-7", "u", false);
    world.publish(&letter(&broken, "user.update.sim.0", "expired"));
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
async fn a_letter_whose_commands_outcome_was_told_goes_without_a_word() {
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
    assert_eq!(told(&world), ["SUCCESS 1", "SUCCESS 1"]);
    assert!(world.dead_letters().is_empty());
    stopped(second).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_have_called_the_provider_is_waited_for_and_the_letter_says_so() {
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
    world.publish(&letter(&command, "user.update.sim.0", "expired"));
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
async fn nothing_is_acked_or_told_before_the_complete_letter_is_confirmed() {
    let world = World::new(Scripted::always(Answer::Ok));
    world.publish(&expired(1, "u"));
    world.broker.lose_unconfirmed(true);
    world.broker.delay_confirms(Duration::from_secs(5));
    let running = world.start();
    let mut story = Vec::new();
    while story.last() != Some(&(2, 1, 0)) {
        let now = (world.events().len(), letters(&world).len(), given_up(&world));
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
async fn a_lost_broker_leaves_none_without_its_event_and_letter() {
    let world = World::new(Scripted::always(Answer::Ok));
    for n in 1..4 {
        world.publish(&expired(n, "u"));
    }
    world.broker.delay_confirms(Duration::from_secs(1));
    let running = world.start();
    // In the middle of the last one.
    while told(&world).len() < 3 {
        sleep(Duration::from_millis(10)).await;
    }
    world.broker.drop_connection();
    sleep(A_WHILE).await;
    assert_eq!(given_up(&world), 0);
    let of_each: BTreeSet<_> = world
        .dead_letters()
        .iter()
        .map(|letter| letter.properties.message_id().unwrap().to_owned())
        .collect();
    assert_eq!(of_each.len(), 3);
    assert_eq!(told(&world).len(), letters(&world).len());
    assert!(letters(&world).len() <= 4, "{:?}", letters(&world));
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_while_the_broker_is_out_of_reach_is_completed_later() {
    let world = World::new(Scripted::always(Answer::Ok));
    let running = world.start();
    sleep(A_WHILE).await;
    world.broker.disconnect("gone");
    world.publish(&expired(1, "u"));
    sleep(A_WHILE).await;
    assert!(world.events().is_empty());
    world.broker.reconnect();
    sleep(A_WHILE).await;
    assert_eq!(told(&world), ["expired 0"]);
    assert_eq!(letters(&world), ["expired"]);
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_the_letter_that_is_being_completed_and_leaves_the_others() {
    let world = World::new(Scripted::always(Answer::Ok));
    for n in 1..4 {
        world.publish(&expired(n, "u"));
    }
    world.broker.delay_confirms(Duration::from_millis(300));
    let running = world.start();
    while letters(&world).is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    stopped(running).await;
    assert_eq!((letters(&world).len(), given_up(&world)), (1, 2));
    assert_eq!(told(&world), ["expired 0"]);
    let next = world.start();
    sleep(A_WHILE).await;
    assert_eq!(letters(&world), ["expired"; 3]);
    assert_eq!(told(&world), ["expired 0"; 3]);
    stopped(next).await;
}
