//! What operators ordered, what the workers of the fleet say, and whether anybody takes what is ready.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;
use usher::broker::Topology;
use usher::clock::Clock;
use usher::config::Config;
use usher::contract::inquiry::{Answer, NAMED_MAX, PausedNow, Question};
use usher::contract::{BatchState, Learned, Orders};
use usher::operations::findings::Number;
use usher::operations::steering::{Heard, Steering};
use usher::operations::why::Asking;

use super::report::Finding;
use super::worker;
use crate::cli::{counted, operator, printable};

/// All of it. The workers answer within a second; a stream that falls silent is given up after ten.
const WITHIN: Duration = Duration::from_secs(15);

/// How long the workers' notices, which come each second, are listened to.
const LISTEN: Duration = Duration::from_millis(1500);

/// A backlog takes its time: one that is this old is worth a look.
const LONG: SignedDuration = SignedDuration::from_hours(1);

/// A wait that the provider asks for is normal up to this.
const LONG_PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// What was asked, before it is judged.
struct Told {
    orders: Orders,
    answers: Vec<Answer>,
    heard: Heard,
    ready: u64,
}

/// The topology must be complete: a question to an exchange that is not there would be repeated in vain.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let not_asked = |why: &str| {
        let detail = format!("the orders in force and the workers could not be asked: {why}");
        vec![Finding::of(Number::NotChecked, "fleet", detail)]
    };
    match timeout(WITHIN, ask(config)).await {
        Ok(Ok(told)) => judge(&told, config, Clock::System.now()),
        Ok(Err(error)) => not_asked(&format!("{error:#}")),
        Err(_) => not_asked("the broker did not answer in time"),
    }
}

async fn ask(config: &Config) -> anyhow::Result<Told> {
    let topology = Topology::new(config.provider.name.as_str(), &config.broker);
    let inspector = operator::inspector(&config.broker).await?;
    let publisher = operator::publisher(&config.broker).await?;
    let steering = Steering::new(inspector.clone(), publisher.clone(), &config.provider.name);
    let queues: Vec<String> = topology
        .command_queues()
        .map(|(name, _)| name.to_owned())
        .collect();
    let asking = Asking {
        inspector: inspector.clone(),
        publisher: publisher.clone(),
        topology,
    };
    let ready = async {
        let mut ready = 0;
        for queue in &queues {
            ready += inspector.depth(queue).await?.map_or(0, |depth| depth.ready);
        }
        anyhow::Ok(ready)
    };
    let (orders, answers, heard, ready) = tokio::join!(
        steering.orders(),
        asking.ask(Question::Waiting, |_| false),
        steering.listen(LISTEN),
        ready
    );
    publisher.close().await;
    inspector.close().await;
    Ok(Told {
        orders: orders?,
        answers: answers?,
        heard: heard?,
        ready: ready?,
    })
}

fn judge(told: &Told, config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut findings = ordered(&told.orders, now);
    findings.push(at_work(told.ready, told.answers.len()));
    findings.extend(paused(&told.answers, now));
    findings.push(oldest(&told.answers, now));
    let ceiling = config.provider.rate.ceiling(config.provider.share);
    let learned = told.heard.notices.first().map(|notice| notice.pace);
    findings.extend(
        ceiling
            .zip(learned)
            .map(|(ceiling, learned)| pace(ceiling, &learned)),
    );
    findings
}

fn ordered(orders: &Orders, now: Timestamp) -> Vec<Finding> {
    const WHAT: &str = "orders";
    let end = |until: Option<Timestamp>| {
        until.map_or("without an end".to_owned(), |until| format!("until {until}"))
    };
    let mut findings = Vec::new();
    if let Some(pause) = orders.pause_at(now) {
        let what = if pause.bulk_only {
            "bulk traffic is"
        } else {
            "all calls are"
        };
        let detail = format!(
            "{what} paused since {} {}, by {}: {}",
            pause.since,
            end(pause.until),
            pause.by,
            pause.reason
        );
        findings.push(Finding::of(Number::OrderedPause, WHAT, printable(&detail)));
    }
    if let Some(pace) = orders.pace_at(now) {
        let detail = format!(
            "the pace is pinned to {} calls/s since {} {}, by {}",
            pace.per_second,
            pace.since,
            end(pace.until),
            pace.by
        );
        findings.push(Finding::of(Number::OrderedPace, WHAT, printable(&detail)));
    }
    let paused = orders.batches_that_are(BatchState::Paused);
    if paused > 0 {
        let first = orders
            .batches
            .iter()
            .find(|(_, order)| order.state == BatchState::Paused);
        let first = first.map_or(String::new(), |(id, order)| {
            format!("; {id} since {} by {}", order.since, order.by)
        });
        let detail = format!("{} paused{first}", counted(paused as u64, "batch order"));
        findings.push(Finding::of(Number::BatchesPaused, WHAT, printable(&detail)));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(WHAT, "none is in force"));
    }
    findings
}

