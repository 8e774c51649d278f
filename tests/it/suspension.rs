//! A consumer that hands everything back and rests, tried on both brokers.

use std::sync::Arc;

use futures_util::future::join_all;
use usher::broker::topology::{COMMANDS, COMMANDS_BULK};
use usher::broker::{Delivery, Link, Publisher};

use crate::bench::{Bench, promises};
use crate::greedy_consumer::GreedyConsumer;
use crate::support::{PROVIDER, command, gets_nothing, ids, message, next, numbers, take};

promises!(
    a_suspended_consumer_hands_back_everything_in_order_and_takes_nothing,
    a_resumed_consumer_gets_what_was_handed_back_first_and_in_order,
    both_classes_of_traffic_are_handed_back_and_taken_again,
    acked_deliveries_do_not_come_again_after_a_suspension,
    a_resumption_can_be_taken_back_at_once,
    another_consumer_takes_over_while_one_is_suspended,
    a_consumer_that_stands_by_can_be_suspended,
    a_suspended_consumer_closes_cleanly,
    a_suspended_consumer_is_connected,
    a_connection_lost_while_suspended_is_made_again,
    a_connection_lost_before_a_resumption_is_no_error,
);

async fn publish_one(publisher: &Arc<dyn Publisher>, number: usize) {
    publisher.publish(&command(number)).await.unwrap();
}

async fn publish(bench: &dyn Bench, exchange: &str, range: std::ops::Range<usize>) {
    let publisher = bench.publisher().await;
    for number in range {
        let sent = message(exchange, &format!("{PROVIDER}.42"), number);
        publisher.publish(&sent).await.unwrap();
    }
    publisher.close().await;
}

async fn ack_all(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        delivery.ack().await.unwrap();
    }
}

async fn a_suspended_consumer_hands_back_everything_in_order_and_takes_nothing(bench: &dyn Bench) {
    let mut consumer = bench.consumer(60).await;
    publish(bench, COMMANDS, 0..80).await;
    // Others are on their way to it, and go back too.
    let mut held = Vec::new();
    for (number, delivery) in take(&mut consumer, 40).await.into_iter().enumerate() {
        if number % 3 == 1 {
            delivery.ack().await.unwrap();
        } else {
            held.push(delivery);
        }
    }
    consumer.suspend().await;
    assert!(held.iter().all(|delivery| !delivery.usable()));
    gets_nothing(&mut consumer).await;
    let rest = ids(&held).into_iter().chain(numbers(40..73));
    for delivery in held {
        assert!(delivery.ack().await.is_err());
    }
    let again = take(&mut bench.consumer(60).await, 60).await;
    assert_eq!(ids(&again), rest.collect::<Vec<_>>());
}

async fn a_resumed_consumer_gets_what_was_handed_back_first_and_in_order(bench: &dyn Bench) {
    let mut consumer = bench.consumer(20).await;
    publish(bench, COMMANDS, 0..30).await;
    for round in 0..3 {
        let held = take(&mut consumer, 20).await;
        assert_eq!(ids(&held), numbers(0..20), "{round}");
        assert!(held.iter().all(|delivery| delivery.redelivered == (round > 0)));
        consumer.suspend().await;
        consumer.suspend().await;
        publish(bench, COMMANDS, 30 + round..31 + round).await;
        consumer.resume();
        consumer.resume();
    }
    ack_all(take(&mut consumer, 20).await).await;
    let later = take(&mut consumer, 13).await;
    assert_eq!(ids(&later), numbers(20..33));
}

async fn both_classes_of_traffic_are_handed_back_and_taken_again(bench: &dyn Bench) {
    let mut consumer = bench.consumer(20).await;
    publish(bench, COMMANDS, 0..5).await;
    publish(bench, COMMANDS_BULK, 5..10).await;
    for _ in 0..2 {
        let held = take(&mut consumer, 10).await;
        let (bulk, interactive): (Vec<_>, Vec<_>) = held.into_iter().partition(|delivery| delivery.bulk);
        assert_eq!(ids(&interactive), numbers(0..5));
        assert_eq!(ids(&bulk), numbers(5..10));
        consumer.suspend().await;
        gets_nothing(&mut consumer).await;
        assert!(interactive.iter().chain(&bulk).all(|delivery| !delivery.usable()));
        consumer.resume();
    }
}

