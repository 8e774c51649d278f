//! The nodes that a run goes through and breaks: one of its own, or those that the environment names.

use std::env;
use std::process::Stdio;

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::options::Options;
use super::plan::Break;
use crate::node::Node;
use crate::support::eventually;

const VHOST: &str = "chaos";

pub struct Brokers {
    nodes: Vec<Place>,
    with: With,
}

/// One node. Whoever breaks it or speaks to it by `rabbitmqctl` holds it: a node that is down answers nobody.
struct Place {
    name: String,
    /// `amqp://user:password@host:port`
    url: String,
    held: Mutex<()>,
}

enum With {
    Own(Box<Mutex<Node>>),
    /// Shell commands, in which `{}` stands for the node's name.
    Commands {
        kill: Option<String>,
        start: Option<String>,
        ctl: Option<String>,
    },
}

impl Brokers {
    pub async fn ready(options: &Options) -> Self {
        let Ok(urls) = env::var("USHER_TEST_BROKER_URL") else {
            return Self::own(options).await;
        };
        let urls: Vec<_> = urls
            .split(',')
            .map(|url| url.trim().trim_end_matches('/'))
            .collect();
        let names = env::var("USHER_TEST_CHAOS_NODES").unwrap_or_default();
        let mut names = names.split(',').map(|name| name.trim().to_owned());
        let place = |url: &&str| Place {
            name: names.next().unwrap_or_default(),
            url: (*url).to_owned(),
            held: Mutex::default(),
        };
        let command = |name: &str| env::var(format!("USHER_TEST_CHAOS_{name}")).ok();
        Self {
            nodes: urls.iter().map(place).collect(),
            with: With::Commands {
                kill: command("KILL"),
                start: command("START"),
                ctl: command("CTL"),
            },
        }
    }

    async fn own(options: &Options) -> Self {
        let (lines, advanced) = match options.consumer_timeout {
            Some(timeout) => (
                format!("consumer_timeout = {}", timeout.as_millis()),
                // It looks once a minute where nothing is said.
                "[{rabbit, [{channel_tick_interval, 1000}]}].",
            ),
            None => (String::new(), "[]."),
        };
        let plugins = "rabbitmq_management,rabbitmq_sharding";
        let node = Node::own_configured(plugins, &lines, advanced).await;
        Self {
            nodes: vec![Place {
                name: String::new(),
                url: node.url("").trim_end_matches('/').to_owned(),
                held: Mutex::default(),
            }],
            with: With::Own(Box::new(Mutex::new(node))),
        }
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it can be done with what is given.
    pub fn may(&self, what: Break) -> bool {
        let (kills, ctl) = match &self.with {
            With::Own(_) => (true, true),
            With::Commands { kill, start, ctl } => (kill.is_some() && start.is_some(), ctl.is_some()),
        };
        match what {
            Break::BrokerKill => kills && self.count() == 1,
            Break::OneNode => kills && self.count() > 1,
            Break::Majority => kills && self.count() > 2,
            Break::MemoryAlarm | Break::CloseConnections => ctl,
            _ => true,
        }
    }

    /// An empty vhost. Answers its address at each node.
    pub async fn vhost(&self) -> Vec<String> {
        let with_api = env::var("USHER_TEST_BROKER_API").is_ok();
        match &self.with {
            With::Own(node) => drop(node.lock().await.vhost(VHOST).await),
            With::Commands { .. } if with_api => drop(Node::existing(&self.nodes[0].url).vhost(VHOST).await),
            With::Commands { ctl, .. } => {
                assert!(
                    ctl.is_some(),
                    "USHER_TEST_BROKER_API or USHER_TEST_CHAOS_CTL beside USHER_TEST_BROKER_URL: a vhost is to be made"
                );
                // There may be none from before.
                let _ = self.ctl(0, &["delete_vhost", VHOST]).await;
                self.ctl(0, &["add_vhost", VHOST]).await.unwrap();
                let user = self.nodes[0].url.trim_start_matches("amqp://").split(':').next();
                let all = ["set_permissions", "-p", VHOST, user.unwrap(), ".*", ".*", ".*"];
                self.ctl(0, &all).await.unwrap();
            }
        }
        let address = |node: &Place| format!("{}/{VHOST}", node.url);
        self.nodes.iter().map(address).collect()
    }

    /// RabbitMQ 3.10 writes down where a stream's coordinator is some minutes late, or when it stops: before
    /// that, a kill -9 would lose the outcome log for good.
    pub async fn write_down_where_streams_are(&self) {
        if !self.may(Break::BrokerKill) && !self.may(Break::OneNode) {
            return;
        }
        for index in 0..self.count() {
            if self.ctl(index, &["stop_app"]).await.is_ok() {
                self.ctl(index, &["start_app"]).await.unwrap();
                self.listens(index).await;
            }
        }
    }

    pub async fn kill(&self, index: usize) {
        match &self.with {
            With::Own(node) => node.lock().await.kill9().await,
            With::Commands { kill, .. } => {
                let done = self.shell(index, kill.as_deref().unwrap(), &[]).await;
                done.unwrap_or_else(|error| panic!("USHER_TEST_CHAOS_KILL: {error}"));
            }
        }
    }

    /// After `kill`.
    pub async fn start(&self, index: usize) {
        match &self.with {
            With::Own(node) => node.lock().await.restart().await,
            With::Commands { start, .. } => {
                let done = self.shell(index, start.as_deref().unwrap(), &[]).await;
                done.unwrap_or_else(|error| panic!("USHER_TEST_CHAOS_START: {error}"));
                self.listens(index).await;
            }
        }
    }

    /// Nobody else breaks the node as long as this is held.
    pub async fn hold(&self, index: usize) -> tokio::sync::MutexGuard<'_, ()> {
        self.nodes[index].held.lock().await
    }

    /// `rabbitmqctl`. It fails where the node is down.
    pub async fn ctl(&self, index: usize, arguments: &[&str]) -> Result<(), String> {
        match &self.with {
            With::Own(node) => node.lock().await.try_ctl(arguments).await.map(drop),
            With::Commands { ctl: None, .. } => Err("USHER_TEST_CHAOS_CTL is not set".to_owned()),
            With::Commands { ctl: Some(ctl), .. } => self.shell(index, ctl, arguments).await,
        }
    }

    async fn listens(&self, index: usize) {
        let url = &self.nodes[index].url;
        let address = url.rsplit('@').next().unwrap();
        eventually("the node listens", async || {
            TcpStream::connect(address).await.ok()
        })
        .await;
    }

    async fn shell(&self, index: usize, command: &str, arguments: &[&str]) -> Result<(), String> {
        let command = command.replace("{}", &self.nodes[index].name);
        // What it starts in the background must not keep a pipe of ours open.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{command} \"$@\""), "sh"])
            .args(arguments);
        let status = shell.stdin(Stdio::null()).stdout(Stdio::null()).status().await;
        let status = status.map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("{command} {arguments:?}: {status}")),
        }
    }
}
