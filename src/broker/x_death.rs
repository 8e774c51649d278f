//! The broker's record of a message that it dead-lettered itself.

use lapin::types::{AMQPValue, FieldArray, FieldTable};

use super::{Message, Partition, Properties};

/// The broker's latest dead-lettering of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XDeath {
    /// The broker's reason: `expired`, `rejected`, `delivery_limit`, `maxlen`.
    pub reason: String,
    /// The queue that held the message.
    pub queue: String,
    /// The exchange it was published to.
    pub exchange: String,
    pub routing_key: String,
}

impl XDeath {
    /// `None` where there is no record: the message was published directly to its queue.
    pub fn latest(properties: &Properties) -> Option<Self> {
        // The broker puts its own entry first. Later entries may be the publisher's.
        let deaths = array(properties.amqp().headers().as_ref()?, "x-death")?;
        let death = deaths.first()?.as_field_table()?;
        let said = |name: &str| death.inner().get(name).and_then(text).unwrap_or_default();
        let keys = array(death, "routing-keys").unwrap_or_default();
        Some(Self {
            reason: said("reason"),
            queue: said("queue"),
            exchange: said("exchange"),
            routing_key: keys.first().and_then(text).unwrap_or_default(),
        })
    }

    /// The provider, the partition and whether it was bulk, by the queue's name: also for a partition that no longer
    /// exists.
    pub fn command_queue(&self) -> Option<(&str, Partition, bool)> {
        command_queue(&self.queue)
    }

    /// Whether it was the token of a lease, not a command.
    pub fn is_of_lease_queue(&self) -> bool {
        self.queue.starts_with("usher.lease.")
    }
}

impl Properties {
    /// Adds the record of a dead-lettering, for the broker in memory.
    pub(super) fn with_x_death(self, reason: &str, queue: &str, published: &Message) -> Self {
        let long = |text: &str| AMQPValue::LongString(text.into());
        let mut death = FieldTable::default();
        for (name, value) in [
            ("reason", reason),
            ("queue", queue),
            ("exchange", &published.exchange),
        ] {
            death.insert(name.into(), long(value));
        }
        let keys = FieldArray::from(vec![long(&published.routing_key)]);
        death.insert("routing-keys".into(), AMQPValue::FieldArray(keys));
        let mut deaths = vec![AMQPValue::FieldTable(death)];
        let before = self
            .amqp()
            .headers()
            .as_ref()
            .and_then(|headers| array(headers, "x-death"));
        deaths.extend(before.unwrap_or_default().iter().cloned());
        let mut headers = self.amqp().headers().clone().unwrap_or_default();
        headers.insert("x-death".into(), AMQPValue::FieldArray(FieldArray::from(deaths)));
        Self::from_amqp(self.amqp().clone().with_headers(headers))
    }
}

fn command_queue(name: &str) -> Option<(&str, Partition, bool)> {
    let parts: Vec<_> = name.strip_prefix("user.update.")?.split('.').collect();
    match *parts.as_slice() {
        [provider, partition] => Some((provider, partition.parse().ok()?, false)),
        ["bulk", provider, partition] => Some((provider, partition.parse().ok()?, true)),
        _ => None,
    }
}

fn array<'t>(table: &'t FieldTable, name: &str) -> Option<&'t [AMQPValue]> {
    match table.inner().get(name)? {
        AMQPValue::FieldArray(array) => Some(array.as_slice()),
        _ => None,
    }
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;
    use crate::broker::{Config, Topology};

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    /// As RabbitMQ writes it.
    fn dead_lettered(deaths: &[(&str, &str)]) -> Properties {
        let deaths: Vec<_> = deaths
            .iter()
            .map(|(queue, reason)| {
                let mut death = FieldTable::default();
                death.insert("count".into(), AMQPValue::LongLongInt(1));
                death.insert("reason".into(), long(reason));
                death.insert("queue".into(), long(queue));
                death.insert("exchange".into(), long("user.commands"));
                let keys = FieldArray::from(vec![long("sivo.42"), long("sivo.copy")]);
                death.insert("routing-keys".into(), AMQPValue::FieldArray(keys));
                AMQPValue::FieldTable(death)
            })
            .collect();
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::FieldArray(FieldArray::from(deaths)));
        Properties::from_amqp(BasicProperties::default().with_headers(headers))
    }

    #[test]
    fn the_first_x_death_entry_counts_and_a_forged_later_one_does_not() {
        let forged_behind = dead_lettered(&[
            ("user.update.bulk.sivo.7", "expired"),
            ("user.update.karmo.0", "rejected"),
        ]);
        let death = XDeath::latest(&forged_behind).unwrap();
        let expected = XDeath {
            reason: "expired".to_owned(),
            queue: "user.update.bulk.sivo.7".to_owned(),
            exchange: "user.commands".to_owned(),
            routing_key: "sivo.42".to_owned(),
        };
        assert_eq!(death, expected);
        assert_eq!(death.command_queue(), Some(("sivo", 7, true)));
        assert_eq!(XDeath::latest(&Properties::default()), None);
    }

    #[test]
    fn a_queue_of_another_name_belongs_to_no_provider() {
        for (queue, lease) in [
            ("replies", false),
            ("user.update.sivo", false),
            ("user.update.sivo.x", false),
            ("usher.lease.sivo.0", true),
        ] {
            let death = XDeath::latest(&dead_lettered(&[(queue, "expired")])).unwrap();
            assert_eq!(
                (death.command_queue(), death.is_of_lease_queue()),
                (None, lease),
                "{queue}"
            );
        }
    }

    #[test]
    fn every_command_queue_is_known_by_its_name() {
        for provider in ["sivo", "bulk", "a-1"] {
            let topology = Topology::new(provider, &Config::default());
            for partition in [0, 12] {
                for (name, bulk) in topology.partition_queues(partition) {
                    assert_eq!(command_queue(&name), Some((provider, partition, bulk)));
                }
            }
        }
    }
}
