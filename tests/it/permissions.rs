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

    /// With an empty name, it is the broker that names the queue, as where workers are asked something.
    async fn binds(&self, queue: &str, exchange: &str) -> bool {
        let channel = self.0.create_channel().await.unwrap();
        let options = QueueDeclareOptions {
            durable: !queue.is_empty(),
            exclusive: queue.is_empty(),
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        let Ok(declared) = declared.await else {
            return false;
        };
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bound = channel.queue_bind(
            declared.name().clone(),
            exchange.into(),
            "#".into(),
            options,
            arguments,
        );
        bound.await.is_ok()
    }

    async fn may(&self, step: &Step) -> bool {
        match *step {
            Step::Publish(exchange, key) => self.publishes(exchange, key).await,
            Step::Consume(queue) => self.consumes(queue).await,
            Step::Bind(queue, exchange) => self.binds(queue, exchange).await,
        }
    }
}

#[derive(Debug)]
enum Step {
    /// To an exchange, with a routing key.
    Publish(&'static str, &'static str),
    Consume(&'static str),
    /// A queue, which is declared first, to an exchange.
    Bind(&'static str, &'static str),
}

const ROLES: [&str; 8] = [
    "publisher",
    "migrator",
    "subscriber",
    "operator",
    "console",
    "redriver",
    "controller",
    "worker",
];

/// The steps, each with the roles that may take it. Everybody else is refused.
const STEPS: [(Step, &[&str]); 20] = [
    (
        Step::Publish("user.commands", "zitadel.u"),
        &["publisher", "migrator", "operator", "redriver", "worker"],
    ),
    (
        Step::Publish("user.commands.bulk", "zitadel.u"),
        &["publisher", "migrator", "operator", "redriver", "worker"],
    ),
    (
        Step::Publish("user.outcomes", "user.update.success.zitadel"),
        &["migrator", "redriver", "controller", "worker"],
    ),
    (
        Step::Publish("user.dead-letters", "zitadel.invalid"),
        &["redriver", "worker"],
    ),
    (Step::Publish("user.dead-letters.by-broker", ""), &["worker"]),
    // Whoever may ask workers may also send them what only workers send.
    (
        Step::Publish("usher.fleet.zitadel", ""),
        &["console", "controller", "worker"],
    ),
    // The default exchange reaches every queue.
    (
        Step::Publish("", "user.outcomes.log"),
        &["redriver", "controller", "worker"],
    ),
    (
        Step::Publish("", "usher.orders.zitadel"),
        &["redriver", "controller", "worker"],
    ),
    (
        Step::Publish("", "usher.lease.zitadel.0"),
        &["redriver", "controller", "worker"],
    ),
    (
        Step::Consume("user.dead-letters"),
        &["operator", "console", "redriver", "worker"],
    ),
    (Step::Consume("user.dead-letters.by-broker"), &["worker"]),
    (
        Step::Consume("user.unroutable"),
        &["operator", "redriver", "worker"],
    ),
    (Step::Consume("user.update.zitadel.0"), &["worker"]),
    (Step::Consume("usher.lease.zitadel.0"), &["worker"]),
    (
        Step::Consume("user.outcomes.log"),
        &[
            "subscriber",
            "operator",
            "console",
            "redriver",
            "controller",
            "worker",
        ],
    ),
    (
        Step::Consume("user.outcomes.audit"),
        &["operator", "console", "redriver", "controller", "worker"],
    ),
    (
        Step::Consume("usher.orders.zitadel"),
        &["console", "redriver", "controller", "worker"],
    ),
    (Step::Bind("analytics.events", "user.outcomes"), &["subscriber"]),
    (Step::Bind("analytics.taps", "user.commands"), &[]),
    // What a worker is asked is answered there.
    (
        Step::Bind("", "usher.fleet.zitadel"),
        &["console", "controller", "worker"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_its_permissions_say_and_nothing_else() {
    let vhost = "permissions";
    let url = Node::shared().await.vhost(vhost).await;
    let mut scene = Scene::new(Kind::Zitadel, url, 20, 5).await;
    scene.url = url_of(vhost, "worker").await;
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let mut wrong = Vec::new();
    for role in ROLES {
        let somebody = Somebody::new(vhost, role).await;
        for (step, allowed) in &STEPS {
            let may = somebody.may(step).await;
            if may != allowed.contains(&role) {
                wrong.push(format!("{role} {step:?}: {may}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_and_workers_do_their_work_with_their_own_permissions() {
    let vhost = "permitted";
    let url = Node::shared().await.vhost(vhost).await;
    let mut scene = Scene::new(Kind::Zitadel, url, 20, 5).await;
    scene.url = url_of(vhost, "worker").await;
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
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
