//! One delivery, read: a command whose turn comes, or a refusal to settle.

use super::handler::Held;
use crate::broker::{Delivery, Partition};
use crate::contract::dead_letter::REDRIVES;
use crate::contract::{Failure, Ident, ProviderName, Reason, TrafficClass, UpdateUser, UserId, decode};
use crate::provider::Provider;

/// A delivery with what was read from it.
pub struct Turn {
    pub delivery: Delivery,
    pub ident: Ident,
    pub command: Result<UpdateUser, Failure>,
}

impl Turn {
    /// Decodes, and refuses what this worker can't apply.
    pub fn read(delivery: Delivery, name: &ProviderName, provider: &dyn Provider) -> Self {
        let command = decode(&delivery.body);
        let ident = ident(&command, &delivery);
        let command = command.and_then(|command| {
            addressed(&command, &delivery, name)?;
            provider.check(&command)?;
            Ok(command)
        });
        Self {
            delivery,
            ident,
            command,
        }
    }

    /// Whose lane it belongs to. A refused command calls nobody and needs no lane.
    pub fn user(&self) -> Option<&UserId> {
        self.command.as_ref().ok().map(|command| &command.user_id)
    }
}

/// Who it is about, whether or not it could be read.
pub(super) fn ident(command: &Result<UpdateUser, Failure>, delivery: &Delivery) -> Ident {
    let redrives = delivery.properties.number(REDRIVES);
    let redrives = redrives.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    match command {
        Ok(command) => Ident::of(command, redrives),
        Err(_) => Ident::of_refused(&delivery.body, delivery.properties.message_id(), redrives),
    }
}

impl Held for Delivery {
    fn usable(&self) -> bool {
        Self::usable(self)
    }

    fn class(&self) -> TrafficClass {
        match self.bulk {
            true => TrafficClass::Bulk,
            false => TrafficClass::Interactive,
        }
    }

    fn partition(&self) -> Partition {
        self.partition
    }
}

/// Whether the command belongs to this worker, came by its own routing key, and says where codes go.
fn addressed(command: &UpdateUser, delivery: &Delivery, name: &ProviderName) -> Result<(), Failure> {
    let invalid = |pointer: &str, detail: String| Err(Failure::new(Reason::Invalid, detail).at(pointer));
    if command.provider != *name {
        return invalid(
            "/provider",
            format!("this queue is {name}'s; publish the command under its own provider"),
        );
    }
    let key = delivery.routing_key.split_once('.');
    if key != Some((name.as_str(), command.user_id.as_str())) {
        return invalid(
            "/userId",
            "the routing key must be <provider>.<userId> of this command: the broker keeps a user's order by it".into(),
        );
    }
    let returns_code = command
        .update
        .zitadel
        .as_ref()
        .is_some_and(|zitadel| zitadel.returns_code());
    if returns_code && delivery.properties.reply_to().is_none() {
        return invalid(
            "/update/zitadel",
            "returnCode needs the AMQP property reply_to: codes go there and nowhere else".into(),
        );
    }
    Ok(())
}
