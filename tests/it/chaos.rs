//! A fleet that is broken on purpose: several workers, a real broker and a simulated provider, all of them broken
//! by a seeded plan while commands come in; then the promises are checked by account.
//!
//! | variable | says | default |
//! | --- | --- | --- |
//! | `USHER_TEST_SEED` | what is broken when | a fixed one |
//! | `USHER_TEST_CHAOS_SECONDS` | how long commands come in and things break | 60 |
//! | `…_WORKERS`, `…_PARTITIONS` | processes, and partitions of the topology | 3, 4 |
//! | `…_RATE`, `…_USERS` | the fleet's quota in calls per second, and users | 200, 300 |
//! | `…_TWICE` | the share of commands that is sent again after a newer one | 0.02 |
//! | `…_GAP` | seconds from one break to the next, on average; a short run has less | 4 |
//! | `…_BREAKS` | the only kinds of breaks, by name and with commas; empty: none | all |
//! | `…_KIND`, `…_PREFETCH` | the provider's kind, and the workers' prefetch | by the seed |
//! | `…_KEEP` | set: calls, breaks, events and logs are written down where all went well, too | |
//! | `…_CONSUMER_TIMEOUT` | seconds after which the broker takes deliveries back; 0: late | by the seed |
//!
//! `USHER_TEST_BROKER_URL` (with commas: the nodes of a cluster) and `USHER_TEST_BROKER_API` take nodes that run
//! already. What breaks those are shell commands, in which `{}` stands for a node's name out of
//! `USHER_TEST_CHAOS_NODES`: `USHER_TEST_CHAOS_KILL`, `…_START`, and `…_CTL`, which stands for `rabbitmqctl`. A break
//! whose command is missing is left out of the plan; without the API, the vhost is made by `…_CTL`.

mod balance;
mod board;
mod breaking;
mod brokers;
mod command;
mod evidence;
mod fleet;
mod link;
mod made_up;
mod moods;
mod options;
mod order;
mod outcomes;
mod plan;
mod publishing;
mod quota;
mod report;
mod run;

use std::io::Write as _;

use options::Options;

/// Said whatever a failure is: the run can be repeated.
struct RepeatHint(String);

impl Drop for RepeatHint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("chaos: again: {}", self.0));
        }
    }
}

/// Past the test's own capture: the numbers of a run that went well are worth a line, too.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fleet_that_is_broken_on_purpose_keeps_every_promise() {
    let options = Options::from_env();
    let _hint = RepeatHint(options.repeated_by());
    let (evidence, tally, planned) = run::run(&options).await;
    say(&report::left_out(planned, &evidence));
    say(&report::summary(&options, &evidence, &tally));
    let found: Vec<_> = [
        balance::nothing_is_lost(&evidence),
        balance::events_balance(&evidence),
        order::order(&evidence),
        order::overlaps(&evidence),
        order::last_values(&evidence),
        quota::quota(&evidence),
        balance::deaths_are_fair(&evidence),
        balance::workers_end_as_asked(&evidence),
    ]
    .concat();
    if std::env::var_os("USHER_TEST_CHAOS_KEEP").is_some() && found.is_empty() {
        say(&format!(
            "chaos: all of it: {}",
            report::keep(&options, &evidence, &found)
        ));
    }
    assert!(
        found.is_empty(),
        "{}",
        report::violations(&options, &evidence, &found)
    );
}
