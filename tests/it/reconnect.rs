//! A node that goes away and comes back, and one that is out of memory.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use usher::broker::amqp::{self, WhenUnreachable};
use usher::broker::topology::{AUDIT_LOG, OUTCOMES};
use usher::broker::{Config, Limits, Link, Message, PublishError, Publisher, Streamed};

use crate::greedy_consumer::GreedyConsumer;
use crate::node::{Node, free_ports};
use crate::proxy::Proxy;
use crate::support::{PROVIDER, command, eventually, id, message, next, numbers, take};

async fn connected(node: &Node) -> (GreedyConsumer, Arc<dyn Publisher>) {
    let config = Config {
        url: node.url("%2f").parse().unwrap(),
        prefetch: NonZeroU16::new(20),
        reconnect_delay_max: Duration::from_secs(1),
        ..Config::default()
    };
    connect(&config).await
}

async fn connect(config: &Config) -> (GreedyConsumer, Arc<dyn Publisher>) {
    let publisher = amqp::publisher(config, WhenUnreachable::Fail).await.unwrap();
    let consumer = amqp::consumer(
        config,
        PROVIDER,
        publisher.clone(),
        Limits::NONE,
        WhenUnreachable::Fail,
    )
    .await;
    (GreedyConsumer::new(consumer.unwrap(), 1), publisher)
}

async fn link_is(link: &mut watch::Receiver<Link>, wanted: impl Fn(&Link) -> bool) {
    let seen = timeout(Duration::from_secs(60), link.wait_for(wanted)).await;
    seen.expect("the link in time").expect("a link");
}

/// Publishes numbers one after the other, each until it is confirmed, until it is told to end. Answers
/// how many.
fn publish_until(ended: watch::Receiver<bool>, publisher: Arc<dyn Publisher>) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut count = 0;
        while !*ended.borrow() {
            while let Err(error) = publisher.publish(&command(count)).await {
                assert_eq!(error, PublishError::Unconfirmed);
            }
            count += 1;
        }
        count
    })
}

async fn publish_some(publisher: &Arc<dyn Publisher>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        publisher.publish(&command(number)).await.unwrap();
    }
}

