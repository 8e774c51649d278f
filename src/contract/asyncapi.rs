//! The AsyncAPI document: every exchange that others publish to or read from, from the worker's point of view.
//!
//! Plain data; the payloads are the generated schemas.

use serde_json::{Map, Value, json};

use super::event::{self, EventType};
use super::lifecycle::LifecycleKind;
use super::{Reason, dead_letter, schema};

const BINDING: &str = "0.3.0";

/// `schemas/asyncapi.json`
pub fn document() -> Value {
    let mut schemas = Map::new();
    schema::into_components("UpdateUser", schema::command(), &mut schemas);
    schema::into_components("UserUpdateEvent", schema::event(), &mut schemas);
    schema::into_components("LifecycleEvent", schema::lifecycle(), &mut schemas);
    schemas.insert("DeadLetterHeaders".into(), dead_letter_headers());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "usher",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Applies UpdateUser commands to identity providers: in order, at the provider's pace, with an \
                            outcome for each. Operations are seen from the worker's side: what it receives, others send.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": "application/json",
        "channels": channels(),
        "operations": operations(),
        "components": { "messages": messages(), "schemas": schemas },
    })
}

fn channels() -> Value {
    let outcome = |event_type: EventType| {
        let word = event_type.routing_word();
        let description = format!(
            "Every event of this type. The stream user.outcomes.log keeps all events for a limited time; to receive \
             those of every provider, bind your own queue to user.update.{word}.*."
        );
        channel(
            "user.outcomes",
            &format!("user.update.{word}.{{provider}}"),
            &description,
            &[message_of(event_type)],
        )
    };
    let lifecycle = |kind: LifecycleKind| {
        let topic = kind.topic();
        let description =
            "Published once per change for the whole fleet. The stream user.outcomes.log keeps it as well.";
        channel(
            "user.outcomes",
            &format!("{topic}.{{provider}}"),
            description,
            &[&lifecycle_message(kind)],
        )
    };
    let mut channels = json!({
        "commands": channel(
            "user.commands",
            "{provider}.{userId}",
            "Commands that a person waits for. A user's commands are applied in the order in which they are published.",
            &["updateUser"],
        ),
        "bulkCommands": channel(
            "user.commands.bulk",
            "{provider}.{userId}",
            "Commands of a migration: they use the pace that interactive commands leave unused.",
            &["updateUser"],
        ),
        "started": outcome(EventType::Start),
        "succeeded": outcome(EventType::Success),
        "failed": outcome(EventType::Fail),
        "deadLetters": channel(
            "user.dead-letters",
            "{provider}.{reason}",
            "Commands that failed, unchanged. The queue user.dead-letters keeps all of them.",
            &["deadLetter"],
        ),
    });
    for kind in LifecycleKind::ALL {
        channels[lifecycle_message(kind)] = lifecycle(kind);
    }
    channels
}

/// One exchange under one form of routing key.
fn channel(exchange: &str, address: &str, description: &str, messages: &[&str]) -> Value {
    let parameters: Map<String, Value> = parameters()
        .into_iter()
        .filter(|(name, _)| address.contains(&format!("{{{name}}}")))
        .map(|(name, parameter)| (name.to_owned(), parameter))
        .collect();
    let messages: Map<String, Value> = messages
        .iter()
        .map(|name| {
            (
                (*name).to_owned(),
                reference(&format!("components/messages/{name}")),
            )
        })
        .collect();
    json!({
        "address": address,
        "title": exchange,
        "description": description,
        "parameters": parameters,
        "messages": messages,
        "bindings": { "amqp": {
            "is": "routingKey",
            "exchange": { "name": exchange, "type": "topic", "durable": true, "autoDelete": false },
            "bindingVersion": BINDING,
        } },
    })
}

