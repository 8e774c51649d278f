//! What only the broker in memory does: sinks, a file's end, room for more, and faults.

use std::io;
use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::broker::topology::{COMMANDS, DEAD_LETTERS, OUTCOMES};
use crate::broker::{Arrival, Config, Delivery, Properties};

const QUEUE: &str = "user.update.sivo.0";

/// Takes whatever it gets a lease for.
struct Taking(Box<dyn Consumer>);

impl Taking {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            match self.0.next().await? {
                Arrival::Leased(lease) => self.0.consume(lease),
                Arrival::Lost(_) => {}
                Arrival::Delivery(delivery) => return Some(delivery),
            }
        }
    }
}

fn taking(broker: &MemoryBroker, prefetch: u16) -> Taking {
    let mut consumer = broker.consumer(prefetch);
    consumer.claim(0);
    Taking(consumer)
}

fn broker() -> MemoryBroker {
    MemoryBroker::new(&Topology::new("sivo", &Config::default()))
}

fn message(exchange: &str, key: &str, body: &str) -> Message {
    Message {
        exchange: exchange.to_owned(),
        routing_key: key.to_owned(),
        properties: Properties::persistent(body, "text/plain"),
        body: Bytes::copy_from_slice(body.as_bytes()),
        mandatory: false,
    }
}

fn command(body: &str) -> Message {
    message(COMMANDS, "sivo.42", body)
}

fn body(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.body).unwrap()
}

#[derive(Default)]
struct Collected(Mutex<Vec<Message>>);

#[async_trait]
impl Sink for Collected {
    async fn accept(&self, message: &Message) -> io::Result<()> {
        if message.body.is_empty() {
            return Err(io::Error::other("the disk is full"));
        }
        self.0.lock().unwrap().push(message.clone());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_takes_a_message_before_the_confirm_and_nothing_is_stored() {
    let broker = broker();
    let sink = Arc::new(Collected::default());
    broker.divert(DEAD_LETTERS, sink.clone());
    let publisher = broker.publisher();
    let dead = message(DEAD_LETTERS, "sivo.expired", "a");
    publisher.publish(&dead).await.unwrap();
    assert_eq!(sink.0.lock().unwrap().as_slice(), [dead]);
    let refused = message(DEAD_LETTERS, "sivo.expired", "");
    assert_eq!(publisher.publish(&refused).await, Err(PublishError::Nacked));
    assert_eq!(broker.depth(DEAD_LETTERS), 0);
}

#[tokio::test(start_paused = true)]
async fn the_input_ends_when_all_of_it_is_settled() {
    let broker = broker();
    let mut consumer = taking(&broker, 10);
    broker.publish(&command("a")).unwrap();
    broker.finish_input();
    let delivery = consumer.next().await.unwrap();
    assert!(timeout(consumer.next()).await.is_none());
    delivery.ack().await.unwrap();
    assert!(consumer.next().await.is_none());
}

async fn timeout<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(1), future).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_feeder_waits_until_there_is_room() {
    let broker = broker();
    let mut consumer = taking(&broker, 10);
    broker.publish_when_room(&command("a"), 1).await.unwrap();
    let second = command("b");
    let mut fed = pin!(broker.publish_when_room(&second, 1));
    assert!(timeout(fed.as_mut()).await.is_none());
    let first = consumer.next().await.unwrap();
    assert!(timeout(fed.as_mut()).await.is_none());
    first.ack().await.unwrap();
    fed.await.unwrap();
    assert_eq!(broker.depth(QUEUE), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connection_turns_deliveries_stale_and_they_come_again_in_order() {
    let broker = broker();
    let mut consumer = taking(&broker, 3);
    for id in ["a", "b", "c", "d"] {
        broker.publish(&command(id)).unwrap();
    }
    let held = [
        consumer.next().await.unwrap(),
        consumer.next().await.unwrap(),
        consumer.next().await.unwrap(),
    ];
    let [a, b, c] = held;
    b.ack().await.unwrap();
    broker.drop_connection();
    assert!(!a.usable());
    assert!(a.ack().await.is_err());
    c.hand_back();
    for (id, redelivered) in [("a", true), ("c", true), ("d", false)] {
        let delivery = consumer.next().await.unwrap();
        assert_eq!((body(&delivery), delivery.redelivered), (id, redelivered));
        delivery.ack().await.unwrap();
    }
    assert_eq!(broker.depth(QUEUE), 0);
}

#[tokio::test(start_paused = true)]
async fn the_next_consumer_takes_over_when_the_broker_ends_one() {
    let broker = broker();
    let (mut first, mut second) = (taking(&broker, 5), taking(&broker, 5));
    broker.publish(&command("a")).unwrap();
    let delivery = first.next().await.unwrap();
    assert!(timeout(second.next()).await.is_none());
    broker.end_consumer();
    assert!(!delivery.usable());
    assert!(timeout(first.next()).await.is_none());
    assert!(second.next().await.unwrap().redelivered);
    drop(second);
    assert!(first.next().await.unwrap().usable());
}

#[tokio::test(start_paused = true)]
async fn confirms_can_be_late_lost_or_refused() {
    let broker = broker();
    let publisher = broker.publisher();
    let outcome = message(OUTCOMES, "user.update.start.sivo", "a");

    broker.nack_next(1);
    assert_eq!(publisher.publish(&outcome).await, Err(PublishError::Nacked));

    broker.delay_confirms(Duration::from_secs(2));
    assert!(timeout(publisher.publish(&outcome)).await.is_none());
    publisher.publish(&outcome).await.unwrap();

    broker.delay_confirms(Duration::ZERO);
    broker.hold_confirms(true);
    assert_eq!(publisher.publish(&outcome).await, Err(PublishError::Unconfirmed));
    for (lost, taken) in [(false, 1), (true, 0)] {
        broker.lose_unconfirmed(lost);
        let before = broker.depth("user.outcomes.log");
        let mut published = pin!(publisher.publish(&outcome));
        assert!(timeout(published.as_mut()).await.is_none());
        broker.drop_connection();
        assert_eq!(published.await, Err(PublishError::Unconfirmed));
        assert_eq!(broker.depth("user.outcomes.log") - before, taken);
    }
}

#[tokio::test(start_paused = true)]
async fn publishes_wait_while_an_alarm_blocks_them() {
    let broker = broker();
    let publisher = broker.publisher();
    let mut consumer = taking(&broker, 1);
    let link = publisher.link();
    broker.publish(&command("a")).unwrap();
    broker.block("low on memory");
    assert_eq!(
        *link.borrow(),
        Link::Blocked {
            reason: "low on memory".to_owned()
        }
    );
    let outcome = message(OUTCOMES, "user.update.start.sivo", "a");
    let mut published = pin!(publisher.publish(&outcome));
    assert!(timeout(published.as_mut()).await.is_none());
    consumer.next().await.unwrap().ack().await.unwrap();
    broker.unblock();
    published.await.unwrap();
}