fn at_work(ready: u64, workers: usize) -> Finding {
    let detail = format!(
        "{} ready in the queues, {} over the broker",
        counted(ready, "command"),
        match workers {
            0 => "no worker answers".to_owned(),
            1 => "1 worker answers".to_owned(),
            workers => format!("{workers} workers answer"),
        }
    );
    match ready > 0 && workers == 0 {
        true => Finding::of(Number::NobodyWorks, "fleet", detail),
        false => Finding::ok("fleet", detail),
    }
}

/// Pauses of the workers, wherever they run: one finding for each number. Those of operators are told by the orders.
fn paused(answers: &[Answer], now: Timestamp) -> Vec<Finding> {
    let mut by_number: BTreeMap<Number, Vec<String>> = BTreeMap::new();
    for answer in answers {
        let Some(pause) = answer.pause.as_ref().filter(|pause| is_told(pause, now)) else {
            continue;
        };
        let Some(number) = worker::number(&pause.cause) else {
            continue;
        };
        let why = pause
            .why
            .as_deref()
            .map_or(String::new(), |why| format!(": {why}"));
        let detail = format!("{} since {}{why}", pause.cause, pause.since);
        let details = by_number.entry(number).or_default();
        details.push(format!("worker {}: {detail}", answer.worker));
    }
    let finding = |(number, details): (Number, Vec<String>)| {
        let more = match details.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let named = details[..details.len().min(NAMED_MAX)].join("; ");
        Finding::of(number, "fleet", printable(&format!("{named}{more}")))
    };
    by_number.into_iter().map(finding).collect()
}

fn is_told(pause: &PausedNow, now: Timestamp) -> bool {
    let end = pause.until.unwrap_or(Timestamp::MAX).max(now);
    match pause.cause.as_str() {
        "operator" => false,
        "throttled" => end.duration_since(pause.since) > LONG_PAUSE,
        _ => true,
    }
}

/// A paused batch waits for as long as it is paused, which the orders tell. A command that runs does not wait.
fn oldest(answers: &[Answer], now: Timestamp) -> Finding {
    let waits = answers.iter().flat_map(|answer| {
        let causes = answer.causes.iter();
        let causes = causes.filter(|cause| !["batch", "running"].contains(&cause.cause.as_str()));
        causes.map(move |cause| (cause.since, cause, &answer.worker))
    });
    let Some((since, cause, worker)) = waits.min_by_key(|(since, ..)| *since) else {
        return Finding::ok("oldest", "no worker has a command that waits");
    };
    let detail = format!(
        "command {} has waited for `{}` since {since}, in the hands of worker {worker}",
        cause.oldest.as_deref().unwrap_or("(without an id)"),
        cause.cause
    );
    match now.duration_since(since) > LONG {
        true => Finding::of(Number::LongWait, "oldest", printable(&detail)),
        false => Finding::ok("oldest", printable(&detail)),
    }
}

