//! What operators rely on when they look into queues and streams, on both brokers.

use std::time::Duration;

use tokio::time::timeout;
use usher::broker::topology::{AUDIT_LOG, DEAD_LETTERS, OUTCOME_LOG, OUTCOMES, operation_queue};
use usher::broker::{FleetMessage, Holder, InspectError, Inspector, StreamReader, Streamed};

use crate::bench::{Bench, promises};
use crate::support::{eventually, message, numbers};

promises!(
    held_messages_go_back_in_order_and_acked_ones_do_not,
    a_dropped_holder_gives_everything_back,
    a_holder_ends_with_the_messages_that_were_there,
    as_many_messages_as_are_there_are_held_and_go_back_in_order,
    a_queue_of_an_operation_is_declared_once_and_deleted,
    a_stream_is_read_from_its_beginning_and_followed,
    an_empty_stream_is_read_at_once,
    the_audit_log_keeps_what_concerns_no_single_command,
    a_missing_queue_has_no_depth_and_is_named,
    an_inbox_receives_replies_and_the_fleets_notices,
    orders_are_read_from_the_first_and_followed,
);

fn text(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}

async fn publish_dead_letters(bench: &dyn Bench, count: usize) {
    let publisher = bench.publisher().await;
    for number in 0..count {
        let dead = message(DEAD_LETTERS, "sivo.conflict", number);
        publisher.publish(&dead).await.unwrap();
    }
    publisher.close().await;
}

/// Waits until the broker has taken released messages back.
async fn until_ready(inspector: &dyn Inspector, count: u64) {
    eventually("the messages are back", async || {
        let depth = inspector.depth(DEAD_LETTERS).await.unwrap();
        depth.filter(|depth| depth.ready == count)
    })
    .await;
}

async fn held(inspector: &dyn Inspector) -> (Box<dyn Holder>, Vec<usher::broker::Delivery>) {
    let mut holder = inspector.hold(DEAD_LETTERS).await.unwrap();
    let mut held = Vec::new();
    while let Some(delivery) = holder.next().await.unwrap() {
        held.push(delivery);
    }
    (holder, held)
}

fn bodies(deliveries: &[usher::broker::Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(&delivery.body)).collect()
}

async fn held_messages_go_back_in_order_and_acked_ones_do_not(bench: &dyn Bench) {
    publish_dead_letters(bench, 20).await;
    let inspector = bench.inspector().await;
    let inspector = inspector.as_ref();
    let (holder, deliveries) = held(inspector).await;
    assert_eq!(bodies(&deliveries), numbers(0..20));
    for (number, delivery) in deliveries.into_iter().enumerate() {
        if number % 3 == 0 {
            delivery.ack().await.unwrap();
        }
    }
    holder.release().await;
    until_ready(inspector, 13).await;
    let expected: Vec<_> = (0..20)
        .filter(|n| n % 3 != 0)
        .map(|n: usize| n.to_string())
        .collect();
    let (holder, deliveries) = held(inspector).await;
    assert_eq!(bodies(&deliveries), expected);
    assert!(deliveries.iter().all(|delivery| delivery.redelivered));
    holder.release().await;
}

async fn a_dropped_holder_gives_everything_back(bench: &dyn Bench) {
    publish_dead_letters(bench, 10).await;
    let inspector = bench.inspector().await;
    let mut holder = inspector.hold(DEAD_LETTERS).await.unwrap();
    assert!(holder.next().await.unwrap().is_some());
    drop(holder);
    until_ready(inspector.as_ref(), 10).await;
    let (holder, deliveries) = held(inspector.as_ref()).await;
    assert_eq!(bodies(&deliveries), numbers(0..10));
    holder.release().await;
}

async fn a_holder_ends_with_the_messages_that_were_there(bench: &dyn Bench) {
    let inspector = bench.inspector().await;
    let (holder, deliveries) = held(inspector.as_ref()).await;
    assert!(deliveries.is_empty());
    holder.release().await;
    publish_dead_letters(bench, 3).await;
    let mut holder = inspector.hold(DEAD_LETTERS).await.unwrap();
    publish_dead_letters(bench, 2).await;
    let mut count = 0;
    while holder.next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
    holder.release().await;
    until_ready(inspector.as_ref(), 5).await;
}

/// More than one consumer of RabbitMQ holds.
async fn as_many_messages_as_are_there_are_held_and_go_back_in_order(bench: &dyn Bench) {
    const COUNT: usize = 9000;
    let publisher = bench.publisher().await;
    // Those of one publisher's channel keep their order; not all are in flight at a time.
    for part in (0..COUNT).collect::<Vec<_>>().chunks(500) {
        let dead = part
            .iter()
            .map(|number| message(DEAD_LETTERS, "sivo.conflict", number));
        let dead: Vec<_> = dead.collect();
        let published = dead.iter().map(|message| publisher.publish(message));
        let published = futures_util::future::join_all(published).await;
        assert!(published.iter().all(Result::is_ok));
    }
    let inspector = bench.inspector().await;
    let inspector = inspector.as_ref();
    let mut holder = inspector.hold(DEAD_LETTERS).await.unwrap();
    let mut kept = Vec::new();
    for number in 0..COUNT {
        let delivery = holder.next().await.unwrap().unwrap();
        assert_eq!(text(&delivery.body), number.to_string());
        match number % 3 {
            0 => delivery.ack().await.unwrap(),
            _ => kept.push(number),
        }
    }
    assert!(holder.next().await.unwrap().is_none());
    holder.release().await;
    until_ready(inspector, kept.len() as u64).await;
    for _ in 0..2 {
        let (holder, deliveries) = held(inspector).await;
        assert!(
            bodies(&deliveries) == numbers(kept.iter().copied()),
            "another order"
        );
        holder.release().await;
        until_ready(inspector, kept.len() as u64).await;
    }
}

