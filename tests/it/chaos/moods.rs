//! The provider's bad moods: several at a time, and what they come to together.

use std::sync::{Mutex, PoisonError};

use usher::simulator::{Faults, Simulated};

use super::plan::Break;

/// The share of the calls that one mood spoils.
const SHARE: f64 = 0.2;
/// Together no more, so that ten attempts are enough for everybody.
const SHARE_MAX: f64 = 0.3;

const SLOW_MS: u64 = 600;
/// Longer than the workers wait.
const TOO_SLOW_MS: u64 = 3000;

/// What the provider bears: three times the quota. A fleet that goes beyond its quota is to be seen doing so,
/// and not to be stopped by the first 429.
pub fn bears(rate: u32) -> u32 {
    rate * 3
}

pub struct Moods {
    rate: u32,
    now: Mutex<Vec<(Break, u64)>>,
}

impl Moods {
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            now: Mutex::default(),
        }
    }

    pub fn begin(&self, provider: &Simulated, what: Break, dice: u64) {
        self.change(provider, what, |now| now.push((what, dice)));
    }

    pub fn end(&self, provider: &Simulated, what: Break, dice: u64) {
        self.change(provider, what, |now| {
            let index = now.iter().position(|mood| *mood == (what, dice));
            now.remove(index.unwrap());
        });
    }

    fn change(&self, provider: &Simulated, what: Break, change: impl FnOnce(&mut Vec<(Break, u64)>)) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let before = now.iter().filter(|mood| mood.0 == what).count();
        change(&mut now);
        let after = now.iter().filter(|mood| mood.0 == what).count();
        let turned = (before == 0) != (after == 0);
        match what {
            // Another rate begins with an empty window: only where it changes.
            Break::HalfTheRate if turned => {
                let rate = if after == 0 {
                    bears(self.rate)
                } else {
                    self.rate / 2
                };
                provider.set_rate(Some(rate), 1);
            }
            Break::TokenRevoked if turned => {
                provider.set_token((after > 0).then(|| "nobody's".to_owned()));
            }
            _ => provider.set_faults(together(&now)),
        }
    }
}

fn together(now: &[(Break, u64)]) -> Faults {
    let mut faults = Faults {
        slow_ms: SLOW_MS,
        ..Faults::default()
    };
    for (what, dice) in now {
        match what {
            Break::Broken => faults.broken += SHARE,
            Break::DropBefore => faults.drop_before += SHARE,
            Break::DropAfter => faults.drop_after += SHARE,
            Break::Slow => faults.slow += SHARE,
            Break::TooSlow => {
                faults.slow += SHARE;
                faults.slow_ms = TOO_SLOW_MS;
            }
            Break::Garbage => faults.garbage += SHARE,
            Break::ThrottleAfter => faults.throttle_after += SHARE,
            Break::BrokenAfter => faults.broken_after += SHARE,
            Break::Outage => {
                let (broken, drop_before) = if dice % 2 == 0 { (1.0, 0.0) } else { (0.0, 1.0) };
                return Faults {
                    broken,
                    drop_before,
                    ..Faults::default()
                };
            }
            _ => {}
        }
    }
    bounded(faults)
}

fn bounded(mut faults: Faults) -> Faults {
    let shares = [
        &mut faults.broken,
        &mut faults.drop_before,
        &mut faults.drop_after,
        &mut faults.slow,
        &mut faults.garbage,
        &mut faults.throttle_after,
        &mut faults.broken_after,
    ];
    let sum: f64 = shares.iter().map(|share| **share).sum();
    if sum > SHARE_MAX {
        for share in shares {
            *share *= SHARE_MAX / sum;
        }
    }
    faults
}

#[test]
fn the_provider_moods_stay_within_ten_attempts() {
    let three = [(Break::Broken, 0), (Break::Slow, 0), (Break::Garbage, 0)];
    let faults = together(&three);
    assert!((faults.broken + faults.slow + faults.garbage - SHARE_MAX).abs() < 1e-9);
    assert_eq!(
        together(&[(Break::Broken, 0), (Break::Outage, 1)]).drop_before,
        1.0
    );
    assert_eq!(together(&[]).broken, 0.0);
}
