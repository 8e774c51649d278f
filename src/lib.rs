//! `usher` applies UpdateUser commands from RabbitMQ to identity providers, at the pace that the provider
//! allows, and tells the world what became of each.
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
