//! The topology on RabbitMQ: declared, or compared without changing anything.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use serde::Serialize;

use super::connection;
use super::error::{ConnectError, TopologyError, is_not_found, refused_connection, refused_object};
use super::terms::{amqp, bind, kind, name_of, table, text, unbind};
use crate::broker::Config;
use crate::broker::topology::{Binding, Exchange, ExchangeKind, Queue, Topology};

/// The configuration key of the number of partitions.
pub const PARTITIONS: &str = "broker.partitions";

/// What is on the broker, compared with the configuration. Bindings are not included: the
/// protocol can't query them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub objects: Vec<PlannedObject>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedObject {
    /// `queue user.dead-letters`
    pub object: String,
    #[serde(flatten)]
    pub state: ObjectState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ObjectState {
    Missing,
    Present,
    Differs {
        argument: String,
        is: String,
        wanted: String,
    },
}

impl Plan {
    /// Whether declaring would have no effect.
    pub fn is_settled(&self) -> bool {
        self.objects
            .iter()
            .all(|object| object.state == ObjectState::Present)
    }

    pub fn differs(&self) -> bool {
        self.objects
            .iter()
            .any(|object| matches!(object.state, ObjectState::Differs { .. }))
    }
}

/// Declares missing objects. An object that exists and differs is not changed, and is an error.
pub async fn declare(config: &Config, provider: &str) -> Result<(), ConnectError> {
    let topology = Topology::new(provider, config);
    let config = config.clone();
    connection::on_runtime(async move {
        let connection = connection::open_any(&config, "topology").await?;
        let declared = Declaring::new(&connection).declare(&topology).await;
        connection::close(&connection, config.close_timeout).await;
        declared
    })
    .await
}

/// Compares, and changes nothing.
pub async fn plan(config: &Config, provider: &str) -> Result<Plan, ConnectError> {
    let topology = Topology::new(provider, config);
    let config = config.clone();
    connection::on_runtime(async move {
        let connection = connection::open_any(&config, "topology").await?;
        let plan = Declaring::new(&connection).plan(&topology).await;
        connection::close(&connection, config.close_timeout).await;
        plan
    })
    .await
}

pub(super) struct Declaring<'c> {
    connection: &'c Connection,
    /// A refusal closes it; the next request opens another.
    channel: Option<Channel>,
}

