//! One decoded delivery: a command to run, or a refusal to settle.

use std::time::Duration;

use jiff::Timestamp;

use crate::broker::Delivery;
use crate::broker::topology::command_queue;
use crate::contract::dead_letter::{DEAD_AT, REDRIVES};
use crate::contract::{Failure, Ident, ProviderName, Reason, TrafficClass, UpdateUser, UserId, decode};
use crate::provider::Provider;
use crate::traces::Traces;
use crate::worker::carried;
use crate::worker::in_hand::Entry;

/// A delivery with what was decoded from it.
pub struct Received {
    pub delivery: Delivery,
    pub ident: Ident,
    pub command: Result<Box<UpdateUser>, Failure>,
    /// The user whose lane it belongs to. A refused command makes no call and needs no lane, except in a batch: its failure may
    /// hold back the user's later commands of it.
    pub user: Option<UserId>,
    /// Its place among the commands in hand, once it has one.
    pub(super) entry: Option<Entry>,
}

impl Received {
    /// Decodes, and refuses what this worker can't apply.
    pub fn read(delivery: Delivery, name: &ProviderName, provider: &dyn Provider) -> Self {
        let command = decode(&delivery.body);
        let ident = ident(&command, &delivery);
        let command = command.and_then(|command| {
            addressed(&command, &delivery, name)?;
            provider.check(&command)?;
            Ok(Box::new(command))
        });
        let user = match &command {
            Ok(command) => Some(command.user_id.clone()),
            Err(_) if ident.batch_id.is_some() => ident.user_id.as_deref().and_then(UserId::parse),
            Err(_) => None,
        };
        Self {
            delivery,
            ident,
            command,
            user,
            entry: None,
        }
    }

    /// Begins the command's trace, if it is to be traced.
    pub(super) fn begin_trace(&mut self, traces: &Traces, name: &ProviderName) {
        let queue = |delivery: &Delivery| command_queue(name, delivery.partition, delivery.bulk);
        begin_trace(traces, &mut self.delivery, &self.ident, name, queue);
    }
}

/// `queue`: where the delivery came from.
pub(super) fn begin_trace(
    traces: &Traces,
    delivery: &mut Delivery,
    ident: &Ident,
    provider: &ProviderName,
    queue: impl FnOnce(&Delivery) -> String,
) {
    let carried = carried::received(&delivery.properties);
    let Some(process) = traces.begin(carried.as_ref(), delivery.received_at) else {
        return;
    };
    if process.is_recorded() {
        let more = [
            ("usher.provider", provider.to_string().into()),
            ("usher.traffic_class", class(delivery).as_str().into()),
            ("usher.redelivered", delivery.redelivered.into()),
        ];
        process.of(&queue(delivery), ident.command_id.as_deref(), more);
    }
    delivery.trace = Some(process);
}

/// The most that a header's redrive count is trusted for: plain redriving reaches no larger number.
const REDRIVES_MAX: i64 = 1000;

/// The command's identity, whether or not it could be decoded, with the redrive number from its headers.
pub(super) fn ident(command: &Result<UpdateUser, Failure>, delivery: &Delivery) -> Ident {
    let stated = delivery.properties.number(REDRIVES).unwrap_or(0);
    let stated = u32::try_from(stated.clamp(0, REDRIVES_MAX)).unwrap_or(0);
    // A dead letter that is redriven carries the number of the run that dead-lettered it.
    let is_dead_letter = delivery.properties.header(DEAD_AT).is_some();
    let redrives = stated + u32::from(is_dead_letter);
    match command {
        Ok(command) => Ident::of(command, redrives),
        Err(_) => Ident::of_refused(&delivery.body, delivery.properties.message_id(), redrives),
    }
}

pub(super) fn class(delivery: &Delivery) -> TrafficClass {
    match delivery.bulk {
        true => TrafficClass::Bulk,
        false => TrafficClass::Interactive,
    }
}

/// How long ago the command was published, as far as its publisher said. Its clock may be ahead.
pub(super) fn age(ident: &Ident, delivery: &Delivery, now: Timestamp) -> Option<Duration> {
    let stamped = || {
        let seconds = i64::try_from(delivery.properties.timestamp()?).ok()?;
        Timestamp::from_second(seconds).ok()
    };
    let published_at = ident.issued_at.or_else(stamped)?;
    Some(Duration::try_from(now.duration_since(published_at)).unwrap_or_default())
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
    match delivery.properties.reply_to() {
        None if returns_code => invalid(
            "/update/zitadel",
            "returnCode needs the AMQP property reply_to, the only place that codes are sent to".into(),
        ),
        Some(queue) if returns_code && !takes_replies(queue) => invalid(
            "/update/zitadel",
            "the AMQP property reply_to names a queue of usher or of the broker, where codes may not go; name a queue of \
             your own"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// Codes are secrets: they may go to a queue of the publisher, and never to one that others read.
fn takes_replies(queue: &str) -> bool {
    let is_reply_queue = ["amq.rabbitmq.reply-to", "amq.gen-"]
        .iter()
        .any(|prefix| queue.starts_with(prefix));
    let is_ours = ["user.", "usher.", "amq."]
        .iter()
        .any(|prefix| queue.starts_with(prefix));
    is_reply_queue || !is_ours
}
