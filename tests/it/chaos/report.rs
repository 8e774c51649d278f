//! What a run says: one line of numbers; and where a promise was not kept, the calls around it and what was broken
//! then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;
use std::{env, fs};

use super::evidence::{Evidence, Violation, Write};
use super::options::Options;
use super::plan::Break;
use super::quota::fullest;

/// This many violations are shown in full.
const SHOWN_MAX: usize = 12;
/// Calls of the same user before and after.
const AROUND: usize = 5;

/// What the evidence does not hold.
pub struct Tally {
    pub repeats: u64,
    /// While something waited to be settled.
    pub busy: Duration,
    pub accepted: u64,
    pub throttled: u64,
    /// From the start to the moment at which nothing was left to do.
    pub took: Duration,
}

pub fn summary(options: &Options, evidence: &Evidence, tally: &Tally) -> String {
    let mut breaks: BTreeMap<&str, usize> = BTreeMap::new();
    for broken in &evidence.broken {
        *breaks.entry(broken.what.name()).or_default() += 1;
    }
    let breaks: Vec<_> = breaks
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let (fullest, at) = fullest(evidence);
    let used = tally.accepted as f64 / (f64::from(options.rate) * tally.busy.as_secs_f64().max(0.001));
    let stall = evidence
        .stalls
        .iter()
        .map(|stall| stall.lag)
        .max()
        .unwrap_or_default();
    let waking = evidence
        .writes
        .iter()
        .filter(|write| evidence.is_of_a_waking_worker(write))
        .count();
    format!(
        "chaos: seed {} · {} workers, {} partitions, {}, prefetch {} · {:.0} s, at rest after {:.0} s · {} commands, \
         {} sent twice · {} events, {} dead letters · {} calls, {} accepted, {} answered 429 · hand-overs {} · \
         fullest second {fullest} of {} at {:.1} s, longest stall of this process {} ms · calls of waking workers \
         {waking} · used {:.0} % of the quota in {:.0} s with work · breaks: {}",
        options.seed,
        options.workers,
        options.partitions,
        options.kind,
        options.prefetch,
        options.seconds,
        tally.took.as_secs_f64(),
        evidence.published.len(),
        tally.repeats,
        evidence.account.event_count,
        evidence.dead_letters.len(),
        evidence.arrivals.len(),
        tally.accepted,
        tally.throttled,
        hand_overs(evidence),
        evidence.quota,
        at.as_secs_f64(),
        stall.as_millis(),
        used * 100.0,
        tally.busy.as_secs_f64(),
        breaks.join(", "),
    )
}

/// Pairs of workers of which the second went on with users of the first.
fn hand_overs(evidence: &Evidence) -> usize {
    let by_user = evidence.writes_by_user();
    let pairs = by_user.values().flat_map(|writes| writes.windows(2));
    let pairs: BTreeSet<_> = pairs.map(|pair| (pair[0].worker, pair[1].worker)).collect();
    pairs.into_iter().filter(|(from, to)| from != to).count()
}

pub fn violations(options: &Options, evidence: &Evidence, found: &[Violation]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in found {
        *counts.entry(violation.promise).or_default() += 1;
    }
    let mut text = format!("seed {}: promises not kept: {counts:?}\n", options.seed);
    // Some of each promise, not all of one.
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in found {
        let shown = shown.entry(violation.promise).or_default();
        *shown += 1;
        if *shown <= SHOWN_MAX / counts.len().max(1) + 1 {
            describe(&mut text, evidence, violation);
        }
    }
    let _ = writeln!(text, "all of it: {}", keep(options, evidence, found));
    let _ = writeln!(text, "again: {}", options.repeated_by());
    text
}

fn describe(text: &mut String, evidence: &Evidence, violation: &Violation) {
    let user = violation
        .user
        .map(|user| format!(", user {user}"))
        .unwrap_or_default();
    let at = violation
        .at
        .map(|at| format!(" at {}", seconds(at)))
        .unwrap_or_default();
    let _ = writeln!(text, "- {}{user}{at}: {}", violation.promise, violation.what);
    let by_user = evidence.writes_by_user();
    let writes = violation
        .user
        .and_then(|user| by_user.get(&user))
        .map_or(&[][..], Vec::as_slice);
    let place = match violation.at {
        Some(at) => writes
            .iter()
            .position(|write| write.at >= at)
            .unwrap_or(writes.len()),
        None => writes.len(),
    };
    let around = place.saturating_sub(AROUND)..(place + AROUND).min(writes.len());
    for write in &writes[around] {
        let _ = writeln!(text, "    {}", line(write));
    }
    let at = violation.at.or_else(|| writes.last().map(|write| write.at));
    if let Some((broken, distance)) = at.and_then(|at| evidence.nearest(at)) {
        let (from, to) = (seconds(broken.from), seconds(broken.to));
        let worker = broken
            .worker
            .map(|worker| format!(" of worker {worker}"))
            .unwrap_or_default();
        let name = broken.what.name();
        let _ = writeln!(
            text,
            "    nearest: {name}{worker} from {from} to {to}, {} away",
            seconds(distance)
        );
    }
}

fn line(write: &Write) -> String {
    let worker = write
        .worker
        .map_or("nobody".to_owned(), |worker| format!("worker {worker}"));
    let ended = write.ended.map_or("never".to_owned(), seconds);
    let applied = if write.applied { "applied" } else { "not applied" };
    format!(
        "{} to {ended} {worker} n={} {} {applied}",
        seconds(write.at),
        write.n,
        write.end
    )
}

fn seconds(at: Duration) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

/// Writes down everything; answers where.
pub fn keep(options: &Options, evidence: &Evidence, found: &[Violation]) -> String {
    let name = format!("usher-chaos-{}-{}", options.seed, std::process::id());
    let folder = env::temp_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    let lines = |lines: Vec<String>| lines.join("\n");
    let calls = evidence
        .writes
        .iter()
        .map(|write| format!("user {} {}", write.user, line(write)));
    let arrivals = evidence
        .arrivals
        .iter()
        .map(|call| format!("{} {:?}", seconds(call.at), call.worker));
    let broken = evidence.broken.iter().map(|broken| format!("{broken:?}"));
    let stalls = evidence.stalls.iter().map(|stall| format!("{stall:?}"));
    let events = evidence
        .account
        .events
        .iter()
        .map(|(command, events)| format!("{command:?} {events:?}"));
    for (name, text) in [
        (
            "violations",
            lines(found.iter().map(|violation| format!("{violation:?}")).collect()),
        ),
        ("writes", lines(calls.collect())),
        ("arrivals", lines(arrivals.collect())),
        ("breaks", lines(broken.collect())),
        ("stalls", lines(stalls.collect())),
        ("events", lines(events.collect())),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    for ended in &evidence.ended {
        fs::write(folder.join(format!("worker-{}", ended.number)), &ended.said).unwrap();
    }
    folder.display().to_string()
}

/// Of the plan, what was carried out.
pub fn left_out(planned: usize, evidence: &Evidence) -> String {
    let done = evidence.broken.len();
    let kinds: BTreeSet<_> = evidence.broken.iter().map(|broken| broken.what).collect();
    let never: Vec<_> = Break::ALL
        .into_iter()
        .filter(|what| !kinds.contains(what))
        .collect();
    let never: Vec<_> = never.into_iter().map(Break::name).collect();
    format!(
        "chaos: {done} of {planned} planned breaks; never: {}",
        never.join(", ")
    )
}
