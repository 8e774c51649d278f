//! One command's story: its events, its place, what it waits for and what ends that.

use super::{Findings, Moment, Place, Story};
use crate::contract::event::{Event, EventBody};
use crate::contract::inquiry::{Answer, CommandNow, PausedNow};
use jiff::Timestamp;

pub(super) fn story(id: &str, events: &[Event], held: Option<(&Answer, &CommandNow)>) -> Story {
    let mut timeline: Vec<_> = events.iter().map(moment).collect();
    let mut story = Story {
        command_id: id.to_owned(),
        user_id: events.last().and_then(|event| event.subject.clone()),
        batch_id: events.last().and_then(batch_of),
        state: Place::Begun,
        because: "it has begun, and no worker that answered has it in hand".to_owned(),
        ends: Some(
            "the broker delivers it again when its worker's connection is gone; if none runs, start one"
                .to_owned(),
        ),
        timeline: Vec::new(),
    };
    match events.last().map(|event| &event.body) {
        Some(EventBody::Success(succeeded)) => {
            story.state = Place::Succeeded;
            story.ends = None;
            story.because = match succeeded.changed {
                true => "it was applied".to_owned(),
                false => "the user already was as asked".to_owned(),
            };
        }
        Some(EventBody::Fail(failed)) => {
            story.state = Place::DeadLettered;
            story.because = format!("{}: {}", failed.error.reason, failed.error.detail);
            story.ends = Some(format!("its dead letter: `usher dead-letters show {id}`"));
        }
        Some(EventBody::Start(_)) | None => {}
    }
    if let Some((answer, command)) = held {
        in_hand(&mut story, &mut timeline, answer, command);
    }
    timeline.sort_by_key(|moment| moment.at);
    story.timeline = timeline;
    story
}

/// The pause for which the workers handed their commands back, if they did.
pub(super) fn long_pause(answers: &[Answer]) -> Option<&PausedNow> {
    let resting = answers
        .iter()
        .find(|answer| answer.in_hand == 0 && answer.leases.is_empty());
    let all_paused = answers.iter().all(|answer| answer.pause.is_some());
    resting.filter(|_| all_paused)?.pause.as_ref()
}

/// A command that has begun, and that nobody has in hand because calls are paused for long.
pub(super) fn handed_back(story: &mut Story, pause: &PausedNow) {
    if story.state == Place::Begun {
        story.because = format!(
            "its worker handed it back to the broker, because {}",
            described(pause)
        );
        story.ends = Some(end("pause", story, Some(pause), pause.until));
    }
}

fn described(pause: &PausedNow) -> String {
    let why = pause.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
    format!(
        "calls to the provider are paused ({}) since {}{why}",
        pause.cause, pause.since
    )
}

fn in_hand(story: &mut Story, timeline: &mut Vec<Moment>, answer: &Answer, command: &CommandNow) {
    story.state = Place::InHand;
    story.user_id.clone_from(&command.user_id);
    story.batch_id.clone_from(&command.batch_id);
    let worker = &answer.worker;
    timeline.push(Moment {
        at: command.received_at,
        what: format!(
            "worker {worker} received it from partition {}{}",
            command.partition,
            if command.redelivered {
                ", not for the first time"
            } else {
                ""
            }
        ),
    });
    timeline.extend(command.calls.iter().map(|call| Moment {
        at: call.at,
        what: format!(
            "{} call: {}{} after {} ms",
            call.kind,
            call.answer,
            call.status.map_or(String::new(), |status| format!(" ({status})")),
            call.took_ms
        ),
    }));
    let Some(waits) = &command.waits else {
        story.because = format!("worker {worker} is working on it this moment");
        story.ends = None;
        return;
    };
    let until = waits.until.or_else(|| answer.pause.as_ref()?.until);
    story.because = cause(&waits.cause, command, answer);
    story.ends = Some(end(&waits.cause, story, answer.pause.as_ref(), until));
    timeline.push(Moment {
        at: waits.since,
        what: format!("waits for {}", waits.cause),
    });
}

