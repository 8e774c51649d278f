//! Checks each of the broker's addresses.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::connection;
use super::error::ConnectError;
use super::greeting::{self, Greeting};
use crate::broker::Config;
use crate::broker::config::BrokerUrl;

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
            Ok(Server {
                greeting: greeting(config, url).await,
                heartbeat: Duration::from_secs(heartbeat.into()),
            })
        }
        Err(error) => Err(error),
    };
    Surveyed {
        url: url.clone(),
        answer,
    }
}

async fn greeting(config: &Config, url: &BrokerUrl) -> Option<Greeting> {
    let (uri, patience) = (url.uri(), config.connect_timeout);
    let asked = spawn_blocking(move || greeting::ask(&uri, patience).ok());
    timeout(patience, asked).await.ok()?.ok()?
}