fn pace(ceiling: f64, learned: &Learned) -> Finding {
    let detail = format!(
        "{:.1} calls/s held after the last of {}, and {ceiling:.1} calls/s are configured",
        learned.plateau,
        counted(learned.slowdowns, "slowdown")
    );
    match learned.slowdowns > 0 && learned.plateau < ceiling / 2.0 {
        true => Finding::of(Number::LowerPace, "pace", detail),
        false if learned.slowdowns > 0 => Finding::ok("pace", detail),
        false => Finding::ok("pace", "the provider has not slowed the fleet down"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-11-21T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn orders(members: &Value) -> Vec<Finding> {
        let mut orders = json!({ "revision": 1 });
        orders
            .as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        ordered(&Orders::read(orders.to_string().as_bytes()).unwrap(), now())
    }

    fn answer(more: &Value) -> Answer {
        let mut answer = json!({ "worker": "w1", "leases": [0], "pace": 1.0, "inHand": 1, "window": 10 });
        answer
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn orders_in_force_are_told_with_who_and_until_when() {
        let since = "2026-11-21T10:00:00Z";
        let ends = "2026-11-21T11:00:00Z";
        let pause = json!({ "pause": { "by": "alex", "reason": "night", "since": since } });
        let found = orders(&pause);
        assert_eq!(found[0].number, Some(Number::OrderedPause));
        assert!(
            found[0].detail.ends_with("without an end, by alex: night"),
            "{found:?}"
        );
        let pace =
            json!({ "perSecond": 20.0, "by": "alex", "since": since, "until": "2026-11-22T00:00:00Z" });
        let found = orders(&json!({ "pace": pace }));
        assert_eq!(found[0].number, Some(Number::OrderedPace));
        assert!(
            found[0].detail.ends_with("until 2026-11-22T00:00:00Z, by alex"),
            "{found:?}"
        );
        let batch = json!({ "state": "paused", "by": "alex", "since": since });
        let found = orders(&json!({ "batches": { "b1": batch } }));
        assert_eq!(found[0].number, Some(Number::BatchesPaused));
        assert!(
            found[0].detail.contains("b1") && found[0].detail.contains("by alex"),
            "{found:?}"
        );
        let over = json!({ "pause": { "by": "alex", "reason": "x", "since": since, "until": ends } });
        assert_eq!(orders(&over)[0].number, None);
    }

    #[test]
    fn ready_commands_without_a_worker_are_found() {
        assert_eq!(at_work(5, 0).number, Some(Number::NobodyWorks));
        assert_eq!(at_work(0, 0).number, None);
        assert_eq!(
            at_work(5, 2).detail,
            "5 commands ready in the queues, 2 workers answer over the broker"
        );
    }

    #[test]
    fn a_pause_of_any_worker_is_found() {
        let of = |cause: &str, until: Option<&str>, workers: usize| {
            let pause =
                json!({ "cause": cause, "since": "2026-11-21T11:59:00Z", "until": until, "why": "503" });
            let answers = vec![answer(&json!({ "pause": pause })); workers];
            paused(&answers, now())
        };
        let numbers = |found: Vec<Finding>| found.iter().map(|found| found.number).collect::<Vec<_>>();
        let [one] = &of("outage", None, 12)[..] else {
            panic!("one finding for all workers");
        };
        assert_eq!(one.number, Some(Number::CallsPaused));
        assert!(
            one.detail
                .starts_with("worker w1: outage since 2026-11-21T11:59:00Z: 503; worker")
        );
        assert!(one.detail.ends_with("; and 2 more"), "{one:?}");
        assert_eq!(numbers(of("dead_letters", None, 1)), [Some(Number::GuardShut)]);
        assert_eq!(numbers(of("throttled", Some("2026-11-21T12:01:00Z"), 1)), []);
        assert_eq!(
            numbers(of("throttled", Some("2026-11-21T13:00:00Z"), 1)),
            [Some(Number::CallsPaused)]
        );
        assert_eq!(numbers(of("operator", None, 1)), []);
    }

    #[test]
    fn the_oldest_wait_is_found_when_it_is_an_hour_old() {
        let of = |cause: &str, since: &str| {
            let causes = json!([
                { "for": "permit", "commands": 2, "oldest": "c2", "since": "2026-11-21T11:59:00Z" },
                { "for": cause, "commands": 1, "oldest": "c1", "since": since },
            ]);
            oldest(&[answer(&json!({ "causes": causes }))], now())
        };
        let long = of("retry", "2026-11-21T10:59:59Z");
        assert_eq!(long.number, Some(Number::LongWait));
        assert!(
            long.detail.starts_with("command c1 has waited for `retry`"),
            "{long:?}"
        );
        assert_eq!(of("retry", "2026-11-21T11:30:00Z").number, None);
        assert_eq!(of("batch", "2026-11-20T11:30:00Z").number, None);
        assert_eq!(oldest(&[], now()).number, None);
    }

    #[test]
    fn a_learned_pace_far_below_the_quota_is_told() {
        let of = |slowdowns, plateau| {
            let learned = Learned {
                slowdowns,
                floor: 1.0,
                plateau,
                best: 100.0,
                age: 0.0,
            };
            pace(50.0, &learned).number
        };
        assert_eq!(of(3, 20.0), Some(Number::LowerPace));
        assert_eq!(of(3, 25.0), None);
        assert_eq!(of(0, 1.0), None);
    }
}
