//! Private RabbitMQ nodes: a data folder, a name server and ports of their own, gone with the tests.
//!
//! `USHER_TEST_BROKER_URL` (`amqp://user:password@host:port`) with `USHER_TEST_BROKER_API`
//! (`http://host:port`, its management listener) takes another node for all that breaks nothing.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::support::{eventually, http, log};

/// Debian's wrappers in /usr/sbin switch to another user and its cookie; these don't.
const BIN: &str = "/usr/lib/rabbitmq/bin";

/// It starts what it is told to, in one process group with a name server. When whoever holds its input
/// is gone, even by kill -9, it ends the group and removes the folder.
const KEEPER: &str = r#"
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 >/dev/null 2>&1 </dev/null &
while read -r _start; do
  "$BIN/rabbitmq-server" >>"$DIR/stdout" 2>&1 </dev/null &
done
[ -s "$DIR/pid" ] && kill -9 "$(cat "$DIR/pid")"
rm -rf "$DIR"
kill -9 0
"#;

pub struct Node {
    /// Where it listens: `127.0.0.1:5672`
    pub address: String,
    /// `user:password`
    credentials: String,
    api: String,
    own: Option<Own>,
}

struct Own {
    dir: PathBuf,
    epmd_port: u16,
    keeper: Child,
}

static SHARED: OnceCell<Node> = OnceCell::const_new();

