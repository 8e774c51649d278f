//! Publishes the outcome in an order that makes a crash harmless: reply, dead letter, terminal event; the ack comes
//! after.
//!
//! The broker confirms each before the next is published. The dead letter precedes the event: a reader of the event may
//! take the command for settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::backoff::Backoff;
use crate::broker::topology::{DEAD_LETTERS, OUTCOMES};
use crate::broker::{
    Added, Delivery, Header, Message, Properties, PublishError, Publisher, SHORT_TEXT_BYTES_MAX,
};
use crate::clock::Clock;
use crate::contract::dead_letter::{self, DeadLetter, HeaderValue};
use crate::contract::event::{CONTENT_TYPE, Event, EventBody, Summary};
use crate::contract::notice::HANDED_BACK;
use crate::contract::outcome::Settlement;
use crate::contract::{Failure, Ident, ProviderName, RunId};
use crate::metrics;
use crate::provider::Codes;
use crate::traces::Publishing;
use crate::worker::carried;

/// Delay before a dead letter that no queue took is published again.
const ROUTED_AGAIN: Duration = Duration::from_secs(1);

/// A message, with its span until that is dropped. A command that is not traced has none.
pub type Traced = (Message, Option<Publishing>);

/// Publishes the outcomes of commands.
#[derive(Clone)]
pub struct Settler {
    pub publisher: Arc<dyn Publisher>,
    pub provider: ProviderName,
    pub clock: Clock,
}

/// The body of a reply with codes: the only message that carries secrets. It goes to the publisher that asked for them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    command_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_code: Option<&'a str>,
}

impl Settler {
    /// Publishes START, and returns when the broker has confirmed it. `run` identifies this run to other workers.
    pub async fn start(&self, ident: &Ident, delivery: &Delivery, run: &RunId) {
        let (message, _published) = self.started(ident, delivery, Some(run), None);
        self.until_confirmed(&message).await;
    }

    /// Publishes START of a command that is never run, and returns when the broker has confirmed it.
    pub async fn announce(&self, ident: &Ident, delivery: &Delivery) {
        let (message, _published) = self.started(ident, delivery, None, None);
        self.until_confirmed(&message).await;
    }

    /// START again, with the hand-back mark: the run ended without an outcome and without a crash.
    pub fn handed_back(&self, ident: &Ident, delivery: &Delivery, run: &RunId, called: bool) -> Traced {
        let how = if called { "called" } else { "untouched" };
        self.started(
            ident,
            delivery,
            Some(run),
            Some(mark(HANDED_BACK, how.to_owned())),
        )
    }

    fn started(
        &self,
        ident: &Ident,
        delivery: &Delivery,
        run: Option<&RunId>,
        handed_back: Option<(String, Header)>,
    ) -> Traced {
        let event = Event::start(&self.provider, ident, delivery.redelivered, self.clock.now());
        let (mut message, published) = self.message(&event, ident, delivery, handed_back);
        if let Some(run) = run {
            message.properties = message.properties.with_app_id(&run.to_string());
        }
        (message, published)
    }

    /// Publishes the terminal event, and returns when the broker has confirmed it.
    pub async fn terminal(&self, ident: &Ident, delivery: &Delivery, settlement: &Settlement) {
        let now = self.clock.now();
        let event = Event::terminal(&self.provider, ident, delivery.redelivered, settlement, now);
        let (message, _published) = self.message(&event, ident, delivery, None);
        self.until_confirmed(&message).await;
    }

    fn message(
        &self,
        event: &Event,
        ident: &Ident,
        delivery: &Delivery,
        header: Option<(String, Header)>,
    ) -> Traced {
        let event_type = event.event_type();
        let seconds = u64::try_from(event.time.as_second()).unwrap_or(0);
        let id = event.id.to_string();
        let published = delivery.trace.as_ref().and_then(|process| {
            process.publishes(OUTCOMES, Some(&id), [("usher.event", event_type.as_str().into())])
        });
        let mut properties = Properties::persistent(&id, CONTENT_TYPE)
            .with_message_type(event_type.as_str())
            .with_timestamp(seconds);
        if let Some(command_id) = &ident.command_id {
            properties = properties.with_correlation_id(command_id);
        }
        if let Some(summary) = summary(event) {
            properties = properties.with_app_id(&summary);
        }
        // Events carry none of the publisher's other headers.
        let context = match &published {
            Some(published) => Some(published.headers()),
            None => carried::handed_on(&delivery.properties),
        };
        let headers: Vec<_> = carried::by(context.as_ref()).chain(header).collect();
        if !headers.is_empty() {
            properties = properties.with_headers(headers);
        }
        let message = Message {
            exchange: OUTCOMES.into(),
            routing_key: format!("user.update.{}.{}", event_type.routing_word(), self.provider),
            properties,
            body: json(event),
            mandatory: false,
        };
        (message, published)
    }