/// First deliveries of numbers come in order, and none is left out.
async fn consume_in_order(mut consumer: GreedyConsumer, acked: watch::Sender<usize>) {
    loop {
        let delivery = next(&mut consumer).await;
        let number: usize = id(&delivery).parse().unwrap();
        assert!(number <= *acked.borrow(), "{number} before {}", *acked.borrow());
        if delivery.ack().await.is_ok() {
            acked.send_modify(|highest| *highest = (number + 1).max(*highest));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_broker_is_waited_for_and_nothing_is_lost() {
    let node = Node::own().await;
    let (consumer, publisher) = connected(&node).await;
    let mut links = [consumer.link(), publisher.link()];
    let (end, ended) = watch::channel(false);
    let publishing = publish_until(ended, publisher.clone());
    let (acked, mut highest) = watch::channel(0);
    let consuming = tokio::spawn(consume_in_order(consumer, acked));
    highest.wait_for(|count| *count > 100).await.unwrap();
    node.ctl(&["stop_app"]).await;
    for link in &mut links {
        link_is(link, |link| matches!(link, Link::Down { .. })).await;
    }
    let before = *highest.borrow();
    node.ctl(&["start_app"]).await;
    highest.wait_for(|count| *count > before + 100).await.unwrap();
    end.send_replace(true);
    let published = publishing.await.unwrap();
    highest.wait_for(|count| *count == published).await.unwrap();
    for link in &mut links {
        link_is(link, |link| *link == Link::Up).await;
    }
    consuming.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_that_comes_back_has_all_that_it_confirmed_in_order() {
    let mut node = Node::own().await;
    let (mut consumer, publisher) = connected(&node).await;
    publish_some(&publisher, 0..100).await;
    // RabbitMQ 3.10 writes down where a stream's coordinator is some minutes late, or when it stops.
    node.ctl(&["stop_app"]).await;
    node.ctl(&["start_app"]).await;
    let held = take(&mut consumer, 20).await;
    node.kill9().await;
    eventually("the deliveries are stale", async || {
        held.iter().all(|delivery| !delivery.usable()).then_some(())
    })
    .await;
    // It waits for the broker, with a ceiling of its own.
    let waiting = tokio::spawn(async move { publisher.publish(&command(100)).await });
    node.restart().await;
    let mut order = Vec::new();
    for _ in 0..101 {
        let delivery = next(&mut consumer).await;
        order.push(id(&delivery));
        delivery.ack().await.unwrap();
    }
    waiting.await.unwrap().unwrap();
    assert_eq!(order, numbers(0..101));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_holds_publishes_up_and_acks_go_on() {
    let node = Node::own().await;
    let (mut consumer, publisher) = connected(&node).await;
    publish_some(&publisher, 0..10).await;
    let held = take(&mut consumer, 10).await;
    node.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await;
    let mut link = publisher.link();
    let waiting = {
        let publisher = publisher.clone();
        tokio::spawn(async move { publisher.publish(&command(10)).await })
    };
    // The broker says it with the first publish.
    link_is(&mut link, |link| matches!(link, Link::Blocked { .. })).await;
    for delivery in held {
        delivery.ack().await.unwrap();
    }
    assert!(!waiting.is_finished());
    assert_eq!(*consumer.link().borrow(), Link::Up);
    node.ctl(&["set_vm_memory_high_watermark", "0.9"]).await;
    link_is(&mut link, |link| *link == Link::Up).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(id(&next(&mut consumer).await), "10");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_is_dead_and_when_the_broker_is_lost() {
    let node = Node::shared().await;
    let url = node.vhost("addresses").await;
    let [dead] = free_ports();
    let one = Proxy::to(node.address.clone()).await;
    let other = Proxy::to(node.address.clone()).await;
    let through = |port| url.replace(&node.address, &format!("127.0.0.1:{port}"));
    let config = Config {
        url: [dead, one.port, other.port]
            .map(through)
            .join(",")
            .parse()
            .unwrap(),
        ..Config::default()
    };
    amqp::declare(&config, PROVIDER).await.unwrap();
    assert!(amqp::plan(&config, PROVIDER).await.unwrap().is_settled());
    let (mut consumer, publisher) = connect(&config).await;
    publisher.publish(&command(0)).await.unwrap();
    next(&mut consumer).await.ack().await.unwrap();

    one.end().await;
    while publisher.publish(&command(1)).await.is_err() {}
    loop {
        let delivery = next(&mut consumer).await;
        let last = id(&delivery) == "1";
        if delivery.ack().await.is_ok() && last {
            break;
        }
    }

    let surveyed = amqp::survey(&config).await.unwrap();
    let reached: Vec<_> = surveyed.iter().map(|one| one.answer.is_ok()).collect();
    assert_eq!(reached, [false, false, true]);
}

#[tokio::test]
async fn where_no_address_answers_each_is_named_and_a_refusal_goes_first() {
    let [dead, gone] = free_ports();
    let mut config = Config {
        url: format!("amqp://u:s3cret@127.0.0.1:{dead},amqp://u:s3cret@127.0.0.1:{gone}")
            .parse()
            .unwrap(),
        ..Config::default()
    };
    let unreached = amqp::declare(&config, PROVIDER).await.unwrap_err();
    let said = unreached.to_string();
    for port in [dead, gone] {
        assert!(said.contains(&format!("amqp://u@127.0.0.1:{port}")), "{said}");
    }
    assert!(unreached.is_out_of_reach() && !said.contains("s3cret"), "{said}");
    let address = &Node::shared().await.address;
    config.url = format!("amqp://guest:wr0ng@{address},amqp://guest:wr0ng@127.0.0.1:{dead}")
        .parse()
        .unwrap();
    for refused in [
        amqp::declare(&config, PROVIDER).await.unwrap_err(),
        amqp::publisher(&config, WhenUnreachable::Wait)
            .await
            .err()
            .unwrap(),
    ] {
        let said = refused.to_string();
        assert!(
            !refused.is_out_of_reach() && said.contains("password") && said.contains(address.as_str()),
            "{said}"
        );
        assert!(!said.contains("wr0ng"), "{said}");
    }
}

/// RabbitMQ tells a channel when a full queue has room again, and not when its limit is taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_again_when_the_limit_that_refused_them_is_taken_away() {
    let node = Node::shared().await;
    let url = node.vhost("refused").await;
    let config = Config {
        url: url.parse().unwrap(),
        ..Config::default()
    };
    let (_consumer, publisher) = connect(&config).await;
    let kinds = [false, true].map(|mandatory| Message {
        mandatory,
        ..command(1)
    });
    node.limit("refused", Some(0)).await;
    for message in &kinds {
        eventually("it is refused", async || {
            (publisher.publish(message).await == Err(PublishError::Nacked)).then_some(())
        })
        .await;
    }
    node.limit("refused", None).await;
    for message in &kinds {
        eventually("it is taken again", async || {
            publisher.publish(message).await.ok()
        })
        .await;
    }
    assert_eq!(*publisher.link().borrow(), Link::Up);
}

#[tokio::test]
async fn a_stream_is_read_whole_from_a_broker_that_takes_its_time() {
    let node = Node::shared().await;
    let url = node.vhost("slow-stream").await;
    let direct = Config {
        url: url.parse().unwrap(),
        ..Config::default()
    };
    let (_consumer, publisher) = connect(&direct).await;
    for number in 0..300 {
        let event = message(OUTCOMES, "operation.ended.sivo", number);
        publisher.publish(&event).await.unwrap();
    }
    let inspector = amqp::inspector(&direct).await.unwrap();
    eventually("the broker's count of the log", async || {
        let depth = inspector.depth(AUDIT_LOG).await.unwrap();
        depth.filter(|depth| depth.ready > 0)
    })
    .await;
    let slow = Proxy::slow_to(node.address.clone(), Duration::from_millis(600)).await;
    let through = url.replace(&node.address, &format!("127.0.0.1:{}", slow.port));
    let config = Config {
        url: through.parse().unwrap(),
        ..Config::default()
    };
    let inspector = amqp::inspector(&config).await.unwrap();
    let mut reader = inspector.read(AUDIT_LOG, None).await.unwrap();
    let mut read = 0;
    while let Streamed::Message(_) = reader.next().await.unwrap() {
        read += 1;
    }
    assert_eq!(read, 300);
}
