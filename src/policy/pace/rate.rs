//! The configured quota: calls per second, minute, hour or day, or several of these.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use super::CATCH_UP;
use super::hours::{Between, Zone};

/// The share of a quota that is used. The rest allows for clocks that differ and calls that overtake each
/// other on the network: at the full quota, one call in fifty would come too early.
const USED: f64 = 0.98;

/// A call in the limiter's units, so that fractions of a call can be allowed.
const UNITS: u32 = 1000;

/// The longest time to save up a burst: the limiter counts nanoseconds in 64 bits, and would overflow.
const SAVED_MAX: Duration = Duration::from_secs(36_500 * 24 * 3600);

/// One quota of the whole fleet: exactly one of the four windows, and a burst if the provider allows one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(
    with = "Written",
    extend("oneOf" = [
        { "required": ["per_second"] }, { "required": ["per_minute"] },
        { "required": ["per_hour"] }, { "required": ["per_day"] }
    ])
)]
pub struct Rate {
    calls: NonZeroU32,
    window: Duration,
    burst: NonZeroU32,
    /// When it holds; `None`: always.
    hours: Option<(Between, Zone)>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rate")]
struct Written {
    /// Calls in any second.
    #[serde(default)]
    #[schemars(with = "NonZeroU32", range(max = 1_000_000), extend("examples" = [50]))]
    per_second: Option<NonZeroU32>,
    /// Calls in any minute; they are spread over it.
    #[serde(default)]
    #[schemars(with = "NonZeroU32", range(max = 60_000_000))]
    per_minute: Option<NonZeroU32>,
    /// Calls in any hour; they are spread over it.
    #[serde(default)]
    #[schemars(with = "NonZeroU32", range(max = 3_600_000_000_u32))]
    per_hour: Option<NonZeroU32>,
    /// Calls in any day; they are spread over it.
    #[serde(default)]
    #[schemars(with = "NonZeroU32", range(max = 4_000_000_000_u32))]
    per_day: Option<NonZeroU32>,
    /// Calls that may be made at once after an idle time. Default: 1.
    #[serde(default)]
    #[schemars(with = "NonZeroU32", range(max = 10_000))]
    burst: Option<NonZeroU32>,
    /// The hours of the day in which this quota holds. Default: all.
    #[serde(default)]
    #[schemars(with = "Between")]
    between: Option<Between>,
    /// The time zone of `between`. Default: UTC.
    #[serde(default)]
    #[schemars(with = "Zone")]
    time_zone: Option<Zone>,
}

impl TryFrom<Written> for Rate {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let windows = [
            (written.per_second, 1),
            (written.per_minute, 60),
            (written.per_hour, 3600),
            (written.per_day, 86_400),
        ];
        let mut given = windows
            .into_iter()
            .filter_map(|(calls, seconds)| Some((calls?, Duration::from_secs(seconds))));
        let hours = match (written.between, written.time_zone) {
            (None, Some(_)) => {
                return Err("time_zone without between, expected the hours in which this quota holds");
            }
            (between, zone) => between.map(|between| (between, zone.unwrap_or_default())),
        };
        match (given.next(), given.next()) {
            (Some((calls, window)), None) => Ok(Self {
                calls,
                window,
                burst: written.burst.unwrap_or(NonZeroU32::MIN),
                hours,
            }),
            _ => Err(
                "no window or several, expected one of per_second, per_minute, per_hour and per_day in each table",
            ),
        }
    }
}

impl Rate {
    pub fn per_second(calls: NonZeroU32) -> Self {
        Self {
            calls,
            window: Duration::from_secs(1),
            burst: NonZeroU32::MIN,
            hours: None,
        }
    }

    /// The used share of the quota, in calls per second.
    fn used(&self, share: f64) -> f64 {
        self.in_a_second() * share * USED
    }

    /// The whole quota, in calls per second.
    fn in_a_second(&self) -> f64 {
        f64::from(self.calls.get()) / self.window.as_secs_f64()
    }

    /// Within any window, the calls of the burst and those of the pace together stay below the quota.
    fn quota(&self, share: f64, quota_share: f64, at_once: usize) -> Option<Quota> {
        let per_second = self.used(share) * quota_share;
        if per_second <= 0.0 {
            return None;
        }
        let unit = Duration::from_secs_f64(1.0 / (per_second * f64::from(UNITS)));
        let burst = (f64::from(self.burst.get()) * quota_share)
            .max(at_once as f64)
            .min(SAVED_MAX.as_secs_f64() * per_second)
            .max(1.0);
        let burst = burst + per_second * CATCH_UP.as_secs_f64();
        // Saturates, and is at least one call.
        let units = NonZeroU32::new((burst * f64::from(UNITS)) as u32)?;
        Some(Quota::with_period(unit)?.allow_burst(units))
    }
}

