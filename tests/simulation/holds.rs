//! Batches in which a failure holds back the user's later commands, until the failed one is redriven or discarded.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::sleep;
use usher::broker::Message;
use usher::contract::lifecycle::OperationKind;
use usher::contract::{BatchId, BatchState, Fault, Orders, Reason};
use usher::operations::dead_letters::Filter;
use usher::operations::operation::{self, Access, Options, Rate};
use usher::operations::steering;
use usher::worker::Shutdown;

use crate::commands::{body, command, message};
use crate::provider::{Answer, Scripted};
use crate::world::{World, outcomes};

const SECOND: Duration = Duration::from_secs(1);
const CONFLICT: Answer = Answer::Fail(Fault::Command(Reason::Conflict));

fn batch() -> BatchId {
    BatchId::parse("held").unwrap()
}

fn of_batch(n: u64, user: &str) -> Message {
    let mut body = body(n, user, true);
    body["batchId"] = batch().as_str().into();
    message(&body, user, true)
}

/// The provider refuses these users' writes.
fn refusing(users: &'static [&'static str]) -> Scripted {
    let script = move |user: &str, write: bool, _: &mut fastrand::Rng| match write && users.contains(&user) {
        true => CONFLICT,
        false => Answer::Ok,
    };
    Scripted::new(1, Duration::from_millis(10), Box::new(script))
}

async fn world(provider: Scripted) -> World {
    let world = World::new(provider);
    let steering = world.steering();
    let ordered = steering.change(|orders| steering::hold(orders, &batch(), ("alex", world.clock.now())));
    ordered.await.unwrap();
    world
}

fn numbers(world: &World, user: &str) -> Vec<u64> {
    let writes = world.provider.writes();
    let of_user = writes.iter().filter(|write| write.user == user);
    of_user.filter_map(|write| write.number).collect()
}

/// Does this to all dead letters for the reason.
async fn operate(world: &World, kind: OperationKind, reasons: &[Reason]) {
    let access = Access {
        inspector: world.broker.inspector(),
        publisher: world.broker.publisher(),
        clock: world.clock,
    };
    let filter = Filter {
        reasons: reasons.iter().map(ToString::to_string).collect(),
        ..Filter::default()
    };
    let plans = operation::plan(&access, &filter).await.unwrap();
    let options = Options {
        rate: Rate::per_second(NonZeroU32::new(50).unwrap()),
        canary: 0,
        canary_timeout: 20 * SECOND,
        interactive: false,
    };
    let start = operation::start(&access, kind, &plans.plans[0], &filter, "alex", &options);
    let ready = start.await.unwrap();
    ready.run(&Shutdown::new(), &|_| {}).await.unwrap();
}