#[derive(Clone, Copy)]
enum Object<'t> {
    Exchange(&'t Exchange),
    Queue(&'t Queue),
}

impl<'c> Declaring<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            channel: None,
        }
    }

    pub(super) async fn declare(&mut self, topology: &Topology) -> Result<(), ConnectError> {
        self.refuse_other_partitions(topology).await?;
        self.declare_all(topology).await
    }

    /// For a topology that was declared before: missing objects were deleted, and are logged first. If the number of
    /// partitions differs, nothing is restored.
    pub(super) async fn declare_again(&mut self, topology: &Topology) -> Result<(), ConnectError> {
        self.refuse_other_partitions(topology).await?;
        self.restore(topology).await?;
        self.declare_all(topology).await
    }

    async fn refuse_other_partitions(&mut self, topology: &Topology) -> Result<(), ConnectError> {
        match self.partitions(topology).await? {
            Some(is) if is != topology.partitions => Err(TopologyError::OtherPartitions {
                provider: topology.provider.clone(),
                is,
                wanted: topology.partitions,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Declares everything, whatever the number of partitions on the broker.
    pub(super) async fn declare_all(&mut self, topology: &Topology) -> Result<(), ConnectError> {
        for object in objects(topology) {
            let declared = self.ask(object, false).await?;
            declared.map_err(|error| object.refused(&error))?;
        }
        self.bind_all(topology).await
    }

    pub(super) async fn bind_all(&mut self, topology: &Topology) -> Result<(), ConnectError> {
        for binding in &topology.bindings {
            let bound = bind(self.channel().await?, binding).await;
            bound.map_err(|error| refused_object(&name_of(binding), None, &error))?;
        }
        Ok(())
    }

    /// Declares the exchanges and queues that are missing on the broker, after logging them. Existing ones are not
    /// declared, so that one that is deleted meanwhile is logged by the next check. Returns whether all were there.
    pub(super) async fn restore(&mut self, topology: &Topology) -> Result<bool, ConnectError> {
        let mut missing = Vec::new();
        for object in objects(topology) {
            if !self.exists(object).await? {
                missing.push(object);
            }
        }
        if missing.is_empty() {
            return Ok(true);
        }
        let objects = missing.iter().map(|object| object.label()).collect::<Vec<_>>();
        let objects = objects.join(", ");
        tracing::error!(
            objects,
            "broker: a part of the topology was deleted; its messages are lost. It is declared again"
        );
        for object in missing {
            let declared = self.ask(object, false).await?;
            declared.map_err(|error| object.refused(&error))?;
        }
        Ok(false)
    }

    async fn plan(&mut self, topology: &Topology) -> Result<Plan, ConnectError> {
        let mut objects_found = Vec::new();
        let partitions = self.partitions(topology).await?;
        if let Some(is) = partitions.filter(|is| *is != topology.partitions) {
            objects_found.push(PlannedObject {
                object: format!("the set of command queues of {}", topology.provider),
                state: ObjectState::Differs {
                    argument: PARTITIONS.to_owned(),
                    is: is.to_string(),
                    wanted: topology.partitions.to_string(),
                },
            });
        }
        for object in objects(topology) {
            let state = self.state(object).await?;
            objects_found.push(PlannedObject {
                object: object.label(),
                state,
            });
        }
        let mut exchanges = topology.exchanges.iter();
        if let Some(hashing) = exchanges.find(|exchange| exchange.kind == ExchangeKind::ModulusHash)
            && !self.exists(Object::Exchange(hashing)).await?
        {
            self.refuse_unknown_type(hashing).await?;
        }
        Ok(Plan {
            objects: objects_found,
        })
    }

    /// Refuses a topology that can't be declared as configured. Exchanges are declared, which routes nothing yet;
    /// existing queues are only compared.
    pub(super) async fn compare(&mut self, topology: &Topology) -> Result<(), ConnectError> {
        for object in objects(topology) {
            if matches!(object, Object::Exchange(_)) || self.exists(object).await? {
                let declared = self.ask(object, false).await?;
                declared.map_err(|error| object.refused(&error))?;
            }
        }
        Ok(())
    }

    /// The number of ready messages in the queue, and of its consumers; `None`: there is no such queue.
    pub(super) async fn depth(&mut self, queue: &str) -> Result<Option<(u32, u32)>, ConnectError> {
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let channel = self.channel().await?;
        match channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
        {
            Ok(queue) => Ok(Some((queue.message_count(), queue.consumer_count()))),
            Err(error) => {
                self.channel = None;
                match is_not_found(&error) {
                    true => Ok(None),
                    false => Err(refused_object(&format!("queue {queue}"), None, &error)),
                }
            }
        }
    }

    /// Succeeds also where one of the binding's ends is gone already.
    pub(super) async fn unbind(&mut self, binding: &Binding) -> Result<(), ConnectError> {
        let Err(error) = unbind(self.channel().await?, binding).await else {
            return Ok(());
        };
        self.channel = None;
        match is_not_found(&error) {
            true => Ok(()),
            false => Err(refused_object(&name_of(binding), None, &error)),
        }
    }

    async fn state(&mut self, object: Object<'_>) -> Result<ObjectState, ConnectError> {
        if !self.exists(object).await? {
            return Ok(ObjectState::Missing);
        }
        // Declaring an existing object compares it and changes nothing.
        let Err(error) = self.ask(object, false).await? else {
            return Ok(ObjectState::Present);
        };
        match object.refused(&error) {
            ConnectError::Topology(TopologyError::Differs {
                argument, is, wanted, ..
            }) => Ok(ObjectState::Differs { argument, is, wanted }),
            error => Err(error),
        }
    }

    /// Asks with an exchange that every vhost has: the broker checks the type first, and nothing is created. It
    /// closes the connection if the type is unknown.
    async fn refuse_unknown_type(&mut self, exchange: &Exchange) -> Result<(), ConnectError> {
        let present = Exchange {
            name: "amq.topic".to_owned(),
            ..exchange.clone()
        };
        let Err(error) = self.ask(Object::Exchange(&present), false).await? else {
            return Ok(());
        };
        match Object::Exchange(exchange).refused(&error) {
            ConnectError::Topology(TopologyError::ExchangeTypeMissing { object }) => {
                Err(TopologyError::ExchangeTypeMissing { object }.into())
            }
            _ => Ok(()),
        }
    }

    /// How many partitions of this provider the broker has; `None`: none. Declaring another number
    /// would send a user's commands to two queues, or leave some in a queue that no worker consumes.
    pub(super) async fn partitions(&mut self, topology: &Topology) -> Result<Option<u16>, ConnectError> {
        let mut count = 0;
        while count < u16::MAX && self.has_queue(&topology.partition_queue(count)).await? {
            count += 1;
            if count == 1 && !self.has_exchange(&topology.hashing_exchange()).await? {
                break;
            }
        }
        Ok((count != 0).then_some(count))
    }

    async fn has_queue(&mut self, name: &str) -> Result<bool, ConnectError> {
        let name = name.to_owned();
        let holds = crate::broker::topology::Holds::Other;
        self.exists(Object::Queue(&Queue {
            name,
            holds,
            arguments: Default::default(),
        }))
        .await
    }

    async fn has_exchange(&mut self, name: &str) -> Result<bool, ConnectError> {
        let name = name.to_owned();
        let kind = ExchangeKind::ModulusHash;
        self.exists(Object::Exchange(&Exchange {
            name,
            kind,
            alternate: None,
        }))
        .await
    }

    async fn exists(&mut self, object: Object<'_>) -> Result<bool, ConnectError> {
        match self.ask(object, true).await? {
            Ok(()) => Ok(true),
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(object.refused(&error)),
        }
    }

    pub(super) async fn channel(&mut self) -> Result<&Channel, ConnectError> {
        let usable = self.channel.take().filter(|channel| channel.status().connected());
        let channel = match usable {
            Some(channel) => channel,
            None => self
                .connection
                .create_channel()
                .await
                .map_err(|error| refused_connection(&error))?,
        };
        Ok(self.channel.insert(channel))
    }

    async fn ask(&mut self, object: Object<'_>, passive: bool) -> Result<lapin::Result<()>, ConnectError> {
        let channel = self.channel().await?;
        let answer = match object {
            Object::Exchange(exchange) => {
                let options = ExchangeDeclareOptions {
                    passive,
                    durable: true,
                    ..Default::default()
                };
                let kind = kind(exchange.kind);
                let arguments = exchange.alternate.map(|name| ("alternate-exchange", text(name)));
                let name = exchange.name.as_str().into();
                channel
                    .exchange_declare(name, kind, options, table(arguments))
                    .await
            }
            Object::Queue(queue) => {
                let options = QueueDeclareOptions {
                    passive,
                    durable: true,
                    ..Default::default()
                };
                let arguments = queue.arguments.iter().map(|(name, value)| (*name, amqp(value)));
                let name = queue.name.as_str().into();
                channel
                    .queue_declare(name, options, table(arguments))
                    .await
                    .map(drop)
            }
        };
        if answer.is_err() {
            self.channel = None;
        }
        Ok(answer)
    }
}

impl Object<'_> {
    fn label(&self) -> String {
        match self {
            Self::Exchange(exchange) => format!("exchange {}", exchange.name),
            Self::Queue(queue) => format!("queue {}", queue.name),
        }
    }

    fn refused(&self, error: &lapin::Error) -> ConnectError {
        let exchange = match self {
            Self::Exchange(exchange) => Some(*exchange),
            Self::Queue(_) => None,
        };
        refused_object(&self.label(), exchange, error)
    }
}

fn objects(topology: &Topology) -> impl Iterator<Item = Object<'_>> {
    let exchanges = topology.exchanges.iter().map(Object::Exchange);
    exchanges.chain(topology.queues.iter().map(Object::Queue))
}
