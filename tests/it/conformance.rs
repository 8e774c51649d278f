//! What the worker relies on, tried on both brokers.

mod inspect;
mod log;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use usher::broker::topology::{COMMANDS, COMMANDS_BULK, DEAD_LETTERS, OUTCOMES, UNROUTABLE};
use usher::broker::{
    Delivery, FleetMessage, Header, Limits, Message, PublishError, Publisher, SHORT_TEXT_BYTES_MAX, XDeath,
};

use crate::bench::{Bench, promises};
use crate::support::{command, eventually, gets_nothing, id, ids, message, next, numbers, take};

promises!(
    a_command_arrives_as_it_was_published,
    a_queue_keeps_the_order_of_its_messages,
    prefetch_bounds_what_is_unsettled,
    an_acked_delivery_never_comes_again,
    a_closed_consumer_gives_back_the_rest_in_order,
    a_dropped_consumer_gives_back_the_rest_in_order,
    a_second_consumer_gets_nothing_while_the_first_lives,
    a_lost_connection_turns_deliveries_stale_and_they_come_again_in_order,
    a_message_without_a_binding_goes_to_unroutable_and_is_confirmed,
    a_mandatory_message_for_nobody_is_returned_and_those_beside_it_are_confirmed,
    a_reply_reaches_the_queue_that_it_names,
    outcomes_and_dead_letters_reach_their_queues,
    a_publish_to_a_missing_exchange_is_unconfirmed_and_the_next_one_goes_through,
    a_closed_publisher_has_its_confirms,
    an_oversized_body_is_dead_lettered_whole_and_the_others_keep_their_order,
    bytes_beyond_the_limit_wait_and_come_in_order,
    unroutable_messages_are_counted_while_they_are_queued,
    a_routing_key_that_amqp_cannot_hold_is_returned,
);

async fn an_oversized_body_is_dead_lettered_whole_and_the_others_keep_their_order(bench: &dyn Bench) {
    let limits = Limits {
        body_bytes: 1000,
        ..Limits::NONE
    };
    let mut consumer = bench.consumer_within(10, limits).await;
    let mut listener = bench.listener().await;
    let publisher = bench.publisher().await;
    let large = Message {
        body: vec![b'x'; 5000].into(),
        ..command("large")
    };
    for message in [&command(0), &large, &command(1)] {
        publisher.publish(message).await.unwrap();
    }
    assert_eq!(ids(&take(&mut consumer, 2).await), ["0", "1"]);
    let oversized = loop {
        if let FleetMessage::BrokerDeadLetter(delivery) = listener.next().await {
            break delivery;
        }
    };
    assert_eq!(oversized.body, large.body);
    let death = XDeath::latest(&oversized.properties).unwrap();
    let expected = XDeath {
        reason: "rejected".to_owned(),
        queue: "user.update.sivo.0".to_owned(),
        exchange: COMMANDS.to_owned(),
        routing_key: "sivo.42".to_owned(),
    };
    assert_eq!(death, expected);
}

