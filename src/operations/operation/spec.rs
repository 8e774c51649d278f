//! What one operation is to do, as its event says it: another process reads it there to go on.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::DEFAULT_RATE_PER_SECOND;
use crate::contract::ProviderName;
use crate::contract::lifecycle::{Counts, Operation, OperationKind};
use crate::contract::notice::Learned;
use crate::operations::dead_letters::{Filter, Letter};

/// The highest rate of a redrive.
const MOST: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// How many dead letters are sent again in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(NonZeroU32);

impl Rate {
    pub fn per_second(count: NonZeroU32) -> Self {
        Self(count)
    }

    /// A tenth of the pace that the provider holds. A fleet that was never slowed down may just have had little to do.
    pub fn tenth_of(pace: &Learned) -> Self {
        let (pace, least) = match pace.slowdowns {
            0 => (pace.best, Self::default().0),
            _ => (pace.plateau, NonZeroU32::MIN),
        };
        // In range: a pace is at most PACE_MAX.
        let tenth = NonZeroU32::new((pace / 10.0) as u32).unwrap_or(NonZeroU32::MIN);
        Self(tenth.clamp(least, MOST))
    }

    pub fn gap(self) -> Duration {
        Duration::from_secs(1) / self.0.get()
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self(NonZeroU32::new(DEFAULT_RATE_PER_SECOND).unwrap_or(NonZeroU32::MIN))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix("/s").unwrap_or(text).parse().ok();
        number
            .filter(|rate: &NonZeroU32| *rate <= MOST)
            .map(Self)
            .ok_or("a rate is a whole number from 1 to 10000, such as 5/s")
    }
}

/// How dead letters are sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub rate: Rate,
    /// How many are sent first. The rest waits for their outcomes.
    pub canary: u64,
    /// The longest wait for outcomes.
    pub canary_timeout: Duration,
    /// To the exchange that each came from. Otherwise all are bulk traffic.
    pub interactive: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rate: Rate::default(),
            canary: 10,
            canary_timeout: Duration::from_secs(10 * 60),
            interactive: false,
        }
    }
}

/// The option with the time of the last dead letter that was planned for.
const DEAD_UNTIL: &str = "dead-until";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) id: Uuid,
    pub(super) provider: ProviderName,
    pub(super) kind: OperationKind,
    pub(super) by: String,
    pub(super) filter: Filter,
    /// Those that died later were not planned for.
    pub(super) dead_until: Timestamp,
    pub(super) options: Options,
}

impl Spec {
    pub(super) fn chooses(&self, letter: &Letter) -> bool {
        letter.addressed_to().is_some_and(|to| to == self.provider)
            && letter.dead_at.is_some_and(|at| at <= self.dead_until)
            && self.filter.matches(letter)
    }

    pub(super) fn told(&self, counts: Counts) -> Operation {
        let mut options = BTreeMap::from([(DEAD_UNTIL.to_owned(), self.dead_until.to_string())]);
        if self.kind == OperationKind::Redrive {
            let waits = SignedDuration::try_from(self.options.canary_timeout).unwrap_or(SignedDuration::MAX);
            options.extend([
                ("rate".to_owned(), self.options.rate.to_string()),
                ("canary".to_owned(), self.options.canary.to_string()),
                ("canary-timeout".to_owned(), format!("{waits:#}")),
                ("interactive".to_owned(), self.options.interactive.to_string()),
            ]);
        }
        Operation {
            operation_id: self.id,
            kind: self.kind,
            by: self.by.clone(),
            filter: self.filter.to_map(),
            options,
            counts,
        }
    }

    /// `None`: this version does not know it all.
    pub(super) fn of(provider: &ProviderName, told: &Operation) -> Option<Self> {
        let option = |name: &str| told.options.get(name).map(String::as_str);
        let defaults = Options::default();
        let options = match told.kind {
            OperationKind::Redrive => Options {
                rate: option("rate")?.parse().ok()?,
                canary: option("canary")?.parse().ok()?,
                canary_timeout: option("canary-timeout")?
                    .parse::<SignedDuration>()
                    .ok()?
                    .try_into()
                    .ok()?,
                interactive: option("interactive")?.parse().ok()?,
            },
            OperationKind::Discard => defaults,
            _ => return None,
        };
        Some(Self {
            id: told.operation_id,
            provider: provider.clone(),
            kind: told.kind,
            by: told.by.clone(),
            filter: Filter::from_map(&told.filter)?,
            dead_until: option(DEAD_UNTIL)?.parse().ok()?,
            options,
        })
    }
}

#[cfg(test)]
mod spec_tests {
    use super::*;

    #[test]
    fn an_operation_is_read_back_from_its_event() {
        let spec = Spec {
            id: Uuid::from_u128(7),
            provider: ProviderName::parse("sivo").unwrap(),
            kind: OperationKind::Redrive,
            by: "alex".to_owned(),
            filter: Filter {
                reasons: vec!["conflict".to_owned()],
                ..Filter::default()
            },
            dead_until: "2026-11-21T10:00:00.123Z".parse().unwrap(),
            options: Options {
                canary_timeout: Duration::from_secs(90),
                interactive: true,
                ..Options::default()
            },
        };
        let told = spec.told(Counts::default());
        assert_eq!(told.options["rate"], "5/s");
        assert_eq!(Spec::of(&spec.provider, &told), Some(spec.clone()));
        let discard = Spec {
            kind: OperationKind::Discard,
            options: Options::default(),
            ..spec
        };
        let told = discard.told(Counts::default());
        assert_eq!(Spec::of(&discard.provider, &told), Some(discard));
    }

    #[test]
    fn a_rate_is_a_number_per_second() {
        assert_eq!("7/s".parse::<Rate>().unwrap().gap(), Duration::from_secs(1) / 7);
        assert_eq!("7".parse::<Rate>(), "7/s".parse());
        for wrong in ["0", "-1", "x", "7/m", "10001"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
