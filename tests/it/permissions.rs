//! The permissions that `docs/security.md` gives each role, tried on a broker.

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use usher::provider::Kind;

use crate::node::Node;
use crate::scene::Scene;

const PROVIDER: &str = "zitadel";

/// The role's row: configure, write and read.
fn permissions(role: &str) -> [String; 3] {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");
    let text = std::fs::read_to_string(path).unwrap();
    let begins = format!("| {role} | `");
    let row = text.lines().find(|line| line.starts_with(&begins)).unwrap();
    // A bar within a cell is written with a backslash.
    let row = row.replace("\\|", "\u{0}");
    let cells: Vec<_> = row.trim_matches('|').split('|').skip(1).collect();
    let cell = |cell: &&str| {
        let cell = cell.trim().trim_matches('`');
        cell.replace('\u{0}', "|").replace("<provider>", PROVIDER)
    };
    let cells: Vec<String> = cells.iter().map(cell).collect();
    cells.try_into().unwrap()
}

pub async fn url_of(vhost: &str, role: &str) -> String {
    let [configure, write, read] = permissions(role);
    let node = Node::shared().await;
    node.permitted(vhost, role, &configure, &write, &read).await
}

/// What somebody tries, on a connection of its own: a refusal closes a channel.
struct Somebody(Connection);

impl Somebody {
    async fn new(vhost: &str, role: &str) -> Self {
        let url = url_of(vhost, role).await;
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        Self(connecting.await.unwrap())
    }

    async fn publishes(&self, exchange: &str, key: &str) -> bool {
        let channel = self.0.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = channel.basic_publish(exchange.into(), key.into(), options, b"{", properties);
        match sent.await {
            Ok(confirm) => confirm.await.is_ok(),
            Err(_) => false,
        }
    }

    async fn consumes(&self, queue: &str) -> bool {
        let channel = self.0.create_channel().await.unwrap();
        let prefetch = lapin::options::BasicQosOptions::default();
        channel.basic_qos(1, prefetch).await.unwrap();
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(queue.into(), "".into(), options, arguments);
        let consumes = consumer.await.is_ok();
        let _ = channel.close(200, "OK".into()).await;
        consumes
    }

    async fn binds(&self, queue: &str, exchange: &str) -> bool {
        let channel = self.0.create_channel().await.unwrap();
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let arguments = FieldTable::default();
        if channel
            .queue_declare(queue.into(), options, arguments)
            .await
            .is_err()
        {
            return false;
        }
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bound = channel.queue_bind(queue.into(), exchange.into(), "#".into(), options, arguments);
        bound.await.is_ok()
    }
}

/// Where only workers may write.
const OF_WORKERS: [(&str, &str); 6] = [
    ("user.outcomes", "user.update.success.zitadel"),
    ("user.dead-letters", "zitadel.invalid"),
    ("user.dead-letters.by-broker", ""),
    ("usher.fleet.zitadel", ""),
    ("", "user.outcomes.log"),
    ("", "usher.lease.zitadel.0"),
];

const QUEUES: [&str; 5] = [
    "user.dead-letters",
    "user.dead-letters.by-broker",
    "user.unroutable",
    "user.update.zitadel.0",
    "usher.lease.zitadel.0",
];

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_its_permissions_say_and_nothing_else() {
    let vhost = "permissions";
    let url = Node::shared().await.vhost(vhost).await;
    let mut scene = Scene::new(Kind::Zitadel, url, 20, 5).await;
    scene.url = url_of(vhost, "worker").await;
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");

    let roles = ["publisher", "subscriber", "operator"];
    for role in roles {
        let somebody = Somebody::new(vhost, role).await;
        for (exchange, key) in OF_WORKERS {
            assert!(
                !somebody.publishes(exchange, key).await,
                "{role} to {exchange} {key}"
            );
        }
        let publishes = somebody.publishes("user.commands", "zitadel.u").await;
        assert_eq!(publishes, role != "subscriber", "{role}");
        for queue in QUEUES {
            let reads = role == "operator" && ["user.dead-letters", "user.unroutable"].contains(&queue);
            assert_eq!(somebody.consumes(queue).await, reads, "{role} from {queue}");
        }
        let binds = somebody
            .binds(&format!("analytics.{role}"), "user.outcomes")
            .await;
        assert_eq!(binds, role == "subscriber", "{role}");
        assert!(
            !somebody.binds("user.update.zitadel.9", "user.commands").await,
            "{role}"
        );
        assert!(!somebody.binds("analytics.taps", "user.commands").await, "{role}");
    }

    // A worker works with its own, and a publisher publishes with its own.
    let worker = scene.settings().start(&["run"]);
    let publisher = scene
        .settings()
        .with("BROKER__URL", &url_of(vhost, "publisher").await);
    let published = publisher.run(&["publish", "-"], scene.lines().as_bytes()).await;
    assert!(published.status.success(), "{published:?}");
    scene.applied(20).await;
    // The batch's events need more.
    let batch = ["publish", "-", "--batch", "m-1"];
    let refused = publisher.run(&batch, scene.lines().as_bytes()).await;
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("permission to write to user.outcomes") && said.contains("0 commands"),
        "{said}"
    );
    let migrator = scene
        .settings()
        .with("BROKER__URL", &url_of(vhost, "migrator").await);
    let published = migrator.run(&batch, scene.lines().as_bytes()).await;
    assert!(published.status.success(), "{published:?}");
    worker.drained().await;
}
