//! What operators do, for the command line and whatever else asks for it. It uses the broker's port alone, so that it runs
//! in memory and on RabbitMQ.

pub mod batch;
pub mod confirmed;
pub mod dead_letters;
pub mod effect;
pub mod fill;
pub mod findings;
pub mod id_map;
pub mod lookup;
pub mod operation;
pub mod steering;
mod stream;
pub mod table;
pub mod why;
