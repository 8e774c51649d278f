//! The account: nothing is lost, events balance, nobody dies unfairly, and workers end as they were asked to.

use std::collections::{HashMap, HashSet};

use super::breaking::Broken;
use super::command::{Command, is_taken};
use super::evidence::{Evidence, Violation};
use super::fleet::Asked;
use super::outcomes::DeadLetter;
use super::plan::Break;

fn of_command(promise: &'static str, command: Command, what: &str) -> Violation {
    Violation {
        promise,
        what: format!("command {}: {what}", command.n),
        user: Some(command.user),
        at: None,
    }
}

fn of_nobody(promise: &'static str, what: String) -> Violation {
    Violation {
        promise,
        what,
        user: None,
        at: None,
    }
}

/// Every confirmed command has its terminal event, a FAIL has its dead letter, and nothing waits any more.
pub fn nothing_is_lost(evidence: &Evidence) -> Vec<Violation> {
    const PROMISE: &str = "nothing is lost";
    let dead_letters: HashSet<_> = evidence
        .dead_letters
        .iter()
        .filter_map(|dead_letter| dead_letter.command)
        .collect();
    let (mut found, mut unsettled) = (Vec::new(), Vec::new());
    for command in &evidence.published {
        let events = evidence.account.events.get(command);
        let (succeeded, failed) = events.map_or((0, 0), |events| (events.succeeded, events.failed));
        if succeeded + failed == 0 {
            unsettled.push(of_command(PROMISE, *command, "it has no terminal event"));
        }
        if failed > 0 && !dead_letters.contains(command) {
            found.push(of_command(PROMISE, *command, "a FAIL without its dead letter"));
        }
        if failed == 0 && dead_letters.contains(command) {
            found.push(of_command(PROMISE, *command, "a dead letter without its FAIL"));
        }
    }
    let left: usize = evidence.left.iter().map(|(_, count)| *count as usize).sum();
    if !unsettled.is_empty() && unsettled.len() <= left {
        let what = format!(
            "{} commands are not settled yet; they are in the queues",
            unsettled.len()
        );
        found.push(of_nobody("everything ends in time", what));
    } else {
        found.append(&mut unsettled);
    }
    for (queue, count) in evidence.left.iter().filter(|(_, count)| *count > 0) {
        found.push(of_nobody(
            PROMISE,
            format!("{count} messages are left in {queue}"),
        ));
    }
    found
}

/// At least one START for each command, and exactly one terminal id for each run of it: a command that failed and comes
/// again, since it was sent twice or its ack was lost, is run again, and each of these runs has its dead letter. A
/// success changed the user at some time.
pub fn events_balance(evidence: &Evidence) -> Vec<Violation> {
    const PROMISE: &str = "events balance";
    let published: HashSet<_> = evidence.published.iter().collect();
    let written: HashSet<_> = evidence
        .writes
        .iter()
        .filter(|write| write.applied)
        .map(|write| (write.user, write.n))
        .collect();
    let dead_letters_of = |command: &Command| {
        let of_it = |dead_letter: &&DeadLetter| dead_letter.command == Some(*command);
        evidence.dead_letters.iter().filter(of_it).count()
    };
    let mut found = Vec::new();
    for (command, events) in &evidence.account.events {
        let mut say = |what: &str| found.push(of_command(PROMISE, *command, what));
        if !published.contains(command) {
            say("nobody published it");
        }
        if events.started == 0 {
            say("it has no START");
        }
        let ids = events.terminal_ids.len();
        let runs = if events.succeeded > 0 {
            1
        } else {
            dead_letters_of(command)
        };
        if ids > runs.max(1) || (events.succeeded > 0 && events.failed > 0) {
            say(&format!(
                "{ids} terminal ids, {} SUCCESS, {} FAIL",
                events.succeeded, events.failed
            ));
        }
        if events.succeeded > 0 && !written.contains(&(command.user, command.n)) {
            say("a SUCCESS, and the provider never took the value");
        }
    }
    found.sort_by_key(|violation| violation.user);
    for event in &evidence.account.of_nobody {
        found.push(of_nobody(
            PROMISE,
            format!("an event of nobody's command: {event}"),
        ));
    }
    found
}

/// Only a command that asks for what belongs to somebody else deserves a dead letter.
pub fn deaths_are_fair(evidence: &Evidence) -> Vec<Violation> {
    const PROMISE: &str = "no unfair death";
    let mut found = Vec::new();
    for dead_letter in &evidence.dead_letters {
        let reason = dead_letter
            .reason
            .as_deref()
            .unwrap_or("none of ours: the broker's own");
        match dead_letter.command {
            Some(command) if is_taken(command) && reason == "conflict" => {}
            Some(command) => found.push(of_command(PROMISE, command, &format!("a dead letter, {reason}"))),
            None => found.push(of_nobody(
                PROMISE,
                format!("a dead letter of nobody's command, {reason}"),
            )),
        }
    }
    let succeeded: HashMap<_, _> = evidence
        .account
        .events
        .iter()
        .filter(|(_, events)| events.succeeded > 0)
        .collect();
    for command in succeeded.into_keys().filter(|command| is_taken(**command)) {
        found.push(of_command(
            PROMISE,
            *command,
            "a SUCCESS, and the provider refuses its value",
        ));
    }
    found
}

/// A worker that drains ends with 0, or with 3 where something else was broken, so that the grace period could run
/// out; nobody ends by itself or panics.
pub fn workers_end_as_asked(evidence: &Evidence) -> Vec<Violation> {
    const PROMISE: &str = "workers end as asked";
    let mut found = Vec::new();
    for ended in &evidence.ended {
        let as_asked = match ended.asked {
            Asked::ToDrain => {
                ended.code == Some(0) || (ended.code == Some(3) && hindered(evidence, ended.number))
            }
            Asked::Killed => ended.code.is_none(),
        };
        if !as_asked {
            let what = format!(
                "worker {} was {:?} and ended with {:?}",
                ended.number, ended.asked, ended.code
            );
            found.push(of_nobody(PROMISE, what));
        }
        if ended.said.contains("a defect of usher") {
            found.push(of_nobody(PROMISE, format!("worker {} panicked", ended.number)));
        }
    }
    found
}

/// Whether something else was broken while it drained.
fn hindered(evidence: &Evidence, worker: u32) -> bool {
    let is_its = |broken: &&Broken| broken.what == Break::Drain && broken.worker == Some(worker);
    let drain = evidence.broken.iter().find(is_its);
    drain.is_some_and(|drain| {
        let others = evidence.broken.iter().filter(|broken| *broken != drain);
        others
            .into_iter()
            .any(|other| other.from <= drain.to && drain.from <= other.to)
    })
}
