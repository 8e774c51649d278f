//! Whoever may write to the fleet's exchange can send anything. What it does to those who hear it is bounded.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use usher::broker::{Message, Properties};

use crate::commands::{PROVIDER, command};
use crate::provider::{Answer, Scripted};
use crate::seeds::under_seeds;
use crate::world::World;

const SEEDS: u64 = 4;

/// `retry.probe_gap_max` as it is by default, and what a probe may add that waits for its turn.
const STOP_MAX: Duration = Duration::from_secs(10 * 60 + 10);

const ATTACK: Duration = Duration::from_secs(60 * 60);

const RATE: u32 = 2;

const PARTITIONS: u16 = 4;

fn send(world: &World, body: Vec<u8>) {
    world.publish(&Message {
        exchange: format!("usher.fleet.{PROVIDER}"),
        routing_key: String::new(),
        properties: Properties::transient("application/json"),
        body: Bytes::from(body),
        mandatory: false,
    });
}

/// Bytes, what looks like a notice with the worst values, and what a worker might say.
fn any_notice(rng: &mut fastrand::Rng) -> Vec<u8> {
    if rng.u8(0..5) == 0 {
        let count = rng.usize(0..200);
        return std::iter::repeat_with(|| rng.u8(..)).take(count).collect();
    }
    fn one_of(rng: &mut fastrand::Rng, values: &[&str]) -> String {
        values[rng.usize(..values.len())].to_owned()
    }
    let number = [
        "0",
        "1",
        "7",
        "60000",
        "315360000000",
        "18446744073709551615",
        "-1",
        "1e308",
        "null",
    ];
    let pace = [
        "0", "0.0001", "0.1", "1", "5", "100", "1e6", "1e308", "-5", "1e999", "NaN",
    ];
    let leases = ["[]", "[0]", "[0,1,2,3]", "[9]", "[0,0]", "[-1]", "[65535]"];
    let cause = ["throttled", "outage", "credentials", "worker", "dead_letters", ""];
    let worker = match rng.u8(0..3) {
        0 => "stranger".to_owned(),
        1 => format!("s{}", rng.u32(..)),
        _ => "x".repeat(rng.usize(0..300)),
    };
    let paused = match rng.u8(0..4) {
        0 => String::new(),
        _ => format!(
            r#","paused":{{"cause":"{}","forMs":{},"sinceMs":{}}}"#,
            one_of(rng, &cause),
            one_of(rng, &number),
            one_of(rng, &number)
        ),
    };
    let floor = one_of(rng, &pace);
    let plateau = if rng.bool() {
        floor.clone()
    } else {
        one_of(rng, &pace)
    };
    let learned = format!(
        r#"{{"slowdowns":{},"floor":{floor},"plateau":{plateau},"best":{},"age":{}}}"#,
        one_of(rng, &number),
        one_of(rng, &pace),
        one_of(rng, &number),
    );
    let notice = format!(
        r#"{{"worker":"{worker}","leases":{},"leaving":{},"pace":{}{paused}}}"#,
        one_of(rng, &leases),
        rng.bool(),
        learned,
    );
    notice.into_bytes()
}

#[test]
fn notices_neither_stop_calls_for_long_nor_raise_the_pace() {
    under_seeds(SEEDS, async |seed, _| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
        let known = rng.bool();
        world.rate = known.then_some(RATE);
        world.concurrency = 4;
        world.seed = seed;
        let running = world.start();
        let calls = u64::from(RATE) * ATTACK.as_secs();
        for n in 0..calls {
            world.publish(&command(n, &format!("u{}", n % 50), false));
        }
        let start = Instant::now();
        // The fleet's, as this worker would tell it.
        let fleets = || {
            let leases = running.leases();
            (leases > 0).then(|| running.gate.pace_per_second() * f64::from(PARTITIONS) / leases as f64)
        };
        while fleets().is_none() {
            sleep(Duration::from_millis(100)).await;
        }
        let mut pace = fleets().unwrap();
        while start.elapsed() < ATTACK && world.waiting() > 0 {
            let before = Instant::now();
            send(&world, any_notice(&mut rng));
            sleep(Duration::from_millis(rng.u64(1..2000))).await;
            let now = fleets().unwrap_or(pace);
            // A pace that is searched for doubles each second at most, whoever says what.
            let most = pace.max(1.0) * 2.1 * before.elapsed().as_secs_f64().exp2();
            assert!(now <= most, "seed {seed}: from {pace} to {now}");
            pace = now;
        }
        let mut called: Vec<_> = world.provider.calls().iter().map(|call| call.started).collect();
        called.sort();
        let gap = called.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= STOP_MAX, "seed {seed}: {gap:?} without a call");
        // What nobody confirms is not believed for long.
        assert!(
            called.len() > 900,
            "seed {seed}: {} calls in an hour",
            called.len()
        );
        assert_eq!(world.dead_letters().len(), 0, "seed {seed}");
        vec![]
    });
}

/// A count that rises each second, beside a pace of nearly nothing.
#[tokio::test(start_paused = true)]
async fn a_client_that_claims_throttling_lowers_the_pace_to_a_floor_at_most() {
    let mut world = World::new(Scripted::always(Answer::Ok));
    world.rate = Some(40);
    let running = world.start();
    for n in 0..10_000 {
        world.publish(&command(n, &format!("u{}", n % 50), false));
    }
    sleep(Duration::from_secs(20)).await;
    let own = running.gate.pace_per_second();
    for count in 0..60 {
        let paused = r#""paused":{"cause":"throttled","forMs":1,"sinceMs":0}"#;
        let pace =
            format!(r#"{{"slowdowns":{count},"floor":0.0001,"plateau":0.0001,"best":0.0001,"age":0}}"#);
        let notice = format!(r#"{{"worker":"stranger","leases":[],"pace":{pace},{paused}}}"#);
        send(&world, notice.into_bytes());
        sleep(Duration::from_secs(1)).await;
        let now = running.gate.pace_per_second();
        assert!(now >= own * 0.24, "{now} of {own}");
    }
    // And comes back by itself.
    sleep(Duration::from_secs(60)).await;
    let after = running.gate.pace_per_second();
    assert!(after >= own * 0.9, "{after} of {own}");
}
