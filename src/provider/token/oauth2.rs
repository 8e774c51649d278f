//! A token that the worker fetches: OAuth 2.0 client credentials (RFC 6749, section 4.4).
//!
//! It says what to ask and understands the answer; the request itself is `http`'s, one for each fetch.

mod answer;
mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::fetched::Fetched;
use super::file::Watched;
use crate::contract::Fault;
use crate::provider::answer::Answer;
use crate::provider::{ProviderError, SetupError};

pub(super) use answer::lifetime;
pub use config::{Body, ClientIn, Config};

/// What `application/x-www-form-urlencoded` leaves as it is; a space becomes a plus.
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'*')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_');

/// Fetches tokens and keeps the one in use.
pub(in crate::provider) struct OAuth2 {
    config: Config,
    url: Url,
    secret: SecretSource,
    held: Mutex<Held>,
}

pub(super) struct Held {
    pub(super) fetched: Fetched,
    /// With which the token was fetched.
    secret: ClientSecret,
    /// Whether the last fetch failed: what is tried every few seconds is logged once.
    failing: bool,
}

enum SecretSource {
    Fixed(ClientSecret),
    File(Watched<ClientSecret>),
}

#[derive(Clone)]
struct ClientSecret(SecretString);

impl PartialEq for ClientSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

/// What is known of a question until its answer comes.
pub(in crate::provider) struct Asked {
    at: Instant,
    secret: ClientSecret,
}

impl OAuth2 {
    pub(super) fn new(config: Config) -> Result<Self, SetupError> {
        let url = config.checked_url()?;
        let secret = SecretSource::new(&config)?;
        let held = Mutex::new(Held {
            fetched: Fetched::default(),
            secret: secret.current(),
            failing: false,
        });
        Ok(Self {
            config,
            url,
            secret,
            held,
        })
    }

    /// Waits until the client's secret is another.
    pub(super) async fn changed(&self) {
        match &self.secret {
            SecretSource::Fixed(_) => std::future::pending().await,
            SecretSource::File(file) => file.changed().await,
        }
    }

    pub(in crate::provider) fn url(&self) -> &Url {
        &self.url
    }

    /// The client's id and its secret.
    pub(in crate::provider) fn credentials(&self) -> [SecretString; 2] {
        [
            self.config.client_id.as_str().into(),
            self.held().secret.0.clone(),
        ]
    }

    /// The request for a token, and what its answer has to be given with.
    pub(in crate::provider) fn ask(&self, client: &Client) -> (RequestBuilder, Asked) {
        let secret = self.held().secret.clone();
        let (id, exposed) = (self.config.client_id.as_str(), secret.0.expose_secret());
        let mut members = BTreeMap::from([("grant_type", "client_credentials")]);
        members.extend(self.config.scope.as_deref().map(|scope| ("scope", scope)));
        members.extend(
            self.config
                .audience
                .as_deref()
                .map(|audience| ("audience", audience)),
        );
        let mut request = client.post(self.url.clone());
        match self.config.client {
            ClientIn::Basic => request = request.basic_auth(form_encoded(id), Some(form_encoded(exposed))),
            ClientIn::Body => members.extend([("client_id", id), ("client_secret", exposed)]),
        }
        let request = match self.config.body {
            Body::Form => request.form(&members),
            Body::Json => request.json(&members),
        };
        let at = Instant::now();
        (request, Asked { at, secret })
    }

    /// Keeps the token of an answer. Where there is none, the token that is held stays in use while it serves.
    pub(in crate::provider) fn answered(
        &self,
        asked: &Asked,
        answer: Result<Answer, ProviderError>,
    ) -> Result<(), ProviderError> {
        let granted = answer.map_err(answer::no_answer).and_then(|mut answer| {
            answer.sensitive.credentials =
                vec![self.config.client_id.as_str().into(), asked.secret.0.clone()];
            answer::granted(&answer)
        });
        // The refused secret may have been replaced by now.
        if matches!(&granted, Err(error) if error.fault == Fault::Credentials) {
            self.secret.read_again();
        }
        let mut held = self.held();
        let replaced = held.secret != asked.secret;
        match granted {
            // A token of the former secret is as good as none: the next look at the state says so.
            Ok(_) if replaced => Ok(()),
            Ok(granted) => {
                let serves_s = granted.lifetime.as_secs();
                held.fetched.keep(granted.header, granted.lifetime, asked.at);
                held.failing = false;
                tracing::debug!(token.serves_s = serves_s, "token: fetched");
                Ok(())
            }
            Err(mut error) => {
                if replaced && error.fault == Fault::Credentials {
                    error.fault = Fault::CredentialsRenewed;
                }
                let serves = held.fetched.fetch_failed();
                let passing = matches!(error.fault, Fault::Throttled { .. } | Fault::CredentialsRenewed);
                if !passing && !std::mem::replace(&mut held.failing, true) {
                    let code = error.code.as_deref();
                    tracing::warn!(%error, error.code = code, token.serves = serves, "token: none can be fetched");
                }
                Err(error)
            }
        }
    }

    /// With the token dropped where the secret has changed.
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = self.secret.current();
        if held.secret != secret {
            held.fetched.forget();
            held.secret = secret;
        }
        held
    }
}

impl SecretSource {
    fn new(config: &Config) -> Result<Self, SetupError> {
        if let Some(secret) = &config.client_secret {
            return client_secret(secret.expose_secret())
                .map(Self::Fixed)
                .map_err(|detail| SetupError::new("provider.auth.oauth2.client_secret", detail));
        }
        let path = config.client_secret_file.clone().unwrap_or_default();
        Watched::new(path, "client secret", client_secret)
            .map(Self::File)
            .map_err(|detail| SetupError::new("provider.auth.oauth2.client_secret_file", detail))
    }

    fn current(&self) -> ClientSecret {
        match self {
            Self::Fixed(secret) => secret.clone(),
            Self::File(file) => file.current(),
        }
    }

    fn read_again(&self) {
        if let Self::File(file) = self {
            file.read_again();
        }
    }
}

fn client_secret(text: &str) -> Result<ClientSecret, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the client secret is empty; put the secret there that belongs to client_id");
    }
    if text.contains(char::is_control) {
        return Err("the client secret has line breaks or the like; put the secret alone there");
    }
    Ok(ClientSecret(SecretString::from(text)))
}

/// As the id and the secret stand in an HTTP Basic header (RFC 6749, section 2.3.1).
fn form_encoded(text: &str) -> String {
    utf8_percent_encode(text, FORM).to_string().replace("%20", "+")
}
