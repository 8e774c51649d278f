//! The application: takes deliveries, keeps each user's order, applies each command, and publishes its outcome.
//!
//! The path of a command: `dispatch` decodes it and puts it into its user's lane; `runner` looks up what the log knows
//! of it, publishes START, and acks it at the end; `attempts` makes the calls; `settle` publishes the outcome. Beside
//! it,
//! `fleet` talks to the other workers, and `reconciler` completes what the broker itself dead-lettered.

pub mod attempts;
mod background;
mod carried;
pub mod dispatch;
mod failpoint;
pub mod fleet;
pub mod gate;
mod holds;
pub mod in_hand;
pub mod lane;
pub mod ledger;
pub mod lifecycle;
mod links;
pub mod order_book;
mod partition;
pub mod progress;
pub mod received;
mod reconciler;
mod runner;
pub mod settle;
pub mod setup;
pub mod shutdown;
mod steering;
mod suspension;
mod unroutable;
pub mod waits;
pub mod watchdog;

pub use dispatch::Worker;
pub use progress::Progress;
pub use runner::Merge;
pub use setup::{Config, FleetSetup, Setup};
pub use shutdown::{Shutdown, Stopped};
