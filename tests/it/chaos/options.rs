//! How large a run is, and what it draws from its seed: the environment says the rest.

use std::env;
use std::str::FromStr;
use std::time::Duration;

use usher::provider::Kind;

use super::plan::Break;

/// A run without a seed of its own is the same one every time.
const SEED: u64 = 52;

#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    /// For so long commands are published and things are broken.
    pub seconds: u64,
    pub workers: usize,
    pub partitions: u16,
    /// Calls per second: the fleet's quota and the provider's.
    pub rate: u32,
    pub users: u32,
    /// Of all commands, those that are published again after a newer one of their user.
    pub twice: f64,
    /// From one break to the next, on average.
    pub gap: Duration,
    /// What alone may be broken; None: everything that the nodes allow.
    pub breaks: Option<Vec<Break>>,
    pub kind: Kind,
    pub prefetch: u16,
    /// A broker that takes deliveries back so early.
    pub consumer_timeout: Option<Duration>,
}

impl Options {
    pub fn from_env() -> Self {
        let seed = set("USHER_TEST_SEED").unwrap_or(SEED);
        let mut rng = fastrand::Rng::with_seed(seed);
        let kinds = [Kind::Zitadel, Kind::Zitadel, Kind::Zitadel, Kind::Karmo];
        let drawn_kind = kinds[rng.usize(..kinds.len())];
        let drawn_prefetch = [256, 256, 20, 4][rng.usize(..4)];
        let drawn_timeout = [0, 0, 0, 20][rng.usize(..4)];
        let timeout = set("USHER_TEST_CHAOS_CONSUMER_TIMEOUT").unwrap_or(drawn_timeout);
        Self {
            seed,
            seconds: set("USHER_TEST_CHAOS_SECONDS").unwrap_or(60),
            workers: set("USHER_TEST_CHAOS_WORKERS").unwrap_or(3),
            partitions: set("USHER_TEST_CHAOS_PARTITIONS").unwrap_or(4),
            rate: set("USHER_TEST_CHAOS_RATE").unwrap_or(200),
            users: set("USHER_TEST_CHAOS_USERS").unwrap_or(300),
            twice: set("USHER_TEST_CHAOS_TWICE").unwrap_or(0.02),
            gap: Duration::from_secs(set("USHER_TEST_CHAOS_GAP").unwrap_or(4)),
            breaks: breaks(),
            kind: set("USHER_TEST_CHAOS_KIND").unwrap_or(drawn_kind),
            prefetch: set("USHER_TEST_CHAOS_PREFETCH").unwrap_or(drawn_prefetch),
            consumer_timeout: (timeout > 0).then(|| Duration::from_secs(timeout)),
        }
    }

    /// What a run of the same plan is started with. Where its nodes are, the caller's shell knows.
    pub fn repeated_by(&self) -> String {
        let mut said = format!("USHER_TEST_SEED={}", self.seed);
        for (name, value) in env::vars().filter(|(name, _)| name.starts_with("USHER_TEST_CHAOS_")) {
            said += &format!(" {name}='{value}'");
        }
        said + " cargo test --test it -- chaos::a_fleet_that_is_broken_on_purpose"
    }
}

fn set<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let value = text.parse().ok();
    Some(value.unwrap_or_else(|| panic!("{name}: {text:?} can't be read")))
}

fn breaks() -> Option<Vec<Break>> {
    let text = env::var("USHER_TEST_CHAOS_BREAKS").ok()?;
    let named = |name: &str| {
        let known = Break::ALL.into_iter().find(|what| what.name() == name.trim());
        known.unwrap_or_else(|| {
            let all = Break::ALL.map(Break::name).join(", ");
            panic!("USHER_TEST_CHAOS_BREAKS: {name:?} is none of {all}")
        })
    };
    let names = text.split(',').filter(|name| !name.trim().is_empty());
    Some(names.map(named).collect())
}