/// One quota or several, all of which apply in their hours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates(Vec<Rate>);

impl From<Rate> for Rates {
    fn from(rate: Rate) -> Self {
        Self(vec![rate])
    }
}

impl Rates {
    /// The lowest pace that uses this share of them, in calls per second; `None`: there are none.
    pub fn ceiling(&self, share: f64) -> Option<f64> {
        self.0.iter().map(|rate| rate.used(share)).reduce(f64::min)
    }

    /// The lowest of the quotas themselves, in calls per second.
    pub fn lowest(&self) -> Option<f64> {
        self.0.iter().map(Rate::in_a_second).reduce(f64::min)
    }

    /// Those that hold at this time.
    pub(super) fn at(&self, now: Timestamp) -> Self {
        let holds = |rate: &&Rate| {
            let hours = rate.hours.as_ref();
            hours.is_none_or(|(between, zone)| between.contains(now, zone))
        };
        Self(self.0.iter().filter(holds).cloned().collect())
    }

    /// Whether some hold at certain hours alone.
    pub(super) fn have_hours(&self) -> bool {
        self.0.iter().any(|rate| rate.hours.is_some())
    }

    /// Whether several calls may be made at once.
    pub(super) fn has_bursts(&self) -> bool {
        self.0.iter().any(|rate| rate.burst.get() > 1)
    }
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Rates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quota such as { per_second = 50 }, or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rates, A::Error> {
                Rate::deserialize(MapAccessDeserializer::new(map)).map(Rates::from)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Rates, A::Error> {
                let rates = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                match rates.is_empty() {
                    true => Err(A::Error::custom(
                        "nothing, expected at least one quota in the list",
                    )),
                    false => Ok(Rates(rates)),
                }
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl JsonSchema for Rates {
    fn schema_name() -> Cow<'static, str> {
        "Rates".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Rate>();
        json_schema!({
            "oneOf": [one, { "type": "array", "items": one, "minItems": 1 }],
            "examples": [{ "per_second": 50 }]
        })
    }
}

/// governor's arithmetic on tokio's clock, which tests can pause.
#[derive(Debug, Clone, Copy)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

const ONE_CALL: NonZeroU32 = match NonZeroU32::new(UNITS) {
    Some(units) => units,
    None => NonZeroU32::MIN,
};

#[derive(Debug)]
struct Held {
    quota: Quota,
    limiter: Limiter,
    /// This quota has granted the next call, and another has not yet.
    given: bool,
}

/// The configured quotas at work.
#[derive(Debug)]
pub(super) struct Quotas {
    clock: TokioClock,
    held: Vec<Held>,
}

impl Quotas {
    /// `quota_share`: this worker's share of the used quota. `at_once`: how many of its slots may follow each other directly.
    pub(super) fn new(rates: &Rates, share: f64, quota_share: f64, at_once: usize) -> Self {
        let clock = TokioClock {
            start: Instant::now(),
        };
        let held = rates.0.iter().filter_map(|rate| {
            let quota = rate.quota(share, quota_share, at_once)?;
            Some(Held {
                quota,
                limiter: RateLimiter::direct_with_clock(quota, clock),
                given: false,
            })
        });
        Self {
            clock,
            held: held.collect(),
        }
    }

    /// Takes one call from each quota, or says when to ask again. A quota that granted while another refused
    /// keeps its grant for the next time.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let mut refused = None;
        for held in self.held.iter_mut().filter(|held| !held.given) {
            match held.limiter.check_n(ONE_CALL) {
                Ok(Ok(())) => held.given = true,
                Ok(Err(not_until)) => {
                    let at = now + not_until.wait_time_from(self.clock.now());
                    refused = refused.max(Some(at));
                }
                // A burst holds one call at least.
                Err(_) => held.given = true,
            }
        }
        match refused {
            Some(at) => Err(at),
            None => {
                for held in &mut self.held {
                    held.given = false;
                }
                Ok(())
            }
        }
    }

    /// After a pause: drops what was saved up, so that it is not spent at once.
    pub(super) fn forget_savings(&mut self) {
        for held in &mut self.held {
            // A new one is full.
            held.limiter = RateLimiter::direct_with_clock(held.quota, self.clock);
            let _ = held.limiter.check_n(held.quota.burst_size());
            held.given = false;
        }
    }
}
