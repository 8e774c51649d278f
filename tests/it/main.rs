//! The tests of usher as others meet it: its files, its command line, a real broker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that finds the world not as it should be ends there"
)]

mod apply;
mod attacks;
mod batches;
mod bench;
mod bounds;
mod broker_dead_letters;
mod chaos;
mod check;
mod clients;
mod conformance;
mod connection;
mod console;
mod conventions;
mod dead_letters;
mod decode;
mod deleted;
mod deploy;
mod explain;
mod fleet;
mod greedy_consumer;
mod health;
mod leaks;
mod lies;
mod metrics;
mod node;
mod oauth2;
mod operations;
mod outputs;
mod partitions;
mod permissions;
mod pipeline;
mod presets;
mod process;
mod proxy;
mod publish;
mod raw_amqp;
mod read_back;
mod readme;
mod reconnect;
mod resolve;
mod scene;
mod schemas;
mod scim;
mod shown_requests;
mod stalled;
mod steering;
mod support;
mod suspension;
mod throttled;
mod tidy;
mod topology;
mod traces;
mod trouble;
mod verbs;
