//! The broker's refusals, with how to fix them.

use lapin::ErrorKind;

use crate::broker::config::BrokerUrl;
use crate::broker::topology::Exchange;

/// Why the broker can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Waiting may help.
    #[error("the broker can't be reached: {reason}")]
    Unreachable { reason: String },
    /// The broker's certificate is refused because its time is over.
    #[error(
        "the broker can't be reached: its certificate has expired: {reason}; renew it, or correct this machine's clock"
    )]
    CertificateExpired { reason: String },
    #[error("the broker refuses the connection: {reason}; {remedy}")]
    Refused { reason: String, remedy: &'static str },
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

impl ConnectError {
    /// False where the configuration, or the broker's, must be fixed first.
    pub fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    pub(super) fn map_reason(self, map: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Unreachable { reason } => Self::Unreachable { reason: map(reason) },
            Self::CertificateExpired { reason } => Self::CertificateExpired { reason: map(reason) },
            Self::Refused { reason, remedy } => Self::Refused {
                reason: map(reason),
                remedy,
            },
            Self::Topology(error) => Self::Topology(error),
        }
    }

    /// The error of trying every address: a refusal, which has to be fixed, takes precedence over an unreachable
    /// broker.
    pub(super) fn of_all(mut tried: Vec<(&BrokerUrl, Self)>) -> Self {
        if let Some(at) = tried.iter().position(|(_, error)| !error.is_out_of_reach()) {
            let (url, error) = tried.swap_remove(at);
            return error.map_reason(|reason| format!("{url}: {reason}"));
        }
        let each = |(url, error): (&BrokerUrl, Self)| match error {
            Self::Unreachable { reason } => format!("{url}: {reason}"),
            error => format!("{url}: {error}"),
        };
        let reasons: Vec<_> = tried.into_iter().map(each).collect();
        Self::unreachable(&reasons.join("; "))
    }

    pub(super) fn unreachable(reason: &impl ToString) -> Self {
        Self::Unreachable {
            reason: reason.to_string(),
        }
    }
}

/// Why the topology can't be as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    #[error(
        "{object} on the broker differs from the configuration: {argument} is {is}, wanted is {wanted}; {}",
        remedy(object)
    )]
    Differs {
        object: String,
        argument: String,
        is: String,
        wanted: String,
    },
    #[error(
        "{provider}'s number of partitions on the broker is {is}, and broker.partitions is {wanted}: configure {is}; \
         or, to change it, {}",
        drain(*is)
    )]
    OtherPartitions { provider: String, is: u16, wanted: u16 },
    #[error(
        "{provider}'s number of partitions stays {is}, and does not become {wanted}: {why}; to change it, {}",
        drain(*is)
    )]
    PartitionsInUse {
        provider: String,
        is: u16,
        wanted: u16,
        why: String,
    },
    #[error(
        "{object} needs the exchange type x-modulus-hash, which this broker doesn't have: \
         run `rabbitmq-plugins enable rabbitmq_sharding` on it, or configure one partition"
    )]
    ExchangeTypeMissing { object: String },
    #[error(
        "the broker's user may not declare {object}: {reason}; \
         grant it configure, write and read with `rabbitmqctl set_permissions`"
    )]
    NotPermitted { object: String, reason: String },
    #[error("the broker refuses {object}: {reason}")]
    Refused { object: String, reason: String },
}

fn remedy(object: &str) -> String {
    match object.starts_with("exchange ") {
        true => format!("delete {object} while nothing publishes to it, and declare the topology again"),
        false => format!(
            "configure what the broker has, or drain {object}, delete it and declare the topology again"
        ),
    }
}

fn drain(partitions: u16) -> String {
    format!(
        "stop what publishes commands, let workers with broker.partitions = {partitions} run until the command \
         queues are empty, stop them, and run `usher topology declare`"
    )
}

const NOT_FOUND: u16 = 404;
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// The broker's reply, if the error came from the broker.
fn reply(error: &lapin::Error) -> Option<(u16, &str)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().as_str())),
        _ => None,
    }
}

