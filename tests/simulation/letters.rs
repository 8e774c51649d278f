//! Dead letters that the broker made: who is told of them, and when nobody is.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use tokio::time::{Instant, sleep};
use usher::broker::topology::DEAD_LETTERS;
use usher::broker::{Header, Message, Properties};

use crate::commands::{command, raw};
use crate::provider::{Answer, Scripted};
use crate::world::{Running, World, command_id, outcomes};

/// Longer than it takes to hear of a letter, to look, and to look again.
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
        exchange: DEAD_LETTERS.to_owned(),
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

/// Which letters lie there, by their reasons: `-` is one that nobody completed.
fn letters(world: &World) -> Vec<String> {
    let reason = |letter: &Message| letter.properties.header_text("x-usher-reason");
    let found = world.dead_letters();
    found
        .iter()
        .map(|letter| reason(letter).unwrap_or_else(|| "-".to_owned()))
        .collect()
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

#[tokio::test(start_paused = true)]
async fn a_letter_that_comes_while_a_worker_runs_is_completed_and_no_other_is_touched() {
    let world = World::new(Scripted::always(Answer::Ok));
    let by_a_worker = expired(1, "a");
    let reason = [("x-usher-reason".to_owned(), Header::Text("conflict".to_owned()))];
    let by_a_worker = Message {
        properties: by_a_worker.properties.with_headers(reason),
        ..by_a_worker
    };
    let of_nobody = raw(b"?".to_vec(), "m", "x", false);
    let of_nobody = Message {
        exchange: DEAD_LETTERS.to_owned(),
        ..of_nobody
    };
    let of_another = letter(&command(2, "b", false), "user.update.other.0", "expired");
    world.publish(&by_a_worker);
    world.publish(&of_nobody);
    let running = world.start();
    sleep(A_WHILE).await;
    assert!(world.events().is_empty());
    for n in 3..6 {
        world.publish(&expired(n, "c"));
    }
    world.publish(&of_another);
    sleep(A_WHILE).await;
    assert_eq!(
        letters(&world),
        ["conflict", "-", "-", "expired", "expired", "expired"]
    );
    assert_eq!(world.dead_letters()[2], of_another);
    let told: Vec<_> = world.events().iter().map(command_id).collect();
    let ids: Vec<_> = world.dead_letters()[3..]
        .iter()
        .flat_map(|letter| vec![letter.properties.message_id().unwrap().to_owned(); 2])
        .collect();
    assert_eq!(told, ids, "START and FAIL of each, in order");
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
    while story.last() != Some(&(2, vec!["expired".to_owned()])) {
        let now = (world.events().len(), letters(&world));
        if story.last() != Some(&now) {
            story.push(now);
        }
        sleep(Duration::from_millis(10)).await;
    }
    let (broker_s, complete) = ("-".to_owned(), "expired".to_owned());
    let both = vec![broker_s.clone(), complete.clone()];
    let expected = [
        (0, vec![broker_s.clone()]),
        (1, vec![broker_s]),
        (1, both.clone()),
        (2, both),
        (2, vec![complete]),
    ];
    // The last two may fall together.
    let story: Vec<_> = story
        .into_iter()
        .filter(|moment| *moment != expected[3])
        .collect();
    assert_eq!(story, [&expected[..3], &expected[4..]].concat());
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_look_that_a_lost_broker_ended_is_made_again() {
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
    assert_eq!(told(&world), ["expired 0"; 3]);
    assert_eq!(letters(&world), ["expired"; 3]);
    stopped(running).await;
}

#[tokio::test(start_paused = true)]
async fn letters_that_come_while_the_broker_is_out_of_reach_are_found_later() {
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
async fn a_drain_finishes_the_letter_in_hand_and_puts_the_others_back() {
    let world = World::new(Scripted::always(Answer::Ok));
    for n in 1..4 {
        world.publish(&expired(n, "u"));
    }
    world.broker.delay_confirms(Duration::from_millis(300));
    let running = world.start();
    while letters(&world).len() < 4 {
        sleep(Duration::from_millis(10)).await;
    }
    stopped(running).await;
    assert_eq!(letters(&world), ["-", "-", "expired"]);
    assert_eq!(told(&world), ["expired 0"]);
    let next = world.start();
    sleep(A_WHILE).await;
    assert_eq!(letters(&world), ["expired"; 3]);
    assert_eq!(told(&world), ["expired 0"; 3]);
    stopped(next).await;
}