async fn acked_deliveries_do_not_come_again_after_a_suspension(bench: &dyn Bench) {
    let mut consumer = bench.consumer(1000).await;
    let publisher = bench.publisher().await;
    // One after the other as they are sent: nobody waits for their confirms.
    join_all((0..4000).map(|number| publish_one(&publisher, number))).await;
    // The broker has the last acks in hand when the consumer is suspended.
    for _ in 0..3500 {
        next(&mut consumer).await.ack().await.unwrap();
    }
    consumer.suspend().await;
    consumer.resume();
    assert_eq!(ids(&take(&mut consumer, 500).await), numbers(3500..4000));
    gets_nothing(&mut consumer).await;
}

async fn a_resumption_can_be_taken_back_at_once(bench: &dyn Bench) {
    let mut consumer = bench.consumer(20).await;
    publish(bench, COMMANDS, 0..30).await;
    for _ in 0..5 {
        consumer.resume();
        consumer.suspend().await;
    }
    gets_nothing(&mut consumer).await;
    assert_eq!(
        ids(&take(&mut bench.consumer(20).await, 20).await),
        numbers(0..20)
    );
}

async fn another_consumer_takes_over_while_one_is_suspended(bench: &dyn Bench) {
    let mut first = bench.consumer(10).await;
    let mut second = bench.consumer(10).await;
    publish(bench, COMMANDS, 0..30).await;
    take(&mut first, 10).await.remove(0).ack().await.unwrap();
    gets_nothing(&mut second).await;
    first.suspend().await;
    let taken_over = take(&mut second, 10).await;
    assert_eq!(ids(&taken_over), numbers(1..11));
    // It stands by now.
    first.resume();
    ack_all(taken_over).await;
    gets_nothing(&mut first).await;
    second.close().await;
    assert_eq!(ids(&take(&mut first, 10).await), numbers(11..21));
}

async fn a_consumer_that_stands_by_can_be_suspended(bench: &dyn Bench) {
    let mut first = bench.consumer(10).await;
    let mut second = bench.consumer(10).await;
    publish(bench, COMMANDS, 0..20).await;
    let held = take(&mut first, 10).await;
    second.suspend().await;
    ack_all(held).await;
    first.close().await;
    gets_nothing(&mut second).await;
    second.resume();
    assert_eq!(ids(&take(&mut second, 10).await), numbers(10..20));
}

async fn a_suspended_consumer_closes_cleanly(bench: &dyn Bench) {
    let mut consumer = bench.consumer(20).await;
    publish(bench, COMMANDS, 0..30).await;
    let held = take(&mut consumer, 10).await;
    consumer.suspend().await;
    consumer.close().await;
    assert!(held.iter().all(|delivery| !delivery.usable()));
    assert_eq!(
        ids(&take(&mut bench.consumer(20).await, 20).await),
        numbers(0..20)
    );
}

async fn a_suspended_consumer_is_connected(bench: &dyn Bench) {
    let mut consumer = bench.consumer(20).await;
    let mut link = consumer.link();
    link.mark_unchanged();
    consumer.suspend().await;
    gets_nothing(&mut consumer).await;
    consumer.resume();
    publish(bench, COMMANDS, 0..1).await;
    next(&mut consumer).await.ack().await.unwrap();
    assert_eq!(*link.borrow(), Link::Up);
}

async fn resumes_in_order(consumer: &mut GreedyConsumer, held: Vec<Delivery>) {
    consumer.resume();
    let again = take(consumer, 20).await;
    assert_eq!(ids(&again), numbers(0..20));
    assert!(held.iter().all(|delivery| !delivery.usable()));
    ack_all(again).await;
    assert_eq!(ids(&take(consumer, 10).await), numbers(20..30));
}

async fn a_connection_lost_while_suspended_is_made_again(bench: &dyn Bench) {
    let mut consumer = bench.consumer(20).await;
    publish(bench, COMMANDS, 0..30).await;
    let held = take(&mut consumer, 20).await;
    consumer.suspend().await;
    let mut link = consumer.link();
    link.mark_unchanged();
    bench.drop_connections().await;
    link.changed().await.unwrap();
    link.wait_for(|link| *link == Link::Up).await.unwrap();
    gets_nothing(&mut consumer).await;
    resumes_in_order(&mut consumer, held).await;
}

async fn a_connection_lost_before_a_resumption_is_no_error(bench: &dyn Bench) {
    let mut consumer = bench.consumer(20).await;
    publish(bench, COMMANDS, 0..30).await;
    let held = take(&mut consumer, 20).await;
    consumer.suspend().await;
    bench.drop_connections().await;
    resumes_in_order(&mut consumer, held).await;
}