    /// Publishes the dead letter: the command as it was received, with the reason in its headers.
    pub async fn dead_letter(
        &self,
        ident: &Ident,
        delivery: &Delivery,
        failure: &Failure,
        attempts: u32,
        first_attempt_at: Option<Timestamp>,
    ) {
        let letter = DeadLetter {
            failure,
            attempts,
            first_attempt_at,
            dead_at: self.clock.now(),
            exchange: &delivery.exchange,
            routing_key: &delivery.routing_key,
            redrives: ident.redrives,
        };
        let headers = letter.headers().into_iter().map(|(name, value)| {
            let value = match value {
                HeaderValue::Text(text) => Header::Text(text),
                HeaderValue::Number(n) => Header::Number(n.into()),
            };
            (name.to_owned(), value)
        });
        let message = Message {
            exchange: DEAD_LETTERS.into(),
            routing_key: format!("{}.{}", self.provider, failure.reason),
            properties: delivery.properties.for_another_publish(Added {
                headers: headers.collect(),
                replaces: dead_letter::PREFIX,
                cut: dead_letter::HEADERS_CUT,
                bytes_max: self.publisher.headers_bytes_max(),
            }),
            body: delivery.body.clone(),
            mandatory: true,
        };
        let _published = published(delivery, DEAD_LETTERS, ident);
        self.until_routed(&message).await;
    }

    /// Publishes until a queue takes it. Where none does, the topology is being declared again.
    pub async fn until_routed(&self, message: &Message) {
        let mut said = false;
        while !self.until_confirmed(message).await {
            if !std::mem::replace(&mut said, true) {
                tracing::error!(
                    exchange = message.exchange,
                    routing_key = message.routing_key,
                    "settle: no queue takes a message that has to be kept; its command waits until one does"
                );
            }
            tokio::time::sleep(ROUTED_AGAIN).await;
        }
    }

    /// Sends codes to the publisher's reply queue. If that queue is gone the codes are dropped: they are for no other
    /// reader.
    pub async fn reply(&self, ident: &Ident, delivery: &Delivery, codes: &Codes) {
        let Some(reply_to) = delivery.properties.reply_to().filter(|_| !codes.is_empty()) else {
            return;
        };
        let command_id = ident.command_id.as_deref();
        let correlation_id = delivery
            .properties
            .correlation_id()
            .or(command_id)
            .unwrap_or_default();
        let message = Message {
            exchange: String::new(),
            routing_key: reply_to.to_owned(),
            properties: Properties::persistent(&ident.key.to_string(), "application/json")
                .with_correlation_id(correlation_id),
            body: json(&Reply {
                command_id,
                email_code: codes.email.as_ref().map(|code| code.expose()),
                phone_code: codes.phone.as_ref().map(|code| code.expose()),
            }),
            mandatory: true,
        };
        let _published = published(delivery, "", ident);
        if !self.until_confirmed(&message).await {
            tracing::warn!(
                command.id = command_id,
                "reply: the publisher's reply_to queue is gone; the codes are lost"
            );
        }
    }

    /// Publishes until the broker confirms. Repeating is harmless, since readers recognise a message by its id. Waits
    /// for as long as the broker is away. False: no queue takes the message.
    pub async fn until_confirmed(&self, message: &Message) -> bool {
        let mut delays = Backoff::between(Duration::from_millis(100), Duration::from_secs(5));
        let mut rng = fastrand::Rng::with_seed(message.body.len() as u64);
        loop {
            match self.publisher.publish(message).await {
                Ok(()) => return true,
                Err(PublishError::Returned) => return false,
                Err(PublishError::Nacked | PublishError::Unconfirmed) => metrics::publish_repeated(),
            }
            tokio::time::sleep(delays.next_at_least_half(&mut rng)).await;
        }
    }
}

/// `None` where the summary is too long for the property, and where there is a version, which is read from the body.
fn summary(event: &Event) -> Option<String> {
    let EventBody::Success(success) = &event.body else {
        return None;
    };
    if success.version.is_some() {
        return None;
    }
    let summary = Summary::of(success).to_string();
    (summary.len() <= SHORT_TEXT_BYTES_MAX).then_some(summary)
}

/// The span of a message other than an event. Its trace context is not the worker's: a dead letter has its publisher's.
fn published(delivery: &Delivery, exchange: &'static str, ident: &Ident) -> Option<Publishing> {
    let process = delivery.trace.as_ref()?;
    process.publishes(exchange, ident.command_id.as_deref(), [])
}

fn mark(name: &str, text: String) -> (String, Header) {
    (name.to_owned(), Header::Text(text))
}

fn json(value: &impl Serialize) -> Bytes {
    #[expect(
        clippy::expect_used,
        reason = "these types hold strings and numbers under string keys"
    )]
    Bytes::from(serde_json::to_vec(value).expect("serializable"))
}
