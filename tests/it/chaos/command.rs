//! The commands of a run. User and number can be read back from the id, and from what the provider was told.

use serde_json::{Value, json};
use uuid::Uuid;

/// The n-th command of a user: later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Command {
    pub user: u32,
    pub n: u32,
}

const IDS: u128 = 0x0190_0000_0000_7000_8000 << 48;

/// One user in three is migrated: order is promised within one class, so each user has one.
pub fn is_bulk(user: u32) -> bool {
    user % 3 == 2
}

/// One command in a hundred asks for an address that belongs to somebody else.
pub fn is_taken(command: Command) -> bool {
    (command.user.wrapping_mul(7919) ^ command.n.wrapping_mul(104_729)).is_multiple_of(100)
}

impl Command {
    pub fn id(self) -> Uuid {
        Uuid::from_u128(IDS | u128::from(self.user) << 32 | u128::from(self.n))
    }

    pub fn of_id(id: &str) -> Option<Self> {
        let number = Uuid::parse_str(id).ok()?.as_u128();
        let user = u32::try_from((number ^ IDS) >> 32).ok()?;
        Some(Self {
            user,
            n: (number & u128::from(u32::MAX)) as u32,
        })
    }

    pub fn user_id(self) -> String {
        user_id(self.user)
    }

    pub fn email(self) -> String {
        let before = if is_taken(self) { "taken." } else { "" };
        format!("{before}{}.n{}@example.com", self.user_id(), self.n)
    }

    pub fn body(self, provider: &str) -> Value {
        json!({
            "id": self.id(), "provider": provider, "userId": self.user_id(), "update": { "email": self.email() },
        })
    }
}

pub fn user_id(user: u32) -> String {
    format!("user-{user}")
}

pub fn user_of(id: &str) -> Option<u32> {
    id.strip_prefix("user-")?.parse().ok()
}

/// The number in the first address within a text.
pub fn number_in(text: &str) -> Option<u32> {
    let (before, _) = text.split_once("@example.com")?;
    before.rsplit(".n").next()?.parse().ok()
}

#[test]
fn a_command_is_known_by_its_id_and_by_its_value() {
    let command = Command { user: 7, n: 12 };
    assert_eq!(Command::of_id(&command.id().to_string()), Some(command));
    assert_eq!(number_in(&command.body("p").to_string()), Some(12));
    assert_eq!(user_of(&command.user_id()), Some(7));
    assert_eq!(Command::of_id(&Uuid::nil().to_string()), None);
}
