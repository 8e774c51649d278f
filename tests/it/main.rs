//! The promises that are about the broker, on real RabbitMQ; the broker in memory keeps the same ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that finds the world not as it should be ends there"
)]

mod apply;
mod bench;
mod conformance;
mod leaks;
mod node;
mod pipeline;
mod process;
mod proxy;
mod reconnect;
mod scene;
mod support;
mod throttled;
mod topology;
