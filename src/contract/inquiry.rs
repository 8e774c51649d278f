//! What an operator asks the workers of a fleet, and what each answers. No answer holds a value of a command.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::notice::WorkerId;

/// The largest inquiry that is read.
const BYTES_MAX: usize = 2048;

/// The most commands of one answer.
pub const COMMANDS_MAX: usize = 100;

/// The most users and attempts that an answer names.
pub const NAMED_MAX: usize = 10;

/// Queues that answers may go to: those that the broker names, which are exclusive to a connection.
const REPLY_QUEUES: [&str; 2] = ["amq.gen", "inbox."];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inquiry {
    pub ask: Question,
    /// The queue that the answers go to.
    pub reply_to: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Where is the command with this id?
    Command(String),
    /// Where are this user's commands?
    User(String),
    /// What do the commands in hand wait for?
    Waiting,
}

impl Inquiry {
    /// `None`: it is no inquiry.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let inquiry: Self = serde_json::from_slice(bytes).ok()?;
        let answerable = REPLY_QUEUES
            .iter()
            .any(|prefix| inquiry.reply_to.starts_with(prefix));
        answerable.then_some(inquiry)
    }
}

/// One worker's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub worker: WorkerId,
    /// The version of the program. Earlier ones do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The partitions that it consumes.
    pub leases: Vec<u16>,
    /// Since when, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leased_since: Vec<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PausedNow>,
    /// Calls per second that this worker may make now.
    pub pace: f64,
    /// Commands that it has in hand, and the most that it may have.
    pub in_hand: usize,
    pub window: usize,
    /// The commands that were asked for.
    #[serde(default)]
    pub commands: Vec<CommandNow>,
    /// All commands, by what they wait for; only if that was asked.
    #[serde(default)]
    pub causes: Vec<CauseNow>,
    /// The users with most commands; only if that was asked.
    #[serde(default)]
    pub users: Vec<UserNow>,
}

/// Calls are paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PausedNow {
    pub cause: String,
    pub since: Timestamp,
    /// `None`: until an operator resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A command that a worker has in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandNow {
    pub command_id: Option<String>,
    pub user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    pub bulk: bool,
    pub partition: u16,
    pub redelivered: bool,
    pub received_at: Timestamp,
    /// What it waits for; `None`: it runs this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitNow>,
    /// The command of its user that runs before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// How many commands of its user come before it.
    pub ahead: usize,
    /// The latest calls.
    #[serde(default)]
    pub calls: Vec<CallNow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitNow {
    /// A cause of the closed list, such as `permit`.
    #[serde(rename = "for")]
    pub cause: String,
    pub since: Timestamp,
    /// When it ends by itself, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A call to the provider that a command made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallNow {
    /// `read`, `write` or `token`.
    pub kind: String,
    pub at: Timestamp,
    pub took_ms: u64,
    /// `ok`, or the class of the failure.
    pub answer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// The commands in hand that wait for one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CauseNow {
    #[serde(rename = "for")]
    pub cause: String,
    pub commands: usize,
    /// The one that has waited longest.
    pub oldest: Option<String>,
    pub since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserNow {
    pub user_id: String,
    pub commands: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inquiry_is_answered_only_to_a_queue_of_its_own() {
        let read = |text: &str| Inquiry::read(text.as_bytes());
        let good = r#"{"ask":{"command":"c1"},"replyTo":"amq.gen-x"}"#;
        assert_eq!(read(good).unwrap().ask, Question::Command("c1".into()));
        assert!(read(r#"{"ask":"waiting","replyTo":"amq.gen-x"}"#).is_some());
        for bad in [
            good.replace("amq.gen-x", "user.update.sivo.0"),
            good.replace("amq.gen-x", ""),
            good.replace("command", "secret"),
            format!("{good}{}", " ".repeat(BYTES_MAX)),
            String::new(),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
