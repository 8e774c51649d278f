//! `usher` applies UpdateUser commands from RabbitMQ to identity providers.
pub mod broker;
pub mod clock;
pub mod contract;
pub mod metrics;
pub mod policy;
pub mod provider;
pub mod worker;