/// What the command waits for, in a sentence.
fn cause(wait: &str, command: &CommandNow, answer: &Answer) -> String {
    match wait {
        "order" => match &command.behind {
            Some(behind) => format!(
                "it waits behind {behind}, an earlier command of its user ({} come before it)",
                command.ahead
            ),
            None => "it waits for an earlier command of its user".to_owned(),
        },
        "log" => "it waits until the outcome log is read: an earlier run of it may have ended".to_owned(),
        "batch" => "its batch is paused by an operator".to_owned(),
        "alone" => "it waits to run alone, or for a command that does".to_owned(),
        "slot" => "it waits for room among the commands with a START and no call yet".to_owned(),
        "confirm" => "it waits for the broker's confirm of an event, a dead letter or a reply".to_owned(),
        "permit" => format!(
            "it waits for a permit: this worker may make {:.1} calls a second",
            answer.pace
        ),
        "pause" => match &answer.pause {
            Some(pause) => described(pause),
            None => "calls to the provider were paused".to_owned(),
        },
        "retry" => "it waits before its next attempt".to_owned(),
        "answer" => "the provider has not answered its call yet".to_owned(),
        "guard" => "it would be a dead letter, and too many were: the guard holds it back".to_owned(),
        other => format!("it waits for {other}"),
    }
}

/// What ends the wait.
fn end(wait: &str, story: &Story, pause: Option<&PausedNow>, until: Option<Timestamp>) -> String {
    let at = until.map_or(String::new(), |until| format!(" at {until}"));
    match wait {
        "order" => "the end of that command".to_owned(),
        "batch" => format!(
            "`usher batch resume {}`",
            story.batch_id.as_deref().unwrap_or("ID")
        ),
        "guard" => "`usher resume`, once what they have in common is fixed".to_owned(),
        "pause" => match pause.map(|pause| pause.cause.as_str()) {
            Some("operator") if until.is_none() => "`usher resume`".to_owned(),
            Some("dead_letters") => {
                "`usher resume`, once what the dead letters have in common is fixed".to_owned()
            }
            _ => format!("the next call{at}, or `usher resume`"),
        },
        "retry" => format!("the delay ends{at}"),
        "permit" => "its turn at the present pace (`usher pace show`)".to_owned(),
        "answer" => "the answer, or provider.timeout".to_owned(),
        "confirm" => "the broker: look for alarms and full queues".to_owned(),
        "log" => {
            "reading the log: look at the stream user.outcomes.log if it takes more than seconds".to_owned()
        }
        _ => "the progress of the worker's other commands (`usher waiting`)".to_owned(),
    }
}

fn batch_of(event: &Event) -> Option<String> {
    let started = match &event.body {
        EventBody::Start(started) => started,
        EventBody::Success(succeeded) => &succeeded.command,
        EventBody::Fail(failed) => &failed.command,
    };
    started.batch_id.as_ref().map(|batch| batch.as_str().to_owned())
}

fn moment(event: &Event) -> Moment {
    let attempts = |attempts: u32| match attempts {
        1 => "1 attempt".to_owned(),
        attempts => format!("{attempts} attempts"),
    };
    let what = match &event.body {
        EventBody::Start(started) => {
            let again = if started.redelivered {
                " (delivered before)"
            } else {
                ""
            };
            format!("START{again}")
        }
        EventBody::Success(succeeded) => format!(
            "SUCCESS{} after {}, {} ms{}",
            if succeeded.changed { "" } else { " (unchanged)" },
            attempts(succeeded.attempts),
            succeeded.duration_ms,
            succeeded
                .merged_into
                .map_or(String::new(), |id| format!("; applied by the call of {id}"))
        ),
        EventBody::Fail(failed) => format!(
            "FAIL {}{} after {}, {} ms",
            failed.error.reason,
            failed
                .error
                .status
                .map_or(String::new(), |status| format!(" ({status})")),
            attempts(failed.attempts),
            failed.duration_ms
        ),
    };
    Moment { at: event.time, what }
}

pub(super) fn not_seen(id: &str, findings: &Findings) -> Story {
    let log = match findings.complete {
        true => {
            let until = findings.until.map(|until| format!(" until {until}"));
            let (since, until) = (findings.since, until.unwrap_or_default());
            format!("the outcome log has nothing of it since {since}{until}")
        }
        false => "the part of the outcome log that was read has nothing of it".to_owned(),
    };
    let ends = match (findings.ready, findings.workers) {
        (0, _) => "it was not published, reached no queue (look into user.unroutable), has another id, or ended longer ago \
                   (`--since`)"
            .to_owned(),
        (ready, 0) => format!("it may be one of {ready} commands in the queues: no worker answers, start one"),
        (ready, _) => format!(
            "it may be one of {ready} commands in the queues, which no worker has received yet (`usher waiting`)"
        ),
    };
    Story {
        command_id: id.to_owned(),
        user_id: None,
        batch_id: None,
        state: Place::NotSeen,
        because: format!("no worker has it in hand, and {log}"),
        ends: Some(ends),
        timeline: Vec::new(),
    }
}
