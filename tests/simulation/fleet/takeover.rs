//! Who goes on with a partition whose worker leaves or dies, how soon, and with what.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use usher::contract::event::EventBody;
use usher::contract::{Fault, Reason};
use usher::worker::Stopped;

use crate::commands::{command, id};
use crate::provider::{Answer, Scripted};
use crate::world::{World, command_id, outcomes};

const SECOND: Duration = Duration::from_secs(1);

fn slow(latency_max: Duration) -> Scripted {
    Scripted::new(1, latency_max, Box::new(|_, _, _| Answer::Ok))
}

/// Commands that have an outcome.
fn ended(world: &World) -> BTreeSet<String> {
    let events = world.events();
    let terminal = events
        .iter()
        .filter(|event| !matches!(event.body, EventBody::Start(_)));
    terminal.map(command_id).collect()
}

/// One command for each user.
fn publish(world: &World, commands: u64) {
    for n in 0..commands {
        world.publish(&command(n, &format!("u{n}"), n.is_multiple_of(2)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_holds_nothing_and_takes_over_within_a_second_of_a_crash() {
    let mut world = World::new(slow(SECOND / 10));
    world.rate = Some(20);
    world.concurrency = 4;
    publish(&world, 200);
    let (active, standby) = (world.start(), world.start());
    sleep(SECOND * 3).await;
    assert_eq!((active.leases(), standby.leases()), (1, 0));
    {
        let standing_by = standby.progress.borrow();
        assert_eq!(
            (standing_by.running, standing_by.queued, standing_by.settled()),
            (0, 0, 0)
        );
    }
    let before = world.provider.calls().len();
    assert!(before > 40, "{before} calls");
    active.crash().await;
    let crash = Instant::now();
    sleep(SECOND).await;
    assert!(world.provider.calls().len() > before, "nobody has taken over");
    assert_eq!(standby.leases(), 1);
    world.until_settled().await;
    assert_eq!(ended(&world).len(), 200);
    assert!(crash.elapsed() < SECOND * 15, "{:?}", crash.elapsed());
}

#[tokio::test(start_paused = true)]
async fn after_a_clean_handover_no_command_waits() {
    let mut world = World::new(slow(SECOND / 5));
    world.rate = Some(50);
    publish(&world, 300);
    let (active, _standby) = (world.start(), world.start());
    sleep(SECOND * 3).await;
    assert_eq!(active.drain().await, Stopped::Drained);
    world.until_settled().await;
    let calls = world.provider.calls();
    assert_eq!(calls.len(), 300, "each is called once, and nobody is looked up");
    let gaps = calls.windows(2).map(|pair| pair[1].started - pair[0].started);
    let longest = gaps.max().unwrap();
    assert!(longest < SECOND / 2, "{longest:?} without a call");
}

/// The first write is not answered, and takes effect within the settling time.
#[tokio::test(start_paused = true)]
async fn a_call_that_may_still_take_effect_is_not_handed_over() {
    let first = AtomicBool::new(true);
    let script = move |_: &str, write: bool, _: &mut fastrand::Rng| match write && first.swap(false, Relaxed)
    {
        true => Answer::ApplyLater(Fault::Unknown),
        false => Answer::Ok,
    };
    let world = World::new(Scripted::new(1, SECOND / 100, Box::new(script)));
    world.publish(&command(1, "u", false));
    world.publish(&command(2, "u", false));
    let (active, _standby) = (world.start(), world.start());
    while world.provider.writes().is_empty() {
        sleep(SECOND / 20).await;
    }
    assert_eq!(active.drain().await, Stopped::Drained);
    world.until_settled().await;
    sleep(SECOND).await;
    assert_eq!(world.provider.user("u")["nickname"], "2");
    let writes = world.provider.writes();
    let numbers: Vec<_> = writes.iter().map(|call| call.number.unwrap()).collect();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_only_called_commands_wait() {
    let mut world = World::new(slow(SECOND * 2));
    world.rate = Some(1000);
    // What is delivered is called.
    world.prefetch = 20;
    let active = world.start();
    sleep(SECOND).await;
    world.prefetch = 256;
    let _standby = world.start();
    sleep(SECOND).await;
    publish(&world, 100);
    sleep(SECOND / 5).await;
    active.crash().await;
    let crash = Instant::now();
    let ended = ended(&world);
    let called: BTreeSet<_> = world
        .provider
        .writes()
        .iter()
        .filter_map(|call| call.number)
        .collect();
    assert!(called.len() >= 40, "{}", called.len());
    world.until_settled().await;
    let wait = world.timeout + world.settling_time;
    for n in 0..100 {
        let after = world
            .provider
            .calls()
            .into_iter()
            .find(|call| call.user == format!("u{n}") && call.started >= crash);
        match after.map(|call| call.started - crash) {
            None => assert!(ended.contains(&id(n).to_string()), "{n} was never called again"),
            Some(waited) if called.contains(&n) => {
                assert!(waited >= wait && waited < wait + SECOND, "{n} waited {waited:?}");
            }
            Some(waited) => assert!(waited < SECOND, "{n} waited {waited:?}, and nobody had called"),
        }
    }
}

/// A provider whose calls for one user end the worker that makes them, as long as it is handed one.
struct Deadly {
    provider: Scripted,
    worker: Arc<Mutex<Option<AbortHandle>>>,
}

impl Deadly {
    fn new(victim: &'static str, then: Answer) -> Self {
        let worker: Arc<Mutex<Option<AbortHandle>>> = Arc::default();
        let deadly = worker.clone();
        let script = move |user: &str, write: bool, _: &mut fastrand::Rng| {
            if user != victim {
                return Answer::Ok;
            }
            if let Some(worker) = deadly.lock().unwrap().take() {
                worker.abort();
            }
            if write { then } else { Answer::Ok }
        };
        Self {
            provider: Scripted::new(1, SECOND * 2, Box::new(script)),
            worker,
        }
    }

    async fn ends(&self, world: &World, workers: usize) {
        for _ in 0..workers {
            let running = world.start();
            *self.worker.lock().unwrap() = Some(running.task.abort_handle());
            assert!(running.task.await.unwrap_err().is_cancelled());
        }
    }
}

/// Two commands for each of thirty users, the second ones hundred numbers on.
fn publish_two_each(world: &World) {
    publish(world, 30);
    for n in 0..30 {
        world.publish(&command(100 + n, &format!("u{n}"), n.is_multiple_of(2)));
    }
}

async fn six_crashes(partitions: u16) {
    let deadly = Deadly::new("u7", Answer::Ok);
    let mut world = World::partitioned(deadly.provider.clone(), partitions);
    world.rate = Some(1000);
    publish_two_each(&world);
    deadly.ends(&world, 6).await;
    let running = world.start();
    world.until_settled().await;
    assert_eq!(running.drain().await, Stopped::Drained);
    let dead_letters = world.dead_letters();
    let dead: Vec<_> = dead_letters
        .iter()
        .map(|dead_letter| dead_letter.properties.message_id().unwrap())
        .collect();
    assert_eq!(dead, [id(7).to_string()]);
    let mut outcomes = outcomes(&world.events());
    outcomes.retain(|outcome| !outcome.starts_with("SUCCESS") && !outcome.starts_with("UNCHANGED"));
    assert_eq!(outcomes, ["poison 0"]);
    assert_eq!(ended(&world).len(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_command_in_flight_at_each_of_six_crashes_is_poison_and_its_neighbours_are_not() {
    six_crashes(1).await;
}

#[tokio::test(start_paused = true)]
async fn commands_of_other_partitions_are_not_poison_either() {
    six_crashes(8).await;
}

/// It is denied, which is decided once others have passed, and it comes first.
#[tokio::test(start_paused = true)]
async fn a_suspect_that_has_to_wait_for_others_does_not_keep_them_waiting() {
    let deadly = Deadly::new("u0", Answer::Fail(Fault::Denied));
    let mut world = World::new(deadly.provider.clone());
    world.rate = Some(1000);
    publish_two_each(&world);
    deadly.ends(&world, 3).await;
    let running = world.start();
    assert!(world.settles_within(SECOND * 600).await, "{}", running.state());
    let mut outcomes = outcomes(&world.events());
    outcomes.retain(|outcome| !outcome.starts_with("SUCCESS") && !outcome.starts_with("UNCHANGED"));
    assert_eq!(outcomes, ["forbidden 1", "forbidden 1"]);
}

/// What a drained worker had announced and not called is no sign of its death.
#[tokio::test(start_paused = true)]
async fn a_drain_while_confirms_are_late_leaves_nothing_open() {
    let world = World::new(slow(SECOND / 10));
    world.publish(&command(1, "u", false));
    for _ in 0..6 {
        world.broker.hold_confirms(true);
        let running = world.start();
        sleep(SECOND * 2).await;
        running.shutdown.drain();
        sleep(SECOND * 3).await;
        world.broker.hold_confirms(false);
        assert_eq!(running.task.await.unwrap(), Stopped::Drained);
    }
    assert!(world.provider.calls().is_empty());
    let last = Instant::now();
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["SUCCESS 1"]);
    assert!(last.elapsed() < SECOND * 2, "it waited {:?}", last.elapsed());
}

/// Neither is an outcome that it was not allowed to tell.
#[tokio::test(start_paused = true)]
async fn restarts_while_the_guard_is_shut_poison_nothing() {
    let missing = Answer::Fail(Fault::Command(Reason::NotFound));
    let mut world = World::new(Scripted::always(missing));
    world.dead_letter_share_max = 0.0;
    world.publish(&command(1, "u", false));
    for _ in 0..6 {
        let running = world.start();
        while running.gate.pause().is_none() {
            sleep(SECOND).await;
        }
        assert_eq!(running.drain().await, Stopped::Drained);
    }
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["SUCCESS 1"]);
}

/// The lease comes back so soon that nobody had a look at the outcome log in between.
#[tokio::test(start_paused = true)]
async fn runs_begun_by_another_worker_meanwhile_are_known() {
    let world = World::new(slow(SECOND * 3));
    let (active, standby) = (world.start(), world.start());
    sleep(SECOND * 10 + SECOND / 20).await;
    world.publish(&command(1, "u", false));
    world.broker.end_consumer();
    assert_eq!(active.leases() + standby.leases(), 1);
    while world.provider.calls().is_empty() {
        sleep(SECOND / 100).await;
    }
    standby.crash().await;
    let crash = Instant::now();
    world.until_settled().await;
    let again = world.provider.calls()[1].started - crash;
    assert!(again >= world.timeout, "called again after {again:?}");
}

/// Neither is a log that says nothing for a while taken for an empty one.
#[tokio::test(start_paused = true)]
async fn a_slow_outcome_log_is_waited_for() {
    let world = World::new(slow(SECOND * 3));
    world.publish(&command(1, "u", false));
    let active = world.start();
    while world.provider.calls().is_empty() {
        sleep(SECOND / 100).await;
    }
    active.crash().await;
    let crash = Instant::now();
    world.broker.hold_log(true);
    let _next = world.start();
    sleep(SECOND * 2).await;
    world.broker.hold_log(false);
    world.until_settled().await;
    let again = world.provider.calls()[1].started - crash;
    assert!(again >= world.timeout, "called again after {again:?}");
}

/// However long it says nothing: a command that was settled before is not applied again, even where it was sent
/// twice and a newer one came between.
#[tokio::test(start_paused = true)]
async fn an_event_read_much_later_still_counts() {
    let world = World::new(slow(SECOND / 10));
    world.publish(&command(1, "u", false));
    world.publish(&command(2, "u", false));
    let active = world.start();
    world.until_settled().await;
    active.crash().await;
    world.broker.hold_log(true);
    world.publish(&command(1, "u", false));
    let next = world.start();
    sleep(SECOND * 120).await;
    assert_eq!(world.provider.calls().len(), 2);
    world.broker.hold_log(false);
    world.until_settled().await;
    assert_eq!(world.provider.calls().len(), 2);
    assert_eq!(next.drain().await, Stopped::Drained);
}
