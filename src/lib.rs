//! `usher` applies UpdateUser commands from RabbitMQ to identity providers.
pub mod broker;
pub mod clock;
pub mod contract;
pub mod policy;
pub mod provider;
