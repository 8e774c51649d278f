//! Checks each of the broker's addresses: whether it accepts the worker's connection, and its product and version,
//! which it sends before the login and lapin does not expose.

use std::io::{self, Read, Write};
use std::time::Duration;

use futures_util::future::join_all;
use lapin::protocol::connection::parse_start;
use lapin::tcp::{AMQPUriTcpExt, HandshakeError, TcpStream};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::connection;
use super::error::ConnectError;
use crate::broker::Config;
use crate::broker::config::BrokerUrl;

/// A greeting takes about half a kilobyte.
const GREETING_BYTES_MAX: u32 = 64 * 1024;

const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Type, channel and size.
const FRAME_HEADER_BYTES: usize = 7;
/// Class and method of `connection.start`.
const START: [u8; 4] = [0, 10, 0, 10];

/// An address, and the result of connecting to it.
#[derive(Debug, Clone)]
pub struct Surveyed {
    pub url: BrokerUrl,
    pub answer: Result<Server, ConnectError>,
}

/// A broker that accepts the worker's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `None` where it could not be read.
    pub greeting: Option<Greeting>,
    /// The negotiated heartbeat.
    pub heartbeat: Duration,
    /// The certificate that it shows, in DER; `None` without TLS, or where it could not be read.
    pub certificate: Option<Vec<u8>>,
}

/// Connects to every address, and changes nothing.
pub async fn survey(config: &Config) -> Result<Vec<Surveyed>, ConnectError> {
    let config = config.clone();
    connection::on_runtime(async move {
        let each = config.url.iter().map(|url| survey_one(&config, url));
        Ok(join_all(each).await)
    })
    .await
}

async fn survey_one(config: &Config, url: &BrokerUrl) -> Surveyed {
    let answer = match connection::open(config, url, "survey").await {
        Ok(connection) => {
            let heartbeat = connection.configuration().heartbeat();
            connection::close(&connection, config.close_timeout).await;
            let (greeting, certificate) = greeting(config, url).await.unzip();
            Ok(Server {
                greeting,
                heartbeat: Duration::from_secs(heartbeat.into()),
                certificate: certificate.flatten(),
            })
        }
        Err(error) => Err(error),
    };
    Surveyed {
        url: url.clone(),
        answer,
    }
}

/// The greeting, and the certificate of the connection that it came on.
async fn greeting(config: &Config, url: &BrokerUrl) -> Option<(Greeting, Option<Vec<u8>>)> {
    let (uri, patience) = (url.uri(), config.connect_timeout);
    let asked = spawn_blocking(move || ask(&uri, patience).ok());
    timeout(patience, asked).await.ok()?.ok()?
}

/// A broker's name and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    pub product: String,
    pub version: String,
}

impl Greeting {
    /// RabbitMQ's version as numbers; `None` for another broker.
    pub fn rabbitmq(&self) -> Option<(u16, u16, u16)> {
        if self.product != "RabbitMQ" {
            return None;
        }
        let release = self.version.split(['-', '+']).next()?;
        let mut numbers = release.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some((next()?, next()?, next()?))
    }
}

/// Connects and reads the greeting. Blocks its thread.
fn ask(uri: &AMQPUri, patience: Duration) -> io::Result<(Greeting, Option<Vec<u8>>)> {
    let mut stream = uri.connect().map_err(|error| match error {
        HandshakeError::Failure(error) => error,
        HandshakeError::WouldBlock(_) => io::ErrorKind::TimedOut.into(),
    })?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(PROTOCOL_HEADER)?;
    stream.flush()?;
    let greeting = read(&mut stream)?;
    Ok((greeting, certificate(&stream)))
}

fn certificate(stream: &TcpStream) -> Option<Vec<u8>> {
    let TcpStream::Rustls(tls) = stream else {
        return None;
    };
    let leaf = tls.conn.peer_certificates()?.first()?;
    Some(leaf.to_vec())
}

fn read(stream: &mut impl Read) -> io::Result<Greeting> {
    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let [.., a, b, c, d] = header;
    let size = u32::from_be_bytes([a, b, c, d]);
    if size > GREETING_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = Vec::new();
    stream.take(size.into()).read_to_end(&mut payload)?;
    let start = payload.strip_prefix(&START).ok_or(io::ErrorKind::InvalidData)?;
    let (_, start) = parse_start(start).map_err(|_| io::ErrorKind::InvalidData)?;
    let said = |key| text(&start.server_properties, key);
    let greeting = said("product").zip(said("version"));
    let (product, version) = greeting.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Greeting { product, version })
}

fn text(properties: &FieldTable, key: &str) -> Option<String> {
    match properties.inner().get(key)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(product: &str, version: &str) -> Greeting {
        Greeting {
            product: product.to_owned(),
            version: version.to_owned(),
        }
    }

    #[test]
    fn a_version_is_numbers_where_it_is_rabbitmq_s() {
        for (version, numbers) in [
            ("3.10.8", Some((3, 10, 8))),
            ("4.3.0-rc.1", Some((4, 3, 0))),
            ("4.3.6+debian", Some((4, 3, 6))),
            ("4.3", None),
            ("master", None),
        ] {
            assert_eq!(greeting("RabbitMQ", version).rabbitmq(), numbers, "{version}");
        }
        assert_eq!(greeting("LavinMQ", "3.10.8").rabbitmq(), None);
    }

    #[test]
    fn an_invalid_greeting_is_an_error() {
        let closing = [&[1, 0, 0, 0, 0, 0, 4][..], &[0, 10, 0, 50], &[0xce]].concat();
        let endless = vec![1, 0, 0, 0xff, 0xff, 0xff, 0xff];
        let cut = [&[1, 0, 0, 0, 0, 1, 0][..], &START, &[0, 9]].concat();
        let version_only = b"AMQP\x00\x00\x09\x01".to_vec();
        for bytes in [closing, endless, cut, version_only, Vec::new()] {
            assert!(read(&mut bytes.as_slice()).is_err(), "{bytes:?}");
        }
    }
}
