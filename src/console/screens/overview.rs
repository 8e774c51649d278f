//! Is it well? One sentence, and what it follows from.

use jiff::{SignedDuration, Timestamp};

use super::fleet::{Fleet, mood_of, orders, waiting};
use super::{Ask, age, counted};
use crate::console::block::{Block, Cell, Mood, Table, number};
use crate::console::hour::Hour;
use crate::console::letters::Snapshot;
use crate::console::link::Trouble;
use crate::console::{Console, Seen, chart};
use crate::contract::inquiry::PausedNow;

/// From this share of failures on, it is not well.
const FAILURES_MANY: f64 = 0.2;

const DAY: SignedDuration = SignedDuration::from_hours(24);

pub async fn shown(console: &Console, ask: Ask<'_>) -> Result<Vec<Block>, Trouble> {
    let (fleet, letters) = tokio::join!(console.fleet(ask), console.snapshot(ask));
    let (fleet, now, hour) = (fleet?, console.clock.now(), console.following.hour());
    // Without permission for the dead letters, the rest is shown.
    let letters = match letters {
        Err(Trouble::Refused(reason)) => Err(reason),
        letters => Ok(letters?),
    };
    let (mood, text) = verdict(&fleet.value, &hour, now);
    let mut blocks = vec![Block::Verdict { mood, text }];
    // The other causes are told in the facts, or as an order.
    let own = |pause: &&PausedNow| matches!(pause.cause.as_str(), "dead_letters" | "worker");
    if let Some(why) = pause(&fleet.value)
        .filter(own)
        .and_then(|pause| pause.why.as_deref())
    {
        blocks.push(Block::note(Mood::Bad, why));
    }
    blocks.extend(orders(&fleet.value, now));
    blocks.extend(pace(console, &fleet.value, &hour, now));
    blocks.push(health(console, &fleet.value, now).await);
    blocks.extend(last_hour(&fleet.value, &hour));
    blocks.push(Block::Table(waiting(&fleet.value, now)));
    blocks.extend(dead_letters(letters, now));
    Ok(blocks)
}

/// The pause that most workers have.
fn pause(fleet: &Fleet) -> Option<&PausedNow> {
    fleet.answers.iter().find_map(|answer| answer.pause.as_ref())
}

fn why_paused(cause: &str) -> &str {
    match cause {
        "throttled" => "the provider asked to wait",
        "outage" => "the provider fails for every user, or can't be reached",
        "credentials" => "the provider refuses the credentials",
        "configuration" => "the provider refuses the form of the requests",
        "dead_letters" => "too many commands failed for one reason",
        "operator" => "an operator paused it",
        other => other,
    }
}

fn verdict(fleet: &Fleet, hour: &Hour, now: Timestamp) -> (Mood, String) {
    if fleet.answers.is_empty() {
        let waits = match fleet.ready() {
            0 => String::new(),
            ready => format!(" {} in the queues.", counted(ready, "command")),
        };
        return (Mood::Bad, format!("Not well: no worker answers.{waits}"));
    }
    if let Some(order) = fleet.pause(now) {
        let what = if order.bulk_only {
            "bulk traffic"
        } else {
            "the provider"
        };
        return (
            Mood::Waits,
            format!("{} paused {what}: {}", order.by, order.reason),
        );
    }
    if let Some(pause) = pause(fleet) {
        let why = why_paused(&pause.cause);
        let mood = mood_of(&pause.cause);
        let well = if mood == Mood::Bad { "Not well" } else { "Waiting" };
        return (mood, format!("{well}: calls are paused, because {why}."));
    }
    if fleet.unheld() > 0 {
        let unheld = counted(fleet.unheld() as u64, "partition");
        return (
            Mood::Bad,
            format!("Not well: no worker that answers holds {unheld}."),
        );
    }
    let (failed, ended) = (hour.all.failed, hour.all.ended());
    if ended > 0 && failed as f64 / ended as f64 >= FAILURES_MANY {
        let text = format!(
            "Not well: {} of {} failed in the last hour.",
            number(failed),
            counted(ended, "command")
        );
        return (Mood::Bad, text);
    }
    match failed {
        0 => (
            Mood::Good,
            "All is well: nothing failed in the last hour.".to_owned(),
        ),
        failed => {
            let (failed, ended) = (number(failed), counted(ended, "command"));
            (
                Mood::Good,
                format!("It works: {failed} of {ended} failed in the last hour."),
            )
        }
    }
}

/// One gauge, with the reason for the present pace.
fn pace(console: &Console, fleet: &Fleet, hour: &Hour, now: Timestamp) -> Vec<Block> {
    let allowed = fleet.pace();
    let does = hour.last_minute.ended() as f64 / 60.0;
    let learned = fleet.heard.notices.first().map(|notice| notice.pace);
    let top = console
        .quota
        .unwrap_or_else(|| learned.map_or(allowed, |pace| pace.best));
    let reason = match (fleet.pause(now), pause(fleet), fleet.pin(now), learned) {
        (Some(_), ..) | (_, Some(_), ..) => "calls are paused".to_owned(),
        (.., Some(pin), _) => format!("{} pinned it to {}/s", pin.by, pin.per_second),
        (.., Some(learned)) if learned.slowdowns > 0 => format!(
            "learned: the provider slowed the fleet down {}, and held {:.1}/s after the last time",
            match learned.slowdowns {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            },
            learned.plateau
        ),
        (.., Some(_)) => "the provider has not slowed the fleet down".to_owned(),
        (.., None) => "no worker tells".to_owned(),
    };
    let quota = match console.quota {
        Some(quota) => Cell::Amount(format!("{quota:.1}/s")),
        None => Cell::text("not configured here; the pace is learned"),
    };
    vec![
        Block::Drawing {
            title: "Pace".to_owned(),
            svg: chart::gauge(
                "The pace, as in the legend below",
                does,
                Some(allowed),
                top.max(allowed).max(does),
            ),
            legend: vec![
                ("bar", format!("{does:.1} commands/s ended in the last minute")),
                ("mark", format!("{allowed:.1} calls/s allowed now")),
            ],
        },
        Block::Facts(vec![
            ("Quota".to_owned(), vec![quota]),
            ("Why this pace".to_owned(), vec![Cell::text(reason)]),
        ]),
    ]
}

