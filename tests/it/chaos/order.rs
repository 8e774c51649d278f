//! Order: one user's calls begin in the order of publishing, none is made twice without a reason, and no two of
//! them run at the same time. And the last value stands.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Command, is_taken};
use super::evidence::{Evidence, Violation, Write};

/// How the call of a command ends that asks for what belongs to somebody else.
const REFUSED: &str = "409";

fn violation(promise: &'static str, what: String, write: &Write) -> Violation {
    Violation {
        promise,
        what,
        user: Some(write.user),
        at: Some(write.at),
    }
}

/// The numbers of started calls never go back; the same number comes again only where the call before did not end
/// well, or where a break lies between. A command that the provider has refused and that comes again, since it was sent
/// twice, is run again where it stands then, at the end: those calls change nothing.
pub fn order(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for writes in evidence.writes_by_user().into_values() {
        let mut newest: Option<&Write> = None;
        let mut refused = BTreeSet::new();
        for write in writes {
            if evidence.is_of_a_waking_worker(write) || refused.contains(&write.n) {
                continue;
            }
            let command = Command {
                user: write.user,
                n: write.n,
            };
            if is_taken(command) && write.end == REFUSED {
                refused.insert(write.n);
            }
            if let Some(before) = newest {
                if write.n < before.n {
                    let what = format!("a call goes back from {} to {}", before.n, write.n);
                    found.push(violation("order", what, write));
                    continue;
                }
                if write.n == before.n && before.clean && !evidence.broke_between(before, write) {
                    let what = format!(
                        "{} is sent again, though it was answered and nothing broke",
                        write.n
                    );
                    found.push(violation("order", what, write));
                }
            }
            newest = Some(write);
        }
    }
    found
}

/// A killed worker's calls are cut with its connections, and who gives a call up closes its connection and waits
/// before the next: both are over for the provider by the time of the next call, and no excuse. A call that a
/// worker frozen for long has out is one: nothing can end it.
pub fn overlaps(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for writes in evidence.writes_by_user().into_values() {
        let mut open: Vec<&Write> = Vec::new();
        for write in writes {
            open.retain(|earlier| earlier.ended.is_none_or(|ended| ended > write.at));
            let excused = |earlier: &&&Write| {
                evidence.is_of_a_waking_worker(write)
                    || evidence.is_of_a_waking_worker(earlier)
                    || evidence.froze_within(earlier)
            };
            if let Some(earlier) = open.iter().find(|earlier| !excused(earlier)) {
                let what = format!("a call of {} begins while one of {} runs", write.n, earlier.n);
                found.push(violation("no overlap", what, write));
            }
            open.push(write);
        }
    }
    found
}

/// Each user is as the last of its commands asked that the provider could take.
pub fn last_values(evidence: &Evidence) -> Vec<Violation> {
    let mut wanted = BTreeMap::new();
    for command in evidence.published.iter().filter(|command| !is_taken(**command)) {
        let newest = wanted.entry(command.user).or_insert(command.n);
        *newest = command.n.max(*newest);
    }
    let writes = evidence.writes_by_user();
    let mut found = Vec::new();
    for (user, n) in wanted {
        let stands = evidence.last.get(&user).copied().flatten();
        let last_write = writes
            .get(&user)
            .and_then(|writes| writes.iter().rfind(|write| write.applied));
        if stands == Some(n) || last_write.is_some_and(|write| evidence.is_of_a_waking_worker(write)) {
            continue;
        }
        found.push(Violation {
            promise: "the last value stands",
            what: format!("command {n} was the last, and the value is that of {stands:?}"),
            user: Some(user),
            at: last_write.map(|write| write.at),
        });
    }
    found
}
