//! Of whatever is within its bounds, a worker can be made: nothing overflows, nothing panics.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngSeed, TestRunner};
use tokio::time::Instant;
use usher::broker::memory::MemoryBroker;
use usher::broker::topology::Topology;
use usher::clock::Clock;
use usher::config::{self, Config};
use usher::contract::WorkerId;
use usher::policy::{guard, pace, retry};
use usher::provider::Provider;
use usher::provider::http::{self, Http};
use usher::provider::karmo;
use usher::provider::token::Source;
use usher::worker::attempts::Calls;
use usher::worker::fleet::LOG_END_MAX;
use usher::worker::{FleetSetup, Setup, Shutdown, Worker, gate};

use super::{Bounds, Key, complete, keys};

/// Values within a key's bounds: the ends of them as often as what lies between.
fn within(key: &Key) -> BoxedStrategy<String> {
    let span = |min: Duration, max: Duration| {
        let seconds = (min.as_secs_f64(), max.as_secs_f64());
        let between = (0.0..=1.0).prop_map(move |at: f64| {
            let seconds = seconds.0 * (seconds.1 / seconds.0.max(1e-3)).powf(at);
            Duration::from_secs_f64(seconds).clamp(min, max)
        });
        prop_oneof![Just(min), Just(max), between]
    };
    match key.bounds.clone() {
        Bounds::Whole(min, max) => prop_oneof![Just(min), Just(max), min..=max]
            .prop_map(|number| number.to_string())
            .boxed(),
        Bounds::Number(min, max) => prop_oneof![Just(min), Just(max), min..=max]
            .prop_map(|number| number.to_string())
            .boxed(),
        Bounds::Span(min, max) => span(min, max)
            .prop_map(|span| format!("{}s {}ns", span.as_secs(), span.subsec_nanos()))
            .boxed(),
        Bounds::Age(min, max) => span(min, max)
            .prop_map(|span| format!("{}s", span.as_secs()))
            .boxed(),
    }
}

/// One of the four windows, or none.
fn written() -> impl Strategy<Value = Vec<(String, String)>> {
    let (rates, others): (Vec<_>, Vec<_>) = keys()
        .into_iter()
        .partition(|key| key.name.starts_with("provider.rate.per_"));
    let others: Vec<_> = others
        .iter()
        .filter(|key| key.name != "provider.rate.burst")
        .map(|key| (Just(key.variable()), within(key), any::<bool>()))
        .collect();
    let rates = rates
        .iter()
        .map(|key| (Just(key.variable()), within(key)))
        .collect::<Vec<_>>();
    let burst =
        (1_u32..=10_000).prop_map(|burst| ("USHER_PROVIDER__RATE__BURST".to_owned(), burst.to_string()));
    (others, rates, burst, 0_usize..5).prop_map(|(others, rates, burst, rate)| {
        let mut set = complete();
        set.extend(
            others
                .into_iter()
                .filter(|(.., is_set)| *is_set)
                .map(|(name, text, _)| (name, text)),
        );
        if let Some(rate) = rates.get(rate) {
            set.extend([rate.clone(), burst]);
        }
        set
    })
}

/// As the command line puts it together.
fn gate(config: &Config, provider: &dyn Provider) -> gate::Settings {
    gate::Settings {
        pace: pace::Settings {
            rates: config.provider.rate.clone(),
            share: config.provider.share,
            gap_max: config.retry.probe_gap_max,
            clock: Clock::System,
        },
        concurrency: config.provider.concurrency.get(),
        retry: config.retry.clone(),
        bulk_share_min: config.worker.bulk_share_min,
        guard: guard::Settings {
            share_max: config.worker.dead_letter_share_max,
            window: config.worker.dead_letter_window,
            doubts_configuration: true,
        },
        can_read: provider.reads(),
        seed: 1,
    }
}