fn parameters() -> [(&'static str, Value); 3] {
    [
        (
            "provider",
            json!({ "description": "The configured provider's name: 1 to 40 of the characters a-z, 0-9 and -." }),
        ),
        (
            "userId",
            json!({ "description": "The provider's own id of the user, as in the command. It may contain dots." }),
        ),
        (
            "reason",
            json!({ "description": "Why the command ended.", "enum": Reason::ALL.map(Reason::as_str) }),
        ),
    ]
}

fn operations() -> Value {
    let receives = |channel: &str| {
        json!({
            "action": "receive",
            "channel": reference(&format!("channels/{channel}")),
            "bindings": { "amqp": { "ack": true, "bindingVersion": BINDING } },
        })
    };
    let sends = |channel: &str, summary: &str| {
        json!({
            "action": "send",
            "summary": summary,
            "channel": reference(&format!("channels/{channel}")),
            "bindings": { "amqp": { "deliveryMode": 2, "bindingVersion": BINDING } },
        })
    };
    let mut operations = json!({
        "receiveCommand": receives("commands"),
        "receiveBulkCommand": receives("bulkCommands"),
        "sendStarted": sends("started", "The command is about to run."),
        "sendSucceeded": sends("succeeded", "The user matches the command."),
        "sendFailed": sends("failed", "The command failed. Its dead letter was confirmed before."),
        "sendDeadLetter": sends("deadLetters", "The command, with what is wrong and how to fix it."),
    });
    for kind in LifecycleKind::ALL {
        let channel = lifecycle_message(kind);
        operations[format!("send-{}", kind.topic().replace('.', "-"))] = sends(&channel, kind.summary());
    }
    operations
}

fn messages() -> Value {
    let event = |event_type: EventType| {
        json!({
            "name": event_type.as_str(),
            "contentType": event::CONTENT_TYPE,
            "summary": event_summary(event_type),
            "headers": trace_context(),
            "payload": { "allOf": [
                reference("components/schemas/UserUpdateEvent"),
                { "type": "object", "properties": { "type": { "const": event_type.as_str() } } },
            ] },
            "bindings": { "amqp": { "messageType": event_type.as_str(), "bindingVersion": BINDING } },
        })
    };
    let lifecycle = |kind: LifecycleKind| {
        json!({
            "name": kind.as_str(),
            "contentType": event::CONTENT_TYPE,
            "summary": "AMQP properties: message_id is the event's id.",
            "payload": { "allOf": [
                reference("components/schemas/LifecycleEvent"),
                { "type": "object", "properties": { "type": { "const": kind.as_str() } } },
            ] },
            "bindings": { "amqp": { "messageType": kind.as_str(), "bindingVersion": BINDING } },
        })
    };
    let mut messages = json!({
        "updateUser": {
            "name": "UpdateUser",
            "contentType": "application/json",
            "summary": "AMQP properties: message_id is the command's id and delivery_mode 2. No priority: it would \
                        reorder a user's commands. Codes that a command requests are sent only to its reply_to.",
            "headers": trace_context(),
            "payload": reference("components/schemas/UpdateUser"),
        },
        message_of(EventType::Start): event(EventType::Start),
        message_of(EventType::Success): event(EventType::Success),
        message_of(EventType::Fail): event(EventType::Fail),
        "deadLetter": {
            "name": "DeadLetter",
            "summary": "Body and properties are those received, so the body may be anything. The headers are added.",
            "headers": reference("components/schemas/DeadLetterHeaders"),
            "payload": {},
        },
    });
    for kind in LifecycleKind::ALL {
        messages[lifecycle_message(kind)] = lifecycle(kind);
    }
    messages
}

fn message_of(event_type: EventType) -> &'static str {
    match event_type {
        EventType::Start => "userUpdateStart",
        EventType::Success => "userUpdateSuccess",
        EventType::Fail => "userUpdateFail",
    }
}

/// Such as `providerPaused`.
fn lifecycle_message(kind: LifecycleKind) -> String {
    let mut words = kind.topic().split(['.', '-']);
    let subject = words.next().unwrap_or_default().to_owned();
    words.fold(subject, |name, word| {
        let (initial, rest) = word.split_at(1);
        format!("{name}{}{rest}", initial.to_uppercase())
    })
}

fn event_summary(event_type: EventType) -> String {
    let mut summary =
        "AMQP properties: message_id is the event's id, correlation_id the command's.".to_owned();
    if event_type == EventType::Success {
        summary += " app_id repeats parts of the body, for workers that read the log: \
                    <changed>/<attempts>/<milliseconds>/<mergedInto>/<field,field>, without a value.";
    }
    summary
}

fn trace_context() -> Value {
    json!({ "type": "object", "properties": {
        "traceparent": { "type": "string", "description": "W3C trace context. An event has that of its command, or, where the worker traces the command, one of the same trace." },
        "tracestate": { "type": "string", "maxLength": 512, "description": "W3C trace state beside it. Events and the requests to the provider have that of the command; one of another form is dropped." },
    } })
}

/// The headers that are added to those of the command.
fn dead_letter_headers() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let moment =
        |description: &str| json!({ "type": "string", "format": "date-time", "description": description });
    let count = |description: &str| json!({ "type": "integer", "minimum": 0, "description": description });
    json!({
        "type": "object",
        "properties": {
            dead_letter::REASON: { "type": "string", "enum": Reason::ALL.map(Reason::as_str) },
            dead_letter::DETAIL: text("What is wrong and how to fix it. It contains no value of the command."),
            dead_letter::STATUS: count("The provider's HTTP status."),
            dead_letter::CODE: text("The provider's own code."),
            dead_letter::ATTEMPTS: count("Calls that count as attempts."),
            dead_letter::FIRST_ATTEMPT_AT: moment("Absent if no call was made."),
            dead_letter::DEAD_AT: moment("When the command ended."),
            dead_letter::EXCHANGE: text("The exchange to which the command was published."),
            dead_letter::ROUTING_KEY: text("The routing key with which it was published."),
            dead_letter::REDRIVES: count("How many times the command was redriven."),
            dead_letter::VERSION: text("The version of usher that wrote the dead letter."),
            dead_letter::HEADERS_CUT: text("How many of the command's headers did not fit, and their names."),
        },
        "required": [
            dead_letter::REASON, dead_letter::DETAIL, dead_letter::ATTEMPTS, dead_letter::DEAD_AT,
            dead_letter::EXCHANGE, dead_letter::ROUTING_KEY, dead_letter::REDRIVES, dead_letter::VERSION,
        ],
    })
}

fn reference(place: &str) -> Value {
    json!({ "$ref": format!("#/{place}") })
}
