//! A Prometheus that scrapes a worker's real run answers each query of the dashboard and evaluates each rule.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};
use usher::provider::Kind;

use super::panels::ROWS;
use super::{RULES, root};
use crate::node::{Node, free_ports};
use crate::process::Folder;
use crate::scene::Scene;
use crate::support::{eventually, get, http};

/// One on loopback, which ends with the test.
struct Prometheus {
    address: String,
    _server: Child,
    _folder: Folder,
}

impl Prometheus {
    fn scraping(worker: &str) -> Self {
        let folder = Folder::new();
        let rules = root().join(RULES);
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: usher, static_configs: [{{targets: ['{worker}']}}]}}]\n",
            rules.display()
        );
        let config = folder.write("prometheus.yml", &config);
        let [port] = free_ports();
        let address = format!("127.0.0.1:{port}");
        let server = Command::new("prometheus")
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={}", folder.path("data")))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}: run tests/run once"));
        Self {
            address,
            _server: server,
            _folder: folder,
        }
    }

    /// The samples that a query answers. A query that it refuses is a panic.
    async fn answers(&self, query: &str) -> Vec<Value> {
        let asked = http()
            .post(format!("http://{}/api/v1/query", self.address))
            .form(&[("query", query)]);
        let answer: Value = asked.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// Each rule, with how its last evaluation went.
    async fn rules(&self) -> Vec<Value> {
        let url = format!("http://{}/api/v1/rules", self.address);
        let answer: Value = get(&url).await.unwrap().json().await.unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap().clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.cloned().collect()
    }
}

/// As Grafana would ask it, with a short range.
fn asked(expr: &str) -> String {
    expr.replace("$job", ".+").replace("$__rate_interval", "30s")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_panel_has_data_and_each_rule_is_evaluated_where_prometheus_scraped_a_run() {
    let url = Node::shared().await.vhost("deploy").await;
    let scene = Scene::new(Kind::Zitadel, url, 60, 6).await;
    // 60 succeed, and 10 are no valid commands.
    scene.publish().await;
    let [port] = free_ports();
    let admin = format!("127.0.0.1:{port}");
    let settings = scene
        .settings()
        .without("ADMIN__LISTEN")
        .with("ADMIN__LISTEN", &admin);
    let worker = settings.start(&["run"]);
    let prometheus = Prometheus::scraping(&admin);
    let ready = format!("http://{}/-/ready", prometheus.address);
    eventually("Prometheus is ready", async || {
        get(&ready).await?.error_for_status().ok()
    })
    .await;
    eventually("it has scraped the end of all commands, twice", async || {
        let ended = prometheus
            .answers("min_over_time((sum(usher_commands_total))[2s:1s]) == 70")
            .await;
        (!ended.is_empty()).then_some(())
    })
    .await;
    for target in ROWS
        .iter()
        .flat_map(|(_, panels)| panels.iter())
        .flat_map(|panel| panel.targets)
    {
        let query = asked(target.expr);
        match target.always {
            true => {
                eventually(&query, async || {
                    (!prometheus.answers(&query).await.is_empty()).then_some(())
                })
                .await;
            }
            false => drop(prometheus.answers(&query).await),
        }
    }
    let rules = eventually("each rule is evaluated", async || {
        let rules = prometheus.rules().await;
        let all = !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown");
        all.then_some(rules)
    })
    .await;
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let firing = rules.iter().filter(|rule| rule["state"] == "firing");
    let firing: Vec<_> = firing.map(|rule| rule["name"].as_str().unwrap()).collect();
    assert!(firing.is_empty(), "{firing:?}");
    // SUCCESS, and the reasons of the dead letters.
    let ended = prometheus
        .answers("sum by (outcome) (usher_commands_total)")
        .await;
    assert!(ended.len() >= 2, "{ended:?}");
    worker.drained().await;
}
