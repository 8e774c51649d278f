//! A message's properties and headers, kept as they were received.

use std::collections::BTreeMap;
use std::fmt;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::headers::Added;

/// AMQP's basic properties. Everything that a publisher set is kept, headers of any type included.
#[derive(Clone, PartialEq, Default)]
pub struct Properties(BasicProperties);

/// A header's value, as far as usher reads or writes headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    Text(String),
    Number(i64),
}

impl Properties {
    /// A persistent message with this id.
    pub fn persistent(message_id: &str, content_type: &str) -> Self {
        Self(
            BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(message_id.into())
                .with_content_type(content_type.into()),
        )
    }

    /// A transient message: lost when the broker restarts.
    pub fn transient(content_type: &str) -> Self {
        Self(
            BasicProperties::default()
                .with_delivery_mode(1)
                .with_content_type(content_type.into()),
        )
    }

    pub fn from_amqp(properties: BasicProperties) -> Self {
        Self(properties)
    }

    pub fn amqp(&self) -> &BasicProperties {
        &self.0
    }

    pub fn message_id(&self) -> Option<&str> {
        self.0.message_id().as_ref().map(|id| id.as_str())
    }

    pub fn correlation_id(&self) -> Option<&str> {
        self.0.correlation_id().as_ref().map(|id| id.as_str())
    }

    pub fn reply_to(&self) -> Option<&str> {
        self.0
            .reply_to()
            .as_ref()
            .map(|queue| queue.as_str())
            .filter(|queue| !queue.is_empty())
    }

    pub fn content_type(&self) -> Option<&str> {
        self.0.content_type().as_ref().map(|kind| kind.as_str())
    }

    pub fn message_type(&self) -> Option<&str> {
        self.0.kind().as_ref().map(|kind| kind.as_str())
    }

    pub fn app_id(&self) -> Option<&str> {
        self.0.app_id().as_ref().map(|id| id.as_str())
    }

    pub fn with_app_id(self, id: &str) -> Self {
        Self(self.0.with_app_id(id.into()))
    }

    pub fn with_correlation_id(self, id: &str) -> Self {
        Self(self.0.with_correlation_id(id.into()))
    }

    pub fn with_message_type(self, name: &str) -> Self {
        Self(self.0.with_type(name.into()))
    }

    pub fn with_reply_to(self, queue: &str) -> Self {
        Self(self.0.with_reply_to(queue.into()))
    }

    /// In seconds since 1970.
    pub fn timestamp(&self) -> Option<u64> {
        *self.0.timestamp()
    }

    pub fn with_timestamp(self, epoch_seconds: u64) -> Self {
        Self(self.0.with_timestamp(epoch_seconds))
    }

    pub fn header(&self, name: &str) -> Option<Header> {
        let table = self.0.headers().as_ref()?;
        match table.inner().get(name)? {
            AMQPValue::LongString(text) => Some(Header::Text(text.to_string())),
            AMQPValue::ShortString(text) => Some(Header::Text(text.to_string())),
            AMQPValue::ShortShortInt(n) => Some(Header::Number((*n).into())),
            AMQPValue::ShortShortUInt(n) => Some(Header::Number((*n).into())),
            AMQPValue::ShortInt(n) => Some(Header::Number((*n).into())),
            AMQPValue::ShortUInt(n) => Some(Header::Number((*n).into())),
            AMQPValue::LongInt(n) => Some(Header::Number((*n).into())),
            AMQPValue::LongUInt(n) => Some(Header::Number((*n).into())),
            AMQPValue::LongLongInt(n) => Some(Header::Number(*n)),
            _ => None,
        }
    }

    /// The names of all headers.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        let table = self.0.headers().as_ref();
        table
            .into_iter()
            .flat_map(|table| table.inner().keys())
            .map(|name| name.as_str())
    }

    /// A header's value in words, whatever its type.
    pub fn header_shown(&self, name: &str) -> Option<String> {
        let table = self.0.headers().as_ref()?;
        Some(match self.header(name) {
            Some(Header::Text(text)) => text,
            Some(Header::Number(number)) => number.to_string(),
            None => format!("{:?}", table.inner().get(name)?),
        })
    }

    /// Without headers that the broker adds to what it delivers: they count deliveries from another queue.
    pub fn without_counts(self) -> Self {
        let Some(table) = self.0.headers() else {
            return self;
        };
        let mut table: BTreeMap<_, _> = table.inner().clone();
        table.retain(|name, _| !["x-delivery-count", "x-acquired-count"].contains(&name.as_str()));
        Self(self.0.with_headers(FieldTable::from(table)))
    }

    pub fn header_text(&self, name: &str) -> Option<String> {
        match self.header(name)? {
            Header::Text(text) => Some(text),
            Header::Number(_) => None,
        }
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        match self.header(name)? {
            Header::Number(n) => Some(n),
            Header::Text(_) => None,
        }
    }

    pub fn with_headers(self, headers: impl IntoIterator<Item = (String, Header)>) -> Self {
        let mut table: BTreeMap<_, _> = self.0.headers().clone().unwrap_or_default().inner().clone();
        for (name, value) in headers {
            table.insert(name.into(), amqp(value));
        }
        Self(self.0.with_headers(FieldTable::from(table)))
    }

    /// The properties for publishing the message again from another connection, with these headers added and without
    /// the properties that the broker acts on: a `user_id` that is not the connection's is refused, an `expiration`
    /// would delete the message, a `priority` would reorder it.
    pub fn for_another_publish(&self, added: Added<'_>) -> Self {
        let mut kept = BasicProperties::default().with_delivery_mode(2);
        let old = &self.0;
        macro_rules! keep {
            ($($get:ident => $with:ident),*) => { $(
                if let Some(value) = old.$get().clone() {
                    kept = kept.$with(value);
                }
            )* };
        }
        keep!(content_type => with_content_type, content_encoding => with_content_encoding,
            correlation_id => with_correlation_id, reply_to => with_reply_to,
            message_id => with_message_id, timestamp => with_timestamp, kind => with_type, app_id => with_app_id);
        Self(kept.with_headers(added.to(old.headers().as_ref())))
    }
}

pub(super) fn amqp(value: Header) -> AMQPValue {
    match value {
        Header::Text(text) => AMQPValue::LongString(text.into()),
        Header::Number(n) => AMQPValue::LongLongInt(n),
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties")
            .field("message_id", &self.message_id())
            .finish_non_exhaustive()
    }
}
