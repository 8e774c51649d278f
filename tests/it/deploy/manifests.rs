//! What starts a worker: the manifests of Kubernetes, the unit of systemd, and the services of docker-compose.yml.

use std::fs;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use super::{PYTHON, as_json, printed, root};
use crate::process::Folder;

const DEPLOYMENT: &str = "deploy/kubernetes/usher.yaml";
const SCALED_OBJECT: &str = "deploy/kubernetes/scaledobject.yaml";
const UNIT: &str = "deploy/systemd/usher.service";

/// As the kubelet would write it.
const CONFIG: &str = "deploy/kubernetes/usher.toml";

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The configuration of the pods.
fn config() -> usher::config::Config {
    usher::config::load(Some(&root().join(CONFIG)), []).unwrap()
}

#[track_caller]
fn is_above(what: &str, seconds: u64, grace: Duration) {
    // Closing the connections takes up to broker.close_timeout.
    assert!(
        Duration::from_secs(seconds) >= grace + Duration::from_secs(5),
        "{what}: {seconds} s for a grace period of {grace:?}"
    );
}

#[test]
fn the_manifests_are_valid_by_the_schemas_of_kubernetes() {
    let said = printed(PYTHON, &["-m", "kubernetes_validate", "--strict", DEPLOYMENT]);
    for resource in ["deployment/usher", "poddisruptionbudget/usher"] {
        assert!(said.contains(resource), "{said}");
    }
}

#[test]
fn pods_are_asked_given_time_and_hold_their_secrets_as_files() {
    let documents = as_json(DEPLOYMENT);
    let of_kind = |kind: &str| {
        documents
            .iter()
            .find(|document| document["kind"] == kind)
            .unwrap()
    };
    let (deployment, budget) = (of_kind("Deployment"), of_kind("PodDisruptionBudget"));
    let pod = &deployment["spec"]["template"];
    let spec = &pod["spec"];
    let container = &spec["containers"][0];
    let config = config();

    let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap();
    is_above("terminationGracePeriodSeconds", grace, config.worker.grace_period);

    let port = container["ports"][0]["containerPort"].as_u64().unwrap();
    assert_eq!(u64::from(config.admin.listen.port()), port);
    assert!(
        config.admin.listen.ip().is_unspecified(),
        "the kubelet asks from outside"
    );
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"]);
    }

    let labels = &pod["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);

    let text = deployment.to_string();
    assert!(
        !text.contains("secretKeyRef") && !text.contains("\"env\""),
        "{text}"
    );
    let mount = &container["volumeMounts"][0];
    let folder = mount["mountPath"].as_str().unwrap();
    assert!(spec["volumes"][0]["secret"]["secretName"].is_string());
    let token_file = config.provider.auth.token_file.unwrap();
    assert!(token_file.starts_with(folder), "{token_file:?} is not mounted");
    let arguments: Vec<_> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(arguments, ["run", "--config", &format!("{folder}/usher.toml")]);

    let own = &container["securityContext"];
    assert_eq!(own["readOnlyRootFilesystem"], true);
    assert_eq!(own["allowPrivilegeEscalation"], false);
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
}

#[test]
fn the_autoscaler_follows_the_workers_that_are_useful() {
    let deployment = as_json(DEPLOYMENT).remove(0);
    let scaled = as_json(SCALED_OBJECT).remove(0);
    let spec = &scaled["spec"];
    assert_eq!(
        spec["scaleTargetRef"]["name"], deployment["metadata"]["name"],
        "it scales the Deployment"
    );
    let trigger = &spec["triggers"][0];
    assert_eq!(trigger["type"], "prometheus");
    assert_eq!(
        trigger["metadata"]["query"],
        r#"max(usher_useful_replicas{job="usher"})"#
    );
    // The number of workers is the value over this.
    assert_eq!(trigger["metadata"]["threshold"], "1");
    assert_eq!(
        spec["maxReplicaCount"].as_u64(),
        Some(config().broker.partitions.get().into()),
        "more workers than partitions stand by"
    );
}

#[test]
fn the_unit_of_systemd_is_valid_hardened_and_gives_time_to_drain() {
    let unit = read(UNIT);
    let value = |key: &str| {
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("no {key}="))
    };
    for (key, expected) in [
        ("KillSignal", "SIGTERM"),
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
    ] {
        assert_eq!(value(key), expected);
    }
    assert!(value("LoadCredential").starts_with("provider-token:"));
    let seconds = value("TimeoutStopSec").trim_end_matches('s').parse().unwrap();
    let default = usher::worker::Config::default().grace_period;
    is_above("TimeoutStopSec", seconds, default);

    // Of the program that is not there, only what is said of the unit counts.
    let folder = Folder::new();
    let program = Regex::new("(?m)^ExecStart=.*$").unwrap();
    let here = program.replace(&unit, "ExecStart=/bin/true");
    let here = folder.write("usher.service", &here);
    printed("systemd-analyze", &["verify", &here]);
    // 0 is best, 10 is worst; the threshold is ten times that.
    printed(
        "systemd-analyze",
        &[
            "security",
            "--offline=true",
            "--threshold=15",
            "--no-pager",
            &here,
        ],
    );
}

#[test]
fn compose_publishes_the_admin_port_asks_the_worker_and_mounts_what_is_there() {
    let compose = as_json("docker-compose.yml").remove(0);
    let services = &compose["services"];
    let worker = &services["worker"];
    assert_eq!(worker["ports"][0], "127.0.0.1:9464:9464");
    assert_eq!(worker["healthcheck"]["test"][2], "health");
    for (name, service) in services.as_object().unwrap() {
        let monitors = ["prometheus", "grafana"].contains(&name.as_str());
        assert_eq!(service["profiles"][0] == "monitoring", monitors, "{name}");
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let (file, _) = volume.as_str().unwrap().split_once(':').unwrap();
            assert!(root().join(file).exists(), "{name}: there is no {file}");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
    let scraped = &as_json("deploy/prometheus/prometheus.yml")[0]["scrape_configs"][0];
    assert_eq!(scraped["dns_sd_configs"][0]["names"][0], "worker");
    assert_eq!(scraped["dns_sd_configs"][0]["port"], 9464);
    // Grafana finds the Prometheus and the dashboard where they are mounted.
    let sources = as_json("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(sources[0]["datasources"][0]["url"], "http://prometheus:9090");
    let provided = as_json("deploy/grafana/provisioning/dashboards/usher.yml");
    let folder = provided[0]["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = services["grafana"]["volumes"].to_string();
    assert!(mounts.contains(&format!(":{folder}/usher.json:")), "{mounts}");
}