/// Provider, credentials and broker, since when, and when they are tried next.
async fn health(console: &Console, fleet: &Fleet, now: Timestamp) -> Block {
    let pause = pause(fleet);
    let part =
        |causes: &[&str], good: &str| match pause.filter(|pause| causes.contains(&pause.cause.as_str())) {
            None if fleet.answers.is_empty() => vec![Cell::state(Mood::Unknown, "no worker tells")],
            None => vec![Cell::state(Mood::Good, good)],
            Some(pause) => {
                let mut cells = vec![
                    Cell::state(mood_of(&pause.cause), pause.cause.replace('_', " ")),
                    Cell::text("since"),
                    Cell::time(Some(pause.since), now),
                ];
                if let Some(until) = pause.until {
                    cells.extend([Cell::text("· next call"), Cell::time(Some(until), now)]);
                }
                cells.extend(pause.why.as_deref().map(|why| Cell::text(format!("· {why}"))));
                cells
            }
        };
    let (is_up, since) = console.link.since().await;
    let broker = match is_up {
        true => Cell::state(Mood::Good, "connected"),
        false => Cell::state(Mood::Bad, "not connected"),
    };
    let broker = vec![
        broker,
        Cell::text("since"),
        Cell::time(since, now),
        Cell::Code(console.link.address()),
    ];
    Block::Facts(vec![
        (
            "Provider".to_owned(),
            part(&["outage", "throttled", "configuration"], "answers"),
        ),
        ("Credentials".to_owned(), part(&["credentials"], "accepted")),
        ("Broker".to_owned(), broker),
    ])
}

fn last_hour(fleet: &Fleet, hour: &Hour) -> Vec<Block> {
    let heads = ["State", "Commands"];
    let mut states = Table::new("states", "Commands of the last hour, by state", &heads);
    let in_hand: u64 = fleet.answers.iter().map(|answer| answer.in_hand as u64).sum();
    for (mood, word, count) in [
        (Mood::Good, "succeeded", hour.all.succeeded),
        (Mood::Bad, "failed", hour.all.failed),
        (Mood::Busy, "in hand now", in_hand),
        (Mood::Waits, "in the queues now", fleet.ready()),
    ] {
        states
            .rows
            .push(vec![Cell::state(mood, word), Cell::Number(count)]);
    }
    states.note = match (&hour.trouble, hour.complete) {
        (Some(Trouble::Away(reason) | Trouble::Refused(reason)), _) => {
            format!("The outcome log can't be read: {reason}")
        }
        (_, false) => "The outcome log is still being read: these are not all.".to_owned(),
        _ => String::new(),
    };
    let counts: Vec<_> = hour.minutes.iter().map(|(_, counts)| *counts).collect();
    let mut minutes = Table::new(
        "minutes",
        "The last ten minutes",
        &["Minute", "Begun", "Succeeded", "Failed"],
    );
    for (at, counts) in hour.minutes.iter().rev().take(10) {
        minutes.rows.push(vec![
            Cell::text(at.strftime("%H:%M").to_string()),
            Cell::Number(counts.begun),
            Cell::Number(counts.succeeded),
            Cell::Number(counts.failed),
        ]);
    }
    vec![
        Block::Table(states),
        Block::Drawing {
            title: "Ended in each minute of the last hour".to_owned(),
            svg: chart::minutes(&counts),
            legend: vec![("good", "succeeded".to_owned()), ("bad", "failed".to_owned())],
        },
        Block::Table(minutes),
    ]
}

/// Those of today against those of each of the seven days before.
fn dead_letters(letters: Result<Seen<Snapshot>, String>, now: Timestamp) -> Vec<Block> {
    let letters = match letters {
        Ok(letters) => letters,
        Err(reason) => {
            let text = format!("The dead letters can't be looked at: {reason}");
            return vec![Block::note(Mood::Unknown, text)];
        }
    };
    let seen = &letters.value;
    let today = now - SignedDuration::from_secs(now.as_second().rem_euclid(86_400));
    let day = |ago: i32| {
        let since = today - DAY * ago;
        seen.dead_between(since, since + DAY)
    };
    let days: Vec<_> = (0..=7).rev().map(day).collect();
    let before: u64 = days.iter().take(7).sum();
    vec![Block::Facts(vec![
        (
            "Dead letters".to_owned(),
            vec![
                Cell::link(counted(seen.seen, "dead letter"), "/failures"),
                Cell::text(format!("in the queue, looked at {}", age(&letters))),
            ],
        ),
        (
            "Died today".to_owned(),
            vec![
                Cell::Number(day(0)),
                Cell::text(format!(
                    "against {:.1} a day in the week before",
                    before as f64 / 7.0
                )),
                Cell::Drawn(chart::trend(&days)),
            ],
        ),
    ])]
}
