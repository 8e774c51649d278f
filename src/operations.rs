//! What people do, once for every interface: it knows the broker's ports, and neither an adapter nor a terminal.

pub mod dead_letters;
pub mod operation;
