//! What the broker says of a command that it dead-lettered by itself, as no worker did.

use lapin::types::{AMQPValue, FieldTable};

use super::{Partition, Properties};

/// The header in which a worker says why it made a dead letter. The broker's own have none.
pub const EXPLANATION: &str = "x-usher-reason";

/// The broker's dead-lettering of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The broker's word for it: `expired`, `rejected`, `delivery_limit`, `maxlen`.
    pub word: String,
    /// Which command queue it lay in.
    pub partition: Partition,
    pub bulk: bool,
    /// How it was published.
    pub exchange: String,
    pub routing_key: String,
}

impl Death {
    /// `None` where a worker has said why, or where it was no command of this provider.
    pub fn unexplained(properties: &Properties, provider: &str) -> Option<Self> {
        if is_explained(properties) {
            return None;
        }
        // The latest stands first. Before it came to the commands, it may have died elsewhere.
        let deaths = array(properties.amqp().headers().as_ref()?, "x-death")?;
        deaths
            .iter()
            .find_map(|death| Self::of(death.as_field_table()?, provider))
    }

    fn of(death: &FieldTable, provider: &str) -> Option<Self> {
        let queue = text(death.inner().get("queue")?)?;
        let (of, partition, bulk) = command_queue(&queue)?;
        if of != provider {
            return None;
        }
        let said = |name: &str| death.inner().get(name).and_then(text).unwrap_or_default();
        let keys = array(death, "routing-keys").unwrap_or_default();
        Some(Self {
            word: said("reason"),
            partition,
            bulk,
            exchange: said("exchange"),
            routing_key: keys.first().and_then(text).unwrap_or_default(),
        })
    }
}

pub(super) fn is_explained(properties: &Properties) -> bool {
    properties.header(EXPLANATION).is_some()
}

/// Whose commands a queue of this name holds, which partition's, and whether they are bulk: also where the
/// provider has fewer partitions by now.
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
    use lapin::types::FieldArray;

    use super::*;
    use crate::broker::{Config, Header, Topology};

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    /// As RabbitMQ writes it.
    fn letter(deaths: &[(&str, &str)]) -> Properties {
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
    fn a_command_that_the_broker_dead_lettered_tells_where_it_came_from() {
        let elsewhere_before = letter(&[("user.update.bulk.sivo.7", "expired"), ("later", "rejected")]);
        let death = Death::unexplained(&elsewhere_before, "sivo").unwrap();
        let expected = Death {
            word: "expired".to_owned(),
            partition: 7,
            bulk: true,
            exchange: "user.commands".to_owned(),
            routing_key: "sivo.42".to_owned(),
        };
        assert_eq!(death, expected);
    }

    #[test]
    fn what_is_explained_or_not_this_providers_command_is_none() {
        let ours = letter(&[("user.update.sivo.0", "expired")]);
        assert!(Death::unexplained(&ours, "sivo").is_some());
        assert!(Death::unexplained(&ours, "siv").is_none());
        let reason = [(EXPLANATION.to_owned(), Header::Text("expired".to_owned()))];
        assert!(Death::unexplained(&ours.with_headers(reason), "sivo").is_none());
        for queue in [
            "replies",
            "user.update.sivo",
            "user.update.sivo.x",
            "usher.lease.sivo.0",
        ] {
            assert!(
                Death::unexplained(&letter(&[(queue, "expired")]), "sivo").is_none(),
                "{queue}"
            );
        }
        assert!(Death::unexplained(&Properties::default(), "sivo").is_none());
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
