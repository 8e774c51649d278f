//! The application: takes deliveries, keeps each user's order, handles, settles.
//!
//! The path of a command: `run` receives and dispatches it to its user's lane, `handler` makes the
//! calls, `settle` tells the world and acks. Beside it, `fleet` speaks with the other workers,
//! and `letters` tells what became of commands that the broker gave up.

mod failpoint;
pub mod fleet;
pub mod gate;
pub mod handler;
mod hands;
mod keepers;
pub mod lane;
pub mod ledger;
mod letters;
mod lifecycle;
mod partition;
pub mod progress;
mod rest;
pub mod run;
pub mod settle;
pub mod setup;
pub mod shutdown;
pub mod turn;
mod unroutable;
pub mod waits;
pub mod watchdog;

pub use hands::Merge;
pub use progress::Progress;
pub use run::Worker;
pub use setup::{Company, Config, Setup};
pub use shutdown::{Shutdown, Stopped};
