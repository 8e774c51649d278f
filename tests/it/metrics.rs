//! What a scrape of a worker shows, after a run on a real broker.

use std::collections::{BTreeMap, BTreeSet};

use usher::metrics::table::{ALL, Kind as MetricKind};
use usher::provider::Kind;
use usher::worker::waits::Wait;

use crate::node::{Node, free_ports};
use crate::scene::Scene;
use crate::support::{eventually, get};

/// A sample: its name, its labels as they are written, its value.
type Samples = BTreeMap<(String, String), f64>;

fn samples(scrape: &str) -> Samples {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').to_owned();
        ((name.to_owned(), labels), value.parse().unwrap())
    };
    let lines = scrape
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(sample).collect()
}

/// The metric that a sample belongs to: a histogram has three kinds of samples.
fn metric_of(name: &str) -> &str {
    let of_histogram = ["_bucket", "_sum", "_count"];
    let suffix = of_histogram.iter().find_map(|suffix| name.strip_suffix(suffix));
    suffix
        .filter(|name| {
            ALL.iter()
                .any(|metric| metric.name == *name && metric.kind == MetricKind::Histogram)
        })
        .unwrap_or(name)
}

fn names_of(labels: &str) -> BTreeSet<&str> {
    labels
        .split("\",")
        .filter_map(|label| label.split('=').next())
        .filter(|name| !["", "le"].contains(name))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_has_the_metrics_of_the_table_with_its_labels_and_adds_up() {
    let url = Node::shared().await.vhost("metrics").await;
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
    let scraped = eventually("all have ended", async || {
        let text = get(&format!("http://{admin}/metrics")).await?.text().await.ok()?;
        let samples = samples(&text);
        let ended = samples
            .iter()
            .filter(|((name, _), _)| name == "usher_commands_total");
        let ended: f64 = ended.map(|(_, count)| count).sum();
        // The queues are looked at every two seconds.
        let queued = samples.get(&("usher_queue_commands".to_owned(), "partition=\"0\"".to_owned()));
        (ended == 70.0 && queued == Some(&0.0)).then_some(text)
    })
    .await;
    let samples = samples(&scraped);
    let value = |name: &str, labels: &str| {
        let value = samples.get(&(name.to_owned(), labels.to_owned()));
        *value.unwrap_or_else(|| panic!("{name}{{{labels}}} is not in\n{scraped}"))
    };
    let interactive = "class=\"interactive\"";
    assert_eq!(value("usher_deliveries_total", interactive), 70.0);
    assert_eq!(value("usher_command_seconds_count", interactive), 70.0);
    assert!(value("usher_permits_total", interactive) >= 60.0);
    assert!(value("usher_wait_seconds_count", "for=\"order\"") >= 60.0);
    assert!(value("usher_wait_seconds_count", "for=\"confirm\"") >= 60.0);
    assert_eq!(value("usher_quota_per_second", ""), 2000.0);
    assert_eq!(value("usher_useful_replicas", ""), 1.0);
    assert_eq!(value("usher_seconds_to_drain", ""), 0.0);
    for role in ["consumer", "publisher", "listener"] {
        let role = format!("role=\"{role}\"");
        assert_eq!(value("usher_broker_connected", &role), 1.0);
        assert_eq!(value("usher_broker_connections_total", &role), 1.0);
    }
    for wait in Wait::ALL {
        let cause = format!("for=\"{}\"", wait.as_str());
        assert_eq!(value("usher_commands_waiting", &cause), 0.0, "{cause}");
        assert_eq!(value("usher_oldest_wait_seconds", &cause), 0.0, "{cause}");
    }
    check_names(&samples);
    worker.drained().await;
}

/// Each is in the table, with its labels, and only what did not happen is missing.
fn check_names(samples: &Samples) {
    for (name, labels) in samples.keys() {
        let metric = ALL.iter().find(|metric| metric.name == metric_of(name));
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(
            names_of(labels),
            metric.labels.iter().copied().collect(),
            "{name}"
        );
    }
    let seen: BTreeSet<_> = samples.keys().map(|(name, _)| metric_of(name)).collect();
    // These count what did not happen here.
    let rare = [
        "usher_commands_held_back",
        "usher_commands_merged_total",
        "usher_retries_total",
        "usher_paused",
        "usher_publish_repeats_total",
        "usher_redeliveries_total",
        "usher_stale_deliveries_total",
        "usher_fleet_notices_ignored_total",
        "usher_panics_total",
        "usher_spans_dropped_total",
    ];
    let expected: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
    let missing: Vec<_> = expected
        .difference(&seen)
        .filter(|name| !rare.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