async fn a_queue_of_an_operation_is_declared_once_and_deleted(bench: &dyn Bench) {
    let inspector = bench.inspector().await;
    let queue = operation_queue(&"018f6f1e");
    assert_eq!(inspector.depth(&queue).await.unwrap(), None);
    inspector.declare_queue(&queue).await.unwrap();
    let publisher = bench.publisher().await;
    publisher.publish(&message("", &queue, 0)).await.unwrap();
    inspector.declare_queue(&queue).await.unwrap();
    eventually("it is kept", async || {
        let depth = inspector.depth(&queue).await.unwrap();
        depth.filter(|depth| depth.ready == 1)
    })
    .await;
    for _ in 0..2 {
        inspector.delete_queue(&queue).await.unwrap();
        assert_eq!(inspector.depth(&queue).await.unwrap(), None);
    }
}

/// The bodies up to the present.
async fn read_to_present(reader: &mut dyn StreamReader) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        match reader.next().await.unwrap() {
            Streamed::Message(message) => bodies.push(text(&message.body)),
            Streamed::Present => return bodies,
        }
    }
}

async fn a_stream_is_read_from_its_beginning_and_followed(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let event = |number: usize| message(OUTCOMES, "user.update.start.sivo", number);
    for number in 0..300 {
        publisher.publish(&event(number)).await.unwrap();
    }
    let inspector = bench.inspector().await;
    for _ in 0..2 {
        let mut reader = inspector.read(OUTCOME_LOG, None).await.unwrap();
        assert_eq!(read_to_present(reader.as_mut()).await, numbers(0..300));
        let nothing = timeout(Duration::from_millis(50), reader.next()).await;
        assert!(nothing.is_err());
    }
    let mut reader = inspector.read(OUTCOME_LOG, None).await.unwrap();
    read_to_present(reader.as_mut()).await;
    publisher.publish(&event(300)).await.unwrap();
    let Streamed::Message(message) = reader.next().await.unwrap() else {
        panic!("the present is reached once");
    };
    assert_eq!(text(&message.body), "300");
}

async fn an_empty_stream_is_read_at_once(bench: &dyn Bench) {
    let inspector = bench.inspector().await;
    let mut reader = inspector.read(OUTCOME_LOG, None).await.unwrap();
    assert_eq!(reader.next().await.unwrap(), Streamed::Present);
    let publisher = bench.publisher().await;
    let first = message(OUTCOMES, "user.update.start.sivo", 0);
    publisher.publish(&first).await.unwrap();
    assert!(matches!(reader.next().await.unwrap(), Streamed::Message(_)));
}

async fn the_audit_log_keeps_what_concerns_no_single_command(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    for (number, key) in [
        "user.update.start.sivo",
        "batch.opened.sivo",
        "user.update.fail.sivo",
        "operation.ended.sivo",
        "provider.paused.sivo",
    ]
    .into_iter()
    .enumerate()
    {
        let event = message(OUTCOMES, key, number);
        publisher.publish(&event).await.unwrap();
    }
    let inspector = bench.inspector().await;
    let mut reader = inspector.read(AUDIT_LOG, None).await.unwrap();
    assert_eq!(read_to_present(reader.as_mut()).await, ["1", "3", "4"]);
}

async fn a_missing_queue_has_no_depth_and_is_named(bench: &dyn Bench) {
    let inspector = bench.inspector().await;
    assert_eq!(inspector.depth("nowhere").await.unwrap(), None);
    let Err(refused) = inspector.hold("nowhere").await else {
        panic!("there is no such queue");
    };
    let queue = "nowhere".to_owned();
    assert_eq!(refused, InspectError::NoQueue { queue });
    // The connection is still good.
    assert_eq!(inspector.depth(DEAD_LETTERS).await.unwrap().unwrap().ready, 0);
}

async fn an_inbox_receives_replies_and_the_fleets_notices(bench: &dyn Bench) {
    let (inspector, publisher) = (bench.inspector().await, bench.publisher().await);
    let mut fleet = inspector.inbox(Some("usher.fleet.sivo")).await.unwrap();
    let mut own = inspector.inbox(None).await.unwrap();
    for to in [
        message("usher.fleet.sivo", "", "notice"),
        message("", fleet.name(), "reply"),
        message("", own.name(), "own"),
    ] {
        publisher.publish(&to).await.unwrap();
    }
    let mut received = Vec::new();
    for _ in 0..2 {
        received.push(text(&fleet.next().await.unwrap().body));
    }
    assert_eq!(received, ["notice", "reply"]);
    assert_eq!(text(&own.next().await.unwrap().body), "own");
    let nothing = timeout(Duration::from_millis(50), own.next()).await;
    assert!(nothing.is_err());
}

async fn orders_are_read_from_the_first_and_followed(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let order = |number: usize| message("", "usher.orders.sivo", number);
    for number in 0..3 {
        publisher.publish(&order(number)).await.unwrap();
    }
    let mut listener = bench.listener().await;
    let mut told = Vec::new();
    let mut next = async || loop {
        match listener.next().await {
            FleetMessage::OrdersBegin => return "begin".to_owned(),
            FleetMessage::Order(body) => return text(&body),
            FleetMessage::OrdersPresent => return "present".to_owned(),
            _ => {}
        }
    };
    for _ in 0..5 {
        told.push(next().await);
    }
    publisher.publish(&order(3)).await.unwrap();
    told.push(next().await);
    assert_eq!(told, ["begin", "0", "1", "2", "present", "3"]);
}
