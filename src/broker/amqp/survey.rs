//! What each of the broker's addresses answers.

use futures_util::future::join_all;

use super::connection;
use super::error::ConnectError;
use crate::broker::Config;
use crate::broker::config::BrokerUrl;

/// An address, and whether it takes a connection.
#[derive(Debug, Clone)]
pub struct Surveyed {
    pub url: BrokerUrl,
    pub answer: Result<(), ConnectError>,
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
            connection::close(&connection, config.close_timeout).await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    Surveyed {
        url: url.clone(),
        answer,
    }
}
