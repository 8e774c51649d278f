//! The topology on RabbitMQ: what declares it, what compares it, and what is said where it can't be.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use usher::broker::amqp::{self, ConnectError, ObjectState, TopologyError, WhenUnreachable};
use usher::broker::{Config, Limits};

use crate::node::Node;
use crate::support::PROVIDER;

async fn config(name: &str) -> Config {
    let url = Node::shared().await.vhost(name).await;
    Config {
        url: url.parse().unwrap(),
        ..Config::default()
    }
}

fn partitioned(config: &Config, partitions: u16) -> Config {
    Config {
        partitions: partitions.try_into().unwrap(),
        ..config.clone()
    }
}

async fn refusal(config: &Config) -> ConnectError {
    amqp::connect(config, PROVIDER, Limits::NONE, WhenUnreachable::Wait)
        .await
        .err()
        .expect("a refusal")
}

#[tokio::test]
async fn a_plan_lists_what_is_missing_and_a_second_declare_changes_nothing() {
    let config = partitioned(&config("plan").await, 3);
    let before = amqp::plan(&config, PROVIDER).await.unwrap();
    assert!(
        before
            .objects
            .iter()
            .all(|object| object.state == ObjectState::Missing)
    );
    // Planning has made nothing.
    assert_eq!(amqp::plan(&config, PROVIDER).await.unwrap(), before);
    amqp::declare(&config, PROVIDER).await.unwrap();
    amqp::declare(&config, PROVIDER).await.unwrap();
    let after = amqp::plan(&config, PROVIDER).await.unwrap();
    assert!(after.is_settled(), "{after:?}");
    assert_eq!(after.objects.len(), before.objects.len());
    // 6 exchanges, the fleet's and 2 hashing ones; 4 queues, 2 more streams, 3 leases and 6 command queues.
    assert_eq!(after.objects.len(), 9 + 15);
}