impl Node {
    /// One for all tests of the process that break nothing. Each takes a vhost.
    pub async fn shared() -> &'static Self {
        SHARED
            .get_or_init(async || match env::var("USHER_TEST_BROKER_URL") {
                Ok(url) => Self::existing(&url),
                Err(_) => Self::own().await,
            })
            .await
    }

    /// A node that runs already, with its management listener.
    pub fn existing(url: &str) -> Self {
        let api =
            env::var("USHER_TEST_BROKER_API").expect("USHER_TEST_BROKER_API beside USHER_TEST_BROKER_URL");
        let rest = url
            .trim_end_matches('/')
            .strip_prefix("amqp://")
            .expect("amqp://user:password@host:port");
        let (credentials, address) = rest
            .split_once('@')
            .expect("user:password@ in USHER_TEST_BROKER_URL");
        Self {
            address: address.to_owned(),
            credentials: credentials.to_owned(),
            api: api.trim_end_matches('/').to_owned(),
            own: None,
        }
    }

    /// One to break.
    pub async fn own() -> Self {
        Self::own_with("rabbitmq_management,rabbitmq_sharding").await
    }

    pub async fn own_with(plugins: &str) -> Self {
        Self::own_configured(plugins, "", "[].").await
    }

    /// With lines for its rabbitmq.conf, and an advanced.config.
    pub async fn own_configured(plugins: &str, lines: &str, advanced: &str) -> Self {
        assert!(
            Path::new(BIN).join("rabbitmq-server").exists(),
            "there is no {BIN}/rabbitmq-server: install rabbitmq-server, or run tests/run"
        );
        log();
        let [amqp, api, epmd, dist] = free_ports();
        let dir = env::temp_dir().join(format!("usher-node-{}-{amqp}", std::process::id()));
        let conf = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {api}\n{lines}\n"
        );
        fs::create_dir_all(dir.join("home")).unwrap();
        fs::write(dir.join("rabbitmq.conf"), conf).unwrap();
        fs::write(dir.join("advanced.config"), advanced).unwrap();
        fs::write(dir.join("enabled_plugins"), format!("[{plugins}].")).unwrap();
        let mut keeper = command(&dir, "sh", epmd);
        keeper
            .args(["-c", KEEPER])
            .env("BIN", BIN)
            .env("DIR", &dir)
            .env("RABBITMQ_DIST_PORT", dist.to_string());
        // A group of its own: an interrupt from the keyboard must not end it before its work is done.
        let keeper = keeper.stdin(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut node = Self {
            address: format!("127.0.0.1:{amqp}"),
            credentials: "guest:guest".to_owned(),
            api: format!("http://127.0.0.1:{api}"),
            own: Some(Own {
                dir,
                epmd_port: epmd,
                keeper,
            }),
        };
        eventually("the name server listens", async || {
            TcpStream::connect(("127.0.0.1", epmd)).await.ok()
        })
        .await;
        node.start().await;
        node
    }

    async fn start(&mut self) {
        let own = self.own.as_mut().unwrap();
        own.keeper.stdin.as_mut().unwrap().write_all(b"start\n").unwrap();
        let log = own.dir.join("stdout");
        eventually("RabbitMQ starts", async || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(!said.contains("BOOT FAILED"), "{said}");
            let listens = TcpStream::connect(&self.address).await.is_ok();
            (listens && self.get("/api/overview").await).then_some(())
        })
        .await;
    }

    /// A place of one test's own, empty. Answers its address.
    pub async fn vhost(&self, name: &str) -> String {
        let vhost = format!("/api/vhosts/{name}");
        self.api(Method::DELETE, &vhost, Value::Null).await;
        eventually("a vhost", async || {
            self.put(&vhost, Value::Null).await.then_some(())
        })
        .await;
        self.url(name)
    }

    /// Somebody who may do no more than this in the vhost, as regular expressions. Answers the address.
    pub async fn restricted(&self, vhost: &str, configure: &str, write: &str, read: &str) -> String {
        self.permitted(vhost, "restricted", configure, write, read).await
    }

    /// The same for somebody with this name in the vhost.
    pub async fn permitted(
        &self,
        vhost: &str,
        name: &str,
        configure: &str,
        write: &str,
        read: &str,
    ) -> String {
        let user = format!("{vhost}-{name}");
        let made = json!({ "password": "s3cret", "tags": "" });
        assert!(self.put(&format!("/api/users/{user}"), made).await);
        let may = json!({ "configure": configure, "write": write, "read": read });
        assert!(self.put(&format!("/api/permissions/{vhost}/{user}"), may).await);
        format!("amqp://{user}:s3cret@{}/{vhost}", self.address)
    }

    /// How many messages a queue of the vhost may hold, by a policy; `None`: as many as come.
    pub async fn limit(&self, vhost: &str, messages: Option<u32>) {
        let policy = format!("/api/policies/{vhost}/limit");
        match messages {
            Some(messages) => {
                let limit = json!({ "pattern": ".*", "definition": { "max-length": messages } });
                assert!(self.put(&policy, limit).await);
            }
            None => {
                self.api(Method::DELETE, &policy, Value::Null).await;
            }
        }
    }

    pub fn url(&self, vhost: &str) -> String {
        format!("amqp://{}@{}/{vhost}", self.credentials, self.address)
    }

    /// `rabbitmqctl`, on a node of the test's own.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).await.unwrap()
    }

    /// It fails where the node is down.
    pub async fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let own = self.own.as_ref().expect("a node of its own");
        let ctl = command(&own.dir, &format!("{BIN}/rabbitmqctl"), own.epmd_port);
        let done = tokio::process::Command::from(ctl)
            .args(arguments)
            .output()
            .await
            .unwrap();
        match done.status.success() {
            true => Ok(String::from_utf8(done.stdout).unwrap()),
            false => Err(format!("rabbitmqctl {arguments:?}: {done:?}")),
        }
    }

    pub async fn version(&self) -> (u32, u32) {
        let version = self.ctl(&["version"]).await;
        let mut numbers = version.trim().split('.').map_while(|number| number.parse().ok());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    pub async fn kill9(&self) {
        let pid = fs::read_to_string(self.own.as_ref().unwrap().dir.join("pid")).unwrap();
        let killed = Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
        assert!(killed.success());
        eventually("it is gone", async || {
            TcpStream::connect(&self.address).await.is_err().then_some(())
        })
        .await;
    }

    /// After `kill9`.
    pub async fn restart(&mut self) {
        self.start().await;
    }

    async fn get(&self, path: &str) -> bool {
        let answer = self.api(Method::GET, path, Value::Null).await;
        answer.is_some_and(|status| status.is_success())
    }

    async fn put(&self, path: &str, body: Value) -> bool {
        let answer = self.api(Method::PUT, path, body).await;
        answer.is_some_and(|status| status.is_success())
    }

    async fn api(&self, method: Method, path: &str, body: Value) -> Option<StatusCode> {
        let (user, password) = self.credentials.split_once(':').unwrap();
        let request = http()
            .request(method, format!("{}{path}", self.api))
            .basic_auth(user, Some(password));
        let request = if body.is_null() {
            request
        } else {
            request.json(&body)
        };
        Some(request.send().await.ok()?.status())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// With the environment of the node whose folder this is.
fn command(dir: &Path, program: &str, epmd_port: u16) -> Command {
    let mut command = Command::new(program);
    let amqp_port = dir
        .to_string_lossy()
        .rsplit('-')
        .next()
        .unwrap_or_default()
        .to_owned();
    let schedulers = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -start_epmd false";
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
    command
        .env("HOME", dir.join("home"))
        .env("LC_ALL", "C.UTF-8")
        .env("ERL_EPMD_PORT", epmd_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", format!("usher{amqp_port}@localhost"))
        .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_SCHEMA_DIR", dir.join("schema"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", dir.join("generated"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("advanced.config"))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_PID_FILE", dir.join("pid"))
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            format!("{schedulers} {loopback}"),
        );
    command
}

pub fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are known, so that none comes twice.
    let held: Vec<_> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    std::array::from_fn(|index| held[index].local_addr().unwrap().port())
}
