//! Decisions without I/O: how fast to call, whether to call at all, when to call again.

pub mod balance;
pub mod guard;
pub mod health;
pub mod pace;
pub mod reported_pauses;
pub mod retry;
