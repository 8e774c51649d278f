//! Converts the topology's plain data into lapin's types.

use lapin::Channel;
use lapin::options::{ExchangeBindOptions, ExchangeUnbindOptions, QueueBindOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::broker::topology::{Argument, Binding, Destination, ExchangeKind};

pub(super) fn name_of(binding: &Binding) -> String {
    format!(
        "the binding of {} to {}",
        binding.destination.name(),
        binding.source
    )
}

pub(super) async fn bind(channel: &Channel, binding: &Binding) -> lapin::Result<()> {
    let source: ShortString = binding.source.as_str().into();
    let pattern: ShortString = binding.pattern.as_str().into();
    let to: ShortString = binding.destination.name().into();
    match &binding.destination {
        Destination::Queue(_) => {
            channel
                .queue_bind(
                    to,
                    source,
                    pattern,
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
        }
        Destination::Exchange(_) => {
            let options = ExchangeBindOptions::default();
            channel
                .exchange_bind(to, source, pattern, options, FieldTable::default())
                .await
        }
    }
}

pub(super) async fn unbind(channel: &Channel, binding: &Binding) -> lapin::Result<()> {
    let source: ShortString = binding.source.as_str().into();
    let pattern: ShortString = binding.pattern.as_str().into();
    let from: ShortString = binding.destination.name().into();
    match &binding.destination {
        Destination::Queue(_) => {
            channel
                .queue_unbind(from, source, pattern, FieldTable::default())
                .await
        }
        Destination::Exchange(_) => {
            let options = ExchangeUnbindOptions::default();
            channel
                .exchange_unbind(from, source, pattern, options, FieldTable::default())
                .await
        }
    }
}

pub(super) fn kind(kind: ExchangeKind) -> lapin::ExchangeKind {
    match kind {
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        ExchangeKind::ModulusHash => lapin::ExchangeKind::Custom(kind.as_str().to_owned()),
    }
}

pub(super) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

pub(super) fn amqp(argument: &Argument) -> AMQPValue {
    match argument {
        Argument::Text(value) => text(value),
        Argument::Number(number) => AMQPValue::LongLongInt(*number),
        Argument::Flag(flag) => AMQPValue::Boolean(*flag),
    }
}

pub(super) fn table(arguments: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}