pub(super) fn is_not_found(error: &lapin::Error) -> bool {
    reply(error).is_some_and(|(code, reason)| code == NOT_FOUND && !is_away(reason))
}

/// The queue exists, on a node that is down or has not come up yet.
fn is_away(reason: &str) -> bool {
    reason.contains("down or inaccessible")
}

/// Why no connection was made.
pub(super) fn refused_connection(error: &lapin::Error) -> ConnectError {
    let refused = |reason: &dyn ToString, remedy| ConnectError::Refused {
        reason: reason.to_string(),
        remedy,
    };
    match error.kind() {
        ErrorKind::InvalidProtocolVersion(_) => {
            refused(error, "the address must be that of its AMQP 0-9-1 listener")
        }
        ErrorKind::IOError(io) if is_expired(io) => ConnectError::CertificateExpired {
            reason: error.to_string(),
        },
        // A failed TLS handshake; a network failure has another kind.
        ErrorKind::IOError(io) if io.kind() == std::io::ErrorKind::InvalidData => refused(
            error,
            "check its certificate, and that amqps:// goes to its TLS listener",
        ),
        _ => match reply(error) {
            Some((ACCESS_REFUSED, reason)) => refused(&reason, "check the user and password in broker.url"),
            Some((NOT_ALLOWED, reason)) => refused(
                &reason,
                "check the vhost in broker.url and the user's permission for it",
            ),
            _ => ConnectError::unreachable(error),
        },
    }
}

fn is_expired(error: &std::io::Error) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        inner,
        Some(rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }))
    )
}

/// Why the broker didn't declare the object.
pub(super) fn refused_object(
    object: &str,
    exchange: Option<&Exchange>,
    error: &lapin::Error,
) -> ConnectError {
    let Some((code, reason)) = reply(error) else {
        return ConnectError::unreachable(error);
    };
    if is_away(reason) {
        return ConnectError::unreachable(&reason);
    }
    let object = object.to_owned();
    let reason = reason.to_owned();
    let unknown_type = exchange.is_some() && reason.contains("exchange type");
    let refusal = match (code, inequivalent(&reason)) {
        _ if unknown_type => TopologyError::ExchangeTypeMissing { object },
        (PRECONDITION_FAILED, Some((argument, is, wanted))) => TopologyError::Differs {
            object,
            argument,
            is,
            wanted,
        },
        (ACCESS_REFUSED, _) => TopologyError::NotPermitted { object, reason },
        (NOT_FOUND | PRECONDITION_FAILED | NOT_ALLOWED, _) => TopologyError::Refused { object, reason },
        // A node that is shutting down, or is cut off from its cluster.
        _ => return ConnectError::unreachable(error),
    };
    refusal.into()
}

/// The argument, its value on the broker, and the requested value, parsed from the broker's message.
fn inequivalent(reason: &str) -> Option<(String, String, String)> {
    let (_, rest) = reason.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("received ")?;
    let (wanted, is) = rest.split_once(" but current is ")?;
    Some((argument.to_owned(), value(is), value(wanted)))
}

/// `the value 'x' of type 'longstr'`, `'x'` or `none`.
fn value(text: &str) -> String {
    let text = text.strip_prefix("the value ").unwrap_or(text);
    let text = text.split_once(" of type ").map_or(text, |(value, _)| value);
    text.trim_matches('\'').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_s_sentence_about_a_difference_is_understood() {
        let cases = [
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-max-age' for queue 'q' in vhost '/': \
                 received the value '7D' of type 'longstr' but current is the value '8D' of type 'longstr'",
                ("x-max-age", "8D", "7D"),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'e' in vhost 'a b': \
                 received none but current is the value 'ae' of type 'longstr'",
                ("alternate-exchange", "ae", "none"),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': \
                 received 'topic' but current is 'direct'",
                ("type", "direct", "topic"),
            ),
        ];
        for (sentence, (argument, is, wanted)) in cases {
            let expected = (argument.to_owned(), is.to_owned(), wanted.to_owned());
            assert_eq!(inequivalent(sentence), Some(expected));
        }
        assert_eq!(
            inequivalent("PRECONDITION_FAILED - invalid arg 'x-max-age'"),
            None
        );
    }
}
