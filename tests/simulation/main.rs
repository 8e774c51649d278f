//! The promises under seeds: the whole pipeline over the in-memory broker and a scripted provider, on
//! paused time.
//!
//! `USHER_TEST_SEEDS=100000` runs more seeds, `USHER_TEST_SEED=42` replays one and prints its story.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that can't go on fails"
)]

mod account;
mod answers;
mod batches;
mod broker_dead_letters;
mod commands;
mod dead_letters;
mod fairness;
mod fleet;
mod holds;
mod interleaving;
mod logs;
mod merging;
mod pace;
mod policy;
mod provider;
mod recovery;
mod redelivery;
mod runs;
mod seeds;
mod stalled;
mod steering;
mod stopping;
mod traces;
mod trouble;
mod utilisation;
mod versions;
mod waits;
mod why;
mod workers;
mod world;
