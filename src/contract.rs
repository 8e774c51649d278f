//! What crosses the wire: the command in, the event and the dead letter out.
//!
//! Everything here is plain data. A command is checked once, when its bytes are
//! decoded; no invalid command can exist after that.

pub mod asyncapi;
pub mod checked;
pub mod command;
pub mod dead_letter;
pub mod decode;
pub mod event;
pub mod extension;
pub mod failure;
pub mod inquiry;
pub mod json;
pub mod lifecycle;
pub mod notice;
pub mod orders;
pub mod outcome;
pub mod quota;
pub mod schema;

pub use checked::{BatchId, Email, Locale, Phone, ProviderName, Secret, Text, UserId, Version};
pub use command::{Change, CommandId, Field, TrafficClass, Update, UpdateUser};
pub use decode::{BODY_BYTES_MAX, Ident, decode, shown_key, without_marks};
pub use failure::{Failure, Fault, Reason};
pub use json::Json;
pub use notice::{Learned, Notice, RunId, WorkerId};
pub use orders::{BatchState, Orders};
pub use outcome::Outcome;
pub use quota::RateLimitHint;