async fn bytes_beyond_the_limit_wait_and_come_in_order(bench: &dyn Bench) {
    let limits = Limits {
        held_bytes: 10_000,
        ..Limits::NONE
    };
    let mut consumer = bench.consumer_within(100, limits).await;
    let publisher = bench.publisher().await;
    for number in 0..25 {
        let large = Message {
            body: format!("{number}{}", " ".repeat(998)).into(),
            ..command(number)
        };
        publisher.publish(&large).await.unwrap();
    }
    let number = |delivery: &Delivery| id(delivery).trim_end().to_owned();
    let mut came = Vec::new();
    while came.len() < 25 {
        // A few at least, and never more than there is room for.
        let mut held = vec![next(&mut consumer).await];
        while let Ok(Some(delivery)) = timeout(Duration::from_millis(300), consumer.next()).await {
            held.push(delivery);
        }
        assert!(held.len() <= 10, "{}", held.len());
        came.extend(held.iter().map(number));
        for delivery in held {
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(came, numbers(0..25));
}

async fn publish_all(publisher: &Arc<dyn Publisher>, count: usize) {
    for number in 0..count {
        publisher.publish(&command(number)).await.unwrap();
    }
}

/// What a message is known by. A broker may add headers of its own to what it hands over.
fn face(message: &Message) -> (&str, &str, Option<&str>, &[u8]) {
    let Message {
        exchange,
        routing_key,
        properties,
        body,
        ..
    } = message;
    (exchange, routing_key, properties.message_id(), body)
}

async fn taken(bench: &dyn Bench, queue: &str) -> Message {
    eventually(queue, async || bench.take(queue).await).await
}

async fn a_command_arrives_as_it_was_published(bench: &dyn Bench) {
    let mut consumer = bench.consumer(10).await;
    let publisher = bench.publisher().await;
    let mut sent = message(COMMANDS_BULK, "sivo.user.with.dots", "a");
    let headers = [
        ("traceparent".to_owned(), Header::Text("00-ab-cd-01".to_owned())),
        ("x-usher-redrives".to_owned(), Header::Number(2)),
    ];
    let properties = sent.properties.clone().with_headers(headers);
    sent.properties = properties
        .with_correlation_id("c")
        .with_reply_to("r")
        .with_message_type("t");
    publisher.publish(&sent).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert!(delivery.bulk && !delivery.redelivered);
    assert_eq!(delivery.properties, sent.properties);
    assert_eq!(
        (delivery.exchange.as_str(), delivery.routing_key.as_str()),
        (COMMANDS_BULK, "sivo.user.with.dots")
    );
    assert_eq!(delivery.body, sent.body);
    publisher.publish(&command("b")).await.unwrap();
    assert!(!next(&mut consumer).await.bulk);
}

async fn a_queue_keeps_the_order_of_its_messages(bench: &dyn Bench) {
    let mut consumer = bench.consumer(50).await;
    publish_all(&bench.publisher().await, 200).await;
    for number in 0..200 {
        let delivery = next(&mut consumer).await;
        assert_eq!(id(&delivery), number.to_string());
        delivery.ack().await.unwrap();
    }
}

async fn prefetch_bounds_what_is_unsettled(bench: &dyn Bench) {
    let mut consumer = bench.consumer(3).await;
    let publisher = bench.publisher().await;
    publish_all(&publisher, 5).await;
    let mut unsettled = take(&mut consumer, 3).await;
    gets_nothing(&mut consumer).await;
    // The other queue has a prefetch of its own.
    publisher
        .publish(&message(COMMANDS_BULK, "sivo.42", "bulk"))
        .await
        .unwrap();
    assert_eq!(id(&next(&mut consumer).await), "bulk");
    unsettled.remove(1).ack().await.unwrap();
    assert_eq!(id(&next(&mut consumer).await), "3");
    gets_nothing(&mut consumer).await;
}

async fn an_acked_delivery_never_comes_again(bench: &dyn Bench) {
    let mut consumer = bench.consumer(10).await;
    publish_all(&bench.publisher().await, 3).await;
    for delivery in take(&mut consumer, 3).await {
        delivery.ack().await.unwrap();
    }
    consumer.close().await;
    gets_nothing(&mut bench.consumer(10).await).await;
}

async fn a_closed_consumer_gives_back_the_rest_in_order(bench: &dyn Bench) {
    let mut consumer = bench.consumer(60).await;
    publish_all(&bench.publisher().await, 80).await;
    let mut rest = Vec::new();
    for (number, delivery) in take(&mut consumer, 60).await.into_iter().enumerate() {
        if number % 3 == 1 {
            delivery.ack().await.unwrap();
        } else {
            rest.push(delivery);
        }
    }
    consumer.close().await;
    assert!(rest.iter().all(|delivery| !delivery.usable()));
    let mut consumer = bench.consumer(60).await;
    let again = take(&mut consumer, 40).await;
    assert_eq!(ids(&again), ids(&rest));
    assert!(again.iter().all(|delivery| delivery.redelivered));
    assert_eq!(ids(&take(&mut consumer, 20).await), numbers(60..80));
}

async fn a_dropped_consumer_gives_back_the_rest_in_order(bench: &dyn Bench) {
    let mut consumer = bench.consumer(40).await;
    let mut heir = bench.consumer(40).await;
    publish_all(&bench.publisher().await, 60).await;
    let held = take(&mut consumer, 40).await;
    drop(consumer);
    assert_eq!(ids(&take(&mut heir, 40).await), numbers(0..40));
    assert!(held.iter().all(|delivery| !delivery.usable()));
}

async fn a_second_consumer_gets_nothing_while_the_first_lives(bench: &dyn Bench) {
    let mut first = bench.consumer(10).await;
    let mut second = bench.consumer(10).await;
    publish_all(&bench.publisher().await, 30).await;
    let mut held = take(&mut first, 10).await;
    gets_nothing(&mut second).await;
    held.remove(4).ack().await.unwrap();
    first.close().await;
    let expected = numbers((0..4).chain(5..11));
    assert_eq!(ids(&take(&mut second, 10).await), expected);
}

async fn a_lost_connection_turns_deliveries_stale_and_they_come_again_in_order(bench: &dyn Bench) {
    let mut consumer = bench.consumer(20).await;
    publish_all(&bench.publisher().await, 30).await;
    let mut held = take(&mut consumer, 20).await;
    held.remove(7).ack().await.unwrap();
    // The broker has the ack: it sends another.
    held.push(next(&mut consumer).await);
    bench.drop_connections().await;
    eventually("the deliveries are stale", async || {
        held.iter().all(|delivery| !delivery.usable()).then_some(())
    })
    .await;
    for delivery in held {
        assert!(delivery.ack().await.is_err());
    }
    let again = take(&mut consumer, 20).await;
    assert_eq!(ids(&again), numbers((0..7).chain(8..21)));
    assert!(again.iter().all(|delivery| delivery.redelivered));
    for delivery in again {
        delivery.ack().await.unwrap();
    }
    assert_eq!(ids(&take(&mut consumer, 9).await), numbers(21..30));
}

async fn a_message_without_a_binding_goes_to_unroutable_and_is_confirmed(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let lost = message(COMMANDS, "no-such-provider.42", "a");
    publisher.publish(&lost).await.unwrap();
    assert_eq!(face(&taken(bench, UNROUTABLE).await), face(&lost));
}

async fn a_mandatory_message_for_nobody_is_returned_and_those_beside_it_are_confirmed(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    bench.make_queue("somebody").await;
    let publishes = (0..300).map(|number| {
        let publisher = publisher.clone();
        tokio::spawn(async move {
            let mandatory = number % 10 == 0;
            let to = if number % 20 == 0 { "nobody" } else { "somebody" };
            let sent = Message {
                mandatory,
                ..message("", to, number)
            };
            (number, publisher.publish(&sent).await)
        })
    });
    for published in join_all(publishes).await {
        let (number, result) = published.unwrap();
        let expected = if number % 20 == 0 {
            Err(PublishError::Returned)
        } else {
            Ok(())
        };
        assert_eq!(result, expected, "{number}");
    }
}

async fn a_reply_reaches_the_queue_that_it_names(bench: &dyn Bench) {
    bench.make_queue("replies").await;
    let reply = message("", "replies", "a");
    bench.publisher().await.publish(&reply).await.unwrap();
    assert_eq!(face(&taken(bench, "replies").await), face(&reply));
}

async fn outcomes_and_dead_letters_reach_their_queues(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let outcomes = ["start", "fail"].map(|word| message(OUTCOMES, &format!("user.update.{word}.sivo"), word));
    for outcome in &outcomes {
        publisher.publish(outcome).await.unwrap();
    }
    let dead = message(DEAD_LETTERS, "sivo.expired", "dead");
    publisher.publish(&dead).await.unwrap();
    assert_eq!(face(&taken(bench, DEAD_LETTERS).await), face(&dead));
    let log = bench.outcome_log(2).await;
    let bodies: Vec<_> = log.iter().map(|message| message.body.clone()).collect();
    assert_eq!(bodies, outcomes.map(|outcome| outcome.body));
}

async fn a_publish_to_a_missing_exchange_is_unconfirmed_and_the_next_one_goes_through(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let lost = message("no-such-exchange", "key", "a");
    assert_eq!(publisher.publish(&lost).await, Err(PublishError::Unconfirmed));
    eventually("the next one goes through", async || {
        publisher.publish(&command("b")).await.ok()
    })
    .await;
}

async fn a_closed_publisher_has_its_confirms(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let publishes: Vec<_> = (0..50)
        .map(|number| {
            let publisher = publisher.clone();
            tokio::spawn(async move { publisher.publish(&command(number)).await })
        })
        .collect();
    let mut consumer = bench.consumer(100).await;
    let _held = next(&mut consumer).await;
    publisher.close().await;
    for published in publishes {
        // Those that came too late for it say so.
        let result = published.await.unwrap();
        assert!(
            matches!(result, Ok(()) | Err(PublishError::Unconfirmed)),
            "{result:?}"
        );
    }
    assert_eq!(
        publisher.publish(&command("late")).await,
        Err(PublishError::Unconfirmed)
    );
}

async fn unroutable_messages_are_counted_while_they_are_queued(bench: &dyn Bench) {
    let listener = bench.listener().await;
    let unroutable = listener.status().unroutable;
    let publisher = bench.publisher().await;
    let counted = async |messages: u64| {
        eventually("the count", async || {
            (*unroutable.borrow() == Some(messages)).then_some(())
        })
        .await;
    };
    publisher.publish(&command("a")).await.unwrap();
    counted(0).await;
    for number in 0..3 {
        let lost = message(COMMANDS, "no-such-provider.42", number);
        publisher.publish(&lost).await.unwrap();
    }
    counted(3).await;
    taken(bench, UNROUTABLE).await;
    counted(2).await;
}

async fn a_routing_key_that_amqp_cannot_hold_is_returned(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let key = |bytes: usize| format!("sivo.{}", "u".repeat(bytes - 5));
    let fits = message(COMMANDS, &key(SHORT_TEXT_BYTES_MAX), "a");
    assert_eq!(publisher.publish(&fits).await, Ok(()));
    let longer = message(COMMANDS, &key(SHORT_TEXT_BYTES_MAX + 1), "b");
    assert_eq!(publisher.publish(&longer).await, Err(PublishError::Returned));
}
