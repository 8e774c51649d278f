//! The quota: no second has more calls than the whole fleet may make, and one in a hundred.

use std::collections::BTreeMap;
use std::time::Duration;

use super::evidence::{Evidence, Violation};

const WINDOW: Duration = Duration::from_secs(1);

/// What waits for a timer is served a moment later; after this process, that of a worker, where the machine is so busy that it
/// lets processes wait at all.
const SERVED_WITHIN: Duration = Duration::from_millis(100);

/// The most calls in any second, and when it began. Throttled calls count like those that were accepted.
pub fn fullest(evidence: &Evidence) -> (usize, Duration) {
    let windows = windows(evidence).map(|(first, count)| (count, evidence.arrivals[first].at));
    windows.max_by_key(|(count, _)| *count).unwrap_or_default()
}

pub fn quota(evidence: &Evidence) -> Vec<Violation> {
    let mut found: Vec<Violation> = Vec::new();
    for (first, count) in windows(evidence) {
        let at = evidence.arrivals[first].at;
        let latest = found.last().and_then(|violation| violation.at);
        if count as f64 <= allowed(evidence, at) || latest.is_some_and(|latest| at < latest + WINDOW) {
            continue;
        }
        let mut by_worker: BTreeMap<_, usize> = BTreeMap::new();
        for arrival in &evidence.arrivals[first..first + count] {
            *by_worker.entry(arrival.worker).or_default() += 1;
        }
        let by_worker: Vec<_> = by_worker
            .into_iter()
            .map(|(worker, count)| match worker {
                Some(worker) => format!("worker {worker}: {count}"),
                None => format!("nobody's: {count}"),
            })
            .collect();
        found.push(Violation {
            promise: "the quota is kept",
            what: format!(
                "{count} calls in a second where {:.0} are allowed ({})",
                allowed(evidence, at),
                by_worker.join(", ")
            ),
            user: None,
            at: Some(at),
        });
    }
    found
}

/// Calls that came while this process stood still are noted when it goes on: a second that begins there holds those
/// of the stall, too. A machine that lets one process wait lets the workers wait as long: what they were to send in
/// that time comes with it.
fn allowed(evidence: &Evidence, at: Duration) -> f64 {
    let begins_in = evidence
        .stalls
        .iter()
        .filter(|stall| at + stall.lag >= stall.at && at <= stall.at + SERVED_WITHIN);
    let lag = begins_in.map(|stall| stall.lag).max().unwrap_or_default();
    f64::from(evidence.quota) * (1.01 + 2.0 * lag.as_secs_f64())
}

/// For each call, how many come in the second that it begins.
fn windows(evidence: &Evidence) -> impl Iterator<Item = (usize, usize)> {
    let arrivals = &evidence.arrivals;
    let mut end = 0;
    (0..arrivals.len()).map(move |first| {
        while end < arrivals.len() && arrivals[end].at < arrivals[first].at + WINDOW {
            end += 1;
        }
        (first, end - first)
    })
}