/// Everything that reckons with the configuration's numbers.
async fn make_use_of(config: &Config) {
    let http = Http::new(http::Settings {
        base_url: config.provider.base_url.clone(),
        timeout: config.provider.timeout,
        token: Source::Value("t".into()),
        concurrency: config.provider.concurrency.get(),
        answers: Vec::new(),
    });
    let provider = Arc::new(karmo::adapter(&config.provider.karmo, http.unwrap()).unwrap());
    let settings = gate(config, &*provider);
    reckon(&settings.pace, &settings.retry);
    let topology = Topology::new("karmo", &config.broker);
    let broker = MemoryBroker::new(&topology);
    let worker = Worker::new(Setup {
        id: WorkerId::new("w"),
        consumer: broker.consumer(config.broker.prefetch()),
        publisher: broker.publisher_with(config.broker.confirm_timeout),
        fleet: Some(FleetSetup {
            listener: broker.listener(),
            exchange: topology.fleet_exchange(),
            ledger_window: config.broker.ledger_window,
            log_end_max: LOG_END_MAX,
        }),
        partitions: config.broker.partitions.get(),
        provider,
        provider_name: config.provider.name.clone(),
        config: config.worker.clone(),
        gate: settings,
        calls: Calls {
            timeout: config.provider.timeout,
            settling_time: config.provider.settling_time,
            read_lag: config.provider.read_lag(),
            skip_unchanged: config.provider.skip_unchanged,
            merge: config.provider.merge,
            on_ignored: config.provider.on_ignored,
        },
        hold_max: config.broker.hold_max,
        clock: Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap()),
        shutdown: Shutdown::new(),
        traces: None,
    });
    broker.finish_input();
    worker.run().await;
}

fn reckon(pace: &pace::Settings, retry: &retry::Config) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut delays = retry.backoff();
    for _ in 0..100 {
        delays.next_and_a_little(&mut rng);
    }
    let mut pace = pace::Pace::new(pace);
    for (held, of) in [(&[0][..], 1), (&[7], 256), (&[0, 1], 4)] {
        pace.set_quota_share(held, of);
        let mut now = Instant::now();
        for _ in 0..100 {
            match pace.take(now) {
                Ok(granted) if rng.bool() => {
                    let wait = rng.bool().then_some(Duration::MAX);
                    pace.throttled(granted, wait, now, &mut rng);
                    pace.end_pause();
                }
                Ok(granted) => pace.passed(granted),
                Err(at) => now = at,
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn extreme_quotas_cause_no_arithmetic_error() {
    let ends = |key: &Key| match key.bounds {
        Bounds::Whole(min, max) => [min.to_string(), max.to_string()],
        Bounds::Number(min, max) => [min.to_string(), max.to_string()],
        _ => panic!("{} is no number", key.name),
    };
    let keys = keys();
    let key = |name: &str| keys.iter().find(|key| key.name == name).unwrap();
    let (share, burst) = (key("provider.share"), key("provider.rate.burst"));
    let mut corners = 0;
    for rate in keys
        .iter()
        .filter(|key| key.name.starts_with("provider.rate.per_"))
    {
        for calls in ends(rate) {
            for share_text in ends(share) {
                for burst_text in ends(burst) {
                    let mut set = complete();
                    set.push((rate.variable(), calls.clone()));
                    set.push((share.variable(), share_text.clone()));
                    set.push((burst.variable(), burst_text));
                    let config = config::load(None, set).unwrap();
                    let settings = pace::Settings {
                        rates: config.provider.rate,
                        share: config.provider.share,
                        gap_max: config.retry.probe_gap_max,
                        clock: Clock::System,
                    };
                    reckon(&settings, &config.retry);
                    corners += 1;
                }
            }
        }
    }
    assert_eq!(corners, 32);
}

#[test]
fn a_worker_can_be_made_of_every_configuration_that_is_taken() {
    let cases = Cases {
        cases: 200,
        rng_seed: RngSeed::Fixed(20_261_121),
        failure_persistence: None,
        ..Cases::default()
    };
    let taken = Cell::new(0);
    TestRunner::new(cases)
        .run(&written(), |variables| {
            match config::load(None, variables) {
                Ok(config) => {
                    taken.set(taken.get() + 1);
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .start_paused(true)
                        .build()
                        .unwrap();
                    runtime.block_on(make_use_of(&config));
                }
                // Each key is within its bounds, so this is about two of them.
                Err(error) => prop_assert!(error.to_string().contains("must not be"), "{error}"),
            }
            Ok(())
        })
        .unwrap();
    assert!(taken.get() > 20, "only {} were taken", taken.get());
}
