//! What the ports that browsers can reach have in common: bounded connections, and which requests come from their own pages.

pub mod origin;
pub mod server;
