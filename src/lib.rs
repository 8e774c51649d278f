//! `usher` applies UpdateUser commands from RabbitMQ to identity providers, at the pace that the provider
//! allows, and publishes the outcome of each.
//!
//! A command's path has five hops, in one direction:
//!
//! | hop | file | from, to |
//! | --- | --- | --- |
//! | receive | `broker/amqp/consumer.rs` | a frame, a `Delivery` |
//! | dispatch | `worker/dispatch.rs` | a `Delivery`, a command in its user's lane |
//! | run | `worker/runner.rs` | the lane's head; what the log knows of it; START; at the end the ack |
//! | attempt | `worker/attempts.rs` | a command, an `Outcome`: permit, call, classify, and again after a wait |
//! | settle | `worker/settle.rs` | an `Outcome`; reply, dead letter and event, each confirmed |
//!
//! Decisions of an attempt are plain data in `policy`: the pace, the retries, the provider's health, the dead-letter
//! guard. `worker::gate` holds them and grants each call its permit.
//!
//! Each module may use only those listed below it, which `tests/it/tidy.rs` checks:
//!
//! - `console`: the operator's pages; `config`, `admin`, `telemetry`: the operator's other interfaces
//! - `operations`: what operators do
//! - `worker`: the application
//! - `simulator`: a provider of each kind, over HTTP, for trials, tests and benchmarks
//! - `provider`: the port to an identity provider, and an adapter for each kind
//! - `policy`: decisions without I/O
//! - `metrics`: names, units and labels
//! - `broker`: the port to a broker; RabbitMQ, and one in memory
//! - `contract`: what crosses the wire
//! - `traces`: what a trace tells of a command
//! - `web`: what the ports that browsers reach have in common
//! - `backoff`: growing delays; `clock`: the wall clock

pub mod admin;
pub mod backoff;
pub mod broker;
pub mod clock;
pub mod config;
pub mod console;
pub mod contract;
pub mod metrics;
pub mod operations;
pub mod policy;
pub mod provider;
pub mod simulator;
pub mod telemetry;
pub mod traces;
pub mod web;
pub mod worker;
