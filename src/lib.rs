//! `usher` applies UpdateUser commands from RabbitMQ to identity providers, at the pace that the provider
//! allows, and tells the world what became of each.
//!
//! A command's path has four hops: `broker::Consumer::next` receives it, `worker::run` dispatches it to its
//! user's lane, `worker::handler` makes the calls, `worker::settle` publishes its outcome and acks it. What
//! the handler decides by is plain data in `policy`: the pace, the retries, the provider's health, the guard
//! before the dead letters; `worker::gate` holds it and grants each call its permit.
//!
//! Each module may use those that stand below it here, and `tests/it/tidy.rs` sees to it:
//!
//! - `config`, `admin`, `telemetry`: what an operator meets
//! - `worker`: the application
//! - `provider`: the port to an identity provider, an adapter for each kind, and a simulation of each
//! - `policy`: decisions without I/O
//! - `metrics`: names, units and labels
//! - `broker`: the port to a broker; RabbitMQ, and one in memory
//! - `contract`: what crosses the wire; `clock`: the wall clock

pub mod admin;
pub mod broker;
pub mod clock;
pub mod config;
pub mod contract;
pub mod metrics;
pub mod policy;
pub mod provider;
pub mod telemetry;
pub mod worker;
