//! The scoreboard: `usher run` beside a bare loop, on the same broker, provider and commands.
//!
//! The bare loop is what somebody would write in an afternoon: consume, parse, call, publish two events,
//! ack. What usher does more (order, pace, retries, outcomes, metrics) shows as the distance between the two.
//! Broker, provider and contender are processes of their own; the contenders take turns.
//!
//! `USHER_BENCH_COMMANDS=100000` makes the runs longer, `USHER_BENCH_ROUNDS=9` makes more of them.
//! `USHER_BENCH_OTHER=path/of/usher` takes another build of usher in as a contender. `USHER_BENCH_TRACES=1` compares usher with
//! itself instead: without traces, with those of a hundredth of the commands, and with those of all. A process of its own takes
//! them, and keeps none.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it prints its table, and ends where the world is not as it should be"
)]

mod bare_loop;
mod collector;
mod contender;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/greedy_consumer.rs"]
mod greedy_consumer;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/node.rs"]
mod node;
mod stage;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support.rs"]
mod support;

use std::env;

use contender::{Contender, Usage};
use node::Node;
use stage::Stage;

const ROUNDS: u64 = 3;

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |text| text.parse().expect(variable))
}

/// One contender's run over all commands.
struct Run {
    contender: Contender,
    per_second: f64,
    usage: Usage,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bare-loop", broker, provider] => bare_loop::run(broker, provider).await,
        ["collector"] => collector::run().await,
        // `cargo test --benches` starts it without the argument that `cargo bench` gives.
        _ if !arguments.iter().any(|argument| argument == "--bench") => {}
        _ => measure().await,
    }
}

async fn measure() {
    let commands = number("USHER_BENCH_COMMANDS", 40_000);
    let rounds = number("USHER_BENCH_ROUNDS", ROUNDS);
    let node = Node::own().await;
    println!("{commands} commands for {} users, {rounds} rounds", stage::USERS);
    println!("round  contender  commands/s  CPU µs/command  peak MiB  resident MiB");
    let mut contenders = contenders();
    let mut runs = Vec::new();
    for round in 1..=rounds {
        // The order changes from round to round, since the machine's speed does.
        contenders.rotate_left(1);
        for contender in contenders.clone() {
            let stage = Stage::set(&node, contender, commands).await;
            let run = run(&stage, contender).await;
            print_line(&round.to_string(), &run, commands);
            runs.push(run);
        }
    }
    let usher = median(&runs, Contender::Usher);
    print_line("median", &usher, commands);
    for other in contenders.into_iter().filter(|one| *one != Contender::Usher) {
        let other = median(&runs, other);
        print_line("median", &other, commands);
        // What usher does more than the bare loop, and what traces cost more than none.
        let (of, to) = match other.contender {
            Contender::TracesHundredth | Contender::TracesAll => (&other, &usher),
            _ => (&usher, &other),
        };
        println!(
            "{} / {}: {:.3} of the commands/s, {:.3} of the CPU time",
            of.contender.name(),
            to.contender.name(),
            of.per_second / to.per_second,
            of.usage.cpu_seconds / to.usage.cpu_seconds,
        );
    }
}

fn contenders() -> Vec<Contender> {
    let other = env::var_os(contender::OTHER).map(|_| Contender::Other);
    let contenders = match env::var_os("USHER_BENCH_TRACES") {
        Some(_) => vec![Contender::Usher, Contender::TracesHundredth, Contender::TracesAll],
        None => vec![Contender::BareLoop, Contender::Usher],
    };
    contenders.into_iter().chain(other).collect()
}

async fn run(stage: &Stage, contender: Contender) -> Run {
    let process = contender.start(stage);
    let per_second = stage.commands_per_second().await;
    let usage = process.usage();
    // While the broker is busy it puts acks off, and would lose them with the channel.
    stage.all_told().await;
    process.end().await;
    stage.all_settled().await;
    Run {
        contender,
        per_second,
        usage,
    }
}

fn print_line(round: &str, run: &Run, commands: u64) {
    println!(
        "{round:6} {:10} {:10.0} {:15.0} {:9.1} {:13.1}",
        run.contender.name(),
        run.per_second,
        run.usage.cpu_seconds * 1e6 / commands as f64,
        run.usage.peak_mib,
        run.usage.resident_mib,
    );
}

/// Each figure's own median: no single run has to be the middle of all.
fn median(runs: &[Run], contender: Contender) -> Run {
    let middle = |figure: fn(&Run) -> f64| {
        let of_it = runs.iter().filter(|run| run.contender == contender);
        let mut figures: Vec<_> = of_it.map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Run {
        contender,
        per_second: middle(|run| run.per_second),
        usage: Usage {
            cpu_seconds: middle(|run| run.usage.cpu_seconds),
            peak_mib: middle(|run| run.usage.peak_mib),
            resident_mib: middle(|run| run.usage.resident_mib),
        },
    }
}