async fn held(world: &World) -> Vec<(String, String)> {
    let orders: Orders = world.steering().orders().await.unwrap();
    let users = orders.holds["held"].users.clone();
    users.into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_holds_back_the_users_later_commands_until_it_is_redriven() {
    let world = world(refusing(&["u"])).await;
    let first = world.start();
    for (n, user) in [(1, "u"), (2, "u"), (3, "v"), (4, "u")] {
        world.publish(&of_batch(n, user));
    }
    world.until_settled().await;
    assert_eq!(numbers(&world, "u"), [1], "the later ones made no call");
    assert_eq!(numbers(&world, "v"), [3], "other users go on");
    let ends = outcomes(&world.events());
    assert_eq!(
        ends.iter().filter(|end| *end == "held_behind 0").count(),
        2,
        "{ends:?}"
    );
    assert_eq!(world.dead_letters().len(), 3);
    assert_eq!(
        held(&world).await,
        [("u".to_owned(), crate::commands::id(1).to_string())]
    );

    // A later worker knows it, and what is not of the batch goes on.
    first.crash().await;
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    let second = world.start();
    world.publish(&of_batch(5, "u"));
    world.publish(&command(6, "u", false));
    world.until_settled().await;
    assert_eq!(numbers(&world, "u"), [1, 6]);

    operate(&world, OperationKind::Redrive, &[]).await;
    world.until_settled().await;
    assert_eq!(
        numbers(&world, "u"),
        [1, 6, 1, 2, 4, 5],
        "in the order of publishing"
    );
    assert!(world.dead_letters().is_empty());
    assert!(held(&world).await.is_empty());
    world.publish(&of_batch(7, "u"));
    world.until_settled().await;
    assert_eq!(numbers(&world, "u").last(), Some(&7));
    second.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_refused_before_its_call_holds_back_the_later_ones_too() {
    let world = world(Scripted::always(Answer::Ok)).await;
    let mut refused = body(1, "u", true);
    refused["batchId"] = batch().as_str().into();
    refused["update"]["email"] = "nobody".into();
    world.publish(&message(&refused, "u", true));
    for n in 2..=3 {
        world.publish(&of_batch(n, "u"));
    }
    let running = world.start();
    world.until_settled().await;
    assert_eq!(
        outcomes(&world.events()),
        ["invalid 0", "held_behind 0", "held_behind 0"]
    );
    let long = "w".repeat(300);
    let mut refused = body(4, &long, true);
    refused["batchId"] = batch().as_str().into();
    world.publish(&message(&refused, "w", true));
    world.until_settled().await;
    assert_eq!(
        held(&world).await.len(),
        1,
        "who has no valid id holds back nobody"
    );
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn commands_behind_one_that_fails_again_are_held_back_again() {
    let world = world(refusing(&["u"])).await;
    let running = world.start();
    for n in 1..=3 {
        world.publish(&of_batch(n, "u"));
    }
    world.until_settled().await;
    operate(&world, OperationKind::Redrive, &[]).await;
    world.until_settled().await;
    assert_eq!(numbers(&world, "u"), [1, 1]);
    operate(&world, OperationKind::Redrive, &[Reason::HeldBehind]).await;
    world.until_settled().await;
    assert_eq!(
        numbers(&world, "u"),
        [1, 1],
        "without the failed one they stay behind it"
    );
    assert_eq!(world.dead_letters().len(), 3);
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn the_later_commands_can_be_redriven_once_the_failed_one_is_discarded() {
    let world = world(refusing(&["u"])).await;
    let running = world.start();
    for n in 1..=3 {
        world.publish(&of_batch(n, "u"));
    }
    world.until_settled().await;
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    operate(&world, OperationKind::Discard, &[Reason::Conflict]).await;
    assert!(held(&world).await.is_empty());
    operate(&world, OperationKind::Redrive, &[Reason::HeldBehind]).await;
    world.until_settled().await;
    assert_eq!(numbers(&world, "u"), [1, 2, 3]);
    assert!(world.dead_letters().is_empty());
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_the_order_goes_on_after_a_failure() {
    let world = World::new(Scripted::in_turn([CONFLICT]));
    for n in 1..=2 {
        world.publish(&of_batch(n, "u"));
    }
    world.run_to_the_end().await;
    assert_eq!(numbers(&world, "u"), [1, 2]);
    assert_eq!(world.dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_holds_back_very_many_users_is_paused() {
    // The guard would stop the worker before that.
    let mut world = world(Scripted::always(CONFLICT)).await;
    (world.dead_letter_share_max, world.doubts_configuration) = (1.1, false);
    let running = world.start();
    for n in 0..700 {
        world.publish(&of_batch(n, &format!("u{n}")));
    }
    sleep(120 * SECOND).await;
    let orders = world.steering().orders().await.unwrap();
    let paused = orders.batches["held"].clone();
    assert_eq!((paused.state, paused.by.as_str()), (BatchState::Paused, "usher"));
    let held = held(&world).await.len();
    assert!((500..650).contains(&held), "{held}");
    assert_eq!(
        world.dead_letters().len(),
        held,
        "each is known before its end is told"
    );
    running.drain().await;
}
