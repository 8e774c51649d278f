//! The application: takes deliveries, keeps each user's order, handles, settles.
//!
//! The path of a command: `run` receives and dispatches it to its user's lane, `handler` makes the
//! calls, `settle` tells the world and acks.

pub mod gate;
pub mod handler;
mod hands;
pub mod lane;
pub mod ledger;
pub mod progress;
pub mod run;
pub mod settle;
pub mod shutdown;
pub mod turn;

pub use progress::Progress;
pub use run::{Config, Setup, Stopped, Worker};
pub use shutdown::Shutdown;