#[tokio::test]
async fn a_queue_with_another_argument_differs_and_the_worker_refuses_it() {
    let config = config("differs").await;
    let connection = Connection::connect(config.url.nth(0).reveal(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    arguments.insert("x-max-age".into(), AMQPValue::LongString("7D".into()));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(1_000_000_000));
    channel
        .queue_declare("user.outcomes.log".into(), options, arguments)
        .await
        .unwrap();

    let plan = amqp::plan(&config, PROVIDER).await.unwrap();
    let differing: Vec<_> = plan
        .objects
        .iter()
        .filter(|object| object.state != ObjectState::Missing)
        .collect();
    let [log] = differing.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(log.object, "queue user.outcomes.log");
    let [argument, is, wanted] = ["x-max-length-bytes", "1000000000", "5000000000"].map(str::to_owned);
    assert_eq!(log.state, ObjectState::Differs { argument, is, wanted });

    let refused = refusal(&config).await;
    assert!(!refused.is_out_of_reach());
    let said = refused.to_string();
    for word in [
        "queue user.outcomes.log",
        "x-max-length-bytes",
        "1000000000",
        "5000000000",
        "delete it",
    ] {
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn an_exchange_of_another_type_differs_and_is_refused() {
    let config = config("differs-exchange").await;
    let connection = Connection::connect(config.url.nth(0).reveal(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let direct = lapin::ExchangeKind::Direct;
    channel
        .exchange_declare("user.commands".into(), direct, options, FieldTable::default())
        .await
        .unwrap();
    let plan = amqp::plan(&config, PROVIDER).await.unwrap();
    let exchange = "exchange user.commands";
    let found = plan
        .objects
        .iter()
        .find(|object| object.object == exchange)
        .unwrap();
    let [argument, is, wanted] = ["type", "direct", "topic"].map(str::to_owned);
    assert_eq!(found.state, ObjectState::Differs { argument, is, wanted });
    let refused = amqp::declare(&config, PROVIDER).await.unwrap_err();
    let said = refused.to_string();
    assert!(!refused.is_out_of_reach());
    assert!(
        said.contains("type is direct, wanted is topic; delete exchange user.commands"),
        "{said}"
    );
}

#[tokio::test]
async fn a_binding_that_is_not_permitted_is_named() {
    let node = Node::shared().await;
    let open = config("bindings").await;
    let url = node
        .restricted("bindings", ".*", ".*", r"^(?!user\.unroutable$).*")
        .await;
    let config = Config {
        url: url.parse().unwrap(),
        ..open.clone()
    };
    let refused = amqp::declare(&config, PROVIDER).await.unwrap_err();
    let said = refused.to_string();
    assert!(!refused.is_out_of_reach());
    for word in [
        "may not declare the binding of user.unroutable to user.unroutable",
        "rabbitmqctl set_permissions",
    ] {
        assert!(said.contains(word), "{said}");
    }
    // Declared by somebody who may.
    amqp::declare(&open, PROVIDER).await.unwrap();
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_in_both_directions() {
    let one = config("partitions").await;
    let three = partitioned(&one, 3);
    amqp::declare(&three, PROVIDER).await.unwrap();
    for wanted in [1, 2, 4] {
        let provider = PROVIDER.to_owned();
        let expected = TopologyError::OtherPartitions {
            provider,
            is: 3,
            wanted,
        };
        let refused = refusal(&partitioned(&one, wanted)).await;
        assert_eq!(refused, ConnectError::Topology(expected));
    }
    // Another provider has its own number.
    amqp::declare(&one, "karmo").await.unwrap();
    let many = partitioned(&one, 2);
    assert!(amqp::declare(&many, "karmo").await.is_err());
    assert!(amqp::plan(&many, "karmo").await.unwrap().differs());
}

#[tokio::test]
async fn wrong_credentials_and_a_missing_vhost_are_refused_with_the_remedy() {
    let config = config("refused").await;
    let address = &Node::shared().await.address;
    let wrong = format!("amqp://guest:wr0ng@{address}/refused");
    for (url, word) in [(wrong, "password"), (Node::shared().await.url("ghost"), "vhost")] {
        let config = Config {
            url: url.parse().unwrap(),
            ..config.clone()
        };
        let refused = refusal(&config).await;
        let said = refused.to_string();
        assert!(
            !refused.is_out_of_reach() && said.contains(word) && !said.contains("wr0ng"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_unreachable_broker_has_its_own_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = Config {
        url: format!("amqp://guest:guest@{closed}/%2f").parse().unwrap(),
        ..Config::default()
    };
    let refused = amqp::connect(&config, PROVIDER, Limits::NONE, WhenUnreachable::Fail)
        .await
        .err()
        .unwrap();
    assert!(refused.is_out_of_reach(), "{refused}");
    let waiting = amqp::connect(&config, PROVIDER, Limits::NONE, WhenUnreachable::Wait);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), waiting)
            .await
            .is_err()
    );
    let refused = amqp::declare(&config, PROVIDER).await.unwrap_err();
    assert!(refused.is_out_of_reach(), "{refused}");
}

#[tokio::test]
async fn a_listener_without_tls_is_refused_under_amqps() {
    let plain = config("tls")
        .await
        .url
        .nth(0)
        .reveal()
        .replace("amqp://", "amqps://");
    let config = Config {
        url: plain.parse().unwrap(),
        ..Config::default()
    };
    let refused = refusal(&config).await;
    assert!(!refused.is_out_of_reach(), "{refused}");
}

#[tokio::test]
async fn partitions_without_the_plugin_are_refused_with_the_command_that_enables_it() {
    let node = Node::own_with("rabbitmq_management").await;
    let url = node.vhost("plain").await;
    let config = partitioned(
        &Config {
            url: url.parse().unwrap(),
            ..Config::default()
        },
        2,
    );
    // Built in since then.
    if node.version().await >= (4, 3) {
        return amqp::declare(&config, PROVIDER).await.unwrap();
    }
    for refused in [
        amqp::plan(&config, PROVIDER).await.unwrap_err(),
        amqp::declare(&config, PROVIDER).await.unwrap_err(),
        amqp::repartition(&config, PROVIDER).await.unwrap_err(),
    ] {
        let said = refused.to_string();
        assert!(
            said.contains("rabbitmq-plugins enable rabbitmq_sharding"),
            "{said}"
        );
    }
    amqp::declare(&partitioned(&config, 1), PROVIDER).await.unwrap();
}
